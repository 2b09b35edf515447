"""python -m tests.kernels.compiling SHARED: compile SHARED/jobs.json into SHARED/cache, for the kernel that wrote it.

With the headers that it made of its own types, and with its own events: bcc finds them where this machine has its own.
So this runs below `WITH_EVENTS`, in a mount namespace of its own.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bpfd.errors import LoadError
from bpfd.kernel import child
from bpfd.kernel.compiled import Kept, from_answer, key_of

EVENTS = "tracing/events"
WITH_EVENTS = """set -e
mount -t tmpfs none /sys/kernel/debug
mkdir /sys/kernel/debug/tracing
mount --bind "$1/tracing" /sys/kernel/debug/tracing
exec "$2" -m tests.kernels.compiling "$1"
"""


def command(shared: Path) -> list[str]:
    return ["unshare", "--mount", "sh", "-c", WITH_EVENTS, "sh", str(shared), sys.executable]


def main() -> int:
    shared = Path(sys.argv[1])
    jobs, kept = json.loads((shared / "jobs.json").read_text()), Kept(shared / "cache")

    def compile_one(name: str) -> str:
        try:
            answer, _ = child.ask(name, {**jobs[name], "compile": True}, lambda: False)
        except LoadError as error:
            return str(error)
        kept.write(key_of(jobs[name]), from_answer(answer))
        return ""

    with ThreadPoolExecutor(2) as pool:
        wrong = [said for said in pool.map(compile_one, jobs) if said]
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
