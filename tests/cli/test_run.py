"""The command line of `bpfd run`; what it sees is tested in tests/daemon/."""

from __future__ import annotations

import os
import threading

import pytest

from bpfd.cli import run_
from bpfd.cli.main import main, parser
from bpfd.plugin import Tracer
from bpfd.rules import model
from bpfd.rules.model import All
from bpfd.tracers.open import OpenTracer
from tests.cli.program import Bpfd


def condition_of(*flags: str, tracer: type[Tracer] | type[OpenTracer] = OpenTracer) -> object:
    return run_._condition(parser().parse_args(["run", tracer.name, *flags]), tracer)


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        (["opem"], 1, 'there is no tracer "opem"; did you mean "open"?'),
        (["open", "--for", "5"], 2, '--for: is no length of time; write such as "500ms", "10s" or "1h30m"'),
        (["open", "--where", "comand = x"], 2, '--where: tracer "open" has no field "comand"; did you mean "command"?'),
        (["open", "--where", "pid ="], 2, "--where: "),
        (["open", "--where", "pid = x"], 2, '--where: "x" is no whole number, but "pid" is one; write digits only'),
        (["open", "--where", ""], 2, "--where: is empty; leave it out, or say what you look for"),
        (["open", "--command", ""], 2, "--command: is empty; leave it out, or say what you look for"),
        (["open", "--command", os.fsdecode(b"\xff")], 2, "--command: is no UTF-8 text"),
        (["open", "--pid", "4194305"], 2, "--pid: there is no process 4194305"),
    ],
)
def test_what_is_wrong_is_one_line(
    flags: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *flags]) == status
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert errors.startswith(said)


@pytest.mark.parametrize("flags", [["--pid", "0"], ["--pid", "x"], ["--count", "-1"], ["--json", "--csv"]])
def test_a_wrong_flag_is_one_line_and_status_2(bpfd: Bpfd, flags: list[str]) -> None:
    result = bpfd.run("run", "open", *flags)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)


def test_all_flags_must_hold_together() -> None:
    found = condition_of("--pid", str(os.getpid()), "--command", "cat", "--where", "uid = 0")
    wanted = {"pid": str(os.getpid()), "command": "cat", "uid": "0"}
    assert found == All(tuple(model.Test(field, "is", (value,)) for field, value in wanted.items()))
    assert condition_of() == All()


def test_a_command_longer_than_the_kernel_keeps_is_cut_as_the_kernel_does() -> None:
    assert condition_of("--command", "systemd-journald") == All((model.Test("command", "is", ("systemd-journal",)),))


def test_the_number_of_a_thread_is_refused_with_its_process() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="other")
    thread.start()
    try:
        with pytest.raises(run_.UsageError, match=f"is a thread of process {os.getpid()}; give --pid {os.getpid()}"):
            condition_of("--pid", str(thread.native_id))
    finally:
        over.set()
        thread.join()


def test_a_condition_that_can_never_hold_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    condition_of("--where", "pid = 1 and pid = 2")
    assert capsys.readouterr().err.startswith("bpfd: --where: warning: never matches: ")


def test_without_root_it_says_that_root_is_needed(bpfd: Bpfd) -> None:
    process = bpfd.start("run", "open", user=65534, group=65534, env={"PATH": os.environ["PATH"], "HOME": "/"})
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors == "bpfd run must run as root: it loads BPF programs; run it with sudo\n"


def test_a_tracer_without_bpf_needs_no_root(bpfd: Bpfd) -> None:
    process = bpfd.start(
        "run", "ticker", "--count", "2", user=65534, group=65534, env={"PATH": os.environ["PATH"], "HOME": "/"}
    )
    output, errors = process.communicate(timeout=30)
    head, first, second = output.splitlines()
    assert (process.returncode, errors) == (0, "bpfd: watching ticker; Ctrl-C ends\n")
    assert (head.split()[-1], first.split()[-1], second.split()[-1]) == ("tick", "1", "2")


def test_only_ticks_that_are_asked_for_are_printed(bpfd: Bpfd) -> None:
    result = bpfd.run("run", "ticker", "--count", "1", "--csv", "--where", "tick > 1")
    assert [line.rsplit(",", 1)[1] for line in result.stdout.splitlines()] == ["tick", "2"]


def test_what_is_lost_is_named_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    run_._say_losses({}, 0)
    assert capsys.readouterr().err == ""
    run_._say_losses({"tracer.open.lost": 40}, 2)
    assert capsys.readouterr().err == "bpfd: 42 events lost (tracer.open.lost 40, unread 2)\n"
    run_._say_losses({"tracer.open.lost": 1}, 0)
    assert capsys.readouterr().err == "bpfd: 1 event lost (tracer.open.lost 1)\n"
