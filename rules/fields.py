"""The fields that every event has, whatever its tracer: their names in rules, their types, and how to read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter, itemgetter
from typing import Any

from bpfd.event import Event
from bpfd.plugin import Field

OWN: tuple[Field, ...] = (
    Field("command", "the program's name as the kernel keeps it, at most 15 bytes", length=16, example="sshd"),
    Field("pid", "the process (thread group)", type="u64", example="4242"),
    Field("tgid", "the same as pid", type="u64", example="4242"),
    Field("tid", "the thread", type="u64", example="4242"),
    Field("nsPid", "the process as its own pid namespace numbers it: in a container, from 1", type="u64", example="7"),
    Field("ppid", "the parent process", type="u64", example="1"),
    Field("uid", "the user's number", type="u64", example="0"),
    Field("gid", "the group's number", type="u64", example="0"),
    Field("returnValue", "what the call returned; a negative errno if it failed", type="s64", example="-13"),
    Field("time", "when it happened, nanoseconds since 1970", type="u64", example="1767225600000000000"),
    Field("user", "the name of uid on this machine", length=33, example="www-data"),
    Field("parent", "the parent's command", length=16, example="bash"),
    Field(
        "ancestors",
        "the commands of parent, grandparent and so on, with spaces between",
        length=257,
        example="bash sshd",
    ),
    Field("duration", "how long the process had run, nanoseconds", type="u64", example="5000000000"),
    Field("containerInit", "the process is the first of its container", type="bool", example="true"),
    Field("host", "the machine's name", length=65, example="web-1"),
    Field("containerID", "the container's id; empty on the host", length=65, example="4f1c2a"),
    Field("containerRuntime", "the container's runtime; not-found on the host", length=32, example="docker"),
    Field("containerName", "the container's name, once the runtime told it", length=256, example="web"),
    Field("containerImage", "the container's image, once the runtime told it", length=4096, example="nginx:1.27"),
)

_OWN = {field.name: field for field in OWN}
SHARED = ("parent", "ancestors", "duration")
"""Own fields that a tracer may have in its data as well."""

_GET: Mapping[str, Callable[[Event], Any]] = {
    "command": itemgetter(Event._fields.index("command")),
    "pid": itemgetter(Event._fields.index("pid")),
    "tgid": itemgetter(Event._fields.index("pid")),
    "tid": itemgetter(Event._fields.index("tid")),
    "nsPid": itemgetter(Event._fields.index("ns_pid")),
    "ppid": itemgetter(Event._fields.index("ppid")),
    "uid": itemgetter(Event._fields.index("uid")),
    "gid": itemgetter(Event._fields.index("gid")),
    "returnValue": itemgetter(Event._fields.index("return_value")),
    "time": itemgetter(Event._fields.index("time")),
    "user": itemgetter(Event._fields.index("user")),
    "parent": itemgetter(Event._fields.index("parent")),
    "ancestors": itemgetter(Event._fields.index("ancestors")),
    "duration": itemgetter(Event._fields.index("duration")),
    "containerInit": itemgetter(Event._fields.index("container_init")),
    "host": itemgetter(Event._fields.index("host")),
    "containerID": attrgetter("container.id"),
    "containerRuntime": attrgetter("container.runtime"),
    "containerName": attrgetter("container.name"),
    "containerImage": attrgetter("container.image"),
}


_LABEL = re.compile(r"containerLabel\[([^\[\]]{1,256})\]")


def find(name: str, known: Mapping[str, Field]) -> Field | None:
    """The field `name` of a `table`, or the label of a container: `containerLabel[KEY]`. None: there is none."""
    field = known.get(name)
    if field is None and _LABEL.fullmatch(name):
        return Field(name, "a label of the container", length=4096)
    return field


def getter(name: str) -> Callable[[Event], Any] | None:
    """What reads the own field `name`: a str or int, as its type says. None: no own field, look into the data."""
    read = _GET.get(name)
    if read is None and (label := _LABEL.fullmatch(name)):
        key = label[1]
        return lambda event: event.container.labels.get(key, "")
    return read


def value(event: Event, name: str) -> str | None:
    """The text of any field of `event`; None where the event lacks it."""
    read = getter(name)
    return event.data.get(name) if read is None else str(read(event))


def table(tracer_fields: Iterable[Field]) -> dict[str, Field]:
    """Every field that a rule of the tracer may name. An own field wins over a tracer's of the same name."""
    fields = {field.name: field for field in tracer_fields}
    fields.update(_OWN)
    return fields


def is_number(field: Field) -> bool:
    """Whether rules judge the field as a whole number.

    A field with `show` is judged as the text that people see: `flags` contains "O_CREAT".
    """
    return field.type in ("s64", "u64") and field.show is None


def is_text(field: Field) -> bool:
    """Whether rules judge the field as text: strings, and what its tracer shows as text."""
    return field.is_string or field.show is not None
