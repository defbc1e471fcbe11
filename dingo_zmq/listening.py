"""Where the events of one App come together: each is logged, and offered to whoever listens."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from time import time
from typing import TYPE_CHECKING, Any

from dingo_zmq.errors import Closed, UsageError
from dingo_zmq.events import Event, EventCode, Level, Origin
from dingo_zmq.model import Code, Failure, plain
from dingo_zmq.waiting import Condition

if TYPE_CHECKING:
    import asyncio

__all__ = ["EventStream", "Events"]

SIZE = 1000
"""events that a stream keeps for its reader, unless told"""
TOLD_MOST = 200
"""characters of a failure's message"""

_NOBODY = len(Level)
_LOG_LEVELS = [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR]
_LOGS = {
    Origin.CALLER: logging.getLogger("dingo_zmq.caller"),
    Origin.NODE: logging.getLogger("dingo_zmq.node"),
    Origin.WORKER: logging.getLogger("dingo_zmq.node"),
    Origin.HANDLER: logging.getLogger("dingo_zmq.result"),
}
_log = logging.getLogger(__name__)


class Events:
    """
    The events of one App.  Any thread may tell and listen; telling never waits for who listens.

    Args:
        start: starts the App; called when somebody waits for an event.

    Attributes:
        call_soon: runs callbacks on the App's callback thread, once the App has started.
    """

    def __init__(self, start: Callable[[], object] = lambda: None) -> None:
        self.start = start
        self.call_soon: Callable[..., object] = lambda fn, *args: None
        self._cause = ""  # why there will be no more
        self._streams: tuple[EventStream, ...] = ()
        self._least = _NOBODY  # the lowest level that somebody listens to
        self._lock = threading.Lock()

    def hears(self, origin: Origin, level: Level) -> bool:
        """Whether anybody may want such an event, the log among them; whoever tells many should ask before."""
        return level >= self._least or _LOGS[origin].isEnabledFor(_LOG_LEVELS[level])

    def tell(self, origin: Origin, level: Level, code: EventCode, text: str, **details: Any) -> None:
        """
        Log an event, with a traceback where it is an error, and offer it to whoever listens.

        Args:
            details: what else an `Event` has, but for its time.
        """
        log, log_level = _LOGS[origin], _LOG_LEVELS[level]
        if log.isEnabledFor(log_level):
            log.log(log_level, "%s", text, exc_info=details.get("error") if level is Level.ERROR else None)
        if level < self._least:
            return
        event = Event(origin, level, code, text, time(), **details)
        for stream in self._streams:
            if level >= stream.level and origin in stream.origins:
                stream._offer(event)

    def failed(self, failure: Failure, name: str, id: str, *, error: BaseException, caller: str = "") -> None:
        """Tell that a task failed where it ran."""
        if not self.hears(Origin.WORKER, Level.INFO):
            return
        first = failure.message.partition("\n")[0]
        said = plain(": ".join(filter(None, [failure.type, first])), most=TOLD_MOST)
        code = EventCode.DECODE if failure.code is Code.DECODE else EventCode.FAILED
        text = f"task {name} id {plain(id)} failed: {said}"
        self.tell(Origin.WORKER, Level.INFO, code, text, name=name, id=id, error=error, caller=caller)

    def handler_failed(self, error: BaseException, name: str, id: str, whose: str) -> None:
        """Tell that a handler of the result of a task raised."""
        said = plain(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", most=TOLD_MOST)
        text = f"a callback of {whose} failed: {said}"
        self.tell(Origin.HANDLER, Level.ERROR, EventCode.HANDLER, text, name=name, id=id, error=error)

    def listen(
        self,
        origins: Origin | str | Iterable[Origin | str] | None,
        level: Level,
        callback: Callable[[Event], object] | None,
        size: int,
    ) -> EventStream:
        """Return a stream of events from now on; see `App.listen`."""
        if level not in list(Level):
            names = ", ".join(f"Level.{each.name}" for each in Level)
            raise UsageError(f"listen: level must be one of {names}, not {level!r}")
        if callback is not None and not callable(callback):
            raise UsageError(f"listen: callback must be callable, not {callback!r}")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UsageError(f"listen: size must be a whole number of at least 1, not {size!r}")
        stream = EventStream(self, _checked(origins), Level(level), callback, size)
        with self._lock:
            if self._cause:
                raise Closed(self._cause)
            self._set((*self._streams, stream))
        return stream

    def _set(self, streams: tuple[EventStream, ...]) -> None:
        self._streams = streams
        self._least = min((stream.level for stream in streams), default=_NOBODY)

    def _remove(self, stream: EventStream) -> None:
        with self._lock:
            self._set(tuple(each for each in self._streams if each is not stream))

    def close(self, cause: str = "this App is closed") -> None:
        """End all streams: their readers get what is there, and no more; `cause` is for those who come later."""
        with self._lock:
            self._cause = self._cause or cause
        for stream in self._streams:
            stream.close()


def _checked(origins: Origin | str | Iterable[Origin | str] | None) -> frozenset[Origin]:
    if origins is None:
        return frozenset(Origin)
    wanted = [origins] if isinstance(origins, str) or not isinstance(origins, Iterable) else list(origins)
    known = {str(origin) for origin in Origin}
    for each in wanted:
        if not isinstance(each, str) or each not in known:
            raise UsageError(f"listen: unknown origin {each!r}; there are: {', '.join(Origin)}")
    if not wanted:
        raise UsageError(f"listen: no origin is named, so nothing would be heard; there are: {', '.join(Origin)}")
    return frozenset(Origin(each) for each in wanted)


class EventStream(Iterator[Event], AsyncIterator[Event]):
    """
    Events as they happen, for ``for`` or ``async for``, made by `App.listen`.

    It ends when it is closed, or its App is.  Several readers share its events; each goes to one of them.

    Attributes:
        origins, level: what it hears: these, and events of this level or above.
        dropped: how many events did not fit any more, since nobody took those before.
    """

    def __init__(
        self,
        events: Events,
        origins: frozenset[Origin],
        level: Level,
        callback: Callable[[Event], object] | None,
        size: int,
    ) -> None:
        """See `App.listen`."""
        self.origins, self.level = origins, level
        self.dropped = 0
        self._events, self._callback, self._size = events, callback, size
        self._waiting: deque[Event] = deque()
        self._changed = Condition()
        self._bells: list[asyncio.Future[None]] = []
        self._called = False  # whether the callback thread is about to look
        self._closed = False

    # ------------------------------------------------------------------ who reads

    def get(self, timeout: float | None = None) -> Event:
        """
        Return the next event, waiting for it if need be.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes.

        Raises:
            TimeoutError: none came in time.
            Closed: the stream is closed, and empty.
            UsageError: the events go to a callback.
        """
        self._begin()
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout)
            if self._waiting:
                return self._waiting.popleft()
            if self._closed:
                raise Closed("this stream of events is closed")
        raise TimeoutError(f"no event within {timeout:g} s")

    def __iter__(self) -> EventStream:
        """Return itself."""
        return self

    def __next__(self) -> Event:
        """Return the next event, waiting for it if need be."""
        try:
            return self.get()
        except Closed:
            raise StopIteration from None

    def __aiter__(self) -> EventStream:
        """Return itself."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event, waiting for it in the running asyncio loop if need be."""
        import asyncio  # not everybody has a loop

        self._begin()
        while True:
            with self._changed:
                if self._waiting:
                    return self._waiting.popleft()
                if self._closed:
                    raise StopAsyncIteration
                bell = asyncio.get_running_loop().create_future()
                self._bells.append(bell)
            try:
                await bell
            finally:
                with self._changed, contextlib.suppress(ValueError):
                    self._bells.remove(bell)

    def _begin(self) -> None:
        if self._callback is not None:
            raise UsageError("this stream has a callback, to which its events go; hint: listen() without one")
        if not self._closed:
            with contextlib.suppress(Closed):  # the App is about to end this stream; what is there is still read
                self._events.start()

    def close(self) -> None:
        """Hear nothing more; what is there already can still be read.  Calling it again does nothing."""
        self._events._remove(self)
        with self._changed:
            self._closed = True
            self._tell_readers()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"from {self.level.name}"
        return f"<EventStream {state}: {len(self._waiting)} waiting, {self.dropped} dropped>"

    # ------------------------------------------------------------------ who tells

    def _offer(self, event: Event) -> None:
        with self._changed:
            if self._closed:
                return
            if len(self._waiting) >= self._size:
                self.dropped += 1
                return
            self._waiting.append(event)
            if self._callback is None:
                self._tell_readers()
                return
            called, self._called = self._called, True
        if not called:
            self._events.call_soon(self._call)

    def _tell_readers(self) -> None:
        self._changed.notify_all()
        for bell in self._bells:
            with contextlib.suppress(RuntimeError):  # its loop was closed: nobody waits any more
                bell.get_loop().call_soon_threadsafe(_ring, bell)
        self._bells.clear()

    def _call(self) -> None:
        """Give the events that wait to the callback; run by the callback thread."""
        assert self._callback is not None
        while True:
            with self._changed:
                if not self._waiting:
                    self._called = False
                    return
                event = self._waiting.popleft()
            try:
                self._callback(event)
            except Exception:
                _log.exception("a listener failed at the event %r", event.text)  # no event: it would fail again


def _ring(bell: asyncio.Future[None]) -> None:
    if not bell.done():
        bell.set_result(None)
