"""The part of `bpfd.v1.Bpfd` that is about what acts: responses, trials, dead letters, mutes."""

from __future__ import annotations

import grpc

from bpfd.api import bpfd_pb2, bpfd_pb2_grpc, convert
from bpfd.api.calls import Calls, Context, check_length, check_names
from bpfd.control import Control
from bpfd.event import utf8

MOST_RESPONSES = 1000
LONGEST_WHY = 1000
LONGEST_VALUE = 4096
MOST_FIELDS = 16
_MOST_BYTES = 3 << 20
"""Clients refuse messages over 4 MiB unless told otherwise."""


class ActingService(bpfd_pb2_grpc.BpfdServicer):
    """On the event loop."""

    def __init__(self, control: Control, calls: Calls) -> None:
        self._control = control
        self._calls = calls

    async def ListResponses(
        self, request: bpfd_pb2.ListResponsesRequest, context: Context
    ) -> bpfd_pb2.ListResponsesResponse:
        limit = min(request.limit or 100, MOST_RESPONSES)
        entries = await self._calls.ask(context, self._control.acting.responses, limit)
        found = [convert.response_to_v1(entry) for entry in entries]
        size = sum(response.ByteSize() for response in found)
        while size > _MOST_BYTES:
            size -= found.pop(0).ByteSize()
        return bpfd_pb2.ListResponsesResponse(responses=found)

    async def TestAction(self, request: bpfd_pb2.TestActionRequest, context: Context) -> bpfd_pb2.TestActionResponse:
        await check_names(context, action=request.action)
        trial = await self._calls.try_out(context, self._control.acting.test_action, request.action)
        return bpfd_pb2.TestActionResponse(
            delivered=trial.delivered, problem=utf8(trial.problem), seconds=trial.seconds
        )

    async def ListDeadLetters(
        self, request: bpfd_pb2.ListDeadLettersRequest, context: Context
    ) -> bpfd_pb2.ListDeadLettersResponse:
        await check_names(context, action=request.action)
        letters = await self._calls.ask(context, self._control.acting.dead_letters, request.action)
        return bpfd_pb2.ListDeadLettersResponse(letters=[convert.dead_letter_to_v1(letter) for letter in letters])

    async def RetryDeadLetters(
        self, request: bpfd_pb2.RetryDeadLettersRequest, context: Context
    ) -> bpfd_pb2.RetryDeadLettersResponse:
        await check_names(context, action=request.action)
        retried = await self._calls.ask(context, self._control.acting.retry_dead_letters, request.action)
        return bpfd_pb2.RetryDeadLettersResponse(retried=retried)

    async def CreateMute(self, request: bpfd_pb2.CreateMuteRequest, context: Context) -> bpfd_pb2.CreateMuteResponse:
        await check_names(context, rule=request.rule)
        await check_length(context, "why", request.why, LONGEST_WHY)
        if len(request.where) > MOST_FIELDS:
            what = f"where: at most {MOST_FIELDS} fields, not {len(request.where)}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, what)
        for value in request.where.values():
            await check_length(context, "where", value, LONGEST_VALUE)
        mute = await self._calls.ask(
            context,
            self._control.acting.create_mute,
            request.rule,
            dict(request.where),
            request.for_ns,
            request.why,
        )
        return bpfd_pb2.CreateMuteResponse(mute=convert.mute_to_v1(mute))

    async def RemoveMute(self, request: bpfd_pb2.RemoveMuteRequest, context: Context) -> bpfd_pb2.RemoveMuteResponse:
        await check_names(context, id=request.id)
        await self._calls.ask(context, self._control.acting.remove_mute, request.id)
        return bpfd_pb2.RemoveMuteResponse()

    async def ListMutes(self, request: bpfd_pb2.ListMutesRequest, context: Context) -> bpfd_pb2.ListMutesResponse:
        mutes = await self._calls.ask(context, self._control.acting.mutes)
        return bpfd_pb2.ListMutesResponse(mutes=[convert.mute_to_v1(mute) for mute in mutes])
