"""Rule files read: what a good one means, and what becomes of a directory with bad ones."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfd.errors import RuleError
from bpfd.rules import fields, model
from bpfd.rules.check import Known
from bpfd.rules.directory import load_directory
from bpfd.rules.load import LARGEST, parse_rule
from bpfd.rules.model import RUNTIMES, All, Any, Rule

SEED = """\
tracer = "exec"
actions = ["stdout"]
[filterEvents]
[filterEvents.command]
values = ["sshd", "ping"]
containerRuntimes = ["docker","kube"]
"""


def test_the_seeds_sample_does_what_its_text_says(known: Known) -> None:
    rule = parse_rule(SEED, "sshd.toml", known, "sshd")
    assert rule == Rule(
        name="sshd",
        tracer="exec",
        actions=("stdout",),
        condition=All(
            (
                model.Test("containerRuntime", "is", ("docker", "kube")),
                model.Test("command", "contains", ("sshd", "ping")),
            )
        ),
        runtimes=("docker", "kube"),
        filters={"command": ("sshd", "ping")},
        source="sshd.toml",
        text=SEED,
    )


def test_a_rule_without_filters_holds_for_every_event(known: Known) -> None:
    assert parse_rule('tracer = "exec"', "x", known, "x").condition == All()


def test_every_named_field_must_match_unless_any_is_enough(known: Known) -> None:
    filters = '[filterEvents.command]\nvalues = ["a"]\n[filterEvents.uid]\nvalues = [0]\n'
    tests = (model.Test("command", "contains", ("a",)), model.Test("uid", "is", ("0",)))
    assert parse_rule('tracer = "exec"\n' + filters, "x", known, "x").condition == All(tests)
    assert parse_rule('tracer = "exec"\nmatch = "any"\n' + filters, "x", known, "x").condition == Any(tests)


def test_any_filter_is_enough_but_the_runtime_must_be_one_of_those_named(known: Known) -> None:
    text = (
        'tracer = "exec"\nmatch = "any"\ncontainerRuntimes = ["kube"]\n'
        '[filterEvents.command]\nvalues = ["a"]\n[filterEvents.cwd]\nvalues = ["b"]\n'
    )
    condition = parse_rule(text, "x", known, "x").condition
    assert isinstance(condition, All)
    assert condition.parts[0] == model.Test("containerRuntime", "is", ("kube",))
    assert isinstance(condition.parts[1], Any)


def test_numbers_may_be_written_as_text(known: Known) -> None:
    text = 'tracer = "exec"\n[filterEvents.returnValue]\nvalues = ["-13", -2, "007", "-2"]\n'
    assert parse_rule(text, "x", known, "x").filters == {"returnValue": ("-13", "-2", "7")}


def test_yes_and_no_may_be_written_as_people_do(known: Known) -> None:
    text = 'tracer = "exec"\n[filterEvents.argv_truncated]\nvalues = [true, "1", "FALSE"]\n'
    assert parse_rule(text, "x", known, "x").filters == {"argv_truncated": ("true", "false")}


def test_a_byte_order_mark_and_windows_line_ends_are_taken(known: Known) -> None:
    text = b"\xef\xbb\xbf" + SEED.replace("\n", "\r\n").encode()
    assert parse_rule(text, "x", known, "x").filters == {"command": ("sshd", "ping")}


def test_a_rule_needs_a_name_from_somewhere(known: Known) -> None:
    with pytest.raises(RuleError, match=r'^api:1: name: is missing; write name = "my-rule"$'):
        parse_rule('tracer = "exec"', "api", known)


def test_a_file_over_a_mebibyte_is_refused(known: Known) -> None:
    with pytest.raises(RuleError, match=r"^big: is too large; a rule file has at most 1 MiB; split it$"):
        parse_rule("#" * (LARGEST + 1), "big", known)


def test_lone_surrogates_are_no_text(known: Known) -> None:
    with pytest.raises(RuleError, match="not UTF-8"):
        parse_rule("# \udc80", "api", known)


def test_a_hundred_thousand_values_take_less_than_a_second(known: Known) -> None:
    values = ",".join(f'"v{number:06}"' for number in range(100_000))
    begun = time.process_time()
    rule = parse_rule(f'tracer = "exec"\n[filterEvents.argv]\nvalues = [{values}]', "x", known, "x")
    assert time.process_time() - begun < 1
    assert len(rule.filters["argv"]) == 100_000


def test_a_directory_gives_its_good_rules_and_names_the_bad(tmp_path: Path, known: Known) -> None:
    (tmp_path / "good.toml").write_text(SEED)
    (tmp_path / "bad.toml").write_text('tracer = "exce"')
    (tmp_path / "binary.toml").write_bytes(bytes(range(256)))
    (tmp_path / "huge.toml").write_bytes(b"#" * (LARGEST + 1))
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    (tmp_path / "gone.toml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "folder.toml" / "inner.toml").write_text(SEED)
    for ignored in (".hidden.toml", "good.toml~", "good.toml.bak", "#good.toml#", ".#good.toml", "notes.txt"):
        (tmp_path / ignored).write_text("no rule")
    loaded = load_directory(tmp_path, known)
    assert [rule.name for rule in loaded.rules] == ["good"]
    bad = ["bad", "binary", "folder", "gone", "huge", "pipe", "zero"]
    assert sorted(loaded.problems) == [str(tmp_path / f"{name}.toml") for name in bad]
    assert all(lines and lines[0].startswith(source) for source, lines in loaded.problems.items())


def test_the_second_rule_of_a_name_is_refused_with_the_first_ones_file(tmp_path: Path, known: Known) -> None:
    (tmp_path / "1.toml").write_text('name = "same"\ntracer = "exec"')
    (tmp_path / "2.toml").write_text('\nname = "same"\ntracer = "open"')
    loaded = load_directory(tmp_path, known)
    assert [rule.tracer for rule in loaded.rules] == ["exec"]
    assert loaded.problems == {
        f"{tmp_path}/2.toml": (
            f'{tmp_path}/2.toml:2: name: "same" is the name of the rule in {tmp_path}/1.toml; choose another',
        )
    }


def test_a_files_name_that_breaks_lines_is_escaped(tmp_path: Path, known: Known) -> None:
    (tmp_path / "a\nb.toml").write_text('tracer = "exec"')
    (lines,) = load_directory(tmp_path, known).problems.values()
    assert len(lines) == 1
    assert lines[0].isprintable()


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path, known: Known) -> None:
    with pytest.raises(RuleError, match="the rules directory cannot be read: No such file or directory; make it"):
        load_directory(tmp_path / "none", known)


PIECES = st.sampled_from(
    [
        'tracer = "exec"',
        "name",
        " = ",
        "[",
        "]",
        "[[",
        "{",
        "}",
        "filterEvents",
        ".",
        "values",
        '"""',
        "'",
        '"',
        "\n",
        ",",
    ]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=300), st.lists(PIECES, max_size=30).map(lambda parts: "".join(parts).encode())))
def test_any_bytes_are_a_rule_or_an_error_with_the_files_name(known: Known, data: bytes) -> None:
    problems: tuple[str, ...] = ()
    try:
        tracer = parse_rule(data, "f.toml", known, "f").tracer
    except RuleError as error:
        tracer, problems = "", error.problems
    assert (tracer in known.tracers) is not bool(problems)
    assert all(line.startswith("f.toml:") and line.isprintable() for line in problems)


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20)
NAMES = WORDS.filter(lambda name: name.isprintable() and "/" not in name and name not in (".", ".."))
STRINGS = sorted(name for name, field in fields.table(()).items() if field.is_string)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    names = draw(st.lists(st.sampled_from(STRINGS), unique=True, max_size=4))
    return Rule(
        name=draw(NAMES),
        tracer=draw(st.sampled_from(["exec", "open"])),
        actions=tuple(draw(st.lists(st.sampled_from(["stdout", "kill"]), unique=True))),
        runtimes=tuple(draw(st.lists(st.sampled_from(RUNTIMES), unique=True))),
        filters={name: tuple(draw(st.lists(WORDS, min_size=1, max_size=3, unique=True))) for name in names},
    )


def printed(rule: Rule) -> str:
    def quoted(text: str) -> str:
        return (
            '"' + "".join(f"\\U{ord(c):08x}" if c in '"\\' or ord(c) < 32 or ord(c) == 127 else c for c in text) + '"'
        )

    def array(names: tuple[str, ...]) -> str:
        return "[" + ", ".join(map(quoted, names)) + "]"

    text = f"name = {quoted(rule.name)}\ntracer = {quoted(rule.tracer)}\nactions = {array(rule.actions)}\n"
    text += f"containerRuntimes = {array(rule.runtimes)}\n"
    return text + "".join(f"[filterEvents.{name}]\nvalues = {array(given)}\n" for name, given in rule.filters.items())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rules())
def test_a_rule_printed_and_read_again_is_the_same(known: Known, rule: Rule) -> None:
    read = parse_rule(printed(rule), "", known)
    assert replace(read, text="", condition=All(), warnings=()) == rule
    assert parse_rule(printed(read), "", known).condition == read.condition
