"""`bpfd version`."""

from __future__ import annotations

import argparse

from bpfd.cli.command import Commands


def add(commands: Commands) -> None:
    commands.add("version", "show the version", run)


def run(args: argparse.Namespace) -> int:
    from importlib.metadata import version

    print(f"bpfd {version('bpfd')}")
    return 0
