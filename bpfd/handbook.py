"""What there is to read about tracers: what `bpfd tracers NAME` prints, and tracers/README.md (`make docs`)."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpfd.event import HOST, Container, Event
from bpfd.plugin import AnyTracer, BPFTracer, Field, TracerFamily, one_line
from bpfd.rules import fields as own_fields

README = Path(__file__).parent / "tracers" / "README.md"
WIDTH = 116
_USUAL = {"string": "text", "bool": "true", "address": "10.0.0.1"}
"""What stands in an example for a field that has none."""
_INTRODUCTION = """\
# Tracers

What can be watched. `make docs` makes this text from the tracers themselves; `bpfd tracers NAME` prints the same, and
says whether the tracer works on the machine at hand.
"""


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a tracer, from its class or from a daemon."""

    name: str
    text: str
    """Its docstring, or the first line of it."""
    fields: tuple[Field, ...]
    probes: tuple[str, ...] = ()
    of_processes: bool = True
    """False: its events belong to no process."""
    of_containers: bool = False
    """Its events belong to a container, though to no process."""


def about(tracer: type[AnyTracer]) -> About:
    """What a tracer's class says."""
    text = inspect.cleandoc(tracer.__doc__ or "")
    if issubclass(tracer, BPFTracer):
        return About(tracer.name, text, tracer.fields, tracer.probes)
    return About(tracer.name, text, tracer.fields, of_processes=False, of_containers=tracer.follows_containers)


def section(one: About) -> str:
    """All about a tracer: text that a terminal and Markdown show alike, without its name. The same on every machine."""
    parts = [one.text]
    if one.probes:
        parts += ["Attaches to:", _indented(_probes(one.probes))]
    if one.fields:
        parts += ["Fields:", _indented(field_lines(one.fields))]
    parts += ["An event:", _indented(event_text(one)), "A rule:", _indented(rule_text(one))]
    return "\n\n".join(parts) + "\n"


def common_fields() -> str:
    """The fields of every event, as `section` has those of a tracer."""
    return "Fields of every event:\n\n" + _indented(field_lines(own_fields.OWN)) + "\n"


def readme(tracers: Iterable[type[AnyTracer]], families: Iterable[type[TracerFamily]]) -> str:
    """The whole of tracers/README.md."""
    ordered = sorted(tracers, key=lambda tracer: tracer.name)
    by_prefix = sorted(families, key=lambda family: family.prefix)
    rows = [(f"[{one.name}](#{one.name})", one_line(one)) for one in ordered]
    rows += [(f"`{one.prefix}…`", one_line(one)) for one in by_prefix]
    table = ["| tracer | what it sees |", "| --- | --- |", *(f"| {name} | {what} |" for name, what in rows)]
    parts = [_INTRODUCTION, "\n".join(table) + "\n", common_fields()]
    parts += [f"## {one.name}\n\n{section(about(one))}" for one in ordered]
    parts += [f"## {one.prefix}…\n\n{family_section(one)}" for one in by_prefix]
    return "\n".join(parts)


def family_section(family: type[TracerFamily]) -> str:
    """About tracers that are made when they are named. Which there are, and their fields, the kernel says."""
    text = inspect.cleandoc(family.__doc__ or "")
    rule = f'tracer = {json.dumps(family.example)}\nactions = ["stdout"]'
    return f"{text}\n\nA rule:\n\n{_indented(rule)}\n"


def field_lines(fields: Iterable[Field]) -> str:
    """A line or more for each field: its name, what it is, and what it says."""
    listed = list(fields)
    width = max(len(field.name) for field in listed)
    lines = []
    for field in listed:
        left = f"{field.name:{width}}  {kind(field):9}  "
        said = f"{field.doc}; such as {field.example}" if field.example else field.doc
        said += "; not in every event" if field.optional else ""
        lines.append(
            textwrap.fill(
                said,
                WIDTH - 4,
                initial_indent=left,
                subsequent_indent=" " * len(left),
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    return "\n".join(lines)


def kind(field: Field) -> str:
    """How rules judge a field."""
    if own_fields.is_text(field):
        return "text"
    return {"address": "address", "bool": "yes or no"}.get(field.type, "number")


def event_text(one: About) -> str:
    """An event as JSON has it, made from the fields' examples."""
    told = [field for field in one.fields if not field.optional] or one.fields
    data = {field.name: _example(field) for field in told}
    own = {field.name: field.example for field in own_fields.OWN}
    event = Event(int(own["time"]), one.name, 0, 0, 0, 0, 0, "", 0, data, HOST, "my-rule", own["host"])
    if one.of_processes or one.of_containers:
        container = (own["containerID"], own["containerRuntime"], own["containerName"], own["containerImage"])
        event = event._replace(container=Container(*container))
    if one.of_processes:
        pid = int(own["pid"])
        event = event._replace(pid=pid, tid=pid, ppid=int(own["ppid"]), command=own["command"])
    return "{" + _lines_of(list(_pieces(event.as_dict()))) + "}"


def rule_text(one: About) -> str:
    """A rule that matches the example, and its own test."""
    lines = [f"tracer = {json.dumps(one.name)}", 'actions = ["stdout"]']
    field = _telling(one.fields)
    if field is None:
        return "\n".join(lines)
    value = _toml(field)
    who = "{containerID}" if one.of_containers else one.name
    who = "{command} ({pid})" if one.of_processes else who
    lines += [f'output = "{who}: {{{field.name}}}"', "", f"[filterEvents.{field.name}]"]
    lines += [f"is = [{value}]", "", "[[tests]]", f"event = {{ {field.name} = {value} }}", 'expect = "match"']
    return "\n".join(lines)


def _telling(fields: tuple[Field, ...]) -> Field | None:
    """The field that the example rule filters by: text where there is some."""
    own = {field.name for field in own_fields.OWN}
    mine = [field for field in fields if field.name not in own]
    best = [field for field in mine if own_fields.is_text(field) and not field.optional]
    return next(iter([*best, *mine]), None)


def _example(field: Field) -> str:
    return field.example or _USUAL.get("string" if own_fields.is_text(field) else field.type, "1")


def _toml(field: Field) -> str:
    """The field's example as a value of a rule."""
    text = _example(field)
    bare = not own_fields.is_text(field) and field.type != "address"
    return text if bare and (text in ("true", "false") or text.removeprefix("-").isdigit()) else json.dumps(text)


def _pieces(table: Mapping[str, Any]) -> Iterator[str]:
    """The members of a JSON object, each as a text that must not be torn."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            inner = list(_pieces(value))
            inner[0] = f"{json.dumps(key)}: {{{inner[0]}"
            inner[-1] += "}"
            yield from inner
        else:
            yield f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"


def _lines_of(pieces: list[str]) -> str:
    lines = [pieces[0]]
    for piece in pieces[1:]:
        if len(lines[-1]) + len(piece) > WIDTH - 8:
            lines.append(piece)
        else:
            lines[-1] += f", {piece}"
    return ",\n ".join(lines)


def _probes(probes: tuple[str, ...]) -> str:
    lines = [probe.removesuffix("?") + (" (where there is one)" if probe.endswith("?") else "") for probe in probes]
    return "\n".join(lines)


def _indented(text: str) -> str:
    return textwrap.indent(text, "    ")


def main() -> None:
    """Write tracers/README.md anew."""
    from bpfd import tracers

    listed = tracers.bpfd_register_tracers()
    made = [one for one in listed if issubclass(one, TracerFamily)]
    README.write_text(readme([one for one in listed if not issubclass(one, TracerFamily)], made))


if __name__ == "__main__":
    main()
