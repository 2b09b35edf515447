"""The built-in actions, one a file; they register as any plugin's do."""

from __future__ import annotations

from bpfd.hookspecs import hookimpl
from bpfd.plugin import Action


@hookimpl
def bpfd_register_actions() -> list[type[Action]]:
    """Return the built-in actions' classes."""
    from bpfd.actions.interrupt import Interrupt
    from bpfd.actions.kill import Kill
    from bpfd.actions.stdout import Stdout

    return [Interrupt, Kill, Stdout]
