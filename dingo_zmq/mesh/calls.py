"""What becomes of a call: it gets a number and a place, is recorded where there is a journal, and is sent."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

from dingo_zmq.balance import drawn
from dingo_zmq.errors import BodyTooLarge, Closed, ConfigError
from dingo_zmq.ids import OpenIDs
from dingo_zmq.journal import Journal
from dingo_zmq.marshal import Body, frozen, size
from dingo_zmq.mesh.by_name import ByName
from dingo_zmq.mesh.caller import MeshCaller
from dingo_zmq.mesh.durable import KeptSubmit, call_of
from dingo_zmq.mesh.reactor import Reactor
from dingo_zmq.mesh.tickets import Engine, KeptTicket, StreamTicket, Ticket
from dingo_zmq.model import LARGE, Code, Failure, Options
from dingo_zmq.protocol.ledger import Entry, Route, wire_options
from dingo_zmq.protocol.terms import Terms
from dingo_zmq.registry import Function
from dingo_zmq.result import Result
from dingo_zmq.room import Room, Space
from dingo_zmq.stream import handing_out
from dingo_zmq.task import Submit, SubmitStream

__all__ = ["Calls"]

END_SECONDS = 2.0
"""longest time that a call which raises waits for an end that has begun"""


class Calls:
    """
    Takes calls, as many as there is room for, and hands them to the I/O thread.

    A signal's exception may cut a call off at any point: its task is sent by then and counts, or it never was.

    Args:
        engine: what owns the results.
        caller: sends them.
        reactor: the loop that runs `caller`.
        room, space: the bounds on open tasks, and on the bytes of their large arguments.
        limit: largest body, bytes.
        pickles: whether functions may take pickles, for there is a key.
        journal: where tasks are recorded first, if any is.
        lives: how often that was opened, 0 where there is none.
        last: the highest number that a task has in it.

    Attributes:
        unusable: why nothing is taken any more, "" while it is.
        settled: how many tasks have been settled; whoever settles one says so by `settle`.
    """

    def __init__(
        self,
        engine: Engine,
        caller: MeshCaller,
        reactor: Reactor,
        room: Room,
        space: Space,
        limit: int,
        *,
        pickles: bool,
        journal: Journal | None = None,
        lives: int = 0,
        last: int = 0,
    ) -> None:
        self.unusable = ""
        self.settled = 0
        self.room, self.space = room, space
        self._engine, self._caller, self._reactor = engine, caller, reactor
        self._limit, self._pickles, self._journal, self._lives = limit, pickles, journal, lives
        self._ids = itertools.count(1)
        self._records = itertools.count(last + 1)
        self._open_ids = OpenIDs()
        self._came_late: list[Ticket] = []  # when the loop had ended, or was about to
        self._turned_away = 0  # numbers drawn by calls that raised
        self._turning_away = threading.Lock()
        self._has_large = False  # whether there ever was a large body

    # ------------------------------------------------------------------ what is counted

    def resume(self, open_and_held: int, results: list[Result[Any]]) -> None:
        """Count the tasks that earlier lives left open, and keep the ids of all that they left."""
        self._ids = itertools.count(1 + open_and_held)
        for result in results:
            self._open_ids.take(result)

    def settle(self, entry: Entry) -> None:
        """A task is settled; called by the I/O thread."""
        self.settled += 1
        if self.room.waiting:
            self.room.freed()
        if self._has_large:
            self._give_space(entry)

    @property
    def called(self) -> int:
        """How many tasks were called, but for calls that wait for room, and those that raised."""
        return drawn(self._ids) - self.room.waiting - self.space.waiting - self._turned_away

    def late(self, known: Callable[[], set[Entry]]) -> list[Ticket]:
        """Return the open tasks that came when the loop had ended; `known` returns those that it knows of."""
        if not self._came_late:
            return []
        there = known()
        return [ticket for ticket in self._came_late if not (ticket.settled or ticket in there)]

    def freed(self) -> None:
        """Calls that wait are to look again, for there is room, or nothing is taken any more."""
        self.room.freed()
        self.space.freed()

    # ------------------------------------------------------------------ calling

    def submitter(self, function: Function, options: Options) -> Submit:
        """Return what sends a task of `function` with `options`."""
        if function.signature.by_name:
            return ByName(self._caller, function, options, self.submitter)
        if self._journal is not None:
            return self._kept(self._journal, function, options)
        return self._submitter(function, options, Ticket)

    def streamer(self, function: Function, options: Options) -> SubmitStream:
        """Return what sends a task of `function` with `options`, whose values are read as they come."""
        if function.signature.by_name:
            return ByName(self._caller, function, options, self.streamer)
        return handing_out(self._submitter(function, options, StreamTicket))

    def check_key(self, function: Function) -> None:
        """
        Check that a function may take what its signature says.

        Raises:
            ConfigError: it takes pickles, and there is no key.
        """
        if function.signature.pickles and not self._pickles:
            raise ConfigError(
                f"{function.name}: pickles need a mesh key, and there is none: whoever can reach it could run "
                "any code; hint: dingo-zmq keygen instead of --insecure-lan, or another marshaller"
            )

    def _submitter(self, function: Function, options: Options, make: type[Ticket]) -> Submit:  # noqa: C901 - hot
        self.check_key(function)
        signature, name = function.signature, function.name
        pack, unpack = signature.pack, signature.unpack_return
        route = Route(name, signature.fingerprint, 0, options.node, options.needs, options.priority)
        wired = wire_options(options, stream=make is not Ticket)
        append, send_now, reactor = self._caller.inbox.append, self._caller.send_now, self._reactor
        ids, max_open, limit, engine = self._ids, self.room.most, self._limit, self._engine
        new_id, new_result = self._id_makers(function)
        special = options.on_terms or options.ignore_report or make is not Ticket

        def submit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result[Any]:  # noqa: C901 - hot
            data, buffers = pack(args, kwargs)
            way = route
            if buffers or len(data) > LARGE:
                way, (data, buffers) = _large(route, (data, buffers), limit)
            if self.unusable:
                raise Closed(self.unusable)
            number, ticket = 0, None
            try:
                for number in ids:  # noqa: B007 - unlike after next(), no signal comes before it is kept
                    break
                if number - self.settled - self._turned_away > max_open:
                    self._wait_for_room(number)
                ticket = make(way, new_id(number), data, buffers, options, wired, None)
                ticket.engine, ticket.unpack = engine, unpack
                result = new_result(name, ticket.id, ticket)
                ticket.result = result
                if way is not route:
                    self._take_space(ticket, way.size)
                if special:
                    return self._submit_special(ticket, result)
                if not (reactor.sleeping and send_now(ticket)):
                    append(ticket)
                    if reactor.sleeping:
                        reactor.wake()
                    if not reactor.running:  # unset before the loop looks into the inbox for the last time
                        self._late(ticket, result)
            except BaseException:
                if number:
                    self._turn_away(ticket)
                raise
            return result

        return submit

    def _submit_special(self, ticket: Ticket, result: Result[Any]) -> Result[Any]:
        """Send a task with terms, or one whose report is ignored; return what the program gets."""
        if ticket.options.on_terms:
            ticket.terms = Terms(ticket.options)
        if isinstance(ticket, StreamTicket):
            return self._submit_stream(ticket, result)
        told = result
        if ticket.options.ignore_report:
            ticket.unpack = MethodType(_nothing, getattr(ticket.unpack, "__self__", self))
            told = _told_at_once(result)
        self._caller.inbox.append(ticket)
        if self._reactor.sleeping:
            self._reactor.wake()
        if not self._reactor.running:
            self._late(ticket, result)
        return told

    def _submit_stream(self, ticket: StreamTicket, result: Result[Any]) -> Result[Any]:
        ticket.open_stream(result, partial(self.took, ticket))
        self.later(partial(self._caller.stream, ticket, ticket.reading))
        if not self._reactor.running:
            self._late(ticket, result)
        return result

    def _id_makers(
        self, function: Function
    ) -> tuple[Callable[[int], str], Callable[[str, str, Ticket], Result[Any]]]:
        """Return what makes the id of a task (of its number, where there is no id maker), and its result."""
        maker, name = function.id_maker, function.name
        if maker is None:
            return (str if not self._lives else f"{self._lives}-{{}}".format), Result

        def new_result(name: str, id: str, ticket: Ticket) -> Result[Any]:
            result: Result[Any] = Result(name, id, ticket)
            self._open_ids.keep(result)
            return result

        return lambda _: OpenIDs.new(maker, name), new_result

    # ------------------------------------------------------------------ where there is a journal

    def _kept(self, journal: Journal, function: Function, options: Options) -> Submit:
        """Return what records a task, and sends it then."""
        self.check_key(function)
        signature, name = function.signature, function.name
        route = Route(name, signature.fingerprint, 0, options.node, options.needs, options.priority)
        wired, limit = wire_options(options), self._limit
        new_id, new_result = self._id_makers(function)
        unpack = MethodType(_nothing, self) if options.ignore_report else signature.unpack_return

        def make(
            args: tuple[Any, ...], kwargs: dict[str, Any], before: Callable[[], None], made: list[KeptTicket]
        ) -> None:
            (data, buffers), way = signature.pack(args, kwargs), route
            if buffers or len(data) > LARGE:
                way, (data, buffers) = _large(route, (data, buffers), limit)
            if self.unusable:
                raise Closed(self.unusable)
            number, ticket = 0, None
            try:
                for number in self._ids:  # noqa: B007 - as in `_submitter`
                    break
                if number - self.settled - self._turned_away > self.room.most:
                    before()
                    self._wait_for_room(number)
                ticket = KeptTicket(way, new_id(number), data, buffers, options, wired, None)
                ticket.engine, ticket.unpack, ticket.let_go = self._engine, unpack, None
                if way is not route:
                    before()
                    self._take_space(ticket, way.size)
                ticket.record = next(self._records)
                if options.on_terms:
                    ticket.terms = Terms(options)
                ticket.result = new_result(name, ticket.id, ticket)
                made.append(ticket)
            except BaseException:
                if number and not (made and made[-1] is ticket):
                    self._turn_away(ticket)
                raise

        return KeptSubmit(make, partial(self._send_kept, journal), self._turn_away)

    def _send_kept(self, journal: Journal, tickets: list[KeptTicket]) -> list[Result[Any]]:
        """Send tasks as soon as they are recorded; return what the program gets."""
        results = [ticket.result for ticket in tickets]
        journal.record([call_of(ticket, ticket.route, time.time()) for ticket in tickets])
        self._caller.inbox.extend(tickets)
        if self._reactor.sleeping:
            self._reactor.wake()
        if not self._reactor.running:
            for ticket, result in zip(tickets, results, strict=True):
                self._late(ticket, result)
        ignored = tickets[0].options.ignore_report
        return [_told_at_once(result) if ignored else result for result in results]

    # ------------------------------------------------------------------ calls that come to nothing

    def _late(self, ticket: Ticket, result: Result[Any]) -> None:
        with self._turning_away:
            self._came_late.append(ticket)
        result._fail(Failure(Code.SHUTDOWN, "the App was closed before the task was done"))

    def _turn_away(self, ticket: Ticket | None) -> None:
        """A call that has drawn its number raises; where a signal did that, the task may be on its way."""
        if ticket is None:
            self._turned_down(None)
            return
        todo = [ticket]

        def turn() -> None:
            try:
                one = todo.pop()
            except IndexError:
                return
            if not self._caller.has(one):
                self._turned_down(one)

        if self._reactor.is_current:
            turn()
            return
        self.later(turn)
        if not self._reactor.running:  # it may come to none of its calls any more
            self._reactor.has_ended(END_SECONDS)
            turn()

    def _turned_down(self, ticket: Ticket | None) -> None:
        with self._turning_away:
            self._turned_away += 1
        if ticket is None:
            return
        self._give_space(ticket)
        if self._journal is not None:
            self._journal.let_go(ticket.record)  # it may be there, where a signal came in between

    # ------------------------------------------------------------------ room

    def _take_space(self, ticket: Ticket, size: int) -> None:
        self._has_large = True
        self.space.take(size, ticket, lambda: self.unusable, may_block=not self._reactor.is_current)

    def _give_space(self, entry: Entry) -> None:
        large: int = getattr(entry, "large", 0)
        if large:
            self.space.give(large)

    def _wait_for_room(self, number: int) -> None:
        def full() -> bool:
            return number - self.settled - self._turned_away > self.room.most and not self.unusable

        self.room.wait(full, may_block=not self._reactor.is_current)
        if self.unusable:
            raise Closed(self.unusable)

    # ------------------------------------------------------------------ what the program asks of its tasks

    def cancel(self, ticket: Ticket, result: Result[Any]) -> bool:
        """Cancel a task unless it is known to have started."""
        if ticket.started or ticket.settled:
            return False
        won = result._fail(Failure(Code.CANCELLED, "cancelled before it started"))
        if won:
            self.later(partial(self._caller.cancel, ticket))
        return won

    def stop(self, ticket: Ticket) -> bool:
        """Cancel a task even where it runs; its final report tells."""
        asked = not ticket.settled
        if asked:
            self.later(partial(self._caller.stop, ticket))
        return asked

    def took(self, ticket: Ticket) -> None:
        """So many values of a stream were taken that its node should know at once."""
        self.later(partial(self._caller.took, ticket))

    def why(self, ticket: Ticket) -> str:
        """Return in words why a task is not done."""
        try:
            return self._reactor.ask(partial(self._caller.why, ticket), timeout=2.0)
        except (Closed, TimeoutError):
            return self.unusable or "the I/O thread of this process is busy"

    def later(self, fn: Callable[[], None]) -> None:
        """Have something done by the I/O thread; nothing after its end."""
        try:
            self._reactor.call(fn)
        except Closed:
            return


def _nothing(signature: Any, body: Body) -> None:
    """Take the return of a task whose report is ignored."""


def _told_at_once(result: Result[Any]) -> Result[Any]:
    """Return what the program gets of a task whose report is ignored."""
    told: Result[Any] = Result(result.name, result.id, result._owner)
    told._succeed(None)
    return told


def _large(route: Route, body: Body, limit: int) -> tuple[Route, Body]:
    """Return the route of a large body, and a copy of what the program may go on to change."""
    total = size(body)
    if total > limit:
        raise BodyTooLarge(
            f"the arguments of {route.name}() take {total:,} bytes, over the body limit of {limit:,}; "
            "hint: send less at a time, or raise the limit of callers and nodes"
        )
    return route._replace(size=total), frozen(body)
