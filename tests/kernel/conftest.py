"""Programs loaded into the real kernel, without a daemon."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bpfd.containers.cgroups import find_hierarchy
from bpfd.event import HOST, Event
from bpfd.kernel import headers, image, program
from bpfd.kernel.program import Build, Program, Spec
from bpfd.kernel.record import make_decoder
from bpfd.pipeline import Clock
from bpfd.plugin import BPFTracer
from bpfd.rules import plan
from bpfd.rules.model import All, Condition
from bpfd.tracers.exec import ExecTracer
from bpfd.tracers.open import OpenTracer


class Bench:
    """A tracer's program, with the rules of the moment; the daemon's part is played by the test."""

    def __init__(self, tracer: type[BPFTracer], build: Build, ring_bytes: int = 0) -> None:
        self.tracer = tracer
        spec = Spec(tracer.name, tracer.program, tracer.fields, tracer.probes, ring_bytes or tracer.ring_bytes)
        self.program: Program = program.load(spec, build)
        self._decode = make_decoder(tracer, lambda cgroup: HOST, lambda uid: "", Clock(), "test")
        self._generations = itertools.count(1)
        self.plan = plan.make([All()], tracer.fields)
        self.generation = 0
        self.program.set_scope(own_cgroup(), image.scope_number(HOST.runtime))

    def judge_by(self, conditions: Sequence[Condition]) -> plan.Plan:
        """Put rules in force, and forget what came before."""
        self.plan = plan.make(conditions, self.tracer.fields)
        self.generation = next(self._generations)
        self.program.judge_by(image.lay_out(self.plan, self.tracer.fields, self.generation))
        self.events()
        return self.plan

    def rest(self) -> None:
        """Pass nothing more; what came before is still in the ring."""
        self.program.judge_by(image.nothing())

    def events(self) -> list[tuple[Event, int]]:
        """What is in the ring, each event with the bits that the kernel left it; judged by the rules in force alone."""
        return [(event, bits) for event, generation, bits in self.records() if generation == self.generation]

    def records(self) -> list[tuple[Event, int, int]]:
        """All that is in the ring: each event, the set of rules that judged it, and the bits that it was left."""
        found = []
        ring = self.program.ring
        # What another processor is about to write may stand before what is wanted.
        while (records := ring.read(1000)) or ring.pending():
            for record in records:
                event, (generation, bits) = self._decode(record)
                found.append((event, generation, bits))
        return found

    def wait_for(self, wanted: Callable[[Event], bool], within_s: float = 30.0) -> Event:
        """The first event that is wanted."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            for event, _ in self.events():
                if wanted(event):
                    return event
            time.sleep(0.005)
        raise AssertionError("waited in vain")

    def close(self) -> None:
        self.program.close()


def own_cgroup() -> int:
    """The id of the cgroup v2 that the tests run in."""
    [path] = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    return (find_hierarchy().mount / path.lstrip("/")).stat().st_ino


@pytest.fixture(scope="session")
def build(cache_dir: Path) -> Build:
    # The tests' own deeds are what is traced: no process is left out.
    return Build(headers.ensure(cache_dir), self_pid=0)


@pytest.fixture(scope="module")
def opens(build: Build) -> Iterator[Bench]:
    bench = Bench(OpenTracer, build)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def witness(build: Build) -> Iterator[Bench]:
    """A second program of the same tracer, which lets everything pass."""
    bench = Bench(OpenTracer, build)
    bench.judge_by([All()])
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def execs(build: Build) -> Iterator[Bench]:
    bench = Bench(ExecTracer, build)
    yield bench
    bench.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is the working directory meanwhile."""
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir(tmp_path)
    yield tmp_path
    os.fchdir(before)
    os.close(before)
