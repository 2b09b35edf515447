"""The contracts of plugins: Tracer, BPFTracer, Field, Action."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from bpfd.alert import Alert
from bpfd.event import Container, Event

FieldType = Literal["string", "s64", "u64", "bool", "address"]
"""How the kernel part holds a field. All integers are 64 bits wide; an address is 16 bytes, IPv4 mapped into IPv6."""


class Named:
    """Shows a number by its name: `Field("family", "…", type="u64", show=Named({2: "AF_INET"}))`.

    A number without a name is shown as it is. Rules judge what is shown, and where they compare whole names the kernel
    does: it is told the numbers.
    """

    __slots__ = ("names",)

    def __init__(self, names: Mapping[int, str]) -> None:
        self.names = names

    def __call__(self, number: int) -> str:
        name = self.names.get(number)
        return str(number) if name is None else name


class Spelled:
    """Shows a number in a way that can be read back: `Field("device", "…", type="u64", show=Spelled(text, number))`.

    `number_of` is given any text, and returns None or raises ValueError where that is no number. Where a rule compares
    whole texts the kernel does: it is told the numbers.
    """

    __slots__ = ("_number_of", "_text_of")

    def __init__(self, text_of: Callable[[int], str], number_of: Callable[[str], int | None]) -> None:
        self._text_of, self._number_of = text_of, number_of

    def __call__(self, number: int) -> str:
        return self._text_of(number)

    def number(self, text: str) -> int | None:
        """The number that is shown as `text`; None: there is none."""
        try:
            number = self._number_of(text)
            return number if number is not None and self._text_of(number) == text else None
        except (ValueError, OverflowError):
            return None


class Flags:
    """Shows a number as flags: `Field("flags", "…", type="u64", show=Flags({"O_APPEND": 0x400}))` gives `O_APPEND|0x8`.

    Names of several bits take them from the names that come after; 0 is shown as `none`.
    """

    __slots__ = ("_names", "_none", "_shown")

    def __init__(self, names: Mapping[str, int], none: str = "0") -> None:
        self._names = tuple((name, bits) for name, bits in names.items() if bits)
        self._none = none
        self._shown: dict[int, str] = {}

    def __call__(self, number: int) -> str:
        text = self._shown.get(number)
        if text is None:
            if len(self._shown) >= 4096:
                self._shown.clear()
            text = self._shown[number] = self._text(number)
        return text

    def _text(self, number: int) -> str:
        named = []
        for name, bits in self._names:
            if number & bits == bits:
                named.append(name)
                number &= ~bits
        if number:
            named.append(hex(number))
        return "|".join(named) or self._none


NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Field:
    """A named value of a tracer's events.

    A tracer's fields say how the record in the ring is laid out, what the kernel filter can look at, which names rules
    may use, and what `bpfd tracers` prints.
    """

    name: str
    doc: str
    type: FieldType = "string"
    length: int = 256
    """Strings: how many bytes are kept, the closing NUL included; at most 16384."""
    show: Callable[[Any], str] | None = None
    """Turns the kernel's value (bytes for strings, int for numbers) into the text of the event; None: as it is."""
    spaces: bool = False
    """Strings: a NUL inside is shown as a space, as in a list of arguments."""
    normalised: bool = False
    """Strings: `settle` takes `//`, `/./` and `/../` out of it, so that the kernel can't judge a text that has them."""
    late: bool = False
    """The C side fills it in `BPFD_LATE`, once the rules' clauses on the other fields hold: it is dear to find out."""
    also: str = ""
    """The name of a string field that a rule on this one is judged against too."""
    optional: bool = False
    """Leave the field out of the event where it is empty or 0."""
    example: str = ""

    @property
    def is_string(self) -> bool:
        return self.type == "string"


class Emit(Protocol):
    """How a tracer without BPF hands over an event. Never blocks; False: the queue was full, the event counts as lost.

    May be called from any thread. What is left out is filled in: the time is now, the process is none (0). The
    container is named by its id, as far as the daemon knows it, or given whole.
    """

    def __call__(
        self,
        data: Mapping[str, str],
        *,
        time: int = 0,
        pid: int = 0,
        tid: int = 0,
        ppid: int = 0,
        uid: int = 0,
        gid: int = 0,
        command: str = "",
        return_value: int = 0,
        container_id: str = "",
        container: Container | None = None,
    ) -> bool: ...


ContainerAction = Literal["created", "running", "paused", "resumed", "exited", "oom", "destroyed"]


class ContainerChange(NamedTuple):
    """Something happened to a container: what a tracer is told that sets `follows_containers`."""

    action: ContainerAction
    container: Container
    """Its full id and its runtime; its name, image and labels as far as the runtime has told them."""
    time: int
    """When, by the runtime's own word or when its cgroup showed it: nanoseconds since 1970."""
    exit_code: int | None = None
    """`exited`: what its first process said, 128 and the number of the signal where one ended it; None: nobody says."""
    host_pid: int = 0
    """Its first process as the host numbers it, also once that has ended; 0: not known."""


class Tracer(ABC):
    """Turns what it watches into events of one kind. The docstring's first line is its line in `bpfd tracers`."""

    name: ClassVar[str]
    fields: ClassVar[tuple[Field, ...]] = ()
    default: ClassVar[bool] = False
    """Load it when the daemon has no rules and its configuration names no tracers."""
    follows_containers: ClassVar[bool] = False
    """True: `container_changed` is called from `start` to `stop`. The daemon watches containers' lives only while a
    tracer follows them."""

    @abstractmethod
    def start(self, emit: Emit) -> None:
        """Begin to emit; called once, on the daemon's main thread. Return at once: start threads of your own.

        An exception here is reported for this tracer alone.
        """

    @abstractmethod
    def stop(self) -> None:
        """End, and join every thread that `start` made, within a second."""

    def container_changed(self, change: ContainerChange) -> None:  # noqa: B027 - most follow no containers
        """A container came, went or changed. Called for one at a time, in order, on a thread of bpfd's; return at once.

        Containers that are there at the start are not told. Each change is told once, whether the runtime's API or the
        container's cgroup told it first. An exception is logged.
        """


class TracerMap(Protocol):
    """A BPF map of a tracer's program; keys and values are bytes of the C types' sizes. Any thread."""

    def read(self, key: bytes) -> bytes | None: ...
    def write(self, key: bytes, value: bytes) -> None: ...
    def delete(self, key: bytes) -> bool: ...
    def items(self) -> Iterator[tuple[bytes, bytes]]: ...


class BPFTracer:
    """A tracer whose events come from a BPF program.

    The daemon compiles `program` in a child process, with the record's layout generated from `fields`; see
    `bpfd/kernel/filter.h` for what the C side may call. Subclasses hold no state and need no methods.
    """

    name: ClassVar[str]
    fields: ClassVar[tuple[Field, ...]] = ()
    default: ClassVar[bool] = False
    """Load it when the daemon has no rules and its configuration names no tracers."""
    program: ClassVar[Path | str]
    """The C file, or its text where that is made."""
    probes: ClassVar[tuple[str, ...]] = ()
    """What it attaches to: `tracepoint:CATEGORY:NAME`, `raw_tracepoint:NAME`, or `uprobe:PATH:SYMBOL` and
    `uretprobe:…`, these two not beside the others.

    The C functions are TRACEPOINT_PROBE(CATEGORY, NAME), RAW_TRACEPOINT_PROBE(NAME) and
    `int uprobe__SYMBOL(struct pt_regs *)`. A `?` at the end: it may be missing; BPFD_HAS_NAME says whether it is there.
    With names for PATH, `uprobe:bash,sh:readline`, it is attached to all programs of these names as they come
    (kernel/follow.py).
    """
    ring_bytes: ClassVar[int] = 1 << 20
    """The ring buffer's size in bytes, a power of two and a multiple of the page size. It counts as resident memory."""

    counts: ClassVar[tuple[str, ...]] = ()
    """What the program counts itself with `bpfd_count`, by its place here, at most 5: `status` has them as
    `tracer.NAME.COUNT`."""

    @classmethod
    def loaded(cls, maps: Mapping[str, TracerMap]) -> None:
        """Called once the program runs, with its own maps by their C names: to fill or to keep them. Any thread."""

    @classmethod
    def settle(cls, data: dict[str, str], return_value: int) -> None:
        """Finish an event's data in place, for what the C side can't do. Hot path: called for each event if defined."""


AnyTracer = Tracer | BPFTracer


class TracerFamily(ABC):
    """Tracers that are made when a rule names them: `tracepoint:sched:sched_process_exit`. Registered as tracers are.

    The docstring's first line is its line in `bpfd tracers`.
    """

    prefix: ClassVar[str]
    """What their names begin with: small letters and a colon."""
    example: ClassVar[str]
    """The name of one of them."""

    @classmethod
    @abstractmethod
    def find(cls, name: str) -> type[AnyTracer] | None:
        """The tracer of that whole name, or None if there is none. Any thread.

        Raises `UnknownTracerError` where that can't be known; the text says why, and what to do.
        """

    @classmethod
    @abstractmethod
    def names(cls) -> Iterable[str]:
        """The names that there are on this machine, for hints; none where that can't be known. Any thread."""


def one_line(plugin: type) -> str:
    """The first line of a plugin's docstring: what lists show of it."""
    return (plugin.__doc__ or "").strip().split("\n", 1)[0].rstrip(".")


class Action(ABC):
    """Reacts to events that matched. The docstring's first line is its line in `bpfd actions`.

    An action is made once, from its table in the configuration. `act` is called on a worker thread, one event at a
    time, never on the event path; an exception is logged and counted and stops nothing.
    """

    name: ClassVar[str]
    responds: ClassVar[bool] = False
    """True: acts on the process or container, now or never. False: tells somebody."""
    acts_on: ClassVar[Literal["process", "container"]] = "process"
    """For responders: what is checked for being a protected target before `act` is called."""
    undo_after_s: float = 0
    """For responders: in how many seconds `undo` is called after an `act`, also over a restart; 0: never."""
    durable: ClassVar[bool] = True
    """For notifiers. True: alerts wait on disk until `send` took them, over failures and restarts. False: one try; and
    one without a `send` of its own is given every event, whatever the rule says of its alerts."""
    spares: Callable[[int], bool] = staticmethod(lambda pid: False)
    """For responders: whether a process, by its id, is a protected one, for those that hit more than the one that
    acted; set before `act`."""
    spares_container: Callable[[str], bool] = staticmethod(lambda name: False)
    """The same for containers, by id or name, for those that learn a name which the event does not have."""
    settings: ClassVar[Mapping[str, str]] = {}
    """The keys of its table in the configuration, each with a line that says what it does."""
    per_rule: ClassVar[tuple[str, ...]] = ()
    """Those of `settings` that a rule may set by itself. None that says where a secret is, or where it is sent to."""
    severity_of: Callable[[str], str] = staticmethod(lambda rule: "notice")
    """Tells the severity of the rule of that name; set before `begin`, for any thread."""

    def __init__(self, settings: Mapping[str, Any]) -> None:  # noqa: B027 - most actions have nothing to set
        """`settings` holds declared keys only. Raise `ActionError` for a wrong value, naming the key."""

    def begin(self, counters: Callable[[], Mapping[str, int]]) -> None:  # noqa: B027 - most have nothing to begin
        """Called once, before the first `act`, for what is to run beside it: a thread, a server. Raises as `__init__`.

        `counters` reads the daemon's table of counters, names as in `bpfd status`; any thread may call it, until
        `close`. An instance that only sends a sample is not begun.
        """

    @abstractmethod
    def act(self, event: Event) -> None:
        """React to `event`; `event.rule` names the rule."""

    def undo(self, event: Event) -> None:  # noqa: B027 - most can't be taken back
        """Take back what `act` did on `event`, `undo_after_s` later; on a thread of its own. Left as it is: nothing."""

    def act_on_batch(self, events: list[Event]) -> None:
        """React to many at once, oldest first. Override where that is cheaper; called by notifiers' workers."""
        for event in events:
            self.act(event)

    def send(self, alert: Alert) -> None:
        """Tell of `alert`, within a time limit; durable notifiers are called here. Left as it is, it calls `act`.

        Override to pass on the alert's id, and what summaries say. Raise `RejectedError` if it will never be taken,
        `RetryLaterError` if the receiver said when to come again; after any other error it is tried again, later
        and later. No error may hold a secret: it is logged.
        """
        self.act(alert.event)

    def close(self) -> None:  # noqa: B027 - most actions hold nothing
        """Give back what the action holds; called once, after the last `act`."""
