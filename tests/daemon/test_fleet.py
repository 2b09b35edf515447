"""What a fleet sees of a daemon: its figures at Prometheus's page, and its alerts in NATS, once each."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.actions.nats_server import nats_server
from tests.actions.receivers import serving
from tests.daemon.running import RunningDaemon, until

RULE = 'tracer = "open"\nactions = ["{action}"]\nseverity = "critical"\n[filterEvents.filename]\nis = ["{path}"]\n'


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def scrape(port: int) -> dict[tuple[str, str], float]:
    """Each sample by its name and first label's value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (one.name, next(iter(one.labels.values()), "")): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_prometheus_sees_the_matches_of_a_rule_and_what_was_lost(daemon: RunningDaemon, tmp_path: Path) -> None:
    watched, port = tmp_path / "watched", free_port()
    watched.write_text("")
    daemon.write_rule("watched", RULE.format(action="metrics", path=watched))
    daemon.start(config=f'[actions.metrics]\ntype = "prometheus"\nlisten = "127.0.0.1:{port}"\n')
    for _ in range(7):
        watched.read_text()
    seen = until(
        lambda: found if (found := scrape(port)).get(("bpfd_matches_total", "watched")) == 7 else {},
        lambda: (scrape(port), daemon.log),
    )
    assert seen["bpfd_counter_total", "tracer.open.lost"] == 0
    assert seen["bpfd_counter_total", "action.metrics.done"] == 7


def test_nats_has_every_alert_once_though_it_was_away_and_the_daemon_was_killed(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    watched = tmp_path / "watched"
    watched.write_text("")
    daemon.write_rule("watched", RULE.format(action="fleet", path=watched))
    with nats_server(tmp_path / "nats") as server:
        server.add_stream("bpfd.>")
    config = f"""
[actions.fleet]
type = "nats"
servers = ["nats://{server.address}"]
subject = "bpfd.{{severity}}.{{rule}}"
retry_first = 0.1
retry_longest = 1
timeout = 2
"""
    daemon.start(config=config)
    for _ in range(20):
        watched.read_text()
    until(lambda: daemon.json("status")["counters"].get("action.fleet.retried", 0) > 0, lambda: daemon.log)
    daemon.kill()
    with nats_server(tmp_path / "nats", port=server.port) as server:
        daemon.start(config=config)
        for _ in range(20):
            watched.read_text()
        kept = until(
            lambda: found if len(found := server.kept()) >= 40 else [], lambda: (len(server.kept()), daemon.log), 60
        )
    assert {subject for subject, _, _ in kept} == {"bpfd.critical.watched"}
    ids = [headers["Nats-Msg-Id"] for _, headers, _ in kept]
    assert len(set(ids)) == len(ids) == 40
    assert {json.loads(body)["alert"]["severity"] for _, _, body in kept} == {"critical"}


HANGING = {
    "nats": 'type = "nats"\nservers = ["nats://{address}"]\ntimeout = "60s"\n',
    "kafka": 'type = "kafka"\nbrokers = ["{address}"]\ntls = "none"\ntimeout = "60s"\n',
    "notify": 'type = "notify"\nurl_file = "{place}/url"\ntimeout = "60s"\n',
    "email": 'type = "email"\nhost = "{host}"\nport = {port}\nfrom = "a@b.c"\nto = ["a@b.c"]\ntls = "none"\n',
}


@pytest.mark.parametrize("kind", list(HANGING))
def test_a_receiver_that_hangs_keeps_the_daemon_from_no_event_and_not_from_its_end(
    daemon: RunningDaemon, tmp_path: Path, kind: str
) -> None:
    watched = tmp_path / "watched"
    watched.write_text("")
    heard = threading.Event()

    def hang(client: socket.socket) -> None:
        heard.set()
        while client.recv(4096):
            pass

    with serving(hang) as port:
        address = f"127.0.0.1:{port}"
        (tmp_path / "url").write_text(f"json://{address}")
        table = HANGING[kind].format(address=address, host="127.0.0.1", port=port, place=tmp_path)
        daemon.write_rule("watched", RULE.format(action="fleet", path=watched))
        daemon.start(config=f"[actions.fleet]\n{table}")
        trace = daemon.trace()
        watched.read_text()
        assert heard.wait(30), daemon.log
        watched.read_text()
        trace.wait_for(lambda event: event["rule"] == "watched", 2)
        tasks = Path(f"/proc/{daemon.pid}/task").iterdir()
        children = [pid for task in tasks for pid in (task / "children").read_text().split()]
        assert bool(children) == (kind == "notify")
        log = daemon.stop()
    assert "Traceback" not in log
    assert "still sending" in log
    until(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()], lambda: children)
