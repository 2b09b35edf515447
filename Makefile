# make run    starts the daemon with the rules in contrib/rules/ and prints matches
# make test   lint, types, and all tests, on the real kernel and a real dockerd
# Both install what they need, on a machine with root, git, make and python3; the second time they are offline.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.SILENT:
.NOTPARALLEL:
.PHONY: setup setup-test run test lint types unit bench kernels proto docs clean

# python3-bpfcc belongs to Debian's own Python; another may be first on PATH.
PYTHON := $(shell for p in /usr/bin/python3 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
RUN_PACKAGES := python3-bpfcc bpftool linux-libc-dev python3-venv
TEST_PACKAGES := docker.io busybox-static bpftrace gcc libc6-dev iproute2 nats-server procps util-linux
STAMP := $(shell sha256sum pyproject.toml | cut -c1-16)
WORKERS := 2

define install
	missing=(); for package in $(1); do
	  [[ "$$(dpkg-query -W -f '$${Status}' $$package 2>/dev/null)" = *'ok installed' ]] || missing+=($$package); done
	if (( $${#missing[@]} )); then
	  [ "$$(id -u)" = 0 ] || { echo "make: $${missing[*]} must be installed; run this as root" >&2; exit 1; }
	  echo "Installing from Debian: $${missing[*]}"
	  printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d.bpfd && chmod +x /usr/sbin/policy-rc.d.bpfd
	  [ -e /usr/sbin/policy-rc.d ] || { mv /usr/sbin/policy-rc.d.bpfd /usr/sbin/policy-rc.d; ours=1; }
	  trap 'rm -f /usr/sbin/policy-rc.d.bpfd; [ -z "$${ours:-}" ] || rm -f /usr/sbin/policy-rc.d' EXIT
	  export DEBIAN_FRONTEND=noninteractive
	  apt-get update -qq >/dev/null
	  apt-get install -qq -y --no-install-recommends "$${missing[@]}" >/dev/null
	fi
endef

define virtualenv
	[ -n "$(PYTHON)" ] || { echo "make: Python 3.11 or later is missing; install it with: apt-get install python3" >&2; exit 1; }
	[ -x $(BIN)/pip ] || $(PYTHON) -m venv .venv
	if [ ! -e .venv/$(1)-$(STAMP) ]; then
	  echo "Installing Python packages into .venv"
	  $(BIN)/pip install -q --disable-pip-version-check -e '.$(2)'
	  rm -f .venv/$(1)-*; touch .venv/$(1)-$(STAMP)
	fi
endef

setup:
	$(call install,$(RUN_PACKAGES))
	$(call virtualenv,run,)

setup-test:
	$(call install,$(RUN_PACKAGES) $(TEST_PACKAGES))
	$(call virtualenv,test,[dev])
	touch .venv/run-$(STAMP)

run: setup
	[ "$$(id -u)" = 0 ] || { echo "make: the daemon loads BPF programs; run this as root" >&2; exit 1; }
	echo "Starting bpfd with the rules in contrib/rules; Ctrl-C ends it"
	exec $(BIN)/bpfd daemon --rules-dir contrib/rules

test: setup-test lint types unit

lint: setup-test
	echo "Linting"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .

types: setup-test
	echo "Checking types"
	$(BIN)/mypy --no-error-summary -p bpfd
	$(BIN)/mypy --no-error-summary contrib/plugin/bpfd_example

unit: setup-test
	echo "Testing: first what needs the machine for itself, then the rest side by side"
	status=0
	$(BIN)/pytest -q -m serial || status=$$?
	$(BIN)/pytest -q -n $(WORKERS) --dist loadfile -m 'not serial' || status=$$?
	exit $$status

bench: setup-test
	$(call install,auditd)
	echo "Measuring; leave the machine alone for some minutes"
	$(BIN)/python -m tests.bench

kernels: setup-test
	$(call install,qemu-system-x86)
	echo "Asking older kernels, in virtual machines; it takes some minutes"
	$(BIN)/python -m tests.kernels

proto: setup-test
	echo "Generating the API's code"
	$(BIN)/python -m bpfd.api.generate

docs: setup-test
	echo "Writing tracers/README.md"
	$(BIN)/python -m bpfd.handbook

clean:
	echo "Removing what can be made again"
	rm -rf .venv .kernels .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
