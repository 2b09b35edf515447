"""What holds for every test: nothing is left behind, and nothing that could run is skipped."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

BTF = Path("/sys/kernel/btf/vmlinux")
PATIENCE_S = float(os.environ.get("BPFD_TEST_PATIENCE_S", "20"))
"""How long what a test started may take to end; taking a uprobe off waits for the kernel, seconds where it is busy."""
GRPC = ("api", "cli")
"""Folders of tests with a gRPC server in this process, which closes connections when it polls: the last, never."""
DOCKER = ("dockerd", "docker")
"""Fixtures that outlive a test, and whose client keeps connections for the next one."""


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread, a descriptor or a child process behind.

    Fixtures of a wider scope are there before this one, so what they hold is not the test's.
    """
    kept = ("socket:",) if request.path.parent.name in GRPC else ()
    before = _threads(), _descriptors(kept), _children()
    yield
    for name in DOCKER:
        if name in request.fixturenames:
            request.getfixturevalue(name).client.close()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        left = [now - then for now, then in zip((_threads(), _descriptors(kept), _children()), before, strict=True)]
        if not any(left) or time.monotonic() > deadline:
            break
        gc.collect()
        time.sleep(0.02)
    threads, descriptors, children = left
    assert not threads, f"the test left threads: {threads}"
    assert not descriptors, f"the test left descriptors: {descriptors}"
    assert not children, f"the test left processes: {children}"


def _threads() -> set[str]:
    return {f"{thread.name} {thread.ident}" for thread in threading.enumerate() if not _is_of_the_runner(thread)}


def _is_of_the_runner(thread: threading.Thread) -> bool:
    """pytest-xdist, gRPC's client and libraries with nameless pools keep threads; ours have names of their own."""
    names = ("MainThread", "execnet", "Dummy", "asyncio", "ThreadPoolExecutor-")
    return thread.name.startswith(names) or "_poll_wrapper" in thread.name or "channel_spin" in thread.name


def _descriptors(kept: tuple[str, ...]) -> set[str]:
    """Open files by what they lead to; without the devices, what gRPC and asyncio wait with for ever, and `kept`."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if not target.startswith(("/dev/", "/proc/", "anon_inode:[event", *kept)):
            found.add(f"{fd} {target}")
    return found


def _children() -> set[str]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            pids = (task / "children").read_text().split()
        except OSError:
            continue
        for pid in pids:
            try:
                found.add(f"{pid} {Path(f'/proc/{pid}/comm').read_text().strip()}")
            except OSError:
                continue
    return found


def _could_run() -> bool:
    return os.geteuid() == 0 and BTF.exists()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A test that was skipped where it could have run has failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not _could_run():
        return
    skipped = reporter.stats.get("skipped", [])
    if skipped:
        reporter.write_line(f"{len(skipped)} tests were skipped on a machine that could run them", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
