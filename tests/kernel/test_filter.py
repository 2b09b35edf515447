"""The law of the kernel filter: it never drops what Python would match, and where it claims to be exact it is."""

from __future__ import annotations

import contextlib
import ctypes
import os
import posixpath
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfd.event import Event
from bpfd.kernel.program import Build
from bpfd.kernel.record import WALK
from bpfd.plugin import BPFTracer, Field
from bpfd.rules import model, patterns, predicate
from bpfd.rules.model import All, Any, Condition, Not
from bpfd.tracers.exec import ExecTracer
from tests.kernel.conftest import Bench

ALPHABET = "ab/.é"
names = st.text(ALPHABET, min_size=1, max_size=12).filter(lambda name: name.strip("/.") != "")
long_names = st.builds(
    lambda name, length: (name * length)[:length], names.map(str.encode), st.integers(WALK - 60, WALK + 3)
)
folder_names = st.builds(lambda name, end: name + end, names, st.sampled_from(["/", "//", "/.", "/..", "/../a"]))
stray_names = st.binary(min_size=1, max_size=8).map(lambda raw: raw.replace(b"\0", b"a"))
raw_names = names.map(str.encode) | folder_names.map(str.encode) | stray_names | long_names
pieces = st.sampled_from(["a", "b"]) | st.text(ALPHABET, min_size=1, max_size=4)
texts = st.builds(
    model.Test,
    st.sampled_from(["filename", "path", "command"]),
    st.sampled_from(["contains", "is", "prefix", "suffix"]),
    st.lists(pieces, min_size=1, max_size=3).map(tuple),
    st.booleans(),
)
globs = st.builds(
    model.Test,
    st.sampled_from(["filename", "path", "command"]),
    st.just("glob"),
    st.lists(
        st.lists(st.sampled_from([*ALPHABET, "*", "*", "?", "[!a]", "[a-bé]", "[A-Z]"]), min_size=1, max_size=6).map(
            "".join
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    st.booleans(),
)
PATTERNS = [
    "a+b", "^/tmp/.*a$", "[^/]b", "a.b", "(a|b)/", "b$", "é?a", "^/tmp/[^/]+/.{3}$", r"(?i)A\.B", r"\ba", r"a\W",
    "(^|/)[ab]{1,2}(/|$)", "^..?$", r"[\x{80}-\x{ffff}]a", "(?-s)a.*b",
]  # fmt: skip
regexes = st.builds(
    model.Test,
    st.sampled_from(["filename", "path"]),
    st.just("regex"),
    st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3).map(tuple),
    st.booleans(),
)
there = st.builds(model.Test, st.sampled_from(["filename", "path", "command"]), st.just("exists"))
number = st.builds(
    model.Test,
    st.sampled_from(["uid", "gid", "returnValue", "pid", "tgid"]),
    st.sampled_from(["is", "above", "below"]),
    st.sampled_from([-40, -2, -1, 0, 1, 3, 100, os.getpid()]).map(lambda value: (str(value),)),
)
runtime = st.just(model.Test("containerRuntime", "is", ("docker",))) | st.just(
    model.Test("containerRuntime", "is", ("not-found",))
)
yes_or_no = st.builds(model.Test, st.just("writes"), st.just("is"), st.sampled_from([("true",), ("false",)]))
file_type = st.builds(
    model.Test,
    st.just("file_type"),
    st.sampled_from(["is", "contains", "prefix"]),
    st.lists(st.sampled_from(["regular", "directory", "r", "c"]), min_size=1, max_size=2).map(tuple),
)
clause = texts | globs | regexes | there | number | runtime | yes_or_no | file_type
conditions: st.SearchStrategy[Condition] = st.recursive(
    clause,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: All(tuple(parts)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: Any(tuple(parts)))
        | inner.map(Not)
    ),
    max_leaves=5,
)


@st.composite
def rules_and_files(draw: st.DrawFn) -> tuple[list[Condition], list[bytes]]:
    """Files, and rules of which some are about a piece of one of the names, as people see it."""
    files = draw(st.lists(raw_names, min_size=1, max_size=6))
    rules = draw(st.lists(conditions, max_size=4))
    for _ in range(draw(st.integers(1, 4))):
        path = posixpath.normpath("/" + draw(st.sampled_from(files)).decode(errors="ignore"))
        begin = draw(st.integers(0, len(path) - 1))
        ends_with = draw(st.booleans())
        piece = path[begin:] if ends_with else path[begin : begin + draw(st.integers(1, 5))]
        operator = "suffix" if ends_with else "contains"
        clause = model.Test(draw(st.sampled_from(["path", "filename"])), operator, (piece,))
        rules.append(Not(clause) if draw(st.integers(0, 3)) == 3 else clause)
    return rules, files


TRIES = 20
"""What others on the machine do may fill a ring: then all is done again."""
SETTINGS = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
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
    with tempfile.TemporaryDirectory() as top:
        # No name has as many `..` as this is deep.
        place = Path(top) / "1/2/3/4/5/6"
        place.mkdir(parents=True)
        held_against_python(opens, witness, rules, lambda: open_all(files, place))


def held_against_python(judge: Bench, witness: Bench, rules: list[Condition], act: Callable[[], None]) -> None:
    """Put `rules` in force, `act`, and hold the kernel's verdict against Python's on what a witness saw."""
    plan = judge.judge_by(rules)
    for _ in range(TRIES):
        before = judge.program.lost, witness.program.lost
        judge.events()
        witness.events()
        act()
        everything = [event for event, _ in witness.events() if event.pid == os.getpid()]
        passed = [(event, bits) for event, bits in judge.events() if event.pid == os.getpid()]
        if before == (judge.program.lost, witness.program.lost):
            break
    assert everything
    for number, rule in enumerate(rules):
        wants = predicate.compile(rule, judge.tracer.fields)
        bits = sum(1 << bit for bit, of in enumerate(plan.rules_of) if number in of)
        left = [event for event, kept in passed if kept & bits]
        lost = Counter(key(event) for event in everything if wants(event)) - Counter(map(key, left))
        assert not lost, ("lost", rule, lost)
        if number in plan.exact_bits:
            one_too_many = [key(event) for event in left if short(event) and settled(event) and not wants(event)]
            assert not one_too_many, ("one too many", rule, one_too_many)


def key(event: Event) -> tuple[object, ...]:
    """What tells an open apart from others, and is the same for two programs that see it."""
    same = {name: text for name, text in event.data.items() if name != "parent_duration"}
    return event.tid, event.return_value, tuple(sorted(same.items()))


def short(event: Event) -> bool:
    """The kernel judges all of its texts, with the folder that a failed name is put behind."""
    folder = len(os.fsencode(os.getcwd())) + 1
    return all(len(os.fsencode(text)) + folder < WALK for text in event.data.values())


def settled(event: Event) -> bool:
    """Where Python writes a failed name in another way than the kernel has it, the kernel leaves it to Python.

    What ends with a slash looks like such a name, the root too.
    """
    if event.tracer != "open" or event.return_value >= 0:
        return event.data.get("path") != "/"
    name = "/" + event.data["filename"]
    return not any(part in name for part in ("//", "/./", "/../")) and not name.endswith(("/", "/.", "/.."))


@SETTINGS
@given(rules_and_files())
def test_the_kernel_drops_nothing_that_python_matches_and_is_exact_where_it_says_so(
    opens: Bench, witness: Bench, given: tuple[list[Condition], list[bytes]]
) -> None:
    judged(opens, witness, *given)


@st.composite
def long_pieces_and_files(draw: st.DrawFn) -> tuple[list[Condition], list[bytes]]:
    """Files with long names, and rules on parts of them, of some length at least."""
    least = draw(st.integers(2, 9))
    files = draw(st.lists(st.text("abAB.", min_size=least, max_size=40).map(str.encode), min_size=1, max_size=5))
    rules: list[Condition] = []
    for _ in range(draw(st.integers(1, 6))):
        name = draw(st.sampled_from(files)).decode()
        begin = draw(st.integers(0, len(name) - least))
        piece = name[begin : begin + draw(st.integers(least, 12))]
        changed = piece[:-1] + draw(st.sampled_from([piece[-1], "a", "."]))
        operator = draw(st.sampled_from(["contains", "contains", "suffix"]))
        rules.append(model.Test("filename", operator, (changed,), draw(st.booleans())))
    return rules, files


@settings(SETTINGS, max_examples=60)
@given(long_pieces_and_files())
def test_rules_on_long_parts_of_names_lose_nothing_wherever_they_begin(
    opens: Bench, witness: Bench, given: tuple[list[Condition], list[bytes]]
) -> None:
    judged(opens, witness, *given)


@settings(SETTINGS, max_examples=15)
@given(st.lists(conditions, min_size=65, max_size=90), st.lists(raw_names, min_size=1, max_size=6))
def test_rules_that_share_bits_lose_nothing(
    opens: Bench, witness: Bench, rules: list[Condition], files: list[bytes]
) -> None:
    judged(opens, witness, rules, files)


NEVER = model.Test("path", "contains", tuple(f"never-{number:04d}-{number * 7919 % 9973}" for number in range(500)))


@settings(SETTINGS, max_examples=25)
@given(st.lists(texts | globs | regexes, min_size=1, max_size=4), st.lists(raw_names, min_size=1, max_size=5))
def test_a_text_that_is_walked_by_several_automata_loses_nothing_and_passes_nothing_too_many(
    opens: Bench, witness: Bench, others: list[Condition], files: list[bytes]
) -> None:
    several = All((model.Test("path", "prefix", ("/",)), model.Test("path", "glob", ("*[ab]?*",)), *others))
    judged(opens, witness, [Any((NEVER, others[0])), *others, several], files)


def test_a_text_longer_than_the_kernel_walks_is_left_to_python(opens: Bench, folder: Path) -> None:
    rule = model.Test("filename", "suffix", ("/wanted",))
    for length in (WALK - 10, WALK - 2, WALK - 1, WALK, WALK + 1, 3000, 4095):
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


def is_pattern(text: str) -> bool:
    """Whether it is a regular expression too."""
    try:
        patterns.size("regex", text)
    except patterns.PatternError:
        return False
    return True


words = st.text("ab \n…", max_size=4).map(str.encode) | st.just(b"\xff") | st.just(b"a" * 300)
exec_clauses = (
    st.builds(
        model.Test,
        st.sampled_from(["filename", "argv", "argv", "cwd", "command", "parent"]),
        st.sampled_from(["contains", "is", "prefix", "suffix", "glob", "regex"]),
        st.lists(st.text("ab A/…?.", min_size=1, max_size=4).filter(is_pattern), min_size=1, max_size=2).map(tuple),
        st.booleans(),
    )
    | st.builds(
        model.Test,
        st.just("argv_truncated"),
        st.just("is"),
        st.sampled_from([("true",), ("false",), ("true", "false")]),
    )
    | number
    | runtime
)


@pytest.fixture(scope="module")
def exec_witness(build: Build) -> Iterator[Bench]:
    bench = Bench(ExecTracer, build)
    bench.judge_by([All()])
    yield bench
    bench.close()


@SETTINGS
@given(
    st.lists(exec_clauses | exec_clauses.map(Not), min_size=1, max_size=6),
    st.lists(st.lists(words, max_size=4), min_size=1, max_size=4),
    st.sampled_from([0, 0, 0, 260, 520]),
)
def test_rules_on_programs_and_their_arguments_lose_nothing(
    execs: Bench, exec_witness: Bench, rules: list[Condition], calls: list[list[bytes]], empty: int
) -> None:
    def fail_to_start() -> None:
        for number, arguments in enumerate(calls):
            with contextlib.suppress(OSError):
                os.execv(f"/nowhere/ab{number}", [b"a", *arguments, *[b""] * empty])

    held_against_python(execs, exec_witness, rules, fail_to_start)


MINE = """
#include "filter.h"
#include "arguments.h"
BPFD_LATE(e) {
  bpfd_user_string(e, late, e->bpfd_own[0]);
  e->slow = e->size;
  e->slowly = e->count;
}
TRACEPOINT_PROBE(syscalls, sys_exit_prctl) {
  struct pt_regs *registers = bpfd_registers();
  if ((u32)bpfd_argument(registers, 0) != 0x62706664)
    return 0;
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  e->return_value = args->ret;
  bpfd_user_string(e, text, bpfd_argument(registers, 1));
  e->bpfd_own[0] = bpfd_argument(registers, 1);
  e->size = bpfd_argument(registers, 2);
  e->count = bpfd_argument(registers, 3);
  e->rare = bpfd_argument(registers, 4);
  e->yes = bpfd_argument(registers, 4) & 1;
  e->some = bpfd_argument(registers, 3);
  e->kind = bpfd_argument(registers, 3);
  e->address[10] = e->address[11] = 0xff;
  e->address[12] = 10;
  e->address[15] = bpfd_argument(registers, 4);
  return bpfd_submit(args, e);
}
"""
OPTION = 0x62706664
LOW, HIGH, MOST = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
edges = [LOW, LOW + 1, -2, -1, 0, 1, 2, 255, HIGH, HIGH + 1, MOST]


@pytest.fixture(scope="module")
def mine(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Bench]]:
    """A tracer with a field of every type, and its witness."""
    path = tmp_path_factory.mktemp("mine") / "mine.c"
    path.write_text(MINE)

    class Mine(BPFTracer):
        """A tracer of this test."""

        name = "mine"
        program = path
        probes = ("tracepoint:syscalls:sys_exit_prctl",)
        fields = (
            Field("text", "a text", length=64),
            Field("late", "the same, found out late", length=64, late=True),
            Field("size", "a number", type="s64"),
            Field("count", "a number", type="u64"),
            Field("rare", "a number that is left out where it is 0", type="u64", optional=True),
            Field("slow", "a number found out late", type="s64", late=True),
            Field("yes", "yes or no", type="bool"),
            Field("some", "yes, any number, or left out", type="bool", optional=True),
            Field("slowly", "yes or no, found out late", type="bool", late=True),
            Field("kind", "a number shown as text", type="u64", show=hex),
            Field("address", "an address", type="address"),
        )

    judge, witness = Bench(Mine, build), Bench(Mine, build)
    witness.judge_by([All()])
    yield judge, witness
    judge.close()
    witness.close()


of_mine = (
    st.builds(
        model.Test,
        st.sampled_from(["text", "late", "kind"]),
        st.sampled_from(["contains", "is", "prefix", "suffix"]),
        st.lists(st.text("ab0xf", min_size=1, max_size=3), min_size=1, max_size=2).map(tuple),
    )
    | st.builds(
        model.Test,
        st.sampled_from(["size", "count", "rare", "slow", "returnValue"]),
        st.sampled_from(["is", "above", "below"]),
        st.lists(st.sampled_from(edges).map(str), min_size=1, max_size=3).map(tuple),
    )
    | st.builds(
        model.Test,
        st.sampled_from(["yes", "some", "slowly"]),
        st.just("is"),
        st.sampled_from([("true",), ("false",), ("true", "false")]),
    )
    | st.builds(
        model.Test, st.just("address"), st.just("net"), st.sampled_from([("10.0.0.0/24",), ("10.0.0.1",), ("::/0",)])
    )
)
own_conditions: st.SearchStrategy[Condition] = st.recursive(
    of_mine,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: All(tuple(parts)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: Any(tuple(parts)))
        | inner.map(Not)
    ),
    max_leaves=4,
)


@SETTINGS
@given(
    st.lists(own_conditions, min_size=1, max_size=6),
    st.lists(
        st.tuples(
            st.text("ab0xf", max_size=4), st.sampled_from(edges), st.sampled_from(edges), st.sampled_from([0, 1, 2, 7])
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_rules_on_fields_of_every_type_lose_nothing_and_are_exact_where_they_say_so(
    mine: tuple[Bench, Bench], rules: list[Condition], calls: list[tuple[str, int, int, int]]
) -> None:
    libc = ctypes.CDLL(None)

    def call() -> None:
        for text, size, count, rare in calls:
            numbers = [ctypes.c_ulong(number & MOST) for number in (size, count, rare)]
            assert libc.prctl(OPTION, ctypes.c_char_p(text.encode()), *numbers) == -1

    held_against_python(*mine, rules, call)
