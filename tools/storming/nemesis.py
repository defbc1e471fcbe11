"""What befalls nodes and callers in a storm, when, and what really did."""

from __future__ import annotations

import heapq
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tools.storming.mesh import Mesh, Node
from tools.storming.proxy import FAULTS

__all__ = ["KINDS", "Fault", "Nemesis"]

KINDS = ("kill", "stop", "caller", "proxy")
RETRY_SECONDS = 0.1
SHORT, LONG = (0.5, 4.0), (5.5, 9.0)
"""seconds for which something is stopped: shorter and longer than what makes it count as lost"""


class Fault(NamedTuple):
    """Something that has befallen `whom` from `begun` to `ended`, seconds since 1970."""

    kind: str
    whom: str
    begun: float
    ended: float


class Nemesis:
    """
    Does what is due, by dice of its own.

    Args:
        mesh: whose nodes suffer.
        callers: pids of the callers.
        kinds: which of `KINDS`.
        every: seconds between two faults of each kind.
        spared: so many of the first nodes are not killed.
        seed: of the dice.

    Attributes:
        faults: what was done.
        planned: how often something of each kind was due.
    """

    def __init__(
        self, mesh: Mesh, callers: list[int], kinds: set[str], every: dict[str, float], spared: int, seed: int
    ) -> None:
        self._mesh, self._callers, self._spared = mesh, callers, spared
        self.faults: list[Fault] = []
        self.planned: Counter[str] = Counter()
        self._dice = random.Random(seed)
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._busy: set[str] = set()  # whom something befalls now
        acts = {"kill": self._kill, "stop": self._stop, "caller": self._stop_caller, "proxy": self._break}
        now = time.monotonic()
        for kind in KINDS:
            if kind in kinds:
                self._repeat(now + every[kind], kind, acts[kind], every[kind])

    def work(self) -> float:
        """Do what is due; return when to come again, monotonic seconds."""
        while self._agenda and self._agenda[0][0] <= time.monotonic():
            heapq.heappop(self._agenda)[2]()
        return self._agenda[0][0] if self._agenda else time.monotonic() + 1

    def rest(self) -> None:
        """Let go of whatever is stopped, and do nothing more."""
        self._agenda.clear()
        for node in self._mesh.nodes:
            node.go_on()
        for pid in self._callers:
            _signal(pid, signal.SIGCONT)

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), act))

    def _repeat(self, when: float, kind: str, act: Callable[[], bool], every: float) -> None:
        def again() -> None:
            self.planned[kind] += 1
            self._repeat(when + every, kind, act, every)
            self._try(act, when + every)

        self._at(when, again)

    def _try(self, act: Callable[[], bool], end: float) -> None:
        """Do it, or try again until `end` where nobody is fit for it now."""
        now = time.monotonic()
        if not act() and now + RETRY_SECONDS < end:
            self._at(now + RETRY_SECONDS, lambda: self._try(act, end))

    def _befell(self, kind: str, whom: str, seconds: float = 0.0) -> None:
        now = time.time()
        self.faults.append(Fault(kind, whom, now, now + seconds))

    def _during(self, kind: str, whom: str, seconds: float, end: Callable[[], object]) -> None:
        """Something lasts for some seconds, in which nothing else befalls the same."""
        self._befell(kind, whom, seconds)
        self._busy.add(whom)
        place = len(self.faults) - 1

        def over() -> None:
            end()
            self.faults[place] = self.faults[place]._replace(ended=time.time())
            self._busy.discard(whom)

        self._at(time.monotonic() + seconds, over)

    def _node(self, spared: int = 0) -> Node | None:
        """Return one to which nothing happens, with tasks to lose; None where no other would be left."""
        free = [node for node in self._mesh.nodes if node.name not in self._busy and node.works]
        apt = [node for node in free if node not in self._mesh.nodes[:spared]]
        return self._dice.choice(apt) if apt and len(free) > 1 else None

    def _duration(self) -> tuple[str, float]:
        word, bounds = self._dice.choice((("short", SHORT), ("long", LONG)))
        return word, self._dice.uniform(*bounds)

    def _kill(self) -> bool:
        node = self._node(self._spared)
        if node is None:
            return False
        kind, kill = self._dice.choice((("kill process", node.kill_process), ("kill node", node.kill_all)))
        now = time.time()
        done = kill()
        if done:
            self.faults.append(Fault(kind, node.name, now, now))
        return done

    def _stop(self) -> bool:
        node = self._node()
        if node is None or not node.stop():
            return False
        word, seconds = self._duration()
        self._during(f"stop {word}", node.name, seconds, node.go_on)
        return True

    def _stop_caller(self) -> bool:
        number = self._dice.randrange(len(self._callers))
        pid, whom = self._callers[number], f"caller {number}"
        if whom in self._busy or not _signal(pid, signal.SIGSTOP):
            return False
        word, seconds = self._duration()
        self._during(f"stop caller {word}", whom, seconds, lambda: _signal(pid, signal.SIGCONT))
        return True

    def _break(self) -> bool:
        node = self._node()
        if node is None or node.proxy is None:
            return False
        kind = self._dice.choice((*FAULTS, "cut"))
        if kind == "cut":
            seconds = self._dice.uniform(*LONG)
            node.proxy.cut(seconds)
            self._during("cut", node.name, seconds, lambda: None)
            return True
        if kind == "stall":
            hit = node.proxy.stall(self._dice.uniform(*SHORT), one=True)
        else:
            hit = getattr(node.proxy, kind)(one=True)
        if hit:
            self._befell(kind, node.name)
        return bool(hit)


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
