"""The lives of a caller with a journal: what this one takes over from those before, and what it leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from secrets import token_hex
from typing import Any

from dingo_zmq.errors import JournalError, UsageError
from dingo_zmq.events import EventCode, Level, Origin
from dingo_zmq.journal import BODY_MOST, Journal, JournalFile
from dingo_zmq.listening import Events
from dingo_zmq.mesh.by_name import rewrite
from dingo_zmq.mesh.caller import MeshCaller
from dingo_zmq.mesh.calls import Calls
from dingo_zmq.mesh.durable import Find, call_of, end_of, recovered
from dingo_zmq.mesh.recorder import Recorder
from dingo_zmq.mesh.settling import Settling
from dingo_zmq.mesh.tickets import Engine, KeptTicket
from dingo_zmq.model import counted
from dingo_zmq.protocol.guests import is_guest
from dingo_zmq.protocol.ledger import Entry, Route
from dingo_zmq.result import Result

__all__ = ["Lives"]

CLOSE_SECONDS = 2.0


class Lives:
    """
    Opens a journal for one more life of its caller.

    Args:
        path: the file.
        limit: largest body, bytes.
        events: where to tell of it.
        fenced: told in words, by the journal's thread, that another program has opened the file.
        owner: what the name of its caller begins with, "" where it may not be a guest's.

    Attributes:
        journal: the writer.
        state: what was in the file.

    Raises:
        JournalError: it cannot be opened, or is another key's.
        UsageError: bodies may be larger than a journal can record.
    """

    def __init__(
        self,
        path: str,
        limit: int,
        events: Events,
        fenced: Callable[[str], object],
        owner: str = "",
    ) -> None:
        if limit > BODY_MOST:
            raise UsageError(f"limit may be {BODY_MOST:,} bytes at most with a journal, not {limit:,}")
        self._path, self._events = path, events
        file = JournalFile(path, lambda: owner + token_hex(8))
        try:
            _check_owner(file, owner)
            self.state = file.begin_life()
        except BaseException:
            file.close()
            raise
        self.journal = Journal(file, partial(self._say, Level.WARNING), fenced)
        self._left: list[Result[Any]] = []  # not handed out yet

    def _say(self, level: Level, text: str) -> None:
        self._events.tell(Origin.CALLER, level, EventCode.JOURNAL, f"journal {self._path}: {text}")

    def resume(
        self,
        engine: Engine,
        caller: MeshCaller,
        calls: Calls,
        settling: Settling,
        find: Find,
        wake: Callable[[], object],
    ) -> None:
        """
        Go on with what earlier lives left; before the loop runs.

        Args:
            engine: what owns the results.
            caller, calls, settling: the parts that go on with it.
            find: tells how returns are to be read, when they come.
            wake: has the I/O thread come round.
        """
        found = recovered(self.state, self.journal, find, engine)
        going_on = len(found.waiting) + len(found.held)
        self._left = found.results
        calls.resume(going_on, self._left)
        caller.recorder = Recorder(caller.decider, self.journal, wake)
        caller.on_recorded, caller.rewrite = self._recorded, self._rewrite
        caller.decider.resume(found.waiting, found.held, time.monotonic())
        for entry, age in found.ages.items():
            entry.since -= age
        for ticket, end in found.ended:
            end_of(ticket, end)
            settling.finish(ticket, end.node)
        if self._left:
            left, done = counted(len(self._left), "task"), len(found.ended)
            self._say(Level.INFO, f"{left} of an earlier life: {going_on} open, {done} done; hint: app.recover()")

    def recover(self) -> list[Result[Any]]:
        """Return the results of the tasks of earlier lives, in the order of their calls, each once."""
        found, self._left = self._left, []
        return found

    def leave_nothing(self) -> None:
        """The App is closed in good order: by its end the program has used what is settled and it asked for."""
        tickets: list[Any] = [result._owner for result in self._left]
        self.journal.unasked = frozenset(ticket.record for ticket in tickets)
        self.journal.clean = True

    def close(self) -> None:
        """Let go of the file, whatever became of the loop that should have done so."""
        self.journal.close(CLOSE_SECONDS)

    def _recorded(self, entries: Iterable[Entry]) -> None:
        """The ends of these tasks are in the journal."""
        for entry in entries:
            if isinstance(entry, KeptTicket):
                entry.let_go = self.journal.let_go

    def _rewrite(self, entry: Entry, how: str) -> Route:
        route = rewrite(entry, how)
        if entry.record and route is not entry.route:
            called = time.time() - (time.monotonic() - entry.since)
            self.journal.note(calls=[call_of(entry, route, called)])
        return route


def _check_owner(file: JournalFile, owner: str) -> None:
    """
    See that nodes will let us be the caller of a journal.

    Raises:
        JournalError: if they will not.
    """
    caller = file.caller
    if owner and caller and not caller.startswith(owner):
        whose = "the key of this guest"
    elif not owner and is_guest(caller):
        whose = "the mesh key"
    else:
        return
    raise JournalError(
        f"journal {file.path}: it was made with another key, and {whose} cannot go on with it; "
        "hint: the key it was made with, or another journal"
    )
