"""What the daemon keeps resident."""

from __future__ import annotations

from pathlib import Path

from tests.daemon.running import RunningDaemon

MOST_KIB = 64 * 1024


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def test_a_daemon_is_small_also_the_first_time_on_a_kernel(tmp_path: Path) -> None:
    daemon = RunningDaemon(tmp_path, tmp_path / "cache")
    try:
        daemon.write_rule("opened", 'tracer = "open"\n[filterEvents.filename]\nis = ["/never/there"]\n')
        daemon.write_rule("started", 'tracer = "exec"\n[filterEvents.command]\nis = ["never-there"]\n')
        daemon.start()
        assert resident_kib(daemon.pid) < MOST_KIB, "what was made of the kernel's types is still there"
        daemon.stop()
        daemon.start()
        assert resident_kib(daemon.pid) < MOST_KIB
    finally:
        daemon.close()
