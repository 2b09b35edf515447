"""The law of the kernel filter: it never drops what Python would match, and where it claims to be exact it is."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfd.event import Event
from bpfd.kernel.record import WALK
from bpfd.rules import model, predicate
from bpfd.rules.model import All, Any, Condition, Not
from bpfd.tracers.open import OpenTracer
from tests.kernel.conftest import Bench

ALPHABET = "ab/.é"
names = st.text(ALPHABET, min_size=1, max_size=12).filter(lambda name: name.strip("/.") != "")
raw_names = names.map(str.encode) | st.binary(min_size=1, max_size=8).map(lambda raw: raw.replace(b"\0", b"a") or b"a")
pieces = st.text(ALPHABET, min_size=1, max_size=4)
texts = st.builds(
    model.Test,
    st.sampled_from(["filename", "path", "command"]),
    st.sampled_from(["contains", "is", "prefix", "suffix"]),
    st.lists(pieces, min_size=1, max_size=3).map(tuple),
    st.booleans(),
)
globs = st.builds(
    model.Test,
    st.sampled_from(["filename", "path"]),
    st.just("glob"),
    st.lists(st.text(ALPHABET + "*?", min_size=1, max_size=5), min_size=1, max_size=2).map(tuple),
)
regexes = st.builds(
    model.Test,
    st.sampled_from(["filename", "path"]),
    st.just("regex"),
    st.lists(st.sampled_from(["a+b", "^/tmp/.*a$", "[^/]b", "a.b", "(a|b)/", "b$", "é?a"]), min_size=1).map(tuple),
)
number = st.builds(
    model.Test,
    st.sampled_from(["uid", "gid", "returnValue", "pid", "tgid"]),
    st.sampled_from(["is", "above", "below"]),
    st.sampled_from([-40, -2, -1, 0, 1, 3, 100, os.getpid()]).map(lambda value: (str(value),)),
)
runtime = st.just(model.Test("containerRuntime", "is", ("docker",))) | st.just(
    model.Test("containerRuntime", "is", ("not-found",))
)
clause = texts | globs | regexes | number | runtime
conditions: st.SearchStrategy[Condition] = st.recursive(
    clause,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: All(tuple(parts)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: Any(tuple(parts)))
        | inner.map(Not)
    ),
    max_leaves=5,
)
SETTINGS = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def open_all(files: list[bytes], place: Path) -> None:
    """Open each name, below `place` and as it is; most fail, some make a file."""
    for number, name in enumerate(files):
        flags = os.O_CREAT | os.O_WRONLY if number % 2 else os.O_RDONLY
        for path in (os.fsencode(place) + b"/" + name.lstrip(b"/"), name):
            with contextlib.suppress(OSError, ValueError):
                if path.startswith(os.fsencode(place)) or flags == os.O_RDONLY:
                    os.close(os.open(path, flags))


def judged(opens: Bench, witness: Bench, rules: list[Condition], files: list[bytes]) -> None:
    """Put `rules` in force, open the files, and hold the kernel's verdict against Python's on what a witness saw."""
    plan = opens.judge_by(rules)
    witness.events()
    with tempfile.TemporaryDirectory() as place:
        open_all(files, Path(place))
    everything = [event for event, _ in witness.events() if event.pid == os.getpid()]
    passed = [(event, bits) for event, bits in opens.events() if event.pid == os.getpid()]
    assert everything
    for number, rule in enumerate(rules):
        wants = predicate.compile(rule, OpenTracer.fields)
        bits = sum(1 << bit for bit, of in enumerate(plan.rules_of) if number in of)
        left = [event for event, kept in passed if kept & bits]
        lost = Counter(key(event) for event in everything if wants(event)) - Counter(map(key, left))
        assert not lost, ("lost", rule, lost)
        if number in plan.exact_bits:
            one_too_many = [key(event) for event in left if settled(event) and not wants(event)]
            assert not one_too_many, ("one too many", rule, one_too_many)


def key(event: Event) -> tuple[object, ...]:
    """What tells an open apart from others, and is the same for two programs that see it."""
    return event.tid, event.return_value, tuple(sorted(event.data.items()))


def settled(event: Event) -> bool:
    """Where Python writes a failed name in another way than the kernel has it, the kernel leaves it to Python."""
    name = "/" + event.data["filename"]
    return (
        event.return_value >= 0
        or (
            not any(part in name for part in ("//", "/./", "/../"))
            and not name.endswith("/.")
            and not name.endswith("/..")
        )
        or event.data["filename"] == event.data["path"]
    )


@SETTINGS
@given(st.lists(conditions, min_size=1, max_size=6), st.lists(raw_names, min_size=1, max_size=6))
def test_the_kernel_drops_nothing_that_python_matches_and_is_exact_where_it_says_so(
    opens: Bench, witness: Bench, rules: list[Condition], files: list[bytes]
) -> None:
    judged(opens, witness, rules, files)


@settings(SETTINGS, max_examples=15)
@given(st.lists(conditions, min_size=65, max_size=90), st.lists(raw_names, min_size=1, max_size=6))
def test_rules_that_share_bits_lose_nothing(
    opens: Bench, witness: Bench, rules: list[Condition], files: list[bytes]
) -> None:
    judged(opens, witness, rules, files)


def test_a_text_longer_than_the_kernel_walks_is_left_to_python(opens: Bench, folder: Path) -> None:
    rule = model.Test("filename", "suffix", ("/wanted",))
    for length in (WALK - 10, WALK - 1, WALK, WALK + 1, 3000):
        opens.judge_by([rule])
        filler = ("./" * length)[: length - len("/wanted")].rstrip("/")
        with contextlib.suppress(OSError):
            os.open(filler + "/wanted", os.O_RDONLY)
        assert opens.wait_for(lambda event: event.pid == os.getpid()).data["filename"].endswith("/wanted")


def test_an_open_that_no_rule_wants_never_leaves_the_kernel(opens: Bench, folder: Path) -> None:
    opens.judge_by([model.Test("filename", "contains", ("nobody-opens-this",))])
    passed = opens.program.passed
    for number in range(1000):
        with contextlib.suppress(OSError):
            os.open(f"file-{number}", os.O_RDONLY)
    assert opens.program.passed == passed


def test_ten_thousand_rules_find_the_one_file(opens: Bench, folder: Path) -> None:
    opens.judge_by([model.Test("filename", "contains", (f"needle-{number}-",)) for number in range(10_000)])
    with contextlib.suppress(OSError):
        os.open("needle-4711-", os.O_RDONLY)
    event = opens.wait_for(lambda event: event.pid == os.getpid())
    assert event.data["filename"] == "needle-4711-"
