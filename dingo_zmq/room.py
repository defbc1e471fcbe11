"""The bounds on open tasks: where calls wait, or are turned away."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Protocol

from dingo_zmq.errors import Busy, Closed
from dingo_zmq.waiting import Condition

__all__ = ["Room", "Space", "always_waits"]

LOOK_SECONDS = 1.0

always_waits = threading.local()
"""`.here` is set in the threads that send what comes next in flows: those were admitted before"""


class Room:
    """
    Lets calls wait while too many tasks are open.

    Args:
        most: tasks that may be open at a time.
        full: "wait", or "raise" where a call is to raise `Busy` rather than wait.
        what: what there are too many of, and `setting` the argument of an App that says how many there may be.

    Attributes:
        most: how many may be open.
        waiting: how many calls wait; only then need `freed` be called.
    """

    def __init__(
        self, most: int, full: str = "wait", what: str = "tasks are open", setting: str = "max_open"
    ) -> None:
        self.waiting = 0
        self.most, self._full, self._what, self._setting = most, full, what, setting
        self._changed = Condition()

    def wait(self, full: Callable[[], bool], *, may_block: bool = True) -> None:
        """
        Return when there is room.

        Args:
            full: whether there is none; asked again whenever a task was settled.
            may_block: whether the calling thread may wait, as far as the caller of this knows.

        Raises:
            Busy: where the calling thread may not wait, in an event loop for one, or is told not to.
        """
        if not may_block or _in_event_loop():
            raise self._busy("call() may not wait in an event loop", "await some of the results first")
        if self._full == "raise" and not getattr(always_waits, "here", False):
            if not full():
                return
            raise self._busy('call() is not to wait (full="raise")', "wait for some of the results first")
        with self._changed:
            try:
                self.waiting += 1
                while full():
                    self._changed.wait(LOOK_SECONDS)
            finally:
                self.waiting -= 1

    def _busy(self, why: str, first: str) -> Busy:
        return Busy(
            f"{self.most:,} {self._what}, and {why}; hint: {first}, or give the App a larger {self._setting}"
        )

    def freed(self) -> None:
        """A task was settled, or the App is closed."""
        with self._changed:
            self._changed.notify_all()


class HasLarge(Protocol):
    """A task: `large` are the bytes of its body, once they count as open."""

    large: int


class Space:
    """
    The bound on the bytes of large bodies that are open; one body alone always fits.

    Args:
        most: bytes at a time.
        full: as for a `Room`.

    Attributes:
        taken: bytes at the moment.
    """

    def __init__(self, most: int, full: str) -> None:
        self.taken = 0
        self._most = most
        self._room = Room(most, full, "bytes of large arguments are open", "max_open_bytes")
        self._taking = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return self._room.waiting

    def take(self, size: int, task: HasLarge, closed: Callable[[], str], *, may_block: bool = True) -> None:
        """
        Return when there is space for a body, which it has from then on.

        Args:
            size: bytes of it.
            task: whose body it is; its `large` is set in the same step as the space is taken.
            closed: why there will never be any, "" where there will.
            may_block: as for `Room.wait`.

        Raises:
            Busy: as `Room.wait`.
            Closed: as `closed` says.
        """

        def full() -> bool:
            return self.taken > 0 and self.taken + size > self._most and not closed()

        while True:
            with self._taking:
                if cause := closed():
                    raise Closed(cause)
                if not full():
                    self.taken += size  # nothing is called in between, so no signal's exception comes there
                    task.large = size
                    return
            self._room.wait(full, may_block=may_block)

    def give(self, size: int) -> None:
        """A body is open no more."""
        with self._taking:
            self.taken -= size
        if self._room.waiting:
            self._room.freed()

    def freed(self) -> None:
        """The App is closed."""
        self._room.freed()


def _in_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
