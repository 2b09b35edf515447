"""What checking a rule needs to know, and what it has found so far."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from bpfd.plugin import Field
from bpfd.rules import fields, patterns
from bpfd.rules.definitions import Definitions
from bpfd.rules.locate import KeyPath
from bpfd.rules.nearest import hint, quoted
from bpfd.rules.problems import Problems

FALCO = {
    "proc.name": "command",
    "proc.exepath": "path",
    "proc.cmdline": "argv",
    "proc.args": "argv",
    "proc.cwd": "cwd",
    "proc.pname": "parent",
    "proc.aname": "ancestors",
    "proc.pid": "pid",
    "proc.ppid": "ppid",
    "thread.tid": "tid",
    "user.uid": "uid",
    "user.name": "user",
    "group.gid": "gid",
    "fd.name": "path",
    "evt.rawres": "returnValue",
    "evt.res": "returnValue",
    "evt.time": "time",
    "evt.hostname": "host",
    "container.id": "containerID",
    "container.type": "containerRuntime",
    "container.name": "containerName",
    "container.image": "containerImage",
    "container.image.repository": "containerImage",
}
"""What Falco calls the fields, for the errors of people who bring its rules."""


@dataclass(frozen=True, slots=True)
class Known:
    """What rules may name."""

    tracers: Mapping[str, tuple[Field, ...]]
    """Each with its own fields."""
    actions: Collection[str]
    """Their names, and those of configured instances."""
    settings: Mapping[str, Collection[str]] = field(default_factory=dict)
    """For each action the keys that a rule may set by itself."""
    definitions: Definitions = field(default_factory=Definitions)
    """The macros and lists of the rules directory."""
    no_tracer: Callable[[str], str] | None = None
    """Says why there is no tracer of a name, and what to do; None: a hint is made from the names of `tracers`."""


@dataclass(slots=True)
class Context:
    """One rule that is being checked."""

    known: Known
    problems: Problems
    tracer: str = ""
    fields: dict[str, Field] | None = None
    """What the rule may name; None where its tracer is not known, and fields are not checked."""
    patterns_left: int = patterns.MOST_SIZE

    def field(self, name: str, path: KeyPath) -> Field | None:
        """The field of that name; notes a problem at `path` if there is none."""
        if self.fields is None:
            return None
        found = fields.find(name, self.fields)
        if found is None:
            near = FALCO.get(name.partition("[")[0], "")
            what = f'did you mean "{near}"?' if near in self.fields else hint(name, self.fields, "fields")
            self.problems.add(path, f'tracer "{self.tracer}" has no field {quoted(name)}; {what}')
        return found

    def take_pattern(self, operator: str, value: str) -> None:
        """Take a glob or regular expression. Raises `PatternError`: it is none, or all together are too large."""
        if self.patterns_left <= 0:
            return  # said already
        self.patterns_left -= patterns.size(operator, value)
        if self.patterns_left <= 0:
            raise patterns.PatternError("makes the rule's patterns too large together; split the rule")
