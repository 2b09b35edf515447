"""TCP packets that the kernel drops, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from bpfd.errors import KernelError
from bpfd.plugin import BPFTracer, Field, TracerMap
from bpfd.tracers import constants

_FLAGS = ("SYN", "FIN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE")
_BITS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "CWR": 128, "AE": 256}
"""The flags of a TCP header (RFC 9293, 3.1; AE: RFC 9768), in the order in which they are shown."""


_STATES = (
    "ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE CLOSE_WAIT LAST_ACK LISTEN CLOSING NEW_SYN_RECV"
)
STATES: Mapping[int, str] = dict(enumerate(_STATES.split(), 1))
"""Of a TCP socket: include/net/tcp_states.h, whose numbers include/uapi/linux/bpf.h has promised."""


def flags_text(flags: int) -> str:
    """The flags of a TCP header by their names: `SYN|ACK`."""
    return "|".join(name for name in _FLAGS if flags & _BITS[name])


@cache
def _reasons() -> Mapping[int, str]:
    try:
        found = constants.of_kernel("skb_drop_reason", "SKB_DROP_REASON_", cut=True)
    except KernelError:  # before Linux 5.17
        return {2: "NOT_SPECIFIED"}
    return {number: name for number, name in found.items() if number > 0}  # without the mask of the subsystems


class TcpDropTracer(BPFTracer):
    """TCP packets that the kernel drops, with the reason.

    Attaches to skb:kfree_skb, which the kernel passes when it frees a packet that reached nobody; left out are packets
    that it frees so although they arrived (the last FIN of a connection), and the copies that sniffers had. Whatever
    the kernel counts as dropped is told, also the SYN to a port where nobody listens (NO_SOCKET). The reasons are those
    of the running kernel (Linux 5.17; before, all are NOT_SPECIFIED); one of a subsystem's own (Wi-Fi, Open vSwitch) is
    a number.

    A packet is dropped in whatever process it interrupts, so there is none to tell: `pid` is 0 and `command` is empty.
    `uid` and the container are those of who made the packet's socket, where there is one (with cgroup v1 the user
    alone); else `uid` is 4294967295, which is nobody. No action can reach a process through such an event, and none is
    sent a signal inside the kernel.

    It misses packets that network cards and XDP programs drop before there is a socket buffer, fragments after the
    first, and packets inside of tunnels. Where the kernel has not yet put the TCP header in one piece with the IP
    header, the ports are 0.
    """

    name = "tcpdrop"
    fields = (
        Field("saddr", "the address that the packet is from", type="address", example="198.51.100.7"),
        Field("sport", "the port that it is from", type="u64", example="41022"),
        Field("daddr", "the address that it is to", type="address", example="192.0.2.1"),
        Field("dport", "the port that it is to", type="u64", example="8080"),
        Field(
            "state",
            "the state of its socket; left out where there is none",
            length=constants.NAME_BYTES,
            optional=True,
            example="LISTEN",
        ),
        Field("flags", "the flags of its header", type="u64", show=flags_text, example="SYN|ACK"),
        Field("reason", "why it was dropped, in this kernel's words", length=constants.NAME_BYTES, example="NO_SOCKET"),
    )
    program = Path(__file__).with_name("tcpdrop.c")
    probes = ("tracepoint:skb:kfree_skb",)

    @classmethod
    def loaded(cls, maps: Mapping[str, TracerMap]) -> None:
        constants.fill(maps, _reasons(), STATES)

    @classmethod
    def settle(cls, data: dict[str, str], return_value: int) -> None:
        """Name what came before the kernel part had the names."""
        constants.settle(data, "reason", _reasons())
        constants.settle(data, "state", STATES)
