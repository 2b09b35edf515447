"""A client made from the seed's proto works unchanged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import tomli

from bpfd.api.address import parse_address
from bpfd.api.server import Server
from tests.api.fake_control import EVENT, FakeControl

HERE = Path(__file__).parent


def test_a_client_made_from_the_seeds_proto_creates_lists_follows_and_removes(
    server: Server, control: FakeControl, tmp_path: Path
) -> None:
    outputs = [f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE}", *outputs, "seed.proto"], check=True)
    client = subprocess.Popen(
        [sys.executable, str(HERE / "seed_client.py"), parse_address(server.address).target],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        control.wait_for_clients(1)
        (rule,) = control.rules.values()
        control.publish(EVENT._replace(command="c\udcff", return_value=-(2**40) - 2))
        output, _ = client.communicate(timeout=30)
    finally:
        client.kill()
        client.wait()
    assert tomli.loads(rule.text) == {
        "name": "sh",
        "tracer": "open",
        "actions": ["stdout"],
        "containerRuntimes": ["docker"],
        "filterEvents": {"filename": {"values": ["/etc/shadow", 'a"b\n\x7f']}},
    }
    assert json.loads(output) == {
        "same": True,
        "event": {
            "PID": 41,
            "TGID": 41,
            "UID": 1000,
            "GID": 1001,
            "command": "c\\xff",
            "returnValue": -2,
            "containerID": "c0ffee",
            "containerRuntime": "docker",
            "tracer": "open",
            "data": {"filename": "/etc/shadow"},
        },
        "codes": ["NOT_FOUND", "INVALID_ARGUMENT", "INVALID_ARGUMENT"],
    }
    assert control.rules == {}
