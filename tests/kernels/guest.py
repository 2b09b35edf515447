"""A virtual machine with another kernel, over this machine's files: what it writes there is gone with it."""

from __future__ import annotations

import contextlib
import lzma
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.kernels.debian import Kernel

REPOSITORY = Path(__file__).parents[2]
WANTED = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
"""Modules that the guest needs to see this machine's files; a kernel may have them built in."""
MEMORY_MB = 1024
END_S = 10
INIT = """#!/bin/busybox sh
export PATH=/bin:/sbin:/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 TMPDIR=/run
/bin/busybox mkdir /proc
/bin/busybox --install -s /bin
for module in /modules/*; do insmod $module; done
share() {{ mount -t 9p -o $1,trans=virtio,version=9p2000.L,msize=262144,cache=$2 $3 $4; }}
share ro loose files /lower
mount -t tmpfs upper /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work files /files
mount -t proc proc /files/proc
mount -t sysfs sys /files/sys
mount -t devtmpfs dev /files/dev
mkdir /files/dev/pts
mount -t devpts devpts /files/dev/pts
mount -t cgroup2 cgroup /files/sys/fs/cgroup
mount -t tracefs tracefs /files/sys/kernel/tracing
mount -t tmpfs run /files/run
share rw none shared /files{shared}
exec switch_root /files /bin/sh -c {command}
"""


@contextlib.contextmanager
def running(kernel: Kernel, module: str, shared: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A guest that runs `python -m module SHARED` and then ends, and with it the process given. It may write to
    `shared`, which has the same path in it; what it prints is in `console` there. At the latest it ends with this.
    """
    with tempfile.TemporaryDirectory() as made:
        disk = Path(made) / "initramfs"
        program = shlex.join([sys.executable, "-m", module, str(shared)])
        command = f"cd {shlex.quote(str(REPOSITORY))}; {program}; busybox poweroff -f"
        disk.write_bytes(_initramfs(kernel, INIT.format(shared=shared, command=shlex.quote(command)), Path(made)))
        machine = subprocess.Popen(_qemu(kernel.image, disk, shared), stdin=subprocess.DEVNULL)
        try:
            yield machine
        finally:
            machine.terminate()
            try:
                machine.wait(END_S)
            except subprocess.TimeoutExpired:
                machine.kill()
                machine.wait()


def _qemu(image: Path, initramfs: Path, shared: Path) -> list[str]:
    """Software emulation: any machine has it, also one that is virtual itself. It ends with this process."""
    words = f"""setpriv --pdeathsig KILL qemu-system-x86_64 -accel tcg -cpu Nehalem -smp 1 -m {MEMORY_MB}
        -nodefaults -no-user-config -display none -no-reboot -device virtio-rng-pci"""
    files = "local,id=files,path=/,security_model=none,readonly=on,multidevs=remap"
    return [
        *words.split(),
        *("-serial", f"file:{shared}/console", "-kernel", str(image), "-initrd", str(initramfs)),
        *("-append", "console=ttyS0 panic=-1 mitigations=off quiet"),
        *("-fsdev", files, "-device", "virtio-9p-pci,fsdev=files,mount_tag=files"),
        *("-fsdev", f"local,id=shared,path={shared},security_model=none"),
        *("-device", "virtio-9p-pci,fsdev=shared,mount_tag=shared"),
    ]


def _initramfs(kernel: Kernel, init: str, work: Path) -> bytes:
    tree = work / "tree"
    for name in ("bin", "modules", "lower", "upper", "files"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin")
    (tree / "init").write_text(init)
    (tree / "init").chmod(0o755)
    for number, content in enumerate(_modules(kernel.modules)):
        (tree / "modules" / f"{number:02}.ko").write_bytes(content)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    packed = subprocess.run(
        ["busybox", "cpio", "-o", "-H", "newc"], cwd=tree, input=names.encode(), capture_output=True, check=True
    )
    return packed.stdout


def _modules(folder: Path) -> list[bytes]:
    """The modules that are wanted, each behind those that it depends on."""
    files = {path.name.partition(".ko")[0].replace("-", "_"): path for path in folder.rglob("*.ko*")}
    loaded: dict[str, bytes] = {}

    def add(name: str) -> None:
        path = files.get(name)
        if path is None or name in loaded:
            return
        content = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for other in depends[1].decode().split(",") if depends else ():
            add(other.replace("-", "_"))
        loaded[name] = content

    for name in WANTED:
        add(name)
    return list(loaded.values())
