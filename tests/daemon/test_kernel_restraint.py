"""What the kernel does by itself is in the ledger, and it rests where a rule is muted or did too much."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.daemon.running import RunningDaemon, until

GUARD = (
    'tracer = "open"\nactions = ["kill", "stdout"]\nwhere = "kernel"\n{more}\n[filterEvents.path]\nis = ["{path}"]\n'
)


@pytest.fixture
def forbidden(tmp_path: Path) -> Path:
    path = tmp_path / "forbidden"
    path.write_text("secret\n")
    return path


def read(path: Path, program: str = "cat") -> tuple[int, bytes]:
    """The status of a program that reads the file, and what it printed."""
    done = subprocess.run([program, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.returncode, done.stdout


def test_what_the_kernel_did_is_in_the_ledger(daemon: RunningDaemon, forbidden: Path) -> None:
    daemon.write_rule("guard", GUARD.format(path=forbidden, more=""))
    daemon.start()
    assert read(forbidden) == (-9, b"")
    [entry] = until(lambda: daemon.json("actions", "log"), lambda: daemon.log)
    assert (entry["action"], entry["rule"], entry["result"]) == ("kill", "guard", "done")
    assert entry["detail"] == "inside the kernel"
    assert entry["target"].endswith("(cat)")
    assert entry["event"]["data"]["kernelAction"] == "kill"
    until(lambda: daemon.json("status")["counters"]["action.kernel.done"] == 1, lambda: daemon.json("status"))


def test_the_kernel_does_not_act_for_a_rule_that_is_muted_also_after_a_restart(
    daemon: RunningDaemon, forbidden: Path
) -> None:
    daemon.write_rule("guard", GUARD.format(path=forbidden, more=""))
    daemon.start()
    assert read(forbidden) == (-9, b"")
    until(lambda: daemon.rule("guard")["matched"] == 1, lambda: daemon.rule("guard"))
    daemon.bpfd("mute", "guard", "--for", "1h", "--why", "we know")
    assert [read(forbidden) for _ in range(5)] == [(0, b"secret\n")] * 5
    until(lambda: daemon.rule("guard")["matched"] == 6, lambda: daemon.rule("guard"))
    until(lambda: daemon.json("mutes")[0]["hidden"] >= 5, lambda: daemon.json("mutes"))
    [mute] = daemon.json("mutes")
    assert mute["hidden"] == 5
    daemon.stop()
    daemon.start()
    assert read(forbidden) == (0, b"secret\n")
    daemon.bpfd("unmute", mute["id"])
    assert read(forbidden) == (-9, b"")


def test_what_a_mute_does_not_hide_is_ended_from_user_space_meanwhile(daemon: RunningDaemon, forbidden: Path) -> None:
    daemon.write_rule("guard", GUARD.format(path=forbidden, more=""))
    daemon.start(config='[limits]\nexpire = "5m"\n')
    daemon.bpfd("mute", "guard", "command=cat", "--for", "1h", "--why", "we know")
    assert read(forbidden) == (0, b"secret\n")
    other = subprocess.Popen(["tail", "-f", str(forbidden)], stdout=subprocess.DEVNULL)
    try:
        assert other.wait(60) == -9
    finally:
        other.kill()
        other.wait()
    [entry] = until(lambda: daemon.json("actions", "log"), lambda: daemon.log)
    assert (entry["target"], entry["detail"]) == (f"process {other.pid} (tail)", "")


def test_the_kernel_rests_for_a_rule_that_did_too_much_and_an_alert_says_so(
    daemon: RunningDaemon, forbidden: Path
) -> None:
    daemon.write_rule("guard", GUARD.format(path=forbidden, more='severity = "critical"'))
    daemon.write_rule("other", GUARD.format(path=f"{forbidden}2", more=""))
    Path(f"{forbidden}2").write_text("secret\n")
    daemon.start(config="[limits]\nkernel_responses_per_rule = 3\nresponses_per_rule = 1\n")
    assert [read(forbidden) for _ in range(4)] == [(-9, b"")] * 4
    until(lambda: read(forbidden) == (0, b"secret\n"), lambda: daemon.log)
    told = daemon.wait_for(lambda event: "inside the kernel was carried out" in event.get("alert", {}).get("text", ""))
    assert (told[0]["rule"], told[0]["alert"]["kind"], told[0]["alert"]["severity"]) == ("guard", "notice", "critical")
    assert any(
        line.startswith("rule guard: the kernel acted for it more") for line in daemon.json("status")["problems"]
    )
    assert read(Path(f"{forbidden}2")) == (-9, b"")
    entries = [one for one in daemon.json("actions", "log") if one["rule"] == "guard"]
    assert [one["detail"] for one in entries[:4]] == ["inside the kernel"] * 4


def test_a_rule_that_observes_never_acts_in_the_kernel(daemon: RunningDaemon, forbidden: Path) -> None:
    text = GUARD.format(path=forbidden, more='mode = "observe"')
    daemon.write_rule("bad", text)
    daemon.start()
    assert 'where: is "kernel", but mode = "observe" runs no action' in daemon.rule("bad")["problem"]
    daemon.create("watch", text.replace('where = "kernel"\n', ""))
    assert read(forbidden) == (0, b"secret\n")
    daemon.wait_for(lambda event: event["rule"] == "watch" and event["alert"]["kind"] == "notice")
    daemon.stop()
    daemon.write_rule("guard", GUARD.format(path=forbidden, more=""))
    daemon.start("--observe")
    assert [read(forbidden) for _ in range(3)] == [(0, b"secret\n")] * 3
    until(lambda: daemon.rule("guard")["matched"] == 3, lambda: daemon.rule("guard"))
    daemon.bpfd("mute", "guard", "--for", "1h", "--why", "what is muted and let go observes still")
    daemon.bpfd("unmute", daemon.json("mutes")[0]["id"])
    assert read(forbidden) == (0, b"secret\n")
    assert {one["result"] for one in daemon.json("actions", "log")} == {"withheld"}
