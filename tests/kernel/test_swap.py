"""Rules are swapped under load, and a rule that stays misses nothing."""

from __future__ import annotations

import random
import subprocess
import sys

from bpfd.kernel import image
from bpfd.kernel.program import Build
from bpfd.rules import model
from bpfd.rules import plan as planning
from bpfd.rules.model import Condition
from bpfd.tracers.open import OpenTracer
from tests.kernel.conftest import Bench

OPENER = """
import os, select, sys
count = 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.001)[0]:
    for _ in range(10):
        count += 1
        try: os.open(f"/nowhere/watched-{count}", os.O_RDONLY)
        except OSError: pass
print(count)
"""


def test_a_rule_that_stays_loses_no_event_while_rules_are_swapped_five_hundred_times(build: Build) -> None:
    always = model.Test("filename", "contains", ("/watched-",))
    rng = random.Random(5)
    bench = Bench(OpenTracer, build)
    rules_of: dict[int, tuple[tuple[int, ...], ...]] = {}
    places: dict[int, int] = {}
    seen: list[str] = []

    def swap(generation: int) -> None:
        others: list[Condition] = [
            model.Test(rng.choice(["filename", "path", "command"]), "contains", (f"other-{rng.random()}",))
            for _ in range(rng.choice([0, 1, 5, 100]))
        ]
        places[generation] = rng.randint(0, len(others))
        others.insert(places[generation], always)
        plan = planning.make(others, OpenTracer.fields)
        rules_of[generation] = plan.rules_of
        bench.program.judge_by(image.lay_out(plan, OpenTracer.fields, generation))

    def take() -> None:
        for event, generation, bits in bench.records():
            wanted = "/watched-" in event.data["filename"]
            if not generation or wanted:
                left = {rule for bit, of in enumerate(rules_of.get(generation, ())) if bits >> bit & 1 for rule in of}
                if wanted and (not generation or places[generation] in left):
                    seen.append(event.data["filename"])

    swap(1)
    try:
        with subprocess.Popen(
            [sys.executable, "-c", OPENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as opener:
            assert opener.stdout is not None
            assert opener.stdin is not None
            try:
                assert opener.stdout.readline() == "ready\n"
                for generation in range(2, 502):
                    swap(generation)
                    take()
                opener.stdin.close()
                opened = int(opener.stdout.readline())
            finally:
                opener.kill()
        take()
        assert bench.program.lost == 0
        assert opened > 5000
        assert seen == [f"/nowhere/watched-{number}" for number in range(1, opened + 1)]
    finally:
        bench.close()
