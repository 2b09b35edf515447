"""notify: tells any service that the library apprise knows."""

from __future__ import annotations

import importlib.util
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bpfd import options
from bpfd.alert import Alert
from bpfd.errors import ActionError
from bpfd.event import Event, printable, utf8
from bpfd.format import line
from bpfd.plugin import Action

CHILD = Path(__file__).with_name("notify_service.py")
_LONGEST_TITLE = 200
_START_S = 60.0


class Notify(Action):
    """Tell any of a hundred services that the library apprise knows; needs `pip install bpfd[notify]`.

    The library runs in a child, since it reads an answer of any length for any time; redirects are not followed.
    """

    name = "notify"
    settings = {
        "url_env": "the environment variable that holds the service's URL in apprise's form; it holds the secret",
        "url_file": "the file that holds it",
        "timeout": "how long one alert may take; 30s",
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._url = options.secret(settings, "url", required=True) or ""
        self._timeout_s = options.seconds(settings, "timeout", 30, 0.1, 300)
        if importlib.util.find_spec("apprise") is None:
            raise ActionError("notify: the package apprise is missing; install bpfd[notify]")
        self._child: subprocess.Popen[bytes] | None = None
        self._start()  # finds out whether the URL is one; from the first alert on, a child stays
        self.close()

    def act(self, event: Event) -> None:
        """Tell one event."""
        self.send(Alert(event))

    def send(self, alert: Alert) -> None:
        """Tell `alert`. apprise says only whether the service took it."""
        event = alert.event
        title = printable(f"{event.rule or event.tracer} on {event.host or 'this host'}")[:_LONGEST_TITLE]
        said = printable(alert.text)
        body = f"{said}\n{line(event)}\n{alert.id}" if said else f"{line(event)}\n{alert.id}"
        if self._child is None:
            self._start()
        if not self._ask({"body": utf8(body), "title": utf8(title), "body_format": "text"}, self._timeout_s):
            raise ActionError("notify: the service did not take it")

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for stream in (self._child.stdin, self._child.stdout):
                if stream is not None:
                    stream.close()
            self._child = None

    def _start(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-I", str(CHILD), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            bufsize=0,
        )
        if not self._ask(self._url, _START_S):
            self.close()
            raise ActionError("url_env: is not a URL that apprise knows")

    def _ask(self, question: object, timeout_s: float) -> bool:
        """What the child answers. Raises `ActionError` if it does not, in time; it is ended then."""
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(question).encode() + b"\n")  # it waits for it, and a pipe has room
            answer = _read_line(self._child.stdout.fileno(), timeout_s)
        except TimeoutError:
            self.close()
            raise ActionError(f"notify: no answer within {timeout_s:g} s") from None
        except OSError:
            answer = b""  # it has ended
        if not answer:
            self.close()
            raise ActionError("notify: apprise ended in the middle; perhaps the service's answer was too long for it")
        return answer == b"true\n"


def _read_line(descriptor: int, timeout_s: float) -> bytes:
    """A line of a few bytes; empty: the other end was closed. Raises TimeoutError."""
    deadline, found = time.monotonic() + timeout_s, b""
    with selectors.DefaultSelector() as ready:
        ready.register(descriptor, selectors.EVENT_READ)
        while not found.endswith(b"\n"):
            if not ready.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            part = os.read(descriptor, 64)
            if not part:
                return b""
            found += part
    return found
