"""The program with a daemon that has no kernel: `bpfd.daemon` is replaced before the command imports it.

The rules directory's name chooses how it behaves: `…/fails` does not start, `…/slow` takes its time to stop.
"""

from __future__ import annotations

import sys
import time
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bpfd.api.server import Server
from bpfd.cli import run
from bpfd.errors import LoadError, RuleError
from bpfd.settings import Settings
from tests.api.fake_control import FakeControl


class Daemon(FakeControl):
    def __init__(self, settings: Settings, *, strict: bool) -> None:
        super().__init__()
        self._settings = settings
        self._server = Server(self, settings.grpc_addr)
        print(f"strict={strict} rules={settings.rules_dir} queue={settings.trace_queue}", file=sys.stderr)

    def give_up(self) -> None:
        """Nothing is loaded here."""

    def start(self) -> None:
        if self._settings.rules_dir.name == "fails":
            raise LoadError("open: no tracefs\nexec: no tracefs")
        self._server.start()

    def reload(self) -> None:
        raise RuleError(["/r/a\x1b.toml:1: bad", "/r/a.toml:2: worse"])

    def stop(self) -> None:
        print("stopping", file=sys.stderr, flush=True)
        if self._settings.rules_dir.name == "slow":
            time.sleep(60)
        self._server.stop()


module = types.ModuleType("bpfd.daemon")
module.Daemon = Daemon
sys.modules["bpfd.daemon"] = module
run()
