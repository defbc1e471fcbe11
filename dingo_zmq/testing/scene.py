"""What everybody in the simulated world shares: clock and agenda, chance, the story, connections, history."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any
from zlib import crc32

from dingo_zmq.protocol.caller import Caller
from dingo_zmq.protocol.messages import VIA_MOST
from dingo_zmq.testing.history import History
from dingo_zmq.testing.network import Chain, Network, NodeEnd, Relay, Stranger
from dingo_zmq.testing.plan import Job, Plan

Trace = Callable[[str], None]


class Scene:
    """
    The scene of one plan.

    Attributes:
        now: virtual seconds since the beginning.
        dice: all chance there is.
        digest: the same for the same story.
        network, history, jobs: the connections, what happened, what tasks are like.
        nodes, callers: by name, everybody that there is.
        stuck, refusals: by caller, faults that make publishing to it fail, and how often it did.
        mistold: by caller, faults that have nodes told so although they published.
        reused: keys that lead to another node than they should.
        relays: the forwarders.
        detours: by caller and node, faults that make them meet by way of forwarders alone.
        on_crash, on_boot: told of the names of nodes.
    """

    def __init__(self, plan: Plan, trace: Trace | None = None) -> None:
        self.plan = plan
        self.now = 0.0
        self.dice = Random(f"world {plan.seed}")  # noqa: S311 (dice of a game)
        self.digest = 0
        self.history = History()
        self.network = Network(
            self, plan.delay, harsh=plan.harsh, loss=plan.loss, repeats=plan.repeats, copies=plan.copies
        )
        self.jobs: dict[str, Job] = {job.id: job for job in plan.jobs}
        self.stranger = Stranger()
        self.nodes: dict[str, NodeEnd] = {self.stranger.name: self.stranger}
        self.callers: dict[str, Caller] = {}
        self.stuck: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.mistold: Counter[str] = Counter()
        self.reused: dict[str, str] = {}
        self.relays = [Relay(f"f{number}") for number in range(len(plan.relays))]
        self._ways: dict[tuple[str, str], list[Chain]] = {}
        self.detours: Counter[tuple[str, str]] = Counter()
        self.network.ways = self.ways
        self.on_crash: Callable[[str], None] = lambda name: None
        self.on_boot: Callable[[str], None] = lambda name: None
        self._trace = trace
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._entries = 0

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Have something done later."""
        self._entries += 1
        heapq.heappush(self._agenda, (self.now + seconds, self._entries, call, arguments))

    def until(self, end: float) -> None:
        """Let happen what is due, up to a moment."""
        agenda, history = self._agenda, self.history
        while agenda and agenda[0][0] <= end:
            self.now, _, call, arguments = heapq.heappop(agenda)
            history.now = self.now
            call(*arguments)
        self.now = end

    def note(self, what: str, *details: Any) -> None:
        """Write to the story."""
        if self._trace is not None:
            self._trace(f"{self.now:9.4f} {what:9} {' '.join(map(str, details))}")

    def stamp(self, what: bytes) -> None:
        """Something happened that makes this story differ from others."""
        self.digest = crc32(what, crc32(b"%.6f" % self.now, self.digest))

    def ways(self, caller: str, node: str) -> list[Chain]:
        """Return the chains of forwarders between a caller and a node, shortest first, seen from the node."""
        if caller == node or not self.relays:
            return [()]
        ways = self._ways.get((caller, node))
        if ways is None:
            lans = self.plan.lans
            found = {chain: None for here in lans[node] for chain in self._chains(here, lans[caller], ())}
            ways = self._ways[caller, node] = sorted(found, key=len)
        return [way for way in ways if way] if self.detours[caller, node] else ways

    def _chains(self, here: int, there: tuple[int, ...], chain: Chain) -> list[Chain]:
        found = [chain] if here in there else []
        if len(there) == 1 and found:
            return found
        for relay, ends in zip(self.relays, self.plan.relays, strict=True):
            if here in ends and relay not in chain and len(chain) < VIA_MOST:
                (other,) = set(ends) - {here}
                found += self._chains(other, there, (*chain, relay))
        return found

    def node_at(self, key: str) -> NodeEnd | None:
        """Return the node behind a key, if there is one."""
        return self.nodes.get(self.reused.get(key) or key.partition("@")[0])

    def keys_of(self, node: str) -> list[str]:
        """Return the keys that lead to a node."""
        keys = [node, f"{node}@2"]
        if not self.reused:
            return keys
        others = [key for key, other in self.reused.items() if other == node]
        return [*(key for key in keys if key not in self.reused), *others]
