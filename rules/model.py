"""What a rule is, once read and checked: plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bpfd.event import NOT_FOUND, Event

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

SEVERITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug")
"""How bad it is when a rule matches, the worst first: Falco's eight."""
SIGNALS = ("kill", "interrupt", "stop")
"""The actions that the kernel can take itself."""

Operator = Literal["contains", "is", "prefix", "suffix", "glob", "regex", "above", "below", "net", "exists"]


@dataclass(frozen=True, slots=True)
class Test:
    """One clause: the field's value relates by `operator` to any of `values`.

    Text operators look at the event's text as a sequence of characters; a byte that is no UTF-8 is one character, which
    equals no character of a pattern but which `?` of a glob and `.` or a negated class of a regular expression match.
    `ignore_case` takes A to Z for a to z and leaves all else alone; in a regular expression it is RE2's `(?i)`.
    `above`, `below` (a whole number each) and `is` judge numbers as numbers, `net` an address by networks. `exists` has
    no values: the text is not empty, or the number is there.
    """

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
class Count:
    """Fire when `count` events matched within `within_ns`, for each combination of the fields in `by` on its own."""

    count: int
    within_ns: int
    by: tuple[str, ...] = ()


Kin = Literal["process", "tree", "container"]


@dataclass(frozen=True, slots=True)
class Sequence:
    """Fire when `rules` matched in this order within `within_ns`, in one process, process tree or container."""

    rules: tuple[str, ...]
    within_ns: int
    by: Kin = "process"


@dataclass(frozen=True, slots=True)
class Fold:
    """Tell of the first of some repeats, and of the rest in one summary when `window_ns` has passed."""

    window_ns: int
    by: tuple[str, ...] = ()
    """Matches whose values of these fields are equal are repeats of each other; empty: all are."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many alerts a rule may make."""

    per_minute: float
    burst: int
    """How many of them at once."""


@dataclass(frozen=True, slots=True)
class Example:
    """One of a rule's own tests: an event, and whether the rule is to match it."""

    event: Event
    matches: bool
    number: int = 1
    """Its place among the file's `[[tests]]`, from 1."""


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
    """`[filterEvents.FIELD] values` as written, already part of `condition`; for listings and the seed's API."""
    source: str = ""
    """The file that it came from, or `api`."""
    text: str = ""
    """The TOML that it was read from."""
    severity: str = "notice"
    tags: tuple[str, ...] = ()
    description: str = ""
    output: str = ""
    """The message, with `{field}` where the event's text goes; `bpfd.rules.output` makes it."""
    enabled: bool = True
    mode: Literal["act", "observe"] = "act"
    """`observe`: report matches, but run no action."""
    where: Literal["user", "kernel"] = "user"
    """`kernel`: its signals are sent inside the kernel."""
    window: Count | Sequence | None = None
    """When matches make the rule fire; None: each does."""
    fold: Fold | None = None
    """None: every match is told."""
    rate: Rate | None = None
    """None: the default budget."""
    context: int = 0
    """How many events that went before an alert carries."""
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """The rule's own settings of its actions, by action; they stand before those of the configuration."""
    examples: tuple[Example, ...] = ()
    warnings: tuple[str, ...] = ()
    """What the author may not have meant, as whole lines: `file:line: key: what; what to do`."""
