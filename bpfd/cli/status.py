"""`bpfd status`: how the daemon fares, with every count of what was lost."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from bpfd.cli.command import Commands, add_json_flag
from bpfd.cli.daemon_client import connect
from bpfd.cli.output import print_json, print_table
from bpfd.event import printable

if TYPE_CHECKING:
    from bpfd.api import bpfd_pb2


def add(commands: Commands) -> None:
    add_json_flag(commands.add("status", "show how the daemon fares", run))


def run(args: argparse.Namespace) -> int:
    with connect(args) as client:
        status = client.status()
    if args.json:
        print_json(_as_dict(status))
    else:
        _show(status)
    return 0


def _show(status: bpfd_pb2.GetStatusResponse) -> None:
    from datetime import UTC, datetime

    started = datetime.fromtimestamp(status.started // 10**9, UTC)
    print(f"bpfd {printable(status.version)} on {printable(status.host)}, kernel {printable(status.kernel)}")
    print(f"running since {started:%Y-%m-%d %H:%M:%S} UTC\n")
    rows = [(item.name, item.state, str(item.received), str(item.lost)) for item in status.tracers]
    print_table(("TRACER", "STATE", "RECEIVED", "LOST"), rows)
    print()
    print_table(("COUNTER", "COUNT"), [(name, str(status.counters[name])) for name in sorted(status.counters)])
    if status.problems:
        print("\nproblems:")
        for problem in status.problems:
            for line in problem.splitlines():
                print(f"  {printable(line)}")


def _as_dict(status: bpfd_pb2.GetStatusResponse) -> dict[str, Any]:
    return {
        "version": status.version,
        "host": status.host,
        "kernel": status.kernel,
        "started": status.started,
        "tracers": [
            {
                "name": tracer.name,
                "state": tracer.state,
                "problem": tracer.problem,
                "received": tracer.received,
                "lost": tracer.lost,
            }
            for tracer in status.tracers
        ],
        "counters": {name: status.counters[name] for name in sorted(status.counters)},
        "problems": list(status.problems),
    }
