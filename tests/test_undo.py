"""Responses are taken back after a while, also after a restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bpfd import undo as undo_module
from bpfd.actions.container_pause import ContainerPause
from bpfd.errors import ActionError, TargetGoneError
from bpfd.event import Container, Event
from bpfd.guard import Guard
from bpfd.ledger import Ledger
from bpfd.plugin import Action
from bpfd.undo import Undoer


class Pause(Action):
    """Remember what was taken back."""

    name = "pause"
    responds = True
    undo_after_s = 1.0

    def __init__(self) -> None:
        self.undone: list[tuple[int, str]] = []
        self.plan: list[Exception] = []

    def act(self, event: Event) -> None:
        pass

    def undo(self, event: Event) -> None:
        if self.plan:
            raise self.plan.pop(0)
        self.undone.append((event.pid, event.container.id))


def event(pid: int = 7) -> Event:
    return Event(time.time_ns(), "t", pid, pid, 1, 0, 0, "c", 0, container=Container("ab" * 32, "docker"))


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.005)


@pytest.fixture
def action() -> Pause:
    return Pause()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


@pytest.fixture
def make(tmp_path: Path, action: Pause, ledger: Ledger) -> Iterator[Callable[[], Undoer]]:
    made: list[Undoer] = []

    def _make() -> Undoer:
        made.append(Undoer(tmp_path / "state", {"pause": action}.get, ledger.write))
        return made[-1]

    yield _make
    for undoer in made:
        undoer.stop(5)
        assert not undoer._thread.is_alive()


def test_a_response_is_taken_back_after_its_time(make: Callable[[], Undoer], action: Pause, ledger: Ledger) -> None:
    undoer = make()
    undoer.start()
    Guard(ledger, lambda alert: None, around=undoer.around).respond("pause", action, event())
    assert action.undone == []
    eventually(lambda: action.undone == [(7, "ab" * 32)])
    eventually(lambda: undoer.waiting() == 0)
    eventually(lambda: {(one.action, one.result) for one in ledger.read(9)} == {("pause", "done"), ("pause", "undone")})


def test_it_is_taken_back_after_a_restart_too(make: Callable[[], Undoer], action: Pause) -> None:
    first = make()
    first.start()
    first.later("pause", event(1), 2)
    first.later("pause", event(2), 3600)
    first.stop(5)
    assert action.undone == []
    second = make()
    assert second.waiting() == 2
    second.start()
    eventually(lambda: action.undone == [(1, "ab" * 32)])
    eventually(lambda: second.waiting() == 1)


def test_what_fails_is_tried_again_and_what_has_gone_is_settled(
    make: Callable[[], Undoer], action: Pause, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(undo_module, "_AGAIN_S", 0.01)
    action.plan = [ActionError("docker: it cannot be reached"), ValueError("odd"), TargetGoneError("gone")]
    undoer = make()
    undoer.start()
    undoer.later("pause", event(), 0)
    eventually(lambda: undoer.waiting() == 0)
    assert action.undone == []
    assert caplog.messages == [
        "undo: action pause: docker: it cannot be reached",
        "undo: action pause: ValueError: odd",
    ]


def test_a_container_that_was_paused_again_is_not_let_go_before_the_time_of_the_last_pause(
    make: Callable[[], Undoer], action: Pause, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action, "acts_on", "container", raising=False)
    other = event(8)._replace(container=Container("cd" * 32, "docker"))
    undoer = make()
    undoer.later("pause", event(), 0)
    undoer.later("pause", event(), 3600)
    undoer.later("pause", other, 0)
    undoer.start()
    eventually(lambda: undoer.waiting() == 1)
    assert action.undone == [(8, "cd" * 32)]


def test_an_action_that_cannot_be_made_for_now_is_tried_again(
    make: Callable[[], Undoer], action: Pause, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan: list[Exception] = [RuntimeError("can't start new thread")]

    def find(name: str) -> Pause:
        if plan:
            raise plan.pop()
        return action

    monkeypatch.setattr(undo_module, "_AGAIN_S", 0.01)
    undoer = make()
    undoer._find = find
    undoer.start()
    undoer.later("pause", event(), 0)
    eventually(lambda: undoer.waiting() == 0)
    assert len(action.undone) == 1


def test_what_fails_for_too_long_is_given_up(
    make: Callable[[], Undoer], ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(undo_module, "_GIVE_UP_S", -1.0)
    undoer = make()
    undoer.start()
    undoer.later("no such action", event(), 0)
    eventually(lambda: undoer.waiting() == 0)
    [entry] = ledger.read(9)
    assert (entry.action, entry.result) == ("no such action", "failed")
    assert entry.detail.startswith("not taken back: LookupError: the configuration has no such action")
    assert caplog.messages == [
        "undo: action no such action: LookupError: the configuration has no such action any more; given up"
    ]


@pytest.mark.parametrize("text", ["", "[1]", "[{}]", "{", '[{"due": "x"}]'])
def test_a_damaged_file_is_reported(
    make: Callable[[], Undoer], tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "undo.json").write_text(text)
    assert make().waiting() == 0
    assert "cannot be read" in caplog.text


def test_a_pause_lasts_as_long_as_its_setting_says() -> None:
    assert ContainerPause({"for": "10m"}).undo_after_s == 600
    assert ContainerPause({}).undo_after_s == 0
    with pytest.raises(ActionError, match="for: must be a time"):
        ContainerPause({"for": "never"})


def test_what_is_to_be_taken_back_is_on_disk_before_it_is_done_and_gone_if_it_fails(
    make: Callable[[], Undoer], action: Pause
) -> None:
    undoer = make()
    undoer.start()
    with undoer.around("pause", event(1), 0):
        assert make().waiting() == 1
        assert action.undone == []
    eventually(lambda: action.undone == [(1, "ab" * 32)])
    with pytest.raises(RuntimeError), undoer.around("pause", event(2), 3600):
        raise RuntimeError
    assert undoer.waiting() == make().waiting() == 0
