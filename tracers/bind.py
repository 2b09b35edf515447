"""Ports that are bound: every bind of a TCP or UDP socket, whether or not it succeeds."""

from __future__ import annotations

from pathlib import Path

from bpfd.plugin import BPFTracer, Field


class BindTracer(BPFTracer):
    """TCP and UDP ports that are bound, successfully or not.

    Attaches to the exit of bind: there the socket has the port that it really got, also where the program asked for any
    (0). A failed call's address is the one that the program passed; a call without an address of IPv4 or IPv6 is left
    out. It misses ports that the kernel picks without a call of bind (at connect, sendto or listen), and what bypasses
    the call: io_uring, and 32-bit programs, whose calls the kernel's system-call tracepoints leave out.
    """

    name = "bind"
    fields = (
        Field("addr", "the address; 0.0.0.0 or :: is every one", type="address", example="127.0.0.1"),
        Field("port", "the port; on success the real one", type="u64", example="8080"),
        Field("protocol", "tcp, udp or mptcp", length=8, example="tcp"),
    )
    program = Path(__file__).with_name("bind.c")
    probes = ("tracepoint:syscalls:sys_exit_bind",)
