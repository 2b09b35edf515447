"""journald: writes alerts to the systemd journal."""

from __future__ import annotations

import array
import errno
import os
import re
import socket
from collections.abc import Mapping
from typing import Any

from bpfd import options
from bpfd.alert import Alert
from bpfd.errors import ActionError
from bpfd.event import Event, printable, utf8
from bpfd.format import line
from bpfd.plugin import Action
from bpfd.rules.model import SEVERITIES  # in the order of the journal's PRIORITY

SOCKET = "/run/systemd/journal/socket"


class Journald(Action):
    """Write each alert to the systemd journal, with the event's fields as fields of the entry."""

    name = "journald"
    settings = {
        "socket": f"the journal's socket; {SOCKET}",
        "timeout": "how long it may take to take an entry; 10s",
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._path = options.text(settings, "socket", SOCKET)
        self._timeout_s = options.seconds(settings, "timeout", 10, 0.1, 300)

    def act(self, event: Event) -> None:
        """Write one event."""
        self.send(Alert(event))

    def send(self, alert: Alert) -> None:
        """Write `alert`. Raises `ActionError` if the journal does not take it."""
        text = entry(alert)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            journal.settimeout(self._timeout_s)
            try:
                journal.connect(self._path)
                try:
                    journal.send(text)
                except OSError as error:
                    if error.errno not in {errno.EMSGSIZE, errno.ENOBUFS}:
                        raise
                    _send_as_file(journal, text)
            except OSError as error:
                raise ActionError(f"{self._path}: cannot be reached: {error.strerror or 'no answer in time'}") from None


def entry(alert: Alert) -> bytes:
    """One entry in the journal's native protocol: systemd.io/JOURNAL_NATIVE_PROTOCOL."""
    event = alert.event
    fields = {
        "MESSAGE": printable(alert.text) or line(event),
        "PRIORITY": str(SEVERITIES.index(alert.severity)),
        "SYSLOG_IDENTIFIER": "bpfd",
        "BPFD_ALERT_ID": alert.id,
        "BPFD_KIND": alert.kind,
        "BPFD_RULE": event.rule,
        "BPFD_TRACER": event.tracer,
        "BPFD_TIME": str(event.time),
        "BPFD_PID": str(event.pid),
        "BPFD_TID": str(event.tid),
        "BPFD_PPID": str(event.ppid),
        "BPFD_UID": str(event.uid),
        "BPFD_GID": str(event.gid),
        "BPFD_COMMAND": event.command,
        "BPFD_RETURN_VALUE": str(event.return_value),
        "BPFD_CONTAINER_ID": event.container.id,
        "BPFD_CONTAINER_RUNTIME": event.container.runtime,
        "BPFD_CONTAINER_NAME": event.container.name,
        **{f"BPFD_DATA_{_name(key)}": value for key, value in event.data.items()},
    }
    return b"".join(_field(name, value) for name, value in fields.items())


def _field(name: str, value: str) -> bytes:
    text = utf8(value).encode()
    if b"\n" not in text:
        return name.encode() + b"=" + text + b"\n"
    return name.encode() + b"\n" + len(text).to_bytes(8, "little") + text + b"\n"


def _name(key: str) -> str:
    return re.sub(r"[^A-Z0-9_]", "_", key.upper())[:50]


def _send_as_file(journal: socket.socket, text: bytes) -> None:
    """What is too long for a datagram goes as a sealed file in memory."""
    import fcntl

    descriptor = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(text)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        journal.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))])
    finally:
        os.close(descriptor)
