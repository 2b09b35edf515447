"""The connection of a command to the daemon."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bpfd.errors import ApiError, UsageError

if TYPE_CHECKING:
    from bpfd.api.address import Address
    from bpfd.api.client import Client


def connect(args: argparse.Namespace) -> Client:
    """A client of the daemon at --grpc-addr. The caller closes it. Raises ApiError if nobody answers.

    gRPC is loaded only once somebody answers: it takes longer than all else that a command does.
    """
    from bpfd.api.address import check_daemon

    address = address_of(args)
    check_daemon(address, timeout_s=3.0)
    from bpfd.api.client import Client

    return Client(address)


def address_of(args: argparse.Namespace) -> Address:
    """The address that was given, or the default. Raises UsageError if it is none."""
    from bpfd.api.address import parse_address
    from bpfd.settings import DEFAULT_ADDRESS

    try:
        return parse_address(DEFAULT_ADDRESS if args.grpc_addr is None else args.grpc_addr)
    except ApiError as error:
        raise UsageError(f"--grpc-addr: {error}") from None
