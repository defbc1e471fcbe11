"""Tasks with terms at their caller: parked, tried again, or expired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from dingo_zmq.model import Code, Failure, counted
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import tried
from dingo_zmq.protocol.actions import Action, Retried
from dingo_zmq.protocol.ledger import Entry, Lane, Ledger, wire_options
from dingo_zmq.protocol.roster import Dice, Peer
from dingo_zmq.protocol.terms import Terms, cause_of

ReadFailure: TypeAlias = Callable[[bytes, tuple[Any, ...]], Failure]

_POLITE = (m.GIVEN_BACK, m.DRAINING)


def unread(body: bytes, buffers: tuple[Any, ...]) -> Failure:
    """Take the body of a FAIL for something that the function raised, whatever it says."""
    return Failure(Code.RAISED)


class Tries:
    """
    Sees to the terms of tasks; whatever has none is let through.

    Args:
        ledger: the record of all tasks.
        dice: chance, from the doer.
        out: where to append what is to be done.
        read_failure: returns what the body of a FAIL says.
        end: settles a task with a failure.
    """

    def __init__(
        self,
        ledger: Ledger,
        dice: Dice,
        out: list[Action],
        read_failure: ReadFailure,
        end: Callable[[Entry, Failure, float], None],
    ) -> None:
        self._ledger, self._dice, self._out = ledger, dice, out
        self._read_failure, self._end = read_failure, end

    # ------------------------------------------------------------------ tried again

    def failed(
        self,
        entry: Entry,
        lane: Lane,
        number: int,
        body: tuple[bytes, tuple[Any, ...]],
        peer: Peer,
        now: float,
    ) -> bool:
        """A node reports that a task has failed; return whether it is tried again, and see to it."""
        terms = entry.terms
        if terms is None or entry.options.at_most_once or entry.stopping:
            return False
        if terms.raised >= terms.retries.raised:
            return False
        failure = self._read_failure(*body)
        if not terms.retries.covers(failure):
            return False
        terms.begun = True
        terms.raised += 1
        if not entry.held_as(lane, number):  # it is being tried again as it is
            del lane.strays[number]
            if entry.strays is not None:
                entry.strays.remove((lane, number))
            return True
        self._ledger.released(entry)
        cause = cause_of(failure)
        tried.note(entry, peer.name, f"raised {cause}")
        self._again(entry, terms, terms.raised, terms.retries.raised, cause, peer, now, failure)
        self._ledger.requeue([entry])
        return True

    def lost(self, entry: Entry, terms: Terms, peer: Peer, now: float) -> Failure | None:
        """The node that held a task is lost; return how the task ends, or None where it is to be sent again."""
        if not entry.may_run:
            return None
        terms.begun = True
        most = terms.retries.lost
        if most is None:
            return None
        if terms.lost >= most:
            text = "the node was lost while the task may have been running"
            return Failure(Code.UNKNOWN, f"{text}, and it is sent again {counted(most, 'time')} at most (retries)")
        terms.lost += 1
        self._again(entry, terms, terms.lost, most, f"the loss of {peer.name}", peer, now)
        return None

    def refused(self, entries: list[Entry], reason: str, peer: Peer, now: float) -> list[Entry]:
        """A node gives tasks back; return those of them that are to be sent again."""
        if reason in _POLITE:
            return entries
        for entry in entries:
            terms = entry.terms
            most = None if terms is None else terms.retries.refused
            if terms is None or most is None or entry.stopping:
                continue
            if terms.refused < most:
                terms.refused += 1
                cause = f"{peer.name} refused it ({reason})"
                self._again(entry, terms, terms.refused, most, cause, peer, now)
            else:
                self._ledger.released(entry)
                failure = Failure(Code.REFUSED, f"{peer.name} refused it: {reason}", "", "", "", entry.attempt)
                self._end(entry, failure.after(most + 1), now)
        return [entry for entry in entries if not entry.settled]

    def _again(
        self,
        entry: Entry,
        terms: Terms,
        number: int,
        most: int,
        cause: str,
        peer: Peer,
        now: float,
        failure: Failure | None = None,
    ) -> None:
        text = terms.again(number, most, cause, now, self._dice.random())
        if entry.options.monitor_progress or entry.record:
            self._out.append(Retried(entry, text, failure, peer.name))

    # ------------------------------------------------------------------ time

    def look_at_clock(self, now: float) -> None:
        """Queue what was parked until now, and settle what has expired; what a node holds is left to the node."""
        for entry in self._ledger.agenda.due(now):
            if entry.lane is None and not self.expired(entry, now):
                self._ledger.due(entry, now)

    def expired(self, entry: Entry, now: float) -> bool:
        """Return whether the time of a task has run out before it started; then it is settled."""
        terms = entry.terms
        if terms is None or entry.started or not terms.expired(now):
            return False
        self._end(entry, terms.failure(), now)
        return True

    def expired_there(self, entries: list[Entry], now: float) -> list[Entry]:
        """A node says that tasks have expired before they started; return those that are to be sent again."""
        for entry in entries:
            if entry.terms is not None and entry.terms.may_expire:
                self._ledger.released(entry)
                self._end(entry, entry.terms.failure(), now)
        return [entry for entry in entries if not entry.settled]


def date(entries: list[Entry], now: float) -> None:
    """Have the node told how long it has to start those that may expire."""
    for entry in entries:
        if entry.terms is not None:
            entry.wire_options = wire_options(entry.options, entry.terms.left(now), stream=entry.is_stream)
