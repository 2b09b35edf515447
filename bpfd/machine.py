"""What this machine must have for BPF tracers to run."""

from __future__ import annotations

import errno
import os
import platform
from pathlib import Path

from bpfd.errors import KernelError, SettingsError
from bpfd.kernel import headers, probes

INIT_PID_NAMESPACE = 0xEFFFFFFC
"""The inode of the machine's own pid namespace (PROC_PID_INIT_INO, include/linux/proc_ns.h)."""


def check(command: str = "bpfd daemon") -> None:
    """Raises `KernelError`, a line, for the first thing that `command` misses. Mounts tracefs if it is not mounted."""
    if os.geteuid() != 0:
        raise KernelError(f"{command} must run as root: it loads BPF programs; run it with sudo")
    if os.stat("/proc/self/ns/pid").st_ino != INIT_PID_NAMESPACE:
        raise KernelError(f"{command} must see the machine's own process ids; run its container with --pid=host")
    if not headers.BTF.exists():
        raise KernelError(f"{headers.BTF}: this kernel has no BTF; run a kernel with CONFIG_DEBUG_INFO_BTF=y")
    probes.tracefs()


def check_writable(directory: Path, key: str) -> None:
    """Make `directory`, which the setting `key` names. Raises `SettingsError` if the daemon can't write there."""
    try:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))  # what keeps root from writing
    except OSError as error:
        raise SettingsError(
            f"{directory}: cannot be written: {error.strerror}; mend that, or set {key} to another directory"
        ) from None


def kernel() -> str:
    return f"{platform.system()} {platform.release()} {platform.machine()}"


def host() -> str:
    """The machine's name; inside a container with the host's UTS namespace too."""
    return Path("/proc/sys/kernel/hostname").read_text().strip() or platform.node()


def own_pid() -> int:
    """This process as the kernel's programs see it; `check` has made sure that both count alike."""
    return os.getpid()
