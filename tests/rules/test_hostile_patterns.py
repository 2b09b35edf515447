"""Patterns that would blow an automaton up fall back, in about a second and little memory, and lose nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bpfd.rules import model, patterns, plan
from bpfd.rules.automaton import NOTHING
from bpfd.rules.model import Condition, Not
from bpfd.tracers.open import OpenTracer

HOSTILE = {
    "nested repeats": '[T("filename", "regex", ("((a{1,30}){1,30}b)*", "(((a*)*)*b)*c"))]',
    "huge bounded repeats": '[T("filename", "regex", tuple(f"x{i}.{{1000}}y" for i in range(90)))]',
    "repeats that take many states": '[T("filename", "regex", tuple(f"a{i}.{{40}}b" for i in range(2000)))]',
    "thousands of globs": '[T("filename", "glob", tuple(f"*a{i}*b{i}*" for i in range(5000)))]',
    "globs of which each doubles the states": '[T("filename", "glob", (f"*a{i}*b{i}*",)) for i in range(60)]',
    "thousands of regular expressions": '[T("filename", "regex", (f"^/[a-z]+/{i}[0-9]*$",)) for i in range(5000)]',
    "100,000 patterns": '[T("filename", "contains", tuple(f"needle-{i:06d}" for i in range(100000)))]',
    "10,000 that ignore case": '[T("filename", "contains", (f"Needle{i}",), True) for i in range(10000)]',
    "4 KiB patterns": '[T("filename", "glob", ("*".join(["ab?"] * 1000),)), T("filename", "regex", ("(ab|c)*" * 580,))]'
    ' + [T("filename", "contains", ("x" * 4096,), True)]',
    "classes of all of Unicode": '[T("filename", "regex", tuple(f"[{chr(256 + i)}-{chr(8192 + i * 7)}]{{1,30}}x"'
    " for i in range(200)))]",
    "deep groups": '[T("filename", "regex", ("(" * 900 + "a" + ")" * 900,))]',
}
CHILD = """
import sys, time
from bpfd.kernel import image
from bpfd.rules import plan
from bpfd.rules.model import Test as T
from bpfd.tracers.open import OpenTracer
rules = %s
begun = time.process_time()
planned = plan.make(rules, OpenTracer.fields)
print(time.process_time() - begun)
image.lay_out(planned, OpenTracer.fields, 1)
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.parametrize("rules", HOSTILE.values(), ids=HOSTILE.keys())
def test_patterns_of_any_kind_are_planned_within_a_second_and_200_mebibytes(rules: str) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD % rules], capture_output=True, text=True, timeout=60, check=True)
    seconds, peak_kib = done.stdout.split()
    assert float(seconds) < 2, "a second, and as much again for a machine that has other things to do"
    assert int(peak_kib) < 250 * 1024, "200 MiB, and the program itself"


def left(planned: plan.Plan, text: bytes) -> int:
    """The bits that the kernel leaves an event whose name is `text`."""
    bits = planned.bits
    for walk in planned.texts.get("filename", ()):
        found = NOTHING
        for automaton in walk.automata:
            found = found.with_(automaton.walk(text))
        bits &= (found.wanted | walk.free) & ~found.refused
    return bits


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (("((a{1,30}){1,30}b)*c",), b"/xaabaabc"),
        (("x.{1000}y",), b"x" + b"-" * 1000 + b"y"),
        (("a.{40}b", "[ab]{300}"), b"a" + b"\xff" * 40 + b"b"),
        (("(" * 900 + "a" + ")" * 900,), b"a"),
        (("(ab|c)*" * 580,), b"/abcab"),
    ],
)
def test_a_pattern_that_falls_back_loses_nothing(values: tuple[str, ...], text: bytes) -> None:
    test = model.Test("filename", "regex", values)
    assert patterns.judge(test)(text.decode("utf-8", "surrogateescape"))
    planned = plan.make([test, model.Test("filename", "is", ("x",))], OpenTracer.fields)
    assert "the kernel" in planned.inexact[0]
    assert left(planned, text) & 1


def test_empty_patterns_are_found_in_every_text() -> None:
    rules: list[Condition] = [
        model.Test("filename", operator, ("",)) for operator in ("contains", "prefix", "suffix", "regex")
    ]
    rules += [
        model.Test("filename", "glob", ("*",)),
        model.Test("filename", "is", ("",)),
        Not(model.Test("filename", "contains", ("",))),
    ]
    planned = plan.make(rules, OpenTracer.fields)
    assert not planned.inexact
    assert left(planned, b"") == 0b0111111
    assert left(planned, b"/a") == 0b0011111
