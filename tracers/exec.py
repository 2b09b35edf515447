"""Programs that are started: every execve and execveat, whether or not it succeeds."""

from __future__ import annotations

from pathlib import Path

from bpfd.plugin import BPFTracer, Field

CUT = "…"
"""Marks arguments of which the rest was left out."""


class ExecTracer(BPFTracer):
    """Programs that are started, successfully or not, with their arguments.

    Success is seen at the raw tracepoint sched_process_exec, when the new program is in place: whatever thread called,
    by name or by descriptor, the 32-bit calls too. `command` is the new program's. Failures are seen at the exits of
    execve and execveat, with the caller's `command`; it misses failures of 32-bit programs, which the kernel's
    system-call tracepoints leave out. A script in a memfd is run by an interpreter that is none: `fileless` is about
    what runs, the script is in `filename`.
    """

    name = "exec"
    default = True
    fields = (
        Field(
            "filename",
            "the program as it was asked for; /dev/fd/N where it was asked for by descriptor",
            length=4096,
            example="/usr/bin/cat",
        ),
        Field("argv", "the arguments, joined with spaces", length=8192, spaces=True, example="cat /etc/shadow"),
        Field("argv_truncated", "the arguments were longer than is kept", type="bool", optional=True, example="true"),
        Field(
            "path",
            "on success the path of the file that runs, the interpreter of a script",
            length=4096,
            optional=True,
            example="/usr/bin/cat",
        ),
        Field(
            "interpreter",
            "of a script, or of what binfmt_misc knows: what runs it, as it is named there; `path` is its file",
            length=4096,
            optional=True,
            example="/bin/sh",
        ),
        Field(
            "fileless",
            "what runs is in no directory: a memfd, or a file that was removed",
            type="bool",
            optional=True,
            example="true",
        ),
        Field("cwd", "the working directory", length=4096, example="/root"),
        Field("parent", "the parent's command", length=16, example="bash"),
        Field(
            "ancestors",
            "the commands of the parent, its parent and so on up to pid 1, at most 16",
            length=257,
            late=True,
            example="bash sshd systemd",
        ),
        Field("parent_duration", "how long the parent had run, nanoseconds", type="u64", example="5000000000"),
    )
    program = Path(__file__).with_name("exec.c")
    probes = (
        "raw_tracepoint:sched_process_exec",
        "tracepoint:syscalls:sys_exit_execve",
        "tracepoint:syscalls:sys_exit_execveat",
    )

    @classmethod
    def settle(cls, data: dict[str, str], return_value: int) -> None:
        """Mark arguments that were cut."""
        if "argv_truncated" in data:
            data["argv"] += CUT
