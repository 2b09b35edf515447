"""Docker is followed through its comings and goings, and believed no further than it makes sense."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bpfd.containers import docker as module
from bpfd.containers.docker import DockerWatch
from bpfd.containers.lives import Listed
from tests.containers.fake_docker import FakeDocker, Followed, Told, event, eventually, fake_docker

ID = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970"
OTHER = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 0.1)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeDocker]:
    with fake_docker(tmp_path / "d.sock") as made:
        yield made


@contextmanager
def following(address: str, followed: Followed | None = None) -> Iterator[Told]:
    """A watch that must end within a second and leave no thread."""
    told = Told()
    watch = DockerWatch(told, address, followed)
    watch.start()
    try:
        yield told
    finally:
        began = time.monotonic()
        watch.stop()
        assert time.monotonic() - began < 1
        assert "bpfd-docker" not in [thread.name for thread in threading.enumerate()]


def test_running_containers_and_new_ones_are_told(fake: FakeDocker) -> None:
    container = {"Id": ID, "Names": ["/other/alias", "/web"], "Image": "nginx:1", "Labels": {"a": "b"}}
    fake.running = json.dumps([container]).encode()
    fake.events = event(OTHER, name="db", image="postgres", tier="back")
    with following(fake.address) as told:
        eventually(lambda: len(told.calls) == 2)
    assert told.calls == [(ID, "web", "nginx:1", {"a": "b"}), (OTHER, "db", "postgres", {"tier": "back"})]


def test_nothing_falls_between_the_list_and_the_events(fake: FakeDocker) -> None:
    with following(fake.address):
        eventually(lambda: len(fake.asked) == 2)
    assert fake.asked == ["/events", "/containers/json"]


def test_a_machine_without_docker_is_no_error_and_no_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), following(f"unix://{tmp_path}/none.sock") as told:
        began = time.process_time()
        threading.Event().wait(0.5)
        assert time.process_time() - began < 0.1
    assert told.calls == []
    assert caplog.records == []


def test_the_package_is_not_loaded_where_no_docker_is(tmp_path: Path) -> None:
    text = """
import sys, time
from bpfd.containers.docker import DockerWatch
watch = DockerWatch(None, sys.argv[1]); watch.start(); time.sleep(0.2); watch.stop()
assert not {"docker", "requests", "urllib3"} & set(sys.modules), sorted(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", text, f"unix://{tmp_path}/none"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_docker_may_come_later_and_come_again(tmp_path: Path) -> None:
    path = tmp_path / "d.sock"
    with following(f"unix://{path}") as told:
        for container_id in (ID, OTHER):
            with fake_docker(path) as fake:
                fake.running = json.dumps([{"Id": container_id, "Names": ["/n"], "Image": "i", "Labels": {}}]).encode()
                eventually(lambda wanted=container_id: (wanted, "n", "i", {}) in told.calls)  # type: ignore[misc]


def test_a_problem_is_logged_once_and_not_for_every_try(fake: FakeDocker, caplog: pytest.LogCaptureFixture) -> None:
    fake.head = b"HTTP/1.1 500 Oops\r\n"
    with following(fake.address):
        eventually(lambda: len(fake.asked) > 5)
    (record,) = caplog.records
    assert record.getMessage().endswith("/events: answered with status 500; containers stay unnamed until it is back")


def test_tries_become_rarer(fake: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 10.0)
    fake.end_events = True
    with following(fake.address):
        threading.Event().wait(1.2)
        assert fake.asked.count("/events") <= 7, "20 ms, 40, 80, 160, 320, 640"
        eventually(lambda: fake.asked.count("/events") >= 3)


@pytest.mark.parametrize("silent_on", ["/events", "/containers/json"])
def test_a_docker_that_never_answers_does_not_hold_up_the_stop(fake: FakeDocker, silent_on: str) -> None:
    fake.silent_on = silent_on
    with following(fake.address):
        eventually(lambda: silent_on in fake.asked)


def test_a_docker_that_never_accepts_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf, socket.socket(socket.AF_UNIX) as first:
        deaf.bind(str(tmp_path / "d.sock"))
        deaf.listen(0)
        first.connect(str(tmp_path / "d.sock"))
        with following(f"unix://{tmp_path}/d.sock"):
            threading.Event().wait(0.1)


@pytest.mark.parametrize(
    "running",
    [
        b"",
        b"not json",
        b"null",
        b"{}",
        b'"text"',
        b"[null, 1, [], {}]",
        b"[" * 100_000,
        b'[{"Id": 5, "Names": 6, "Image": [], "Labels": 7}]',
        b'[{"Id": "../../etc", "Names": ["/x"], "Image": "x", "Labels": {}}]',
        b'[{"Id": "' + b"a" * 100_000 + b'"}]',
        b"\xff\xfe",
    ],
)
def test_a_reply_that_makes_no_sense_tells_nothing(fake: FakeDocker, running: bytes) -> None:
    fake.running = running
    with following(fake.address) as told:
        eventually(lambda: "/containers/json" in fake.asked)
    assert told.calls == []


def test_a_reply_without_end_is_cut(
    fake: FakeDocker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bpfd.containers import engine

    monkeypatch.setattr(engine, "MOST_REPLY", 1 << 20)
    fake.running = b"[" + b" " * (3 << 20)
    with following(fake.address) as told:
        eventually(lambda: any("/containers/json: an answer of more than 1 MiB" in line for line in caplog.messages))
    assert told.calls == []


def test_an_event_without_end_is_cut(fake: FakeDocker, caplog: pytest.LogCaptureFixture) -> None:
    fake.events = b"x" * (3 << 20)
    with following(fake.address):
        eventually(lambda: any("an event of more than 1 MiB" in line for line in caplog.messages))


def test_events_that_make_no_sense_are_passed_over(fake: FakeDocker) -> None:
    nonsense = [b"{}", b"null", b"[]", b"3", b"", b'{"Actor": 1}', b'{"Actor": {"ID": 1, "Attributes": {}}}']
    wrong = {"Actor": {"ID": ID, "Attributes": {"name": ["x"], "image": 5, "a": 1, "b": None, "c": "d"}}}
    fake.events = b"\n".join([*nonsense, json.dumps(wrong).encode()]) + b"\n"
    with following(fake.address) as told:
        eventually(lambda: bool(told.calls))
    assert told.calls == [(ID, "", "", {"c": "d"})]


def test_what_is_too_long_or_no_text_is_cut_down(fake: FakeDocker) -> None:
    labels = {f"k{number}": "v" * 100_000 for number in range(5)} | {f"l{number}": "\ud800" for number in range(1000)}
    container = {"Id": ID, "Names": ["/" + "n" * 9999], "Image": "\udcff" * 9999, "Labels": labels}
    fake.running = json.dumps([container]).encode()
    with following(fake.address) as told:
        eventually(lambda: bool(told.calls))
    ((_, name, image, kept),) = told.calls
    assert len(name) < 300
    assert len(image) < 10_000
    assert len(kept) == 256
    assert max(len(value) for value in kept.values()) == 4096
    json.dumps([name, image, kept], ensure_ascii=False).encode()


def test_an_address_that_is_no_socket_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with following("tcp://127.0.0.1:2375"):
        eventually(lambda: bool(caplog.messages))
    assert caplog.messages == ["DOCKER_HOST: tcp://127.0.0.1:2375: only unix:///… is followed; containers stay unnamed"]


def test_the_environment_says_where_docker_is(fake: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", fake.address)
    with following(""):
        eventually(lambda: "/events" in fake.asked)


def test_what_becomes_of_containers_is_told_to_who_follows_them(fake: FakeDocker) -> None:
    fake.running = json.dumps(
        [
            {"Id": ID, "State": "exited", "Status": "Exited (137) 2 hours ago"},
            {"Id": OTHER, "State": "paused", "Status": "Up 3 minutes (Paused)"},
            {"Id": "0" * 64, "State": "sublimated"},
            {"Id": "1" * 64},
            {"Id": 5, "State": "running"},
            None,
        ]
    ).encode()
    actions = ("create", "start", "pause", "unpause", "oom", "destroy", "start")
    fake.events = b"".join(event(ID, action, number) for number, action in enumerate(actions, 1))
    fake.events += event(OTHER, "die", 8, exitCode="3", execDuration="1")
    followed = Followed()
    with following(fake.address, followed) as told:
        eventually(lambda: len(followed.said) == 8)
    assert followed.lists == [([Listed(ID, "exited", 137), Listed(OTHER, "paused")], True)]
    states = ["created", "running", "paused", "running", None, "destroyed", "running"]
    assert followed.said == [*((ID, state, None) for state in states), (OTHER, "exited", 3)]
    assert followed.times == list(range(1, 9))
    assert followed.left == 1
    assert "exitCode" not in {key for _, _, _, labels in told.calls for key in labels}


def test_who_follows_is_told_that_there_is_no_docker(tmp_path: Path) -> None:
    followed = Followed()
    with following(f"unix://{tmp_path}/none.sock", followed):
        eventually(lambda: followed.away > 0)
    assert (followed.left, followed.lists) == (0, [])


def test_a_label_is_not_taken_for_the_exit_code(fake: FakeDocker) -> None:
    """Docker puts labels over its own words."""
    fake.events = event(ID, exitCode="0") + event(ID, "die", exitCode="0")
    fake.inspected = b'{"State": {"ExitCode": 3}}'
    followed = Followed()
    with following(fake.address, followed):
        eventually(lambda: len(followed.said) == 2)
    assert followed.said[1] == (ID, "exited", 3)
    assert f"/containers/{ID}/json" in fake.asked


@pytest.mark.parametrize("inspected", [b"", b"null", b"[]", b'{"State": 5}', b'{"State": {"ExitCode": "x"}}', b"{}"])
def test_where_the_exit_code_cannot_be_had_there_is_none(fake: FakeDocker, inspected: bytes) -> None:
    fake.events = event(ID, exitCode="0") + event(ID, "die", exitCode="0")
    fake.inspected = inspected
    followed = Followed()
    with following(fake.address, followed):
        eventually(lambda: len(followed.said) == 2)
    assert followed.said[1] == (ID, "exited", None)


@pytest.mark.parametrize("code", ["", "x", "-1", "1000", "\u0663", "3 "])
def test_an_exit_code_that_is_none_is_left_out(fake: FakeDocker, code: str) -> None:
    fake.events = event(ID, "die", exitCode=code)
    followed = Followed()
    with following(fake.address, followed):
        eventually(lambda: len(followed.said) == 1)
    assert followed.said == [(ID, "exited", None)]


@pytest.mark.parametrize("at", [None, "soon", -5, 0, 1 << 62, 1.5, True, []])
def test_a_time_that_makes_no_sense_is_now(fake: FakeDocker, at: object) -> None:
    fake.events = event(ID, "start", at)
    followed = Followed()
    with following(fake.address, followed):
        eventually(lambda: len(followed.times) == 1)
    assert abs(followed.times[0] - time.time_ns()) < 60 * 10**9


def test_an_event_of_nobody_tells_nothing(fake: FakeDocker) -> None:
    nonsense: list[object] = [
        {"Action": "start"},
        {"Action": "start", "Actor": 5},
        {"Action": "start", "Actor": {"ID": "../../etc"}},
        {"Action": "start", "Actor": {"ID": ["x"]}},
        {"Action": ["start"], "Actor": {"ID": ID}},
        {"Action": "exec_die", "Actor": {"ID": ID}},
        {"Actor": {"ID": ID}},
        {"Action": "die", "Actor": {"ID": OTHER, "Attributes": "x"}},
    ]
    fake.events = b"".join(json.dumps(one).encode() + b"\n" for one in nonsense)
    followed = Followed()
    with following(fake.address, followed):
        eventually(lambda: len(followed.said) == 1)
    assert followed.said == [(OTHER, "exited", None)]


def test_who_begins_to_follow_is_given_a_list_at_once(fake: FakeDocker, caplog: pytest.LogCaptureFixture) -> None:
    followed = Followed()
    followed.is_followed = False
    watch = DockerWatch(Told(), fake.address, followed)
    watch.start()
    try:
        eventually(lambda: fake.asked.count("/containers/json") == 1)
        assert followed.lists == []
        followed.is_followed = True
        watch.again()
        eventually(lambda: followed.lists == [([], True)])
    finally:
        watch.stop()
    assert fake.asked.count("/events") == 2
    assert caplog.messages == []


def test_a_list_that_was_cut_off_to_begin_anew_is_not_told(
    fake: FakeDocker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from bpfd.containers import engine

    everything = engine.Engine.everything

    def cut_once(self: engine.Engine) -> object:
        if fake.asked.count("/events") == 1:
            watch.again()
        return everything(self)

    monkeypatch.setattr(engine.Engine, "everything", cut_once)
    followed = Followed()
    watch = DockerWatch(Told(), fake.address, followed)
    watch.start()
    try:
        eventually(lambda: bool(followed.lists))
    finally:
        watch.stop()
    assert followed.lists == [([], True)]
    assert caplog.messages == []


def test_a_list_that_is_too_long_leaves_what_runs(fake: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    from bpfd.containers import engine

    def too_long(self: object) -> None:
        raise engine.OversizeError("too long")

    monkeypatch.setattr(engine.Engine, "everything", too_long)
    fake.running = json.dumps([{"Id": ID, "State": "running"}]).encode()
    followed = Followed()
    with following(fake.address, followed):
        eventually(lambda: followed.lists == [([Listed(ID, "running")], False)])
