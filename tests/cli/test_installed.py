"""Listing what is installed where no daemon runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bpfd.cli.main import main
from bpfd.event import Event
from bpfd.plugin import Action, BPFTracer, Field
from bpfd.plugins import Plugins


class Open(BPFTracer):
    """Files opened.

    And more.
    """

    name = "open"
    fields = (Field("filename", "The name as passed"),)
    program = Path("open.c")
    probes = ("tracepoint:syscalls:sys_exit_openat",)


class Kill(Action):
    """Kills the process."""

    name = "kill"
    responds = True

    def act(self, event: Event) -> None:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugins = Plugins(tracers={"open": Open}, actions={"kill": Kill}, problems=["x\x1b: cannot be imported"])
    monkeypatch.setitem(sys.modules, "bpfd.plugins", SimpleNamespace(load_plugins=lambda: plugins))
    monkeypatch.setattr("bpfd.settings.DEFAULT_ADDRESS", f"unix://{tmp_path}/s")


def test_tracers_without_a_daemon_are_the_installed_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tracers"]) == 0
    output, errors = capsys.readouterr()
    assert output.splitlines() == [
        "NAME  STATE  WHAT IT SEES  ATTACHES TO",
        "open  works  Files opened  syscalls:sys_exit_openat",
    ]
    assert errors.splitlines() == [
        "bpfd: no daemon can be reached; this is what is installed",
        "x\\x1b: cannot be imported",
    ]
    assert main(["tracers", "--json", "open"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["probes"] == ["tracepoint:syscalls:sys_exit_openat"]


def test_a_tracer_whose_probe_this_kernel_lacks_does_not_work_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Open, "probes", ("tracepoint:syscalls:sys_exit_nothing", "tracepoint:syscalls:sys_exit_maybe?"))
    assert main(["tracers"]) == 0
    [_, row] = capsys.readouterr().out.splitlines()
    assert row == "open  this kernel has no tracepoint:syscalls:sys_exit_nothing  Files opened  -"
    assert main(["tracers", "open"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "open: this kernel has no tracepoint:syscalls:sys_exit_nothing",
        "not on this machine: tracepoint:syscalls:sys_exit_maybe",
        "",
    ]
    assert lines[3:6] == ["Files opened.", "", "And more."]


def test_whether_a_tracer_works_only_root_can_tell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    assert main(["tracers"]) == 0
    [_, row] = capsys.readouterr().out.splitlines()
    assert row == "open  only root can tell  Files opened  syscalls:sys_exit_openat"


def test_actions_without_a_daemon_are_the_installed_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["actions"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "kill (responder): Kills the process",
        "  expire: how long after its event a response is still carried out; that of [limits]",
        "  type: the action that this is an instance of; left out: the table's name",
    ]


@pytest.mark.parametrize("command", ["tracers", "actions"])
def test_an_address_that_was_given_must_answer(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([command, "--grpc-addr", f"{tmp_path}/other"]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors == f"unix://{tmp_path}/other: no bpfd daemon runs there; start it with: bpfd daemon\n"
