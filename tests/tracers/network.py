"""Traffic of programs in a network namespace of their own, and what a tracer saw of them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, NamedTuple

from bpfd.event import Event
from tests.kernel.conftest import Bench

BEGINNING = """
import contextlib, errno, json, os, select, socket, struct, subprocess, sys, threading, time
V4, V6, TCP, UDP = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM

def listening(family, address, port=0, backlog=8):
    made = socket.socket(family, TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen(backlog)
    return made, made.getsockname()[1]

def shell(line):
    subprocess.run(line, shell=True, check=True)

def has_route(address):
    "Wait until an IPv6 address that was added is one: a worker of the kernel gives it its route, also without DAD."
    shell(f"until ip -6 route get {address} 2>/dev/null | grep -q ^local; do sleep 0.01; done")

def say(value):
    print(json.dumps(value), flush=True)

def settled(client):
    "Wait until a connection that was begun is made or refused; the error is still to be had."
    assert select.select([], [client], [], 20)[1]

def failing(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return -error.errno
    return 0
"""
"""What every program of `run` begins with."""

CUT = """
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
WHOLE = {
    V4: lambda port: struct.pack("=H", V4) + struct.pack("!H4s8x", port, bytes((127, 0, 0, 1))),
    V6: lambda port: struct.pack("=H", V6) + struct.pack("!HI16sI", port, 0, bytes(15) + bytes((1,)), 0),
}

def cut(call, made, family, port, length, behind=False):
    '''Call bind or connect with so many bytes of an address, and nothing behind it, or the rest; 0 or -errno.'''
    room = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    at = ctypes.addressof(ctypes.c_char.from_buffer(room)) + mmap.PAGESIZE
    whole = WHOLE[family](port)
    ctypes.memmove(at - length, whole, len(whole))
    if not behind:
        libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(mmap.PAGESIZE), 0)
    result = getattr(libc, call)(made.fileno(), ctypes.c_void_p(at - length), length)
    return result if result >= 0 else -ctypes.get_errno()
"""
"""What `run` may have behind it: calls with addresses that are cut."""
SHORT = {"V4": (0, 1, 2, 4, 8, 15), "V6": (0, 1, 2, 4, 8, 15, 16, 23)}
"""Lengths of addresses that the kernel takes for none."""

FAMILIES = (("AF_INET", "127.0.0.1"), ("AF_INET6", "::1"), ("AF_INET6", "::ffff:127.0.0.1"))
"""A socket's family and an address of this machine: the last is IPv4 on a socket of both."""


class Ran(NamedTuple):
    """A program that has ended."""

    pid: int
    said: Any


def run(code: str, *arguments: str, within_s: float = 60.0) -> Ran:
    """Run Python `code` in a new network namespace, where nothing but the loopback device is, and wait for its end."""
    words = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    words += [sys.executable, "-Ic", BEGINNING + code, *arguments]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            said, _ = process.communicate(timeout=within_s)
        finally:
            process.kill()
    assert process.returncode == 0, code
    return Ran(process.pid, json.loads(said) if said else None)


def events_of(bench: Bench, pid: int) -> list[Event]:
    """What was seen of a process that has ended, oldest first: it was in the ring before its calls were back."""
    return sorted((event for event, _ in bench.events() if event.pid == pid), key=lambda event: event.time)


def shown(address: str) -> str:
    """An address as events show it."""
    return address.removeprefix("::ffff:")
