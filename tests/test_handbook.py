"""What there is to read about tracers is what they are."""

from __future__ import annotations

import json

import pytest

from bpfd import handbook, tracers
from bpfd.kernel import probes
from bpfd.plugin import AnyTracer, Field, Tracer, TracerFamily
from bpfd.rules import fields
from bpfd.rules.check import Known
from bpfd.rules.load import parse_rule

LISTED = tracers.bpfd_register_tracers()
FAMILIES = [one for one in LISTED if issubclass(one, TracerFamily)]
TRACERS = [one for one in LISTED if not issubclass(one, TracerFamily)]
EACH = pytest.mark.parametrize("tracer", TRACERS, ids=lambda tracer: tracer.name)


def indented(text: str, title: str) -> str:
    """What stands below a title."""
    block = text.split(f"{title}:\n\n", 1)[1].split("\n\nA rule:", 1)[0]
    return "\n".join(line[4:] for line in block.splitlines())


def test_the_tracers_readme_is_what_make_docs_would_write() -> None:
    assert handbook.README.read_text() == handbook.readme(TRACERS, FAMILIES), "run make docs"


def test_the_readme_is_the_same_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> None:
        raise AssertionError("it looks at this machine")

    monkeypatch.setattr(probes, "tracefs", look)
    assert handbook.readme(reversed(TRACERS), reversed(FAMILIES)) == handbook.README.read_text()


@EACH
def test_every_field_has_an_example(tracer: type[AnyTracer]) -> None:
    assert [field.name for field in tracer.fields if not field.example or not field.doc] == []


@EACH
def test_the_example_event_is_one_of_the_tracer(tracer: type[AnyTracer]) -> None:
    event = json.loads(indented(handbook.section(handbook.about(tracer)), "An event"))
    assert event["tracer"] == tracer.name
    named = {field.name for field in tracer.fields}
    needed = {field.name for field in tracer.fields if not field.optional}
    assert needed <= set(event["data"]) <= named
    assert (event["pid"] == 0) == issubclass(tracer, Tracer)


@EACH
def test_the_example_rule_is_good_and_matches_the_example(tracer: type[AnyTracer]) -> None:
    text = indented(handbook.section(handbook.about(tracer)), "A rule")
    known = Known({tracer.name: tracer.fields}, ["stdout"])
    rule = parse_rule(text, "example.toml", known, "example")
    assert (len(rule.examples), rule.warnings) == (1, ())


@EACH
def test_every_field_is_described(tracer: type[AnyTracer]) -> None:
    words = " ".join(handbook.section(handbook.about(tracer)).split())
    for field in tracer.fields:
        assert f"{field.name} {handbook.kind(field)} {' '.join(field.doc.split())}" in words
    common = " ".join(handbook.common_fields().split())
    assert [field.name for field in fields.OWN if f"{field.name} {handbook.kind(field)} " not in common] == []


def test_a_tracer_of_numbers_alone_has_a_rule_too() -> None:
    for field in (
        Field("count", "how many", type="u64", example="7"),
        Field("below", "how deep", type="s64", example="-7"),
        Field("done", "whether", type="bool"),
        Field("address", "where", type="address"),
        Field("hostile", "what", example='a"b\\c\x1b'),
    ):
        one = handbook.About("mine", "Mine.", (field,))
        known = Known({"mine": (field,)}, ["stdout"])
        assert len(parse_rule(handbook.rule_text(one), "x.toml", known, "x").examples) == 1
        json.loads(handbook.event_text(one))
    parse_rule(handbook.rule_text(handbook.About("mine", "Mine.", ())), "x.toml", Known({"mine": ()}, ["stdout"]), "x")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.prefix)
def test_the_example_of_a_family_has_all_that_others_have(family: type[TracerFamily]) -> None:
    made = family.find(family.example)
    assert made is not None
    text = handbook.section(handbook.about(made))
    json.loads(indented(text, "An event"))
    parse_rule(indented(text, "A rule"), "x.toml", Known({made.name: made.fields}, ["stdout"]), "x")
