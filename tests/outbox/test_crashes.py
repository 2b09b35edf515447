"""Nothing is lost and next to nothing repeated, whatever the receiver does and however often the daemon is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.actions.receivers import Reply, Request, answer, http_receiver

TOTAL = 10_000
BATCH = 50
KILLS = 5


class Feeder:
    """Runs the sender and feeds it, from the first alert that it has not reported as safe."""

    def __init__(self, directory: Path, url: str) -> None:
        self._arguments = [sys.executable, "-m", "tests.outbox.crashing_sender", str(directory), url]
        self.safe = 0

    def run(self, until: int, kill: bool) -> None:
        """Feed up to alert `until`; then kill the sender in the middle of its work, or let it finish."""
        root = Path(__file__).parents[2]
        with subprocess.Popen(self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as sender:
            try:
                assert sender.stdin is not None
                assert sender.stdout is not None
                first = self.safe
                feeding = threading.Thread(target=self._feed, args=(sender.stdin, first, until))
                feeding.start()
                while self.safe < until:
                    said = sender.stdout.readline()
                    assert said, "the sender ended by itself"
                    self.safe = int(said) + 1
                if kill:
                    sender.kill()
                feeding.join()
                assert sender.wait(120) == (-signal.SIGKILL if kill else 0)
            finally:
                sender.kill()

    @staticmethod
    def _feed(stream: object, first: int, until: int) -> None:
        for number in range(first, until):
            stream.write(b"%d\n" % number)  # type: ignore[attr-defined]
        stream.close()  # type: ignore[attr-defined]


@pytest.mark.serial
def test_every_alert_arrives_over_five_kills_and_a_receiver_that_fails_at_random(tmp_path: Path) -> None:
    chance = random.Random(1)
    with http_receiver() as receiver:
        accepted: Counter[str] = Counter()
        ok = answer("200 OK", b"ok")
        bad: list[Reply] = [answer("500 No"), answer("503 No", b"", "Retry-After: 0\r\n"), b"", b"garbage\r\n"]

        def choose(request: Request) -> Reply:
            if chance.random() < 0.1:
                return chance.choice(bad)
            accepted[request.headers["webhook-id"]] += 1
            return ok

        receiver.choose = choose
        feeder = Feeder(tmp_path, receiver.url)
        for kill in range(1, KILLS + 1):
            feeder.run(TOTAL * kill // (KILLS + 1) // BATCH * BATCH, kill=True)
        feeder.run(TOTAL, kill=False)
        repeats = sum(accepted.values()) - len(accepted)
        assert {int(key) for key in accepted} == set(range(TOTAL))
        assert repeats < TOTAL // 100
