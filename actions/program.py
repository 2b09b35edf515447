"""program: runs a program for each alert."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from bpfd import options
from bpfd.alert import Alert
from bpfd.errors import ActionError
from bpfd.event import Event, printable
from bpfd.plugin import Action

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class Program(Action):
    """Run a program with the alert as JSON on its standard input; no shell, and an end to its time and its output."""

    name = "program"
    settings = {
        "command": 'the program\'s path and its arguments: ["/usr/local/bin/tell", "--now"]',
        "user": "the user that it runs as; left out: the daemon's",
        "timeout": "how long it may run, with all that it started; 10s",
        "max_output": "how much it may write to its standard output and error; 64k",
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._command = options.texts(settings, "command")
        if not self._command or not self._command[0].startswith("/") or any("\0" in word for word in self._command):
            raise ActionError("command: must be a list that begins with the program's absolute path")
        if not os.access(self._command[0], os.X_OK):
            raise ActionError("command: there is no such program, or it cannot be executed")
        self._user = options.text(settings, "user") if "user" in settings else None
        self._timeout_s = options.seconds(settings, "timeout", 10, 0.1, 3600)
        self._max_output = options.size(settings, "max_output", 64 << 10, 0, 1 << 30)

    def act(self, event: Event) -> None:
        """Run it for one event."""
        self.send(Alert(event))

    def send(self, alert: Alert) -> None:
        """Run it for `alert`. Raises `ActionError` unless it ends in time with status 0."""
        # A file in memory instead of a pipe: a program that does not read its input can't hold us up.
        given = os.memfd_create("alert", os.MFD_CLOEXEC)
        try:
            os.write(given, alert.to_json() + b"\n")
            os.lseek(given, 0, os.SEEK_SET)
            process = self._start(given)
        finally:
            os.close(given)
        try:
            problem, output = self._watch(process)
        finally:
            _end(process)
        if problem or process.returncode:
            raise ActionError(f"{self._command[0]}: {problem or _status(process.returncode)}{_last_line(output)}")

    def _start(self, given: int) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                self._command,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
                user=self._user,
                group=None if self._user is None else _group_of(self._user),
                extra_groups=None if self._user is None else [],
            )
        except (OSError, ValueError, LookupError) as error:
            reason = error.strerror if isinstance(error, OSError) else f"there is no user {self._user!r}"
            raise ActionError(f"{self._command[0]}: cannot be run: {reason}") from None

    def _watch(self, process: subprocess.Popen[bytes]) -> tuple[str, bytes]:
        """What went wrong, and what it wrote, until it ends or oversteps a limit; it is not reaped then."""
        assert process.stdout is not None
        written, output, deadline = 0, b"", time.monotonic() + self._timeout_s
        pidfd = os.pidfd_open(process.pid)
        try:
            with selectors.DefaultSelector() as ready:
                ready.register(pidfd, selectors.EVENT_READ)
                ready.register(process.stdout, selectors.EVENT_READ)
                while True:
                    left_s = deadline - time.monotonic()
                    if left_s <= 0:
                        return f"did not end within {self._timeout_s:g} s", output
                    keys = {key.fd for key, _ in ready.select(left_s)}
                    if process.stdout.fileno() in keys:
                        part = os.read(process.stdout.fileno(), 65536)
                        written, output = written + len(part), (output + part)[-4096:]
                        if written > self._max_output:
                            return f"wrote more than {self._max_output} bytes", output
                        if not part:
                            ready.unregister(process.stdout)
                    elif pidfd in keys:
                        return "", output
        finally:
            os.close(pidfd)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and what it left running; before it is reaped, so that the group's number is still its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        pass  # all have ended
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def _status(code: int) -> str:
    return f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def _last_line(output: bytes) -> str:
    rows = output.decode("utf-8", "backslashreplace").strip().splitlines()
    return f": {printable(rows[-1])[:200]}" if rows else ""
