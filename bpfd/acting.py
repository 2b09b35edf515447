"""Everything behind a match, put together: actions, their outbox, guard, ledger, mutes, and what is taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from bpfd.aging import Aging
from bpfd.alert import Alert
from bpfd.counters import Counters
from bpfd.errors import ActionError
from bpfd.event import Event
from bpfd.guard import Guard
from bpfd.ledger import Ledger
from bpfd.limits import Limits
from bpfd.mutes import Mutes
from bpfd.outbox import Outbox
from bpfd.plugin import Action
from bpfd.respond import Actions
from bpfd.restraint import Noting, Restraint
from bpfd.runner import ActionRunner
from bpfd.telling import PLAIN, Telling
from bpfd.undo import Undoer


class Acting:
    """Owns all that acts. Made and stopped by the daemon's main thread; `actions.deliver` is for the event thread."""

    def __init__(
        self,
        classes: Mapping[str, type[Action]],
        tables: Mapping[str, Mapping[str, Any]],
        state_dir: Path,
        counters: Counters,
        queue_size: int,
        telling: Callable[[str], Telling] = lambda rule: PLAIN,
        observes: Callable[[str], str] = lambda rule: "",
        limits: Limits = Limits(),  # noqa: B008 - frozen
        protected: tuple[str, ...] = (),
        own: Callable[[str, str], Mapping[str, Any]] = lambda rule, action: {},
        names: Callable[[str], tuple[str, ...]] = lambda rule: (),
        default_actions: tuple[str, ...] = (),
    ) -> None:
        """Make and start everything; arguments as of `Actions` and `Guard`. What a run before left is gone on with.
        `default_actions` tell of what was not done for a rule that names no notifier.

        Raises `SettingsError` with all that is wrong in `tables`; then nothing is left running.
        """
        self._undo = ExitStack()
        with ExitStack() as undo:
            self.outbox = Outbox(state_dir, counters, limits.outbox_bytes)
            undo.callback(self.outbox.close)
            self.mutes = Mutes(state_dir)
            undo.callback(self.mutes.close)
            self.ledger = Ledger(state_dir)
            self.undoer = Undoer(state_dir, self._find, self.ledger.write)
            guard = Guard(
                self.ledger,
                self._notify,
                limits,
                protected,
                observes,
                self.undoer.around,
            )
            self._default_actions = default_actions
            self.actions = Actions(
                classes, tables, counters, queue_size, self.outbox, guard, telling, self.mutes, own, names, limits
            )
            self.undoer.start()
            self._resume()
            self._aging = Aging(self.outbox, self.actions.running, limits.outbox_age_s)
            self._aging.start()
            self.restraint = Restraint(self.mutes, self.ledger, self._notify, limits)
            self.restraint.start()
            self._kernel = ActionRunner("kernel", Noting(self.restraint), counters, queue_size)
            self._undo = undo.pop_all()

    def note(self, events: list[Event]) -> None:
        """Note what the kernel did on `events` of one rule. For the event thread; never waits."""
        self._kernel.put(events)

    def problems(self) -> list[str]:
        """What is wrong now, a line for each."""
        disk = [self.outbox.problem] if self.outbox.problem else []
        return [*disk, *self._aging.problems(), *self.restraint.problems()]

    def _resume(self) -> None:
        """Run the actions that a run before left alerts for, whether or not a rule names them still."""
        for name, (waiting, _) in self.outbox.waiting().items():
            with suppress(ActionError):  # there is none; `Aging` says so
                if waiting:
                    self.actions.prepare([name])

    def _find(self, name: str) -> Action | None:
        return self.actions.find(name)

    def _notify(self, alert: Alert) -> None:
        self.actions.notify(alert, self._default_actions)

    def stop(self, timeout_s: float) -> None:
        """End everything within about `timeout_s`: what is not told yet is kept for the next start. Idempotent."""
        self.undoer.stop(timeout_s / 8)
        self._kernel.stop(timeout_s / 8)
        self.restraint.stop(timeout_s / 8)
        self._aging.stop(timeout_s / 8)
        self.actions.stop(timeout_s * 3 / 4)
        self._undo.close()
