"""What is done with BPF: programs loaded, maps made and changed, by others than this daemon."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bpfd.plugin import BPFTracer, Field, TracerMap
from bpfd.tracers import constants


def _kinds() -> tuple[Mapping[int, str], ...]:
    """The names of this kernel, in the order of bpf.c."""
    return (
        constants.of_kernel("bpf_cmd", "BPF_"),
        constants.of_kernel("bpf_prog_type", "BPF_PROG_TYPE_"),
        constants.of_kernel("bpf_map_type", "BPF_MAP_TYPE_"),
        constants.of_kernel("bpf_attach_type", "BPF_"),
    )


class BpfTracer(BPFTracer):
    """Calls of bpf: programs loaded and attached, maps made and changed, by others than this daemon.

    What the daemon and its children call is left out: the loader is a child. Programs that a child starts in turn are
    seen. Names are those of this kernel's BTF; `name` is that of the program or map, from the call or from what its
    descriptor leads to. It misses programs that are attached by other calls (perf_event_open and ioctl), maps that are
    changed through mmap, and 32-bit programs, whose calls the kernel's system-call tracepoints leave out
    (arch_trace_is_compat_syscall in arch/x86/include/asm/ftrace.h).
    """

    name = "bpf"
    fields = (
        Field(
            "operation",
            "what was asked for (enum bpf_cmd); a number if it has no name",
            length=constants.NAME_BYTES,
            example="BPF_PROG_LOAD",
        ),
        Field("name", "what the program or map is called", length=16, optional=True, example="trace_exec"),
        Field(
            "program_type",
            "the kind of program (enum bpf_prog_type)",
            length=constants.NAME_BYTES,
            optional=True,
            example="BPF_PROG_TYPE_KPROBE",
        ),
        Field(
            "map_type",
            "the kind of map (enum bpf_map_type)",
            length=constants.NAME_BYTES,
            optional=True,
            example="BPF_MAP_TYPE_HASH",
        ),
        Field(
            "attach_type",
            "where a program is attached; BPF_PROG_LOAD: where it may be, left out where that is 0",
            length=constants.NAME_BYTES,
            optional=True,
            example="BPF_TRACE_FENTRY",
        ),
        Field(
            "target",
            "BPF_RAW_TRACEPOINT_OPEN: the tracepoint",
            length=128,
            optional=True,
            example="sched_switch",
        ),
        Field(
            "filename",
            "BPF_OBJ_PIN and BPF_OBJ_GET: the file, as the program passed it",
            length=4096,
            optional=True,
            example="/sys/fs/bpf/maps/hosts",
        ),
        Field("id", "what was looked for by its id, or after it", type="u64", optional=True, example="42"),
        Field("instructions", "BPF_PROG_LOAD: the program's length", type="u64", optional=True, example="512"),
    )
    program = Path(__file__).with_name("bpf.c")
    probes = ("tracepoint:syscalls:sys_exit_bpf",)

    @classmethod
    def loaded(cls, maps: Mapping[str, TracerMap]) -> None:
        constants.fill(maps, *_kinds())

    @classmethod
    def settle(cls, data: dict[str, str], return_value: int) -> None:
        for field, names in zip(("operation", "program_type", "map_type", "attach_type"), _kinds(), strict=True):
            constants.settle(data, field, names)
