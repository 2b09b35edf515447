"""The child that compiles, loads and attaches one program, hands over the descriptors and ends.

    python3 loader.py FD PARENT

FD is a Unix socket; PARENT is the process that waits, with which this one ends. The job comes in as one line of JSON;
the answer goes back as one line of JSON, with the descriptors in its order. This file runs as a program of its own,
imports nothing of bpfd, and is the only one that imports bcc: LLVM and the memory that it takes (150 MB) end with it.
What the compiler and the verifier say goes to standard error.
"""

from __future__ import annotations

import array
import base64
import ctypes
import json
import os
import signal
import socket
import struct
import sys
from functools import cache
from pathlib import Path
from typing import Any

FDS_A_MESSAGE = 200
"""Below SCM_MAX_FD, 253 (include/net/scm.h)."""
CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE, MS_BIND = 0x4000, 0x40000, 0x1000
PR_SET_PDEATHSIG = 1
STEPS = (b"bpfd_emit", b"bpfd_numbers", b"bpfd_text", b"bpfd_late")
"""In the order of the BPFD_STEP_ numbers in filter.h."""
LOAD_64, PSEUDO_MAP_FD = 0x18, 1
"""The opcode of an instruction of two halves that loads 64 bits, and what says that they are a map's address."""
PROBE_TABLES = (
    "tracepoint_fds",
    "raw_tracepoint_fds",
    "kprobe_fds",
    "uprobe_fds",
    "kfunc_entry_fds",
    "kfunc_exit_fds",
    "lsm_fds",
)
"""Where bcc.BPF keeps the descriptors of what it attached."""
HELPERS = "helpers"
"""Of the folder of headers the file that names the kernel's helpers as /proc/kallsyms does."""
KALLSYMS, A_HELPER = b"/proc/kallsyms", b"bpf_probe_read_kernel"
DEBIAN_PACKAGES = "/usr/lib/python3/dist-packages"


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[2]):
        os._exit(1)  # it ended before it could be asked for its end
    with socket.socket(fileno=int(sys.argv[1])) as peer:
        with peer.makefile("r", encoding="utf-8") as lines:
            job = json.loads(lines.readline())
        see_tracefs(libc)
        answer, fds = (compile_only(job, libc), []) if job["compile"] else load(job)
        peer.sendall(json.dumps(answer).encode() + b"\n")
        for at in range(0, len(fds), FDS_A_MESSAGE):
            part = array.array("i", fds[at : at + FDS_A_MESSAGE])
            peer.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, part)])
        sys.stdout.flush()
        os._exit(0)


@cache
def has_own_mounts(libc: Any) -> bool:
    """Whether this child's mounts are its own from now on: the machine stays as it is."""
    return not libc.unshare(CLONE_NEWNS) and not libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None)


def see_tracefs(libc: Any) -> None:
    """Mount debugfs where libbcc looks for it."""
    if Path("/sys/kernel/debug/tracing/events").is_dir() or not has_own_mounts(libc):
        return
    libc.mount(b"none", b"/sys/kernel/debug", b"debugfs", 0, None)
    if Path("/sys/kernel/debug/tracing/events").is_dir():
        return
    libc.mount(b"none", b"/sys/kernel/debug", b"tmpfs", 0, None)
    Path("/sys/kernel/debug/tracing").mkdir(exist_ok=True)
    libc.mount(b"/sys/kernel/tracing", b"/sys/kernel/debug/tracing", None, MS_BIND, None)


def see_helpers_alone(libc: Any, bcc: Any, headers: str) -> None:
    """Give libbcc a short list of the kernel's symbols. For each program it reads all of them, a hundred thousand and
    more, and sorts them anew at each call that reads a process's memory, only to learn whether the kernel has the
    helper (check_bpf_probe_read_user, bcc's b_frontend_action.cc): up to half of the time to compile. Where this child
    may not mount, or libbcc does not understand the list, it takes as long as that.
    """
    helpers = Path(headers, HELPERS)
    if not helpers.is_file() or not has_own_mounts(libc):
        return
    if not libc.mount(os.fsencode(helpers), KALLSYMS, None, MS_BIND, None) and bcc.BPF.ksymname(A_HELPER) == -1:
        libc.umount(KALLSYMS)


def load(job: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Compile `job["text"]`; its probes attach by their names. Raises what bcc raises: the parent shows it whole."""
    os.environ["BCC_KERNEL_SOURCE"] = job["headers"]
    bcc = import_bcc()
    bpf = bcc.BPF(text=job["text"], cflags=job["cflags"])
    functions = function_names(bpf)
    link_steps(bcc.BPF, bpf, functions, job["kind"])
    for name in functions:
        if name.startswith((b"uprobe__", b"uretprobe__")):  # the daemon attaches them
            bpf.load_func(name, bcc.BPF.KPROBE)
    maps = describe_maps(bcc, bpf)
    programs = {name.decode(): function.fd for name, function in bpf.funcs.items()}
    links = attached(bpf)
    answer = {
        "maps": [{key: value for key, value in entry.items() if key != "fd"} for entry in maps],
        "programs": list(programs),
        "links": len(links),
    }
    return answer, [entry["fd"] for entry in maps] + list(programs.values()) + links


def compile_only(job: dict[str, Any], libc: Any) -> dict[str, Any]:
    """Compile `job["text"]` and load nothing: the maps and the instructions, which name a map by its place.

    What a debugger would want to know changes no instruction, takes an eighth of the time, and is not kept.
    """
    os.environ["BCC_KERNEL_SOURCE"] = job["headers"]
    bcc = import_bcc()
    see_helpers_alone(libc, bcc, job["headers"])

    class Module(bcc.BPF):  # type: ignore[misc, name-defined]  # bcc has no types
        def _trace_autoload(self) -> None:
            """Attach nothing."""

    bpf = Module(text=job["text"], cflags=[*job["cflags"], "-g0"])
    maps = describe_maps(bcc, bpf)
    place_of = {entry["fd"]: number for number, entry in enumerate(maps)}
    functions = {name.decode(): instructions(bpf, name, place_of) for name in function_names(bpf)}
    return {"maps": maps, "functions": functions}


def instructions(bpf: Any, name: bytes, place_of: dict[int, int]) -> str:
    """A function's instructions, 8 bytes each, in base64. Those that load a map's address have its place for its fd."""
    library = sys.modules["bcc"].libbcc.lib
    size = library.bpf_function_size(bpf.module, name)
    code = bytearray(ctypes.string_at(library.bpf_function_start(bpf.module, name), size))
    for at in range(0, len(code), 8):
        if code[at] == LOAD_64 and code[at + 1] >> 4 == PSEUDO_MAP_FD:
            (fd,) = struct.unpack_from("=i", code, at + 4)
            struct.pack_into("=i", code, at + 4, place_of[fd])
    return base64.b64encode(code).decode()


def function_names(bpf: Any) -> list[bytes]:
    library = sys.modules["bcc"].libbcc.lib
    library.bpf_function_name.restype = ctypes.c_char_p
    return [library.bpf_function_name(bpf.module, number) for number in range(library.bpf_num_functions(bpf.module))]


def link_steps(kinds: Any, bpf: Any, functions: list[bytes], kind: str) -> None:
    """Load the programs that others call as their tails, as the callers' type, and put each where it is called from.

    bcc has attached the probes by now. The step that emits comes last, so that no event leaves before it can be filled.
    """
    types = {"tracepoint": kinds.TRACEPOINT, "raw_tracepoint": kinds.RAW_TRACEPOINT, "uprobe": kinds.KPROBE}
    table = bpf[b"bpfd_steps"]
    for number, name in reversed(list(enumerate(STEPS))):
        if name in functions:
            function = bpf.load_func(name, types[kind])
            table[ctypes.c_int(number)] = ctypes.c_int(function.fd)


def import_bcc() -> Any:
    """bcc belongs to the system's Python; a virtual environment does not see it."""
    try:
        import bcc
    except ImportError:
        sys.path.append(DEBIAN_PACKAGES)
        try:
            import bcc
        except ImportError:
            raise SystemExit("bcc is missing; install it with: apt-get install python3-bpfcc") from None
    if not hasattr(bcc, "BPF"):
        raise SystemExit("the installed package bcc is another one of that name; pip uninstall bcc")
    return bcc


def describe_maps(bcc: Any, bpf: Any) -> list[dict[str, Any]]:
    library, module = bcc.libbcc.lib, bpf.module
    library.bpf_table_name.restype = ctypes.c_char_p
    entries = []
    for number in range(library.bpf_num_tables(module)):
        entries.append(
            {
                "name": library.bpf_table_name(module, number).decode(),
                "fd": library.bpf_table_fd_id(module, number),
                "type": library.bpf_table_type_id(module, number),
                "key_size": library.bpf_table_key_size_id(module, number),
                "value_size": library.bpf_table_leaf_size_id(module, number),
                "max_entries": library.bpf_table_max_entries_id(module, number),
                "flags": library.bpf_table_flags_id(module, number),
            }
        )
    return entries


def attached(bpf: Any) -> list[int]:
    """The descriptors that keep the probes attached: they end with the last process that holds them."""
    links: list[int] = []
    for name in PROBE_TABLES:
        for found in getattr(bpf, name, {}).values():
            # A kprobe may call several functions; bcc keeps a table of them.
            links.extend(found.values() if isinstance(found, dict) else [found])
    for fds in getattr(bpf, "open_perf_events", {}).values():
        links.extend(fds.values())
    return links


if __name__ == "__main__":
    main()
