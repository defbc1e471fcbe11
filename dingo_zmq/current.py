"""The task that is running here: what a function can ask and tell while it works."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from dingo_zmq.errors import TaskCancelled, UsageError
from dingo_zmq.limits import WHILE_IT_RAN, Limits
from dingo_zmq.model import Code, Failure

__all__ = ["CurrentTask", "Running", "current_task", "running"]


class Task(Protocol):
    """What is known of a task where it runs."""

    id: str
    attempt: int
    cancelled: bool


class Running:
    """What a worker is doing; one object a worker, its `task` changes as it goes along."""

    __slots__ = ("limits", "name", "task", "tell")

    def __init__(self, name: str, tell: Callable[[Any, float | None, str | None], None]) -> None:
        self.name, self.tell = name, tell
        self.task: Any = None
        self.limits: Limits | None = None  # of the task


running: ContextVar[Running | None] = ContextVar("dingo_zmq_running", default=None)


class CurrentTask:
    """
    The running task, seen from inside its function.

    Attributes:
        name: the function.
        id: the task; (name, id) is its identity, and with `attempt` makes outside effects idempotent.
        attempt: how often it has been sent, counted from 1.
        deadline: moment by ``time.monotonic()`` at which its first time limit is over, the soft one where it has
            two; or None.
    """

    __slots__ = ("_limits", "_task", "_tell", "attempt", "deadline", "id", "name")

    def __init__(
        self,
        name: str,
        task: Task,
        tell: Callable[[Any, float | None, str | None], None],
        limits: Limits | None = None,
    ) -> None:
        self.name, self.id, self.attempt = name, task.id, task.attempt
        self.deadline = None if limits is None else limits.deadline
        self._task, self._tell, self._limits = task, tell, limits

    @property
    def cancelled(self) -> bool:
        """Whether the caller no longer wants the result; a long function should look now and then."""
        return bool(self._task.cancelled)

    def check(self) -> None:
        """
        Return if the task is to go on; a long function in a thread should call it now and then.

        Raises:
            TaskCancelled: the caller no longer wants the result; let it pass, and the task ends as cancelled.
            SoftTimeLimit: the soft time limit is over; raised once, here or by `progress`.
        """
        if self._task.cancelled:
            raise TaskCancelled(Failure(Code.CANCELLED, WHILE_IT_RAN))
        if self._limits is not None:
            self._limits.check()

    def progress(self, fraction: float | None = None, note: str | None = None) -> None:
        """
        Tell the caller how far the task is; cheap, and silent unless the caller or somebody watches.

        Args:
            fraction: done so far, 0.0 to 1.0, or None where unknown.
            note: a few words for people.

        Raises:
            UsageError: for a fraction that is no number from 0 to 1, or a note that is no text.
            SoftTimeLimit: the soft time limit is over; raised once, here or by `check`.
        """
        if fraction is not None and (
            isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1
        ):
            raise UsageError(f"progress: fraction must be 0.0 to 1.0, not {fraction!r}")
        if note is not None and not isinstance(note, str):
            raise UsageError(f"progress: note must be text, not {note!r}")
        self._tell(self._task, fraction, note)
        if self._limits is not None:
            self._limits.check()


def current_task() -> CurrentTask:
    """
    Return the task that this code runs in.

    Raises:
        UsageError: outside a task.
    """
    now = running.get()
    if now is None or now.task is None:
        raise UsageError("current_task() was called outside a task")
    return CurrentTask(now.name, now.task, now.tell, now.limits)
