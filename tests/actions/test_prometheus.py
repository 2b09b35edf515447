"""prometheus counts matches for Prometheus."""

from __future__ import annotations

import http.client
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bpfd.actions import endpoint, prometheus
from bpfd.actions.endpoint import Endpoint
from bpfd.actions.prometheus import Prometheus
from bpfd.alert import Alert
from bpfd.counters import Counters
from bpfd.errors import ActionError, SettingsError
from bpfd.event import Event
from bpfd.respond import Actions
from bpfd.telling import Telling

Make = Callable[..., Prometheus]
Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes the action, with its endpoint at a free port unless it is told otherwise, and begins it."""
    made: list[Prometheus] = []

    def _make(counters: Callable[[], dict[str, int]] = dict, **settings: object) -> Prometheus:
        made.append(Prometheus(settings or {"listen": "127.0.0.1:0"}))
        made[-1].begin(counters)
        return made[-1]

    yield _make
    for action in made:
        action.close()


def get(port: int, path: str = "/metrics") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Accept": "application/openmetrics-text;version=x"})
    answer = connection.getresponse()
    answer.text = answer.read().decode()  # type: ignore[attr-defined]
    connection.close()
    return answer


def samples(text: str) -> Samples:
    """Each sample by its name and labels' values, as Prometheus's own parser reads them."""
    return {
        (one.name, tuple(one.labels.values())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def scrape(action: Prometheus) -> Samples:
    answer = get(action.port)
    assert answer.status == 200
    return samples(answer.text)  # type: ignore[attr-defined]


def test_the_matches_of_each_rule_are_counted_and_scraped(make: Make, alert: Alert) -> None:
    action = make()
    action.act(alert.event)
    action.act_on_batch([alert.event, alert.event._replace(rule="other", tracer="exec")])
    seen = scrape(action)
    assert seen["bpfd_matches_total", ("secrets", "notice", "open")] == 2
    assert seen["bpfd_matches_total", ("other", "notice", "exec")] == 1
    assert seen["process_resident_memory_bytes", ()] > 1e6
    [version] = [labels for name, labels in seen if name == "bpfd_build_info"]
    assert version[0]


def test_the_time_of_the_last_match_is_scraped(make: Make, alert: Alert) -> None:
    action = make()
    later, last = alert.event.time + 5 * 10**9, ("bpfd_last_match_timestamp_seconds", ("secrets", "notice", "open"))
    action.act_on_batch([alert.event, alert.event._replace(time=later)])
    assert scrape(action)[last] == pytest.approx(later / 1e9, abs=1e-3)
    action.act(alert.event)  # one that was overtaken
    assert scrape(action)[last] == pytest.approx(later / 1e9, abs=1e-3)


def test_what_the_daemon_lost_is_scraped_with_the_names_of_status(make: Make) -> None:
    counters = Counters()
    action = make(counters.table)
    counters.add("tracer.open.lost", 7)
    assert scrape(action)["bpfd_counter_total", ("tracer.open.lost",)] == 7
    counters.add("tracer.open.lost")
    assert scrape(action)["bpfd_counter_total", ("tracer.open.lost",)] == 8


def test_nothing_that_a_process_says_becomes_a_label_and_names_are_escaped(make: Make, alert: Alert) -> None:
    action = make()
    action.act(alert.event._replace(rule='a"b\\c\n\udcff'))
    text = get(action.port).text  # type: ignore[attr-defined]
    assert r'bpfd_matches_total{rule="a\"b\\c\n\\xff",severity="notice",tracer="open"} 1.0' in text
    assert "channel" not in text
    assert "nginx" not in text


def test_ten_thousand_rules_make_no_more_than_two_thousand_series(make: Make, alert: Alert) -> None:
    action = make()
    for number in range(10_000):
        action.act(alert.event._replace(rule=f"r{number}"))
    seen = {labels: value for (name, labels), value in scrape(action).items() if name == "bpfd_matches_total"}
    assert len(seen) == prometheus.MOST_SERIES + 1
    assert seen[prometheus.OTHERS] == 10_000 - prometheus.MOST_SERIES
    action.act(alert.event._replace(rule="r0"))
    assert scrape(action)["bpfd_matches_total", ("r0", "notice", "open")] == 2


def test_events_of_a_daemon_are_counted_and_its_table_is_there(alert: Alert) -> None:
    counters = Counters()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    table = {"type": "prometheus", "listen": f"127.0.0.1:{port}"}
    telling = {"secrets": Telling("critical")}
    actions = Actions({"prometheus": Prometheus}, {"metrics": table}, counters, 100, telling=telling.__getitem__)
    try:
        actions.deliver(["metrics"], [alert.event] * 3)
        deadline = time.monotonic() + 20
        while not (seen := samples(get(port).text)).get(("bpfd_matches_total", ("secrets", "critical", "open"))):  # type: ignore[attr-defined]
            assert time.monotonic() < deadline
        assert seen["bpfd_matches_total", ("secrets", "critical", "open")] == 3
        assert ("bpfd_counter_total", ("action.metrics.done",)) in seen
        actions.test("metrics")  # the port is taken by the instance that runs: a sample needs none
    finally:
        actions.stop(2)


def test_an_address_that_is_taken_is_an_error_at_the_start_that_names_the_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SettingsError) as caught:
            Actions({"prometheus": Prometheus}, {"prometheus": {"listen": listen}}, Counters(), 100)
    assert str(caught.value) == f"[actions.prometheus] listen: {listen} cannot be had: Address already in use"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"listen": "9436"}, "listen: must be ADDRESS:PORT"),
        ({"listen": ":9436"}, "listen: must be ADDRESS:PORT"),
        ({"listen": "localhost:x"}, "listen: must be ADDRESS:PORT"),
        ({"listen": "http://localhost:1"}, "listen: must be ADDRESS:PORT"),
        ({"listen": "u@localhost:1"}, "listen: must be ADDRESS:PORT"),
        ({"listen": "localhost:1/x"}, "listen: must be ADDRESS:PORT"),
        ({"listen": "localhost:99999"}, "listen: must be ADDRESS:PORT"),
        ({"textfile": "bpfd.prom"}, "textfile: must be an absolute path that ends in .prom"),
        ({"textfile": "/bpfd.txt"}, "textfile: must be an absolute path that ends in .prom"),
        ({"every": "x"}, "every: must be a time"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ActionError) as caught:
        Prometheus(settings)
    assert str(caught.value).startswith(text)


def test_node_exporters_file_is_whole_at_every_moment(make: Make, alert: Alert, tmp_path: Path) -> None:
    path = tmp_path / "bpfd.prom"
    (tmp_path / f".bpfd.prom.{os.getpid()}").symlink_to(tmp_path / "elsewhere")
    action = make(textfile=str(path), every=1)
    assert action.port == 0
    first = path.open()  # while it is open no other file gets its number
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    action.act(alert.event)
    deadline = time.monotonic() + 10
    while samples(path.read_text()).get(("bpfd_matches_total", ("secrets", "notice", "open"))) != 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with first:
        assert path.stat().st_ino != os.fstat(first.fileno()).st_ino
    action.act(alert.event)
    action.close()
    assert samples(path.read_text())["bpfd_matches_total", ("secrets", "notice", "open")] == 2
    assert [one.name for one in tmp_path.iterdir()] == ["bpfd.prom"]


def test_the_file_goes_on_being_written_after_the_figures_could_not_be_read(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan: list[Exception] = []

    def counters() -> dict[str, int]:
        if plan:
            raise plan.pop()
        return {"events": 7}

    path = tmp_path / "bpfd.prom"
    make(counters, textfile=str(path), every=1)
    plan.append(ValueError("odd"))
    deadline = time.monotonic() + 10
    while plan:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    path.unlink()
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert caplog.messages == ["action prometheus: ValueError: odd"]


def test_a_file_that_cannot_be_written_is_an_error_at_the_start(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ActionError, match="textfile: cannot be written: No such file or directory"):
        make(textfile=str(tmp_path / "no" / "bpfd.prom"))


def test_only_the_page_is_served(make: Make) -> None:
    action = make()
    assert get(action.port, "/").status == 200
    assert get(action.port, "/metrics?x=1").status == 200
    assert get(action.port, "/etc/passwd").status == 404


def test_a_page_that_cannot_be_made_is_an_error_for_that_client_alone(make: Make, alert: Alert) -> None:
    def broken() -> dict[str, int]:
        raise RuntimeError("gone")

    action = make(broken)
    assert get(action.port).status == 500
    assert get(action.port).status == 500


def test_clients_that_hang_or_talk_nonsense_keep_nobody_else_from_scraping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_TIMEOUT_S", 0.3)
    served = Endpoint("127.0.0.1", 0, lambda: b"page")
    hanging = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(30)]
    try:
        hanging[0].sendall(b"\0\xff" * 50_000)
        deadline = time.monotonic() + 10
        while True:  # turned away at first, served once the others were cut off
            try:
                if get(served.port).text == "page":  # type: ignore[attr-defined]
                    break
            except (OSError, http.client.HTTPException):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert sum(thread.name == "metrics-client" for thread in threading.enumerate()) <= 8
    finally:
        for one in hanging:
            one.close()
        served.close()


def test_a_client_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_TIMEOUT_S", 0.3)
    served = Endpoint("127.0.0.1", 0, lambda: b"page")
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        try:
            while time.monotonic() - began < 10:
                client.sendall(b"x")
                time.sleep(0.02)
        except OSError:
            pass  # cut off
    served.close()
    assert time.monotonic() - began < 8


def test_it_ends_while_clients_are_connected(make: Make) -> None:
    action = make()
    with socket.create_connection(("127.0.0.1", action.port)) as client:
        client.sendall(b"GET")
        client.settimeout(5)
        action.close()
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass  # it had not read what we sent


def test_it_begins_and_ends_fifty_times_and_leaves_nothing(alert: Alert) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        action = Prometheus({"listen": "127.0.0.1:0"})
        action.begin(dict)
        action.act(Event(0, "t", 1, 1, 1, 0, 0, "c", 0))
        action.close()
    assert len(os.listdir("/proc/self/fd")) <= before
