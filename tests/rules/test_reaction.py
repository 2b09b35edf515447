"""What a rule says of its alerts and responses."""

from __future__ import annotations

import pytest

from bpfd.rules.check import Known
from bpfd.rules.load import parse_rule
from bpfd.rules.model import Count, Fold, Rate, Rule

S = 10**9


def rule(known: Known, text: str) -> Rule:
    return parse_rule(f'tracer = "open"\n{text}', "x.toml", known, "x")


def test_a_rule_that_says_nothing_folds_nothing_and_has_the_default_budget(known: Known) -> None:
    made = rule(known, "")
    assert (made.fold, made.rate, made.context, made.settings) == (None, None, 0, {})


def test_with_fold_alone_by_says_what_repeats_are(known: Known) -> None:
    made = rule(known, 'fold = "5m"\nby = ["containerID", "path"]\n')
    assert made.fold == Fold(300 * S, ("containerID", "path"))
    assert made.window is None


def test_with_fold_and_count_by_belongs_to_both(known: Known) -> None:
    made = rule(known, 'count = 3\nwithin = "10s"\nby = ["containerID"]\nfold = "1h"\n')
    assert made.window == Count(3, 10 * S, ("containerID",))
    assert made.fold == Fold(3600 * S, ("containerID",))


@pytest.mark.parametrize(("by", "fields"), [("process", ("pid",)), ("container", ("containerID",))])
def test_repeats_of_a_sequence_are_folded_by_its_kin(known: Known, by: str, fields: tuple[str, ...]) -> None:
    made = parse_rule(f'sequence = ["a", "b"]\nwithin = "1m"\nby = "{by}"\nfold = "5m"\n', "x.toml", known, "x")
    assert made.fold == Fold(300 * S, fields)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('rate = "10/m"', Rate(10, 10)),
        ('rate = "1/s"\nburst = 5', Rate(60, 5)),
        ('rate = "120/h"', Rate(2, 120)),
        ('rate = "1440/d"\nburst = 1', Rate(1, 1)),
    ],
)
def test_a_rate_is_a_budget_of_alerts(known: Known, text: str, expected: Rate) -> None:
    assert rule(known, text).rate == expected


def test_a_rule_has_settings_of_its_own_for_its_actions(known: Known) -> None:
    made = rule(known, 'actions = ["kill", "slack"]\ntree = true\n[settings.slack]\nchannel = "#web"\n')
    assert made.settings == {"kill": {"tree": True}, "slack": {"channel": "#web"}}


def test_what_is_said_of_one_action_stands_before_what_is_said_of_all(known: Known) -> None:
    made = rule(known, 'actions = ["kill", "interrupt"]\ntree = true\n[settings.kill]\ntree = false\n')
    assert made.settings == {"kill": {"tree": False}, "interrupt": {"tree": True}}
