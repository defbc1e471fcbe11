"""What a node tells its own people of callers that it does not let in: not too often, since anybody can knock."""

from __future__ import annotations

from dingo_zmq.events import EventCode, Level
from dingo_zmq.model import counted, plain
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.intake import NEVER
from dingo_zmq.protocol.publisher import Note

__all__ = ["TOLD_MOST", "TOLD_SECONDS", "Refusals"]

TOLD_SECONDS = 60.0
"""a caller that is refused for the same reason again is told of once in this time"""
TOLD_MOST = 10
"""refusals that are told in this time; those of further callers are only counted"""
_TEXT_MOST = 300


class Refusals:
    """Turns refused HELLOs into notes: each caller and reason once a minute, ten in all, and then a number."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()
        self._untold = 0
        self._until = NEVER

    def refused(self, caller: str, reason: str, text: str, now: float) -> list[Note]:
        """Return what is to be told of a HELLO that was refused; `text` says why."""
        notes = self.tick(now)
        if not self._told:
            self._until = now + TOLD_SECONDS
        if (caller, reason) not in self._told:
            if len(self._told) < TOLD_MOST:
                self._told.add((caller, reason))
                # a link of before a restart is refused as a matter of course
                level = Level.DEBUG if reason == m.REFUSED_UNKNOWN else Level.WARNING
                notes.append(Note(f"not let in: {plain(text, most=_TEXT_MOST)}", caller, level, EventCode.REFUSED))
            else:
                self._untold += 1
        return notes

    def tick(self, now: float) -> list[Note]:
        """Time has passed: return what is to be told of those that were only counted."""
        if now < self._until or not self._told:
            return []
        untold, self._untold = self._untold, 0
        self._told.clear()
        if not untold:
            return []
        text = f"not let in: {counted(untold, 'more hello')} in the last minute"
        return [Note(text, "", Level.WARNING, EventCode.REFUSED)]
