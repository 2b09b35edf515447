"""Kernel modules that are loaded and removed, whether or not that succeeds."""

from __future__ import annotations

import os
from pathlib import Path

from bpfd.plugin import BPFTracer, Field, Flags

CALLS = ("init_module", "finit_module", "delete_module")
"""In the order of `enum call` in module.c."""
FLAGS = (
    Flags({}),
    Flags(
        {
            "MODULE_INIT_IGNORE_MODVERSIONS": 1,
            "MODULE_INIT_IGNORE_VERMAGIC": 2,
            "MODULE_INIT_COMPRESSED_FILE": 4,
        }
    ),
    Flags({"O_NONBLOCK": os.O_NONBLOCK, "O_TRUNC": os.O_TRUNC}),
)
"""Of each call: include/uapi/linux/module.h and delete_module(2)."""
TAINTS = {
    "TAINT_PROPRIETARY_MODULE": 1 << 0,
    "TAINT_FORCED_MODULE": 1 << 1,
    "TAINT_CRAP": 1 << 10,
    "TAINT_OOT_MODULE": 1 << 12,
    "TAINT_UNSIGNED_MODULE": 1 << 13,
    "TAINT_LIVEPATCH": 1 << 15,
    "TAINT_TEST": 1 << 18,
}
"""What a module may be marked with; include/linux/panic.h."""


def flags_text(number: int) -> str:
    """Flags by the names that they have in their call, which stands above bit 32."""
    return FLAGS[number >> 32](number & 0xFFFFFFFF)


class ModuleTracer(BPFTracer):
    """Kernel modules that are loaded and removed, successfully or not.

    The calls init_module, finit_module and delete_module are told at their exits, with their results; that a module is
    in the kernel is told at module:module_load, just before its own code runs, by the name that it has, in the same
    process. Modules that the kernel asks for are loaded by modprobe, and seen. A kernel without loadable modules has
    none of these tracepoints: there who tries is seen at raw_syscalls:sys_exit, which costs every call of every program
    some 100 ns. It misses 32-bit programs, whose calls the kernel's system-call tracepoints leave out
    (arch_trace_is_compat_syscall in arch/x86/include/asm/ftrace.h); what they load is told as loaded.
    """

    name = "module"
    fields = (
        Field("action", "init_module, finit_module, delete_module, or loaded", length=16, example="finit_module"),
        Field(
            "name",
            "delete_module: the module that was to go; loaded: the one that came",
            length=64,
            optional=True,
            example="nf_tables",
        ),
        Field(
            "path",
            "finit_module: the path of the module's file",
            length=4096,
            optional=True,
            example="/lib/modules/6.12.0/kernel/fs/ext4.ko.xz",
        ),
        Field(
            "parameters",
            "init_module and finit_module: the module's parameters",
            length=1024,
            optional=True,
            example="debug=1",
        ),
        Field("size", "init_module: the bytes of the module in memory", type="u64", optional=True, example="65536"),
        Field(
            "flags",
            "finit_module and delete_module: how",
            type="u64",
            show=flags_text,
            optional=True,
            example="MODULE_INIT_IGNORE_VERMAGIC",
        ),
        Field(
            "taints",
            "loaded: what the kernel holds against the module",
            type="u64",
            show=Flags(TAINTS),
            optional=True,
            example="TAINT_OOT_MODULE|TAINT_UNSIGNED_MODULE",
        ),
    )
    program = Path(__file__).with_name("module.c")
    probes = (
        "tracepoint:syscalls:sys_exit_init_module?",
        "tracepoint:syscalls:sys_exit_finit_module?",
        "tracepoint:syscalls:sys_exit_delete_module?",
        "tracepoint:module:module_load?",
        "tracepoint:raw_syscalls:sys_exit",
    )
