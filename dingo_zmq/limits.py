"""The time limits of a task that runs, and what a task that was stopped has to report."""

from __future__ import annotations

from time import monotonic

from dingo_zmq.errors import SoftTimeLimit, TaskCancelled
from dingo_zmq.model import Code, Failure, plain

__all__ = ["BEFORE_IT_STARTED", "THREAD_GOES_ON", "WHILE_IT_RAN", "Limits", "over_limit", "stopped", "was_ended"]

BEFORE_IT_STARTED = "cancelled before it started"
WHILE_IT_RAN = "cancelled while it ran"
THREAD_GOES_ON = "; its thread goes on, and another takes its place"


class Limits:
    """
    The time limits of one task, counted from now.

    Args:
        hard: seconds, None or 0 for any.
        soft: seconds after which its function is told, None or 0 for never.

    Attributes:
        deadline: when the first of them is over.
        due: whether the soft one is over and its function not told yet, as far as somebody has noticed.
    """

    __slots__ = ("_soft_at", "deadline", "due", "hard", "soft")

    def __init__(self, hard: float | None, soft: float | None) -> None:
        self.hard, self.soft = hard or None, soft or None
        now = monotonic()
        self._soft_at = now + soft if soft else None
        hard_at = now + hard if hard else None
        self.deadline = self._soft_at if hard_at is None else min(hard_at, self._soft_at or hard_at)
        self.due = False

    def check(self) -> None:
        """
        Tell the function if the soft limit is over.

        Raises:
            SoftTimeLimit: it is; raised once.
        """
        if self._soft_at is not None and monotonic() >= self._soft_at:
            self._soft_at = None
            raise SoftTimeLimit(self.words)

    @property
    def soft_left(self) -> float | None:
        """Seconds until the soft limit is over, None where there is none, or its function has been told."""
        return None if self._soft_at is None else max(0.0, self._soft_at - monotonic())

    def expire(self) -> bool:
        """The soft limit is over; return whether its function has still to be told."""
        self.due, self._soft_at = self._soft_at is not None, None
        return self.due

    @property
    def words(self) -> str:
        """What is said of a soft limit that is over."""
        return f"it ran longer than its soft_time_limit of {self.soft:g} s"


def over_limit(seconds: float) -> Failure:
    """Return the failure of a task that ran longer than its hard limit."""
    return Failure(Code.TIMEOUT, f"it ran longer than its time_limit of {seconds:g} s")


def was_ended(name: str, id: str, seconds: float) -> str:
    """Return what is logged of a task that ran longer than its hard limit."""
    return f"task {name} id {plain(id)} was ended after {seconds:g} s (time_limit)"


def stopped(exc: BaseException, limits: Limits | None, *, cancelled: bool) -> Failure | None:
    """
    Return how a task ends that was stopped, None where its function raised for another cause.

    Args:
        exc: what the function let pass.
        limits: of the task.
        cancelled: whether it was to be cancelled.
    """
    if isinstance(exc, SoftTimeLimit):
        return Failure(Code.TIMEOUT, str(exc)) if limits is not None and limits.soft is not None else None
    if cancelled:
        from asyncio import CancelledError

        if isinstance(exc, TaskCancelled | CancelledError):
            return Failure(Code.CANCELLED, WHILE_IT_RAN)
    return None
