"""`bpfd daemon`: how it starts, listens to signals, and ends."""

from __future__ import annotations

import io
import logging
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bpfd.cli.logs import OneLine
from tests.cli.program import Bpfd, wait_until_ready, write

FAKE = (sys.executable, str(Path(__file__).with_name("fake_daemon.py")), "daemon")


def start(bpfd: Bpfd, socket_dir: Path, *args: str, **options: object) -> subprocess.Popen[str]:
    bpfd.address = f"unix://{socket_dir}/s"
    return bpfd.start("--grpc-addr", bpfd.address, *args, program=FAKE, **options)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_cleanly(bpfd: Bpfd, socket_dir: Path, number: int) -> None:
    process = start(bpfd, socket_dir)
    lines = wait_until_ready(process, "ready")
    assert f"bpfd: ready: tracers open; 0 rules; gRPC at {bpfd.address}\n" in lines
    assert bpfd("status").startswith("bpfd 0.1.0")
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "stopping\n")
    assert not (socket_dir / "s").exists()


def test_a_second_signal_ends_it_at_once(bpfd: Bpfd, socket_dir: Path) -> None:
    process = start(bpfd, socket_dir, "--rules-dir", "/slow")
    wait_until_ready(process, "ready")
    process.send_signal(signal.SIGINT)
    wait_until_ready(process, "stopping")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (128 + signal.SIGTERM, "")


def test_sighup_reads_the_rules_again_and_a_failure_ends_nothing(bpfd: Bpfd, socket_dir: Path) -> None:
    process = start(bpfd, socket_dir)
    wait_until_ready(process, "ready")
    process.send_signal(signal.SIGHUP)
    lines = wait_until_ready(process, "worse")
    assert "ERROR bpfd.cli.daemon: /r/a\\x1b.toml:1: bad\n" in lines
    assert bpfd("status").startswith("bpfd 0.1.0")


def test_systemd_is_told(bpfd: Bpfd, socket_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(f"{socket_dir}/notify")
        notify.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{socket_dir}/notify")
        process = start(bpfd, socket_dir)
        assert notify.recv(100) == b"READY=1"
        assert bpfd("status").startswith("bpfd 0.1.0")
        process.terminate()
        assert notify.recv(100) == b"STOPPING=1"
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_daemon_that_cannot_start_says_why_a_line_each(bpfd: Bpfd, socket_dir: Path) -> None:
    process = start(bpfd, socket_dir, "--rules-dir", "/fails")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors.splitlines()[1:] == ["open: no tracefs", "exec: no tracefs"]


def test_an_address_in_use_is_one_line(bpfd: Bpfd, socket_dir: Path) -> None:
    wait_until_ready(start(bpfd, socket_dir), "ready")
    second = start(bpfd, socket_dir)
    _, errors = second.communicate(timeout=20)
    assert second.returncode == 1
    assert errors.splitlines()[1:] == [
        f"{socket_dir}/s: address in use: another bpfd daemon listens there; stop it, or choose another --grpc-addr"
    ]


def test_flags_win_over_the_configuration(bpfd: Bpfd, socket_dir: Path, tmp_path: Path) -> None:
    config = write(tmp_path / "c.toml", 'rules_dir = "/from/file"\ntrace_queue = 7\ngrpc_addr = "127.0.0.1:1"\n')
    process = start(bpfd, socket_dir, "--config", config, "--strict", cwd=str(tmp_path))
    assert "strict=True rules=/from/file queue=7" in wait_until_ready(process, "ready")
    process.terminate()
    process.communicate(timeout=20)
    process = start(bpfd, socket_dir, "--config", config, "-rules-dir", "mine", cwd=str(tmp_path))
    assert f"strict=False rules={tmp_path}/mine queue=7" in wait_until_ready(process, "ready")


def test_a_wrong_configuration_is_told_with_all_its_problems(bpfd: Bpfd, tmp_path: Path) -> None:
    config = write(tmp_path / "c.toml", "rules_dri = 1\ntrace_queue = 0\n")
    result = bpfd.run("daemon", "--config", config)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"{config}: unknown key 'rules_dri'; did you mean 'rules_dir'?",
        f"{config}: trace_queue: must be a whole number from 1 to 10000000",
    ]


def test_the_log_is_a_line_a_record_whatever_it_says() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning("file %s", "a\nb\x1b[2J\udcff")
    try:
        raise ValueError("c\x1b[2J")
    except ValueError:
        logger.exception("failed")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith(" WARNING test: file a\\nb\\x1b[2J\\xff")
    assert lines[1].endswith(" ERROR test: failed")
    assert all(line.startswith("  ") for line in lines[2:])
    assert lines[-1] == "  ValueError: c\\x1b[2J"


def test_systemd_that_does_not_listen_is_no_reason_to_stop(
    bpfd: Bpfd, socket_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"{socket_dir}/nobody")
    process = start(bpfd, socket_dir)
    began = time.monotonic()
    assert "cannot tell systemd" in wait_until_ready(process, "cannot tell systemd")
    assert bpfd("status").startswith("bpfd 0.1.0")
    assert time.monotonic() - began < 20
