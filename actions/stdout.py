"""stdout: prints events."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping
from typing import Any

from bpfd import options
from bpfd.alert import Alert
from bpfd.errors import ActionError
from bpfd.event import Event, printable
from bpfd.format import line
from bpfd.plugin import Action

STDOUT = 1


class Stdout(Action):
    """Print each event as a line: readable on a terminal, JSON otherwise."""

    name = "stdout"
    durable = False
    settings = {"format": "line or json; auto (the default) is line on a terminal and json otherwise"}

    def __init__(self, settings: Mapping[str, Any]) -> None:
        terminal = os.isatty(STDOUT)
        chosen = options.choice(settings, "format", ("auto", "line", "json"), "auto")
        self._json = chosen == "json" or (chosen == "auto" and not terminal)
        self._color = terminal and not os.environ.get("NO_COLOR")
        self._torn = False

    def act(self, event: Event) -> None:
        """Print one event. Raises `ActionError` as `act_on_batch`."""
        self.act_on_batch([event])

    def act_on_batch(self, events: list[Event]) -> None:
        """Print `events` with one write(2). Raises `ActionError` if nobody reads or the disk is full."""
        if self._json:
            lines = [event.to_json() for event in events]
        else:
            lines = [line(event, self._color).encode("utf-8", "backslashreplace") for event in events]
        text = b"\n".join(lines) + b"\n"
        self._write(b"\n" + text if self._torn else text)

    def send(self, alert: Alert) -> None:
        """Print what there is to say of several events, or of one and those before it: the event, and `alert`."""
        if self._json:
            text = alert.to_json()
        else:
            shown = [f"  before: {line(event)}" for event in alert.context]
            said = f": {printable(alert.text)}" if alert.text else ""
            text = "\n".join([f"{line(alert.event, self._color)}{said}", *shown]).encode("utf-8", "backslashreplace")
        text += b"\n"
        self._write(b"\n" + text if self._torn else text)

    def _write(self, text: bytes) -> None:
        rest = memoryview(text)
        try:
            while rest:
                try:
                    rest = rest[os.write(STDOUT, rest) :]
                except BlockingIOError:  # somebody who shares the pipe made it non-blocking
                    select.select([], [STDOUT], [])
        except OSError as error:
            raise ActionError(f"stdout: cannot be written: {error.strerror}") from None
        finally:
            if written := len(text) - len(rest):  # a line cut in the middle is ended before the next one begins
                self._torn = text[written - 1 : written] != b"\n"
