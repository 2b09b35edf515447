"""What goes wrong around the daemon, its disk, its receivers, Docker and a flood, keeps no event and loses no alert."""

from __future__ import annotations

import contextlib
import json
import stat
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfd.containers.cgroups import find_hierarchy
from tests.actions.receivers import HttpReceiver, answer, hang, http_receiver
from tests.containers.cgroup_dirs import own_cgroup
from tests.daemon.running import RunningDaemon, until
from tests.daemon.test_reactions import config, rule, told

FLOOD = 10_000


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("")
    return path


def counters(daemon: RunningDaemon) -> Counter[str]:
    return Counter(daemon.json("status")["counters"])


def ids(receiver: HttpReceiver) -> set[str]:
    return {request.headers["webhook-id"] for request in list(receiver.requests)}


@pytest.mark.parametrize("where", [0, 8192], ids=["from its first byte", "in the middle"])
def test_a_corrupt_outbox_is_moved_aside_and_reported_and_a_new_one_started(
    daemon: RunningDaemon, secret: Path, where: int
) -> None:
    outbox = daemon.state_dir / "outbox.db"
    daemon.write_rule("secret", rule(secret, '"hook"'))
    with http_receiver() as receiver:
        receiver.reply = answer("503 Busy")
        daemon.start(config=config(receiver))
        secret.read_text()
        until(lambda: receiver.requests, lambda: daemon.log)
        daemon.stop()
        with outbox.open("r+b") as file:
            file.seek(where)
            file.write(b"\xa5" * (outbox.stat().st_size - where))
        receiver.reply = answer("200 OK")
        daemon.start(config=config(receiver))
        assert f"{outbox}: cannot be read: " in daemon.log
        assert f"moved to {outbox}.corrupt-" in daemon.log
        assert counters(daemon)["outbox.corrupt"] == 1
        receiver.requests.clear()
        secret.read_text()
        until(lambda: receiver.requests, lambda: daemon.log)
        assert daemon.json("status")["problems"] == []
    [kept] = daemon.state_dir.glob("outbox.db.corrupt-*")
    assert kept.read_bytes().endswith(b"\xa5" * 4096)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (outbox, kept)} == {0o600}


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """A file system of its own that is soon full."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "bpfd-test", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_on_a_full_disk_the_daemon_goes_on_and_alerts_wait_in_memory_until_there_is_room(
    daemon: RunningDaemon, secret: Path
) -> None:
    retries = "retry_first = 0.05\nretry_longest = 0.5\nretries = 1000\n"
    with small_disk(daemon.state_dir, "2m"), http_receiver() as receiver:
        receiver.reply = answer("503 Busy")
        daemon.write_rule("secret", rule(secret, '"hook"'))
        daemon.start(config=config(receiver) + retries)
        fill(daemon.state_dir / "filler")
        opens = 0
        while not counters(daemon)["outbox.memory"]:
            assert opens < 5000, daemon.log
            for _ in range(20):
                secret.read_text()
            opens += 20
        [problem] = daemon.json("status")["problems"]
        assert "alerts are kept in memory until the disk takes them" in problem
        assert problem in daemon.log
        said = daemon.bpfd("mute", "secret", "--for", "1h", "--why", "x", code=1)
        assert "mutes.json: cannot be written: No space left on device" in said
        until(lambda: daemon.rule("secret")["matched"] == opens, lambda: daemon.rule("secret"))
        receiver.reply = answer("200 OK")
        (daemon.state_dir / "filler").unlink()
        secret.read_text()
        until(lambda: len(ids(receiver)) >= opens + 1, lambda: (opens, len(ids(receiver)), daemon.log), 60)
        assert daemon.json("status")["problems"] == []
        assert counters(daemon)["action.hook.dropped"] == 0
        daemon.stop()
    assert len(ids(receiver)) == opens + 1


def test_ten_thousand_alerts_in_a_second_are_kept_and_the_one_that_matters_is_sent_first(
    daemon: RunningDaemon, tmp_path: Path, brief: Path, secret: Path
) -> None:
    noise = tmp_path / "noise"
    noise.write_text("")
    with http_receiver() as receiver:
        receiver.reply = hang
        daemon.write_rule("noisy", rule(noise, '"hook"', 'severity = "notice"'))
        daemon.write_rule("breach", rule(secret, '"hook"', 'severity = "critical"'))
        daemon.start(config=f"{config(receiver)}timeout = 0.5\nretry_first = 0.1\nretry_longest = 0.1\n")
        subprocess.run([str(brief), "open", str(noise), str(FLOOD)], check=True, stdout=subprocess.DEVNULL)
        until(lambda: counters(daemon)["action.hook.stored"] == FLOOD, lambda: counters(daemon), 30)
        assert daemon.rule("noisy")["matched"] == FLOOD
        assert daemon.tracer("open")["lost"] == 0
        assert counters(daemon)["action.hook.dropped"] == 0
        secret.read_text()
        until(lambda: counters(daemon)["action.hook.stored"] == FLOOD + 1, lambda: daemon.log)
        receiver.requests.clear()
        receiver.reply = answer("200 OK")

        def at() -> int:
            """The place of the alert that matters among those that arrived; 0: it has not arrived."""
            return 1 + [event["rule"] for event in told(receiver)].index("breach") if "breach" in rules() else 0

        def rules() -> set[str]:
            return {event["rule"] for event in told(receiver)}

        assert until(at, lambda: daemon.log, 60) <= 20


@pytest.mark.serial
def test_a_slack_that_hangs_holds_up_neither_events_nor_other_actions_nor_the_end(
    daemon: RunningDaemon, brief: Path, secret: Path
) -> None:
    with http_receiver() as slack:
        slack.reply = hang
        daemon.environment["BPFD_TEST_SLACK"] = f"{slack.url}/services/hunter2"
        daemon.write_rule("secret", rule(secret, '"slack", "stdout"'))
        table = '[actions.slack]\nwebhook_env = "BPFD_TEST_SLACK"\nretry_first = 0.05\nretry_longest = 0.5\n'
        daemon.start(config=table)
        secret.read_text()
        until(lambda: slack.requests, lambda: daemon.log)
        subprocess.run([str(brief), "open", str(secret), "5000"], check=True, stdout=subprocess.DEVNULL)
        until(lambda: len(daemon.lines.read()) == 5001, lambda: counters(daemon), 30)
        assert daemon.tracer("open")["lost"] == 0
        until(lambda: counters(daemon)["action.slack.stored"] == 5001, lambda: counters(daemon))
        assert len(slack.requests) < 10
        assert "hunter2" not in daemon.stop()  # within five seconds, for it has the machine for itself
        slack.requests.clear()
        slack.reply = answer("200 OK", b"ok")
        daemon.start(config=table)
        until(lambda: len(slack.requests) > 100, lambda: daemon.log, 60)


def test_a_response_through_a_docker_that_is_away_fails_and_says_so_and_the_others_go_on(
    daemon: RunningDaemon, secret: Path
) -> None:
    daemon.write_rule("stop", rule(secret, '"container_stop", "stdout"', "[container]\nhost = false"))
    with own_cgroup(find_hierarchy().mount) as own:
        group = own / "docker" / ("7b" * 32)
        group.mkdir(parents=True)
        daemon.start()
        command = f'echo $$ > "{group}/cgroup.procs" && exec cat "{secret}"'
        for _ in range(3):
            subprocess.run(["sh", "-c", command], check=True)
        daemon.wait_for(lambda event: event["containerID"] == "7b" * 32, 3)
        entries = until(lambda: daemon.json("actions", "log"), lambda: daemon.log)
        until(lambda: counters(daemon)["action.container_stop.failed"] == 3, lambda: counters(daemon))
    assert (entries[0]["result"], entries[0]["detail"]) == ("failed", "docker: it cannot be reached")
    assert "action container_stop: docker: it cannot be reached" in daemon.log


def test_a_summary_is_sent_after_the_daemon_was_killed(daemon: RunningDaemon, secret: Path) -> None:
    with http_receiver() as receiver:
        daemon.write_rule("secret", rule(secret, '"hook"', 'fold = "1h"'))
        daemon.start(config=config(receiver))
        for _ in range(5):
            secret.read_text()
        until(lambda: counters(daemon)["action.hook.stored"] == 5, lambda: counters(daemon))
        daemon.kill()
        assert {event["alert"]["kind"] for event in told(receiver)} <= {"event"}
        daemon.start(config=config(receiver))
        until(lambda: len(ids(receiver)) == 2, lambda: daemon.log, 30)
    [summary] = [event["alert"] for event in told(receiver) if event["alert"]["kind"] == "summary"]
    assert (summary["count"], summary["values"]["filename"]) == (5, [str(secret)])


def test_alerts_for_an_action_that_was_taken_out_of_the_configuration_become_dead_letters(
    daemon: RunningDaemon, secret: Path
) -> None:
    with http_receiver() as receiver:
        receiver.reply = answer("503 Busy")
        daemon.write_rule("secret", rule(secret, '"hook"'))
        daemon.start(config=config(receiver))
        secret.read_text()
        until(lambda: receiver.requests, lambda: daemon.log)
        daemon.stop()
        daemon.write_rule("secret", rule(secret, '"stdout"'))
        daemon.start()
        [problem] = daemon.json("status")["problems"]
        assert problem.startswith("action hook: does not run, so that 1 of its alerts wait until they are too old")
        daemon.stop()
        daemon.start(config='[limits]\noutbox_age = "1s"\n')
        [letter] = until(lambda: daemon.json("actions", "dead"), lambda: daemon.log)
        assert (letter["action"], letter["rule"]) == ("hook", "secret")
        assert letter["problem"] == "too old; there is no such action any more"
        daemon.stop()
        receiver.requests.clear()
        receiver.reply = answer("200 OK")
        daemon.start(config=config(receiver))
        daemon.bpfd("actions", "retry")
        until(lambda: receiver.requests, lambda: daemon.log)
        assert json.loads(receiver.requests[0].body)["rule"] == "secret"
