"""Probes that a rule names, with no tracer written for them."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bpfd.errors import UnknownTracerError
from bpfd.kernel import formats, probes
from bpfd.kernel.program import Build
from bpfd.plugin import BPFTracer, Flags, Named
from bpfd.plugins import check_fields, is_taken, load_plugins
from bpfd.rules.model import All
from bpfd.tracers import syscall, syscall_numbers, tracepoint
from bpfd.tracers.syscall_names import ALIASES, SHOW
from tests.daemon.running import RunningDaemon
from tests.tracers.network import CUT, SHORT, events_of, run
from tests.tracers.tracing import by, python, tracing

CATALOGUE = load_plugins().catalogue


def test_every_trace_event_and_system_call_of_this_kernel_has_fields_that_a_tracer_may_have() -> None:
    names = [*tracepoint.Tracepoints.names(), *syscall.Syscalls.names()]
    assert len(names) > 1000
    wrong = {name: problems for name in names if (problems := check_fields(CATALOGUE[name].fields))}
    assert not wrong
    assert not [name for name in names if any(is_taken(field.name) for field in CATALOGUE[name].fields)]


def test_the_kernels_format_files_are_read_with_their_arrays_and_names() -> None:
    text = (
        "name: x\nID: 1\nformat:\n"
        "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n"
        "\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n"
        "\tfield:__data_loc char[] name;\toffset:24;\tsize:4;\tsigned:0;\n"
        "\tfield:__rel_loc u64[] list;\toffset:28;\tsize:4;\tsigned:0;\n"
        "\tfield:const char * where;\toffset:32;\tsize:8;\tsigned:0;\n"
        "\tfield:u32 numbers[3];\toffset:40;\tsize:12;\tsigned:0;\n"
        "\tfield:int state;\toffset:52;\tsize:4;\tsigned:1;\n\n"
        'print fmt: "%s", __print_symbolic(REC->state, { (1 << 3), "EIGHT" }, { 0x10UL, "SIXTEEN" }, { -1, "NONE" })\n'
    )
    found = {field.name: field for field in formats.parse(text)}
    assert {name: field.shape for name, field in found.items()} == {
        "comm": "text",
        "name": "dynamic",
        "list": "dynamic",
        "where": "pointer",
        "numbers": "array",
        "state": "number",
    }
    assert (found["list"].element, found["list"].relative, found["numbers"].element) == (8, True, 4)
    assert found["state"].names == {8: "EIGHT", 16: "SIXTEEN", -1: "NONE"}


@pytest.mark.parametrize("text", ["__import__('os')", "1 if 1 else 2", "x", "(", "1 << 2 << 99999999", "2 ** 99", ""])
def test_a_constant_that_is_no_plain_number_is_not_guessed(text: str) -> None:
    value = formats.constant(text)
    assert value is None or 0 <= value < 1 << 128


def test_flags_and_names_are_shown_with_what_has_no_name() -> None:
    flags = Flags({"BOTH": 3, "ONE": 1, "FOUR": 4}, none="NONE")
    assert [flags(number) for number in (0, 1, 3, 7, 24)] == ["NONE", "ONE", "BOTH", "BOTH|FOUR", "0x18"]
    assert [Named({2: "AF_INET"})(number) for number in (2, 3)] == ["AF_INET", "3"]


@pytest.mark.parametrize(
    "name",
    [
        "tracepoint:sched",
        "tracepoint:../../etc:passwd",
        "tracepoint:ftrace:function",
        "syscall:",
        "syscall:OPEN",
        "syscall:a/b",
        "nothing:like:this",
    ],
)
def test_names_that_are_no_probes_are_no_tracers(name: str) -> None:
    assert name not in CATALOGUE
    assert CATALOGUE.problem(name).startswith(f'there is no tracer "{name}"; ')


def test_the_names_of_the_man_pages_are_understood() -> None:
    tracer = CATALOGUE["syscall:umount2"]
    assert issubclass(tracer, BPFTracer)
    assert tracer.probes == ("tracepoint:syscalls:sys_exit_umount",)


def test_where_tracefs_cannot_be_read_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused() -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(probes, "tracefs", refused)
    with pytest.raises(UnknownTracerError, match="Permission denied; do it as root"):
        tracepoint.Tracepoints.find("tracepoint:sched:sched_never_seen")
    assert tracepoint.available() == []


def test_a_rule_may_name_a_trace_event(daemon: RunningDaemon) -> None:
    daemon.write_rule(
        "ends",
        'tracer = "tracepoint:sched:sched_process_exit"\n[filterEvents.comm]\nis = ["bpfd-brief"]\n'
        '[filterEvents.group_dead]\nvalues = ["true"]\n',
    )
    daemon.start()
    subprocess.run(["sh", "-c", "printf bpfd-brief > /proc/$$/comm"], check=True)
    (event,) = daemon.wait_for(lambda event: event["data"].get("comm") == "bpfd-brief")
    assert (event["tracer"], event["command"]) == ("tracepoint:sched:sched_process_exit", "bpfd-brief")
    assert event["data"]["arg_pid"] == str(event["tid"])


def test_a_rule_may_name_a_system_call_and_the_kernel_filters_by_its_arguments(daemon: RunningDaemon) -> None:
    daemon.start()
    daemon.create(
        "far",
        'tracer = "syscall:connect"\n'
        "condition = 'port = 4711 and returnValue < 0 and uservaddr startswith \"[::1]\"'\n",
    )
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        for port in (4711, 4712):
            with socket.socket(family, socket.SOCK_STREAM) as client:
                assert client.connect_ex((address, port)) != 0
    (event,) = daemon.wait_for(lambda event: event["rule"] == "far")
    assert event["data"] | {"fd": ""} == {
        "fd": "",
        "uservaddr": "[::1]:4711",
        "address": "::1",
        "port": "4711",
        "addrlen": "28",
    }
    assert event["pid"] == os.getpid()
    # The kernel looked at the port, and left only the text of the address to Python.
    assert daemon.tracer("syscall:connect")["received"] == 2


def test_a_connection_without_an_internet_address_has_none(build: Build) -> None:
    tracer = syscall.Syscalls.find("syscall:connect")
    assert tracer is not None
    with tracing(tracer, build) as bench:
        bench.judge_by([All()])
        pid = python("import socket; socket.socket(socket.AF_UNIX).connect_ex('/no-such-socket')")
        event = bench.wait_for(by(pid))
    assert event.data.keys() == {"fd", "uservaddr", "addrlen"}
    assert event.data["uservaddr"] == "/no-such-socket"


@pytest.mark.parametrize("family", SHORT)
def test_an_address_that_is_cut_is_told_as_its_bytes_and_not_as_an_address(build: Build, family: str) -> None:
    tracer = syscall.Syscalls.find("syscall:connect")
    assert tracer is not None
    enough = {"V4": 16, "V6": 24}[family]
    lengths = (*SHORT[family], enough)
    code = CUT + f'for length in {lengths}: cut("connect", socket.socket({family}, UDP), {family}, 4711, length)\n'
    with tracing(tracer, build) as bench:
        bench.judge_by([All()])
        ran = run(code)
        *cut, whole = (event.data for event in events_of(bench, ran.pid))
    number = {"V4": "0200", "V6": "0a00"}[family]
    bytes_of = {"V4": f"{number}12677f0000010000", "V6": f"{number}126700000000" + "00" * 15}[family]
    assert [(data["addrlen"], data["uservaddr"]) for data in cut] == [
        (str(length), bytes_of[: 2 * length].ljust(2 * length, "0")) for length in SHORT[family]
    ]
    assert not [data for data in cut if "address" in data or "port" in data]
    address = {"V4": "127.0.0.1", "V6": "::1"}[family]
    text = {"V4": "127.0.0.1:4711", "V6": "[::1]:4711"}[family]
    assert (whole["uservaddr"], whole["address"], whole["port"]) == (text, address, "4711")


def test_an_address_that_a_call_did_not_write_is_not_told(build: Build) -> None:
    code = """
import ctypes, socket
libc = ctypes.CDLL(None)
server = socket.create_server(("127.0.0.1", 0))
server.setblocking(False)
left = ctypes.create_string_buffer(bytes.fromhex("020001bb0a000001") + bytes(20))  # 10.0.0.1:443, of a call before
length = ctypes.c_int(16)
assert libc.accept4(server.fileno(), left, ctypes.byref(length), 0) == -1
client = socket.create_connection(server.getsockname())
assert libc.accept4(server.fileno(), left, ctypes.byref(length), 0) >= 0
"""
    tracer = syscall.Syscalls.find("syscall:accept4")
    assert tracer is not None
    with tracing(tracer, build) as bench:
        bench.judge_by([All()])
        pid = python(code)
        failed, done = (event for event, _ in bench.events() if event.pid == pid)
    assert (failed.return_value, failed.data["upeer_sockaddr"]) == (-errno.EAGAIN, "")
    assert not failed.data.keys() & {"address", "port"}
    assert done.data["upeer_sockaddr"] == f"127.0.0.1:{done.data['port']}"


def test_what_was_written_from_a_buffer_that_ends_too_soon_is_told_and_what_cannot_be_read_is_a_question_mark(
    build: Build, tmp_path: Path
) -> None:
    code = f"""
import ctypes, os
libc = ctypes.CDLL(None)
libc.mmap.restype, libc.munmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t]
page = libc.mmap(None, ctypes.c_size_t(8192), 3, 0x22, -1, ctypes.c_size_t(0))
libc.munmap(page + 4096, 4096)
ctypes.memmove(page + 4090, b"secret", 6)
fd = os.open({str(tmp_path / "written")!r}, os.O_CREAT | os.O_WRONLY)
write = lambda at, count: libc.write(fd, ctypes.c_void_p(at), ctypes.c_size_t(count))
assert (write(page + 4090, 100), write(16, 101), write(None, 102)) == (6, -1, -1)
"""
    tracer = syscall.Syscalls.find("syscall:write")
    assert tracer is not None
    with tracing(tracer, build) as bench:
        bench.judge_by([All()])
        pid = python(code)
        found = {event.data["count"]: event.data["buf"] for event, _ in bench.events() if event.pid == pid}
    assert found == {"100": "secret", "101": "?", "102": ""}


def test_calls_have_the_numbers_of_this_machines_headers_and_all_of_this_kernels_have_one() -> None:
    known = syscall_numbers.call_names()
    place = Path("/usr/include/x86_64-linux-gnu/asm")
    for header, first in (("unistd_64.h", 0), ("unistd_32.h", syscall_numbers.COMPAT)):
        listed = re.findall(r"^#define __NR_(\w+)\s+(\d+)", (place / header).read_text(), re.MULTILINE)
        assert len(listed) > 300
        assert not [name for name, number in listed if known[int(number) + first] != name]
    native = {name for number, name in known.items() if number < syscall_numbers.COMPAT}
    kernels = {name.removeprefix("syscall:") for name in syscall.Syscalls.names()} - {"*"}
    of_man_pages = {kernel: name for name, kernel in ALIASES.items()}
    assert not {name for name in kernels if not {name, of_man_pages.get(name)} & native}


def test_commands_of_fcntl_are_not_taken_for_its_flags() -> None:
    show = SHOW["fcntl", "cmd"]
    assert [show(number) for number in (2, 4, 8)] == ["F_SETFD", "F_SETFL", "F_SETOWN"]
    no_commands = ("F_RDLCK", "F_WRLCK", "F_UNLCK", "F_EXLCK", "F_SHLCK", "F_GETLK64", "F_SETLK64", "F_SETLKW64")
    commands = [name for name in dir(fcntl) if name.startswith("F_") and not name.startswith("F_SEAL_")]
    assert len(commands) > 20
    assert not [name for name in commands if name not in no_commands and show(getattr(fcntl, name)) != name]


def test_all_system_calls_are_one_tracer(daemon: RunningDaemon) -> None:
    daemon.start()
    daemon.create("denied", 'tracer = "syscall:*"\ncondition = "returnValue = -13 and command = \'bpfd-denied\'"\n')
    code = (
        "import os\nopen('/proc/self/comm', 'w').write('bpfd-denied')\nos.setuid(65534)\n"
        "for call in (lambda: os.open('/etc/shadow', 0), lambda: os.chdir('/root'), lambda: os.stat('/')):\n"
        "    try: call()\n    except PermissionError: pass\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
    events = daemon.wait_for(lambda event: event["rule"] == "denied", count=2)
    assert [event["data"]["syscall"] for event in events] == ["openat", "chdir"]
    daemon.create("none", 'tracer = "syscall:*"\ncondition = "returnValue = -38 and arg0 = 0x4711"\n')
    python("import ctypes; ctypes.CDLL(None).syscall(-1, 0x4711)")
    (event,) = daemon.wait_for(lambda event: event["rule"] == "none")
    assert event["data"]["syscall"] == "-1"


def test_a_name_that_is_nearly_right_is_hinted_at(daemon: RunningDaemon) -> None:
    daemon.start()
    (daemon.place / "bad.toml").write_text('tracer = "syscall:conect"\n')
    said = daemon.bpfd("create", str(daemon.place / "bad.toml"), code=1)
    assert 'there is no tracer "syscall:conect"; did you mean "syscall:connect"?' in said
    (daemon.place / "bad.toml").write_text('tracer = "tracepoint:sched:sched_proces_exit"\n')
    said = daemon.bpfd("create", str(daemon.place / "bad.toml"), code=1)
    assert 'did you mean "tracepoint:sched:sched_process_exit"?' in said
    (daemon.place / "bad.toml").write_text('tracer = "syscall:connect"\n[filterEvents.prt]\nvalues = ["1"]\n')
    assert 'did you mean "port"?' in daemon.bpfd("create", str(daemon.place / "bad.toml"), code=1)
