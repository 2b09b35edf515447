"""`bpfd daemon`: runs the daemon until a signal ends it. The only place that handles signals."""

from __future__ import annotations

import argparse
import logging
import os
import queue
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from bpfd.cli import logs
from bpfd.cli.command import Commands
from bpfd.cli.daemon_client import address_of
from bpfd.counted import counted
from bpfd.errors import BpfdError, GivenUpError

if TYPE_CHECKING:
    from bpfd.daemon import Daemon
    from bpfd.settings import Settings

log = logging.getLogger(__name__)


def add(commands: Commands) -> None:
    parser = commands.add("daemon", "start the daemon", run)
    parser.add_argument("--rules-dir", metavar="DIR", type=Path, help="where the rules are (default: /etc/bpfd/rules)")
    parser.add_argument("--config", metavar="FILE", type=Path, help="the configuration (default: /etc/bpfd/bpfd.toml)")
    parser.add_argument(
        "--observe", action="store_true", help="only say what would be done to processes and containers"
    )
    parser.add_argument("--strict", action="store_true", help="do not start if a rule file is bad")


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; a second one ends it at once. SIGHUP reads the rules again."""
    settings = _settings(args)
    logs.set_up(debug=args.debug)
    from bpfd.daemon import Daemon

    with Signals() as signals:
        daemon = Daemon(settings, strict=args.strict)
        signals.at_end(daemon.give_up)
        try:
            daemon.start()
        except GivenUpError:
            return 0
        try:
            _announce(daemon, settings)
            while signals.wait() == signal.SIGHUP:
                _reload(daemon)
        finally:
            tell_systemd("STOPPING=1")
            daemon.stop()
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    """The configuration file with the flags over it. Raises SettingsError, UsageError."""
    from dataclasses import replace

    from bpfd.settings import load

    changes: dict[str, Any] = {}
    if args.rules_dir is not None:
        changes["rules_dir"] = args.rules_dir.absolute()
    if args.grpc_addr is not None:
        changes["grpc_addr"] = str(address_of(args))
    if args.observe:
        changes["observe"] = True
    return replace(load(args.config), **changes)


def _announce(daemon: Daemon, settings: Settings) -> None:
    tracers = sorted(tracer.name for tracer in daemon.list_tracers() if tracer.state == "running")
    rules = daemon.list_rules()
    bad = sum(1 for rule in rules if rule.rule is None)
    print(
        f"bpfd: ready: tracers {', '.join(tracers) or 'none'}; {counted(len(rules) - bad, 'rule')}"
        f"{', ' + counted(bad, 'bad file') if bad else ''}; gRPC at {settings.grpc_addr}",
        file=sys.stderr,
        flush=True,
    )
    tell_systemd("READY=1")


def _reload(daemon: Daemon) -> None:
    try:
        daemon.reload()
    except GivenUpError:
        return  # the next signal says why
    except BpfdError as error:
        for line in str(error).split("\n"):
            log.error("%s", line)


class Signals:
    """SIGTERM, SIGINT and SIGHUP, in the order that they came. Main thread only; the block's end restores handlers.

    The kernel may give a signal to any thread, and Python runs its handler on the main one once that does something: so
    that one waits for a byte that the interpreter writes at once (signal.set_wakeup_fd), and not in a lock.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._reader, self._writer = -1, -1
        self._before: dict[int, Any] = {}
        self._ending = False
        self._at_end: Callable[[], None] = lambda: None

    def __enter__(self) -> Signals:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)

    def at_end(self, call: Callable[[], None]) -> None:
        """Call `call`, which must take no lock, when SIGTERM or SIGINT comes, or now if it has come."""
        self._at_end = call
        if self._ending:
            call()

    def wait(self) -> int:
        """The next signal."""
        while self._queue.empty():
            select.select([self._reader], [], [])
            os.read(self._reader, 4096)
        return self._queue.get()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGHUP:
            if self._ending:
                os._exit(128 + number)
            self._ending = True
            self._at_end()
        self._queue.put(number)  # SimpleQueue's put may interrupt itself


def tell_systemd(state: str) -> None:
    """Send `state` to systemd, if it started us and asked for it (sd_notify(3)). A failure is no reason to stop."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    if path.startswith("@"):
        path = "\0" + path[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.sendto(state.encode(), path)
    except OSError as error:
        log.warning("NOTIFY_SOCKET: cannot tell systemd: %s", error.strerror or error)
