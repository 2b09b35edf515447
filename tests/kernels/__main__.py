"""python -m tests.kernels [VERSION…]: do older kernels take the tracers' programs, and are the events right there?"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.kernels import compiling, inside
from tests.kernels.debian import FetchError, Kernel, fetch
from tests.kernels.guest import REPOSITORY, running

SUITES = {"6.1": "bookworm", "6.12": "trixie"}
"""Kernels, and the suites of Debian's that have them."""
KEPT = REPOSITORY / ".kernels"
"""What was fetched; `make clean` removes it."""
GUEST_S = 900
"""From the boot to the last program; on two busy processors it took four minutes and a half."""
LAST_LINES = 25
LOOK_S = 0.1
END_S = 60


class GuestError(Exception):
    """The guest did not do what it was to do."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make kernels")
    parser.add_argument("versions", nargs="*", metavar="VERSION", help=f"of {', '.join(SUITES)}; all if none is named")
    args = parser.parse_args()
    if unknown := set(args.versions) - SUITES.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    if os.geteuid() != 0:
        parser.error("gives the guest this machine's files to read; run it as root")
    if platform.machine() != "x86_64":
        parser.error("emulates x86_64, by Debian's kernels for it; run it on such a machine")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    KEPT.mkdir(mode=0o700, exist_ok=True)
    good = True
    for version in args.versions or SUITES:
        try:
            good &= ask(fetch(SUITES[version], KEPT))
        except (FetchError, GuestError, subprocess.TimeoutExpired) as error:
            print(f"{version}: {error}", file=sys.stderr)
            good = False
    return 0 if good else 1


def ask(kernel: Kernel) -> bool:
    """Print a line for each program; whether the kernel took all of them. Raises `GuestError`."""
    with tempfile.TemporaryDirectory(dir=KEPT) as made, running(kernel, "tests.kernels.inside", Path(made)) as machine:
        shared, good = Path(made), True

        def check() -> None:
            """Raises `GuestError` when there is nothing more to wait for."""
            if machine.poll() is not None or time.monotonic() > deadline:
                why = "ended too early" if machine.returncode is not None else f"took more than {GUEST_S} seconds"
                console = (shared / "console").read_text(errors="replace").splitlines()
                raise GuestError("\n    ".join([f"the guest {why}; its console ends with", *console[-LAST_LINES:]]))
            time.sleep(LOOK_S)

        deadline = time.monotonic() + GUEST_S
        while not (shared / "jobs.json").exists():
            check()
        subprocess.run(compiling.command(shared), cwd=REPOSITORY, timeout=GUEST_S)
        (shared / "compiled").touch()
        for line in lines(shared / "results", check):
            name, outcome, said = json.loads(line)
            if outcome == inside.DONE:
                machine.wait(END_S)
                break
            good &= outcome in (inside.TAKEN, inside.MISSING)
            shown = f"{kernel.release:22} {name:36} {outcome}"
            print("\n    ".join([shown, *said.splitlines()[-LAST_LINES:]]), flush=True)
    return good


def lines(path: Path, check: Callable[[], None]) -> Iterator[bytes]:
    """The lines of a file that is being written. Never ends, but by what `check` raises, which is asked meanwhile."""
    read = 0
    while True:
        written = path.read_bytes()[read:] if path.exists() else b""
        line, end, _ = written.partition(b"\n")
        if end:
            read += len(line) + 1
            yield line
        else:
            check()


if __name__ == "__main__":
    sys.exit(main())
