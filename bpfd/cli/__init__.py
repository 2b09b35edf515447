"""The program `bpfd`: one module a command."""

from bpfd.cli.program import run

__all__ = ["run"]
