"""What is to be done later: one thread, started when first needed, that calls what is due."""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable
from time import monotonic

from dingo_zmq.waiting import Condition

__all__ = ["Later"]

LOOK_SECONDS = 3600.0
_log = logging.getLogger(__name__)


class Later:
    """
    Calls functions at their time, each of them short, one after the other.

    Args:
        name: for the thread's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._items: list[tuple[float, int, Callable[[], object]]] = []
        self._added = 0
        self._changed = Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def after(self, seconds: float, fn: Callable[[], object]) -> None:
        """Have ``fn()`` called in so many seconds; what it raises is logged.  After `close` it is not called."""
        with self._changed:
            if self._closed:
                return
            self._added += 1
            heapq.heappush(self._items, (monotonic() + seconds, self._added, fn))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"dingo-{self._name}", daemon=True)
                self._thread.start()
            elif self._items[0][1] == self._added:
                self._changed.notify()

    def close(self, timeout: float) -> None:
        """Forget what is to be done, and end the thread within `timeout` seconds."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        while (fn := self._next()) is not None:
            try:
                fn()
            except Exception:
                _log.exception("%s stumbled", self._name)

    def _next(self) -> Callable[[], object] | None:
        """Wait for what is to be called next, and return it; None at the end."""
        with self._changed:
            while not self._closed:
                left = self._items[0][0] - monotonic() if self._items else LOOK_SECONDS
                if left <= 0:
                    return heapq.heappop(self._items)[2]
                self._changed.wait(min(left, LOOK_SECONDS))
        return None
