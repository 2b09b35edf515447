"""Everything behind a match, put together: actions, their outbox, guard, ledger, mutes, and what is taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bpfd.alert import Alert
from bpfd.counters import Counters
from bpfd.guard import Guard
from bpfd.ledger import Ledger
from bpfd.limits import Limits
from bpfd.mutes import Mutes
from bpfd.outbox import Outbox
from bpfd.plugin import Action
from bpfd.respond import Actions
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
            self.undoer = Undoer(state_dir, self._find)
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
            self._undo = undo.pop_all()

    def _find(self, name: str) -> Action | None:
        return self.actions.find(name)

    def _notify(self, alert: Alert) -> None:
        self.actions.notify(alert, self._default_actions)

    def stop(self, timeout_s: float) -> None:
        """End everything within about `timeout_s`: what is not told yet is kept for the next start. Idempotent."""
        self.undoer.stop(timeout_s / 4)
        self.actions.stop(timeout_s * 3 / 4)
        self._undo.close()
