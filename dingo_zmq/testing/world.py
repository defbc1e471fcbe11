"""
A simulated world: the real deciders of callers and nodes, over connections that break, in virtual time.

All chance comes from the seed, so the same seed is always the same story.  Faults happen for a while, then
everything heals, and then all must be settled and at rest within a minute.
"""

from __future__ import annotations

import heapq
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from zlib import crc32

from dingo_zmq.testing import checkers
from dingo_zmq.testing.hosts import STALE_KEY, CallerHost, NodeHost
from dingo_zmq.testing.faults import Faults
from dingo_zmq.testing.history import History
from dingo_zmq.testing.network import Network
from dingo_zmq.testing.plan import Job, Plan

REST_SECONDS = 60.0
"""all must be settled and at rest this long after everything has healed"""
STILL_SECONDS = 3.0
"""rest must last"""


@dataclass
class Outcome:
    """What came of a seed: `failures` are the broken rules, `digest` is the same for the same story."""

    seed: int
    failures: list[str]
    digest: int
    rested_at: float
    planned: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    figures: Counter[str] = field(default_factory=Counter)


class World:
    """
    One run of a plan.

    Args:
        plan: what is to happen.
        trace: where to write the story, a line at a time; None for no story.
    """

    def __init__(self, plan: Plan, trace: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.dice = Random(f"world {plan.seed}")  # noqa: S311 (dice of a game)
        self.now = 0.0
        self.digest = 0
        self.healed = False
        self.rested_at = 0.0
        self._trace = trace
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._entries = 0
        self.history = History()
        self.network = Network(self, plan.delay, harsh=plan.harsh, loss=plan.loss, repeats=plan.repeats)
        self.jobs: dict[str, Job] = {job.id: job for job in plan.jobs}
        self.nodes = [NodeHost(self, f"n{i}", nodes) for i, nodes in enumerate(plan.nodes)]
        self.callers: list[CallerHost] = []
        self.callers_by_name: dict[str, CallerHost] = {}
        self.faults = Faults(self, plan.faults)
        self._set_up()

    # ------------------------------------------------------------------ for the others

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Have something done later."""
        self._entries += 1
        heapq.heappush(self._agenda, (self.now + seconds, self._entries, call, arguments))

    def note(self, what: str, *details: Any) -> None:
        """Write to the story."""
        if self._trace is not None:
            self._trace(f"{self.now:9.4f} {what:9} {' '.join(map(str, details))}")

    def stamp(self, what: bytes) -> None:
        """Something happened that makes this story differ from others."""
        self.digest = crc32(what, crc32(b"%.6f" % self.now, self.digest))

    def node_at(self, key: str) -> NodeHost | None:
        """Return the node behind a key, if there is one."""
        name = key.partition("@")[0]
        return None if name == STALE_KEY else self.nodes[int(name[1:])]

    def keys_of(self, node: str) -> tuple[str, str]:
        """Return the keys that a node may be found by."""
        return node, f"{node}@2"

    # ------------------------------------------------------------------ running

    def _set_up(self) -> None:
        for node in self.nodes:
            self.after(self.dice.uniform(0, 0.3), node.boot)
        for number, at in enumerate(self.plan.callers):
            host = CallerHost(self, f"c{number}")
            self.callers.append(host)
            self.callers_by_name[host.name] = host
            for node in self.nodes:
                self.after(at + self.dice.choice((0.0, 0.01, 1.0)), host.found, node.name)
        for job in self.plan.jobs:
            self.after(job.at, self.callers[job.caller].submit, job)
        self.after(self.plan.heal_at, self._heal)

    def _heal(self) -> None:
        self.healed = True
        self.note("HEAL")
        self.faults.heal()
        self.network.loss = self.network.repeats = 0.0
        self.network.harsh = False
        for node in self.nodes:
            node.rouse()
            self.after(self.dice.uniform(0, 0.5), node.boot)
        for caller in self.callers:
            caller.rouse()
            for node in self.nodes:
                self.after(self.dice.uniform(0, 1.5), caller.found, node.name)

    def run(self) -> Outcome:
        """Let it happen; return what came of it."""
        failures = []
        try:
            self._until(self.plan.heal_at)
            self._until_rest()
        except Exception:  # whatever a decider raises is a finding
            failures.append(f"exception: {traceback.format_exc(limit=-4)}")
        failures += [f"{name}: {what}" for name, what in checkers.problems(self)]
        return Outcome(
            seed=self.plan.seed,
            failures=failures,
            digest=self.digest,
            rested_at=self.rested_at,
            planned=self.faults.planned,
            happened=self.faults.happened,
            kinds=self.history.kinds,
            figures=checkers.figures(self),
        )

    def _until(self, end: float) -> None:
        agenda, history = self._agenda, self.history
        while agenda and agenda[0][0] <= end:
            self.now, _, call, arguments = heapq.heappop(agenda)
            history.now = self.now
            call(*arguments)
        self.now = end

    def _until_rest(self) -> None:
        """Go on until all is at rest, and stays so; or until the time is over."""
        end = self.plan.heal_at + REST_SECONDS
        if any(caller.dead for caller in self.callers):
            end += checkers.FORGET_SECONDS
        while self.now < end:
            self._until(self.now + 1.0)
            if self.now >= self.plan.heal_at + 2 and not any(checkers.unrest(self)):
                self.rested_at = self.now
                self._until(self.now + STILL_SECONDS)
                return


def play(plan: Plan, trace: Callable[[str], None] | None = None) -> Outcome:
    """Run a plan; return what came of it."""
    return World(plan, trace).run()
