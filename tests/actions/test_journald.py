"""journald writes alerts to the systemd journal."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bpfd.actions.journald import Journald, entry
from bpfd.alert import Alert
from bpfd.errors import ActionError
from tests.actions.receivers import send_for_ever


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "socket"))
        server.settimeout(5)
        yield server


def parse(text: bytes) -> dict[str, bytes]:
    """Read the native protocol, as the journal does."""
    fields: dict[str, bytes] = {}
    while text:
        name, _, rest = text.partition(b"\n")
        if b"=" in name:
            name, _, value = name.partition(b"=")
            text = rest
        else:
            length = int.from_bytes(rest[:8], "little")
            value, text = rest[8 : 8 + length], rest[8 + length + 1 :]
        fields[name.decode()] = value
    return fields


def test_the_events_fields_are_fields_of_the_entry(journal: socket.socket, alert: Alert, tmp_path: Path) -> None:
    Journald({"socket": str(tmp_path / "socket")}).send(replace(alert, severity="critical"))
    fields = parse(journal.recv(65536))
    assert fields["PRIORITY"] == b"2"
    assert fields["BPFD_RULE"] == b"secrets"
    assert fields["BPFD_ALERT_ID"] == alert.id.encode()
    assert fields["BPFD_COMMAND"] == b"c\nat"
    assert fields["BPFD_DATA_FILENAME"].startswith(b'/etc/"<!channel>')
    assert b"\n" not in fields["MESSAGE"]


def test_a_process_cannot_forge_a_field(alert: Alert) -> None:
    event = alert.event._replace(command="x\nPRIORITY=0", data={"a=b\nPRIORITY": "x\nMESSAGE=y"})
    fields = parse(entry(replace(alert, event=event)))
    assert fields["PRIORITY"] == b"5"
    assert fields["BPFD_DATA_A_B_PRIORITY"] == b"x\nMESSAGE=y"


def test_an_entry_that_is_too_long_for_a_datagram_goes_as_a_file(
    journal: socket.socket, alert: Alert, tmp_path: Path
) -> None:
    huge = replace(alert, event=alert.event._replace(data={"x": "y" * 500_000}))
    Journald({"socket": str(tmp_path / "socket")}).send(huge)
    _, descriptors, _, _ = socket.recv_fds(journal, 1, 1)
    try:
        text = os.pread(descriptors[0], 1 << 20, 0)
    finally:
        os.close(descriptors[0])
    assert parse(text)["BPFD_DATA_X"] == b"y" * 500_000


def test_a_journal_that_is_not_there_is_an_error(tmp_path: Path, alert: Alert) -> None:
    with pytest.raises(ActionError, match="cannot be reached: No such file or directory"):
        Journald({"socket": str(tmp_path / "none")}).send(alert)


def test_a_journal_that_reads_nothing_is_given_up(journal: socket.socket, alert: Alert, tmp_path: Path) -> None:
    action = Journald({"socket": str(tmp_path / "socket"), "timeout": 0.2})
    began = time.monotonic()
    with pytest.raises(ActionError, match="cannot be reached: no answer in time"):
        send_for_ever(action, alert)  # as many as its queue takes
    assert time.monotonic() - began < 10


def test_a_socket_of_another_kind_is_no_journal(tmp_path: Path, alert: Alert) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        with pytest.raises(ActionError, match="cannot be reached: Protocol wrong type for socket"):
            Journald({"socket": str(tmp_path / "socket")}).send(alert)
