"""Runs the daemon's methods off the event loop, and turns what they raise into gRPC statuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeAlias, TypeVar
from urllib.parse import quote

import grpc

from bpfd.counted import counted
from bpfd.errors import (
    ActionNotFoundError,
    BpfdError,
    LoadError,
    MuteError,
    MuteNotFoundError,
    RuleError,
    RuleExistsError,
    RuleNotFoundError,
    UnknownTracerError,
)
from bpfd.event import utf8

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

LONGEST_NAME = 256
MOST_CHANGES_WAITING = 64
"""Each may hold a rule of 2 MiB."""
MOST_TRIALS_WAITING = 8
LONGEST_DETAILS = 6144
"""A status travels in a header; common clients refuse headers over 8 KiB."""

_CODES: tuple[tuple[type[BpfdError], grpc.StatusCode], ...] = (
    (RuleExistsError, grpc.StatusCode.ALREADY_EXISTS),
    (RuleNotFoundError, grpc.StatusCode.NOT_FOUND),
    (MuteNotFoundError, grpc.StatusCode.NOT_FOUND),
    (ActionNotFoundError, grpc.StatusCode.NOT_FOUND),
    (UnknownTracerError, grpc.StatusCode.NOT_FOUND),
    (MuteError, grpc.StatusCode.INVALID_ARGUMENT),
    (RuleError, grpc.StatusCode.INVALID_ARGUMENT),
    (LoadError, grpc.StatusCode.FAILED_PRECONDITION),
    (BpfdError, grpc.StatusCode.FAILED_PRECONDITION),
)


class Calls:
    """A few threads for the daemon's methods, which may take as long as a compile.

    Changes have a thread of their own, so that a question is answered while a rule compiles. Used on the event loop.
    The owner calls `close`.
    """

    def __init__(self) -> None:
        self._change_pool = ThreadPoolExecutor(1, "bpfd-api-change")
        self._question_pool = ThreadPoolExecutor(3, "bpfd-api-question")
        self._trial_pool = ThreadPoolExecutor(1, "bpfd-api-trial")
        self._trials: set[Future[Any]] = set()
        self._changes: set[Future[Any]] = set()
        self._questions: set[Future[Any]] = set()

    async def change(self, context: Context, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method that changes something, in the order of the calls. Aborts the call if it raises.

        It is carried out even if the client goes away meanwhile.
        """
        if len(self._changes) >= MOST_CHANGES_WAITING:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many changes wait; try again later")
        return await _run(context, self._change_pool, self._changes, lambda: method(*args, **kwargs))

    async def ask(self, context: Context, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method that changes nothing. Aborts the call if it raises."""
        return await _run(context, self._question_pool, self._questions, lambda: method(*args, **kwargs))

    async def try_out(self, context: Context, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method that waits for somebody else, one at a time: it holds up nothing. Aborts as `change`."""
        if len(self._trials) >= MOST_TRIALS_WAITING:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many trials wait; try again later")
        return await _run(context, self._trial_pool, self._trials, lambda: method(*args, **kwargs))

    def later(self, method: Callable[[], None]) -> None:
        """Run a method that nobody waits for; at the latest `close` does."""
        future = self._question_pool.submit(method)
        self._questions.add(future)
        future.add_done_callback(self._questions.discard)
        future.add_done_callback(lambda done: method() if done.cancelled() else None)

    def close(self) -> None:
        """Give the threads back, without waiting for a method that still runs."""
        self._change_pool.shutdown(wait=not self._changes, cancel_futures=True)
        self._trial_pool.shutdown(wait=not self._trials, cancel_futures=True)
        self._question_pool.shutdown(wait=not self._questions, cancel_futures=True)


async def _run(context: Context, pool: Executor, running: set[Future[Any]], method: Callable[[], T]) -> T:
    future = pool.submit(method)
    running.add(future)
    future.add_done_callback(running.discard)
    try:
        # Shielded: a call that its client gave up counts as long as it holds a thread or a place in the queue.
        return await asyncio.shield(asyncio.wrap_future(future))
    except Exception as error:
        code, text = status_of(error)
        await context.abort(code, text)


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The status that tells of `error`: a problem a line, as many as fit. What nobody foresaw is for the debug log."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code, _cut(utf8(str(error)))
    log.error("a call failed: %s; see the debug log", type(error).__name__)
    log.debug("a call failed", exc_info=error)
    return grpc.StatusCode.INTERNAL, f"internal error ({type(error).__name__}); the daemon's debug log says more"


def _cut(text: str) -> str:
    """As many lines of `text` as fit into a status, which travels percent-encoded."""
    lines = text.split("\n")
    kept: list[str] = []
    room = LONGEST_DETAILS
    for line in lines:
        room -= len(quote(line)) + 3
        if room < 0:
            break
        kept.append(line)
    if not kept:
        return lines[0][: LONGEST_DETAILS // 12] + "…"
    left = len(lines) - len(kept)
    return "\n".join(kept) + (f"\n… and {counted(left, 'more problem')}" if left else "")


async def check_names(context: Context, **names: str) -> None:
    """Abort the call if a name is longer than any may be."""
    for key, name in names.items():
        await check_length(context, key, name, LONGEST_NAME)


async def check_length(context: Context, key: str, text: str, most: int) -> None:
    """Abort the call if `text` has more than `most` characters."""
    if len(text) > most:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{key}: at most {most} characters, not {len(text)}")
