"""A thread that notices when the time of something is over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

from dingo_zmq.waiting import Condition

__all__ = ["Watchdog"]

T = TypeVar("T")


class Watchdog(Generic[T]):
    """
    Watches jobs that may take only so long; its thread is started with the first of them.

    Args:
        name: of its thread.
        over: called with a job whose time is over, the thread that watched it begin, and its limit in seconds.
    """

    def __init__(self, name: str, over: Callable[[T, threading.Thread, float], None]) -> None:
        self._name, self._over = name, over
        self._jobs: dict[T, tuple[float, threading.Thread, float | None]] = {}
        self._changed = Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, job: T, seconds: float | None) -> None:
        """The calling thread begins a job that may take so long; None for ever."""
        end = float("inf") if seconds is None else monotonic() + seconds
        with self._changed:
            self._jobs[job] = end, threading.current_thread(), seconds
            if seconds is None:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()

    def forget(self, job: T) -> bool:
        """A job is done; return False where its time was over before."""
        with self._changed:
            return self._jobs.pop(job, None) is not None

    def close(self) -> None:
        """Watch no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                due = self._take_due()
                while not due:
                    if self._closed:
                        return
                    soonest = min((end for end, _, _ in self._jobs.values()), default=float("inf"))
                    self._changed.wait(min(soonest - monotonic(), threading.TIMEOUT_MAX))
                    due = self._take_due()
            for job, thread, seconds in due:
                self._over(job, thread, seconds)

    def _take_due(self) -> list[tuple[T, threading.Thread, float]]:
        now = monotonic()
        due = [
            (job, thread, seconds)
            for job, (end, thread, seconds) in self._jobs.items()
            if now >= end and seconds is not None
        ]
        for job, _, _ in due:
            del self._jobs[job]
        return due
