"""Processes that look into others: ptrace, whether or not it succeeds."""

from __future__ import annotations

import platform
from pathlib import Path

from bpfd.plugin import BPFTracer, Field, Named

REQUESTS = {
    0: "PTRACE_TRACEME",
    1: "PTRACE_PEEKTEXT",
    2: "PTRACE_PEEKDATA",
    3: "PTRACE_PEEKUSR",
    4: "PTRACE_POKETEXT",
    5: "PTRACE_POKEDATA",
    6: "PTRACE_POKEUSR",
    7: "PTRACE_CONT",
    8: "PTRACE_KILL",
    9: "PTRACE_SINGLESTEP",
    16: "PTRACE_ATTACH",
    17: "PTRACE_DETACH",
    24: "PTRACE_SYSCALL",
    31: "PTRACE_SYSEMU",
    32: "PTRACE_SYSEMU_SINGLESTEP",
    0x4200: "PTRACE_SETOPTIONS",
    0x4201: "PTRACE_GETEVENTMSG",
    0x4202: "PTRACE_GETSIGINFO",
    0x4203: "PTRACE_SETSIGINFO",
    0x4204: "PTRACE_GETREGSET",
    0x4205: "PTRACE_SETREGSET",
    0x4206: "PTRACE_SEIZE",
    0x4207: "PTRACE_INTERRUPT",
    0x4208: "PTRACE_LISTEN",
    0x4209: "PTRACE_PEEKSIGINFO",
    0x420A: "PTRACE_GETSIGMASK",
    0x420B: "PTRACE_SETSIGMASK",
    0x420C: "PTRACE_SECCOMP_GET_FILTER",
    0x420D: "PTRACE_SECCOMP_GET_METADATA",
    0x420E: "PTRACE_GET_SYSCALL_INFO",
    0x420F: "PTRACE_GET_RSEQ_CONFIGURATION",
    0x4210: "PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG",
    0x4211: "PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG",
    0x4212: "PTRACE_SET_SYSCALL_INFO",
}
"""include/uapi/linux/ptrace.h"""
X86_REQUESTS = {
    12: "PTRACE_GETREGS",
    13: "PTRACE_SETREGS",
    14: "PTRACE_GETFPREGS",
    15: "PTRACE_SETFPREGS",
    18: "PTRACE_GETFPXREGS",
    19: "PTRACE_SETFPXREGS",
    21: "PTRACE_OLDSETOPTIONS",
    25: "PTRACE_GET_THREAD_AREA",
    26: "PTRACE_SET_THREAD_AREA",
    30: "PTRACE_ARCH_PRCTL",
    33: "PTRACE_SINGLEBLOCK",
}
"""arch/x86/include/uapi/asm/ptrace-abi.h"""
NAMES = REQUESTS | X86_REQUESTS if platform.machine() == "x86_64" else REQUESTS


class PtraceTracer(BPFTracer):
    """Processes that look into others or change them with ptrace, successfully or not.

    A debugger makes a call for each step and each word that it reads: a rule on `request` keeps those in the kernel. It
    misses what reads another process's memory in other ways (process_vm_readv, /proc/PID/mem: see `open`), and 32-bit
    programs, whose calls the kernel's system-call tracepoints leave out (arch_trace_is_compat_syscall in
    arch/x86/include/asm/ftrace.h).
    """

    name = "ptrace"
    fields = (
        Field(
            "request",
            "what was asked for; a number if it has no name",
            type="u64",
            show=Named(NAMES),
            example="PTRACE_ATTACH",
        ),
        Field(
            "target",
            "the process that was asked about, as the host counts; as the caller counts if there is none",
            type="u64",
            optional=True,
            example="4242",
        ),
        Field("target_tid", "the thread that was asked about", type="u64", optional=True, example="4243"),
        Field("target_command", "that thread's command", length=16, optional=True, example="sshd"),
    )
    program = Path(__file__).with_name("ptrace.c")
    probes = ("tracepoint:syscalls:sys_exit_ptrace",)
