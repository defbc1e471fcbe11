"""What the program is told: how its tasks end, and what is reported before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dingo_zmq.balance import Counts
from dingo_zmq.errors import ArgumentError, PeerError
from dingo_zmq.events import EventCode, Level, Origin
from dingo_zmq.ignored import tell_ignored
from dingo_zmq.listening import Events
from dingo_zmq.marshal import decode_failure, decode_progress, size
from dingo_zmq.mesh.tickets import StreamTicket
from dingo_zmq.model import Code, Failure, Report, Status, plain
from dingo_zmq.protocol.caller import Retried, Told
from dingo_zmq.protocol.ledger import Entry

__all__ = ["Settling"]

SAID_MOST = 300
"""characters of what is wrong with something that cannot be decoded, in an event"""
_SUCCESS, _PARTIAL = int(Status.SUCCESS), int(Status.PARTIAL)


class Settling:
    """
    Hands what nodes report to the results of tickets.  Only the I/O thread uses it.

    Args:
        events: where to tell of what cannot be read.
        settled: told of each task that is settled, before its result is.
        stop: ends a stream whose values do not fit.

    Attributes:
        counts: what became of the tasks, of those that did not end well.
        left_undone: tasks whose reports are ignored, and which were open at the end.
    """

    def __init__(
        self, events: Events, settled: Callable[[Entry], None], stop: Callable[[StreamTicket], object]
    ) -> None:
        self.counts = Counts()
        self.left_undone = 0
        self._events, self._settled, self._stop = events, settled, stop

    def settle(self, entry: Entry, node: str) -> None:
        """A task is settled."""
        self._settled(entry)
        result = entry.result
        if not self.finish(entry, node):
            self.counts.settled(result)

    def finish(self, entry: Entry, node: str) -> bool:
        """Tell the program what came of a task; return whether that is that it ended well."""
        ticket: Any = entry
        result, well = entry.result, False
        entry.result = None
        if entry.status == _SUCCESS:
            try:
                if type(entry) is StreamTicket:
                    well = result._succeed(entry.reading.had, node, entry.attempt)
                else:
                    well = result._succeed(ticket.unpack((entry.body, entry.buffers)), node, entry.attempt)
            except (ArgumentError, PeerError) as exc:
                result._fail(Failure(Code.DECODE, str(exc), type(exc).__qualname__, "", node, entry.attempt))
                self._undecoded(entry, node, "the return does not fit", exc)
        else:
            result._fail(self._failure(entry, node))
        entry.body, entry.buffers = b"", ()
        return well

    def _failure(self, entry: Entry, node: str) -> Failure:
        failure = entry.failure or self._decoded_failure(entry, node).with_history(entry.history)
        if entry.terms is not None and failure.code is Code.RAISED:
            failure = failure.after(entry.terms.raised + 1)
        if entry.options.ignore_report:
            if failure.code is Code.SHUTDOWN:
                self.left_undone += 1
            else:
                tell_ignored(self._events, entry.route.name, entry.id, failure)
        return failure

    def told(self, told: Told | Retried) -> None:
        """Something is reported of a task that is not its end."""
        entry = told.entry
        if isinstance(entry, StreamTicket) and isinstance(told, Told) and told.status == _PARTIAL:
            self._value(entry, told)
            return
        name, id, attempt, options = entry.route.name, entry.id, entry.attempt, entry.options  # noqa: A001
        if isinstance(told, Retried):
            retry = Report(name, id, Status.PROGRESS, (None, told.text), told.failure, told.node, attempt, options)
            entry.result._report(retry)
            return
        status, value = Status(told.status), None
        if status is Status.PROGRESS and told.body:
            try:
                value = decode_progress((told.body, told.buffers))
            except PeerError as exc:
                self._undecoded(entry, told.node, "dropped a progress report", exc, Level.DEBUG)
                return
        report = Report(name, id, status, value, None, told.node, attempt, options)
        entry.result._report(report)

    def _value(self, ticket: StreamTicket, told: Told) -> None:
        """One value of a stream has come."""
        name, id, attempt = ticket.route.name, ticket.id, ticket.attempt  # noqa: A001
        body = told.body, told.buffers
        try:
            value = ticket.unpack(body)
        except (ArgumentError, PeerError) as exc:
            ticket.result._fail(Failure(Code.DECODE, str(exc), type(exc).__qualname__, "", told.node, attempt))
            self._undecoded(ticket, told.node, "a value does not fit", exc)
            self._stop(ticket)
            return
        stream = ticket.stream()
        if stream is not None:
            report = Report(name, id, Status.PARTIAL, value, None, told.node, attempt, ticket.options)
            stream.put(report, size(body))

    def _decoded_failure(self, entry: Entry, node: str) -> Failure:
        try:
            return decode_failure((entry.body, entry.buffers), node, entry.attempt)
        except PeerError as exc:
            self._undecoded(entry, node, "the failure cannot be read", exc)
            return Failure(Code.GENERIC, f"an unreadable failure: {exc}", "", "", node, entry.attempt)

    def _undecoded(self, entry: Entry, node: str, what: str, exc: Exception, level: Level = Level.INFO) -> None:
        if self._events.hears(Origin.CALLER, level):
            name, id = entry.route.name, entry.id  # noqa: A001
            text = f"{node}: task {name} id {plain(id)}: {what}: {plain(str(exc), most=SAID_MOST)}"
            details = {"node": node, "name": name, "id": id, "error": exc}
            self._events.tell(Origin.CALLER, level, EventCode.DECODE, text, **details)
