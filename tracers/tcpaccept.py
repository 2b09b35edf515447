"""TCP connections that are accepted: accept and accept4 that succeed."""

from __future__ import annotations

from pathlib import Path

from bpfd.plugin import BPFTracer, Field


class TcpAcceptTracer(BPFTracer):
    """TCP connections that a program accepted.

    Attaches to the exits of accept and accept4: there the new descriptor leads to the connection's socket, which has
    both ends. `returnValue` is that descriptor. A connection that no program takes is not seen, nor a call that fails.
    It misses what bypasses these calls: io_uring, and 32-bit programs, whose calls the kernel's system-call tracepoints
    leave out; and a connection whose descriptor another thread closed or replaced before the call was back.
    """

    name = "tcpaccept"
    fields = (
        Field("saddr", "the address of this end, which was connected to", type="address", example="192.0.2.1"),
        Field("sport", "the port of this end", type="u64", example="22"),
        Field("daddr", "the address of the other end, which connected", type="address", example="198.51.100.7"),
        Field("dport", "the port of the other end", type="u64", example="41022"),
        Field(
            "family",
            "AF_INET or AF_INET6; that of the addresses, whichever the socket is of",
            length=16,
            example="AF_INET",
        ),
    )
    program = Path(__file__).with_name("tcpaccept.c")
    probes = ("tracepoint:syscalls:sys_exit_accept4", "tracepoint:syscalls:sys_exit_accept?")
