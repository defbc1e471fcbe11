"""Functions that yield: their values go out one by one, as fast as whoever reads them takes them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from dingo_zmq.errors import PeerError, SoftTimeLimit, TaskCancelled
from dingo_zmq.limits import WHILE_IT_RAN, Limits
from dingo_zmq.model import Code, Failure
from dingo_zmq.protocol.streams import Window
from dingo_zmq.waiting import Condition

if TYPE_CHECKING:
    import asyncio

__all__ = ["Gate", "check_called_as_it_is", "send_values", "send_values_in_loop"]

NOT_WELL = "a function that yields did not end well when it was stopped"
_log = logging.getLogger("dingo_zmq.node")


class Cancellable(Protocol):
    """A task that somebody may not want any more."""

    cancelled: bool


class Gate:
    """
    Holds a function back while its reader is too far behind; any thread may open it.

    Args:
        task: waits no longer once it is cancelled; whoever cancels it calls `look`.

    Attributes:
        waiting: whether the function waits here.
    """

    def __init__(self, task: Cancellable) -> None:
        self._task, self._window = task, Window()
        self._changed = Condition()
        self._bell: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._left = False
        self.waiting = False

    def put(self, size: int) -> None:
        """A value of so many bytes goes out."""
        with self._changed:
            self._window.put(size)

    def take(self, total: int) -> None:
        """The reader has taken so many values in all."""
        with self._changed:
            self._window.take(total)
        self.look()

    def leave(self) -> bool:
        """Have the function stopped if it waits here; return whether it does."""
        with self._changed:
            self._left = self.waiting
        self.look()
        return self._left

    def look(self) -> None:
        """Have the function look whether it still has to wait."""
        with self._changed:
            self._changed.notify_all()
            bell = self._bell
        if bell is not None:
            loop, event = bell
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:
                if not loop.is_closed():
                    raise

    def _shut(self) -> bool:
        return self._window.full and not self._task.cancelled and not self._left

    def _check(self) -> None:
        if self._task.cancelled or self._left:
            raise TaskCancelled(Failure(Code.CANCELLED, WHILE_IT_RAN))

    def wait(self, seconds: float | None = None) -> None:
        """
        Wait until the next value may be made, or some seconds have passed.

        Raises:
            TaskCancelled: nobody wants it.
        """
        with self._changed:
            self.waiting = True
            self._changed.wait_for(lambda: not self._shut(), seconds)
            self.waiting = False
        self._check()

    async def wait_in_loop(self) -> None:
        """The same, for a coroutine."""
        if self._shut():
            import asyncio

            loop, event = asyncio.get_running_loop(), asyncio.Event()
            self._bell, self.waiting = (loop, event), True
            try:
                while self._shut():
                    await event.wait()
                    event.clear()
            finally:
                self._bell, self.waiting = None, False
        self._check()


def check_called_as_it_is(name: str, *, yields: bool, stream: bool) -> None:
    """
    Check that a function was called as what it is.

    Raises:
        PeerError: it yields and its caller does not take values, or the other way round.
    """
    if yields and not stream:
        raise PeerError(f"{name} yields its values; hint: stream instead of call")
    if stream and not yields:
        raise PeerError(f"{name} does not yield; hint: call instead of stream")


def send_values(values: Any, put: Callable[[Any], int], gate: Gate, limits: Limits | None) -> None:
    """
    Hand on what a function yields, value by value, and close it in the end.

    A soft time limit that is over is raised where the function yields.

    Args:
        values: what the function gave: a generator, or anything to iterate over.
        put: sends a value and returns its size, bytes.
        gate: holds the function back.
        limits: of the task.

    Raises:
        TypeError: there is nothing to iterate over.
        TaskCancelled: nobody wants the rest.
    """
    try:
        steps: Iterator[Any] = iter(values)
    except TypeError:
        raise TypeError(f"it is to yield values, and returned {type(values).__qualname__}") from None
    over: SoftTimeLimit | None = None
    try:
        while True:
            try:
                value = next(steps) if over is None else steps.throw(over)  # type: ignore[attr-defined]
            except StopIteration:
                return
            gate.put(put(value))
            gate.wait(None if limits is None else limits.soft_left)
            over = None if limits is None else _soft_limit(limits, steps)
    finally:
        _close(steps)


def _close(steps: Iterator[Any]) -> None:
    """End a generator that was not read to its end; what it makes of that does not matter to its task."""
    try:
        getattr(steps, "close", _nothing)()
    except Exception:
        _log.exception(NOT_WELL)


def _nothing() -> None:
    """Stand for the `close` of what has none."""


def _soft_limit(limits: Limits, steps: Iterator[Any]) -> SoftTimeLimit | None:
    """Return what is to be raised in a generator; what is none is ended."""
    try:
        limits.check()
    except SoftTimeLimit as exc:
        if not hasattr(steps, "throw"):
            raise
        return exc
    return None


async def send_values_in_loop(values: Any, put: Callable[[Any], int], gate: Gate) -> None:
    """The same for asynchronous generators, and coroutines that give one; limits are seen to elsewhere."""
    if hasattr(values, "__await__"):
        values = await values
    if not hasattr(values, "__aiter__"):
        raise TypeError(f"it is to yield values asynchronously, and returned {type(values).__qualname__}")
    steps: AsyncIterator[Any] = aiter(values)
    try:
        async for value in steps:
            gate.put(put(value))
            await gate.wait_in_loop()
    finally:
        try:
            if (close := getattr(steps, "aclose", None)) is not None:
                await close()
        except Exception:
            _log.exception(NOT_WELL)
