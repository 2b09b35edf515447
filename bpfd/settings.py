"""The daemon's configuration file, read and checked once, as frozen data."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import tomli

from bpfd.errors import SettingsError
from bpfd.limits import Limits, limits

DEFAULT_PATH = Path("/etc/bpfd/bpfd.toml")
DEFAULT_ADDRESS = "unix:///run/bpfd/bpfd.sock"
PAGE = 4096


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. The file's keys are these names; a flag of `bpfd daemon` wins over the file."""

    tracers: tuple[str, ...] = ()
    """Tracers to load whether or not a rule names them."""
    default_actions: tuple[str, ...] = ("stdout",)
    """What runs for a rule that names no action, and for a tracer without rules."""
    rules_dir: Path = Path("/etc/bpfd/rules")
    grpc_addr: str = DEFAULT_ADDRESS
    state_dir: Path = Path("/var/lib/bpfd")
    """Rules made over the API live here, and survive a restart."""
    cache_dir: Path = Path("/var/cache/bpfd")
    """Headers made from this kernel's BTF."""
    ring_bytes: int = 0
    """The size of each tracer's ring buffer, a power of two of at least a page; 0: what the tracer asks for."""
    event_queue: int = 16384
    """How many events of tracers without BPF may wait."""
    action_queue: int = 65536
    """How many matched events may wait for each action."""
    trace_queue: int = 16384
    """How many events may wait for each client of the live trace."""
    protected: tuple[str, ...] = ()
    """What no response hits beside what never is: programs by name or absolute path, `container:NAME`."""
    observe: bool = False
    """Responses are not carried out: it is only told of them."""
    limits: Limits = field(default_factory=Limits)
    """How many responses there may be, and what may wait in the outbox."""
    actions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The table of each action: `[actions.slack]`."""


def load(path: Path | None) -> Settings:
    """Read `path`; None means the default path, which need not exist.

    Raises `SettingsError` with all that is wrong, `file: key: what; what to do` a line.
    """
    chosen = path or DEFAULT_PATH
    try:
        text = chosen.read_bytes().decode()
    except FileNotFoundError:
        if path is None:
            return Settings()
        raise SettingsError(f"{chosen}: no such file; give --config an existing file, or leave it out") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError(f"{chosen}: cannot be read: {reason}") from None
    try:
        table = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise SettingsError(f"{chosen}: not TOML: {error}") from None
    return parse(table, str(chosen))


def parse(table: Mapping[str, Any], where: str) -> Settings:
    """Check `table` and make it Settings. Raises `SettingsError`; `where` begins each line of it."""
    known = {item.name for item in fields(Settings)}
    problems: list[str] = []
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(sorted(known))}"
            problems.append(f"{where}: unknown key {key!r}; {hint}")
            continue
        try:
            values[key] = _CONVERT[key](value)
        except ValueError as error:
            inside = str(error).startswith(f"{key}.")
            problems += [f"{where}: {line if inside else f'{key}: {line}'}" for line in str(error).splitlines()]
    if problems:
        raise SettingsError("\n".join(problems))
    return Settings(**values)


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError('must be a list of names, such as ["exec"]')
    return tuple(value)


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError("must be an absolute path in quotes")
    return Path(value)


def _address(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError('must be an address, such as "unix:///run/bpfd/bpfd.sock" or "127.0.0.1:7701"')
    return value


def _size(value: object) -> int:
    """A queue's length. Bounded: a queue is memory."""
    if type(value) is not int or not 1 <= value <= 10_000_000:
        raise ValueError("must be a whole number from 1 to 10000000")
    return value


def ring_size(value: object) -> int:
    """A ring's size in bytes. Raises ValueError."""
    if type(value) is not int or (value and (value < PAGE or value & (value - 1) or value > 1 << 30)):
        raise ValueError("must be a power of two from 4096 to 1073741824, in bytes")
    return value


def _tables(value: object) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
        raise ValueError("must hold a table for each action, such as [actions.slack]")
    return value


def _protected(value: object) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [None]
    if not all(isinstance(name, str) and name and ("/" not in name or name.startswith("/")) for name in names):
        raise ValueError('must be a list of programs\' names, absolute paths or "container:NAME"')
    return tuple(names)


def _yes(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


_CONVERT: Mapping[str, Any] = {
    "tracers": _names,
    "default_actions": _names,
    "rules_dir": _path,
    "grpc_addr": _address,
    "state_dir": _path,
    "cache_dir": _path,
    "ring_bytes": ring_size,
    "event_queue": _size,
    "action_queue": _size,
    "trace_queue": _size,
    "protected": _protected,
    "observe": _yes,
    "limits": limits,
    "actions": _tables,
}
