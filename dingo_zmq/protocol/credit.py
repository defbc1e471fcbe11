"""How many tasks a node will take: measured run times, allowances, and totals that survive loss."""

from __future__ import annotations

from math import ceil

from dingo_zmq.protocol.messages import TOTAL_MOST

AHEAD_SECONDS = 0.030
"""work kept queued at a node beyond its running tasks; covers a round trip of 20 ms"""
AHEAD_MOST = 2000
FASTEST = 15e-6
"""seconds per task and slot below which a faster function gets no longer queue"""
FADE = 15 / 16
KEPT_SPARE = 8


class RunTime:
    """
    What one function of one node takes, in seconds.

    The run times of finished tasks plus the ages of running ones, over the number of tasks finished, the past
    fading by 1/16 with each finish; once one has finished, never less than the mean age of those running.
    """

    __slots__ = ("_ages", "_count", "_running", "_total")

    def __init__(self) -> None:
        self._total = self._count = 0.0
        self._running = 0
        self._ages = 0.0  # sum of the starting times of what is running

    def started(self, now: float) -> None:
        """One more task (or bundle of tasks run one after the other) is running."""
        self._running += 1
        self._ages += now

    def finished(self, tasks: int, seconds: float) -> None:
        """`tasks` tasks have finished that took `seconds` together."""
        fade = FADE**tasks
        weight = tasks if tasks == 1 else (1 - fade) / (1 - FADE)
        self._total = self._total * fade + weight * seconds / tasks
        self._count = self._count * fade + weight

    def stopped(self, since: float) -> None:
        """What had started at `since` runs no more."""
        self._running -= 1
        self._ages -= since

    def estimate(self, now: float) -> float | None:
        """Return the expected run time in seconds, or None before a first task has finished."""
        if not self._count:
            return None
        if not self._running:
            return self._total / self._count
        ages = max(0.0, self._running * now - self._ages)
        return max((self._total + ages) / self._count, ages / self._running)


def allowance(slots: int, run_time: float | None, asking: int) -> int:
    """
    Return how many tasks of one function a caller may have at a node.

    Args:
        slots: workers that serve the function.
        run_time: seconds a task takes, None where unknown.
        asking: callers that have tasks there or want to.
    """
    ahead = 0
    if run_time is not None:
        ahead = min(AHEAD_MOST, int(slots * AHEAD_SECONDS / max(run_time, slots * FASTEST)))
    return max(1, ceil((slots + ahead) / max(1, asking)))


def first_grant(slots: int, links: int) -> int:
    """Return what WELCOME grants before anything is known."""
    return max(1, ceil(slots / max(1, links)))


def grant(seen: int, held: int, kept: int, allowed: int) -> int:
    """
    Return the highest task number to be granted now; the caller of this keeps the highest ever granted.

    Args:
        seen: highest task number known to have been sent.
        held: tasks of the lane held.
        kept: answers of the link kept for lack of "heard"; beyond four allowances and a few they eat credit.
        allowed: what `allowance` says.
    """
    return min(TOTAL_MOST, seen + allowed - held - max(0, kept - (4 * allowed + KEPT_SPARE)))
