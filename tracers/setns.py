"""Namespaces that are entered or left: setns and unshare, whether or not they succeed."""

from __future__ import annotations

from pathlib import Path

from bpfd.plugin import BPFTracer, Field, Flags

FLAGS = {
    "CLONE_NEWTIME": 0x80,
    "CLONE_VM": 0x100,
    "CLONE_FS": 0x200,
    "CLONE_FILES": 0x400,
    "CLONE_SIGHAND": 0x800,
    "CLONE_THREAD": 0x10000,
    "CLONE_NEWNS": 0x20000,
    "CLONE_SYSVSEM": 0x40000,
    "CLONE_NEWCGROUP": 0x2000000,
    "CLONE_NEWUTS": 0x4000000,
    "CLONE_NEWIPC": 0x8000000,
    "CLONE_NEWUSER": 0x10000000,
    "CLONE_NEWPID": 0x20000000,
    "CLONE_NEWNET": 0x40000000,
}
"""What unshare(2) takes; include/uapi/linux/sched.h."""


class SetnsTracer(BPFTracer):
    """Namespaces that processes enter (setns) or leave for new ones (unshare), successfully or not.

    `nsenter` and `docker exec` enter the namespaces of a running process; so does who breaks out of a container. It
    misses namespaces that a process gets from its parent's clone, and 32-bit programs, whose calls the kernel's
    system-call tracepoints leave out (arch_trace_is_compat_syscall in arch/x86/include/asm/ftrace.h). The target is
    seen from Linux 6.9 on, where a process's descriptor leads to the process (pidfs).
    """

    name = "setns"
    fields = (
        Field("call", "setns or unshare", length=8, example="setns"),
        Field(
            "type",
            "setns by a namespace's descriptor: the kind of namespace, as in /proc/PID/ns; empty if it is none",
            length=32,
            optional=True,
            example="mnt",
        ),
        Field(
            "inode",
            "setns by a namespace's descriptor: the namespace's number, as in /proc/PID/ns",
            type="u64",
            optional=True,
            example="4026531841",
        ),
        Field(
            "target",
            "setns by a process's descriptor: whose namespaces were entered",
            type="u64",
            optional=True,
            example="4242",
        ),
        Field("target_command", "the target's command", length=16, optional=True, example="postgres"),
        Field(
            "flags",
            "unshare: what is left; setns: the kind that was asked for, or all those of the target",
            type="u64",
            show=Flags(FLAGS),
            optional=True,
            example="CLONE_NEWNS|CLONE_NEWPID",
        ),
    )
    program = Path(__file__).with_name("setns.c")
    probes = ("tracepoint:syscalls:sys_exit_setns", "tracepoint:syscalls:sys_exit_unshare")
