"""Coroutines that run as tasks: how they are cancelled, and how they hear that their soft time limit is over."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any

from dingo_zmq.errors import SoftTimeLimit
from dingo_zmq.limits import Limits

__all__ = ["Helm"]


class _SoftTimeLimit(SoftTimeLimit, asyncio.CancelledError):
    """What goes through a coroutine: for asyncio, and whatever is built on it, it is a cancellation."""


_SoftTimeLimit.__name__ = _SoftTimeLimit.__qualname__ = "SoftTimeLimit"
_SoftTimeLimit.__module__ = SoftTimeLimit.__module__


class Helm:
    """Knows which asyncio task runs which job.  Used by the thread of one event loop, unless it says so."""

    def __init__(self) -> None:
        self._at_work: dict[Any, asyncio.Task[Any]] = {}

    def begin(self, job: Any) -> None:
        """The running asyncio task does a job from now on."""
        current = asyncio.current_task()
        assert current is not None
        self._at_work[job] = current

    def end(self, job: Any) -> None:
        """The job is done; the asyncio task may do another one, to which no cancellation clings."""
        current = self._at_work.pop(job)
        while current.cancelling():
            current.uncancel()

    def cancel(self, job: Any) -> None:
        """Raise a cancellation in the coroutine of a job, where it still runs."""
        current = self._at_work.get(job)
        if current is not None:
            current.cancel()

    def busy_with(self, job: Any) -> bool:
        """Return whether a job still runs; any thread may ask."""
        return job in self._at_work

    @staticmethod
    def steered(work: Any, limits: Limits | None) -> Any:
        """Return what to await for a coroutine, so that it hears when its soft limit is over."""
        return work if limits is None or limits.soft is None else _within(limits, work)


@coroutine
def _within(limits: Limits, steps: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Run a coroutine; where its soft limit is over it hears `SoftTimeLimit` at its await."""
    loop, current = asyncio.get_running_loop(), asyncio.current_task()
    assert current is not None
    assert limits.soft is not None

    def expire() -> None:
        if limits.expire():
            current.cancel()

    timer = loop.call_later(limits.soft, expire)
    step, given = steps.send, None
    try:
        while True:
            awaited = step(given)
            try:
                given = yield awaited
                step = steps.send
            except asyncio.CancelledError as exc:
                step, given = steps.throw, exc
                if limits.due:
                    limits.due = False
                    current.uncancel()
                    given = _SoftTimeLimit(limits.words)
            except BaseException as exc:
                step, given = steps.throw, exc
    except StopIteration as end:
        return end.value
    finally:
        timer.cancel()
