"""The keys of an action's table in the configuration: its own, and those that all actions of its sort have."""

from __future__ import annotations

from collections.abc import Mapping

from bpfd.control import ActionStatus
from bpfd.plugin import Action, one_line

TYPE = "the action that this is an instance of; left out: the table's name"
BY_RULE = "a rule may set it"


def common_keys(action_class: type[Action]) -> Mapping[str, str]:
    """The keys that every action of this sort has in its table, beside its own `settings`, each with its line."""
    if action_class.responds:
        return {"type": TYPE, "expire": "how long after its event a response is still carried out; that of [limits]"}
    if action_class.durable:
        return {
            "type": TYPE,
            "retries": "how often an alert is tried before it is given up as a dead letter; 50",
            "retry_first": "the wait after the first failure, which doubles with each; 1s",
            "retry_longest": "the longest wait between two tries; 10m",
            "keep": "the age at which an alert is given up; that of [limits]",
        }
    return {"type": TYPE}


def status(name: str, action_class: type[Action]) -> ActionStatus:
    """What lists show of the action, or of a configured instance of it, called `name`."""
    own = {
        key: f"{text}; {BY_RULE}" if key in action_class.per_rule else text
        for key, text in action_class.settings.items()
    }
    keys = {**own, **common_keys(action_class)}
    return ActionStatus(name, one_line(action_class), action_class.responds, keys, action_class.per_rule)
