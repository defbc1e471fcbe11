"""What everybody in the simulated world shares: clock and agenda, chance, the story, connections, history."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any
from zlib import crc32

from dingo_zmq.protocol.caller import Caller
from dingo_zmq.testing.history import History
from dingo_zmq.testing.network import Network, NodeEnd, Stranger
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
