"""stdout prints events."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from bpfd.actions import stdout
from bpfd.actions.stdout import Stdout
from bpfd.errors import ActionError
from bpfd.event import Event
from bpfd.format import line

EVENT = Event(1_764_000_000_000_000_000, "open", 42, 42, 1, 0, 0, "cat", 3, {"filename": "a\nb\udcff\x1b"}, rule="r")


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A pipe whose writing end stands for stdout."""
    reader, writer = os.pipe()
    monkeypatch.setattr(stdout, "STDOUT", writer)
    yield reader, writer
    os.close(writer)
    os.close(reader)


def test_events_are_lines_of_json_where_nobody_looks(pipe: tuple[int, int]) -> None:
    Stdout({}).act_on_batch([EVENT, EVENT])
    lines = os.read(pipe[0], 65536).splitlines()
    assert [orjson.loads(text) for text in lines] == [orjson.loads(EVENT.to_json())] * 2


def test_a_batch_is_one_write(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    write = os.write

    def counted(descriptor: int, data: memoryview) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    Stdout({}).act_on_batch([EVENT] * 50)
    assert len(sizes) == 1


def shown_line(terminal: int) -> str:
    """The next line on a terminal, which may come in parts."""
    shown = b""
    while not shown.endswith(b"\n"):
        shown += os.read(terminal, 65536)
    return shown.decode()


def test_events_are_readable_lines_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, terminal = pty.openpty()
    try:
        monkeypatch.setattr(stdout, "STDOUT", terminal)
        monkeypatch.delenv("NO_COLOR", raising=False)
        Stdout({}).act(EVENT)
        assert shown_line(ours) == line(EVENT, color=True) + "\r\n"
        monkeypatch.setenv("NO_COLOR", "1")
        Stdout({}).act(EVENT)
        assert shown_line(ours) == line(EVENT) + "\r\n"
    finally:
        os.close(terminal)
        os.close(ours)


def test_the_form_can_be_chosen(pipe: tuple[int, int]) -> None:
    Stdout({"format": "line"}).act(EVENT)
    assert os.read(pipe[0], 65536).decode() == line(EVENT) + "\n"
    with pytest.raises(ActionError, match="format: must be one of auto, line, json"):
        Stdout({"format": "xml"})


def test_a_reader_that_went_away_is_an_error_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        monkeypatch.setattr(stdout, "STDOUT", writer)
        with pytest.raises(ActionError, match="stdout: cannot be written: Broken pipe"):
            Stdout({}).act(EVENT)
    finally:
        os.close(writer)


def test_a_full_disk_is_an_error_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("wb") as full:
        monkeypatch.setattr(stdout, "STDOUT", full.fileno())
        with pytest.raises(ActionError, match="No space left"):
            Stdout({}).act(EVENT)


def test_a_line_that_was_cut_does_not_spoil_the_next(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    left = 2

    def tired(descriptor: int, data: memoryview) -> int:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:10] if left == 1 else data)

    action = Stdout({})
    monkeypatch.setattr(os, "write", tired)
    with pytest.raises(ActionError):
        action.act(EVENT)
    action.act(EVENT)
    action.act(EVENT)
    first, *rest = os.read(pipe[0], 65536).splitlines()
    assert first == EVENT.to_json()[:10]
    assert rest == [EVENT.to_json()] * 2


def test_a_pipe_that_somebody_made_non_blocking_is_waited_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    child = os.fork()
    if child == 0:
        got = 0
        while got < 4000 * (len(EVENT.to_json()) + 1):
            got += len(os.read(reader, 65536))
        os._exit(0)
    Stdout({}).act_on_batch([EVENT] * 4000)
    assert os.waitpid(child, 0)[1] == 0
