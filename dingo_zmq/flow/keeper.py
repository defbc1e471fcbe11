"""The results of an App that are settled at the caller, out of other results."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from dingo_zmq.errors import ArgumentError, BodyTooLarge, Closed, EncodeError
from dingo_zmq.listening import Events
from dingo_zmq.model import MAX_OPEN, Code, Failure
from dingo_zmq.pool import CallbackThread
from dingo_zmq.result import Result
from dingo_zmq.room import Room, always_waits

__all__ = ["Keeper", "failure_in", "placed"]


class Callbacks(Protocol):
    """What a keeper needs of an App that has started."""

    def call_soon(self, fn: Callable[..., object], /, *args: Any) -> None:
        """Run a user's callback; see `dingo_zmq.result.Owner`."""


class Keeper:
    """
    Has the flows of one App that are open, and the thread that sends what comes next in them.

    It is not the thread of the users' callbacks, since those may wait for a flow.

    Args:
        start: starts the App if need be, and tells `bound`; raises `Closed` where it is closed.
        events: hears of handlers that fail.
    """

    def __init__(self, start: Callable[[], Callbacks], events: Events) -> None:
        self._start, self._events = start, events
        self._callbacks: Callbacks | None = None
        self._open: set[Result[Any]] = set()
        self.bound(MAX_OPEN, "wait")
        self._thread = CallbackThread("flows")
        self._ids = itertools.count(1)
        self._closed = False

    def bound(self, max_open: int, full: str) -> None:
        """
        Keep to this bound; told before the first flow is admitted.

        Args:
            max_open: flows not settled at a time, beside the App's tasks; at the bound a call waits, or raises
                `Busy` in an event loop.  What a flow itself sends does not wait here.
            full: "wait", or "raise" where such a call raises `Busy` anywhere.
        """
        self._max_open, self._room = max_open, Room(max_open, full)

    def admit(self) -> None:
        """
        Return when one more flow may be opened.

        Raises:
            Busy: at the bound, in an event loop.
            Closed: the App is closed.
        """
        self._callbacks = self._start()
        if self._full() and not getattr(always_waits, "here", False):
            self._room.wait(self._full)
            self._start()

    def _full(self) -> bool:
        return len(self._open) >= self._max_open and not self._closed

    def opened(self, result: Result[Any]) -> None:
        """Take in a result that is settled here; see `admit`."""
        self._open.add(result)
        result._follow(self._ended)
        if self._closed:  # looked at last: `shut` says so first, and then settles what is open
            result._fail(_shutdown())

    def _ended(self, result: Result[Any]) -> None:
        self._open.discard(result)
        if self._room.waiting:
            self._room.freed()

    def new_id(self) -> str:
        """Return an id for a result that stands for no one task."""
        return str(next(self._ids))

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Run a user's callback on the App's callback thread."""
        assert self._callbacks is not None
        self._callbacks.call_soon(fn, *args)

    def handler_failed(self, result: Result[Any], error: Exception) -> None:
        """Tell that a handler of a result raised."""
        self._events.handler_failed(error, result.name, result.id, repr(result))

    def soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Run ``fn(*args)`` on the thread of the flows, in the order of these calls, without blocking."""
        self._thread.call_soon(_flowing, fn, args)

    def results(self) -> list[Result[Any]]:
        """Return the results not settled."""
        return list(self._open)

    def shut(self) -> None:
        """Settle what is open with FAIL/SHUTDOWN, now and from now on."""
        self._closed = True
        self._room.freed()
        for result in self.results():
            result._fail(_shutdown())

    def close(self, timeout: float) -> None:
        """Let the thread end, after `shut`, within `timeout` seconds."""
        self._thread.close(timeout)


def _flowing(fn: Callable[..., object], args: tuple[Any, ...]) -> None:
    always_waits.here = True
    fn(*args)


def _shutdown() -> Failure:
    return Failure(Code.SHUTDOWN, "the App was closed before the task was done")


def failure_in(exc: Exception) -> Failure:
    """Return what a result fails with whose task could not be sent."""
    code = Code.GENERIC
    if isinstance(exc, ArgumentError):
        code = Code.DECODE
    elif isinstance(exc, EncodeError | BodyTooLarge):
        code = Code.ENCODE
    elif isinstance(exc, Closed):
        code = Code.SHUTDOWN
    return Failure(code, str(exc), type(exc).__qualname__)


def placed(where: str, failure: Failure) -> Failure:
    """Return a failure whose message says where in a flow it was."""
    message = failure.message or ("" if failure.type else failure.code.name.lower())
    return replace(failure, message=f"{where}: {message}" if message else where)
