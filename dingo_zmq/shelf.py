"""Reports that wait for whoever polls them."""

from __future__ import annotations

import logging
import threading
from collections import deque

from dingo_zmq.errors import UsageError
from dingo_zmq.model import plain
from dingo_zmq.ports import Heard, ReportPacket, Taken

__all__ = ["KEPT_TASKS", "Shelf"]

KEPT_TASKS = 10_000
"""tasks nobody polls whose reports are kept; the oldest go first"""

Key = tuple[str, str]
_log = logging.getLogger(__name__)


class _Place:
    """One task's reports: those that nobody has heard yet, and who is to hear them."""

    __slots__ = ("heard", "kept", "telling")

    def __init__(self) -> None:
        self.heard: Heard | None = None
        self.kept: deque[ReportPacket] = deque()
        self.telling = False


class Shelf:
    """
    Brings reports and those who poll together, whichever comes first; any thread may use it.

    Args:
        most: tasks that nobody polls whose reports are kept.

    Attributes:
        dropped: how many tasks' reports were dropped, since nobody polled them.
    """

    def __init__(self, most: int = KEPT_TASKS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._places: dict[Key, _Place] = {}
        self._unpolled: dict[Key, None] = {}
        self._hearers: dict[object, Taken] = {}
        self.dropped = 0

    def taken(self, name: str, id: str, total: int) -> None:
        """See `ports.TellsTaken.taken`."""
        with self._lock:
            hearers = list(self._hearers.values())
        for hear in hearers:
            hear(name, id, total)

    def hear_taken(self, whose: object, taken: Taken | None) -> None:
        """Have `taken` called with how far readers are; with None, what was given for `whose` no more."""
        with self._lock:
            self._hearers.pop(whose, None)
            if taken is not None:
                self._hearers[whose] = taken

    def put(self, report: ReportPacket) -> None:
        """Bring a report to whoever polls its task, or keep it."""
        key = report.name, report.id
        with self._lock:
            place = self._places.get(key)
            if place is None:
                place = self._places[key] = _Place()
                self._unpolled[key] = None
                self._make_room()
            place.kept.append(report)
        self._tell(place)

    def poll(self, name: str, id: str, heard: Heard) -> None:
        """See `ports.Store.poll`."""
        key = name, id
        with self._lock:
            place = self._places.setdefault(key, _Place())
            if place.heard is not None:
                raise UsageError(f"task {plain(id)} of {plain(name)} is polled already; hint: call done() first")
            self._unpolled.pop(key, None)
            place.heard = heard
        self._tell(place)

    def done(self, name: str, id: str) -> None:
        """See `ports.Store.done`."""
        key = name, id
        with self._lock:
            self._unpolled.pop(key, None)
            place = self._places.pop(key, None)
            if place is not None:
                place.heard = None
                place.kept.clear()

    def _make_room(self) -> None:
        while len(self._unpolled) > self._most:
            oldest = next(iter(self._unpolled))
            del self._unpolled[oldest], self._places[oldest]
            self.dropped += 1

    def _tell(self, place: _Place) -> None:
        """Hand over what is kept, by one thread at a time, so that it stays in order; without the lock."""
        with self._lock:
            if place.telling:
                return
            place.telling = True
        while True:
            with self._lock:
                heard = place.heard
                if heard is None or not place.kept:
                    place.telling = False
                    return
                report = place.kept.popleft()
            try:
                heard(report)
            except Exception:
                _log.exception("who polls task %s of %s stumbled", plain(report.id), plain(report.name))
