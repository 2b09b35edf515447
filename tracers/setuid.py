"""Processes that change who they are: setuid, setgid and their like, whether or not they succeed."""

from __future__ import annotations

from pathlib import Path

from bpfd.plugin import BPFTracer, Field

USER_CALLS = ("setuid", "setreuid", "setresuid", "setfsuid")
GROUP_CALLS = ("setgid", "setregid", "setresgid", "setfsgid")


class SetuidTracer(BPFTracer):
    """Processes that change their user or group, successfully or not.

    The ids are users' in the calls of setuid's family, and groups' in those of setgid's. `old_` are those at the call's
    entry, which has a probe of its own because nothing keeps them until the exit; `new_`, and the event's `uid`, are
    those at its exit, the same where it fails. All are numbers as the host counts; `target` is what the caller said, in
    its user namespace. It misses setgroups, programs that get another user by being started (set-user-ID: see `exec`),
    and 32-bit programs, whose calls the kernel's system-call tracepoints leave out (arch_trace_is_compat_syscall in
    arch/x86/include/asm/ftrace.h).
    """

    name = "setuid"
    fields = (
        Field("call", " ".join((*USER_CALLS, *GROUP_CALLS)), length=16, example="setresuid"),
        Field(
            "target",
            "the id that was asked for; of several the effective one, or the real, or the saved; -1: none is to change",
            type="s64",
            example="0",
        ),
        Field("old_real", "the real id before; -1: not known", type="s64", example="1000"),
        Field("old_effective", "the effective id before; -1: not known", type="s64", example="1000"),
        Field("new_real", "the real id after the call", type="s64", example="0"),
        Field("new_effective", "the effective id after the call", type="s64", example="0"),
        Field("new_saved", "the saved id after the call", type="s64", example="0"),
        Field("new_filesystem", "the id that files are opened with, after the call", type="s64", example="0"),
    )
    program = Path(__file__).with_name("setuid.c")
    probes = (
        *(f"tracepoint:syscalls:sys_{side}_{call}" for call in USER_CALLS + GROUP_CALLS for side in ("enter", "exit")),
        "tracepoint:sched:sched_process_exit",
    )
    counts = ("untracked",)
