"""What is gone before the daemon reads its event is told whole all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from bpfd.containers.cgroups import find_hierarchy
from tests.daemon.running import RunningDaemon, until

CONTAINERS = 3000
NOBODY = 65534


def cgroup(above: Path, container: str) -> Path:
    """A cgroup of the sort that Docker makes."""
    place = above / f"docker-{container}.scope"
    place.mkdir()
    return place


def run_in(place: Path, *words: str) -> int:
    """Run a program there, and wait until nobody is left; its pid."""
    line = f'echo $$ > {place}/cgroup.procs; exec "$@"'
    process = subprocess.Popen(["sh", "-c", line, "sh", *words])
    assert process.wait(20) == 0
    until(lambda: not (place / "cgroup.procs").read_text(), lambda: f"{place} is not left")
    return process.pid


def remove(above: Path) -> None:
    for place in above.glob("*.scope"):
        place.rmdir()
    above.rmdir()


def test_process_parent_and_container_are_gone_before_their_event_is_read(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    wanted = f'condition = "argv contains {tmp_path.name} and ancestors exists"\n'
    daemon.write_rule("gone", f'tracer = "exec"\n{wanted}')
    daemon.start()
    container = f"{os.getpid():064x}"
    above = find_hierarchy().mount / f"bpfd-gone-{os.getpid()}"
    above.mkdir()
    code = f"import os, subprocess, sys; os.setgid({NOBODY}); os.setuid({NOBODY}); subprocess.run(sys.argv[1:])"
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        place = cgroup(above, container)
        parent = run_in(place, sys.executable, "-Ic", code, "/bin/echo", tmp_path.name)
    finally:
        remove(above)
        os.kill(daemon.pid, signal.SIGCONT)
    assert not Path(f"/proc/{parent}").exists()
    [event] = daemon.wait_for(lambda event: event["data"]["argv"] == f"/bin/echo {tmp_path.name}")
    assert not Path(f"/proc/{event['pid']}").exists()
    assert (event["ppid"], event["uid"], event["gid"], event["command"]) == (parent, NOBODY, NOBODY, "echo")
    assert (event["containerID"], event["containerRuntime"]) == (container, "docker")
    assert event["data"]["parent"].startswith("python")


def test_of_thousands_of_containers_each_is_named_and_nothing_is_kept_of_those_that_went(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    daemon.write_rule("run", f'tracer = "exec"\n[filterEvents.argv]\nvalues = ["{tmp_path.name}-"]\n')
    daemon.start()
    before = resident_kib(daemon.pid)
    above = find_hierarchy().mount / f"bpfd-many-{os.getpid()}"
    above.mkdir()
    ids = [f"{number:064x}" for number in range(0xC000000, 0xC000000 + CONTAINERS)]
    chosen = [*ids[:3], *ids[CONTAINERS // 2 :][:3], *ids[-3:]]
    try:
        places = {container: cgroup(above, container) for container in ids}
        for container in chosen:
            run_in(places[container], "/bin/echo", f"{tmp_path.name}-{container}")
        events = daemon.wait_for(lambda event: event["data"]["argv"].startswith("/bin/echo"), len(chosen))
    finally:
        remove(above)
    assert [event["containerID"] for event in events] == chosen
    assert all(event["data"]["argv"].endswith(event["containerID"]) for event in events)
    took = resident_kib(daemon.pid) - before
    print(f"{CONTAINERS} containers took {took} KiB")
    assert took < 16 * 1024


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
