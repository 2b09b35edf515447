"""What holds for every test: nothing is left behind, and nothing that could run is skipped."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.dockerd import Dockerd

# A shell has what it starts in the background ignore Ctrl-C, and what tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

BTF = Path("/sys/kernel/btf/vmlinux")
PATIENCE_S = float(os.environ.get("BPFD_TEST_PATIENCE_S", "20"))
"""How long what a test started may take to end; taking a uprobe off waits for the kernel, seconds where it is busy."""
GRPC = ("api", "cli")
"""Folders of tests with a gRPC server in this process, which closes connections when it polls: the last, never."""


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Headers and compiled programs, made once for all tests and workers. What must be compiled anew wants another."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    place.mkdir(mode=0o700, exist_ok=True)
    return place


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Dockerd]:
    """A running dockerd, one for all tests of a worker: it is dear to start. Leave no container and no image there."""
    from tests.dockerd import running_dockerd  # it takes the package docker, which most tests do without

    with running_dockerd() as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread, a descriptor or a child process behind.

    Fixtures of a wider scope are there before this one, so what they hold is not the test's.
    """
    kept = ("socket:",) if request.path.parent.name in GRPC else ()
    before = _threads(), _descriptors(kept), _children()
    yield
    if "dockerd" in request.fixturenames:
        request.getfixturevalue("dockerd").client.close()  # it keeps connections for the next test
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
