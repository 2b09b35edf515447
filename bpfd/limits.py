"""How much bpfd does at most: responses, and alerts that wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bpfd import options
from bpfd.errors import ActionError
from bpfd.event import printable
from bpfd.rules.nearest import hint


@dataclass(frozen=True, slots=True)
class Limits:
    """The table `[limits]` of the configuration."""

    per_rule: int = 5
    """How many responses of one rule there may be within `window_s`."""
    in_all: int = 20
    """How many responses of all rules."""
    window_s: float = 60.0
    expire_s: float = 5.0
    """A response later than this after its event would hit a situation that is gone."""
    outbox_bytes: int = 256 << 20
    """How large the database of alerts that wait may become."""
    outbox_age_s: float = 86400.0
    """The age at which an alert that could not be delivered is given up."""
    in_kernel: int = 2000
    """How many of one rule with `where = "kernel"`. That many are a mistake; what stops what it is to stop at the fifth
    would be no guard: whoever wants to pass it would set it off five times."""


_Check = Callable[[Mapping[str, Any], str], Any]
_KEYS: Mapping[str, tuple[str, _Check]] = {
    "responses_per_rule": ("per_rule", lambda table, key: options.whole(table, key, 0, 0, 1_000_000)),
    "responses": ("in_all", lambda table, key: options.whole(table, key, 0, 0, 1_000_000)),
    "kernel_responses_per_rule": ("in_kernel", lambda table, key: options.whole(table, key, 0, 1, 1_000_000)),
    "expire": ("expire_s", lambda table, key: options.seconds(table, key, 0, 0.001, 3600)),
    "outbox_size": ("outbox_bytes", lambda table, key: options.size(table, key, 0, 1 << 20, 1 << 40)),
    "outbox_age": ("outbox_age_s", lambda table, key: options.seconds(table, key, 0, 1, 365 * 86400)),
}
"""The keys of the table: what each sets, and its check."""


def limits(table: object) -> Limits:
    """The limits of `[limits]`. Raises ValueError: what is wrong, a line for each key."""
    if not isinstance(table, dict):
        raise ValueError("must be a table: [limits]")
    values: dict[str, Any] = {}
    problems = []
    for key in table:
        if key not in _KEYS:
            problems.append(f"limits.{printable(key)}: is no key of [limits]; {hint(key, _KEYS, 'keys')}")
            continue
        name, check = _KEYS[key]
        try:
            values[name] = check(table, key)
        except ActionError as error:
            problems.append(f"limits.{error}")
    if problems:
        raise ValueError("\n".join(problems))
    return Limits(**values)
