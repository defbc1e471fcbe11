"""Tasks that are in a journal: recorded when they are called, and found again by the next life of their caller."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dingo_zmq.errors import ArgumentError, EncodeError
from dingo_zmq.journal import Call, End, Hold, Journal, Open, State
from dingo_zmq.marshal import Body
from dingo_zmq.marshallers import spoken
from dingo_zmq.mesh.tickets import KeptTicket
from dingo_zmq.protocol.former import Holder
from dingo_zmq.protocol.ledger import Entry, Route, marshallers_of, wire_options
from dingo_zmq.protocol.terms import Terms
from dingo_zmq.registry import Function
from dingo_zmq.result import Result

__all__ = ["KeptSubmit", "Recovered", "call_of", "end_of", "holder_of", "recovered", "take_up"]

Find = Callable[[str], Function | None]
"""returns what the program has registered or declared under a name"""


def call_of(ticket: Entry, route: Route, called: float) -> Call:
    """Return what the journal is to have of a task; `called` is when that was, in seconds since 1970."""
    buffers = [bytes(buffer) for buffer in ticket.buffers]
    call = (ticket.record, route.name, ticket.id, called, route.fingerprint, route.size)
    return Call(*call, ticket.options, ticket.body, buffers)


class KeptSubmit:
    """
    Sends tasks of one function that are recorded before.

    Args:
        make: adds the ticket of one call to a list, and does what it is told before it waits for room.
        send: records tasks and sends them.
        drop: hears of tickets whose call raises.
    """

    def __init__(
        self,
        make: Callable[[tuple[Any, ...], dict[str, Any], Callable[[], None], list[KeptTicket]], None],
        send: Callable[[list[KeptTicket]], list[Result[Any]]],
        drop: Callable[[KeptTicket], None],
    ) -> None:
        self._make, self._send, self._drop = make, send, drop

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result[Any]:
        """Send one task, as soon as it is recorded."""
        tickets: list[KeptTicket] = []
        try:
            self._make(args, kwargs, lambda: None, tickets)
            return self._send(tickets)[0]
        except BaseException:
            self._drop_all(tickets)
            raise

    def many(
        self, tuples: Iterable[Sequence[Any]], otherwise: Callable[[Sequence[Any]], Result[Any]]
    ) -> list[Result[Any]]:
        """
        Send several tasks, as soon as all of them are recorded; in parts where there is no room for all.

        Args:
            tuples: the arguments of each.
            otherwise: sends a task whose arguments cannot travel as they are.
        """
        results: list[Result[Any]] = []
        tickets: list[KeptTicket] = []

        def send() -> None:
            if tickets:
                results.extend(self._send(tickets))
                tickets.clear()

        try:
            for args in tuples:
                try:
                    self._make(tuple(args), {}, send, tickets)
                except (ArgumentError, EncodeError):
                    send()
                    results.append(otherwise(args))
            send()
        except BaseException:
            self._drop_all(tickets)
            for result in results:  # nobody gets them
                result.cancel()
            raise
        return results

    def _drop_all(self, tickets: list[KeptTicket]) -> None:
        for ticket in tickets:
            self._drop(ticket)


class Recovered:
    """
    What a life takes over from those before.

    Attributes:
        waiting: tasks that no node has.
        held: those that nodes had when the life before ended.
        ended: those that had been settled, while the program had not let go of their results, with their ends.
        ages: seconds since the calls of those that are open.
    """

    def __init__(self) -> None:
        self.ages: dict[Entry, float] = {}
        self.waiting: list[Entry] = []
        self.held: list[tuple[Entry, Holder]] = []
        self.ended: list[tuple[KeptTicket, End]] = []

    @property
    def results(self) -> list[Result[Any]]:
        """The results of all of them that the program waits for, in the order of their calls."""
        tickets: list[Any] = [
            *self.waiting,
            *(entry for entry, _ in self.held),
            *(ended for ended, _ in self.ended),
        ]
        tickets.sort(key=lambda ticket: ticket.record)
        return [ticket.result for ticket in tickets if not ticket.options.ignore_report]


def recovered(state: State, journal: Journal, find: Find, owner: Any) -> Recovered:
    """
    Make tickets of the tasks in a journal.

    Args:
        state: what it has.
        journal: hears which results the program has let go of.
        find: tells how returns are to be read, when they come.
        owner: the engine.
    """
    found, now = Recovered(), time.time()
    for task in state.open:
        ticket = _ticket(task, find, owner, now)
        if task.end is not None:
            ticket.let_go = journal.let_go
            found.ended.append((ticket, task.end))
            continue
        found.ages[ticket] = max(0.0, now - task.call.called)
        if task.hold is not None and task.hold.base:
            found.held.append((ticket, holder_of(task.hold)))
        else:
            found.waiting.append(ticket)
    return found


def _ticket(task: Open, find: Find, owner: Any, now: float) -> KeptTicket:
    call, hold, options = task.call, task.hold, task.call.options
    route = Route(call.name, call.fingerprint, call.size, options.node, options.needs, options.priority)
    body, buffers = call.body, tuple(call.buffers)
    ticket = KeptTicket(route, call.id, body, buffers, options, wire_options(options), None)
    ticket.engine, ticket.record, ticket.let_go = owner, call.record, None
    ticket.unpack = _Unpack(find, call)
    ticket.result = Result(call.name, call.id, ticket)
    if options.on_terms:
        ticket.terms = Terms(options, max(0.0, now - call.called))
    if hold is not None:
        take_up(ticket, hold)
    return ticket


def take_up(entry: Entry, hold: Hold) -> None:
    """Have a task of an earlier life be as far as it was by then; its terms are set already."""
    entry.attempt, entry.losses, entry.history = hold.attempt, hold.losses, hold.history
    entry.started = hold.started
    if hold.once:
        entry.forbid_twice()
    if entry.terms is not None:
        entry.terms.raised = hold.raised
        entry.terms.begun = hold.started or hold.begun


def holder_of(hold: Hold) -> Holder:
    """Return who had a task that was sent."""
    return Holder(hold.base, hold.incarnation, hold.node, hold.number)


class _Unpack:
    """Reads the return of a task of an earlier life, by what the program says of its function by then."""

    def __init__(self, find: Find, call: Call) -> None:
        self._find, self._name, self._how = find, call.name, marshallers_of(call.fingerprint)
        self._nobody = call.options.ignore_report

    def __call__(self, body: Body) -> Any:
        if self._nobody:
            return None
        function = self._find(self._name)
        if function is not None and not function.signature.by_name:
            return function.signature.unpack_return(body)
        return spoken(self._name, self._how).unpack_return(body)


def end_of(entry: Entry, end: End) -> None:
    """Have a task be settled as it was in an earlier life."""
    entry.settled = True
    entry.status, entry.body, entry.buffers = end.status, end.body, tuple(end.buffers)
    entry.failure, entry.attempt, entry.history = end.failure, end.attempt, end.history
