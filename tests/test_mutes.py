"""Matches that nobody wants to hear of for a while."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from bpfd import mutes as mutes_module
from bpfd.counters import Counters
from bpfd.event import Event
from bpfd.mutes import MuteError, Mutes
from bpfd.plugin import Action
from bpfd.respond import Actions

DAY_NS = 86400 * 10**9


def event(rule: str = "secrets", uid: int = 0, filename: str = "/etc/shadow") -> Event:
    return Event(time.time_ns(), "open", 1, 1, 1, uid, 0, "cat", 0, {"filename": filename}, rule=rule)


def test_a_mute_hides_the_matches_of_its_rule_and_counts_them(tmp_path: Path) -> None:
    mutes = Mutes(tmp_path)
    mute = mutes.add("secrets", {}, DAY_NS, "backup")
    assert mutes.passing([event(), event()]) == []
    other = [event(rule="other")]
    assert mutes.passing(other) is other
    assert mute.hidden == 2
    assert [(m.rule, m.why, m.hidden) for m in mutes.in_force()] == [("secrets", "backup", 2)]


def test_a_mute_can_be_bound_to_values_of_fields(tmp_path: Path) -> None:
    mutes = Mutes(tmp_path)
    mutes.add("secrets", {"uid": "7", "filename": "/a"}, DAY_NS, "known")
    hidden, seen = event(uid=7, filename="/a"), [event(uid=8, filename="/a"), event(uid=7)]
    assert mutes.passing([hidden, *seen]) == seen


def test_mutes_survive_a_restart_with_their_counts(tmp_path: Path) -> None:
    first = Mutes(tmp_path / "state")
    mute = first.add("secrets", {"uid": "0"}, DAY_NS, "known")
    first.passing([event()])
    first.close()
    assert Mutes(tmp_path / "state").in_force() == [mute]
    assert mute.hidden == 1
    assert stat.S_IMODE((tmp_path / "state" / "mutes.json").stat().st_mode) == 0o600


def test_a_mute_ends_by_itself(tmp_path: Path) -> None:
    mutes = Mutes(tmp_path)
    mutes.add("secrets", {}, 2_000_000_000, "short")
    assert mutes.passing([event()]) == []
    deadline = time.monotonic() + 20
    while not mutes.passing([event()]):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert mutes.in_force() == []
    assert Mutes(tmp_path).in_force() == []


def test_a_mute_can_be_ended(tmp_path: Path) -> None:
    mutes = Mutes(tmp_path)
    mute = mutes.add("secrets", {}, DAY_NS, "x")
    assert mutes.remove(mute.id) == mute
    assert mutes.passing([event()])
    assert Mutes(tmp_path).in_force() == []
    with pytest.raises(MuteError, match="there is no mute"):
        mutes.remove(mute.id)


def test_a_mute_needs_a_reason_and_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mutes = Mutes(tmp_path)
    with pytest.raises(MuteError, match="why: is missing"):
        mutes.add("r", {}, DAY_NS, " ")
    for for_ns in (0, -1, 400 * DAY_NS):
        with pytest.raises(MuteError, match="for: must be a time"):
            mutes.add("r", {}, for_ns, "x")
    monkeypatch.setattr(mutes_module, "MOST", 1)
    mutes.add("r", {}, DAY_NS, "x")
    with pytest.raises(MuteError, match="already"):
        mutes.add("r", {}, DAY_NS, "x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "[{}]",
        '[{"id": "1", "rule": "r", "where": [], "until_ns": 3, "why": "", "made_ns": 4}]',
        '[{"id": 1, "rule": 2, "where": {}, "until_ns": 3, "why": "", "made_ns": 4}]',
        "3",
    ],
)
def test_a_damaged_file_mutes_nothing_and_is_reported(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mutes.json").write_text(text)
    mutes = Mutes(tmp_path)
    assert mutes.passing([event()])
    assert "is damaged" in caplog.text
    mutes.add("secrets", {}, DAY_NS, "x")
    assert mutes.passing([event()]) == []


def test_a_disk_that_takes_nothing_makes_no_mute(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    mutes = Mutes(tmp_path / "state")
    with pytest.raises(MuteError, match="cannot be"):
        mutes.add("secrets", {}, DAY_NS, "x")
    assert mutes.passing([event()])


def test_what_is_muted_reaches_no_action(tmp_path: Path) -> None:
    class Quiet(Action):
        """Do nothing."""

        name = "quiet"
        durable = False

        def act(self, event: Event) -> None:
            pass

    counters = Counters()
    mutes = Mutes(tmp_path)
    mutes.add("secrets", {"uid": "7"}, DAY_NS, "x")
    actions = Actions({"quiet": Quiet}, {"quiet": {}}, counters, 100, mutes=mutes)
    actions.deliver(["quiet"], [event(uid=7), event(uid=8)])
    actions.deliver(["quiet"], [event(uid=7)])
    actions.stop(5)
    assert counters.table() == {"action.quiet.done": 1}
