"""Programs that do something that a rule is to see, or to leave alone, without a trace on the machine.

Each is a process of its own, called what the test wants, in a mount namespace of its own: files that it makes in the
system's directories are made in a file system in memory, which lies over them for that process alone.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.daemon.running import until

BEGINNING = """
import ctypes, os, pwd, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0                           # CLONE_NEWNS
assert libc.mount(None, b"/", None, 0x44000, None) == 0     # MS_REC | MS_PRIVATE
READ, WRITE, BOTH, CREATE, TRUNCATE = os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC
INET, INET6, UNIX = socket.AF_INET, socket.AF_INET6, socket.AF_UNIX
NOBODY = 65534
tools = sys.argv[1]
acting = os.getpid()

def become(name):
    libc.prctl(15, name.encode(), 0, 0, 0)                  # PR_SET_NAME

def over(*folders):
    for folder in folders:
        assert libc.mount(b"none", folder.encode(), b"tmpfs", 0, None) == 0

def touch(*names):
    for name in names:
        os.makedirs(os.path.dirname(name), exist_ok=True)
        os.close(os.open(name, WRITE | CREATE, 0o644))

def opened(name, flags=READ):
    try:
        os.close(os.open(name, flags, 0o644))
    except OSError:
        pass

def child(do):
    global acting
    acting = os.fork()
    if not acting:
        do()
        os._exit(0)
    os.waitpid(acting, 0)

def program(name, user="root"):
    uid = pwd.getpwnam(user).pw_uid
    def run():
        os.setresuid(uid, uid, uid)
        os.execv(f"{tools}/{name}", [name])
    return run

def start(name, user="root"):
    child(program(name, user))

def below(name, do):
    global acting
    read, write = os.pipe()
    def between():
        become(name)
        child(do)
        os.write(write, str(acting).encode())
    child(between)
    acting = int(os.read(read, 20))

def orphan(do):
    global acting
    read, write = os.pipe()
    os.set_inheritable(write, True)
    if not os.fork():
        middle = os.getpid()
        if not os.fork():
            while os.getppid() == middle:
                time.sleep(0.001)
            os.write(write, str(os.getpid()).encode())
            do()
        os._exit(0)
    os.wait()
    os.close(write)
    acting = int(os.read(read, 20))
    os.read(read, 1)

def listening(family=INET, host="127.0.0.1"):
    made = socket.socket(family)
    made.bind("" if family == UNIX else (host, 0))
    made.listen()
    return made

def connected(to, kind=socket.SOCK_STREAM):
    made = socket.socket(to.family, kind)
    made.connect(to.getsockname())
    return made

def to_log(message, name="/dev/log"):
    over("/dev")
    log = socket.socket(UNIX, socket.SOCK_DGRAM)
    log.bind(name)
    connected(log, socket.SOCK_DGRAM).send(message)
"""
"""What every program begins with. `acting` is the process whose deed it is; what changes it: `child`, a child; `start`,
a child that runs a program; `below`, a child of a child that has a name; `orphan`, a process whose parent has ended."""
_END = "\nprint(acting, flush=True)\n"
_WAIT = "\nsys.stdin.readline()\n"


def act(code: str, tools: Path) -> int:
    """Run a program to its end: the number of the process that acted. `tools` has programs by any name."""
    words = [sys.executable, "-Ic", BEGINNING + code + _END, str(tools)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (code, done.stderr)
    return int(done.stdout)


class Elder:
    """A process that has been called `name` for a while when it acts."""

    def __init__(self, name: str, code: str, tools: Path) -> None:
        text = f"{BEGINNING}\nbecome({name!r})\n{_WAIT}{code}{_END}"
        self._process = subprocess.Popen(
            [sys.executable, "-Ic", text, str(tools)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._began = time.monotonic()

    def act(self, after_s: float) -> int:
        """Have it act once it is so old: the number of the process that acted."""
        until(lambda: time.monotonic() - self._began > after_s, lambda: "", 2 * after_s)
        said, _ = self._process.communicate("\n", timeout=60)
        assert self._process.returncode == 0
        return int(said)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
