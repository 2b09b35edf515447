"""TCP connections that are made: each attempt with what became of it."""

from __future__ import annotations

from pathlib import Path

from bpfd.plugin import BPFTracer, Field


class TcpConnectTracer(BPFTracer):
    """TCP connections that a program makes, with what became of each.

    An attempt begins where its socket goes to SYN_SENT (sock:inet_sock_set_state), in the program that makes it: by
    connect, by sendto with TCP Fast Open, through io_uring, 32-bit programs too. Who that is, is kept until the socket
    leaves the state, and only then the event is told: a program that does not wait (EINPROGRESS) gets its answer as one
    that does. `returnValue` is 0, or the error: -111 refused, -110 timed out, -113 unreachable; -125 (ECANCELED) where
    the program closed the socket before there was an answer. What fails before anything is sent (no route, no port
    free, forbidden) is seen at connect's exit; such failures of io_uring and of 32-bit programs are missed, and calls
    whose address is not one of IPv4 or IPv6. A connection of the kernel's own (NFS) is that of a kernel thread.

    The answer comes in whatever process it interrupts, so a rule's signal is never sent inside the kernel: the daemon
    sends it.
    """

    name = "tcpconnect"
    fields = (
        Field("saddr", "the address of this end", type="address", example="192.0.2.1"),
        Field("sport", "the port of this end; 0 where it had none yet", type="u64", example="41022"),
        Field("daddr", "the address that is connected to", type="address", example="198.51.100.7"),
        Field("dport", "the port that is connected to", type="u64", example="443"),
        Field(
            "family",
            "AF_INET or AF_INET6; that of the addresses, whichever the socket is of",
            length=16,
            example="AF_INET",
        ),
    )
    program = Path(__file__).with_name("tcpconnect.c")
    probes = ("tracepoint:sock:inet_sock_set_state", "tracepoint:syscalls:sys_exit_connect")
    counts = ("untracked",)
