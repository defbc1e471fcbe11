"""The bound on open tasks: where calls wait, or are turned away."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from dingo_zmq.errors import Busy

__all__ = ["Room"]

LOOK_SECONDS = 1.0


class Room:
    """
    Lets calls wait while too many tasks are open.

    Args:
        most: tasks that may be open at a time.

    Attributes:
        waiting: how many calls wait; only then need `freed` be called.
    """

    def __init__(self, most: int) -> None:
        self.waiting = 0
        self._most = most
        self._changed = threading.Condition()

    def wait(self, full: Callable[[], bool], *, may_block: bool = True) -> None:
        """
        Return when there is room.

        Args:
            full: whether there is none; asked again whenever a task was settled.
            may_block: whether the calling thread may wait, as far as the caller of this knows.

        Raises:
            Busy: where the calling thread may not wait: in an event loop, for one.
        """
        if not may_block or _in_event_loop():
            raise Busy(
                f"{self._most:,} tasks are open, and call() may not wait in an event loop; "
                "hint: await some of the results first, or give the App a larger max_open"
            )
        with self._changed:
            self.waiting += 1
            try:
                while full():
                    self._changed.wait(LOOK_SECONDS)
            finally:
                self.waiting -= 1

    def freed(self) -> None:
        """A task was settled, or the App is closed."""
        with self._changed:
            self._changed.notify_all()


def _in_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
