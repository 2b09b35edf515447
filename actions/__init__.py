"""The built-in actions, one a file; they register as any plugin's do."""

from __future__ import annotations

from bpfd.hookspecs import hookimpl
from bpfd.plugin import Action


@hookimpl
def bpfd_register_actions() -> list[type[Action]]:
    """Return the built-in actions' classes."""
    from bpfd.actions.email import Email
    from bpfd.actions.file import File
    from bpfd.actions.interrupt import Interrupt
    from bpfd.actions.kill import Kill
    from bpfd.actions.program import Program
    from bpfd.actions.slack import Slack
    from bpfd.actions.stdout import Stdout
    from bpfd.actions.syslog import Syslog
    from bpfd.actions.webhook import Webhook

    return [Email, File, Interrupt, Kill, Program, Slack, Stdout, Syslog, Webhook]
