"""The kernel's walk of a text against Python's word, text by text: where it skips, it skips no match."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfd.kernel.program import Build
from bpfd.plugin import BPFTracer, Field
from bpfd.rules import model
from bpfd.rules.model import Condition
from tests.kernel.conftest import Bench
from tests.rules.test_walks import Law, about, rules_and_texts

SAID = """
#include "filter.h"
#include "arguments.h"
TRACEPOINT_PROBE(syscalls, sys_exit_prctl) {
  struct pt_regs *registers = bpfd_registers();
  if ((u32)bpfd_argument(registers, 0) != 0x62706665)
    return 0;
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  void *said = (void *)bpfd_argument(registers, 1);
  u64 length = bpfd_argument(registers, 2);
  bpfd_barrier(length);
  e->number = bpfd_argument(registers, 3);
  bpfd_user_string(e, text, said);
  if (length < BPFD_LENGTH_words && !bpf_probe_read_user(e->words, length, said))
    e->bpfd_length[BPFD_NUMBER_words] = length;
  bpfd_user_string(e, tail, said);
  return bpfd_submit(args, e);
}
"""
OPTION = 0x62706665
KEPT = 600
"""Bytes of a text that are kept, more than are judged."""
_libc = ctypes.CDLL(None)
NEVER = tuple(f"never-{number:04d}-{number * 7919 % 9973:x}" for number in range(300))
CROWD = [model.Test(field, "contains", NEVER) for field in ("text", "words")]
"""Rules with so many patterns that a field's table of a sieve, and its rows, lie in other pages than the first."""


class Said(BPFTracer):
    """What is said to prctl(2): as a text, as words, and the begin of it in a field that is last and short."""

    name = "said"
    probes = ("tracepoint:syscalls:sys_exit_prctl",)
    fields = (
        Field("text", "up to NUL", length=KEPT),
        Field("words", "NUL shown as space", length=KEPT, spaces=True),
        Field("number", "which call it was", type="u64"),
        Field("tail", "the first seven bytes", length=8),
    )


@pytest.fixture(scope="module")
def said(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    Said.program = tmp_path_factory.mktemp("said") / "said.c"
    Said.program.write_text(SAID)
    bench = Bench(Said, build)
    yield bench
    bench.close()


@pytest.fixture
def one_processor() -> Iterator[None]:
    """What was said before stands behind a text in the memory of one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def say(text: bytes, number: int) -> None:
    assert _libc.prctl(OPTION, ctypes.c_char_p(text), ctypes.c_ulong(len(text)), ctypes.c_ulong(number), 0) == -1


def bits_left(said: Bench, texts: Sequence[bytes], behind: bytes) -> list[int]:
    """For each text, what the kernel leaves. `behind` is what stands in memory behind each of them."""
    for _ in range(20):
        lost = said.program.lost
        for number, text in enumerate(texts):
            say(behind[: KEPT - 1], len(texts))
            say(text, number)
        left = {int(event.data["number"]): bits for event, bits in said.events() if event.pid == os.getpid()}
        if said.program.lost == lost:  # else the kernel left some out: it had interrupted another BPF program
            return [left.get(number, 0) for number in range(len(texts))]
    raise AssertionError("events were lost, twenty times")


def shown(field: str, text: bytes) -> str:
    """The field's text, as Python judges it."""
    if field == "words":
        return text.replace(b"\0", b" ").decode("utf-8", "surrogateescape")
    raw = text.partition(b"\0")[0]
    return (raw[:7] if field == "tail" else raw).decode("utf-8", "surrogateescape")


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rules_and_texts(),
    st.lists(st.sampled_from(["text", "words", "tail"]), min_size=6, max_size=6),
    st.sampled_from([False] * 7 + [True]),
)
def test_the_kernels_walks_lose_nothing_and_leave_nothing_too_many(
    said: Bench, one_processor: None, given: tuple[list[Condition], list[bytes]], fields: list[str], crowded: bool
) -> None:
    some, texts = given
    rules = [about(rule, field) for field, rule in zip(fields, some, strict=False)]
    made = said.judge_by([*rules, *(CROWD if crowded else ())])
    law = Law(made, rules)
    behind = b"".join(texts).replace(b"\0", b"/")
    for text, bits in zip(texts, bits_left(said, texts, behind), strict=True):
        law.hold(bits, [shown(field, text) for field in fields[: len(rules)]], text)
