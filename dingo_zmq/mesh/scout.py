"""Which of a node's candidate addresses answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from dingo_zmq.mesh.attempts import Attempts
from dingo_zmq.mesh.nearest import Pair
from dingo_zmq.mesh.reactor import Reactor

__all__ = ["Scout"]

HEAD_START_SECONDS = 0.15
"""that nearer candidates have over farther ones"""
SCOUT_SECONDS = 2.0


class Scout:
    """
    Tries to connect to all candidates at once, and takes the nearest of those that answer.

    Args:
        reactor: watches the attempts.
        pairs: the candidates, nearest first; those with names instead of addresses never answer.
        done: called once, with the pair or None.
        seconds: to wait for an answer.

    Attributes:
        deadline: monotonic seconds at which `tick` must be called.
    """

    def __init__(
        self,
        reactor: Reactor,
        pairs: Sequence[Pair],
        done: Callable[[Pair | None], None],
        seconds: float = SCOUT_SECONDS,
    ) -> None:
        self._done, self._seconds = done, seconds
        self._pairs = [pair for pair in pairs if pair[0].startswith("tcp://")]
        self._answered: set[int] = set()
        self._attempts = Attempts(reactor, self._ended)
        self._begun = self._over = False
        self._began = monotonic()
        self.deadline = self._began + HEAD_START_SECONDS

    def start(self) -> None:
        """Try; `done` may be called before this returns."""
        for number, (tasks, _) in enumerate(self._pairs):
            self._attempts.begin(number, tasks)
        self._begun = True
        self._judge()

    def tick(self, now: float) -> None:
        """The deadline has come."""
        if self._answered or now - self._began >= self._seconds:
            self._end(min(self._answered, default=None))
        else:
            self.deadline = self._began + self._seconds

    def stop(self) -> None:
        """Give up; `done` is not called any more."""
        self._over = True
        self._attempts.stop()

    def _ended(self, number: int, code: int) -> None:
        if code == 0:
            self._answered.add(number)
        if self._begun:
            self._judge()

    def _judge(self) -> None:
        """End it once no nearer candidate than the best could still answer."""
        best = min(self._answered, default=None)
        nearer = [number for number in self._attempts.waiting if best is None or number < best]
        if not nearer or (best is not None and monotonic() >= self.deadline):
            self._end(best)

    def _end(self, number: int | None) -> None:
        if not self._over:
            self.stop()
            self._done(None if number is None else self._pairs[number])
