"""What arguments of common system calls mean: flags and choices by name, and which pointers lead to what.

Names and numbers are those of the man pages; they are the same on every architecture unless Python's modules say so.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any

from bpfd.plugin import Flags, Named
from bpfd.tracers.open import flags_text

Show = Callable[[Any], str]


def _numbered(names: str, first: int = 0) -> Named:
    return Named({number: name for number, name in enumerate(names.split(), first) if name != "-"})


def _found(module: object, prefix: str) -> dict[int, str]:
    """The constants of a module of Python's by their numbers; of two with one number, the first in the alphabet."""
    names = sorted(name for name in dir(module) if name.startswith(prefix))
    found: dict[int, str] = {}
    for name in names:
        number = getattr(module, name)
        if isinstance(number, int):
            found.setdefault(int(number), name)
    return found


_AT = {
    "AT_SYMLINK_NOFOLLOW": 0x100,
    "AT_REMOVEDIR": 0x200,
    "AT_SYMLINK_FOLLOW": 0x400,
    "AT_NO_AUTOMOUNT": 0x800,
    "AT_EMPTY_PATH": 0x1000,
    "AT_RECURSIVE": 0x8000,
}
_CLONE = {
    "CLONE_NEWTIME": 0x80,
    "CLONE_VM": 0x100,
    "CLONE_FS": 0x200,
    "CLONE_FILES": 0x400,
    "CLONE_SIGHAND": 0x800,
    "CLONE_PIDFD": 0x1000,
    "CLONE_PTRACE": 0x2000,
    "CLONE_VFORK": 0x4000,
    "CLONE_PARENT": 0x8000,
    "CLONE_THREAD": 0x10000,
    "CLONE_NEWNS": 0x20000,
    "CLONE_SYSVSEM": 0x40000,
    "CLONE_SETTLS": 0x80000,
    "CLONE_PARENT_SETTID": 0x100000,
    "CLONE_CHILD_CLEARTID": 0x200000,
    "CLONE_UNTRACED": 0x800000,
    "CLONE_CHILD_SETTID": 0x1000000,
    "CLONE_NEWCGROUP": 0x2000000,
    "CLONE_NEWUTS": 0x4000000,
    "CLONE_NEWIPC": 0x8000000,
    "CLONE_NEWUSER": 0x10000000,
    "CLONE_NEWPID": 0x20000000,
    "CLONE_NEWNET": 0x40000000,
    "CLONE_IO": 0x80000000,
}
_MOUNT = {
    "MS_RDONLY": 0x1,
    "MS_NOSUID": 0x2,
    "MS_NODEV": 0x4,
    "MS_NOEXEC": 0x8,
    "MS_SYNCHRONOUS": 0x10,
    "MS_REMOUNT": 0x20,
    "MS_BIND": 0x1000,
    "MS_MOVE": 0x2000,
    "MS_REC": 0x4000,
    "MS_SILENT": 0x8000,
    "MS_UNBINDABLE": 0x20000,
    "MS_PRIVATE": 0x40000,
    "MS_SLAVE": 0x80000,
    "MS_SHARED": 0x100000,
    "MS_RELATIME": 0x200000,
    "MS_STRICTATIME": 0x1000000,
}
_SOCK_FLAGS = {"SOCK_NONBLOCK": int(socket.SOCK_NONBLOCK), "SOCK_CLOEXEC": int(socket.SOCK_CLOEXEC)}
_SOCK_TYPES = {1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 4: "SOCK_RDM", 5: "SOCK_SEQPACKET", 10: "SOCK_PACKET"}
_FD_FLAGS = {"O_NONBLOCK": os.O_NONBLOCK, "O_CLOEXEC": os.O_CLOEXEC}
_PROT = {"PROT_READ": mmap.PROT_READ, "PROT_WRITE": mmap.PROT_WRITE, "PROT_EXEC": mmap.PROT_EXEC}
_MAP = {
    "MAP_SHARED_VALIDATE": 3,
    "MAP_SHARED": 1,
    "MAP_PRIVATE": 2,
    "MAP_FIXED": 0x10,
    "MAP_ANONYMOUS": 0x20,
    "MAP_GROWSDOWN": 0x100,
    "MAP_DENYWRITE": 0x800,
    "MAP_EXECUTABLE": 0x1000,
    "MAP_LOCKED": 0x2000,
    "MAP_NORESERVE": 0x4000,
    "MAP_POPULATE": 0x8000,
    "MAP_NONBLOCK": 0x10000,
    "MAP_STACK": 0x20000,
    "MAP_HUGETLB": 0x40000,
    "MAP_FIXED_NOREPLACE": 0x100000,
}
_FCNTL = {
    **dict(
        enumerate(
            "F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN F_SETSIG "
            "F_GETSIG".split()
        )
    ),
    15: "F_SETOWN_EX",
    16: "F_GETOWN_EX",
    17: "F_GETOWNER_UIDS",
    36: "F_OFD_GETLK",
    37: "F_OFD_SETLK",
    38: "F_OFD_SETLKW",
    1024: "F_SETLEASE",
    1025: "F_GETLEASE",
    1026: "F_NOTIFY",
    1027: "F_DUPFD_QUERY",
    1028: "F_CREATED_QUERY",
    1029: "F_CANCELLK",
    1030: "F_DUPFD_CLOEXEC",
    1031: "F_SETPIPE_SZ",
    1032: "F_GETPIPE_SZ",
    1033: "F_ADD_SEALS",
    1034: "F_GET_SEALS",
    1035: "F_GET_RW_HINT",
    1036: "F_SET_RW_HINT",
    1037: "F_GET_FILE_RW_HINT",
    1038: "F_SET_FILE_RW_HINT",
}
"""Python's module has commands, and flags of the same numbers, under one prefix."""
_FALLOCATE = {
    "FALLOC_FL_KEEP_SIZE": 0x1,
    "FALLOC_FL_PUNCH_HOLE": 0x2,
    "FALLOC_FL_NO_HIDE_STALE": 0x4,
    "FALLOC_FL_COLLAPSE_RANGE": 0x8,
    "FALLOC_FL_ZERO_RANGE": 0x10,
    "FALLOC_FL_INSERT_RANGE": 0x20,
    "FALLOC_FL_UNSHARE_RANGE": 0x40,
    "FALLOC_FL_WRITE_ZEROES": 0x80,
}
_SIGNAL = Named({int(one): one.name for one in signal.Signals} | {0: "0"})
_FUTEX = (
    "FUTEX_WAIT FUTEX_WAKE FUTEX_FD FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_WAKE_OP FUTEX_LOCK_PI FUTEX_UNLOCK_PI "
    "FUTEX_TRYLOCK_PI FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET FUTEX_WAIT_REQUEUE_PI FUTEX_CMP_REQUEUE_PI FUTEX_LOCK_PI2"
).split()
_CLOCK = _numbered(
    "CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID CLOCK_MONOTONIC_RAW "
    "CLOCK_REALTIME_COARSE CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME CLOCK_REALTIME_ALARM CLOCK_BOOTTIME_ALARM - CLOCK_TAI"
)
_RESOURCE = _numbered(
    "RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC RLIMIT_NOFILE RLIMIT_MEMLOCK "
    "RLIMIT_AS RLIMIT_LOCKS RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME"
)
_MADVISE = _numbered("MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED - - - MADV_FREE MADV_REMOVE")
_WAIT = {"WNOHANG": 1, "WUNTRACED": 2, "WEXITED": 4, "WCONTINUED": 8, "WNOWAIT": 0x1000000}
_PTRACE = Named(
    dict(
        enumerate(
            "PTRACE_TRACEME PTRACE_PEEKTEXT PTRACE_PEEKDATA PTRACE_PEEKUSER PTRACE_POKETEXT PTRACE_POKEDATA "
            "PTRACE_POKEUSER PTRACE_CONT PTRACE_KILL PTRACE_SINGLESTEP".split()
        )
    )
    | {
        12: "PTRACE_GETREGS",
        13: "PTRACE_SETREGS",
        14: "PTRACE_GETFPREGS",
        15: "PTRACE_SETFPREGS",
        16: "PTRACE_ATTACH",
        17: "PTRACE_DETACH",
        24: "PTRACE_SYSCALL",
        0x4200: "PTRACE_SETOPTIONS",
        0x4201: "PTRACE_GETEVENTMSG",
        0x4202: "PTRACE_GETSIGINFO",
        0x4203: "PTRACE_SETSIGINFO",
        0x4204: "PTRACE_GETREGSET",
        0x4205: "PTRACE_SETREGSET",
        0x4206: "PTRACE_SEIZE",
        0x4207: "PTRACE_INTERRUPT",
        0x4208: "PTRACE_LISTEN",
        0x4209: "PTRACE_PEEKSIGINFO",
    }
)
_PRCTL = Named(
    {
        1: "PR_SET_PDEATHSIG",
        2: "PR_GET_PDEATHSIG",
        3: "PR_GET_DUMPABLE",
        4: "PR_SET_DUMPABLE",
        7: "PR_GET_KEEPCAPS",
        8: "PR_SET_KEEPCAPS",
        15: "PR_SET_NAME",
        16: "PR_GET_NAME",
        21: "PR_GET_SECCOMP",
        22: "PR_SET_SECCOMP",
        23: "PR_CAPBSET_READ",
        24: "PR_CAPBSET_DROP",
        27: "PR_SET_SECUREBITS",
        28: "PR_GET_SECUREBITS",
        35: "PR_SET_MM",
        36: "PR_SET_CHILD_SUBREAPER",
        37: "PR_GET_CHILD_SUBREAPER",
        38: "PR_SET_NO_NEW_PRIVS",
        39: "PR_GET_NO_NEW_PRIVS",
        47: "PR_CAP_AMBIENT",
        0x53564D41: "PR_SET_VMA",
        0x59616D61: "PR_SET_PTRACER",
    }
)


def _socket_type(number: int) -> str:
    return "|".join([_SOCK_TYPES.get(number & 0xF, str(number & 0xF)), *_flags_beyond(number & ~0xF, _SOCK_FLAGS)])


def _futex(number: int) -> str:
    command = number & 0x7F
    name = _FUTEX[command] if command < len(_FUTEX) else str(command)
    return "|".join([name, *_flags_beyond(number & ~0x7F, {"FUTEX_PRIVATE_FLAG": 128, "FUTEX_CLOCK_REALTIME": 256})])


def _clone(number: int) -> str:
    """The low byte is the signal that the parent gets."""
    parts = _flags_beyond(number & ~0xFF, _CLONE)
    return "|".join([*parts, *([_SIGNAL(number & 0xFF)] if number & 0xFF else [])]) or "0"


def _flags_beyond(number: int, names: Mapping[str, int]) -> list[str]:
    text = Flags(names, none="")(number)
    return [text] if text else []


_DIRECTORY = Named({-100: "AT_FDCWD"})
ANY_CALL: Mapping[str, Show] = {
    "dfd": _DIRECTORY,
    "olddfd": _DIRECTORY,
    "newdfd": _DIRECTORY,
    "from_dfd": _DIRECTORY,
    "to_dfd": _DIRECTORY,
    "which_clock": _CLOCK,
    "resource": _RESOURCE,
    "sig": _SIGNAL,
    "mode": "{:04o}".format,
    "clone_flags": _clone,
    "unshare_flags": Flags(_CLONE),
}
"""By the argument's name, whatever the call."""

SHOW: Mapping[tuple[str, str], Show] = {
    ("open", "flags"): flags_text,
    ("openat", "flags"): flags_text,
    ("socket", "family"): Named(_found(socket, "AF_")),
    ("socket", "type"): _socket_type,
    ("socketpair", "family"): Named(_found(socket, "AF_")),
    ("socketpair", "type"): _socket_type,
    ("accept4", "flags"): Flags(_SOCK_FLAGS),
    ("pipe2", "flags"): flags_text,
    ("dup3", "flags"): Flags(_FD_FLAGS),
    ("epoll_create1", "flags"): Flags({"EPOLL_CLOEXEC": os.O_CLOEXEC}),
    ("epoll_ctl", "op"): _numbered("EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD", 1),
    ("eventfd2", "flags"): Flags({"EFD_SEMAPHORE": 1, "EFD_NONBLOCK": os.O_NONBLOCK, "EFD_CLOEXEC": os.O_CLOEXEC}),
    ("inotify_init1", "flags"): Flags({"IN_NONBLOCK": os.O_NONBLOCK, "IN_CLOEXEC": os.O_CLOEXEC}),
    ("memfd_create", "flags"): Flags(
        {"MFD_CLOEXEC": 1, "MFD_ALLOW_SEALING": 2, "MFD_HUGETLB": 4, "MFD_NOEXEC_SEAL": 8, "MFD_EXEC": 16}
    ),
    ("getrandom", "flags"): Flags({"GRND_NONBLOCK": 1, "GRND_RANDOM": 2, "GRND_INSECURE": 4}),
    ("shutdown", "how"): _numbered("SHUT_RD SHUT_WR SHUT_RDWR"),
    ("mmap", "prot"): Flags(_PROT, none="PROT_NONE"),
    ("mmap", "flags"): Flags(_MAP),
    ("mprotect", "prot"): Flags(_PROT, none="PROT_NONE"),
    ("pkey_mprotect", "prot"): Flags(_PROT, none="PROT_NONE"),
    ("madvise", "behavior"): _MADVISE,
    ("msync", "flags"): Flags({"MS_ASYNC": 1, "MS_INVALIDATE": 2, "MS_SYNC": 4}),
    ("setns", "flags"): Flags(_CLONE),
    ("mount", "flags"): Flags(_MOUNT),
    ("umount", "flags"): Flags({"MNT_FORCE": 1, "MNT_DETACH": 2, "MNT_EXPIRE": 4, "UMOUNT_NOFOLLOW": 8}),
    ("unlinkat", "flag"): Flags(_AT),
    ("linkat", "flags"): Flags(_AT),
    ("fchownat", "flag"): Flags(_AT),
    ("fchmodat2", "flags"): Flags(_AT),
    ("faccessat2", "flags"): Flags({"AT_EACCESS": 0x200, **_AT}),
    ("newfstatat", "flag"): Flags(_AT),
    ("statx", "flags"): Flags(_AT),
    ("execveat", "flags"): Flags(_AT),
    ("renameat2", "flags"): Flags({"RENAME_NOREPLACE": 1, "RENAME_EXCHANGE": 2, "RENAME_WHITEOUT": 4}),
    ("access", "mode"): Flags({"R_OK": 4, "W_OK": 2, "X_OK": 1}, none="F_OK"),
    ("faccessat", "mode"): Flags({"R_OK": 4, "W_OK": 2, "X_OK": 1}, none="F_OK"),
    ("faccessat2", "mode"): Flags({"R_OK": 4, "W_OK": 2, "X_OK": 1}, none="F_OK"),
    ("fallocate", "mode"): Flags(_FALLOCATE),
    ("mbind", "mode"): hex,
    ("set_mempolicy", "mode"): hex,
    ("lseek", "whence"): _numbered("SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE"),
    ("fcntl", "cmd"): Named(_FCNTL),
    ("flock", "cmd"): Flags({"LOCK_SH": 1, "LOCK_EX": 2, "LOCK_NB": 4, "LOCK_UN": 8}),
    ("futex", "op"): _futex,
    ("ptrace", "request"): _PTRACE,
    ("prctl", "option"): _PRCTL,
    ("wait4", "options"): Flags(_WAIT),
    ("waitid", "options"): Flags(_WAIT),
    ("seccomp", "op"): _numbered(
        "SECCOMP_SET_MODE_STRICT SECCOMP_SET_MODE_FILTER SECCOMP_GET_ACTION_AVAIL SECCOMP_GET_NOTIF_SIZES"
    ),
    ("rt_sigprocmask", "how"): _numbered("SIG_BLOCK SIG_UNBLOCK SIG_SETMASK"),
}
"""By call and argument. Calls have the names that the kernel gives them in its trace events: `newfstatat`, `umount`."""

RESULT = "result"
LENGTH_OF: Mapping[tuple[str, str], str] = {
    ("write", "buf"): "count",
    ("pwrite64", "buf"): "count",
    ("read", "buf"): RESULT,
    ("pread64", "buf"): RESULT,
    ("getcwd", "buf"): RESULT,
    ("readlink", "buf"): RESULT,
    ("readlinkat", "buf"): RESULT,
    ("syslog", "buf"): RESULT,
    ("sethostname", "name"): "len",
    ("setdomainname", "name"): "len",
    ("sendto", "buff"): "len",
    ("recvfrom", "ubuf"): RESULT,
    ("mq_timedsend", "u_msg_ptr"): "msg_len",
    ("mq_timedreceive", "u_msg_ptr"): RESULT,
}
"""Buffers without a closing NUL: the argument that has their length, or the call's result."""

ADDRESS_LENGTH: Mapping[tuple[str, str], str] = {
    ("connect", "uservaddr"): "addrlen",
    ("bind", "umyaddr"): "addrlen",
    ("sendto", "addr"): "addr_len",
    ("accept", "upeer_sockaddr"): "*upeer_addrlen",
    ("accept4", "upeer_sockaddr"): "*upeer_addrlen",
    ("getsockname", "usockaddr"): "*usockaddr_len",
    ("getpeername", "usockaddr"): "*usockaddr_len",
    ("recvfrom", "addr"): "*addr_len",
}
"""Socket addresses: the argument that has their length, with a star where it points to it."""

NO_TEXT = frozenset(("shmaddr", "vec", "optval", "ubuf", "list", "u_msg_ptr"))
"""Pointers to characters that are no text."""

ALIASES: Mapping[str, str] = {
    "stat": "newstat",
    "fstat": "newfstat",
    "lstat": "newlstat",
    "fstatat": "newfstatat",
    "uname": "newuname",
    "umount2": "umount",
    "pread": "pread64",
    "pwrite": "pwrite64",
    "sendfile": "sendfile64",
    "send": "sendto",
    "recv": "recvfrom",
}
"""Names of the man pages, and what the kernel calls the same calls."""
