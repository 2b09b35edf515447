"""Any system call, by its name: no code, the kernel's own description of its arguments is enough."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

from bpfd.kernel.formats import FormatField
from bpfd.plugin import BPFTracer, Field, Named, TracerFamily
from bpfd.tracers.syscall_names import (
    ADDRESS_LENGTH,
    ALIASES,
    ANY_CALL,
    LENGTH_OF,
    NO_TEXT,
    RESULT,
    SHOW,
)
from bpfd.tracers.syscall_numbers import COMPAT, call_names
from bpfd.tracers.tracepoint import available, field_name, read_format, socket_address

PREFIX = "syscall:"
EVERY = PREFIX + "*"
TEXT_BYTES = 4096
BUFFER_BYTES = 1024
ADDRESS_BYTES = 128
"""sizeof(struct sockaddr_storage)"""
_AT_ENTRY = frozenset(("exit", "exit_group", "execve", "execveat", "rt_sigreturn"))
"""Calls that do not return to where they came from: their arguments are gone by then, or there is no exit at all."""
_C_TYPE = {
    "int": "s32",
    "pid_t": "s32",
    "clockid_t": "s32",
    "key_t": "s32",
    "timer_t": "s32",
    "mqd_t": "s32",
    "rwf_t": "s32",
    "s32": "s32",
    "__s32": "s32",
    "unsigned": "u32",
    "unsigned int": "u32",
    "uint": "u32",
    "u32": "u32",
    "__u32": "u32",
    "uid_t": "u32",
    "gid_t": "u32",
    "qid_t": "u32",
    "umode_t": "u16",
    "long": "s64",
    "loff_t": "s64",
    "off_t": "s64",
    "s64": "s64",
}
"""Widths of the types that the kernel declares arguments with; the others fill a register."""


class Syscalls(TracerFamily):
    """Any system call by its name, such as syscall:connect, or syscall:* for all of them

    Its fields are the arguments, by the kernel's names, read when the call returns; `returnValue` is the result.
    Pointers to texts and buffers are followed, socket addresses are shown as `10.0.0.1:443` and are in `address` and
    `port` as well, flags and choices of common calls have their names. An argument whose name every event has already
    is called `arg_NAME`. What pointers lead to is what lies there as the call returns: another thread may have changed
    it since the kernel looked. What can't be read is `?`, and what a failed call was to fill in is empty. exit,
    exit_group, execve, execveat and rt_sigreturn are seen when they begin, and have no result. Calls of 32-bit programs
    are seen by `syscall:*` alone (arch_trace_is_compat_syscall in arch/x86/include/asm/ftrace.h).
    """

    prefix = PREFIX
    example = "syscall:connect"

    @classmethod
    def find(cls, name: str) -> type[BPFTracer] | None:
        if name == EVERY:
            return _every()
        call = name.removeprefix(PREFIX)
        if not re.fullmatch(r"[a-z0-9_]{1,64}", call):
            return None
        kernels = ALIASES.get(call, call)
        described = read_format(name, "syscalls", f"sys_enter_{kernels}")
        if described is None and kernels != call:
            kernels, described = call, read_format(name, "syscalls", f"sys_enter_{call}")
        return None if described is None else _tracer(name, kernels, described)

    @classmethod
    def names(cls) -> Iterable[str]:
        begin = "syscalls:sys_enter_"
        return [EVERY, *(PREFIX + one.removeprefix(begin) for one in available() if one.startswith(begin))]


def _tracer(name: str, call: str, described: Sequence[FormatField]) -> type[BPFTracer]:
    arguments = [one for one in described if one.name != "__syscall_nr"]
    number_of = {one.name: number for number, one in enumerate(arguments)}
    at_exit = call not in _AT_ENTRY
    fields: list[Field] = []
    body = []
    for one in arguments:
        field, c = _argument(call, one, number_of)
        fields.append(field)
        body.append(c)
        if (call, one.name) in ADDRESS_LENGTH:
            fields += [
                Field("address", "the internet address in it", type="address", optional=True, example="10.0.0.1"),
                Field("port", "the port in it", type="u64", optional=True, example="443"),
            ]
    event = f"sys_{'exit' if at_exit else 'enter'}_{call}"
    result = "e->return_value = BPFD_NUMBER_AT(args, s64, 16);" if at_exit else ""
    text = (
        '#include "filter.h"\n#include "arguments.h"\n#include "trace_event.h"\n#include "syscall.h"\n'
        f"int tracepoint__syscalls__{event}(void *args) {{\n"
        "  struct bpfd_event *e = bpfd_begin();\n  if (!e)\n    return 0;\n"
        f"  struct pt_regs *registers = bpfd_registers();\n  {result}\n"
        + "".join(f"  {c}\n" for c in body)
        + "  return bpfd_submit(args, e);\n}\n"
    )
    members = {
        "__doc__": f"The system call {call}.",
        "__module__": __name__,
        "name": name,
        "fields": tuple(fields),
        "program": text,
        "probes": (f"tracepoint:syscalls:{event}",),
    }
    return type(f"sys_{call}", (BPFTracer,), members)


def _argument(call: str, one: FormatField, number_of: dict[str, int]) -> tuple[Field, str]:
    """An argument as a field, and the C that fills it."""
    name, place = field_name(one.name), (call, one.name)
    value = f"bpfd_argument(registers, {number_of[one.name]})"
    if place in ADDRESS_LENGTH:
        length = _length(ADDRESS_LENGTH[place], number_of)
        field = Field(name, one.type, length=ADDRESS_BYTES + 1, show=socket_address, example="10.0.0.1:443")
        return field, f"bpfd_socket_address(e, {name}, {value}, {length})"
    if place in LENGTH_OF:
        length = _length(LENGTH_OF[place], number_of)
        return Field(name, one.type, length=BUFFER_BYTES), f"bpfd_user_bytes(e, {name}, {value}, {length})"
    type_ = one.type.removeprefix("const ").strip()
    if type_.replace(" ", "") == "char*" and one.name not in NO_TEXT:
        return Field(name, one.type, length=TEXT_BYTES), f"if ({value}) bpfd_user_string(e, {name}, {value});"
    if one.type.endswith("*"):
        return Field(name, one.type, type="u64", show=hex), f"e->{name} = {value};"
    c_type = c_type_of(one.type)
    show = SHOW.get(place) or ANY_CALL.get(one.name)
    field = Field(name, one.type, type="s64" if c_type.startswith("s") else "u64", show=show)
    return field, f"e->{name} = ({c_type}){value};"


def c_type_of(declared: str) -> str:
    """The C type of an argument that the kernel declares so: `s32` for `pid_t`."""
    return _C_TYPE.get(declared.removeprefix("const ").strip(), "u64")


def _length(by: str, number_of: dict[str, int]) -> str:
    if by == RESULT:
        return "e->return_value"
    value = f"bpfd_argument(registers, {number_of[by.lstrip('*')]})"
    if by.startswith("*"):  # where the call failed it wrote nothing, and what lies there is of another one
        return f"e->return_value < 0 ? 0 : bpfd_length_at({value})"
    return f"(s64)(s32){value}"


@cache
def _every() -> type[BPFTracer]:
    arguments = tuple(Field(f"arg{number}", f"argument {number}", type="u64", show=hex) for number in range(6))
    names = call_names()
    fields = (
        Field(
            "syscall",
            "the call's name; its number where it has none; -1: back from a signal's handler, or no call",
            type="s64",
            show=Named(names),
            example="ptrace",
        ),
        Field("compat", "the call of a 32-bit program", type="bool", optional=True, example="true"),
        *arguments,
    )
    text = (
        '#include "filter.h"\n#include "arguments.h"\n#include "trace_event.h"\n#include "compat.h"\n'
        "int tracepoint__raw_syscalls__sys_exit(void *args) {\n"
        "  struct bpfd_event *e = bpfd_begin();\n  if (!e)\n    return 0;\n"
        "  struct pt_regs *registers = bpfd_registers();\n"
        "  e->compat = bpfd_is_compat();\n"
        f"  e->syscall = BPFD_NUMBER_AT(args, s64, 8) + e->compat * {COMPAT};\n"
        "  e->return_value = BPFD_NUMBER_AT(args, s64, 16);\n"
        + "".join(f"  e->arg{number} = bpfd_argument(registers, {number});\n" for number in range(6))
        + "  return bpfd_submit(args, e);\n}\n"
    )
    members = {
        "__doc__": "Every system call that returns, 32-bit programs' too.",
        "__module__": __name__,
        "name": EVERY,
        "fields": fields,
        "program": text,
        "probes": ("tracepoint:raw_syscalls:sys_exit",),
        "ring_bytes": 4 << 20,
    }
    return type("sys_every", (BPFTracer,), members)
