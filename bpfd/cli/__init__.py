"""The program `bpfd`: one module a command."""

from bpfd.cli.main import run

__all__ = ["run"]
