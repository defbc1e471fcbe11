"""What a caller holds of a task that yields: its values, as they come."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn, Self, TypeVar

from dingo_zmq.errors import UsageError
from dingo_zmq.model import Report
from dingo_zmq.protocol.streams import Reading
from dingo_zmq.result import Door, Following, Result

__all__ = ["Stream", "StreamOwner", "handing_out"]

T = TypeVar("T")


class Stream(Following[T]):
    """
    What one task yields, value by value, for ``for`` or ``async for``.

    Its function is kept back while the reader is behind by more than a few dozen values.  So whoever takes no more
    of them, and keeps the stream, keeps a worker busy: ``close()``, the end of a ``with``, and letting go of the
    stream stop the function.  Where the task fails its values come first, and then its error is raised.

    Not for several threads at once.  After a `TimeoutError` the iteration may go on.

    Attributes:
        last: the report that brought the value returned last, None before the first.
    """

    __slots__ = ("__weakref__", "_came", "_due", "_reading", "_tell", "last")

    def __init__(self, result: Result[int], reading: Reading, tell: Callable[[], object]) -> None:
        """Make one; only an App does.  `tell` is called when it should be told at once how many were taken."""
        super().__init__(result, None)
        self._reading, self._tell = reading, tell
        self._came: deque[tuple[Report, int]] = deque()
        self._due = False
        self.last: Report | None = None

    @property
    def result(self) -> Result[int]:
        """The result of the task; its value, in the end, is how many values there were."""
        result: Result[int] = self._result
        return result

    @property
    def timeout(self) -> float | None:
        """Seconds to wait at most for each next value; None, as at first, waits as long as it takes."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float)):
            raise UsageError(f"timeout must be a number of seconds, or None, not {seconds!r}")
        self._timeout = seconds

    def put(self, report: Report, size: int) -> None:
        """Bring a value of so many bytes.  Only an App does, from any thread."""
        door = self._result._reach()
        with door.condition:
            if not self._over:
                self._came.append((report, size))
                door.ring()

    def _ready(self, door: Door) -> bool:
        return bool(self._came) or self._over or door.ended

    def _take(self, door: Door) -> tuple[T, ...] | None:
        if not self._came:
            return () if self._over or door.ended else None
        self.last, size = self._came.popleft()
        self._due = self._reading.took(size)
        return (self.last.value,)

    def _taken(self, found: tuple[T, ...] | None, stop: type[Exception]) -> T:
        if found == () and not self._over:
            self._over = True
            self._result.result(0)
        elif self._due:
            self._due = False
            self._tell()
        return super()._taken(found, stop)

    def close(self) -> None:
        """Take no more: what has come is thrown away, and the function is stopped if it runs.  Any thread may."""
        door = self._result._reach()
        with door.condition:
            self._over = True
            self._came.clear()
            door.ring()
        if not self._result.done():
            self._result.cancel(running=True)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __del__(self) -> None:
        """Close it, since nobody is going to take the rest."""
        self.close()

    def __reduce__(self) -> NoReturn:
        """
        Refuse to be pickled or copied.

        Raises:
            UsageError: always.
        """
        raise UsageError("a Stream cannot be pickled or copied; pass on its values")

    def __repr__(self) -> str:
        """Return the task and how far its reader is."""
        return f"<Stream {self._result!r}, {self._reading.taken} taken>"


class StreamOwner:
    """
    The owner of a result whose values are read as they come.

    Attributes:
        reading: how far the reader is.
        stream: what the program has, as long as it holds it.
    """

    def open_stream(self, result: Result[Any], tell: Callable[[], object]) -> None:
        """Get ready for values; `tell` as for `Stream`."""
        self.reading = Reading()
        self._fresh: Stream[Any] | None = Stream(result, self.reading, tell)
        self.stream = weakref.ref(self._fresh)

    def hand_out(self) -> Stream[Any]:
        """Return the stream, once; who has it keeps it alive."""
        stream, self._fresh = self._fresh, None
        assert stream is not None
        return stream


def handing_out(
    submit: Callable[[tuple[Any, ...], dict[str, Any]], Result[Any]],
) -> Callable[[tuple[Any, ...], dict[str, Any]], Stream[Any]]:
    """Return what sends tasks by `submit`, whose results have a `StreamOwner`, and gives their streams."""

    def submit_stream(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stream[Any]:
        owner: Any = submit(args, kwargs)._owner
        stream: Stream[Any] = owner.hand_out()
        return stream

    return submit_stream
