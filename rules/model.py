"""What a rule is, once read and checked: plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bpfd.event import NOT_FOUND

RUNTIMES = (
    "docker",
    "rkt",
    "systemd-nspawn",
    "lxc",
    "lxc-libvirt",
    "openvz",
    "kube",
    "garden",
    "podman",
    "gvisor",
    "firejail",
    "wsl",
    "containerd",
    "cri-o",
    "buildkit",
    NOT_FOUND,
)
"""The container runtimes that a rule may name: the seed's, and containerd, cri-o and buildkit.

`not-found` is the host."""

Operator = Literal["contains", "is", "prefix", "suffix", "glob", "regex", "above", "below", "net", "exists"]


@dataclass(frozen=True, slots=True)
class Test:
    """One clause: the field's value relates by `operator` to any of `values`."""

    field: str
    operator: Operator
    values: tuple[str, ...] = ()
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class All:
    """Every part must hold. No parts: holds."""

    parts: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Any:
    """One part must hold. No parts: does not hold."""

    parts: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    part: Condition


Condition = Test | All | Any | Not


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `condition` is the whole of it: filters, exceptions and container scope in one tree."""

    name: str
    tracer: str
    actions: tuple[str, ...] = ()
    """Names of actions or of configured instances of them; empty: the daemon's default actions."""
    condition: Condition = All()
    runtimes: tuple[str, ...] = ()
    """`containerRuntimes` as written, already part of `condition`; kept for listings."""
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """`[filterEvents.FIELD] values` as written, already part of `condition`; kept for listings and the seed's API."""
    source: str = ""
    """The file that it came from, or `api`."""
    text: str = ""
    """The TOML that it was read from."""
