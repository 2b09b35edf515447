"""The daemon's side of the loader's child: what it is asked, what it answers, and what it says when it fails."""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bpfd.counted import counted
from bpfd.errors import GivenUpError, LoadError
from bpfd.kernel import loader

LOAD_TIMEOUT_S = 60.0
LOOK_S = 0.05
"""How often it is asked whether anybody still waits."""
HEAP = "glibc.malloc.hugetlb=1:glibc.malloc.top_pad=67108864"
"""The compiler's heap grows by much at once, in huge pages where the kernel has them for who asks: a tenth of its time
goes into ten thousand small ones (glibc 2.35, "Memory Allocation Tunables")."""
_TOO_SLOW = "it was not loaded in time; is the machine short of memory (150 MB) or processors?"
ANSWER_BYTES = 4 << 20
"""The most that is read of what a child says; it runs as root too, but its text comes from compilers and plugins."""


def ask(name: str, job: Mapping[str, Any], given_up: Callable[[], bool]) -> tuple[Any, list[int]]:
    """What the loader's child answers, with the descriptors that it hands over.

    Raises `LoadError`; and `GivenUpError` soon after `given_up` says that nobody waits for it: the child is ended.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", loader.__file__, str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "GLIBC_TUNABLES": HEAP},
        )
        theirs.close()
        started = time.monotonic()
        try:
            said, answer, fds = _converse(process, ours, json.dumps(job).encode() + b"\n", given_up)
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
    if answer is None:
        close_all(fds)
        refuse_if(given_up, name)
        late = time.monotonic() - started >= LOAD_TIMEOUT_S
        raise LoadError(f'tracer "{name}": {_TOO_SLOW if late else _cause(said, process.returncode)}')
    return answer, fds


def refuse_if(given_up: Callable[[], bool], name: str) -> None:
    """Raises `GivenUpError` if nobody waits for the tracer `name` any more."""
    if given_up():
        raise GivenUpError(f'tracer "{name}": not loaded: the daemon ends')


def _converse(
    child: subprocess.Popen[bytes], peer: socket.socket, job: bytes, given_up: Callable[[], bool]
) -> tuple[bytes, Any, list[int]]:
    """Send the job; gather what the child prints, and its answer with the descriptors, until both streams end."""
    peer.settimeout(LOAD_TIMEOUT_S)
    with contextlib.suppress(OSError):
        peer.sendall(job)
    said, replied, fds = bytearray(), bytearray(), list[int]()
    deadline = time.monotonic() + LOAD_TIMEOUT_S
    assert child.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ, said)
        selector.register(peer, selectors.EVENT_READ, replied)
        while selector.get_map() and time.monotonic() < deadline and not given_up():
            for key, _ in selector.select(LOOK_S):
                if key.fileobj is peer:
                    part, received = _receive(peer)
                    fds += received
                else:
                    part = os.read(key.fd, 65536)
                if not part:
                    selector.unregister(key.fileobj)
                elif len(key.data) < ANSWER_BYTES:
                    key.data.extend(part)
    line, newline, _ = bytes(replied).partition(b"\n")
    answer = json.loads(line) if newline else None
    if answer is not None and len(fds) != _descriptors(answer):
        answer = None
    return bytes(said), answer, fds


def _descriptors(answer: Mapping[str, Any]) -> int:
    """How many descriptors belong to an answer; none where nothing was loaded."""
    if "functions" in answer:
        return 0
    return len(answer["maps"]) + len(answer["programs"]) + int(answer["links"])


def _receive(peer: socket.socket) -> tuple[bytes, list[int]]:
    try:
        part, fds, _, _ = socket.recv_fds(peer, 65536, loader.FDS_A_MESSAGE, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return b"", []
    return part, fds


def _cause(said: bytes, status: int | None) -> str:
    """What matters of a failed load: the compiler's errors or the verifier's last words, without Python's traceback."""
    text = said.decode(errors="replace").strip()
    before, _, traceback = text.partition("Traceback (most recent call last):")
    last = traceback.strip().split("\n")[-1]
    parts = [part for part in (_last_lines(before.strip()), last) if part]
    if not parts:
        return f"the loader ended with status {status} and said nothing; is there memory enough (150 MB)?"
    return "\n".join(parts)


def _last_lines(text: str, most: int = 40) -> str:
    """The verifier's log ends with what it refused; before that it may have thousands of lines."""
    lines = (
        [line for line in text.split("\n") if not re.match(r"(; |\d+: \(|\s*$)", line)]
        if len(text) > 20000
        else text.split("\n")
    )
    if len(lines) <= most:
        return "\n".join(lines)
    return f"({counted(len(lines) - most, 'line')} left out)\n" + "\n".join(lines[-most:])


def close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
