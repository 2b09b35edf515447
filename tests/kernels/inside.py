"""python -m tests.kernels.inside SHARED: what is done in the guest, as root, by the kernel that is asked.

To compile is slow there, so what is to be compiled is written to SHARED/jobs.json; when SHARED/compiled is there, all
of it is in the cache. Then each tracer's program is loaded as the daemon loads it, with rules in force, and has to tell
what is done. What came of it is a line of JSON in SHARED/results: the tracer, what became of it, and what was said.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bpfd import tracers
from bpfd.containers import watch
from bpfd.errors import BpfdError
from bpfd.kernel import headers, probes, program
from bpfd.kernel.child import close_all
from bpfd.kernel.compiled import SELF, Kept, key_of
from bpfd.kernel.install import CannotInstallError, install
from bpfd.kernel.program import Build, Spec
from bpfd.plugin import BPFTracer, TracerFamily
from bpfd.rules.model import All, Test
from bpfd.tracers.open import OpenTracer
from bpfd.tracers.syscall import Syscalls
from tests.kernel.conftest import Bench
from tests.kernels import compiling, deeds

WATCHED, OTHER = Path("/run/watched"), Path("/run/other")
RULES = [Test("command", "suffix", ("no-such-command",))]
CALLS = ("syscall:*", "syscall:accept4", "syscall:openat", "syscall:read", "syscall:write")
"""They take what the example does not: an address that is filled in, a text, bytes that came, bytes that were given."""
WAIT_S = 20.0
TAKEN, REFUSED, WRONG, MISSING, DONE = "taken", "refused", "taken, but wrong", "not for this kernel", "done"


def in_kernel() -> Iterator[type[BPFTracer]]:
    """Every built-in tracer that has a program; of a family its example, and of system calls one of each kind."""
    for one in tracers.bpfd_register_tracers():
        if issubclass(one, TracerFamily):
            found = [one.find(name) for name in (one.example, *(CALLS if one is Syscalls else ()))]
        else:
            found = [one]
        yield from (made for made in found if made is not None and issubclass(made, BPFTracer))


def spec_of(tracer: type[BPFTracer]) -> Spec:
    return Spec(tracer.name, tracer.program, tracer.fields, tracer.probes, tracer.ring_bytes)


def main() -> None:
    shared = Path(sys.argv[1])
    build = Build(headers.ensure(shared / "cache"))
    missing = {tracer: probes.here(tracer.probes)[1] for tracer in in_kernel()}
    wanted = [tracer for tracer, why in missing.items() if not why]
    specs = [watch.SPEC, *map(spec_of, wanted)]
    jobs = {spec.name: program._job(spec, build, SELF) for spec in specs}
    for spec in specs:
        copy_formats(spec.probes, shared / compiling.EVENTS)
    (shared / "jobs.new").write_text(json.dumps(jobs))
    (shared / "jobs.new").rename(shared / "jobs.json")
    while not (shared / "compiled").exists():
        time.sleep(0.1)
    with (shared / "results").open("w") as results:

        def tell(name: str, outcome: str, said: str = "") -> None:
            results.write(json.dumps([name, outcome, said]) + "\n")
            results.flush()

        for tracer, why in missing.items():
            if why:
                tell(tracer.name, MISSING, why)
        for outcome in outcomes(wanted, build):
            tell(*outcome)
        tell("", DONE)


def copy_formats(names: tuple[str, ...], events: Path) -> None:
    """What bcc reads of the events that are there."""
    for name in probes.here(names)[0]:
        kind, _, place = name.partition(":")
        if kind == "tracepoint":
            format_ = probes.tracefs() / "events" / place.replace(":", "/") / "format"
            copy = events / format_.relative_to(probes.tracefs() / "events")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(format_.read_text())


def outcomes(wanted: list[type[BPFTracer]], build: Build) -> Iterator[tuple[str, str, str]]:
    """Of each program its name, what became of it, and what is said of that."""
    try:
        program.load(watch.SPEC, build).close()
        yield watch.SPEC.name, TAKEN, ""
    except BpfdError as error:
        yield watch.SPEC.name, REFUSED, f"{error}\n{what_the_verifier_says(watch.SPEC, build)}"
    for tracer in wanted:
        try:
            bench = Bench(tracer, build)
        except BpfdError as error:
            yield tracer.name, REFUSED, f"{error}\n{what_the_verifier_says(spec_of(tracer), build)}"
            continue
        try:
            bench.judge_by(RULES)
            missed = what_is_missed(bench) if tracer is OpenTracer else ""
            missed = missed or deeds.untold(bench, WAIT_S)
            yield tracer.name, WRONG if missed else TAKEN, missed
        finally:
            bench.close()


def what_the_verifier_says(spec: Spec, build: Build) -> str:
    """bcc says it too, if it comes to it in time; it compiles first, and then lets the verifier count to a million."""
    job = program._job(spec, build, SELF)
    compiled = Kept(build.headers.parent).read(key_of(job))
    if compiled is None:
        return "it was not compiled"
    try:
        close_all(install(compiled, job["kind"], 0)[1])
    except (OSError, CannotInstallError) as error:
        return "\n".join([str(error), *getattr(error, "__notes__", ())])
    return "at the second time it was taken"


def what_is_missed(opens: Bench) -> str:
    """Of two files that are opened, the one that the rule names must be told, and the kernel must keep the other."""
    opens.judge_by([All((Test("filename", "is", (str(WATCHED),)), Test("path", "suffix", (WATCHED.name,))))])
    passed = opens.program.passed
    for path in (OTHER, WATCHED, OTHER):
        path.write_text("")
    try:
        told = opens.wait_for(lambda event: event.data["path"] == str(WATCHED), WAIT_S)
    except AssertionError:
        return f"{WATCHED} was opened, and not told"
    if opens.program.passed != passed + 1:
        return f"{opens.program.passed - passed} events passed, and one was to"
    return "" if told.data["writes"] == "true" else f"told wrongly: {told.data}"


if __name__ == "__main__":
    main()
