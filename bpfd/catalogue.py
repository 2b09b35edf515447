"""Every tracer by its name: those that plugins bring, and those that are made when a rule names them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bpfd.errors import UnknownTracerError
from bpfd.plugin import AnyTracer, Field, TracerFamily
from bpfd.rules.nearest import hint, quoted

MOST_MADE = 4096
"""How many made tracers are remembered."""


class Catalogue(Mapping[str, type[AnyTracer]]):
    """Looks like a dict of tracers. Whoever goes through it sees the plain ones; a name finds made ones too.

    Any thread.
    """

    def __init__(self, plain: Mapping[str, type[AnyTracer]], families: Mapping[str, type[TracerFamily]]) -> None:
        self._plain, self.families = plain, families
        self._made: dict[str, type[AnyTracer]] = {}

    def __getitem__(self, name: str) -> type[AnyTracer]:
        """Raises KeyError."""
        found = self._plain.get(name) or self._made.get(name)
        if found is None:
            try:
                found = self._make(name)
            except UnknownTracerError:
                found = None
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._plain)

    def __len__(self) -> int:
        return len(self._plain)

    def problem(self, name: str) -> str:
        """Why there is no tracer `name`, and what to do: `what; what to do`. Empty: there is one."""
        if name in self:
            return ""
        family = self._family(name)
        if family is None:
            return f"there is no tracer {quoted(name)}; {hint(name, [*self._plain, *self._examples()], 'tracers')}"
        try:
            family.find(name)
        except UnknownTracerError as error:
            return str(error)
        return f"there is no tracer {quoted(name)}; {hint(name, family.names(), f'{family.prefix}… tracers')}"

    def _examples(self) -> list[str]:
        return [family.example for family in self.families.values()]

    def _family(self, name: str) -> type[TracerFamily] | None:
        return next((family for prefix, family in self.families.items() if name.startswith(prefix)), None)

    def _make(self, name: str) -> type[AnyTracer] | None:
        family = self._family(name)
        made = family.find(name) if family is not None else None
        if made is not None:
            if len(self._made) >= MOST_MADE:
                self._made.clear()
            self._made[name] = made
        return made


class FieldsByTracer(Mapping[str, tuple[Field, ...]]):
    """The fields of each tracer of a catalogue, by the tracer's name."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def __getitem__(self, name: str) -> tuple[Field, ...]:
        return self._catalogue[name].fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._catalogue)

    def __len__(self) -> int:
        return len(self._catalogue)
