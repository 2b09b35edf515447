"""`bpfd mute`, `mutes` and `unmute`: matches that nobody wants to hear of for a while."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from bpfd.cli.command import Commands, add_json_flag
from bpfd.cli.daemon_client import connect
from bpfd.cli.output import print_json, print_table, when
from bpfd.errors import BpfdError, UsageError
from bpfd.event import printable, utf8

if TYPE_CHECKING:
    from bpfd.api import bpfd_pb2


def add(commands: Commands) -> None:
    mute = commands.add("mute", "keep matches of a rule from the actions for a while", run)
    mute.add_argument("rule", metavar="RULE", help="the rule's name, as bpfd ls prints it")
    mute.add_argument("where", metavar="FIELD=VALUE", nargs="*", help="only matches whose fields have these values")
    mute.add_argument("--for", metavar="TIME", dest="length", required=True, help="how long, such as 7d or 2h30m")
    mute.add_argument("--why", metavar="TEXT", required=True, help="the reason, for those who wonder later")
    add_json_flag(commands.add("mutes", "list the mutes, and how many matches each one hid", show))
    unmute = commands.add("unmute", "end mutes", end)
    unmute.add_argument("ids", metavar="ID", nargs="+", help="a mute's id, as bpfd mutes prints it")


def run(args: argparse.Namespace) -> int:
    """Make one mute, and say how to end it."""
    from bpfd.rules import duration

    where: dict[str, str] = {}
    for item in args.where:
        field, equals, value = utf8(item).partition("=")
        if not equals or not field:
            raise UsageError(f"bpfd mute: {printable(item)}: is no FIELD=VALUE; write such as command=cron")
        where[field] = value
    try:
        for_ns = duration.parse(args.length)
    except ValueError as error:
        raise UsageError(f"bpfd mute: --for: {error}") from None
    with connect(args) as client:
        mute = client.create_mute(utf8(args.rule), where, for_ns, utf8(args.why))
    print(f"{mute.id}: {printable(mute.rule)} is muted until {when(mute.until)}; bpfd unmute {mute.id} ends it")
    return 0


def show(args: argparse.Namespace) -> int:
    """List those in force."""
    with connect(args) as client:
        mutes = client.mutes()
    if args.json:
        print_json([_as_dict(mute) for mute in mutes])
        return 0
    rows = [(mute.id, mute.rule, _where(mute), when(mute.until), str(mute.hidden), mute.why) for mute in mutes]
    print_table(("ID", "RULE", "WHERE", "UNTIL", "HIDDEN", "WHY"), rows)
    return 0


def end(args: argparse.Namespace) -> int:
    """End what is there, and fail with every id that is not."""
    problems: list[str] = []
    with connect(args) as client:
        for mute_id in args.ids:
            try:
                client.remove_mute(utf8(mute_id))
            except BpfdError as error:
                problems.append(str(error))
    if problems:
        raise BpfdError("\n".join(problems))
    return 0


def _where(mute: bpfd_pb2.Mute) -> str:
    return " ".join(f"{field}={mute.where[field]}" for field in sorted(mute.where))


def _as_dict(mute: bpfd_pb2.Mute) -> dict[str, Any]:
    shown: dict[str, Any] = {key: getattr(mute, key) for key in ("id", "rule", "made", "until", "why", "hidden")}
    return {**shown, "where": dict(mute.where)}
