"""`bpfd version`."""

from __future__ import annotations

import argparse

from bpfd.cli.command import Commands


def add(commands: Commands) -> None:
    commands.add("version", "show the version", run)


def run(args: argparse.Namespace) -> int:
    from bpfd.version import VERSION

    print(f"bpfd {VERSION}")
    return 0
