"""A secret is in nothing that the daemon says, shows, writes or starts."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from tests.actions.receivers import answer, http_receiver
from tests.daemon.running import RunningDaemon, until
from tests.daemon.test_reactions import rule

SECRET = "hunter2-xoxb"
TABLES = """
[actions.room]
type = "slack"
webhook_env = "BPFD_TEST_URL"
retries = 2
retry_first = 0.05
[actions.bot]
type = "slack"
token_env = "BPFD_TEST_SECRET"
channel = "C1"
api = "{url}"
retries = 2
retry_first = 0.05
[actions.hook]
type = "webhook"
url_file = "{file}"
secret_env = "BPFD_TEST_SECRET"
bearer_env = "BPFD_TEST_SECRET"
retries = 2
retry_first = 0.05
[actions.service]
type = "notify"
url_env = "BPFD_TEST_SERVICE"
retries = 2
retry_first = 0.05
[actions.otel]
type = "otlp"
url = "{url}"
bearer_env = "BPFD_TEST_SECRET"
retries = 2
retry_first = 0.05
"""
ACTIONS = ("room", "bot", "hook", "service", "otel")


def arguments(pid: int) -> bytes:
    """What `ps` shows of a process and all that descends from it."""
    found, waiting = b"", [pid]
    while waiting:
        with contextlib.suppress(OSError):
            one = Path(f"/proc/{waiting.pop()}")
            found += (one / "cmdline").read_bytes() + (one / "comm").read_bytes()
            for task in (one / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return found


def test_a_secret_is_in_no_log_list_status_argument_or_file(daemon: RunningDaemon, tmp_path: Path) -> None:
    """Of five notifiers whose receiver refuses what they send, and says back what it was told."""
    watched = tmp_path / "watched"
    watched.write_text("")
    with http_receiver() as receiver:
        receiver.reply = answer(f"500 {SECRET}", SECRET.encode(), f"X-Token: {SECRET}\r\n")
        (tmp_path / "url").write_text(f"{receiver.url}/{SECRET}\n")
        daemon.environment |= {
            "BPFD_TEST_URL": f"{receiver.url}/services/{SECRET}",
            "BPFD_TEST_SECRET": SECRET,
            "BPFD_TEST_SERVICE": f"json://user:{SECRET}@{receiver.url.removeprefix('http://')}/{SECRET}",
        }
        daemon.write_rule("watched", rule(watched, ", ".join(f'"{name}"' for name in ACTIONS)))
        daemon.start("--debug", config=TABLES.format(url=receiver.url, file=tmp_path / "url"))
        watched.read_text()
        until(lambda: len(daemon.json("actions", "dead")) == len(ACTIONS), lambda: daemon.log, 60)
        assert {letter["action"] for letter in daemon.json("actions", "dead")} == set(ACTIONS)
        assert any(SECRET.encode() in str(request.headers).encode() for request in receiver.requests)
        shown = [daemon.bpfd(*words) for words in (
            ("ls", "--json"), ("status", "--json"), ("status",), ("actions",), ("actions", "--json"),
            ("actions", "dead"), ("actions", "dead", "--json"), ("actions", "log", "--json"), ("mutes",),
        )]  # fmt: skip
        shown += [daemon.bpfd("actions", "test", name, code=1) for name in ACTIONS]
        seen = arguments(daemon.pid)
        assert b"notify_service.py" in seen
        daemon.stop()
    assert SECRET not in daemon.log
    assert [text for text in shown if SECRET in text] == []
    assert SECRET.encode() not in seen
    kept = [path for path in daemon.state_dir.rglob("*") if path.is_file()]
    assert {path.name for path in kept} >= {"outbox.db"}
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in kept} == {0o600}
