"""Clients that follow the near misses of a rule.

The kernel drops what no rule wants, so while somebody follows, one more judge stands beside the rules: it wants what
misses the rule by one clause, and tells the followers alone. It is no rule: it is not counted, and nothing acts on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import replace

from bpfd.errors import RuleError
from bpfd.event import Event
from bpfd.judges import Judge
from bpfd.live import Client
from bpfd.rules import near
from bpfd.rules.model import Rule
from bpfd.tracing import Tracing


class Follower(Client):
    """One client's queue of the near misses of one rule. `close` has the rules put in force again, and may wait."""

    def __init__(
        self, owner: NearMisses, limit: int, on_ready: Callable[[], None], rule: Rule, of: near.Misses
    ) -> None:
        super().__init__(owner, limit, on_ready, "", "")
        self.rule, self.of = rule, of

    def missed(self, event: Event) -> str:
        return self.of.missed(event)


class NearMisses:
    """All who follow. `subscribe` and `forget` may be called from any thread."""

    def __init__(self, tracing: Tracing, limit: int, apply: Callable[[], None]) -> None:
        """`apply` has the rules put in force again, with the `judges` of now."""
        self._tracing, self._limit, self._apply = tracing, limit, apply
        self._lock = threading.Lock()
        self._followers: tuple[Follower, ...] = ()
        self.lost = 0
        """Events that slow clients lost, all together."""

    def subscribe(self, on_ready: Callable[[], None], rule: Rule | None, name: str) -> Follower:
        """Follow `rule`, which is in force. Raises `RuleError`: it is not, or can't be missed."""
        if rule is None or rule.tracer not in self._tracing.running:
            what = "is not enabled" if rule is None else f'its tracer "{rule.tracer}" does not run'
            raise RuleError([f'rule "{name}": {what}; see bpfd ls'])
        misses = near.Misses(rule.condition, self._tracing.known[rule.tracer].fields)
        if not misses.parts:
            raise RuleError([f'rule "{name}": matches every event, so that none can miss it; name another'])
        follower = Follower(self, self._limit, on_ready, rule, misses)
        self._set(lambda followers: (*followers, follower))
        return follower

    def forget(self, client: Client) -> None:
        self._set(lambda followers: tuple(other for other in followers if other is not client))

    def _set(self, change: Callable[[tuple[Follower, ...]], tuple[Follower, ...]]) -> None:
        with self._lock:
            before, self._followers = self._followers, change(self._followers)
        if before != self._followers:
            self._apply()

    def judges(self, rules: Collection[Rule]) -> list[Judge]:
        """The judges that stand beside those of `rules`. A rule that was changed is followed as it is now."""
        names = {follower.rule.name for follower in self._followers}
        return [self._judge(rule) for rule in rules if rule.name in names and rule.tracer in self._tracing.running]

    def _judge(self, rule: Rule) -> Judge:
        misses = near.Misses(rule.condition, self._tracing.known[rule.tracer].fields)
        for follower in self._followers:
            if follower.rule.name == rule.name:
                follower.rule, follower.of = rule, misses
        looks = replace(rule, where="user", window=None)
        wanted = near.condition(misses.parts) if misses.parts else rule.condition

        def tell(events: list[Event]) -> None:
            for follower in self._followers:
                if follower.rule.name == rule.name:
                    self.lost += follower.put(events)

        return Judge(rule.name, rule.tracer, misses.misses_one, tell, wanted, looks, is_rule=False)
