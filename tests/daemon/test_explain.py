"""What a running daemon says of its rules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.daemon.running import RunningDaemon, open_rule, until
from tests.daemon.test_rules import touch

ALWAYS = Path("/proc/sys/kernel/bpf_stats_enabled")


def test_a_rule_is_explained_with_what_was_seen_passed_matched_and_what_it_cost(
    shared: RunningDaemon, tmp_path: Path
) -> None:
    counted = ALWAYS.read_text()
    name = f"{tmp_path.name}/x"
    shared.create("told", open_rule(name))
    shared.create("user", f'tracer = "open"\ncondition = "filename startswith {tmp_path}/x and user = root"\n')
    for _ in range(5):
        touch(tmp_path / "x")
    until(lambda: shared.rule("told")["matched"] == 5, lambda: shared.rule("told"))
    loop = "import os\nwhile True: os.close(os.open('/dev/null', os.O_RDONLY))"
    busy = subprocess.Popen([sys.executable, "-c", loop])
    try:
        told = shared.json("explain", "told")
    finally:
        busy.kill()
        busy.wait()
    assert (told["exact"], told["reason"], told["tracer"], told["matched"]) == (True, "", "open", 5)
    assert told["clauses"] == [{"text": f'filename contains "{name}"', "inKernel": True, "reason": ""}]
    assert told["seen"] > told["passed"] >= 5
    assert 20 < told["probeNs"] < 20_000
    assert ALWAYS.read_text() == counted
    user = shared.bpfd("explain", "user")
    assert "Python decides: user is: only Python knows the field's text" in user
    assert "5 matched" in user
    shared.bpfd("rm", "told", "user")
    assert "there is no rule" in shared.bpfd("explain", "told", code=1)


def test_counting_what_probes_cost_holds_no_descriptor(shared: RunningDaemon) -> None:
    shared.create("once", open_rule("nothing is named like this"))

    def descriptors() -> list[str]:
        return sorted(os.readlink(entry) for entry in Path(f"/proc/{shared.pid}/fd").iterdir() if entry.is_symlink())

    shared.json("explain", "once")
    before = [name for name in descriptors() if name.startswith("anon_inode:bpf")]
    shared.json("explain", "once")
    assert [name for name in descriptors() if name.startswith("anon_inode:bpf")] == before
    shared.bpfd("rm", "once")


def test_rules_beyond_the_kernels_bits_say_so(shared: RunningDaemon, tmp_path: Path) -> None:
    for number in range(70):
        shared.write_rule(f"many-{number}", open_rule(f"{tmp_path}/{number}/"))
    until(lambda: sum(rule["name"].startswith("many-") for rule in shared.json("ls")) == 70, lambda: shared.log)
    said = shared.json("explain", "many-1")
    assert (said["exact"], "more than 64 alternatives" in said["reason"]) == (False, True)
    assert [clause["inKernel"] for clause in said["clauses"]] == [True]
    for number in range(70):
        (shared.rules_dir / f"many-{number}.toml").unlink()
