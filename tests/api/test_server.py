"""Calls and their errors."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from bpfd.api import bpfd_pb2, bpfd_pb2_grpc
from bpfd.api.address import UnixAddress, check_daemon, parse_address
from bpfd.api.calls import LONGEST_DETAILS, MOST_CHANGES_WAITING
from bpfd.api.client import Client, connect
from bpfd.api.server import Server
from bpfd.control import RuleStatus
from bpfd.errors import (
    ActionError,
    ApiError,
    BpfdError,
    LoadError,
    RuleError,
    RuleExistsError,
    RuleNotFoundError,
)
from tests.api.fake_control import FakeControl

RULE = 'name = "shadow"\ntracer = "open"\nactions = ["kill"]\n[filterEvents.filename]\nvalues = ["/etc/shadow"]\n'


@pytest.fixture
def stub(server: Server) -> object:
    with grpc.insecure_channel(parse_address(server.address).target) as channel:
        yield bpfd_pb2_grpc.BpfdStub(channel)


def test_a_rule_is_created_listed_and_removed(client: Client) -> None:
    created = client.create_rule(RULE, "shadow.toml")
    assert (created.name, created.tracer, list(created.actions)) == ("shadow", "open", ["kill"])
    (listed,) = client.list_rules()
    assert (listed.name, listed.source, listed.matched, listed.problem) == ("shadow", "shadow.toml", 3, "")
    assert list(listed.rule.filter_events["filename"].values) == ["/etc/shadow"]
    assert listed.rule.toml == ""
    assert client.list_rules(with_toml=True)[0].rule.toml == RULE
    client.remove_rule("shadow", "open")
    assert client.list_rules() == []


def test_a_bad_file_is_listed_without_a_rule(client: Client, control: FakeControl) -> None:
    control.bad.append(
        RuleStatus("x\udcff", "", None, "/r/x\udcff.toml", problem="/r/x.toml:1: bad\n/r/x.toml:2: worse")
    )
    (status,) = client.list_rules()
    assert not status.HasField("rule")
    assert status.name == "x\\xff"
    assert status.problem.count("\n") == 1


def test_tracers_actions_and_status_carry_all_that_the_daemon_says(client: Client) -> None:
    running, failed = client.list_tracers()
    assert [(field.name, field.type, field.length, field.optional) for field in running.fields] == [
        ("filename", "string", 256, False),
        ("size", "u64", 0, True),
    ]
    assert (running.state, running.received, running.lost) == ("running", 7, 1)
    assert failed.problem == "exec: no tracefs; mount it"
    assert [(action.name, action.responds, dict(action.settings)) for action in client.list_actions()] == [
        ("kill", True, {}),
        ("log", False, {"path": "Where"}),
    ]
    status = client.status()
    assert (status.version, status.kernel, status.started) == ("0.1.0", "6.1", 1_700_000_000 * 10**9)
    assert dict(status.counters) == {"trace.lost": 5}
    assert list(status.problems) == ["rules/x.toml: bad"]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuleError(["a.toml:1: x: bad", "a.toml:2: y: bad"]), RuleError(["a.toml:1: x: bad", "a.toml:2: y: bad"])),
        (RuleExistsError(["in use"]), RuleExistsError(["in use"])),
        (RuleNotFoundError(["none"]), RuleNotFoundError(["none"])),
        (LoadError("open: the verifier says no"), LoadError("open: the verifier says no")),
        (ActionError("kill: no"), LoadError("kill: no")),
        (RuleError(["byte \udcff and é"]), RuleError(["byte \\xff and é"])),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_daemon_arrives_as_what_it_was(
    client: Client, control: FakeControl, raised: BpfdError, expected: BpfdError
) -> None:
    control.error = raised
    for call in (lambda: client.create_rule(RULE, "a.toml"), lambda: client.remove_rule("a"), client.list_rules):
        with pytest.raises(BpfdError) as caught:
            call()
        assert (type(caught.value), str(caught.value)) == (type(expected), str(expected))
    with pytest.raises(type(expected)):
        list(client.live_trace())


def test_what_nobody_foresaw_is_said_shortly_and_logged_at_debug(
    client: Client, control: FakeControl, caplog: pytest.LogCaptureFixture
) -> None:
    control.error = ZeroDivisionError("secret detail")
    with caplog.at_level(logging.INFO), pytest.raises(ApiError) as caught:
        client.status()
    assert "internal error (ZeroDivisionError)" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "Traceback" not in caplog.text
    with caplog.at_level(logging.DEBUG), pytest.raises(ApiError):
        client.status()
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    "problem", ["rules/ä.toml:%d: key: wrong; write it right", "%d" + "x" * 20000, "%d" + "日" * 9000]
)
def test_many_problems_fit_into_what_clients_accept(client: Client, control: FakeControl, problem: str) -> None:
    control.error = RuleError(problem % number for number in range(1000))
    with pytest.raises(RuleError) as caught:
        client.create_rule(RULE, "x")
    assert caught.value.problems[0].startswith((problem % 0)[:100])
    assert len(str(caught.value)) <= LONGEST_DETAILS
    assert "…" in caught.value.problems[-1]


def test_a_rule_of_two_mebibytes_is_taken_and_a_larger_one_refused(client: Client) -> None:
    comment = "#" * ((2 << 20) - len(RULE) - 1) + "\n"
    assert client.create_rule(comment + RULE, "x").name == "shadow"
    with pytest.raises(RuleError, match="at most 2097152 bytes"):
        client.create_rule("##" + comment + RULE, "x")
    with pytest.raises(ApiError, match="larger than max"):
        client.create_rule(comment * 2 + RULE, "x")
    assert client.status().host == "box"


def test_long_names_are_refused(client: Client) -> None:
    for call in (
        lambda: client.remove_rule("x" * 257),
        lambda: client.remove_rule("x", "y" * 257),
        lambda: client.create_rule(RULE, "s" * 4097),
        lambda: list(client.live_trace(rule="x" * 257)),
    ):
        with pytest.raises(RuleError, match=r"at most \d+ characters"):
            call()


def test_a_source_cannot_break_a_line_of_the_daemons_log(client: Client, control: FakeControl) -> None:
    client.create_rule(RULE, "a\nb\x1b[2J.toml")
    assert control.rules["shadow"].source == "a\\nb\\x1b[2J.toml"


def test_questions_are_answered_while_changes_wait(client: Client, control: FakeControl) -> None:
    control.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        changes = [pool.submit(client.create_rule, RULE, "x", replace=True) for _ in range(8)]
        assert client.status().host == "box"
        assert not any(change.done() for change in changes)
        control.gate.set()
        assert {change.result(10).name for change in changes} == {"shadow"}


def test_changes_beyond_the_bound_are_refused(
    server: Server, stub: bpfd_pb2_grpc.BpfdStub, control: FakeControl
) -> None:
    control.gate.clear()
    request = bpfd_pb2.CreateRuleRequest(toml=RULE, replace=True)
    calls = [stub.CreateRule.future(request) for _ in range(MOST_CHANGES_WAITING + 5)]
    deadline = time.monotonic() + 10
    while sum(call.done() for call in calls) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    control.gate.set()
    codes = [call.code() for call in calls]
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 5
    assert codes.count(grpc.StatusCode.OK) == MOST_CHANGES_WAITING


def test_stop_does_not_wait_for_a_change_that_hangs(server: Server, client: Client, control: FakeControl) -> None:
    control.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        change = pool.submit(client.create_rule, RULE, "x")
        deadline = time.monotonic() + 10
        while control.waiting == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        began = time.monotonic()
        server.stop(grace=0.1)
        assert time.monotonic() - began < 2
        control.gate.set()
        with pytest.raises(ApiError):
            change.result(10)


def test_health_says_that_each_service_serves(server: Server) -> None:
    with grpc.insecure_channel(parse_address(server.address).target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "bpfd.v1.Bpfd", "grpc.API"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_tells_the_services_and_their_messages(server: Server) -> None:
    with grpc.insecure_channel(parse_address(server.address).target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {"bpfd.v1.Bpfd", "grpc.API", "grpc.health.v1.Health"} <= set(database.get_services())
        assert database.FindFileContainingSymbol("bpfd.v1.Bpfd").name == "bpfd/api/bpfd.proto"
        assert database.FindFileContainingSymbol("grpc.API").name == "bpfd/api/legacy.proto"


@pytest.mark.parametrize("address", ["{}/none.sock", "127.0.0.1:1"])
def test_no_daemon_is_one_line_that_says_how_to_start_it(socket_dir: object, address: str) -> None:
    parsed = parse_address(address.format(socket_dir))
    with pytest.raises(ApiError) as caught:
        connect(parsed)
    assert str(caught.value) == f"{parsed}: no bpfd daemon runs there; start it with: bpfd daemon"


def test_no_permission_is_told_from_no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: UnixAddress, timeout_s: float) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(UnixAddress, "connect", refuse)
    with pytest.raises(ApiError, match="permission denied; run as root"):
        check_daemon(UnixAddress("/run/x"), 1)


def test_a_daemon_that_goes_away_is_said_in_one_line(server: Server, client: Client) -> None:
    client.status()
    server.stop()
    with pytest.raises(ApiError, match="see whether bpfd daemon runs") as caught:
        client.status()
    assert "\n" not in str(caught.value)


def test_another_grpc_server_is_told_from_bpfd(socket_dir: object) -> None:
    other = grpc.server(ThreadPoolExecutor(1))
    other.add_insecure_port(f"unix:{socket_dir}/other")
    other.start()
    try:
        with (
            connect(parse_address(f"{socket_dir}/other")) as client,
            pytest.raises(ApiError, match="no bpfd of this version"),
        ):
            client.status()
    finally:
        other.stop(None).wait()
