"""What the keys of a rule file mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from bpfd.errors import RuleError
from bpfd.event import Container, Event
from bpfd.rules import model, predicate
from bpfd.rules.check import Known
from bpfd.rules.directory import load_directory, load_file
from bpfd.rules.load import parse_rule
from bpfd.rules.model import Count, Rule, Sequence

EVENT = Event(
    time=5,
    tracer="open",
    pid=10,
    tid=10,
    ppid=1,
    uid=1000,
    gid=0,
    command="cat",
    return_value=3,
    data={"path": "/mnt/x", "origin": "/etc/shadow", "flags": "O_RDONLY", "size": "10", "peer": "10.1.2.3"},
    container=Container("4f1c2a", "docker", "web-1", "registry/nginx:1.27", {"app": "shop", "com.x/tier": "front"}),
)
HOST = EVENT._replace(container=Container())


def rule(known: Known, text: str) -> Rule:
    return parse_rule(f'tracer = "open"\n{text}', "x.toml", known, "x")


def matches(known: Known, text: str, event: Event = EVENT) -> bool:
    return predicate.compile(rule(known, text).condition, known.tracers["open"])(event)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ('is = "/etc/shadow"', True),
        ('is = ["/etc", "/mnt/x"]', True),
        ('prefix = "/etc/"', True),
        ('suffix = ["dow", "x"]', True),
        ('glob = "/etc/*"', True),
        ('regex = "^/e.c/"', True),
        ('values = ["had"]', True),
        ('values = ["HAD"]', False),
        ('values = ["HAD"]\nignoreCase = true', True),
        ('prefix = "/etc/"\nsuffix = "x"', True),
        ('prefix = "/etc/"\nsuffix = "y"', False),
        ('prefix = "/etc/"\nnot = true', False),
        ('prefix = "/tmp/"\nnot = true', True),
        ("exists = true", True),
        ("exists = false", False),
    ],
)
def test_the_operators_of_a_filter_must_all_hold(known: Known, keys: str, expected: bool) -> None:
    assert matches(known, f"[filterEvents.path]\n{keys}") is expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("size.above = 9", True),
        ("size.above = 10", False),
        ("size.below = '11'", True),
        ("size = { above = 5, below = 10 }", False),
        ("uid.values = [1000, 0]", True),
        ("uid = { is = 0, not = true }", True),
        ("returnValue.below = 0", False),
        ("peer.net = '10.0.0.0/8'", True),
        ("peer.net = ['192.168.0.0/16', '10.1.2.3']", True),
        ("peer.is = '10.1.2.4'", False),
        ("peer.net = '::ffff:10.0.0.0/104'", True),
    ],
)
def test_numbers_and_addresses_are_judged_as_such(known: Known, keys: str, expected: bool) -> None:
    assert matches(known, f"[filterEvents]\n{keys}") is expected


def test_any_one_exception_is_enough_to_leave_an_event_out(known: Known) -> None:
    text = '[filterEvents.path]\nprefix = "/"\n[excludeEvents.command]\nis = "dog"\n[excludeEvents.uid]\nis = 0\n'
    assert matches(known, text)
    assert not matches(known, text, EVENT._replace(command="dog"))
    assert not matches(known, text, EVENT._replace(uid=0))


def test_exceptions_hold_where_any_filter_is_enough(known: Known) -> None:
    text = 'match = "any"\n[filterEvents]\nuid.is = 5\ncommand.is = "cat"\n[excludeEvents]\nsize.is = 10'
    assert not matches(known, text)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ('runtime = "docker"', True),
        ('runtime = ["kube", "podman"]', False),
        ('id = "4f1c"', True),
        ('name = "web-?"', True),
        ('name = ["db", "web"]', False),
        ('image = "*/nginx:*"', True),
        ('label = { app = "sh*" }', True),
        ('label = { app = "shop", "com.x/tier" = ["back", "front"] }', True),
        ('label = { app = "shop", other = "*x" }', False),
        ("host = true", False),
        ("host = false", True),
        ('runtime = "docker"\nname = "db"', False),
    ],
)
def test_the_container_table_names_the_containers(known: Known, keys: str, expected: bool) -> None:
    assert matches(known, f"[container]\n{keys}") is expected


def test_the_host_is_no_container(known: Known) -> None:
    assert matches(known, "[container]\nhost = true", HOST)
    assert not matches(known, "[container]\nhost = false", HOST)


def test_a_condition_and_filters_must_both_hold(known: Known) -> None:
    text = 'condition = "uid = 1000"\n[filterEvents.command]\nis = "%s"'
    assert matches(known, text % "cat")
    assert not matches(known, text % "dog")


def test_what_is_said_about_a_rule_is_kept(known: Known) -> None:
    made = rule(
        known,
        'severity = "critical"\ntags = ["a", "b"]\ndescription = "d"\noutput = "{command} {{}}"\nenabled = false\n'
        'mode = "observe"\ncount = 20\nwithin = "1m30s"\nby = ["containerID", "uid"]\n',
    )
    assert (made.severity, made.tags, made.description) == ("critical", ("a", "b"), "d")
    assert (made.output, made.enabled, made.mode, made.where) == ("{command} {{}}", False, "observe", "user")
    assert made.window == Count(20, 90 * 10**9, ("containerID", "uid"))
    assert rule(known, 'where = "kernel"\nactions = ["kill"]').where == "kernel"
    assert rule(known, "").severity == "notice"


def test_a_sequence_follows_other_rules_and_has_no_tracer(known: Known) -> None:
    made = parse_rule('sequence = ["a", "b", "a"]\nwithin = "10s"\nby = "tree"', "x", known, "x")
    assert made.window == Sequence(("a", "b", "a"), 10 * 10**9, "tree")
    assert made.tracer == ""


def test_a_rules_own_tests_are_kept_and_were_run(known: Known) -> None:
    made = rule(
        known,
        '[filterEvents.path]\nprefix = "/etc/"\n'
        '[[tests]]\nevent = { path = "/etc/x", pid = 3, size = 4, containerID = "ab" }\nexpect = "match"\n'
        '[[tests]]\nevent = { data = { path = "/x" }, container = { name = "n", labels = { a = "b" } } }\n'
        'expect = "no match"\n',
    )
    first, second = made.examples
    assert (first.matches, first.event.pid, first.event.data["size"], first.event.container.id) == (True, 3, "4", "ab")
    assert (second.matches, second.event.container.labels) == (False, {"a": "b"})


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            '[filterEvents.command]\nis = ["short", "longer-than-15-bytes"]',
            'x.toml:3: warning: filterEvents.command.is[2]: "longer-than-15-bytes" is longer than that: '
            '"command" keeps 15 bytes; it never matches, shorten it',
        ),
        ("[filterEvents.size]\nabove = 5\nbelow = 6", 'no number is within the limits of "size"'),
        ("[filterEvents.uid]\nbelow = 0", 'no number is within the limits of "uid"'),
        ("condition = 'uid = 1 and uid = 2'", 'x.toml:2: warning: condition: never matches: the clauses on "uid"'),
        ("condition = 'uid = 1 and not uid in (1, 2)'", 'the clauses on "uid" contradict each other'),
        ('[filterEvents.command]\nis = "cat"\nprefix = "d"', 'the clauses on "command" contradict each other'),
        ('[filterEvents.command]\nis = "cat"\n[excludeEvents.command]\nglob = "c*"', 'the clauses on "command"'),
        ("condition = 'uid = 0 and (size > 5 and size < 3 or uid = 1 and uid = 3)'", "no number is within"),
        (
            "condition = 'containerRuntime in (docker, podmann)'",
            '"podmann" is nothing that "containerRuntime" can be; it never matches, did you mean "podman"?',
        ),
        ('[filterEvents.kind]\nis = ["regular", "7", "folder"]', 'filterEvents.kind.is[3]: "folder" is nothing that'),
    ],
)
def test_what_can_never_match_is_a_warning(known: Known, text: str, warning: str) -> None:
    (line,) = rule(known, text).warnings
    assert warning in line


@pytest.mark.parametrize(
    "text",
    [
        '[filterEvents.command]\nis = ["cat", "dog"]\nprefix = "d"',
        "condition = 'uid = 1 or uid = 2'",
        '[filterEvents.path]\nis = "/a"\nprefix = "/b"',
        "[filterEvents.size]\nabove = 5\nbelow = 7",
        '[filterEvents.kind]\nis = "REGULAR"\nignoreCase = true',
        '[filterEvents.kind]\nvalues = ["reg"]',
    ],
)
def test_what_can_match_is_no_warning(known: Known, text: str) -> None:
    assert rule(known, text).warnings == ()


def test_macros_of_any_file_serve_every_rule_of_the_directory(tmp_path: Path, known: Known) -> None:
    (tmp_path / "z-library.toml").write_text('[macros]\nreads = "flags contains O_RDONLY"\n[lists]\nl = ["cat"]\n')
    (tmp_path / "a.toml").write_text('tracer = "open"\ncondition = "reads and command in (l)"\n')
    (tmp_path / "later.toml").write_text('tracer = "open"\n[macros]\nreads = "uid = 0"\n')
    loaded = load_directory(tmp_path, known)
    assert [rule.name for rule in loaded.rules] == ["a", "later"]
    assert list(loaded.problems) == [str(tmp_path / "z-library.toml")]
    (tmp_path / "later.toml").unlink()
    loaded = load_directory(tmp_path, known)
    assert loaded.problems == {}
    assert set(loaded.definitions.macros) == {"reads"}
    assert load_file(tmp_path / "a.toml", known).rules == loaded.rules
    assert load_file(tmp_path / "z-library.toml", known).rules == ()


def test_a_sequence_names_rules_that_exist(tmp_path: Path, known: Known) -> None:
    (tmp_path / "a.toml").write_text('tracer = "open"')
    (tmp_path / "b.toml").write_text('sequence = ["a", "c", "b"]\nwithin = "1s"')
    loaded = load_directory(tmp_path, known)
    assert [rule.name for rule in loaded.rules] == ["a"]
    assert loaded.problems[f"{tmp_path}/b.toml"] == (
        f'{tmp_path}/b.toml:1: sequence[2]: there is no rule "c"; rules are a, b',
        f"{tmp_path}/b.toml:1: sequence[3]: is the rule itself; name another",
    )


def test_a_rule_whose_tests_fail_is_refused(known: Known) -> None:
    with pytest.raises(RuleError, match=r"tests\[1\]: the rule matches this event"):
        rule(known, '[[tests]]\nevent = { uid = 1 }\nexpect = "no match"')


def test_labels_can_be_named_like_fields(known: Known) -> None:
    made = rule(known, '[filterEvents."containerLabel[app]"]\nis = "shop"')
    assert made.condition == model.Test("containerLabel[app]", "is", ("shop",))
