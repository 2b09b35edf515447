"""For every tracer, deeds that fill each of its fields, with the values that they must have."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from bpfd.containers.cgroups import find_hierarchy
from bpfd.tracers.chargen import PRINTABLE, WIDTH
from tests.dockerd import Dockerd
from tests.tracers import test_bpf, test_mount, test_open32, test_syslog, test_tcpdrop
from tests.tracers.network import run
from tests.tracers.ring import SQPOLL, Ring
from tests.tracers.terminal import PROMPT, Shell
from tests.tracers.tracing import python

Value = str | Callable[[str], bool]
"""What a field must say, or whether what it says is right."""
CALLS = "import ctypes, os, socket; libc = ctypes.CDLL(None); call = libc.syscall\n"
OPENAT, RENAMEAT = 18, 35
AT_FDCWD = -100


class Told(NamedTuple):
    """An event that must come: of this process, with these fields among others."""

    pid: int
    data: Mapping[str, Value]


Load = Callable[[Path], list[Told]]
"""Does what the tracer is to see, in an empty working directory; what must be told of it."""


def number(text: str) -> bool:
    return re.fullmatch("[1-9][0-9]*", text) is not None


def bashreadline(folder: Path) -> list[Told]:
    with Shell(["bash", "--norc", "-i"]) as shell:
        shell.wait_for(PROMPT)
        shell.type("echo typed")
        shell.wait_for(PROMPT)
        return [Told(shell.process.pid, {"line": "echo typed"})]


def bind(folder: Path) -> list[Told]:
    pid = run('made = socket.socket(V6, UDP)\nmade.bind(("::1", 4711))').pid
    return [Told(pid, {"addr": "::1", "port": "4711", "protocol": "udp"})]


def bpf(folder: Path) -> list[Told]:
    pid = python(
        test_bpf.CALLS
        + "bpf(6, 'QII', text(b'here/pin'), make_map(), 0); bpf(17, 'QI', text(b'sched_switch'), load(17, b'watch'))\n"
        + "bpf(28, 'IIII', load(8, b'door', 1), 9999, 1, 0); bpf(11, 'III', 7, 0, 0)"
    )
    return [
        Told(pid, {"operation": "BPF_OBJ_PIN", "name": "figures", "filename": "here/pin"}),
        Told(pid, {"operation": "BPF_MAP_CREATE", "map_type": "BPF_MAP_TYPE_ARRAY"}),
        Told(pid, {"program_type": "BPF_PROG_TYPE_RAW_TRACEPOINT", "target": "sched_switch", "name": "watch"}),
        Told(pid, {"operation": "BPF_PROG_LOAD", "attach_type": "BPF_CGROUP_INET_EGRESS", "instructions": "2"}),
        Told(pid, {"operation": "BPF_PROG_GET_NEXT_ID", "id": "7"}),
    ]


def breakout(folder: Path) -> list[Told]:
    """A process in a cgroup of which nobody has heard, in a mount namespace of its own, has a descriptor of another."""
    made, shown = folder / "made", folder / "shown"
    made.mkdir()
    shown.mkdir()
    group = find_hierarchy().mount / f"bpfd-breakout-{os.getpid()}"
    group.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", made], check=True)
    try:
        (made / "inner").mkdir()
        (made / "inner" / "file").write_text("")
        subprocess.run(["mount", "--bind", made / "inner", shown], check=True)
        leaked = os.open(shown, os.O_RDONLY | os.O_DIRECTORY)
        name = f"/proc/self/fd/{leaked}/file"
        words = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec unshare -m sh -c "read line < {name}; true"']
        process = subprocess.Popen(words, pass_fds=[leaked])
        process.wait()
        os.close(leaked)
    finally:
        subprocess.run(["umount", shown], check=False)
        subprocess.run(["umount", made], check=False)
        group.rmdir()
    data = {"filename": name, "path": f"{shown}/file", "origin": "/inner/file", "reason": "other-namespace"}
    return [Told(process.pid, data)]


def execs(folder: Path) -> list[Told]:
    words = ["/bin/true", *("x" * 100 for _ in range(200))]
    process = subprocess.Popen(words)
    process.wait()
    parent = Path("/proc/self/comm").read_text().strip()
    path = os.path.realpath("/bin/true")
    begin = " ".join(words)[:8000]

    def argv(text: str) -> bool:
        return text.startswith(begin) and text.endswith("…")

    (folder / "script").write_text("#!/bin/sh\n")
    (folder / "script").chmod(0o755)
    script = subprocess.Popen(["./script"])
    script.wait()
    pid = python(
        "import os; m = os.memfd_create('x'); os.write(m, open('/bin/true', 'rb').read()); os.execve(m, ['x'], {})"
    )
    data = {"filename": "/bin/true", "argv": argv, "argv_truncated": "true", "path": path}
    family = {"parent": parent, "parent_duration": number, "ancestors": lambda text: text.split()[0] == parent}
    return [
        Told(process.pid, {**data, "cwd": str(folder), **family}),
        Told(script.pid, {"filename": "./script", "interpreter": "/bin/sh"}),
        Told(pid, {"argv": "x", "fileless": "true"}),
    ]


def iouring(folder: Path) -> list[Told]:
    (folder / "old").write_text("")
    with Ring(SQPOLL) as ring:
        os.close(ring.do(OPENAT, AT_FDCWD, b"./old", operation_flags=os.O_CLOEXEC, tag=4711))
        ring.do(RENAMEAT, AT_FDCWD, b"old", AT_FDCWD & 0xFFFFFFFF, b"./new")
    opened = {"operation": "OPENAT", "filename": "./old", "path": f"{folder}/old", "request": "4711"}
    me = os.getpid()
    return [
        Told(me, {"action": "create", "entries": "8", "setup_flags": "IORING_SETUP_SQPOLL"}),
        Told(me, {"action": "submit", **opened, "flags": _with_what_the_kernel_adds, "polled": "true"}),
        Told(me, {"operation": "RENAMEAT", "new_filename": "./new", "new_path": f"{folder}/new"}),
    ]


def _with_what_the_kernel_adds(text: str) -> bool:
    return text.startswith("O_RDONLY|O_CLOEXEC")


def listen(folder: Path) -> list[Told]:
    pid = run('listening(V4, "127.0.0.1", 8443, 17)').pid
    return [Told(pid, {"addr": "127.0.0.1", "port": "8443", "protocol": "tcp", "backlog": "17"})]


def mkdir(folder: Path) -> list[Told]:
    pid = python("import os; os.mkdir('made', 0o750)")
    return [Told(pid, {"filename": "made", "path": f"{folder}/made", "mode": "0750"})]


def module(folder: Path) -> list[Told]:
    (folder / "evil.ko").write_bytes(b"no module")
    pid = python(
        CALLS
        + "call(313, os.open('./evil.ko', 0), b'hide=42', 2); call(175, b'x' * 512, 512, b'')\n"
        + f"call(176, b'no_such_module', {os.O_NONBLOCK})"
    )
    file = {"path": f"{folder}/evil.ko", "parameters": "hide=42", "flags": "MODULE_INIT_IGNORE_VERMAGIC"}
    return [
        Told(pid, {"action": "finit_module", **file}),
        Told(pid, {"action": "init_module", "size": "512"}),
        Told(pid, {"action": "delete_module", "name": "no_such_module"}),
    ]


def mount(folder: Path) -> list[Told]:
    for name in ("place", "source"):
        (folder / name).mkdir()
    pid = python(
        test_mount.CALLS
        + "libc.unshare(0x20000); libc.mount(None, b'/', None, 0x44000, None)\n"
        + "libc.mount(b'source', b'./place', None, 4096, None)\n"
        + "libc.mount(b'scratch', b'place', b'tmpfs', 1, None)\n"
        + "libc.syscall(442, AT_FDCWD, b'place', 0x8000, attributes(8, 1), 32)"
    )
    bound = {"source": "source", "source_path": f"{folder}/source", "target": "./place", "path": f"{folder}/place"}
    changed = {"attributes_set": "MOUNT_ATTR_NOEXEC", "attributes_cleared": "MOUNT_ATTR_RDONLY"}
    return [
        Told(pid, {"call": "mount", **bound, "flags": "MS_BIND"}),
        Told(pid, {"call": "mount", "fstype": "tmpfs", "flags": "MS_RDONLY"}),
        Told(pid, {"call": "mount_setattr", **changed}),
    ]


def opens(folder: Path) -> list[Told]:
    for name in ("place", "source"):
        (folder / name).mkdir()
    pid = python(
        "import ctypes, os; libc = ctypes.CDLL(None)\n"
        "libc.unshare(0x20000); libc.mount(None, b'/', None, 0x44000, None)\n"
        "libc.mount(b'source', b'place', None, 4096, None)\n"
        "os.open('place/file', os.O_RDWR | os.O_CREAT, 0o640)"
    )
    what = {"file_type": "regular", "inode": number, "device": _device, "via": "openat"}
    what |= dict.fromkeys(("reads", "writes", "creates"), "true")
    where = {"filename": "place/file", "path": f"{folder}/place/file", "origin": f"{folder}/source/file"}
    return [Told(pid, {**where, "flags": "O_RDWR|O_CLOEXEC|O_CREAT", "mode": "0640", **what})]


def opens32(folder: Path) -> list[Told]:
    for name in ("place", "source"):
        (folder / name).mkdir()
    (folder / "source" / "file").write_text("")
    program = test_open32.made(folder, 32)
    pid = python(
        "import ctypes, os; libc = ctypes.CDLL(None)\n"
        "libc.unshare(0x20000); libc.mount(None, b'/', None, 0x44000, None)\n"
        "libc.mount(b'source', b'place', None, 4096, None)\n"
        f"os.execv('{program}', ['opener'])"
    )
    what = {"file_type": "regular", "inode": number, "device": _device, "via": "openat"}
    what |= dict.fromkeys(("reads", "writes", "creates"), "true")
    where = {"filename": "./place/file", "path": f"{folder}/place/file", "origin": f"{folder}/source/file"}
    return [Told(pid, {**where, "flags": "O_RDWR|O_CREAT|O_TRUNC", "mode": "0604", **what})]


def _device(text: str) -> bool:
    return re.fullmatch("[0-9]+:[0-9]+", text) is not None


def process(folder: Path) -> list[Told]:
    child = subprocess.Popen(["prlimit", "--core=unlimited", "sh", "-c", "kill -ABRT $$"])
    child.wait()
    other = subprocess.Popen(["/bin/sh", "-c", "exit 3"])
    other.wait()
    return [
        Told(os.getpid(), {"action": "fork", "child": str(other.pid)}),
        Told(other.pid, {"action": "exec", "filename": "/bin/sh"}),
        Told(other.pid, {"action": "exit", "exit_code": "3", "duration": number}),
        Told(child.pid, {"action": "exit", "signal": "SIGABRT", "core_dumped": "true"}),
    ]


def ptrace(folder: Path) -> list[Told]:
    with subprocess.Popen(["sleep", "60"]) as target:
        try:
            pid = python(CALLS + f"libc.ptrace(16, {target.pid}, None, None)")
        finally:
            target.kill()
    whom = {"target": str(target.pid), "target_tid": str(target.pid), "target_command": "sleep"}
    return [Told(pid, {"request": "PTRACE_ATTACH", **whom})]


def rename(folder: Path) -> list[Told]:
    (folder / "old").write_text("")
    pid = python(CALLS + f"call(316, {AT_FDCWD}, b'old', {AT_FDCWD}, b'./new', 1)")
    names = {"filename": "old", "path": f"{folder}/old", "new_filename": "./new", "new_path": f"{folder}/new"}
    return [Told(pid, {**names, "flags": "RENAME_NOREPLACE"})]


def setns(folder: Path) -> list[Told]:
    inode = str(Path("/proc/self/ns/net").stat().st_ino)
    with subprocess.Popen(["sleep", "60"]) as target:
        try:
            pid = python(
                CALLS
                + "libc.setns(os.open('/proc/self/ns/net', 0), 0)\n"
                + f"libc.setns(os.pidfd_open({target.pid}), 0x40000000)"
            )
        finally:
            target.kill()
    whose = {"target": str(target.pid), "target_command": "sleep", "flags": "CLONE_NEWNET"}
    return [Told(pid, {"call": "setns", "type": "net", "inode": inode}), Told(pid, {"call": "setns", **whose})]


def setuid(folder: Path) -> list[Told]:
    pid = python(CALLS + "call(117, 1001, 1002, 1003)")
    old = {"old_real": "0", "old_effective": "0"}
    new = {"new_real": "1001", "new_effective": "1002", "new_saved": "1003", "new_filesystem": "1002"}
    return [Told(pid, {"call": "setresuid", "target": "1002", **old, **new})]


def syslog(folder: Path) -> list[Told]:
    code = "to_log.send(b'<86>Nov 29 01:42:18 sshd[42]: Invalid user x')"
    who = {"facility": "authpriv", "level": "info", "socket": "/dev/log"}
    return [Told(python(test_syslog.LISTENING + code), {"message": "Nov 29 01:42:18 sshd[42]: Invalid user x", **who})]


def tcpaccept(folder: Path) -> list[Told]:
    ran = run(
        """
listener, port = listening(V6, "::1")
client = socket.create_connection(("::1", port))
listener.accept()
say([port, client.getsockname()[1]])
"""
    )
    port, own_port = map(str, ran.said)
    return [Told(ran.pid, {"saddr": "::1", "sport": port, "daddr": "::1", "dport": own_port, "family": "AF_INET6"})]


def tcpconnect(folder: Path) -> list[Told]:
    ran = run(
        """
listener, port = listening(V4, "127.0.0.2")
client = socket.create_connection(("127.0.0.2", port), source_address=("127.0.0.3", 0))
say([port, client.getsockname()[1]])
"""
    )
    port, own_port = map(str, ran.said)
    ends = {"saddr": "127.0.0.3", "sport": own_port, "daddr": "127.0.0.2", "dport": port}
    return [Told(ran.pid, {**ends, "family": "AF_INET"})]


def tcpdrop(folder: Path) -> list[Told]:
    """It belongs to no process: the address, which nothing else has, tells whose it is."""
    address = test_tcpdrop.ipv4()
    code = """
listener, port = listening(family, address, 8080)
send(5555, 8080, SYN | FIN)
"""
    run(test_tcpdrop.PACKETS + code, address)
    ends = {"saddr": address, "sport": "5555", "daddr": address, "dport": "8080"}
    return [Told(0, {**ends, "state": "LISTEN", "flags": "SYN|FIN", "reason": "TCP_FLAGS"})]


def unlink(folder: Path) -> list[Told]:
    (folder / "gone").mkdir()
    pid = python("import os; os.rmdir('./gone')")
    return [Told(pid, {"filename": "./gone", "path": f"{folder}/gone", "flags": "AT_REMOVEDIR"})]


def connect(folder: Path) -> list[Told]:
    ran = run('client = socket.socket(V4)\nsay([client.fileno(), client.connect_ex(("127.0.0.1", 1))])')
    where = {"uservaddr": "127.0.0.1:1", "address": "127.0.0.1", "port": "1", "addrlen": "16"}
    return [Told(ran.pid, {**where, "fd": str(ran.said[0])})]


def ended(folder: Path) -> list[Told]:
    process = subprocess.Popen(["true"])
    process.wait()
    data = {"comm": "true", "arg_pid": str(process.pid), "prio": "120", "group_dead": "true"}
    return [Told(process.pid, data)]


LOADS: Mapping[str, Load] = {
    "bashreadline": bashreadline,
    "bind": bind,
    "bpf": bpf,
    "dockeropenbreakout": breakout,
    "exec": execs,
    "iouring": iouring,
    "listen": listen,
    "mkdir": mkdir,
    "module": module,
    "mount": mount,
    "open": opens,
    "open32": opens32,
    "process": process,
    "ptrace": ptrace,
    "rename": rename,
    "setns": setns,
    "setuid": setuid,
    "syslog": syslog,
    "tcpaccept": tcpaccept,
    "tcpconnect": tcpconnect,
    "tcpdrop": tcpdrop,
    "unlink": unlink,
    "syscall:connect": connect,
    "tracepoint:sched:sched_process_exit": ended,
}
"""By tracer; of each family the example."""
WITHOUT_BPF: Mapping[str, list[Mapping[str, Value]]] = {
    "ticker": [{"tick": "1"}],
    "chargen": [{"line": PRINTABLE[:WIDTH], "number": "1"}],
}
"""What tracers tell by themselves."""


def container(dockerd: Dockerd) -> list[Mapping[str, Value]]:
    made = dockerd.run("exit 3", name="every-field-of-one", labels={"tier": "front", "app": "web"})
    made.wait()
    made.remove()
    known = {"name": "every-field-of-one", "image": dockerd.image, "labels": "app=web,tier=front"}
    ended: Mapping[str, Value] = {"action": "exited", **known, "exit_code": "3", "host_pid": number}
    return [{"action": "created", **known}, ended, {"action": "destroyed", **known}]


OF_CONTAINERS: Mapping[str, Callable[[Dockerd], list[Mapping[str, Value]]]] = {"container": container}
"""Of tracers that follow containers: what must be told of one."""


def loads_no_modules() -> str:
    """Why nothing can say `loaded` here; empty: something could."""
    return "" if Path("/proc/modules").exists() else "this kernel loads no modules (CONFIG_MODULES)"


CANNOT_HAPPEN: Mapping[tuple[str, str], Callable[[], str]] = {("module", "taints"): loads_no_modules}
"""Fields that some machines can't fill, with what says why."""
