"""The two services, over one daemon: `bpfd.v1.Bpfd` and the first bpfd's `grpc.API`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import grpc

from bpfd.api import bpfd_pb2, convert, legacy_pb2, legacy_pb2_grpc
from bpfd.api.acting_service import ActingService
from bpfd.api.calls import Calls, Context, check_length, check_names
from bpfd.api.feeds import Feeds
from bpfd.control import Control
from bpfd.event import Event, printable, utf8

MOST_RULE_BYTES = 2 << 20
LONGEST_SOURCE = 4096
_STOPPING = "the daemon is stopping"

_BATCH_EVENTS = 256
_BATCH_BYTES = 256 << 10
_MOST_EVENT_BYTES = 3 << 20
"""Clients refuse messages over 4 MiB unless told otherwise."""


class BpfdService(ActingService):
    """`bpfd.v1.Bpfd`. On the event loop."""

    def __init__(self, control: Control, calls: Calls, feeds: Feeds) -> None:
        super().__init__(control, calls)
        self._feeds = feeds

    async def CreateRule(self, request: bpfd_pb2.CreateRuleRequest, context: Context) -> bpfd_pb2.CreateRuleResponse:
        await _check_rule_size(context, request.toml)
        await check_length(context, "source", request.source, LONGEST_SOURCE)
        source = printable(request.source) or "api"
        rule = await self._calls.change(context, self._control.create_rule, request.toml, source, request.replace)
        return bpfd_pb2.CreateRuleResponse(rule=convert.rule_to_v1(rule, with_toml=False))

    async def RemoveRule(self, request: bpfd_pb2.RemoveRuleRequest, context: Context) -> bpfd_pb2.RemoveRuleResponse:
        await check_names(context, name=request.name, tracer=request.tracer)
        await self._calls.change(context, self._control.remove_rule, request.name, request.tracer)
        return bpfd_pb2.RemoveRuleResponse()

    async def ListRules(self, request: bpfd_pb2.ListRulesRequest, context: Context) -> bpfd_pb2.ListRulesResponse:
        rules = await self._calls.ask(context, self._control.list_rules)
        return bpfd_pb2.ListRulesResponse(
            rules=[convert.rule_status_to_v1(rule, with_toml=request.with_toml) for rule in rules]
        )

    async def ExplainRule(self, request: bpfd_pb2.ExplainRuleRequest, context: Context) -> bpfd_pb2.ExplainRuleResponse:
        await check_names(context, name=request.name)
        return convert.explanation_to_v1(await self._calls.ask(context, self._control.explain_rule, request.name))

    async def LiveTrace(self, request: bpfd_pb2.LiveTraceRequest, context: Context) -> None:
        await check_names(context, rule=request.rule, tracer=request.tracer)
        async with self._feeds.open(context, request.rule, request.tracer, request.near_miss) as feed:
            missed = feed.missed if request.near_miss else None
            while batch := await feed.take():
                for message in _batches(*batch, missed):
                    await context.write(message)
        await context.abort(grpc.StatusCode.UNAVAILABLE, _STOPPING)

    async def ListTracers(self, request: bpfd_pb2.ListTracersRequest, context: Context) -> bpfd_pb2.ListTracersResponse:
        tracers = await self._calls.ask(context, self._control.list_tracers)
        return bpfd_pb2.ListTracersResponse(tracers=[convert.tracer_to_v1(tracer) for tracer in tracers])

    async def ListActions(self, request: bpfd_pb2.ListActionsRequest, context: Context) -> bpfd_pb2.ListActionsResponse:
        actions = await self._calls.ask(context, self._control.list_actions)
        return bpfd_pb2.ListActionsResponse(actions=[convert.action_to_v1(action) for action in actions])

    async def GetStatus(self, request: bpfd_pb2.GetStatusRequest, context: Context) -> bpfd_pb2.GetStatusResponse:
        return convert.status_to_v1(await self._calls.ask(context, self._control.status))


class LegacyService(legacy_pb2_grpc.APIServicer):
    """`grpc.API` of the first bpfd, where creating a rule replaces one of the same name. On the event loop."""

    def __init__(self, control: Control, calls: Calls, feeds: Feeds) -> None:
        self._control = control
        self._calls = calls
        self._feeds = feeds

    async def CreateRule(
        self, request: legacy_pb2.CreateRuleRequest, context: Context
    ) -> legacy_pb2.CreateRuleResponse:
        rule = request.rule
        await check_names(context, name=rule.name, tracer=rule.tracer)
        if not rule.name:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "api: name: must not be empty; give the rule a name")
        filters = {field: filter.values for field, filter in rule.filterEvents.items()}
        toml = convert.rule_to_toml(rule.name, rule.tracer, filters, rule.containerRuntimes, rule.actions)
        await _check_rule_size(context, toml)
        await self._calls.change(context, self._control.create_rule, toml, "api", True)
        return legacy_pb2.CreateRuleResponse()

    async def RemoveRule(
        self, request: legacy_pb2.RemoveRuleRequest, context: Context
    ) -> legacy_pb2.RemoveRuleResponse:
        await check_names(context, name=request.name, tracer=request.tracer)
        await self._calls.change(context, self._control.remove_rule, request.name, request.tracer)
        return legacy_pb2.RemoveRuleResponse()

    async def ListRules(self, request: legacy_pb2.ListRulesRequest, context: Context) -> legacy_pb2.ListRulesResponse:
        statuses = await self._calls.ask(context, self._control.list_rules)
        return legacy_pb2.ListRulesResponse(
            rules=[convert.rule_to_legacy(status.rule) for status in statuses if status.rule is not None]
        )

    async def LiveTrace(self, request: legacy_pb2.LiveTraceRequest, context: Context) -> None:
        async with self._feeds.open(context) as feed:
            while batch := await feed.take():
                for event in batch[0]:
                    await context.write(convert.event_to_legacy(event))
        await context.abort(grpc.StatusCode.UNAVAILABLE, _STOPPING)


def _batches(
    events: Iterable[Event], lost: int, missed: Callable[[Event], str] | None
) -> Iterator[bpfd_pb2.LiveTraceResponse]:
    """Messages of bounded size. An event that fits into none counts as lost. `missed` says what it missed."""
    batch: list[bpfd_pb2.Event] = []
    texts: list[str] = []
    size = 0
    for event in events:
        message = convert.event_to_v1(event)
        length = message.ByteSize()
        too_large = length > _MOST_EVENT_BYTES
        if batch and (too_large or len(batch) >= _BATCH_EVENTS or size + length > _BATCH_BYTES):
            yield bpfd_pb2.LiveTraceResponse(lost=lost, events=batch, missed=texts)
            batch, texts, size, lost = [], [], 0, 0
        if too_large:
            lost += 1
        else:
            batch.append(message)
            size += length
            if missed is not None:
                texts.append(utf8(missed(event)))
                size += 4 * len(texts[-1])
    if batch or lost:
        yield bpfd_pb2.LiveTraceResponse(lost=lost, events=batch, missed=texts)


async def _check_rule_size(context: Context, toml: str) -> None:
    if len(toml.encode()) > MOST_RULE_BYTES:
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"a rule has at most {MOST_RULE_BYTES} bytes, this one {len(toml.encode())}; split it",
        )
