"""A daemon with rules on processes, names of files and privileged calls tells what they match, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.daemon.running import RunningDaemon, until
from tests.tracers.tracing import python

RULES = {
    "process": '[filterEvents.action]\nvalues = ["exit"]\n[filterEvents.signal]\nvalues = ["SIGUSR2"]',
    "rename": '[filterEvents.new_path]\nvalues = ["{folder}/stolen"]',
    "unlink": '[filterEvents.path]\nvalues = ["{folder}/stolen"]',
    "mkdir": '[filterEvents.path]\nvalues = ["{folder}/.hidden"]',
    "setuid": '[filterEvents.call]\nvalues = ["setresuid"]\n[filterEvents.new_real]\nvalues = [4711]',
    "setns": '[filterEvents.type]\nvalues = ["uts"]',
    "ptrace": '[filterEvents.request]\nvalues = ["PTRACE_SEIZE"]\n[filterEvents.returnValue]\nbelow = 0',
    "mount": '[filterEvents.path]\nvalues = ["{folder}/missing"]',
    "module": '[filterEvents.name]\nvalues = ["no_such_module"]',
    # Tests beside this one do much with maps, and little of it fails.
    "bpf": '[filterEvents.operation]\nprefix = ["BPF_MAP_"]\n[filterEvents.returnValue]\nbelow = 0',
    "iouring": '[filterEvents.operation]\nvalues = ["OPENAT"]\n[filterEvents.path]\nvalues = ["{folder}/secret"]',
}
DEEDS = """
import ctypes, os, sys
from tests.tracers.ring import Ring
libc = ctypes.CDLL(None)
os.chdir(sys.argv[1])
for name in ('near', 'plain', 'secret'): open(name, 'w').close()
for name in ('visible', '.hidden'): os.mkdir(name)
os.rename('near', 'elsewhere')
os.rename('plain', './stolen')
os.unlink('elsewhere')
os.unlink('stolen')
for kind in ('net', 'uts'): libc.setns(os.open(f'/proc/self/ns/{kind}', os.O_RDONLY), 0)
libc.ptrace(0x4206, os.getpid(), None, None)
for name in (b'elsewhere', b'missing'): libc.mount(b'none', name, b'tmpfs', 0, None)
for name in (b'other', b'no_such_module'): libc.syscall(176, name, 0)
libc.syscall(321, 1, bytes(32), 32)
with Ring() as ring:
    for name in (b'/etc/hostname', b'secret'): os.close(ring.do(18, -100, name))
os.setresuid(4712, 0, 0)
os.setresuid(4711, 0, 0)
os.kill(os.getpid(), 12)
"""


def test_every_rule_of_a_daemon_on_these_tracers_is_told_of_its_deed_alone(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for tracer, filters in RULES.items():
        daemon.write_rule(f"watch-{tracer}", f'tracer = "{tracer}"\n{filters.format(folder=folder)}\n')
    daemon.start()
    words = [sys.executable, "-c", DEEDS, str(folder)]
    deeds = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    assert deeds.wait() == -12

    def missing() -> set[str]:
        rules = {event["rule"] for event in daemon.lines.read() if event["pid"] == deeds.pid}
        return {f"watch-{tracer}" for tracer in RULES} - rules

    until(lambda: not missing(), lambda: (missing(), daemon.json("status"), daemon.log))
    told = [event for event in daemon.lines.read() if event["pid"] == deeds.pid]
    by_rule = {event["rule"]: event["data"] for event in told}
    assert sorted(event["rule"] for event in told) == sorted(f"watch-{tracer}" for tracer in RULES)
    assert by_rule["watch-process"]["exit_code"] == "0"
    assert int(by_rule["watch-process"]["duration"]) > 0
    assert by_rule["watch-rename"]["path"] == f"{folder}/plain"
    assert (by_rule["watch-setuid"]["old_real"], by_rule["watch-setuid"]["new_real"]) == ("4712", "4711")
    assert by_rule["watch-ptrace"]["target"] == str(deeds.pid)
    assert by_rule["watch-mount"]["fstype"] == "tmpfs"
    assert by_rule["watch-bpf"] == {"operation": "BPF_MAP_LOOKUP_ELEM"}
    assert by_rule["watch-iouring"]["filename"] == "secret"


def test_a_rule_on_everything_that_is_done_with_bpf_is_not_told_of_the_daemon(daemon: RunningDaemon) -> None:
    daemon.write_rule("bpf", 'tracer = "bpf"\n')
    daemon.start()
    daemon.create("later", 'tracer = "mkdir"\n[filterEvents.path]\nsuffix = ["/a-directory-for-this-test"]\n')
    pid = python("import ctypes; ctypes.CDLL(None).syscall(321, 1, bytes(32), 32)")
    daemon.wait_for(lambda event: event["pid"] == pid)
    assert not [event for event in daemon.lines.read() if daemon.pid in (event["pid"], event["ppid"])]
