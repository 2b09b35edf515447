"""Sequences and the rules that are their steps."""

from __future__ import annotations

from bpfd.rules import steps
from bpfd.rules.check import Known
from bpfd.rules.load import parse_rule
from bpfd.rules.model import Rule


def rule(known: Known, name: str, text: str) -> Rule:
    return parse_rule(text, f"{name}.toml", known, name)


def sequence(known: Known, name: str, *rules: str) -> Rule:
    named = ", ".join(f'"{one}"' for one in rules)
    return rule(known, name, f'sequence = [{named}]\nwithin = "1m"\n')


def test_a_sequence_can_not_become_whole_while_a_step_is_gone_disabled_without_its_tracer_or_idle_itself(
    known: Known,
) -> None:
    opens, execs = rule(known, "opens", 'tracer = "open"'), rule(known, "execs", 'tracer = "exec"')
    off = rule(known, "off", 'tracer = "exec"\nenabled = false')
    whole, outer = sequence(known, "whole", "opens", "execs"), sequence(known, "outer", "whole", "opens")
    rules = {one.name: one for one in (outer, opens, execs, off, whole)}
    assert steps.idle(rules, ()) == {}
    assert steps.idle(rules, ["exec"]) == {
        "whole": ('whole.toml:1: sequence[2]: rule "execs" can\'t fire; mend what bpfd ls says of it',),
        "outer": ('outer.toml:1: sequence[1]: rule "whole" can\'t fire; mend what bpfd ls says of it',),
    }
    broken = {**rules, "broken": sequence(known, "broken", "off", "gone")}
    assert steps.idle(broken, ()) == {
        "broken": (
            'broken.toml:1: sequence[1]: rule "off" is not enabled; enable it, or name another',
            'broken.toml:1: sequence[2]: there is no rule "gone"; rules are broken, execs, off, opens, outer, whole',
        )
    }


def test_sequences_that_wait_for_each_other_are_idle_and_one_that_is_put_aside_is_not_spoken_of(known: Known) -> None:
    opens = rule(known, "opens", 'tracer = "open"')
    aside = rule(known, "aside", 'sequence = ["gone", "opens"]\nwithin = "1m"\nenabled = false\n')
    one, two = sequence(known, "one", "two", "opens"), sequence(known, "two", "opens", "one")
    assert steps.idle({each.name: each for each in (opens, aside, one, two)}, ()).keys() == {"one", "two"}
