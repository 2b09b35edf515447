"""Every alert arrives, and next to none twice, however often the daemon is killed and whatever the receiver does."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from bpfd.api.address import parse_address
from bpfd.api.client import connect
from tests.actions.receivers import Reply, Request, answer, http_receiver
from tests.daemon.running import RunningDaemon, until

TOTAL = 10_000
KILLS = 5
CHUNK = 200
RULE = 'tracer = "open"\nactions = ["hook"]\n[filterEvents.filename]\nprefix = "{place}/n"\n'
CONFIG = """
[actions.hook]
type = "webhook"
url = "{url}"
retry_first = 0.05
retry_longest = 0.5
retries = 1000
"""


def stored(daemon: RunningDaemon) -> int:
    """How many alerts this run of the daemon has put into its outbox."""
    with connect(parse_address(daemon.address)) as client:
        return client.status().counters["action.hook.stored"]


def make_alerts(daemon: RunningDaemon, place: Path, first: int, until_number: int) -> None:
    """Open a file of its own for each alert, and return when all are in the outbox."""
    for number in range(first, until_number):
        os.close(os.open(place / f"n{number}", os.O_CREAT | os.O_WRONLY, 0o600))
        if (number - first) % CHUNK == CHUNK - 1 or number == until_number - 1:
            wanted = number + 1 - first
            until(lambda wanted=wanted: stored(daemon) >= wanted, lambda: daemon.log, 60)  # type: ignore[misc]


@pytest.mark.serial
def test_ten_thousand_alerts_arrive_over_five_kills_and_a_receiver_that_fails_at_random(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    chance = random.Random(1)
    place = tmp_path / "watched"
    place.mkdir()
    accepted: Counter[tuple[str, str]] = Counter()
    bad: list[Reply] = [answer("500 No"), answer("503 No", b"", "Retry-After: 0\r\n"), b"", b"garbage\r\n"]
    with http_receiver() as receiver:

        def choose(request: Request) -> Reply:
            if chance.random() < 0.1:
                return chance.choice(bad)
            accepted[request.headers["webhook-id"], json.loads(request.body)["data"]["filename"]] += 1
            return answer("200 OK")

        receiver.choose = choose
        daemon.write_rule("watched", RULE.format(place=place))
        config = CONFIG.format(url=receiver.url)
        daemon.start(config=config)
        undelivered = 0
        portion = TOTAL // (KILLS + 1)
        for kill in range(KILLS):
            make_alerts(daemon, place, kill * portion, (kill + 1) * portion)
            daemon.kill()
            undelivered += (kill + 1) * portion - len(accepted)
            daemon.start(config=config)
        make_alerts(daemon, place, KILLS * portion, TOTAL)
        until(lambda: len(accepted) >= TOTAL, lambda: f"{len(accepted)} arrived: {daemon.log[-2000:]}", 300)
        daemon.stop()
    assert undelivered > 0, "it was never killed while alerts waited"
    assert len(accepted) == TOTAL
    assert {name for _, name in accepted} == {f"{place}/n{number}" for number in range(TOTAL)}
    assert sum(accepted.values()) - TOTAL < TOTAL // 100
