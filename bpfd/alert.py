"""What a notifier tells: an event, or a few words about several, under an id of its own."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from bpfd.event import Container, Event

Kind = Literal["event", "summary", "notice"]


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing to tell. Its id stays the same over every try, so that a receiver can drop repeats."""

    event: Event
    """What happened; of a summary, the last event; of a notice, the event that it is about."""
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    kind: Kind = "event"
    severity: str = "notice"
    """The rule's."""
    text: str = ""
    """What the rule, a summary or a notice says, for people."""
    count: int = 1
    """How many events a summary stands for."""
    first_ns: int = 0
    """When the first of a summary's events happened, wall clock."""
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Distinct values of the fields of what a summary stands for, a few of each."""
    context: tuple[Event, ...] = ()
    """What the same process or container did just before, oldest first."""

    def as_dict(self) -> dict[str, Any]:
        """The event's JSON form, and under the key `alert` what is the alert's own."""
        own: dict[str, Any] = {"id": self.id, "kind": self.kind, "severity": self.severity}
        if self.text:
            own["text"] = self.text
        if self.kind == "summary":
            own |= {"count": self.count, "first": self.first_ns, "values": {k: list(v) for k, v in self.values.items()}}
        if self.context:
            own["context"] = [event.as_dict() for event in self.context]
        return {**self.event.as_dict(), "alert": own}

    def to_json(self) -> bytes:
        """One line of JSON in UTF-8, without the newline."""
        return orjson.dumps(self.as_dict())


def from_json(text: bytes) -> Alert:
    """Make an alert of what `to_json` wrote. Raises ValueError for anything else."""
    try:
        table = orjson.loads(text)
        own = table["alert"]
        return Alert(
            event=event_from(table),
            id=own["id"],
            kind=own["kind"],
            severity=own["severity"],
            text=own.get("text", ""),
            count=own.get("count", 1),
            first_ns=own.get("first", 0),
            values={key: tuple(values) for key, values in own.get("values", {}).items()},
            context=tuple(event_from(item) for item in own.get("context", ())),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an alert: {error}") from None


def event_from(table: Mapping[str, Any]) -> Event:
    """The event of its JSON form. Raises KeyError and TypeError for anything else."""
    container = table["container"]
    return Event(
        time=table["time"],
        tracer=table["tracer"],
        pid=table["pid"],
        tid=table["tid"],
        ppid=table["ppid"],
        uid=table["uid"],
        gid=table["gid"],
        command=table["command"],
        return_value=table["returnValue"],
        data=table["data"],
        container=Container(
            table["containerID"],
            table["containerRuntime"],
            container["name"],
            container["image"],
            container["labels"],
        ),
        rule=table["rule"],
        host=table["host"],
    )
