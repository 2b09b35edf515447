"""Messages that programs send to the system's log, by whatever call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bpfd.plugin import BPFTracer, Field, TracerMap
from bpfd.tracers import constants

_LOCAL = 16
FACILITIES: Mapping[int, str] = {
    **dict(enumerate("kern user mail daemon auth syslog lpr news uucp cron authpriv ftp".split())),
    **{_LOCAL + number: f"local{number}" for number in range(8)},
}
"""As syslog(3) has them, without their LOG_; what it does not name keeps its number."""
LEVELS: Mapping[int, str] = dict(enumerate("emerg alert crit err warning notice info debug".split()))


class SyslogTracer(BPFTracer):
    """Messages that programs send to the system's log, /dev/log, successfully or not.

    Attaches to the exits of the calls that write to sockets. It looks at Unix sockets alone, and takes for a log those
    whose other end is bound to a name that ends in /dev/log, as those of log daemons do for services in a chroot, or in
    /dev-log, as systemd's /run/systemd/journal/dev-log does. Messages of one sendmmsg are the lines of one event. It
    misses what is sent while nobody listens, log daemons that bind to a relative name or to another one, what
    bypasses these calls (io_uring, sendfile, splice), the journal's own protocol, and 32-bit programs, whose calls the
    kernel's system-call tracepoints leave out (arch_trace_is_compat_syscall in arch/x86/include/asm/ftrace.h).
    """

    name = "syslog"
    fields = (
        Field(
            "message",
            "what was sent, its first 8191 bytes and 255 pieces, without the <PRI> in front; ? where it can't be read",
            length=8192,
            spaces=True,
            late=True,
            example="Nov 29 01:42:18 sshd[4242]: Invalid user admin from 192.0.2.7",
        ),
        Field(
            "facility",
            f"what the message is about, by its <PRI>: {' '.join(FACILITIES.values())}, or a number",
            length=constants.NAME_BYTES,
            late=True,
            optional=True,
            example="authpriv",
        ),
        Field(
            "level",
            f"how bad it is, by its <PRI>: {' '.join(LEVELS.values())}",
            length=constants.NAME_BYTES,
            late=True,
            optional=True,
            example="info",
        ),
        Field("socket", "the socket's name, as the log daemon or the call has it", length=109, example="/dev/log"),
    )
    program = Path(__file__).with_name("syslog.c")
    probes = (
        "tracepoint:syscalls:sys_exit_sendto",
        "tracepoint:syscalls:sys_exit_sendmsg",
        "tracepoint:syscalls:sys_exit_sendmmsg",
        "tracepoint:syscalls:sys_exit_write",
        "tracepoint:syscalls:sys_exit_writev",
    )

    @classmethod
    def loaded(cls, maps: Mapping[str, TracerMap]) -> None:
        constants.fill(maps, FACILITIES, LEVELS)

    @classmethod
    def settle(cls, data: dict[str, str], return_value: int) -> None:
        for name, names in (("facility", FACILITIES), ("level", LEVELS)):
            if name in data:
                constants.settle(data, name, names)
