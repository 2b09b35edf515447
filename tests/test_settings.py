"""What the configuration says of limits, protection and observing, and how its mistakes are named."""

from __future__ import annotations

import pytest
import tomli

from bpfd.errors import SettingsError
from bpfd.limits import Limits
from bpfd.settings import Settings, parse

GOOD = """
protected = ["sshd", "/usr/sbin/nginx", "container:registry"]
observe = true

[limits]
responses_per_rule = 1
responses = 3
kernel_responses_per_rule = 100
expire = 0.5
outbox_size = "64m"
outbox_age = "12h"
"""
BAD = {
    "a list that is none": (
        "protected = 'sshd'",
        'protected: must be a list of programs\' names, absolute paths or "container:NAME"',
    ),
    "a relative path": (
        'protected = ["bin/sshd"]',
        'protected: must be a list of programs\' names, absolute paths or "container:NAME"',
    ),
    "no yes and no no": ("observe = 1", "observe: must be true or false"),
    "no table": ("limits = 5", "limits: must be a table: [limits]"),
    "too few": ("[limits]\nresponses = -1", "limits.responses: must be a whole number from 0 to 1000000"),
    "a misspelt limit": ("[limits]\nrespones = 1", 'limits.respones: is no key of [limits]; did you mean "responses"?'),
    "no time": (
        "[limits]\nexpire = 'soon'",
        'limits.expire: must be a time from 0.001 to 3600 seconds, such as 30 or "5m"',
    ),
    "too small": (
        "[limits]\noutbox_size = 4096",
        'limits.outbox_size: must be a size from 1048576 to 1099511627776 bytes, such as 65536 or "10m"',
    ),
}


def test_limits_protection_and_observing_can_be_set() -> None:
    settings = parse(tomli.loads(GOOD), "x")
    assert settings.limits == Limits(1, 3, 60, 0.5, 64 << 20, 12 * 3600, in_kernel=100)
    assert settings.protected == ("sshd", "/usr/sbin/nginx", "container:registry")
    assert settings.observe


def test_without_a_word_there_are_five_responses_a_minute_for_a_rule_and_twenty_in_all() -> None:
    limits = Settings().limits
    assert (limits.per_rule, limits.in_all, limits.window_s, limits.expire_s) == (5, 20, 60, 5)


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD)
def test_a_mistake_is_named_with_its_key(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(tomli.loads(text), "x.toml")
    assert str(caught.value) == f"x.toml: {said}"


def test_all_mistakes_of_a_table_are_named() -> None:
    with pytest.raises(SettingsError) as caught:
        parse({"limits": {"responses": "many", "expire": 0}, "observe": 0}, "x.toml")
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "limits.responses",
        "limits.expire",
        "observe",
    ]
