"""A client made from the seed's proto, which follows."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.daemon.running import Lines, RunningDaemon


def follow_as_the_seed(daemon: RunningDaemon, seed_client: dict[str, str]) -> Lines:
    """Its events, until the test ends. `seed_client` is the fixture."""
    client = str(Path(__file__).with_name("seed_follower.py"))
    return daemon.follow([sys.executable, client, f"unix:{daemon.socket}"], seed_client)
