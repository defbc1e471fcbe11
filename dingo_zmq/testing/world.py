"""
A simulated world: the real deciders of callers and nodes, over connections that break, in virtual time.

All chance comes from the seed, so the same seed is always the same story.  Faults happen for a while, then
everything heals, and then all must be settled and at rest within a minute.
"""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass, field

from dingo_zmq.testing import checkers, measures
from dingo_zmq.testing.cast import Cast
from dingo_zmq.testing.durable import DurableHost
from dingo_zmq.testing.faults import Faults
from dingo_zmq.testing.hosts import CallerHost
from dingo_zmq.testing.node_host import NodeHost
from dingo_zmq.testing.plan import Plan, draw
from dingo_zmq.testing.scene import Scene, Trace

REST_SECONDS = 60.0
"""all must be settled and at rest this long after everything has healed"""
STILL_SECONDS = 3.0
"""rest must last"""
MEASURE_SECONDS = 1.7
"""time between two looks at what piles up"""


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

    def __init__(self, plan: Plan, trace: Trace | None = None) -> None:
        self.plan = plan
        self.scene = Scene(plan, trace)
        self.nodes = [NodeHost(self.scene, f"n{i}", node) for i, node in enumerate(plan.nodes)]
        self.callers = [
            (DurableHost if i in plan.journals else CallerHost)(self.scene, f"c{i}")
            for i in range(len(plan.callers))
        ]
        self.faults = Faults(self.scene, self.nodes, self.callers)
        self.cast = Cast(self.scene, self.nodes, self.callers, self.faults)
        self.rested_at = 0.0
        self._set_up()

    def _set_up(self) -> None:
        self.scene.on_crash, self.scene.on_boot = self._stand_ins_go, self._stand_ins_come
        for node in self.nodes:
            self.scene.after(self.scene.dice.uniform(0, 0.3), node.boot)
        for number, at in enumerate(self.plan.callers):
            host = self.callers[number]
            for node in self.nodes:
                self.scene.after(at + self.scene.dice.choice((0.0, 0.01, 1.0)), host.found, node.name)
        for job in self.plan.jobs:
            self.scene.after(job.at, self.callers[job.caller].submit, job)
        self.scene.after(self.plan.heal_at, self._heal)
        self._measure()

    def _stand_ins_go(self, node: str) -> None:
        """Forwarders find out that a node has died, and announce it no more."""
        for caller in self._behind(node):
            self.scene.after(self.scene.dice.uniform(0.01, 0.5), self._gone, caller, node)

    def _gone(self, caller: CallerHost, node: str) -> None:
        end = self.scene.node_at(node)
        if not caller.dead and end is not None and not end.up:
            caller.gone(node)

    def _stand_ins_come(self, node: str) -> None:
        for caller in self._behind(node):
            self.scene.after(self.scene.dice.uniform(0.1, 1.0), caller.found, node)

    def _behind(self, node: str) -> list[CallerHost]:
        """Return the callers that need a forwarder to reach a node."""
        return [caller for caller in self.callers if () not in self.scene.ways(caller.name, node)]

    def _measure(self) -> None:
        """Look at what piles up, now and again and again."""
        history = self.scene.history
        for caller in self.callers:
            if not caller.dead:
                history.measured(caller.name, measures.of_caller(caller))
        for node in self.nodes:
            history.measured(node.name, measures.of_node(node))
        self.scene.after(MEASURE_SECONDS, self._measure)

    def _heal(self) -> None:
        self.scene.note("HEAL")
        self.faults.heal()
        self.scene.network.loss = self.scene.network.repeats = 0.0
        self.scene.network.losing.clear()
        self.scene.network.harsh = False
        for node in self.nodes:
            node.rouse()
            self.scene.after(self.scene.dice.uniform(0, 0.5), node.boot)
        for caller in self.callers:
            caller.rouse()
            for node in self.nodes:
                self.scene.after(self.scene.dice.uniform(0, 1.5), caller.found, node.name)

    def run(self) -> Outcome:
        """Let it happen; return what came of it."""
        failures = []
        try:
            self.scene.until(self.plan.heal_at)
            self._until_rest()
        except Exception:  # whatever a decider raises is a finding
            failures.append(f"exception: {traceback.format_exc(limit=-4)}")
        failures += [f"{name}: {what}" for name, what in checkers.problems(self.cast)]
        return Outcome(
            seed=self.plan.seed,
            failures=failures,
            digest=self.scene.digest,
            rested_at=self.rested_at,
            planned=self.faults.planned,
            happened=self.faults.happened,
            kinds=self.scene.history.kinds,
            figures=checkers.figures(self.cast),
        )

    def _until_rest(self) -> None:
        """Go on until all is at rest, and stays so; or until the time is over."""
        end = self.plan.heal_at + REST_SECONDS
        if any(caller.dead for caller in self.callers):
            end += checkers.FORGET_SECONDS
        while self.scene.now < end:
            self.scene.until(self.scene.now + 1.0)
            if self.scene.now >= self.plan.heal_at + 2 and not any(checkers.unrest(self.cast)):
                self.rested_at = self.scene.now
                self.scene.until(self.scene.now + STILL_SECONDS)
                if not any(checkers.unrest(self.cast)):
                    return


def play(plan: Plan, trace: Trace | None = None) -> Outcome:
    """Run a plan; return what came of it."""
    return World(plan, trace).run()


def play_seed(seed: int) -> Outcome:
    """Run the plan of a seed; return what came of it."""
    return play(draw(seed))
