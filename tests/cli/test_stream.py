"""A stream of lines that ends when it is told to, whether or not anybody reads."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from bpfd.cli.stream import GRACE_S, Ending, Output
from bpfd.errors import BpfdError

F_SETPIPE_SZ = 1031
LINE = "x" * 99 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe that holds 8 KiB."""
    read, write = os.pipe()
    fcntl.fcntl(write, F_SETPIPE_SZ, 8192)
    yield read, write
    for fd in (read, write):
        try:
            os.close(fd)
        except OSError:
            continue


def never() -> None:
    """Nobody is to be woken."""


def test_all_lines_are_written_to_whoever_reads(pipe: tuple[int, int]) -> None:
    read, write = pipe
    got = bytearray()

    def collect() -> None:
        while len(got) < 100 * 1000:
            got.extend(os.read(read, 65536))

    reader = threading.Thread(target=collect, name="reader")
    reader.start()
    with Ending(never) as ending:
        assert Output(write, ending).write([LINE] * 1000) == 1000
    reader.join()
    assert got == (LINE * 1000).encode()


def test_a_reader_who_does_not_read_holds_nobody_up_beyond_the_end(pipe: tuple[int, int]) -> None:
    read, write = pipe
    with Ending(never, after_s=0.2) as ending:
        output = Output(write, ending)
        began = time.monotonic()
        whole = output.write([LINE] * 1000)
        assert GRACE_S <= time.monotonic() - began < 0.2 + GRACE_S + 5
        assert whole == len(os.read(read, 65536)) // len(LINE)
        assert 0 < whole < 1000
        assert output.write([LINE]) == 0, "a line was torn: nothing may follow it"


def test_a_signal_ends_a_writer_that_waits(pipe: tuple[int, int]) -> None:
    _, write = pipe
    woken = []
    with Ending(lambda: woken.append(True)) as ending:
        assert not ending.come()
        threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).run()
        began = time.monotonic()
        assert Output(write, ending).write([LINE] * 1000) < 1000
        assert time.monotonic() - began < GRACE_S + 5
        assert (ending.signal, ending.come(), woken) == (signal.SIGINT, True, [True])


def test_the_handlers_of_before_are_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Ending(never):
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_nobody_at_the_other_end_is_a_broken_pipe(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.close(read)
    with Ending(never) as ending, pytest.raises(BrokenPipeError):
        Output(write, ending).write([LINE])


def test_a_full_disk_is_an_error_in_one_line() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with Ending(never) as ending, pytest.raises(BpfdError, match="standard output: cannot be written: No space"):
            Output(full, ending).write([LINE])
    finally:
        os.close(full)
