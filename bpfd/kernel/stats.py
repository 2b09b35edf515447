"""What programs cost in the kernel, by the kernel's own count, which it keeps only while somebody asks for it."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from bpfd.kernel.maps import bpf
from bpfd.kernel.program import Program

BPF_ENABLE_STATS, BPF_STATS_RUN_TIME = 32, 0
"""Of include/uapi/linux/bpf.h; Linux 5.8 ("bpf: Sharing bpf runtime stats with BPF_ENABLE_STATS")."""
_ALWAYS = Path("/proc/sys/kernel/bpf_stats_enabled")


class _Attr(ctypes.Structure):
    _fields_ = [("type", ctypes.c_uint32)]


def cost_ns(program: Program, for_s: float = 1.0) -> float:
    """Nanoseconds that one run of the program's probes takes, tail calls included; 0: there was none to be counted.

    Has the kernel count for `for_s` seconds, which costs every BPF program of the machine some 20 ns a run, unless it
    counts anyway. Blocks as long; any thread. The program may be closed meanwhile.
    """
    try:
        if _ALWAYS.read_text().strip() == "1":
            return _quotient(*program.run_time())
        counting = bpf(BPF_ENABLE_STATS, _Attr(BPF_STATS_RUN_TIME))
        try:
            time_before, runs_before = program.run_time()
            time.sleep(for_s)
            time_after, runs_after = program.run_time()
        finally:
            os.close(counting)
    except OSError:
        return 0.0
    return _quotient(time_after - time_before, runs_after - runs_before)


def _quotient(run_time_ns: int, runs: int) -> float:
    return run_time_ns / runs if runs > 0 else 0.0
