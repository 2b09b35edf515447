"""Between events, rules and messages."""

from __future__ import annotations

import tomli
from hypothesis import given
from hypothesis import strategies as st

from bpfd.api import bpfd_pb2, convert
from bpfd.event import Container, Event, utf8
from bpfd.rules.model import Rule
from tests.api.fake_control import EVENT

text = st.text(max_size=20)
any_text = st.text(st.characters(exclude_categories=()), max_size=20)
u32 = st.integers(0, 2**32 - 1)
s64 = st.integers(-(2**63), 2**63 - 1)


def events(
    text: st.SearchStrategy[str], u32: st.SearchStrategy[int], s64: st.SearchStrategy[int]
) -> st.SearchStrategy[Event]:
    return st.builds(
        Event,
        time=s64,
        tracer=text,
        pid=u32,
        tid=u32,
        ppid=u32,
        uid=u32,
        gid=u32,
        ns_pid=u32,
        command=text,
        return_value=s64,
        data=st.dictionaries(text, text, max_size=3),
        container=st.builds(Container, text, text, text, text, st.dictionaries(text, text, max_size=3)),
        rule=text,
        host=text,
    )


@given(events(text, u32, s64))
def test_an_event_shows_the_same_json_before_and_after_the_wire(event: Event) -> None:
    wire = convert.event_to_v1(event).SerializeToString()
    received = convert.event_from_v1(bpfd_pb2.Event.FromString(wire))
    assert received.as_dict() == event.as_dict()
    assert list(received.data) == list(event.data)


@given(events(any_text, st.integers(), st.integers()))
def test_whatever_an_event_holds_it_can_be_sent(event: Event) -> None:
    sent = convert.event_to_v1(event)
    assert sent.SerializeToString() is not None
    assert sent.pid == event.pid % 2**32
    legacy = convert.event_to_legacy(event)
    assert legacy.SerializeToString() is not None
    assert (legacy.returnValue - event.return_value) % 2**32 == 0


def test_v1_has_a_place_for_every_key_of_an_events_json() -> None:
    keys = {field.json_name for field in bpfd_pb2.Event.DESCRIPTOR.fields}
    assert {key.replace("ID", "Id") for key in EVENT.as_dict()} == keys - {"dataOrder"}


@given(any_text)
def test_any_text_becomes_utf8(value: str) -> None:
    safe = utf8(value)
    assert safe.encode().decode() == safe
    if all(not "\ud800" <= character <= "\udfff" for character in value):
        assert safe == value


@given(text, text, st.dictionaries(text, st.lists(text, max_size=3), max_size=4), st.lists(text), st.lists(text))
def test_a_printed_rule_parses_to_what_was_printed(
    name: str, tracer: str, filters: dict[str, list[str]], runtimes: list[str], actions: list[str]
) -> None:
    expected: dict[str, object] = {"name": name, "tracer": tracer}
    if actions:
        expected["actions"] = actions
    if runtimes:
        expected["containerRuntimes"] = runtimes
    if filters:
        expected["filterEvents"] = {field: {"values": values} for field, values in filters.items()}
    assert tomli.loads(convert.rule_to_toml(name, tracer, filters, runtimes, actions)) == expected


def test_a_hostile_name_adds_no_key_to_a_printed_rule() -> None:
    name = 'x"\nactions = ["kill"]\n[filterEvents."a\x7f\x00\r'
    assert tomli.loads(convert.rule_to_toml(name, "open", {})) == {"name": name, "tracer": "open"}


def test_a_rule_keeps_what_the_seeds_api_knows_of_it() -> None:
    rule = Rule("n", "open", ("kill",), runtimes=("docker",), filters={"filename": ("/etc/\udcff",)}, text="t")
    legacy = convert.rule_to_legacy(rule)
    assert (legacy.name, legacy.tracer, list(legacy.actions)) == ("n", "open", ["kill"])
    assert list(legacy.containerRuntimes) == ["docker"]
    assert list(legacy.filterEvents["filename"].values) == ["/etc/\\xff"]
    assert convert.rule_to_v1(rule, with_toml=True).toml == "t"
    assert convert.rule_to_v1(rule, with_toml=False).toml == ""
