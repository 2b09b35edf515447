"""What conftest.py promises of every test: it leaves nothing behind, and is not skipped where it could run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
LEAVES = {
    "thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(2,), name='mine', daemon=True).start()",
        "mine",
    ),
    "file": ("kept.append(open('/etc/passwd'))", "/etc/passwd"),
    "socket": ("import socket\nkept.append(socket.socket())", "socket:"),
    "pipe": ("import os\nkept.append(os.pipe())", "pipe:"),
    "process": ("import subprocess\nkept.append(subprocess.Popen(['sleep', '2']))", "sleep"),
}


def outcome(place: Path, body: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on one test with this body, beside the real conftest.py."""
    shutil.copy(CONFTEST, place)
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    (place / "test_one.py").write_text(f"import pytest\n\nkept = []\n\ndef test_one():\n{lines}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *flags, str(place)]
    quick = {**os.environ, "BPFD_TEST_PATIENCE_S": "0.2"}
    return subprocess.run(command, capture_output=True, text=True, cwd=place, env=quick, check=False, timeout=60)


@pytest.mark.parametrize(("body", "shown"), LEAVES.values(), ids=list(LEAVES))
def test_a_test_that_leaves_something_behind_fails_and_it_is_named(tmp_path: Path, body: str, shown: str) -> None:
    ran = outcome(tmp_path, body)
    [line] = [line for line in ran.stdout.splitlines() if "the test left" in line and line.startswith("E  ")]
    assert shown in line
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED


def test_a_test_that_cleans_up_passes(tmp_path: Path) -> None:
    ran = outcome(tmp_path, "with open('/etc/passwd'):\n    pass")
    assert ran.returncode == pytest.ExitCode.OK, ran.stdout


SKIPS = {
    "inside": "pytest.skip('no reason')",
    "import": "pytest.importorskip('there_is_no_such_module')",
}


@pytest.mark.parametrize("flags", [(), ("-n", "1")], ids=["alone", "in a worker"])
@pytest.mark.parametrize("body", SKIPS.values(), ids=list(SKIPS))
def test_a_test_that_is_skipped_as_root_on_a_kernel_with_btf_has_failed(
    tmp_path: Path, body: str, flags: tuple[str, ...]
) -> None:
    ran = outcome(tmp_path, body, *flags)
    assert "1 tests were skipped on a machine that could run them" in ran.stdout
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED
