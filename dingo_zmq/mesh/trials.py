"""Announced nodes that are not connected to yet, since there are too many: which of them are there at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic

from dingo_zmq.mesh.discovery.port import Announcement
from dingo_zmq.mesh.nearest import Pair
from dingo_zmq.mesh.reactor import Reactor
from dingo_zmq.mesh.scout import Scout

__all__ = ["Trials"]

ATTEMPTS_MOST = 200
"""TCP connections being tried at a time"""
TRIAL_SECONDS = 1.0
AGAIN_SECONDS = 5.0
"""after which a node that did not answer is tried again"""


class Trials:
    """
    Tries nodes by plain TCP connections, which cost little, in turn and again and again.

    Args:
        reactor: watches the attempts.
        pairs: gives the candidates of a node, nearest first.
        answers: called with a node that answers, and where; it is tried no more unless added again.

    Attributes:
        wakeup: monotonic seconds at which `tick` must be called.
    """

    def __init__(
        self,
        reactor: Reactor,
        pairs: Callable[[Announcement], list[Pair]],
        answers: Callable[[Announcement, Pair], None],
    ) -> None:
        self.wakeup = float("inf")
        self._reactor, self._pairs, self._answers = reactor, pairs, answers
        self._waiting: dict[str, tuple[Announcement, float]] = {}  # by node, in turn; when to try it
        self._trying: dict[str, tuple[Announcement, Scout, int]] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._trying)

    def add(self, said: Announcement, at: float) -> None:
        """Try a node at a moment in monotonic seconds, instead of what was known of it."""
        self.remove(said.node)
        self._waiting[said.node] = said, at
        self.wakeup = min(self.wakeup, at)

    def remove(self, node: str) -> None:
        """Forget a node; unknown ids are ignored."""
        self._waiting.pop(node, None)
        _, scout, _ = self._trying.pop(node, (None, None, 0))
        if scout is not None:
            scout.stop()

    def tick(self, now: float) -> None:
        """Time has passed."""
        for _, scout, _ in list(self._trying.values()):
            if now >= scout.deadline:
                scout.tick(now)
        room = ATTEMPTS_MOST - sum(attempts for _, _, attempts in self._trying.values())
        self.wakeup = float("inf")
        for node, (said, at) in list(self._waiting.items()):
            if room <= 0:
                break
            if at <= now:
                del self._waiting[node]
                room -= self._begin(said)
            else:
                self.wakeup = min(self.wakeup, at)
        for _, scout, _ in self._trying.values():
            self.wakeup = min(self.wakeup, scout.deadline)

    def stop(self) -> None:
        """Forget all of them."""
        for node in [*self._waiting, *self._trying]:
            self.remove(node)

    def _begin(self, said: Announcement) -> int:
        pairs = self._pairs(said)
        scout = Scout(self._reactor, pairs, partial(self._ended, said), TRIAL_SECONDS)
        self._trying[said.node] = said, scout, len(pairs)
        scout.start()
        return len(pairs)

    def _ended(self, said: Announcement, pair: Pair | None) -> None:
        self._trying.pop(said.node, None)
        if pair is None:
            self.add(said, monotonic() + AGAIN_SECONDS)
        else:
            self._answers(said, pair)
        self.wakeup = min(self.wakeup, monotonic())  # there is room for another one
