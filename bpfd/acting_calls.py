"""What the API may ask of all that acts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from bpfd.acting import Acting
from bpfd.alert import from_json
from bpfd.control import DeadLetter, Trial
from bpfd.errors import ActionError, ActionNotFoundError, RuleError, RuleNotFoundError
from bpfd.event import printable
from bpfd.ledger import Entry
from bpfd.mutes import Mute
from bpfd.plugin import AnyTracer
from bpfd.rules import fields
from bpfd.rules.model import Rule
from bpfd.rules.nearest import hint, no_rule, quoted
from bpfd.store import Stored


class ActingCalls:
    """Implements `bpfd.control.ActingControl`."""

    def __init__(
        self, acting: Acting, rules: Callable[[], Mapping[str, Rule]], tracers: Mapping[str, type[AnyTracer]]
    ) -> None:
        """`rules` gives those in force, by name."""
        self._acting = acting
        self._rules = rules
        self._tracers = tracers

    def responses(self, limit: int) -> list[Entry]:
        """The newest responses, the oldest of them first."""
        return self._acting.ledger.read(limit)

    def test_action(self, name: str) -> Trial:
        """Send a sample through a notifier; waits for the receiver."""
        began_s = time.monotonic()
        problem = ""
        try:
            self._acting.actions.test(name)
        except ActionError as error:
            problem = str(error)
        return Trial(not problem, problem, time.monotonic() - began_s)

    def dead_letters(self, action: str = "") -> list[DeadLetter]:
        """Alerts that were given up, the oldest first. Raises `ActionNotFoundError`."""
        self._check_action(action)
        return [_dead(stored) for stored in self._acting.outbox.dead() if action in ("", stored.action)]

    def retry_dead_letters(self, action: str = "") -> int:
        """Have them sent again; how many. Raises `ActionNotFoundError`."""
        self._check_action(action)
        return self._acting.outbox.retry(action or None)

    def _check_action(self, action: str) -> None:
        """One that is configured no more may have dead letters still."""
        known = {*self._acting.actions.names(), *self._acting.outbox.waiting()}
        if action and action not in known:
            raise ActionNotFoundError(f"there is no action {quoted(action)}; {hint(action, known, 'actions')}")

    def create_mute(self, rule: str, where: Mapping[str, str], for_ns: int, why: str) -> Mute:
        """Raises `RuleNotFoundError`, `RuleError` for a field that the rule's events have not, and `MuteError`."""
        found = self._rules().get(rule)
        if found is None:
            raise RuleNotFoundError([no_rule(rule, self._rules())])
        known = fields.table(self._tracers[found.tracer].fields if found.tracer else ())
        problems = [
            f"{printable(name)}: there is no field {quoted(name)}; {hint(name, known, 'fields')}"
            for name in where
            if fields.find(name, known) is None
        ]
        if problems:
            raise RuleError(problems)
        mute = self._acting.mutes.add(rule, where, for_ns, why)
        self._acting.restraint.settle()
        return mute

    def remove_mute(self, mute_id: str) -> None:
        """Raises `MuteNotFoundError`."""
        self._acting.mutes.remove(mute_id)
        self._acting.restraint.settle()

    def mutes(self) -> list[Mute]:
        """Those in force, the oldest first."""
        return self._acting.mutes.in_force()


def _dead(stored: Stored) -> DeadLetter:
    try:
        alert = from_json(stored.body)
    except ValueError:
        return DeadLetter("", stored.action, "", stored.made_ns, stored.tries, stored.problem)
    return DeadLetter(alert.id, stored.action, alert.event.rule, alert.event.time, stored.tries, stored.problem)
