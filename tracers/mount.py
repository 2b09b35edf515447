"""File systems that are mounted, changed and unmounted, whether or not that succeeds."""

from __future__ import annotations

from pathlib import Path

from bpfd.plugin import BPFTracer, Field, Flags
from bpfd.tracers.names import plain

CALLS = ("mount", "umount", "move_mount", "fsmount", "open_tree", "mount_setattr", "pivot_root", "open_tree_attr")
"""In the order of `enum call` in mount.c."""
_MOUNT = (
    "MS_RDONLY MS_NOSUID MS_NODEV MS_NOEXEC MS_SYNCHRONOUS MS_REMOUNT MS_MANDLOCK MS_DIRSYNC MS_NOSYMFOLLOW - "
    "MS_NOATIME MS_NODIRATIME MS_BIND MS_MOVE MS_REC MS_SILENT MS_POSIXACL MS_UNBINDABLE MS_PRIVATE MS_SLAVE MS_SHARED "
    "MS_RELATIME MS_KERNMOUNT MS_I_VERSION MS_STRICTATIME MS_LAZYTIME"
)
_UMOUNT = "MNT_FORCE MNT_DETACH MNT_EXPIRE UMOUNT_NOFOLLOW"
_AT = {"AT_SYMLINK_NOFOLLOW": 0x100, "AT_NO_AUTOMOUNT": 0x800, "AT_EMPTY_PATH": 0x1000, "AT_RECURSIVE": 0x8000}
_OPEN_TREE = {"OPEN_TREE_CLONE": 1, **_AT, "OPEN_TREE_CLOEXEC": 0o2000000}


def _bits(names: str) -> dict[str, int]:
    return {name: 1 << bit for bit, name in enumerate(names.split()) if name != "-"}


FLAGS = {
    "mount": Flags(_bits(_MOUNT)),
    "umount": Flags(_bits(_UMOUNT)),
    "move_mount": Flags(
        {
            "MOVE_MOUNT_F_SYMLINKS": 0x1,
            "MOVE_MOUNT_F_AUTOMOUNTS": 0x2,
            "MOVE_MOUNT_F_EMPTY_PATH": 0x4,
            "MOVE_MOUNT_T_SYMLINKS": 0x10,
            "MOVE_MOUNT_T_AUTOMOUNTS": 0x20,
            "MOVE_MOUNT_T_EMPTY_PATH": 0x40,
            "MOVE_MOUNT_SET_GROUP": 0x100,
            "MOVE_MOUNT_BENEATH": 0x200,
        }
    ),
    "fsmount": Flags({"FSMOUNT_CLOEXEC": 1}),
    "open_tree": Flags(_OPEN_TREE),
    "mount_setattr": Flags(_AT),
    "pivot_root": Flags({}),
    "open_tree_attr": Flags(_OPEN_TREE),
}
"""include/uapi/linux/mount.h; umount's are in include/linux/fs.h."""
ATTRIBUTES = {
    "MOUNT_ATTR_RDONLY": 0x1,
    "MOUNT_ATTR_NOSUID": 0x2,
    "MOUNT_ATTR_NODEV": 0x4,
    "MOUNT_ATTR_NOEXEC": 0x8,
    "MOUNT_ATTR__ATIME": 0x70,
    "MOUNT_ATTR_NOATIME": 0x10,
    "MOUNT_ATTR_STRICTATIME": 0x20,
    "MOUNT_ATTR_NODIRATIME": 0x80,
    "MOUNT_ATTR_IDMAP": 0x100000,
    "MOUNT_ATTR_NOSYMFOLLOW": 0x200000,
}


def flags_text(number: int) -> str:
    """Flags by the names that they have in their call, which stands above bit 32."""
    return FLAGS[CALLS[number >> 32]](number & 0xFFFFFFFF)


class MountTracer(BPFTracer):
    """File systems that are mounted, moved, changed and unmounted, successfully or not.

    The calls are mount, umount2, fsmount, move_mount, open_tree, open_tree_attr (Linux 6.15), mount_setattr and
    pivot_root. By the newer ones a mount is made in steps: fsmount makes it and move_mount puts it at its place, where
    source and fstype are those of the mount that its descriptor leads to. Paths are made absolute, in the view of the
    process's mount namespace; a link in them is not followed. It misses what is only configured (fsopen, fsconfig), and
    32-bit programs, whose calls the kernel's system-call tracepoints leave out (arch_trace_is_compat_syscall in
    arch/x86/include/asm/ftrace.h).
    """

    name = "mount"
    fields = (
        Field("call", " ".join(CALLS), length=16, example="mount"),
        Field(
            "source",
            "what is mounted, as the program passed it: a device, a name or a path; pivot_root: the new root",
            length=4096,
            optional=True,
            example="/dev/sda1",
        ),
        Field(
            "source_path",
            "where the source is a path (MS_BIND, MS_MOVE, move_mount, open_tree, open_tree_attr): made absolute",
            length=8192,
            late=True,
            normalised=True,
            optional=True,
            example="/var/run/docker.sock",
        ),
        Field(
            "target",
            "where, as the program passed it; pivot_root: where the old root goes",
            length=4096,
            optional=True,
            example="./mnt",
        ),
        Field(
            "path",
            "the target made absolute",
            length=8192,
            late=True,
            normalised=True,
            optional=True,
            example="/root/mnt",
        ),
        Field("fstype", "the kind of file system", length=64, optional=True, example="ext4"),
        Field("flags", "how", type="u64", show=flags_text, optional=True, example="MS_BIND|MS_REC"),
        Field(
            "attributes_set",
            "mount_setattr, open_tree_attr and fsmount: what is turned on",
            type="u64",
            show=Flags(ATTRIBUTES),
            optional=True,
            example="MOUNT_ATTR_NOSUID",
        ),
        Field(
            "attributes_cleared",
            "mount_setattr and open_tree_attr: what is turned off",
            type="u64",
            show=Flags(ATTRIBUTES),
            optional=True,
            example="MOUNT_ATTR_RDONLY",
        ),
    )
    program = Path(__file__).with_name("mount.c")
    probes = (
        "tracepoint:syscalls:sys_exit_mount",
        "tracepoint:syscalls:sys_exit_umount",
        "tracepoint:syscalls:sys_exit_fsmount",
        "tracepoint:syscalls:sys_exit_move_mount",
        "tracepoint:syscalls:sys_exit_open_tree",
        "tracepoint:syscalls:sys_exit_mount_setattr?",
        "tracepoint:syscalls:sys_exit_pivot_root",
        "tracepoint:syscalls:sys_exit_open_tree_attr?",
    )

    @classmethod
    def settle(cls, data: dict[str, str], return_value: int) -> None:
        for field in ("source_path", "path"):
            if field in data:
                data[field] = plain(data[field])
