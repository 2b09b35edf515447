"""Rules have settings of their own for actions that let them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bpfd import per_rule
from bpfd.acting import Acting
from bpfd.counters import Counters
from bpfd.errors import ActionError
from bpfd.event import Event
from bpfd.per_rule import PerRule
from bpfd.plugin import Action

SEEN: list[tuple[str, str]] = []
OPEN: set[str] = set()


class Paint(Action):
    """Note the color in which it was made."""

    name = "paint"
    settings = {"color": "any but red", "wall": "which"}
    per_rule = ("color",)

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if settings.get("color") == "red":
            raise ActionError("color: must not be red")
        self.label = f"{settings.get('wall', '')}{settings.get('color', 'none')}"
        OPEN.add(self.label)

    def act(self, event: Event) -> None:
        SEEN.append((event.rule, self.label))

    def close(self) -> None:
        OPEN.discard(self.label)


class Hit(Paint):
    """Respond in a color."""

    name = "hit"
    responds = True
    durable = False


class Quick(Paint):
    """Tell at once."""

    name = "quick"
    durable = False


def event(rule: str) -> Event:
    return Event(time.time_ns(), "t", 999_999_999, 1, 1, 0, 0, "c", 0, rule=rule)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()
    OPEN.clear()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, SEEN
        time.sleep(0.005)


@pytest.mark.parametrize("kind", [Paint, Hit, Quick], ids=lambda kind: str(kind.name))
def test_each_rule_gets_what_it_says_over_what_the_configuration_says(kind: type[Paint], tmp_path: Path) -> None:
    own = {"blue": {"color": "blue"}}
    tables = {kind.name: {"wall": "north-"}}
    acting = Acting({kind.name: kind}, tables, tmp_path, Counters(), 100, own=lambda rule, action: own.get(rule, {}))
    acting.actions.deliver((kind.name,), [event("plain")])
    acting.actions.deliver((kind.name,), [event("blue")])
    eventually(lambda: len(SEEN) == 2)
    assert set(SEEN) == {("plain", "north-none"), ("blue", "north-blue")}
    acting.stop(5)
    assert not OPEN


def test_a_rule_that_changes_its_settings_gets_another_action_and_the_old_one_is_closed() -> None:
    own = {"r": {"color": "blue"}}
    by_rule = PerRule(Paint({}), Paint, lambda rule: own.get(rule, {}))
    first = by_rule.of("r")
    assert by_rule.of("r") is first
    own["r"] = {"color": "green"}
    by_rule.act(event("r"))
    assert SEEN == [("r", "green")]
    assert {"none", "green"} == OPEN
    del own["r"]
    by_rule.act(event("r"))
    assert SEEN[-1] == ("r", "none")
    by_rule.close()
    assert not OPEN


def test_many_rules_with_settings_keep_no_more_actions_than_there_is_room_for() -> None:
    by_rule = PerRule(Paint({}), Paint, lambda rule: {"color": rule})
    for number in range(3 * per_rule.MOST):
        by_rule.of(str(number))
    assert len(OPEN) == per_rule.MOST + 1
    by_rule.close()
    assert not OPEN


def test_settings_that_make_no_action_are_refused_by_name(tmp_path: Path) -> None:
    acting = Acting({"paint": Paint}, {}, tmp_path, Counters(), 100)
    acting.actions.check({"paint": {"color": "blue"}})
    with pytest.raises(ActionError, match=r"settings\.paint: color: must not be red"):
        acting.actions.check({"paint": {"color": "red"}})
    acting.stop(5)
    assert not OPEN
