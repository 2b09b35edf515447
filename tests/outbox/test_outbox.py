"""Alerts wait until they are delivered or given up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfd import alert as alerts
from bpfd import outbox as outbox_module
from bpfd.alert import Alert
from bpfd.counters import Counters
from bpfd.delivery import Delivery, Retry
from bpfd.errors import ActionError, RejectedError, RetryLaterError
from bpfd.event import Event
from bpfd.outbox import Outbox
from bpfd.respond import Actions
from tests.outbox.receiver import FAST, Receiver, event, eventually


def test_what_waits_is_delivered_in_order_and_forgotten(
    outbox: Outbox, receiver: Receiver, deliver: Callable[..., Delivery], counters: Counters
) -> None:
    sent = [Alert(event(pid)) for pid in range(200)]
    outbox.put("a", sent[:100])
    deliver()
    outbox.put("a", sent[100:])
    eventually(lambda: len(receiver.got) == 200)
    assert receiver.got == sent
    eventually(lambda: outbox.waiting() == {})
    assert counters.table() == {"action.a.done": 200}


def test_what_was_pending_is_sent_after_a_restart(tmp_path: Path, counters: Counters, receiver: Receiver) -> None:
    first = Outbox(tmp_path, counters)
    sent = Alert(event())
    first.put("a", [sent])
    first.close()
    second = Outbox(tmp_path, counters)
    delivery = Delivery("a", receiver, second, counters, FAST)
    eventually(lambda: receiver.got == [sent])
    delivery.stop(5)
    second.close()
    assert receiver.closed == 1


def test_a_failure_is_tried_again_with_the_same_id(
    outbox: Outbox, receiver: Receiver, deliver: Callable[..., Delivery], counters: Counters
) -> None:
    receiver.plan = [ActionError("no"), ConnectionResetError("closed"), ValueError("odd")]
    sent = Alert(event())
    outbox.put("a", [sent])
    deliver()
    eventually(lambda: receiver.got == [sent])
    eventually(lambda: counters.table() == {"action.a.done": 1, "action.a.retried": 3})


def test_a_receiver_that_asks_for_time_gets_it_and_the_others_wait_too(
    outbox: Outbox, receiver: Receiver, deliver: Callable[..., Delivery]
) -> None:
    receiver.plan = [RetryLaterError("busy", after_s=0.3)]
    outbox.put("a", [Alert(event(1)), Alert(event(2))])
    began = time.monotonic()
    deliver()
    eventually(lambda: len(receiver.got) == 2)
    assert time.monotonic() - began >= 0.3


def test_after_the_last_try_an_alert_is_a_dead_letter_that_can_be_sent_again(
    outbox: Outbox, receiver: Receiver, deliver: Callable[..., Delivery], counters: Counters
) -> None:
    receiver.plan = [ActionError("no")] * 5
    sent = Alert(event())
    outbox.put("a", [sent])
    deliver()
    eventually(lambda: outbox.waiting() == {"a": (0, 1)})
    dead = outbox.dead()
    assert [(letter.action, letter.problem, letter.tries) for letter in dead] == [("a", "no", 5)]
    assert counters.table() == {"action.a.dead": 1, "action.a.retried": 5, "alerts.given_up.notice": 1}
    assert outbox.retry("other") == 0
    assert outbox.retry("a") == 1
    eventually(lambda: receiver.got == [sent])


def test_what_is_rejected_is_not_tried_again(
    outbox: Outbox, receiver: Receiver, deliver: Callable[..., Delivery], counters: Counters
) -> None:
    receiver.plan = [RejectedError("never")]
    outbox.put("a", [Alert(event(1)), Alert(event(2))])
    deliver()
    eventually(lambda: len(receiver.got) == 1)
    eventually(lambda: outbox.waiting() == {"a": (0, 1)})
    assert receiver.got[0].event.pid == 2
    assert counters.table()["action.a.dead"] == 1


def test_what_is_too_old_is_given_up(
    outbox: Outbox, receiver: Receiver, deliver: Callable[..., Delivery], counters: Counters
) -> None:
    outbox.put("a", [Alert(event())])
    deliver(Retry(keep_s=0))
    eventually(lambda: outbox.waiting() == {"a": (0, 1)})
    assert "too old" in outbox.dead()[0].problem
    assert receiver.got == []


def test_one_alert_that_always_fails_does_not_hold_up_the_others(
    outbox: Outbox, receiver: Receiver, deliver: Callable[..., Delivery]
) -> None:
    def poisoned(alert: Alert) -> None:
        if alert.event.pid == 0:
            raise ActionError("poison")

    receiver.always = poisoned
    outbox.put("a", [Alert(event(pid)) for pid in range(50)])
    deliver(Retry(first_s=0.2, longest_s=10, tries=50))
    eventually(lambda: len(receiver.got) == 49)


def test_waits_grow_are_spread_and_have_an_end() -> None:
    retry = Retry(first_s=1, longest_s=100)
    for failures in range(1, 2000):
        whole = min(100, 2 ** min(failures - 1, 60))
        assert whole / 2 <= retry.wait_s(failures, 100) <= whole


def test_one_that_hangs_does_not_hold_up_the_end_and_its_alert_stays(
    outbox: Outbox, receiver: Receiver, deliver: Callable[..., Delivery], caplog: pytest.LogCaptureFixture
) -> None:
    entered, let_go = threading.Event(), threading.Event()

    def hang(alert: Alert) -> None:
        entered.set()
        let_go.wait()
        raise ActionError("interrupted")

    receiver.always = hang
    outbox.put("a", [Alert(event())])
    delivery = deliver()
    assert entered.wait(5)
    began = time.monotonic()
    delivery.stop(0.1)
    assert time.monotonic() - began < 2
    assert "still sending" in caplog.text
    assert outbox.waiting() == {"a": (1, 0)}
    let_go.set()


def test_one_action_cannot_take_the_room_of_another(tmp_path: Path, counters: Counters) -> None:
    box = Outbox(tmp_path, counters, limit=10)
    box.put("hanging", [Alert(event()) for _ in range(15)])
    box.put("hanging", [Alert(event())])
    box.put("other", [Alert(event())])
    assert box.waiting() == {"hanging": (10, 0), "other": (1, 0)}
    assert counters.table() == {"action.hanging.dropped": 6, "alerts.given_up.notice": 6}
    box.close()


def test_a_clock_that_was_set_back_does_not_keep_alerts_waiting(outbox: Outbox) -> None:
    outbox.put("a", [Alert(event())])
    outbox.postpone(outbox.take("a", 1)[0], 365 * 86400, "clock")
    assert len(outbox.take("a", 1)) == 1


def test_the_oldest_dead_letters_are_forgotten(
    outbox: Outbox, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "KEEP_DEAD", 3)
    outbox.put("a", [Alert(event(pid)) for pid in range(5)])
    for letter in outbox.take("a", 5):
        outbox.bury(letter, "no")
    assert [alerts.from_json(letter.body).event.pid for letter in outbox.dead()] == [2, 3, 4]
    assert counters.table() == {"alerts.given_up.notice": 5, "outbox.forgotten": 2}


def test_durable_notifiers_go_through_the_outbox_and_others_do_not(outbox: Outbox, counters: Counters) -> None:
    class Direct(Receiver):
        """Told at once."""

        durable = False

        def act(self, event: Event) -> None:
            self.got.append(Alert(event))

    actions = Actions(
        {"receiver": Receiver, "direct": Direct},
        {"receiver": {"retry_first": 0.01}, "direct": {}},
        counters,
        100,
        outbox,
    )
    actions.deliver(["receiver", "direct"], [event(), event()])
    eventually(lambda: counters.table().get("action.receiver.done") == 2)
    actions.stop(5)
    assert counters.table() == {"action.direct.done": 2, "action.receiver.done": 2, "action.receiver.stored": 2}


text = st.text(st.characters(exclude_categories=())) | st.binary().map(lambda b: b.decode("utf-8", "surrogateescape"))


@given(command=text, value=text, said=st.text())
def test_an_alert_comes_back_from_disk_as_it_is_shown(command: str, value: str, said: str) -> None:
    one = Alert(
        event()._replace(command=command, data={"k": value}),
        kind="summary",
        text=said,
        count=3,
        first_ns=5,
        values={"k": ("a", "b")},
        context=(event(1),),
    )
    back = alerts.from_json(one.to_json())
    assert back.as_dict() == one.as_dict()
    assert alerts.from_json(back.to_json()) == back


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"alert": 3}', b"\xff", b'{"alert": {"id": "x"}}'])
def test_what_is_no_alert_is_given_up(
    body: bytes, outbox: Outbox, deliver: Callable[..., Delivery], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match=r"."):
        alerts.from_json(body)
    caplog.set_level(logging.ERROR)
    outbox.put("a", [Alert(event())])
    assert outbox._spool._disk is not None
    outbox._spool._disk._db.execute("UPDATE letter SET body = ?", (body,))
    deliver()
    eventually(lambda: outbox.waiting() == {"a": (0, 1)})
