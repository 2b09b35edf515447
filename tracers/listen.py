"""Sockets that begin to listen: every listen of a TCP socket, whether or not it succeeds."""

from __future__ import annotations

from pathlib import Path

from bpfd.plugin import BPFTracer, Field


class ListenTracer(BPFTracer):
    """TCP sockets that begin to listen, successfully or not.

    Attaches to the exit of listen: there the socket has its port, also one that was never bound and has got any. A UDP
    socket does not listen: the call fails, and is told; `bind` has the UDP ports. It misses what bypasses the call:
    io_uring, and 32-bit programs, whose calls the kernel's system-call tracepoints leave out.
    """

    name = "listen"
    fields = (
        Field("addr", "the address; 0.0.0.0 or :: is every one", type="address", example="127.0.0.1"),
        Field("port", "the port", type="u64", example="8080"),
        Field("protocol", "tcp or mptcp; udp, which fails", length=8, example="tcp"),
        Field(
            "backlog",
            "how many connections may wait, as the program asked; the kernel allows net.core.somaxconn",
            type="s64",
            example="128",
        ),
    )
    program = Path(__file__).with_name("listen.c")
    probes = ("tracepoint:syscalls:sys_exit_listen",)
