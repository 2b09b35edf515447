"""The daemon's log on standard error."""

from __future__ import annotations

import logging
import sys

from bpfd.event import printable


class OneLine(logging.Formatter):
    """A record a line, escaped: no name that a stranger chose breaks a line. Tracebacks follow, indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, error: object) -> str:
        text = super().formatException(error)  # type: ignore[arg-type]  # the type's name is private to the stubs
        return "\n".join(f"  {printable(line)}" for line in text.split("\n"))


def set_up(*, debug: bool) -> None:
    """Log to stderr from now on; with `debug`, what is of use to developers too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler], force=True)
    for noisy in ("asyncio", "docker", "grpc", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.DEBUG if debug else logging.CRITICAL)
