"""The built-in tracers. They register as anybody's do."""

from __future__ import annotations

from bpfd.hookspecs import hookimpl
from bpfd.plugin import AnyTracer, TracerFamily
from bpfd.tracers.bashreadline import BashreadlineTracer
from bpfd.tracers.bind import BindTracer
from bpfd.tracers.bpf import BpfTracer
from bpfd.tracers.chargen import ChargenTracer
from bpfd.tracers.container import ContainerTracer
from bpfd.tracers.dockeropenbreakout import DockerOpenBreakoutTracer
from bpfd.tracers.exec import ExecTracer
from bpfd.tracers.iouring import IouringTracer
from bpfd.tracers.listen import ListenTracer
from bpfd.tracers.mkdir import MkdirTracer
from bpfd.tracers.module import ModuleTracer
from bpfd.tracers.mount import MountTracer
from bpfd.tracers.open import OpenTracer
from bpfd.tracers.open32 import Open32Tracer
from bpfd.tracers.process import ProcessTracer
from bpfd.tracers.ptrace import PtraceTracer
from bpfd.tracers.rename import RenameTracer
from bpfd.tracers.setns import SetnsTracer
from bpfd.tracers.setuid import SetuidTracer
from bpfd.tracers.syscall import Syscalls
from bpfd.tracers.syslog import SyslogTracer
from bpfd.tracers.tcpaccept import TcpAcceptTracer
from bpfd.tracers.tcpconnect import TcpConnectTracer
from bpfd.tracers.tcpdrop import TcpDropTracer
from bpfd.tracers.ticker import TickerTracer
from bpfd.tracers.tracepoint import Tracepoints
from bpfd.tracers.unlink import UnlinkTracer


@hookimpl
def bpfd_register_tracers() -> list[type[AnyTracer] | type[TracerFamily]]:
    return [
        BashreadlineTracer,
        BindTracer,
        BpfTracer,
        ChargenTracer,
        ContainerTracer,
        DockerOpenBreakoutTracer,
        ExecTracer,
        IouringTracer,
        ListenTracer,
        MkdirTracer,
        ModuleTracer,
        MountTracer,
        OpenTracer,
        Open32Tracer,
        ProcessTracer,
        PtraceTracer,
        RenameTracer,
        SetnsTracer,
        SetuidTracer,
        SyslogTracer,
        TcpAcceptTracer,
        TcpConnectTracer,
        TcpDropTracer,
        TickerTracer,
        UnlinkTracer,
        Syscalls,
        Tracepoints,
    ]
