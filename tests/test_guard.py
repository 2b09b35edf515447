"""What keeps responses from doing harm."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bpfd import guard as guard_module
from bpfd.actions.kill import Kill
from bpfd.alert import Alert
from bpfd.counters import Counters
from bpfd.errors import ActionError, RefusedError, TargetGoneError, WithheldError
from bpfd.event import Container, Event
from bpfd.guard import Guard, Radius
from bpfd.ledger import Entry, Ledger
from bpfd.limits import Limits
from bpfd.plugin import Action
from bpfd.process import read_stat
from bpfd.respond import Actions


class Responder(Action):
    """Remember whom it was to act on."""

    name = "responder"
    responds = True
    raises: Exception | None = None

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.seen: list[int] = []

    def act(self, event: Event) -> None:
        if self.raises is not None:
            raise self.raises
        self.seen.append(event.pid)


class OnContainers(Responder):
    """The same for containers."""

    acts_on = "container"


def event(pid: int = 999_999_999, rule: str = "r", container: str = "") -> Event:
    where = Container(container, "docker") if container else Container()
    return Event(time.time_ns(), "t", pid, pid, 1, 0, 0, "c\nat", 0, container=where, rule=rule)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "state")


@pytest.fixture
def told() -> list[Alert]:
    return []


Make = Callable[..., Guard]


@pytest.fixture
def make(ledger: Ledger, told: list[Alert]) -> Make:
    return lambda **more: Guard(ledger, told.append, **more)


def results(ledger: Ledger) -> list[tuple[str, str]]:
    return [(entry.result, entry.detail) for entry in ledger.read(100)]


def test_a_response_is_carried_out_and_written_down(make: Make, ledger: Ledger) -> None:
    action = Responder({})
    happened = event(container="ab" * 32)
    make().respond("oncall", action, happened)
    assert action.seen == [happened.pid]
    entry = ledger.read(10)[0]
    assert (entry.action, entry.rule, entry.result) == ("oncall", "r", "done")
    assert entry.target == "process 999999999 (c\\nat) in docker abababababab"
    assert entry.event == happened.as_dict()


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (TargetGoneError("it ended"), ("gone", "it ended")),
        (RefusedError("no"), ("refused", "no")),
        (ActionError("broken"), ("failed", "broken")),
        (ValueError("odd"), ("failed", "ValueError: odd")),
    ],
)
def test_what_became_of_it_is_written_down_too(
    make: Make, ledger: Ledger, error: Exception, result: tuple[str, str]
) -> None:
    action = Responder({})
    action.raises = error
    with pytest.raises(type(error)):
        make().respond("a", action, event())
    assert results(ledger) == [result]


def test_beyond_the_blast_radius_a_response_becomes_one_notice(
    make: Make, ledger: Ledger, told: list[Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    action = Responder({})
    guard = make(limits=Limits(per_rule=2, in_all=20))
    for number in range(5):
        try:
            guard.respond("kill", action, event())
        except WithheldError:
            assert number >= 2
    assert len(action.seen) == 2
    assert [entry.result for entry in ledger.read(10)] == ["done"] * 2 + ["withheld"] * 3
    assert [(alert.kind, alert.text) for alert in told] == [
        (
            "notice",
            "kill was not carried out on process 999999999 (c\\nat): there were too many responses within a minute",
        )
    ]
    monkeypatch.setattr(guard_module, "_NOTICE_S", 0.0)
    with pytest.raises(WithheldError):
        guard.respond("kill", action, event())
    assert told[1].text.endswith("; 2 more were withheld before")


def test_the_radius_is_for_each_rule_and_for_all() -> None:
    radius = Radius(per_rule=2, in_all=3, window_s=60)
    assert [radius.take(rule) for rule in ("a", "a", "a", "b", "c")] == [True, True, False, True, False]


def test_the_radius_opens_again_with_time_and_when_nothing_was_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(guard_module.time, "monotonic", lambda: now_s)
    radius = Radius(per_rule=1, in_all=1, window_s=60)
    assert radius.take("a")
    assert not radius.take("a")
    radius.give_back("a")
    assert radius.take("a")
    now_s += 59
    assert not radius.take("a")
    now_s += 2
    assert radius.take("a")


def test_targets_that_had_gone_do_not_use_up_the_radius(make: Make) -> None:
    action = Responder({})
    guard = make(limits=Limits(per_rule=1))
    action.raises = TargetGoneError("gone")
    for _ in range(10):
        with pytest.raises(TargetGoneError):
            guard.respond("a", action, event())
    action.raises = RefusedError("init is never signalled")
    for _ in range(10):
        with pytest.raises(RefusedError):
            guard.respond("a", action, event())
    action.raises = None
    guard.respond("a", action, event())


def test_a_rule_that_observes_only_says_what_it_would_have_done(make: Make, told: list[Alert]) -> None:
    action = Responder({})
    guard = make(observes=lambda rule: "the rule only observes" if rule == "watching" else "")
    with pytest.raises(WithheldError):
        guard.respond("kill", action, event(rule="watching"))
    guard.respond("kill", action, event(rule="acting"))
    assert action.seen == [999_999_999]
    assert "the rule only observes" in told[0].text


def test_a_container_runtime_is_known_by_its_program_and_not_by_its_name(make: Make, tmp_path: Path) -> None:
    program = tmp_path / "dockerd"
    shutil.copy("/bin/sleep", program)
    impostor = tmp_path / "sleep"
    shutil.copy("/bin/sleep", impostor)
    action = Responder({})
    with subprocess.Popen([program, "60"]) as real, subprocess.Popen(["dockerd", "60"], executable=impostor) as fake:
        try:
            with pytest.raises(RefusedError, match="dockerd is protected"):
                make().respond("kill", action, event(real.pid))
            make().respond("kill", action, event(fake.pid))
            with pytest.raises(RefusedError, match="sleep is protected"):
                make(protected=[str(impostor)]).respond("kill", action, event(fake.pid))
        finally:
            real.kill()
            fake.kill()
    assert action.seen == [fake.pid]


def test_a_protected_program_in_a_tree_is_left_alone_with_all_below_it(make: Make, tmp_path: Path) -> None:
    program = tmp_path / "dockerd"
    shutil.copy("/bin/sh", program)
    script = f"sleep 60 & echo $!; {program} -c 'echo $$; sleep 60 & echo $!; wait' & wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as shell:
        assert shell.stdout is not None
        try:
            pids = [int(shell.stdout.readline()) for _ in range(3)]
            [(below, daemon)] = [(pid, above) for pid in pids if (above := read_stat(pid).ppid) in pids]
            [beside] = {*pids} - {daemon, below}
            make().respond("kill", Kill({"tree": True}), event(shell.pid))
            assert shell.wait(20) == -signal.SIGKILL
            assert [read_stat(pid).state in {"S", "R", "D"} for pid in (daemon, below)] == [True, True]
            eventually_gone(beside)
        finally:
            os.killpg(shell.pid, signal.SIGKILL)


def eventually_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    with suppress(TargetGoneError):
        while not read_stat(pid).is_dead:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def apart(program: Path, setup: str = "") -> subprocess.Popen[bytes]:
    """Run `program` in a mount namespace of its own, in which `setup` is done first."""
    process = subprocess.Popen(["unshare", "--mount", "sh", "-ec", f'{setup}\nexec "$0" 60', program])
    deadline = time.monotonic() + 20
    while os.readlink(f"/proc/{process.pid}/exe") != str(program):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def test_a_program_of_that_name_in_a_container_is_not_protected(make: Make, tmp_path: Path) -> None:
    program = tmp_path / "dockerd"
    action = Responder({})
    shutil.copy("/bin/sleep", program)
    with apart(program, f"mount -t tmpfs none {tmp_path}; cp /bin/sleep {program}") as process:
        try:
            make().respond("kill", action, event(process.pid))
        finally:
            process.kill()
    assert len(action.seen) == 1


def test_a_service_that_systemd_gave_a_mount_namespace_of_its_own_is_protected(make: Make, tmp_path: Path) -> None:
    program = tmp_path / "sshd"
    shutil.copy("/bin/sleep", program)
    action = Responder({})
    with apart(program, "mount -t tmpfs none /var/tmp") as process:
        try:
            for name in ("sshd", str(program)):
                with pytest.raises(RefusedError, match="sshd is protected"):
                    make(protected=[name]).respond("kill", action, event(process.pid))
        finally:
            process.kill()
    assert action.seen == []


def test_the_container_that_the_daemon_runs_in_is_refused(make: Make) -> None:
    action = OnContainers({})
    own = Path("/proc/self/mountinfo").read_text().split()[0]
    with pytest.raises(RefusedError, match="the daemon runs in it"):
        make().respond("pause", action, event(container=own))
    with pytest.raises(RefusedError, match="comes from none"):
        make().respond("pause", action, event())
    make().respond("pause", action, event(container="ab" * 32))
    assert len(action.seen) == 1


def test_what_a_guard_withholds_is_counted_by_the_runner(make: Make) -> None:
    counters = Counters()
    actions = Actions({"responder": Responder}, {}, counters, 100, guard=make(limits=Limits(per_rule=1)))
    actions.prepare(["responder"])
    actions.deliver(["responder"], [event(), event(), event()])
    actions.stop(5)
    assert counters.table() == {"action.responder.done": 1, "action.responder.withheld": 2}


def test_a_response_that_comes_too_late_is_not_carried_out_and_that_is_written_down(make: Make, ledger: Ledger) -> None:
    counters = Counters()
    actions = Actions({"responder": Responder}, {"responder": {"expire": 60}}, counters, 100, guard=make())
    actions.deliver(["responder"], [event()._replace(time=time.time_ns() - 90_000_000_000), event()])
    actions.stop(5)
    assert [entry.result for entry in ledger.read(9)] == ["expired", "done"]
    assert counters.table() == {"action.responder.done": 1, "action.responder.expired": 1}


def entry(number: int) -> Entry:
    return Entry(number, "a", "r", "t", "done", "", {})


def test_the_ledger_keeps_the_newest_over_a_rotation(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, max_bytes=1000)
    for number in range(100):
        ledger.write(entry(number))
    kept = [one.time_ns for one in ledger.read(1000)]
    assert kept == list(range(kept[0], 100))
    assert 10 < len(kept) < 40
    assert [one.time_ns for one in ledger.read(3)] == [97, 98, 99]
    assert stat.S_IMODE((tmp_path / "ledger.jsonl.1").stat().st_mode) == 0o600


def test_what_is_no_entry_is_left_out_of_the_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write(entry(1))
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write(b'garbage\n{}\n[]\n{"odd": 1}\n\xff\n')
    ledger.write(entry(2))
    assert [one.time_ns for one in ledger.read(10)] == [1, 2]


def test_a_ledger_that_cannot_be_written_does_not_hold_up_a_response(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("no directory")
    ledger = Ledger(tmp_path / "state")
    action = Responder({})
    for _ in range(2):
        Guard(ledger, lambda alert: None).respond("a", action, event())
    assert len(action.seen) == 2
    assert len(caplog.messages) == 1
