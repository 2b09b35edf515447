"""The readable line of an event."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfd.event import Container, Event
from bpfd.format import line

EVENT = Event(
    time=1_764_000_000_123_456_789,
    tracer="open",
    pid=42,
    tid=43,
    ppid=1,
    uid=1000,
    gid=1000,
    command="cat",
    return_value=-2,
    data={"filename": "/etc/shadow", "flags": "O_RDONLY|O_CLOEXEC"},
    container=Container("0123456789abcdef" * 4, "docker"),
    rule="secrets",
)

text = st.text(st.characters(exclude_categories=())) | st.binary().map(lambda b: b.decode("utf-8", "surrogateescape"))


@pytest.fixture(autouse=True)
def _in_utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def test_a_line_says_when_which_rule_who_where_and_what() -> None:
    assert line(EVENT) == (
        "2025-11-24 16:00:00.123 secrets open cat[42] uid=1000 docker:0123456789ab returned=ENOENT "
        'filename=/etc/shadow flags="O_RDONLY|O_CLOEXEC"'
    ).replace('"', "")


def test_the_host_a_missing_rule_and_a_plain_success_are_short() -> None:
    event = EVENT._replace(container=Container(), rule="", return_value=0, data={})
    assert line(event) == "2025-11-24 16:00:00.123 - open cat[42] uid=1000 host"


def test_a_container_goes_by_its_name_once_that_is_known() -> None:
    assert " docker:web " in line(EVENT._replace(container=Container("ab" * 32, "docker", name="web")))


def test_a_descriptor_is_shown_as_a_number() -> None:
    assert " returned=3 " in line(EVENT._replace(return_value=3))


def test_a_value_that_could_be_taken_for_another_part_of_the_line_is_quoted() -> None:
    event = EVENT._replace(data={"filename": 'a" uid=0', "argv": ""}, command="x[1] uid=0")
    assert line(event).endswith('filename="a\\" uid=0" argv=""')
    assert ' "x[1] uid=0"[42] ' in line(event)


def test_colors_frame_the_rule_and_nothing_else_brings_an_escape() -> None:
    event = EVENT._replace(data={"filename": "\x1b[2J"})
    assert line(event, color=True).startswith("2025-11-24 16:00:00.123 \x1b[1msecrets\x1b[0m open ")
    assert "\x1b" not in line(event)
    assert "\x1b[2J" not in line(event, color=True)
    plain = re.sub("\x1b\\[[0-9]+m", "", line(event, color=True))
    assert plain == line(event)


@given(rule=text, command=text, key=text, value=text, name=text, runtime=text)
def test_nothing_that_a_process_says_breaks_the_line(
    rule: str, command: str, key: str, value: str, name: str, runtime: str
) -> None:
    event = EVENT._replace(rule=rule, command=command, data={key: value}, container=Container("ff", runtime, name=name))
    shown = line(event)
    assert shown.isprintable()
    assert "\n" not in shown
    shown.encode()
