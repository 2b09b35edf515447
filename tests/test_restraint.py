"""The kernel does not act for a rule that is muted, or that did too much."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bpfd.alert import Alert
from bpfd.errors import LoadError
from bpfd.event import Event
from bpfd.ledger import Ledger
from bpfd.limits import Limits
from bpfd.mutes import Mutes
from bpfd.restraint import Restraint

S = 1_000_000_000


class Kernel:
    """Has rules in force as the daemon does."""

    def __init__(self, place: Path, limits: Limits) -> None:
        self.mutes, self.ledger, self.told = Mutes(place), Ledger(place), list[Alert]()
        self.restraint = Restraint(self.mutes, self.ledger, self.told.append, limits)
        self.restraint.apply = self.apply
        self.holds: frozenset[str] = frozenset()
        self.plan: list[Exception] = []

    def apply(self) -> None:
        if self.plan:
            raise self.plan.pop()
        self.holds = self.restraint.held()
        self.restraint.applied(self.holds)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Kernel]]:
    made: list[Kernel] = []

    def _make(**limits: float) -> Kernel:
        made.append(Kernel(tmp_path, Limits(**limits)))  # type: ignore[arg-type]
        made[-1].restraint.start()
        return made[-1]

    yield _make
    for kernel in made:
        kernel.restraint.stop(5)
        assert not kernel.restraint._thread.is_alive()


def killed(rule: str = "r", pid: int = 7) -> Event:
    return Event(time.time_ns(), "t", pid, pid, 1, 0, 0, "c", 0, {"kernelAction": "kill"}, rule=rule)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.005)


def test_what_the_kernel_did_is_in_the_ledger(make: Callable[..., Kernel]) -> None:
    kernel, event = make(), killed()
    kernel.restraint.note([event])
    [entry] = kernel.ledger.read(9)
    assert (entry.action, entry.rule, entry.result, entry.detail) == ("kill", "r", "done", "inside the kernel")
    assert (entry.target, entry.time_ns) == ("process 7 (c)", event.time)
    assert kernel.holds == frozenset()


def test_a_rule_that_is_muted_is_held_until_the_mute_ends_or_is_ended(make: Callable[..., Kernel]) -> None:
    kernel = make()
    mute = kernel.mutes.add("r", {}, 3600 * S, "we know")
    kernel.restraint.settle()
    assert kernel.holds == {"r"}
    kernel.mutes.remove(mute.id)
    kernel.restraint.settle()
    assert kernel.holds == frozenset()
    kernel.mutes.add("other", {"command": "x"}, 2 * S, "we know")
    kernel.restraint.settle()
    assert kernel.holds == {"other"}
    eventually(lambda: kernel.holds == frozenset())


def test_a_rule_that_did_too_much_rests_and_it_is_told_once(make: Callable[..., Kernel]) -> None:
    kernel = make(in_kernel=3, window_s=2)
    kernel.restraint.note([killed("quiet")] * 3 + [killed("r")] * 3)
    assert kernel.holds == frozenset()
    assert kernel.restraint.problems() == []
    kernel.restraint.note([killed("r")] * 9)  # it was on its way
    assert kernel.holds == {"r"}
    assert len(kernel.ledger.read(99)) == 15
    [alert] = kernel.told
    assert alert.kind == "notice"
    assert alert.text.startswith("kill inside the kernel was carried out more than 3 times within 2 s, at last on proc")
    [problem] = kernel.restraint.problems()
    assert problem.startswith("rule r: the kernel acted for it more than 3 times")
    eventually(lambda: kernel.holds == frozenset())
    assert kernel.restraint.problems() == []


def test_what_the_kernel_did_is_in_the_ledger_also_where_its_rule_cannot_be_held_at_once(
    make: Callable[..., Kernel],
) -> None:
    kernel = make(in_kernel=3)
    kernel.plan = [LoadError("open: the verifier refuses it")]
    kernel.restraint.note([killed()] * 9)
    assert len(kernel.ledger.read(99)) == 9
    assert len(kernel.told) == 1
    eventually(lambda: kernel.holds == {"r"})


def test_what_is_old_does_not_count(make: Callable[..., Kernel]) -> None:
    kernel = make(in_kernel=2, window_s=0.05)
    for _ in range(5):
        kernel.restraint.note([killed()])
        time.sleep(0.03)
    assert kernel.told == []


def test_a_rule_is_held_later_if_the_kernel_had_no_memory_for_that(
    make: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bpfd.restraint._AGAIN_S", 0.01)
    kernel = make(in_kernel=1)
    kernel.plan = [LoadError("no memory"), LoadError("no memory")]
    kernel.restraint.note([killed()] * 2)
    assert len(kernel.told) == 1
    eventually(lambda: kernel.holds == {"r"})
    assert "were not put in force again" in caplog.text
