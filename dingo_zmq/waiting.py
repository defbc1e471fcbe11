"""
What threads wait for, left in order by a KeyboardInterrupt that comes at any instruction.

`threading.Condition` is written in Python: an interrupt may come when it has its lock, and the ``with`` block has
not begun.  Then the lock is never released, and the thread that does all I/O waits for it for ever.  Here the lock
is taken and released by C code, as that of a `threading.Lock` is; Python looks for signals after calls alone.
"""

from __future__ import annotations

import contextlib
from _thread import RLock, allocate_lock
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Generic, TypeVar

__all__ = ["Answer", "Condition", "Event"]

T = TypeVar("T")


class Condition(RLock):  # type: ignore[misc]  # which is said to be final, and is not
    """A `threading.Condition`; to be waited for by who has taken it once."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: deque[Any] = deque()  # locks

    def wait(self, timeout: float | None = None) -> bool:
        """Let go of the lock until somebody notifies; return False if `timeout` seconds pass before."""
        waiter = allocate_lock()
        waiter.acquire()
        self._waiters.append(waiter)
        notified = False
        try:
            self.release()
            notified = waiter.acquire(True, -1 if timeout is None else max(0.0, timeout))  # noqa: FBT003
        finally:
            self.acquire()
            if not notified:
                with contextlib.suppress(ValueError):
                    self._waiters.remove(waiter)
        return notified

    def wait_for(self, true: Callable[[], T], timeout: float | None = None) -> T:
        """Wait until `true` says so, or `timeout` seconds have passed; return what it says last."""
        end = None if timeout is None else monotonic() + timeout
        while not (said := true()):
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return said

    def notify(self, count: int = 1) -> None:
        """Wake some who wait; whoever calls this has the lock."""
        while count > 0 and self._waiters:
            self._waiters.popleft().release()
            count -= 1

    def notify_all(self) -> None:
        """Wake all who wait."""
        self.notify(len(self._waiters))


class Event:
    """A `threading.Event` that is never cleared."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._set = False

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._set

    def set(self) -> None:
        """Let all go on who wait."""
        with self._changed:
            self._set = True
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; return whether it is."""
        with self._changed:
            return self._changed.wait_for(self.is_set, timeout)


class Answer(Generic[T]):
    """What another thread is asked for."""

    def __init__(self) -> None:
        self._there = Event()
        self._value: T
        self._error: BaseException | None = None

    def done(self) -> bool:
        """Whether it is there."""
        return self._there.is_set()

    def give(self, value: T) -> None:
        """Answer."""
        self._value = value
        self._there.set()

    def fail(self, error: BaseException) -> None:
        """Answer with an exception."""
        self._error = error
        self._there.set()

    def get(self, timeout: float) -> T:
        """
        Return it, or raise its exception.

        Raises:
            TimeoutError: it is not there within `timeout` seconds.
        """
        if not self._there.wait(timeout):
            raise TimeoutError(f"no answer within {timeout:g} s")
        if self._error is not None:
            raise self._error
        return self._value
