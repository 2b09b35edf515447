"""The built-in actions, one a file; they register as any plugin's do."""

from __future__ import annotations

from bpfd.hookspecs import hookimpl
from bpfd.plugin import Action


@hookimpl
def bpfd_register_actions() -> list[type[Action]]:
    """Return the built-in actions' classes."""
    from bpfd.actions.container_checkpoint import ContainerCheckpoint
    from bpfd.actions.container_disconnect import ContainerDisconnect
    from bpfd.actions.container_kill import ContainerKill, DockerKill
    from bpfd.actions.container_pause import ContainerPause, Pause
    from bpfd.actions.container_restart import ContainerRestart
    from bpfd.actions.container_stop import ContainerStop
    from bpfd.actions.container_unpause import ContainerUnpause
    from bpfd.actions.continue_ import Continue
    from bpfd.actions.email import Email
    from bpfd.actions.file import File
    from bpfd.actions.interrupt import Interrupt
    from bpfd.actions.journald import Journald
    from bpfd.actions.kafka import Kafka
    from bpfd.actions.kill import Kill
    from bpfd.actions.nats import Nats
    from bpfd.actions.notify import Notify
    from bpfd.actions.otlp import Otlp
    from bpfd.actions.program import Program
    from bpfd.actions.prometheus import Prometheus
    from bpfd.actions.slack import Slack
    from bpfd.actions.stdout import Stdout
    from bpfd.actions.stop import Stop
    from bpfd.actions.syslog import Syslog
    from bpfd.actions.webhook import Webhook

    return [
        ContainerCheckpoint,
        ContainerDisconnect,
        ContainerKill,
        DockerKill,
        ContainerPause,
        Pause,
        ContainerRestart,
        ContainerStop,
        ContainerUnpause,
        Continue,
        Email,
        File,
        Interrupt,
        Journald,
        Kafka,
        Kill,
        Nats,
        Notify,
        Otlp,
        Program,
        Prometheus,
        Slack,
        Stdout,
        Stop,
        Syslog,
        Webhook,
    ]
