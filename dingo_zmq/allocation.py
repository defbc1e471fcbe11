"""Workers that one function has to itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dingo_zmq.errors import UsageError
from dingo_zmq.registry import Function

__all__ = ["Allocation", "Own", "check_count"]


def check_count(name: str, count: int) -> int:
    """
    Return a number of workers for a function, if it can be one.

    Raises:
        UsageError: it cannot.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise UsageError(f"allocate {name}: count must be at least 1, not {count!r}")
    return count


class Allocation:
    """
    The workers of one function, as `App.allocate` gave them to it.

    Attributes:
        name: the function.
        share: so many of its workers use one report channel of a `Reporter`, 0: all of them; see `App.allocate`.
    """

    def __init__(
        self, name: str, count: int, share: int, resize: Callable[[int], None], started: Callable[[], int]
    ) -> None:
        self.name, self.share = name, share
        self._count, self._resize, self._started = count, resize, started

    @property
    def count(self) -> int:
        """How many workers the function has."""
        return self._count

    @property
    def remaining(self) -> int:
        """
        How many of them have not been started: they are as tasks come.

        Always `count` where this process does not run the function, and 0 for a coroutine function that it runs,
        whose workers are turns on an event loop.
        """
        return max(0, self._count - self._started())

    def resize(self, count: int) -> None:
        """
        Give the function another number of workers, at any time; in remote mode before it is served.

        Surplus workers end when they have finished the task they have; a node tells its callers.

        Raises:
            UsageError: for a count below 1, or in remote mode where it is served already.
        """
        self._resize(check_count(self.name, count))
        self._count = count

    def __repr__(self) -> str:
        return f"<Allocation {self.name}: {self._count}>"


class Own:
    """
    What each worker of a function calls: its own callable, made by the factory when it first needs it.

    Args:
        function: with a factory in its settings.
    """

    def __init__(self, function: Function) -> None:
        self._function, self._factory = function, function.settings["factory"]
        self._mine = threading.local()

    def get(self) -> Function:
        """Return the function with what this thread is to call; where making it fails, calling it fails."""
        mine: Function | None = getattr(self._mine, "function", None)
        if mine is None:
            try:
                mine = self._mine.function = replace(self._function, callable=self._made())
            except Exception as exc:
                return replace(self._function, callable=_raising(exc))
        return mine

    def _made(self) -> Callable[..., Any]:
        made = self._factory()
        if not callable(made):
            raise UsageError(
                f"allocate {self._function.name}: what its factory returns must be callable, not {made!r}"
            )
        result: Callable[..., Any] = made
        return result


def _raising(exc: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise exc

    return fail
