"""What a caller with a journal does is recorded first: its sends, and what it tells the program, wait for that."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dingo_zmq.errors import PeerError
from dingo_zmq.events import EventCode
from dingo_zmq.journal import End, Hold, Journal
from dingo_zmq.marshal import decode_failure
from dingo_zmq.model import Code, Failure, Status
from dingo_zmq.protocol import caller as decider
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.ledger import Entry
from dingo_zmq.protocol.recording import holds
from dingo_zmq.protocol.roster import LATER

__all__ = ["Recorder", "is_dead"]

DEAD = frozenset((Code.POISON, Code.UNKNOWN, Code.EXPIRED, Code.TIMEOUT, Code.REFUSED))
"""failures with which the mesh gives a task up, other than what a function raises: dead letters"""
BEHIND_SECONDS = 1.0
"""time to write from which on the journal is behind"""
SLOW_SECONDS = 3.0
"""the same where it was behind before, or a slow disk would let out no task ever; silence of 5 s loses nodes"""
_FAIL = int(Status.FAIL)


@dataclass(slots=True)
class _Commit:
    """What may go on once it is recorded: the first `sends` that wait, and these settlements."""

    since: float
    sends: int
    settled: list[decider.Settled]
    marks: list[tuple[bytes, int]]


class Recorder:
    """
    Stands between a `Caller` and what it wants done.  Only the I/O thread uses it, but for what the journal calls.

    Args:
        caller: the decider.
        journal: where it is recorded.
        wake: has the I/O thread come round, to look at `committed`.
    """

    def __init__(self, caller: decider.Caller, journal: Journal, wake: Callable[[], object]) -> None:
        self.journal = journal
        self._caller, self._wake = caller, wake
        self._holds: list[Hold] = []
        self._ends: list[End] = []
        self._settled: list[decider.Settled] = []
        self._waiting: deque[decider.Send] = deque()
        self._owed = 0  # of those that wait, sends that a commit under way will release
        self._commits: deque[_Commit] = deque()
        self._under_way: dict[int, _Commit] = {}  # by id, oldest first
        self._marked: dict[bytes, int] = {}  # by token, the highest mark that is under way
        self._patience = BEHIND_SECONDS

    # ------------------------------------------------------------------ what the decider wants done

    def must_wait(self, send: decider.Send) -> bool:
        """Return whether a message is to wait until what it says, or one before it, is recorded; then it does."""
        if self._caller.paused:  # then it is neither a task nor what lets one start
            return False
        for entry, hold in holds(self._caller, send):
            self._holds.append(_row(entry, *hold))
        if self._holds or self._waiting:
            self._waiting.append(send)
            return True
        return False

    def unsent(self, entries: list[Entry]) -> None:
        """These tasks were about to be sent, as is recorded, and never left."""
        self._holds += [_row(entry) for entry in entries if entry.record]

    def settled(self, action: decider.Settled) -> decider.Settled | None:
        """Take those settled tasks that are in the journal; return the rest."""
        kept = [entry for entry in action.entries if entry.record]
        left = [entry for entry in kept if _was_left(entry)]
        kept = [entry for entry in kept if not _was_left(entry)]
        if kept:
            now = time.time()
            self._ends += [_end(entry, action.node, now) for entry in kept]
            self._settled.append(decider.Settled(kept, action.node))
        others = [entry for entry in action.entries if not entry.record] + left
        return decider.Settled(others, action.node) if others else None

    def noted(self, action: decider.Note | decider.Retried) -> bool:
        """Tasks are to be sent again, perhaps; return whether somebody else is to know of it."""
        if isinstance(action, decider.Retried):
            entries: Iterable[Entry] = (action.entry,)
        else:
            entries = action.entries if action.code is EventCode.REDELIVERED else ()
        self._holds += [_row(entry) for entry in entries if entry.record and entry.lane is None]
        return isinstance(action, decider.Note) or action.entry.options.monitor_progress

    def flush(self, now: float) -> None:
        """Have recorded what has come up; the last thing in a round."""
        marked = self._marked
        marks = [(token, number) for token, number in self._caller.marks() if number > marked.get(token, 0)]
        if not (self._holds or self._ends or marks):
            return
        marked.update(marks)
        commit = _Commit(now, len(self._waiting) - self._owed, self._settled, marks)
        self._owed = len(self._waiting)
        rows, ends = self._holds, self._ends
        self._holds, self._ends, self._settled = [], [], []
        self._under_way[id(commit)] = commit
        self.journal.note(holds=rows, ends=ends, then=lambda: self._committed(commit))

    def unfinished(self) -> list[Entry]:
        """Return the tasks that are settled, while the program is not told yet."""
        actions = [
            *self._settled,
            *(action for commit in list(self._under_way.values()) for action in commit.settled),
        ]
        return [entry for action in actions for entry in action.entries]

    def give_up(self) -> list[decider.Settled]:
        """The journal is closed: settle anew what it has as open, for the next life goes on with it."""
        entries = self.unfinished()
        for entry in entries:
            text = "the App was closed before its end was recorded; the next one with the journal fetches it"
            entry.status, entry.failure = _FAIL, Failure(Code.SHUTDOWN, text)
            entry.body, entry.buffers = b"", ()
        return [decider.Settled(entries)] if entries else []

    def _committed(self, commit: _Commit) -> None:
        """Called by the journal's thread."""
        self._commits.append(commit)
        self._wake()

    # ------------------------------------------------------------------ what is recorded

    @property
    def pending(self) -> bool:
        """Whether something was recorded since `take`."""
        return bool(self._commits)

    def take(self, now: float) -> tuple[list[decider.Send], list[decider.Settled]]:
        """Return what may be done since it is recorded, in order."""
        sends: list[decider.Send] = []
        settled: list[decider.Settled] = []
        while self._commits:
            commit = self._commits.popleft()
            del self._under_way[id(commit)]
            self._owed -= commit.sends
            if now < commit.since + BEHIND_SECONDS:
                self._patience = BEHIND_SECONDS
            sends += [self._waiting.popleft() for _ in range(commit.sends)]
            settled += commit.settled
            self._caller.recorded(commit.marks, now)
        if not self._under_way:
            self._marked.clear()
            if not self._holds:  # what waits only for its turn
                sends += self._waiting
                self._waiting.clear()
                self._owed = 0
        if self._caller.paused and now < self._behind_at:
            self._caller.go_on(now)
        return sends, settled

    # ------------------------------------------------------------------ what is not recorded in time

    @property
    def wakeup(self) -> float:
        """When to `look` next."""
        return LATER if self._caller.paused else self._behind_at

    @property
    def _behind_at(self) -> float:
        oldest = next(iter(self._under_way.values()), None)
        return LATER if oldest is None else oldest.since + self._patience

    def look(self, now: float) -> list[decider.Send]:
        """
        Pause the caller where the journal is behind, as on a full disk; return what is to leave all the same.

        Tasks that wait were not sent, then, and what would let others start is not said: those ask again.  The
        rest leaves, for it does no harm, and nodes that hear no BEAT are lost.
        """
        if now < self.wakeup:
            return []
        self._caller.pause()
        self._patience = SLOW_SECONDS
        waiting, self._owed = [*self._waiting], 0
        self._waiting.clear()
        for commit in self._under_way.values():
            commit.sends = 0
        for send in reversed(waiting):  # each puts its tasks at the head of their queues
            if isinstance(send.message, m.Tasks):
                self.unsent(self._caller.unsent(send, now))
        return [send for send in waiting if not isinstance(send.message, m.Tasks | m.Go)]

    def why(self, entry: Entry) -> str:
        """Return in words why a task that is in the journal waits for that, "" where it does not."""
        trouble = self.journal.trouble
        cause = f"the journal cannot be written: {trouble}" if trouble else "the journal is slow to be written"
        if entry.settled:
            return f"it is done, and its end is being recorded{f'; {cause}' if self._caller.paused else ''}"
        if self._caller.paused and entry.lane is None:
            return f"{cause}; nothing is sent until it is"
        return ""


def _row(entry: Entry, base: bytes = b"", incarnation: bytes = b"", node: str = "", number: int = 0) -> Hold:
    return Hold(
        entry.record,
        base,
        incarnation,
        node,
        number,
        attempt=entry.attempt,
        losses=entry.losses,
        raised=0 if entry.terms is None else entry.terms.raised,
        started=entry.started and entry.lane is not None,
        begun=entry.terms is not None and entry.terms.begun,
        once=entry.options.at_most_once,
        history=entry.history,
    )


def _end(entry: Entry, node: str, now: float) -> End:
    failure, buffers = entry.failure, [bytes(buffer) for buffer in entry.buffers]
    return End(
        entry.record,
        now,
        entry.status,
        node,
        entry.attempt,
        entry.body,
        buffers,
        failure,
        entry.history,
        is_dead(entry),
    )


def is_dead(entry: Entry) -> bool:
    """Whether a task that is settled was given up by the mesh, rather than failed by its function."""
    if entry.status != _FAIL:
        return False
    try:
        failure = entry.failure or decode_failure((entry.body, entry.buffers))
    except PeerError:
        return False
    return failure.code in DEAD


def _was_left(entry: Entry) -> bool:
    """Whether a task was settled only because the App is closed: the next life goes on with it."""
    failure: Failure | None = entry.failure
    return failure is not None and failure.code is Code.SHUTDOWN
