"""Plugins that are good run, those that are not are named and left out, and neither stops the daemon."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.running import RunningDaemon, until

GOOD = '''
import threading
import time

from bpfd import Action, BPFTracer, Field, Tracer, hookimpl
from pathlib import Path


class Beats(Tracer):
    """Beats of a clock."""

    name = "beats"
    fields = (Field("number", "which one"), Field("text", "what it says"))

    def start(self, emit):
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(emit,), name="beats")
        self._thread.start()

    def stop(self):
        self._ending.set()
        self._thread.join()

    def _run(self, emit):
        number = 0
        while not self._ending.wait(0.01):
            number += 1
            emit(
                {"number": str(number), "text": "tick\\n\\x1b\\udcff"},
                pid=41, uid=1000, command="clock", return_value=-number, container_id="c0ffee",
            )


class Burst(Tracer):
    """More at once than there is room for."""

    name = "burst"
    fields = (Field("number", "which one"), Field("taken", "how many were taken before"))

    def start(self, emit):
        self._taken = 0
        for number in range(5000):
            self._taken += emit({"number": str(number), "taken": str(self._taken)})

    def stop(self):
        pass


class Wall(Tracer):
    """Does not start."""

    name = "wall"

    def start(self, emit):
        raise OSError("the wall is closed")

    def stop(self):
        pass


class Grammar(BPFTracer):
    """Does not compile."""

    name = "grammar"
    program = Path(__file__).with_name("grammar.c")


class Unsafe(BPFTracer):
    """Does not pass the verifier."""

    name = "unsafe"
    program = Path(__file__).with_name("unsafe.c")
    probes = ("tracepoint:syscalls:sys_enter_getpgid",)


class Elsewhere(BPFTracer):
    """Attaches to what no kernel has."""

    name = "elsewhere"
    program = Path(__file__).with_name("unsafe.c")
    probes = ("tracepoint:syscalls:sys_enter_nowhere",)


class Groups(BPFTracer):
    """Calls of getpgid."""

    name = "groups"
    fields = (Field("asked", "of which process", type="s64"),)
    program = Path(__file__).with_name("groups.c")
    probes = ("tracepoint:syscalls:sys_enter_getpgid",)
    ring_bytes = 65536


class Shout(Action):
    """Raises."""

    name = "shout"

    def act(self, event):
        raise RuntimeError("too loud \\x1b[2J")


@hookimpl
def bpfd_register_tracers():
    return [Beats, Burst, Wall, Grammar, Unsafe, Elsewhere, Groups]


@hookimpl
def bpfd_register_actions():
    return [Shout]
'''
BROKEN = {
    "absent": ("import there_is_no_such_module\n", "cannot be loaded: ModuleNotFoundError"),
    "syntax": ("def (:\n", "cannot be loaded: SyntaxError"),
    "exits": ("raise SystemExit(3)\n", "cannot be loaded: SystemExit: 3"),
    "failing": (
        "from bpfd import hookimpl\n@hookimpl\ndef bpfd_register_tracers():\n    raise RuntimeError('no')\n",
        "its hook failed: RuntimeError: no",
    ),
    "nameless": (
        'from bpfd import Tracer, hookimpl\nclass Nameless(Tracer):\n    """One."""\n'
        "    def start(self):\n        pass\n    def stop(self):\n        pass\n"
        "@hookimpl\ndef bpfd_register_tracers():\n    return [Nameless]\n",
        "Nameless: start(self): must take (self, emit)",
    ),
    "stolen": (
        'from bpfd import Tracer, hookimpl\nclass Open(Tracer):\n    """One."""\n    name = "open"\n'
        "    def start(self, emit):\n        pass\n    def stop(self):\n        pass\n"
        "@hookimpl\ndef bpfd_register_tracers():\n    return [Open]\n",
        'Open: name: "open" is taken by bpfd.tracers.open; choose another',
    ),
}
GRAMMAR_C = """
#include "filter.h"
TRACEPOINT_PROBE(syscalls, sys_enter_getpgid) { this is no C; }
"""
UNSAFE_C = """
#include "filter.h"
TRACEPOINT_PROBE(syscalls, sys_enter_getpgid) {
  struct bpfd_event *e = bpfd_begin();
  return *(volatile int *)((char *)e + 8);
}
"""
GROUPS_C = """
#include "filter.h"
BPF_HASH(answers, u64, u64, 16);
TRACEPOINT_PROBE(syscalls, sys_enter_getpgid) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  e->asked = args->pid;
  return bpfd_submit(args, e);
}
"""


def install(place: Path, name: str, text: str) -> None:
    """Put a distribution of one module there, as pip would."""
    (place / f"bpfd_{name}.py").write_text(textwrap.dedent(text))
    info = place / f"bpfd_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: bpfd-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[bpfd]\n{name} = bpfd_{name}\n")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Iterator[RunningDaemon]:
    """A daemon with all these plugins, and a rule for each tracer."""
    place = tmp_path_factory.mktemp("plugins")
    install(place, "good", GOOD)
    for name, (text, _) in BROKEN.items():
        install(place, name, text)
    for name, text in (("grammar", GRAMMAR_C), ("unsafe", UNSAFE_C), ("groups", GROUPS_C)):
        (place / f"{name}.c").write_text(text)
    made = RunningDaemon(tmp_path_factory.mktemp("plugged"), cache_dir)
    made.environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))
    try:
        made.write_rule("beats", 'tracer = "beats"\n[filterEvents.number]\nsuffix = ["7"]\n')
        made.write_rule("burst", 'tracer = "burst"\n')
        made.write_rule(
            "groups", 'tracer = "groups"\nactions = ["shout", "stdout"]\n[filterEvents.asked]\nis = [424242]\n'
        )
        for name in ("wall", "grammar", "unsafe", "elsewhere"):
            made.write_rule(name, f'tracer = "{name}"\n')
        made.write_rule("open", 'tracer = "open"\n[filterEvents.filename]\nvalues = ["nothing"]\n')
        yield made.start(config="event_queue = 100\n")
    finally:
        made.close()


def test_a_plugin_that_fails_is_named_and_left_out(shared: RunningDaemon) -> None:
    problems = shared.json("status")["problems"]
    for name, (_, said) in BROKEN.items():
        where = f"plugin bpfd-{name} (bpfd_{name}): "
        assert [line for line in problems if line.startswith(where) and said in line], (name, problems)
        assert [line for line in shared.log.splitlines() if where in line and said in line], shared.log
    assert "Traceback" not in shared.log


FAILED = {
    "wall": "the wall is closed",
    "grammar": "grammar.c:",
    "unsafe": "invalid mem access",
    "elsewhere": "this kernel has no tracepoint:syscalls:sys_enter_nowhere",
}


@pytest.mark.parametrize(("tracer", "said"), FAILED.items(), ids=FAILED)
def test_a_tracer_that_does_not_load_is_reported_and_the_others_run(
    shared: RunningDaemon, tracer: str, said: str
) -> None:
    status = shared.tracer(tracer)
    assert (status["state"], said in status["problem"]) == ("failed", True), status
    assert status["problem"].startswith(f'tracer "{tracer}": ')
    rule = shared.rule(tracer)
    assert (rule["state"], rule["problem"]) == ("not running", status["problem"])
    assert status["problem"] in shared.json("status")["problems"]
    assert tracer in shared.log
    assert {shared.tracer(name)["state"] for name in ("beats", "burst", "groups", "open")} == {"running"}


def test_a_rule_for_a_tracer_that_does_not_load_is_refused(shared: RunningDaemon) -> None:
    path = shared.place / "more.toml"
    path.write_text('tracer = "grammar"\n')
    assert "grammar.c:" in shared.bpfd("create", str(path), code=1)
    assert "more" not in {rule["name"] for rule in shared.json("ls")}


def test_events_of_a_tracer_without_bpf_go_the_same_way(shared: RunningDaemon) -> None:
    first, second = shared.wait_for(lambda event: event["rule"] == "beats", 2)[:2]
    number = int(first["data"]["number"])
    assert (number % 10, second["data"]["number"]) == (7, str(number + 10))
    assert first["data"]["text"] == "tick\n\x1b\\xff"
    assert (first["pid"], first["tid"], first["uid"], first["command"]) == (41, 41, 1000, "clock")
    assert (first["returnValue"], first["containerID"]) == (-number, "c0ffee")
    assert abs(first["time"] - time.time_ns()) < 600e9
    trace = shared.trace("--tracer", "beats")
    shared.create("every-beat", 'tracer = "beats"\n')
    events = trace.wait_for(lambda event: event["rule"] == "every-beat", 5)
    shared.bpfd("rm", "every-beat")
    numbers = [int(event["data"]["number"]) for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_what_a_tracer_without_bpf_emits_beyond_the_queue_is_counted(shared: RunningDaemon) -> None:
    """It is told so at once, and the counts add up."""

    def counted() -> bool:
        received = shared.tracer("burst")["received"]
        return bool(received) and received + shared.json("status")["counters"]["events.queue_full"] >= 5000

    until(counted, lambda: shared.json("status"))
    assert shared.tracer("burst")["received"] < 5000


def test_a_strangers_bpf_tracer_is_filtered_in_the_kernel_and_its_action_may_fail(shared: RunningDaemon) -> None:
    before = shared.tracer("groups")["received"]
    ask = "import os\nfor pid in [1] * 1000 + [424242]:\n  try: os.getpgid(pid)\n  except OSError: pass\n"
    python = subprocess.Popen(["python3", "-I", "-c", ask])
    python.wait()
    (event,) = shared.wait_for(lambda event: event["rule"] == "groups" and event["pid"] == python.pid)
    assert event["data"] == {"asked": "424242"}
    assert shared.tracer("groups")["received"] == before + 1
    counters = until(
        lambda: {n: c for n, c in shared.json("status")["counters"].items() if n.startswith("action.shout") and c},
        lambda: shared.json("status"),
    )
    assert "too loud \\x1b[2J" in until(lambda: "too loud" in shared.log and shared.log, lambda: counters)


def test_tracers_that_fail_are_tried_again_when_the_rules_are_read_anew_and_not_at_every_change(
    shared: RunningDaemon,
) -> None:
    said = shared.log.count("grammar.c:")
    shared.create("other", 'tracer = "beats"\n[filterEvents.number]\nvalues = ["-"]\n')
    shared.bpfd("rm", "other")
    assert shared.log.count("grammar.c:") == said
    assert shared.process is not None
    shared.process.send_signal(signal.SIGHUP)
    until(lambda: shared.log.count("grammar.c:") > said, lambda: shared.log)
    assert shared.rule("grammar")["state"] == "not running"
