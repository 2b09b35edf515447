"""A header tree for bcc, made from the running kernel's BTF: no kernel headers need be installed.

Headers of another kernel version compile too, and then read garbage in silence, so they are never used. The tree holds
all types (`vmlinux.h`, 3 MB, half a second to compile) and the small part that nearly every tracer gets by with.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bpfd.errors import KernelError
from bpfd.kernel.loader import HELPERS

BTF = Path("/sys/kernel/btf/vmlinux")

ROOTS = (
    "bpf_map",
    "bpf_prog",
    "bpf_prog_aux",
    "cgroup",
    "cgroup_subsys_id",
    "cred",
    "css_set",
    "dentry",
    "fdtable",
    "file",
    "file_system_type",
    "filename",
    "files_struct",
    "fs_context",
    "fs_struct",
    "in6_addr",
    "inode",
    "io_kiocb",
    "io_mkdir",
    "io_open",
    "io_rename",
    "io_statx",
    "io_unlink",
    "iovec",
    "iphdr",
    "ipv6hdr",
    "kernfs_node",
    "linux_binprm",
    "mm_struct",
    "mmsghdr",
    "mnt_namespace",
    "mount",
    "mount_attr",
    "ns_common",
    "nsproxy",
    "open_how",
    "path",
    "pid",
    "pid_namespace",
    "proc_ns_operations",
    "pt_regs",
    "qstr",
    "signal_struct",
    "sk_buff",
    "skb_drop_reason",
    "sock",
    "sockaddr_in",
    "sockaddr_in6",
    "sockaddr_un",
    "socket",
    "super_block",
    "task_struct",
    "tcphdr",
    "unix_address",
    "unix_sock",
    "user_msghdr",
    "xa_node",
    "bool",
    "false",
    "size_t",
    "uintptr_t",
)
"""The types that programs may use without `#include <vmlinux.h>`, with all that they contain by value."""

_DECLARATION = re.compile(r"(?m)^(?=(?:struct|union|enum|typedef|#|extern|static)\b)")
_TAG = re.compile(r"(struct|union|enum)\s+(\w+)\s*\{")
_TYPEDEF = re.compile(r"typedef\b.*?(?:\(\*(\w+)\)\(|\b(\w+)(?:\[\d*\])*;\s*$)", re.S)
_TAGGED = re.compile(r"\b(struct|union|enum)\s+(\w+)(\s*\*)?")
_PADDING = re.compile(r"(?m)^(\t+)(long: 64|int: 32|short: 16|char: 8);$")
_ENUM = re.compile(r"(?m)^(enum (\w+) \{[^}]*\});$")
_SMALL_ENUM = re.compile(r"\] ENUM '(\w+)' .*\bsize=([12]) ")
_MODES = {"1": "byte", "2": "HI"}
"""How clang is told that an enum takes so many bytes."""
_CONSTANT = re.compile(r"(?m)^\s*(\w+)\s*(?:=|,)")
_HELPER = re.compile(r"\tBPF_FUNC_(\w+) = \d")
_SOMEWHERE = "ffffffff80000000"
"""An address of the kernel's, which is all that libbcc wants to see: another would only be known of this boot."""
_WORD = re.compile(r"\b[A-Za-z_]\w*\b")

_FEATURES = (
    ("IO_OPEN_NAME", "struct io_open {", r"struct filename \*filename;"),
    ("PIDFS", "struct pid {", "u64 ino;"),
    ("MOUNT_IDS", "struct mount {", "u64 mnt_id_unique;"),
    ("GROUP_DEAD", "struct trace_event_raw_sched_process_exit {", "bool group_dead;"),
    ("DROP_REASON", "enum skb_drop_reason {", "SKB_DROP_REASON_NOT_SPECIFIED"),
    ("SKB_CONSUMED", "enum skb_drop_reason {", "SKB_CONSUMED"),
    ("QUEUE_PURGE", "enum skb_drop_reason {", "SKB_DROP_REASON_QUEUE_PURGE"),
    ("RX_SOCKET", "typedef void (*btf_trace_kfree_skb)(", "struct sock"),
)
"""What later kernels have: a name for it, how the type's declaration begins, and the words in it that show it."""

_FORWARDED = (
    "linux/sched.h linux/fs.h linux/version.h linux/log2.h asm/page.h uapi/linux/if_ether.h uapi/linux/bpf.h "
    "uapi/linux/if_packet.h uapi/linux/ptrace.h uapi/linux/limits.h net/sock.h linux/tcp.h"
).split()
"""Headers that bcc's own includes ask for."""

_KCONFIG = """#pragma once
#define CONFIG_BPF_SYSCALL 1
#define KERNEL_VERSION(a,b,c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#define LINUX_VERSION_CODE KERNEL_VERSION({major},{minor},{patch})
#define PAGE_SIZE {page}
#define NAME_MAX 255
#define PATH_MAX 4096
#undef unix
#undef linux
"""
_TYPES = """#pragma once
typedef signed char __s8; typedef __s8 s8; typedef unsigned char __u8; typedef __u8 u8;
typedef short __s16; typedef __s16 s16; typedef unsigned short __u16; typedef __u16 u16;
typedef int __s32; typedef __s32 s32; typedef unsigned int __u32; typedef __u32 u32;
typedef long long __s64; typedef __s64 s64; typedef unsigned long long __u64; typedef __u64 u64;
typedef __u16 __le16, __be16, __sum16; typedef __u32 __le32, __be32, __wsum; typedef __u64 __le64, __be64;
#define __aligned_u64 __u64 __attribute__((aligned(8)))
#define __user
#define __kernel
#define __rcu
#define __percpu
#ifndef NULL
#define NULL ((void *)0)
#endif
"""
_ALL = """#pragma once
#include <linux/types.h>
#include <bcc/bpf.h>
#ifdef BPFD_VMLINUX
#define BPF_NO_PRESERVE_ACCESS_INDEX
#include <vmlinux_types.h>
#else
#include <kernel_types.h>
#endif
"""


def ensure_apart(cache_dir: Path) -> Path:
    """As `ensure`, but a child makes the tree: it takes memory, of which a part would stay resident.

    Called on the main thread at start. Raises `KernelError`.
    """
    tree = _tree(cache_dir)
    if tree.is_dir():
        return tree
    words = [sys.executable, "-P", "-m", "bpfd.kernel.headers", str(cache_dir)]
    # In a session of its own, for a Ctrl-C is the daemon's: it takes less than a second.
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, start_new_session=True
    )
    if done.returncode or not tree.is_dir():
        raise KernelError(done.stderr.strip()[-400:] or f"{tree}: not made; its maker ended with {done.returncode}")
    return tree


def ensure(cache_dir: Path) -> Path:
    """The header tree of the running kernel below `cache_dir`, made if it is not there (0.3 s).

    Safe against another process that makes the same tree.
    Raises `KernelError` if the kernel has no BTF or bpftool is missing.
    """
    tree = _tree(cache_dir)
    if tree.is_dir():
        return tree
    dump = size_enums(_dump_btf("c"), _dump_btf("raw"))
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".headers-", dir=cache_dir))
    except OSError as error:
        raise KernelError(
            f"{cache_dir}: cannot be written: {error.strerror}; set cache_dir to another folder"
        ) from None
    try:
        building.chmod(0o755)
        write_tree(building, dump, _bcc_names())
        _publish(building, tree)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    _forget_others(cache_dir, tree)
    return tree


def _tree(cache_dir: Path) -> Path:
    return cache_dir / f"headers-{platform.release()}-{_fingerprint()}"


def write_tree(tree: Path, dump: str, taken: frozenset[str]) -> None:
    """Write all headers below `tree` from bpftool's C `dump`, without what bcc defines itself (`taken`)."""
    declarations = [name_padding(d) for d in _DECLARATION.split(dump) if not _defined_by_bcc(d, taken)]
    major, minor, patch = [*re.findall(r"\d+", platform.release()), "0", "0", "0"][:3]
    page = os.sysconf("SC_PAGE_SIZE")
    files = {
        "vmlinux_types.h": "".join(declarations),
        "vmlinux.h": "#pragma once\n#include <linux/all.h>\n",
        "kernel_types.h": "#pragma once\n" + _features(declarations) + prune(declarations, ROOTS),
        "linux/kconfig.h": _KCONFIG.format(major=major, minor=minor, patch=patch, page=page),
        "linux/types.h": _TYPES,
        "linux/all.h": _ALL,
        "linux/bpf_common.h": _bpf_common(),
    }
    files.update(dict.fromkeys(_FORWARDED, "#include <linux/all.h>\n"))
    for name, text in files.items():
        path = tree / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    arch = "arm64" if platform.machine() == "aarch64" else "x86"
    (tree / "arch" / arch / "include").mkdir(parents=True)
    if names := _HELPER.findall(dump):
        (tree / HELPERS).write_text("".join(f"{_SOMEWHERE} T bpf_{name}\n" for name in names))


def _features(declarations: list[str]) -> str:
    """What this kernel's types have that others may lack, for `#ifdef`."""
    found = ""
    for feature, declared, member in _FEATURES:
        text = next((text for text in declarations if text.startswith(declared)), "")
        if re.search(rf"\b{member}", text):
            found += f"#define BPFD_HAS_{feature} 1\n"
    return found


def name_padding(declaration: str) -> str:
    """Give padding that fills whole words a name. clang 14 merges nameless words (`long: 64;` seven times) into one
    wide integer with an alignment of its own, and then reads every later member from a wrong place."""
    numbers = itertools.count()
    return _PADDING.sub(lambda m: f"{m[1]}{m[2].split(':')[0]} bpfd_padding_{next(numbers)};", declaration)


def size_enums(dump: str, raw: str) -> str:
    """`dump` with the size of each enum of 1 or 2 bytes. bpftool 7.1 leaves it out of C; clang then takes 4, and places
    every later member of a struct wrong. `raw` is bpftool's plain dump."""
    modes = {name: _MODES[size] for name, size in _SMALL_ENUM.findall(raw)}
    return _ENUM.sub(lambda m: f"{m[1]} __attribute__((mode({modes[m[2]]})));" if m[2] in modes else m[0], dump)


def prune(declarations: list[str], roots: tuple[str, ...]) -> str:
    """The declarations of `roots` and of all that they contain by value, in the dump's order; what is only pointed at
    is declared and left open."""
    named = {name: number for number, text in enumerate(declarations) for name in _names_of(text)}
    wanted: set[int] = set()
    pointed: dict[str, str] = {}
    waiting = [name for name in roots if name in named]
    while waiting:
        number = named[waiting.pop()]
        if number in wanted:
            continue
        wanted.add(number)
        text = declarations[number]
        for kind, tag, star in _TAGGED.findall(text):
            if kind != "enum":
                pointed[tag] = kind
            if tag in named and not star:
                waiting.append(tag)
        waiting.extend(
            word
            for word in set(_WORD.findall(_TAGGED.sub("", text)))
            if word in named and _is_typedef(declarations[named[word]])
        )
    opened = "".join(f"{kind} {tag};\n" for tag, kind in sorted(pointed.items()))
    return opened + "".join(declarations[number] for number in sorted(wanted))


def _names_of(declaration: str) -> list[str]:
    """The names that a top-level declaration defines: its tag, its typedef, or an enum's constants if it has no tag."""
    tag = _TAG.match(declaration)
    if tag:
        return [tag[2]]
    if declaration.startswith("enum {"):
        return _CONSTANT.findall(declaration)
    if _is_typedef(declaration):
        found = _TYPEDEF.match(declaration)
        return [name for name in found.groups() if name] if found else []
    return []


def _is_typedef(declaration: str) -> bool:
    return declaration.startswith("typedef")


def _defined_by_bcc(declaration: str, taken: frozenset[str]) -> bool:
    tag = _TAG.match(declaration)
    if tag and tag[2] in taken:
        return True
    if not declaration.startswith("enum"):
        return False
    return not taken.isdisjoint(_CONSTANT.findall(declaration))


def _bcc_names() -> frozenset[str]:
    """The types and constants that bcc's own bpf.h defines; it is a string inside its shared library."""
    library = find_library("bcc")
    if library is None:
        raise KernelError("libbcc is missing; install it with: apt-get install python3-bpfcc")
    blob = library.read_bytes()
    inside = blob.find(b"BPF_REG_0 = 0")
    if inside < 0:
        raise KernelError(f"{library}: carries no bpf.h; install Debian's python3-bpfcc")
    text = blob[blob.rfind(b"\0", 0, inside) + 1 : blob.find(b"\0", inside)].decode(errors="replace")
    names = set(re.findall(r"^(?:struct|union|enum)\s+(\w+)\s*\{", text, re.M))
    names |= set(re.findall(r"^\s*((?:__)?[A-Z]\w+)\s*(?:=|,)", text, re.M))
    names |= set(re.findall(r"^#define\s+(\w+)", text, re.M))
    return frozenset(names)


def find_library(name: str) -> Path | None:
    """The file of the shared library `name`, asked of the dynamic linker's usual folders."""
    for folder in Path("/usr/lib").glob("*-linux-gnu"):
        for path in sorted(folder.glob(f"lib{name}.so.0*")):
            return path
    return None


def _bpf_common() -> str:
    """bcc needs the opcodes of linux/bpf_common.h, which are the same in every kernel."""
    path = Path("/usr/include/linux/bpf_common.h")
    try:
        text = path.read_text()
    except OSError:
        raise KernelError(f"{path} is missing; install it with: apt-get install linux-libc-dev") from None
    return "#pragma once\n#include <linux/types.h>\n" + "\n".join(re.findall(r"^#define.*$", text, re.M)) + "\n"


def _dump_btf(form: str) -> str:
    if not BTF.exists():
        raise KernelError(f"{BTF}: this kernel has no BTF; run a kernel with CONFIG_DEBUG_INFO_BTF=y")
    bpftool = shutil.which("bpftool", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if bpftool is None:
        raise KernelError("bpftool is missing; install it with: apt-get install bpftool")
    done = subprocess.run(
        [bpftool, "btf", "dump", "file", str(BTF), "format", form], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise KernelError(f"{BTF}: cannot be read: {done.stderr.strip()[:400]}")
    return done.stdout


def _fingerprint() -> str:
    """Tells two kernels of one release apart, and trees made by another version of this file."""
    own = Path(__file__).read_bytes()
    return hashlib.sha256(own + platform.version().encode()).hexdigest()[:12]


def _publish(building: Path, tree: Path) -> None:
    """Put the finished tree in place in one step; another process may have been first."""
    try:
        building.rename(tree)
    except OSError:
        if not tree.is_dir():
            raise


def _forget_others(cache_dir: Path, tree: Path) -> None:
    for other in cache_dir.glob("headers-*"):
        if other != tree:
            shutil.rmtree(other, ignore_errors=True)


if __name__ == "__main__":
    try:
        ensure(Path(sys.argv[1]))
    except KernelError as refused:
        sys.exit(str(refused))
