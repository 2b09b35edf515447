"""A client of the daemon: what the commands call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NoReturn

import grpc

from bpfd.api import bpfd_pb2, bpfd_pb2_grpc, convert
from bpfd.api.address import Address, check_daemon
from bpfd.errors import ApiError, BpfdError, LoadError, RuleError, RuleExistsError, RuleNotFoundError
from bpfd.event import Event

_CHANGE_S = 120.0
"""A new rule may wait for a compile, and for the compiles of others."""
_QUESTION_S = 20.0
_TRIAL_S = 330.0
"""A receiver may take as long as its action's longest time limit."""

_OPTIONS = (
    ("grpc.max_receive_message_length", 256 << 20),  # ten thousand rules are a long list
    ("grpc.enable_http_proxy", 0),
)


class Client:
    """A connection to the daemon at `address`, closed by `close` or the end of a `with` block. Any thread.

    Each method raises RuleError, LoadError or ApiError with the daemon's text; ApiError too if the daemon is gone.
    """

    def __init__(self, address: Address) -> None:
        """Raises ApiError if nobody answers."""
        self._address = address
        self._channel = grpc.insecure_channel(address.target, options=_OPTIONS)
        self._stub = bpfd_pb2_grpc.BpfdStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection. Idempotent."""
        self._channel.close()

    def create_rule(self, toml: str, source: str, *, replace: bool = False) -> bpfd_pb2.Rule:
        """Add a rule from the text of its file; `source` is the file's name."""
        request = bpfd_pb2.CreateRuleRequest(toml=toml, source=source, replace=replace)
        response: bpfd_pb2.CreateRuleResponse = self._call(self._stub.CreateRule, request, _CHANGE_S)
        return response.rule

    def remove_rule(self, name: str, tracer: str = "") -> None:
        """Raises RuleNotFoundError if there is none of that name."""
        self._call(self._stub.RemoveRule, bpfd_pb2.RemoveRuleRequest(name=name, tracer=tracer), _CHANGE_S)

    def list_rules(self, *, with_toml: bool = False) -> list[bpfd_pb2.RuleStatus]:
        """All rules, and files that would be rules but are bad."""
        request = bpfd_pb2.ListRulesRequest(with_toml=with_toml)
        response: bpfd_pb2.ListRulesResponse = self._call(self._stub.ListRules, request, _QUESTION_S)
        return list(response.rules)

    def explain_rule(self, name: str) -> bpfd_pb2.ExplainRuleResponse:
        """What of the rule runs in the kernel, and how it has fared. Takes a second. Raises RuleNotFoundError."""
        request = bpfd_pb2.ExplainRuleRequest(name=name)
        response: bpfd_pb2.ExplainRuleResponse = self._call(self._stub.ExplainRule, request, _QUESTION_S)
        return response

    def list_tracers(self) -> list[bpfd_pb2.TracerStatus]:
        response: bpfd_pb2.ListTracersResponse = self._call(
            self._stub.ListTracers, bpfd_pb2.ListTracersRequest(), _QUESTION_S
        )
        return list(response.tracers)

    def list_actions(self) -> list[bpfd_pb2.ActionStatus]:
        response: bpfd_pb2.ListActionsResponse = self._call(
            self._stub.ListActions, bpfd_pb2.ListActionsRequest(), _QUESTION_S
        )
        return list(response.actions)

    def status(self) -> bpfd_pb2.GetStatusResponse:
        response: bpfd_pb2.GetStatusResponse = self._call(
            self._stub.GetStatus, bpfd_pb2.GetStatusRequest(), _QUESTION_S
        )
        return response

    def responses(self, limit: int) -> list[bpfd_pb2.Response]:
        """The newest responses, at most `limit`, the oldest of them first."""
        response: bpfd_pb2.ListResponsesResponse = self._call(
            self._stub.ListResponses, bpfd_pb2.ListResponsesRequest(limit=limit), _QUESTION_S
        )
        return list(response.responses)

    def test_action(self, name: str) -> bpfd_pb2.TestActionResponse:
        """Send a sample through a notifier; waits for its receiver."""
        response: bpfd_pb2.TestActionResponse = self._call(
            self._stub.TestAction, bpfd_pb2.TestActionRequest(action=name), _TRIAL_S
        )
        return response

    def dead_letters(self, action: str = "") -> list[bpfd_pb2.DeadLetter]:
        """Alerts that were given up, the oldest first."""
        response: bpfd_pb2.ListDeadLettersResponse = self._call(
            self._stub.ListDeadLetters, bpfd_pb2.ListDeadLettersRequest(action=action), _QUESTION_S
        )
        return list(response.letters)

    def retry_dead_letters(self, action: str = "") -> int:
        """Have them sent again; how many."""
        response: bpfd_pb2.RetryDeadLettersResponse = self._call(
            self._stub.RetryDeadLetters, bpfd_pb2.RetryDeadLettersRequest(action=action), _QUESTION_S
        )
        return response.retried

    def create_mute(self, rule: str, where: Mapping[str, str], for_ns: int, why: str) -> bpfd_pb2.Mute:
        request = bpfd_pb2.CreateMuteRequest(rule=rule, where=where, for_ns=for_ns, why=why)
        response: bpfd_pb2.CreateMuteResponse = self._call(self._stub.CreateMute, request, _QUESTION_S)
        return response.mute

    def remove_mute(self, mute_id: str) -> None:
        self._call(self._stub.RemoveMute, bpfd_pb2.RemoveMuteRequest(id=mute_id), _QUESTION_S)

    def mutes(self) -> list[bpfd_pb2.Mute]:
        """Those in force, the oldest first."""
        response: bpfd_pb2.ListMutesResponse = self._call(
            self._stub.ListMutes, bpfd_pb2.ListMutesRequest(), _QUESTION_S
        )
        return list(response.mutes)

    def live_trace(
        self, rule: str = "", tracer: str = "", *, on_start: Callable[[], None] | None = None
    ) -> Iterator[tuple[list[Event], int]]:
        """Events that match from now on, as they come, and how many were lost before them.

        `on_start` is called once the daemon queues events for this client. Ends with ApiError when the daemon stops.
        """
        for message in self._trace(bpfd_pb2.LiveTraceRequest(rule=rule, tracer=tracer), on_start):
            yield [convert.event_from_v1(event) for event in message.events], message.lost

    def near_misses(
        self, rule: str, *, on_start: Callable[[], None] | None = None
    ) -> Iterator[tuple[list[tuple[Event, str]], int]]:
        """Events that fail exactly one clause of `rule`, each with that clause; else as `live_trace`.

        Raises RuleError where there can be none.
        """
        for message in self._trace(bpfd_pb2.LiveTraceRequest(rule=rule, near_miss=True), on_start):
            events = map(convert.event_from_v1, message.events)
            yield list(zip(events, message.missed, strict=False)), message.lost

    def _trace(
        self, request: bpfd_pb2.LiveTraceRequest, on_start: Callable[[], None] | None
    ) -> Iterator[bpfd_pb2.LiveTraceResponse]:
        call = self._stub.LiveTrace(request)
        try:
            headers = [tuple(one) for one in call.initial_metadata()]
            if on_start is not None and convert.FOLLOWED in headers:
                on_start()
            yield from call
        except grpc.RpcError as error:
            self._fail(error)
        finally:
            call.cancel()

    def _call(self, method: Any, request: Any, timeout_s: float) -> Any:
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            self._fail(error)

    def _fail(self, error: Any) -> NoReturn:
        """Raise what the daemon raised."""
        code, text = error.code(), error.details() or ""
        raise _error(self._address, code, text) from None


def connect(address: Address, timeout_s: float = 3.0) -> Client:
    """A client, once somebody answers at `address`. The caller closes it. Raises ApiError, which says what to do."""
    check_daemon(address, timeout_s)
    return Client(address)


_RULE_ERRORS: dict[grpc.StatusCode, type[RuleError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: RuleError,
    grpc.StatusCode.ALREADY_EXISTS: RuleExistsError,
    grpc.StatusCode.NOT_FOUND: RuleNotFoundError,
}


def _error(address: Address, code: grpc.StatusCode, text: str) -> BpfdError:
    if code in _RULE_ERRORS:
        return _RULE_ERRORS[code](text.split("\n"))
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return LoadError(text)
    if code is grpc.StatusCode.UNAVAILABLE:
        return ApiError(f"{address}: the connection ended: {text}; see whether bpfd daemon runs")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ApiError(f"{address}: no answer in time; see the daemon's log")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return ApiError(f"{address}: whoever answers there is no bpfd of this version; see --grpc-addr")
    return ApiError(f"{address}: {text}")
