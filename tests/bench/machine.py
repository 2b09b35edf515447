"""The machine under load: the load generator, the kernel's own counting, and rules that never match."""

from __future__ import annotations

import random
import string
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
LOAD_CPU, OTHER_CPU = "1", "0"
SHORT, LONG = "/etc/hostname", "/usr/lib/x86_64-linux-gnu/libselinux.so.1"
"""Paths of 13 and 41 bytes."""


@contextmanager
def load_program() -> Iterator[Path]:
    """The compiled load.c."""
    with tempfile.TemporaryDirectory(prefix="bpfd-bench-") as folder:
        program = Path(folder) / "load"
        subprocess.run(["gcc", "-O2", "-o", str(program), str(Path(__file__).with_name("load.c"))], check=True)
        yield program


def opens_per_second(load: Path, name: str, ms: int = 300) -> float:
    done = subprocess.run(
        ["taskset", "-c", LOAD_CPU, str(load), "loop", name, str(ms)], check=True, capture_output=True, text=True
    )
    return int(done.stdout) * 1000 / ms


@contextmanager
def kernel_counting() -> Iterator[None]:
    """kernel.bpf_stats_enabled, as it was before afterwards."""
    before = STATS.read_text()
    STATS.write_text("1")
    try:
        yield
    finally:
        STATS.write_text(before)


def never_rules(count: int, seed: int = 1) -> list[str]:
    """File names that nobody opens, of 15 to 30 letters."""
    rng = random.Random(seed)

    def word(low: int, high: int) -> str:
        return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(low, high)))

    return [f"/{word(6, 20)}/{word(8, 8)}" for _ in range(count)]
