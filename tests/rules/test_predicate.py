"""Conditions made functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfd.event import Container, Event
from bpfd.plugin import Field
from bpfd.rules import fields, model, predicate
from bpfd.rules.model import All, Any, Condition, Not

FIELDS = (
    Field("path", "the file", also="origin"),
    Field("origin", "where it is", optional=True),
    Field("flags", "how", type="u64", show=str),
    Field("size", "how large", type="u64"),
    Field("cut", "whether it was cut", type="bool"),
)
EVENT = Event(
    time=1,
    tracer="open",
    pid=42,
    tid=43,
    ppid=1,
    uid=1000,
    gid=0,
    command="cat",
    return_value=-13,
    data={"path": "/mnt/shadow", "origin": "/etc/shadow", "flags": "O_RDONLY", "size": "10", "cut": "1"},
    container=Container("4f1c", "docker", "web", "nginx:1.27"),
    host="h",
)


def holds(condition: Condition, event: Event = EVENT) -> bool:
    return predicate.compile(condition, FIELDS)(event)


def contains(field: str, *values: str) -> model.Test:
    return model.Test(field, "contains", values)


def same(field: str, *values: str) -> model.Test:
    return model.Test(field, "is", values)


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (contains("path", "mnt"), True),
        (contains("path", "tmp", "shad"), True),
        (contains("path", "tmp"), False),
        (contains("command", "a"), True),
        (contains("command", "sh", "bash"), False),
        (contains("flags", "RDONLY"), True),
        (contains("containerImage", "nginx"), True),
        (contains("containerName", "we", "x"), True),
        (same("pid", "4"), False),
        (same("pid", "4", "42"), True),
        (same("tgid", "42"), True),
        (same("tid", "43"), True),
        (same("ppid", "1"), True),
        (same("uid", "1000"), True),
        (same("gid", "0"), True),
        (same("time", "1"), True),
        (same("returnValue", "-13"), True),
        (same("size", "10"), True),
        (same("size", "1"), False),
        (same("cut", "true"), True),
        (same("cut", "false"), False),
        (same("containerRuntime", "kube", "docker"), True),
        (same("containerID", "4f1c"), True),
        (same("host", "h"), True),
    ],
)
def test_a_clause_judges_the_field_by_its_type(test: model.Test, expected: bool) -> None:
    assert holds(test) is expected


def test_a_field_that_is_judged_with_another_holds_for_either() -> None:
    assert holds(contains("path", "/mnt/"))
    assert holds(contains("path", "/etc/"))
    assert not holds(contains("path", "/tmp/"))


def test_not_turns_both_fields_together() -> None:
    assert not holds(Not(contains("path", "/etc/")))
    assert holds(Not(contains("path", "/tmp/")))


def test_a_field_that_the_event_lacks_is_empty_text() -> None:
    bare = EVENT._replace(data={})
    assert not holds(contains("path", "/"), bare)
    assert not holds(same("size", "0"), bare)
    assert holds(Not(contains("path", "/")), bare)


def test_bytes_that_are_no_text_never_match_by_accident() -> None:
    odd = EVENT._replace(data={"path": b"/tmp/\xe9\x9c".decode("utf-8", "surrogateescape")})
    assert not holds(contains("path", "é"), odd)
    assert holds(contains("path", "/tmp/"), odd)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_all_and_any_of_any_number_of_parts(count: int) -> None:
    yes, no = same("uid", "1000"), same("uid", "0")
    assert holds(All((yes,) * count))
    assert holds(Any((yes,) * count)) is (count > 0)
    assert holds(All((yes,) * count + (no,))) is False
    assert holds(Any((no,) * count + (yes,)))
    assert not holds(Any((no,) * count))


LEAVES = st.sampled_from([same("uid", "1000"), same("uid", "0")])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: All(tuple(parts))),
        st.lists(inner, max_size=4).map(lambda parts: Any(tuple(parts))),
        inner.map(Not),
    ),
)


def meaning(condition: Condition) -> bool:
    match condition:
        case All():
            return all(map(meaning, condition.parts))
        case Any():
            return any(map(meaning, condition.parts))
        case Not():
            return not meaning(condition.part)
        case _:
            return condition.values == ("1000",)


@given(TREES)
def test_a_tree_means_what_logic_says(condition: Condition) -> None:
    assert holds(condition) is meaning(condition)


def test_every_own_field_can_be_read_and_is_in_the_events_json_or_known_of_its_process() -> None:
    shown = EVENT.as_dict()
    process = ("user", "parent", "ancestors", "duration", "containerInit", "nsPid")
    for field in fields.OWN:
        text = fields.value(EVENT, field.name)
        if field.name in ("containerName", "containerImage"):
            assert text == shown["container"][field.name.removeprefix("container").lower()]
        elif field.name in process:
            assert text == str(
                getattr(EVENT, {"containerInit": "container_init", "nsPid": "ns_pid"}.get(field.name, field.name))
            )
        else:
            assert text == str(shown[field.name])


def test_a_data_field_has_its_text_or_none() -> None:
    assert fields.value(EVENT, "path") == "/mnt/shadow"
    assert fields.value(EVENT, "nothing") is None
