"""Which bpfd this is."""

from importlib.metadata import version

VERSION = version("bpfd")
