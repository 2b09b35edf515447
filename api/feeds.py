"""Live trace: hands each client the events of its own queue, whatever the other clients do."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from bpfd.api.calls import Calls, Context
from bpfd.api.convert import FOLLOWED
from bpfd.control import Control, Subscription
from bpfd.event import Event

PAUSE_S = 0.01
"""How long a feed rests after it gave events: in a flood, events then come many at a time."""


class Feed:
    """One client's events. Made on the event loop; `notify`, `subscribe` and `close` come from other threads."""

    def __init__(self, bell: Bell) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self._bell = bell
        self._rung = False
        self._rest = False
        self._ended = False
        self._closed = False
        self._subscription: Subscription | None = None

    def subscribe(self, control: Control, rule: str, tracer: str, near_miss: bool) -> None:
        """Begin to queue events. Any thread."""
        self._subscription = control.subscribe(self.notify, rule, tracer, near_miss)
        if self._closed:  # the client went away meanwhile
            self._subscription.close()

    def notify(self) -> None:
        """Say that events wait; on the event path, so it returns at once."""
        if not self._rung:
            self._rung = True
            self._bell.ring(self)

    async def take(self) -> tuple[list[Event], int] | None:
        """Wait for events: those, and how many were lost before them. None: the daemon stops."""
        if self._rest:
            await asyncio.sleep(PAUSE_S)
            self._rest = False
        while True:
            await self.ready.wait()
            if self._ended or self._subscription is None:
                return None
            self.ready.clear()
            self._rung = False  # before the queue is emptied: what comes after rings again
            events, lost = self._subscription.take()
            if events or lost:
                # What came since has rung, and is found after the rest.
                self._rest = True
                return events, lost

    def missed(self, event: Event) -> str:
        """What the subscription says of `event`."""
        return "" if self._subscription is None else self._subscription.missed(event)

    def end(self) -> None:
        """Let `take` return None."""
        self._ended = True
        self.ready.set()

    def close(self) -> None:
        """Give up the queue. Idempotent; any thread; may take as long as a change of the rules."""
        self._closed = True
        if self._subscription is not None:
            self._subscription.close()


class Bell:
    """Wakes feeds from the event path, many with one call into the event loop: each such call is a system call."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Feed] = deque()
        self._scheduled = False

    def ring(self, feed: Feed) -> None:
        """Wake `feed`. Any thread; never blocks."""
        self._waiting.append(feed)
        if not self._scheduled:
            self._scheduled = True
            with contextlib.suppress(RuntimeError):  # the loop has ended, and its feeds with it
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._scheduled = False  # before the queue is emptied: who comes after schedules again
        while self._waiting:
            self._waiting.popleft().ready.set()


class Feeds:
    """All feeds of a server. Used on the event loop."""

    def __init__(self, control: Control, calls: Calls) -> None:
        self._control = control
        self._calls = calls
        self._bell = Bell(asyncio.get_running_loop())
        self._open: set[Feed] = set()
        self._ended = False

    @contextlib.asynccontextmanager
    async def open(
        self, context: Context, rule: str = "", tracer: str = "", near_miss: bool = False
    ) -> AsyncIterator[Feed]:
        """A feed, closed at the end of the block. Aborts the call if the daemon refuses.

        The client gets its headers once events are queued for it: what happens after that, it sees.
        """
        feed = Feed(self._bell)
        self._open.add(feed)
        try:
            if self._ended:
                feed.end()
            await self._calls.ask(context, feed.subscribe, self._control, rule, tracer, near_miss)
            await context.send_initial_metadata((FOLLOWED,))
            yield feed
        finally:
            self._open.discard(feed)
            if self._ended:
                feed.close()  # the daemon stops, and has nothing to put in force again
            else:
                self._calls.later(feed.close)

    def end(self) -> None:
        """End every feed, now and later ones."""
        self._ended = True
        for feed in self._open:
            feed.end()
