"""How events become alerts."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfd import fold
from bpfd.alert import Alert, from_json
from bpfd.counters import Counters
from bpfd.event import Container, Event
from bpfd.fold import Bucket, Folder
from bpfd.outbox import Outbox
from bpfd.posting import Posting
from bpfd.telling import PLAIN, Teller, Telling

S = 1_000_000_000


def event(
    name: str = "/etc/shadow", at_s: float = 0, container: str = "a", rule: str = "r", command: str = "c"
) -> Event:
    where = Container(container * 64, "docker")
    return Event(int(at_s * S), "open", 1, 1, 1, 0, 0, command, 0, {"filename": name}, where, rule)


def test_one_alert_comes_at_once_and_one_summary_at_the_end_of_the_window() -> None:
    teller = Teller(lambda rule: Telling(fold_s=300, by=("containerID", "filename")))
    first = teller.tell([event(at_s=1)], 0)
    assert [alert.kind for alert in first] == ["event"]
    assert teller.tell([event(at_s=2, command="x"), event(at_s=4)], 100) == []
    assert teller.next_s() == 300
    assert teller.due(299) == []
    (summary,) = teller.due(300)
    assert (summary.kind, summary.count, summary.first_ns, summary.event.time) == ("summary", 3, S, 4 * S)
    assert summary.text == "it happened 2 times more within 3 s"
    assert summary.values == {"command": ("c", "x"), "filename": ("/etc/shadow",)}
    assert teller.next_s() is None
    assert [alert.kind for alert in teller.tell([event()], 301)] == ["event"]


def test_what_differs_in_a_field_is_not_folded() -> None:
    teller = Teller(lambda rule: Telling(fold_s=300, by=("containerID", "filename")))
    alerts = teller.tell([event("a"), event("b"), event("a", container="b"), event("a")], 0)
    assert len(alerts) == 3


def test_a_window_without_repeats_has_no_summary() -> None:
    teller = Teller(lambda rule: Telling(fold_s=1, by=("filename",)))
    teller.tell([event()], 0)
    assert teller.due(10) == []


def test_an_attacker_who_makes_every_event_differ_gets_no_memory() -> None:
    teller = Teller(lambda rule: Telling(fold_s=300, by=("filename",)))
    alerts = teller.tell([event(f"/{number}") for number in range(5 * fold.MOST_GROUPS)], 0)
    assert len(alerts) == fold.MOST_GROUPS + 1
    (summary,) = teller.due(1000)
    assert summary.count == 4 * fold.MOST_GROUPS
    assert len(summary.values["filename"]) == 10


def test_a_noisy_rule_is_bounded_and_told_of_in_a_summary_and_others_are_not() -> None:
    teller = Teller(lambda rule: Telling(per_minute=6, burst=3) if rule == "noisy" else PLAIN)
    noisy = [event(rule="noisy", at_s=at) for at in range(10)]
    alerts = teller.tell([*noisy, *[event(rule="quiet")] * 10], 0)
    assert [alert.event.rule for alert in alerts] == ["noisy"] * 3 + ["quiet"] * 10
    (summary,) = teller.due(60)
    assert (summary.count, summary.text) == (7, "it happened 7 times within 6 s")
    assert len(teller.tell(noisy, 60)) == 3


def test_a_single_event_that_was_throttled_is_told_of() -> None:
    teller = Teller(lambda rule: Telling(per_minute=1, burst=1))
    assert len(teller.tell([event(), event()], 0)) == 1
    (summary,) = teller.due(60)
    assert summary.text == "it happened once within 0 s"


def test_an_alert_has_the_rules_message_severity_and_context() -> None:
    before = (event("before"),)
    telling = Telling(
        severity="critical", message=lambda e: f"read {e.data['filename']}", context=lambda e: before, fold_s=1, by=()
    )
    teller = Teller(lambda rule: telling)
    (alert,) = teller.tell([event(), event()], 0)
    assert (alert.severity, alert.text, alert.context) == ("critical", "read /etc/shadow", before)
    (summary,) = teller.due(10)
    assert (summary.severity, summary.text) == ("critical", "read /etc/shadow; it happened once more within 0 s")
    assert summary.context == ()


def test_a_rule_that_changes_tells_what_it_folded() -> None:
    now = Telling(fold_s=300)
    teller = Teller(lambda rule: now)
    teller.tell([event(), event()], 0)
    now = PLAIN
    alerts = teller.tell([event()], 1)
    assert [alert.kind for alert in alerts] == ["event"]
    assert [alert.kind for alert in teller.due(1)] == ["summary"]


def test_a_summary_is_kept_also_when_the_daemon_ends(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, Counters())
    posting = Posting(outbox, "a", lambda rule: Telling(fold_s=3600))
    posting.act_on_batch([event(), event()])
    tick_s = posting.tick()
    assert tick_s is not None
    assert 3590 < tick_s <= 3600
    posting.close()
    assert [from_json(letter.stored.body).kind for letter in outbox.take("a", 9)] == ["event", "summary"]
    outbox.close()


def kept(outbox: Outbox) -> list[Alert]:
    return [from_json(letter.stored.body) for letter in outbox.take("a", 99)]


def test_a_summary_is_kept_also_when_the_daemon_is_killed(tmp_path: Path) -> None:
    killed = Outbox(tmp_path / "killed", Counters())
    posting = Posting(killed, "a", lambda rule: Telling(fold_s=3600, by=("filename",), severity="critical"))
    posting.act_on_batch([event("x"), event("x"), event("once")])
    posting.act_on_batch([event("x", command="other")])
    assert [alert.kind for alert in kept(killed)] == ["event", "event"]
    shutil.copytree(tmp_path / "killed", tmp_path / "after")  # nothing was closed
    after = Outbox(tmp_path / "after", Counters())
    [summary] = [alert for alert in kept(after) if alert.kind == "summary"]
    assert (summary.kind, summary.count, summary.severity) == ("summary", 3, "critical")
    assert summary.values["command"] == ("c", "other")
    assert len(kept(after)) == 3
    after.close()
    killed.close()


def test_the_summary_that_ends_a_window_takes_the_place_of_what_was_kept_of_it(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, Counters())
    posting = Posting(outbox, "a", lambda rule: Telling(fold_s=0.05))
    posting.act_on_batch([event(), event()])
    deadline = time.monotonic() + 10
    while posting.tick() is not None:
        assert time.monotonic() < deadline
    assert [alert.kind for alert in kept(outbox)] == ["event", "summary"]
    outbox.close()
    again = Outbox(tmp_path, Counters())
    assert [alert.kind for alert in kept(again)] == ["event", "summary"]
    again.close()


def test_what_a_rate_holds_back_is_kept_when_the_daemon_is_killed(tmp_path: Path) -> None:
    killed = Outbox(tmp_path / "killed", Counters())
    posting = Posting(killed, "a", lambda rule: Telling(per_minute=1, burst=1))
    posting.act_on_batch([event()] * 1001)
    shutil.copytree(tmp_path / "killed", tmp_path / "after")
    after = Outbox(tmp_path / "after", Counters())
    first, summary = kept(after)
    assert (first.kind, summary.kind, summary.count) == ("event", "summary", 1000)
    after.close()
    killed.close()


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from("abc")), max_size=200))
def test_every_event_is_told_or_counted_in_a_summary(arrivals: list[tuple[float, str]]) -> None:
    folder = Folder(10, ("filename",))
    told, counted = 0, 0
    summaries: list[Alert] = []
    for now_s, name in sorted(arrivals):
        summaries += folder.due(now_s)
        told += folder.add(event(name, at_s=now_s), now_s)
    summaries += folder.due(float("inf"))
    counted = sum(summary.count - 1 for summary in summaries)
    assert told + counted == len(arrivals)
    assert folder.next_s() is None


@given(st.lists(st.floats(0, 600), max_size=300))
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(times: list[float]) -> None:
    bucket = Bucket(per_minute=60, burst=5)
    taken = [now_s for now_s in sorted(times) if bucket.take(now_s)]
    for index, start in enumerate(taken):
        for count, end in enumerate(taken[index:], 1):
            assert count <= 5 + (end - start) + 1e-6
