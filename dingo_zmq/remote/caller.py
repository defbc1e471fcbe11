"""The caller of remote mode: polls the store, sends the task, and settles by what is heard."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import random
from time import monotonic
from typing import Any

from dingo_zmq.balance import Counts, Ledger, OpenTask, balanced, drawn
from dingo_zmq.errors import ArgumentError, Closed, PeerError, UsageError
from dingo_zmq.events import EventCode, Level, Origin
from dingo_zmq.forked import FORKED
from dingo_zmq.ignored import tell_ignored, tell_left_undone
from dingo_zmq.later import Later
from dingo_zmq.limits import BEFORE_IT_STARTED
from dingo_zmq.listening import Events
from dingo_zmq.marshal import Body, check_arguments, decode_failure, decode_progress, frozen, size
from dingo_zmq.model import (
    LARGE,
    MAX_OPEN_BYTES,
    Code,
    Failure,
    Options,
    Report,
    Retries,
    Status,
    check_part,
    plain,
)
from dingo_zmq.pool import CallbackThread, failure_of
from dingo_zmq.ports import (
    Cancels,
    Declares,
    Explains,
    KeepsExpires,
    ReportPacket,
    Stops,
    Store,
    TaskPacket,
    TellsTaken,
)
from dingo_zmq.protocol.terms import Terms, cause_of
from dingo_zmq.registry import Function
from dingo_zmq.remote.roles import Roles
from dingo_zmq.result import Result
from dingo_zmq.room import Room, Space
from dingo_zmq.stream import StreamOwner, handing_out
from dingo_zmq.task import Submit, SubmitStream

__all__ = ["RemoteCaller"]

_STATUSES = frozenset(Status)
_BYTES = (bytes, bytearray, memoryview)
SAID_MOST = 300
"""characters of what is wrong with something that cannot be decoded, in an event"""


class _Ticket:
    """
    One task at its caller, and the owner of its result.

    Attributes:
        packet, store, terms: the task, where to hear of it and what holds of it, for one with special options.
        expiring: whether it is taken back since its time is over.
        stopping: whether it is to be stopped where it runs.
    """

    __slots__ = (
        "caller",
        "expiring",
        "function",
        "large",
        "oddity",
        "options",
        "packet",
        "result",
        "since",
        "stopping",
        "store",
        "terms",
    )

    def __init__(self, caller: RemoteCaller, function: Function, id: str, options: Options) -> None:
        self.caller, self.function, self.options = caller, function, options
        self.result: Result[Any] = Result(function.name, id, self)
        self.oddity = ""
        self.since = monotonic()
        self.large = 0  # bytes that count as open
        self.packet: TaskPacket | None = None
        self.store: Store | None = None
        self.terms: Terms | None = None
        self.expiring = self.stopping = False

    # -- as the owner of its result

    def cancel(self, result: Result[Any]) -> bool:
        return self.caller.cancel(self)

    def stop(self, result: Result[Any]) -> bool:
        return self.caller.stop(self)

    def why(self, result: Result[Any]) -> str:
        return self.caller.why(self)

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        self.caller.call_soon(fn, *args)

    def handler_failed(self, result: Result[Any], error: Exception) -> None:
        self.caller.events.handler_failed(error, result.name, result.id, repr(result))

    # -- as the one who polls

    def hear(self, packet: ReportPacket) -> None:
        """Take what a store brings, whatever that is."""
        result = self.result
        try:
            body = _checked(packet, result)
        except PeerError as exc:
            self.oddity = f"its store brought something that is no report of it: {exc}; hint: ports.ReportPacket"
            text = f"task {plain(result.name)} id {plain(result.id)}: {self.oddity}"
            self._tell(Level.WARNING, EventCode.DROPPED, text, exc)
            return
        if packet.done:
            self.caller.ended(self, self._final(packet, body), packet.attempt)
        elif packet.status == Status.PARTIAL:
            self._value(packet, body)
        elif packet.status in (Status.SENT, Status.PROGRESS):
            try:
                value = decode_progress(body) if packet.body else None
            except PeerError as exc:
                self._undecoded(packet.node, "dropped a progress report", exc, Level.DEBUG)
                return
            status = Status(packet.status)
            report = Report(result.name, result.id, status, value, None, packet.node, packet.attempt, self.options)
            result._report(report)

    def _value(self, packet: ReportPacket, body: Body) -> None:
        """Take a value that a function yielded, though nobody reads it."""

    def _final(self, packet: ReportPacket, body: Body) -> Report:
        """Return a final report; one that cannot be decoded is a failure."""
        name, id, node, attempt, options = *packet[:2], packet.node, packet.attempt, self.options  # noqa: A001
        if packet.status == Status.SUCCESS and options.ignore_report:
            return Report(name, id, Status.SUCCESS, None, None, node, attempt, options)
        try:
            if packet.status == Status.SUCCESS:
                value = self.function.signature.unpack_return(body)
                return Report(name, id, Status.SUCCESS, value, None, node, attempt, options)
            failure = decode_failure(body, node, attempt)
        except (ArgumentError, PeerError) as exc:
            lost = packet.status == Status.SUCCESS
            self._undecoded(node, "the return does not fit" if lost else "the failure cannot be read", exc)
            said = str(exc) if lost else f"an unreadable failure: {exc}"
            code = Code.DECODE if lost else Code.GENERIC
            failure = Failure(code, said, type(exc).__qualname__, "", node, attempt)
        return Report(name, id, Status.FAIL, None, failure, node, attempt, options)

    def _undecoded(self, node: str, what: str, exc: Exception, level: Level = Level.INFO) -> None:
        where = f"{plain(node)}: " if node else ""
        task = f"task {plain(self.result.name)} id {plain(self.result.id)}"
        text = f"{where}{task}: {what}: {plain(str(exc), most=SAID_MOST)}"
        self._tell(level, EventCode.DECODE, text, exc, node)

    def _tell(self, level: Level, code: EventCode, text: str, exc: Exception, node: str = "") -> None:
        details = {"node": node, "name": self.result.name, "id": self.result.id, "error": exc}
        self.caller.events.tell(Origin.CALLER, level, code, text, **details)


class _StreamTicket(StreamOwner, _Ticket):
    """The same for a task whose values are read as they come."""

    def __init__(self, caller: RemoteCaller, function: Function, id: str, options: Options) -> None:
        super().__init__(caller, function, id, options)
        self.open_stream(self.result, self.tell)

    def tell(self) -> None:
        """Tell whoever runs it how many values were taken."""
        store: Any = self.store  # a TellsTaken: `streamer` has looked
        if not self.result.done():
            store.taken(self.result.name, self.result.id, self.reading.tell(self._try))

    @property
    def _try(self) -> int:
        """Which try the values that come are of."""
        return self.terms.raised if self.terms is not None else 0

    def _value(self, packet: ReportPacket, body: Body) -> None:
        result, node, options = self.result, packet.node, self.options
        if not self.reading.came(self._try, size(body)):
            if self.reading.due(self._try):
                self.tell()
            return
        try:
            value = self.function.signature.unpack_return(body)
        except (ArgumentError, PeerError) as exc:
            result._fail(Failure(Code.DECODE, str(exc), type(exc).__qualname__, "", node, packet.attempt))
            self._undecoded(node, "a value does not fit", exc)
            self.caller.stop(self)
            return
        stream = self.stream()
        if stream is not None:
            told = Report(result.name, result.id, Status.PARTIAL, value, None, node, packet.attempt, options)
            stream.put(told, size(body))

    def _final(self, packet: ReportPacket, body: Body) -> Report:
        if packet.status != Status.SUCCESS:
            return super()._final(packet, body)
        name, id, values = packet.name, packet.id, self.reading.had  # noqa: A001
        return Report(name, id, Status.SUCCESS, values, None, packet.node, packet.attempt, self.options)


class RemoteCaller:
    """
    Sends tasks through a producer and hears of them through a store.

    It sees to `delay`, `expires` and `retries` (after the function raised) itself, and tells of the failures of
    tasks whose reports are ignored, where there is a store to hear of them.

    Args:
        roles: what is attached.
        max_open: tasks not settled at a time; at the bound a call waits, or raises `Busy` in an event loop.
        limit: largest body of a task, bytes.
        events: where to tell what happens.
        full: "wait", or "raise" where a call at the bound raises `Busy` anywhere.
        max_open_bytes: of large arguments open at a time; at the bound the same.
    """

    def __init__(
        self,
        roles: Roles,
        max_open: int,
        limit: int,
        events: Events,
        full: str = "wait",
        max_open_bytes: int = MAX_OPEN_BYTES,
    ) -> None:
        self.events = events
        self._roles, self._max_open, self._limit = roles, max_open, limit
        self._room, self._space = Room(max_open, full), Space(max_open_bytes, full)
        self._open: set[_Ticket] = set()
        self._called = itertools.count(1)
        self._counts = Counts()
        self._turned_away = 0  # of those counted as called, calls that raised
        self._turning_away = threading.Lock()
        self._closed, self._cause = False, "this App is closed"
        self._callbacks = CallbackThread()
        events.call_soon = self._callbacks.call_soon
        self._later = Later("later")
        self._paused: dict[_Ticket, None] = {}  # not to be sent yet

    def submitter(self, function: Function, options: Options) -> Submit:
        """
        Return what sends a task of `function` with `options`.

        Raises:
            UsageError: if no producer is attached, or no store and the reports are wanted.
        """
        return self._submitter(function, options, _Ticket)

    def streamer(self, function: Function, options: Options) -> SubmitStream:
        """
        Return what sends a task of `function` with `options`, whose values are read as they come.

        Raises:
            UsageError: if no producer is attached, or no store that passes on how far readers are.
        """
        store = self._roles.store()
        if not isinstance(store, TellsTaken):
            raise UsageError(
                f"{function.name}: a {type(store).__qualname__} as store does not pass on how far readers of "
                "streams are; hint: it needs a method taken"
            )
        return handing_out(self._submitter(function, options, _StreamTicket))

    def _submitter(self, function: Function, options: Options, make: type[_Ticket]) -> Submit:  # noqa: C901 - hot
        producer = self._roles.producer()
        store = self._roles.store() if self._roles.has_store or not options.ignore_report else None
        pack, name, tasks = function.signature.pack, function.name, self._open
        limit = self._limit
        new_id = _id_maker(function)
        special = options.on_terms or options.ignore_report
        if isinstance(producer, Declares):
            producer.declared(name)

        def submit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result[Any]:
            body = check_arguments(name, pack(args, kwargs), limit)
            if body[1]:
                body = frozen(body)  # the program may go on to change them
            if len(tasks) >= self._max_open:
                self._room.wait(self._full)
            id = new_id()  # noqa: A001
            ticket = make(self, function, id, options)
            packet = TaskPacket(name, id, options, *body, stream=make is not _Ticket)
            ticket.store = store
            counted = False
            try:
                if body[1] or len(body[0]) > LARGE:
                    self._space.take(size(body), ticket, lambda: self._cause if self._closed else "")
                for _ in self._called:  # noqa: B007 - unlike after next(), no signal comes before it is kept
                    break
                counted = True
                tasks.add(ticket)
                if self._closed:  # looked at last: `close` says so first, and then settles what is open
                    raise Closed(self._cause)
                if special or store is None:
                    ticket.packet = packet
                    return self._submit_special(ticket)
                store.poll(name, id, ticket.hear)
                producer.send(packet)
            except BaseException:
                if self._forget(ticket):
                    with self._turning_away:
                        self._turned_away += 1
                elif not counted and ticket.large:
                    self._space.give(ticket.large)
                raise
            return ticket.result

        return submit

    # ------------------------------------------------------------------ tasks with special options

    def _submit_special(self, ticket: _Ticket) -> Result[Any]:
        """See to a task whose options ask for more than to be run; return what the program gets."""
        options, told = ticket.options, ticket.result
        ticket.terms = Terms(options)
        ticket.terms.called(monotonic())
        if options.delay:
            self._pause(ticket, options.delay)
        else:
            self._send(ticket)
        if options.expires is not None:
            self._later.after(options.expires, partial(self._expire, ticket))
        if options.ignore_report:
            told = Result(told.name, told.id, ticket)
            told._succeed(None)
        return told

    def _send(self, ticket: _Ticket) -> None:
        packet, store, terms = ticket.packet, ticket.store, ticket.terms
        assert packet is not None
        assert terms is not None
        if store is not None:
            store.poll(packet.name, packet.id, ticket.hear)
        left = terms.left(monotonic())
        self._roles.producer().send(packet._replace(options=_sent(packet.options, left, heard=store is not None)))
        if store is None and self._forget(ticket):  # nothing will be heard of it
            self._counts.went_well()

    def _pause(self, ticket: _Ticket, seconds: float) -> None:
        self._paused[ticket] = None
        self._later.after(seconds, partial(self._resume, ticket))
        if ticket.stopping:
            self.cancel(ticket)

    def _was_paused(self, ticket: _Ticket) -> bool:
        """Return whether a task has not been sent, and is not going to be: whoever is told so sees to it."""
        return self._paused.pop(ticket, ticket) is None

    def _resume(self, ticket: _Ticket) -> None:
        if not self._was_paused(ticket) or ticket not in self._open:
            return
        terms = ticket.terms
        assert terms is not None
        if terms.expired(monotonic()):
            self._end(ticket, terms.failure())
            return
        try:
            self._send(ticket)
        except Exception as exc:
            raised = failure_of(exc)
            text = f"it could not be sent: {raised.message}"
            self._end(ticket, Failure(Code.GENERIC, text, raised.type, raised.traceback))
            return
        if ticket.stopping:
            self.stop(ticket)

    def _expire(self, ticket: _Ticket) -> None:
        """The time of a task is over: take it back, if that can be done; whoever holds it sees to it himself."""
        producer, result, terms = self._roles.producer(), ticket.result, ticket.terms
        assert terms is not None
        if terms.begun or result.done():
            return
        if isinstance(producer, KeepsExpires) and producer.keeps_expires:
            return
        ticket.expiring = True
        if self._was_paused(ticket) or (isinstance(producer, Cancels) and producer.cancel(result.name, result.id)):
            self._end(ticket, terms.failure())

    def _try_again(self, ticket: _Ticket, failure: Failure, node: str, attempt: int) -> bool:
        """A task has failed; return whether it is tried again, and see to it."""
        terms, packet = ticket.terms, ticket.packet
        if terms is None or packet is None or ticket.options.at_most_once or ticket.stopping or self._closed:
            return False
        if terms.raised >= terms.retries.raised or not terms.retries.covers(failure) or ticket not in self._open:
            return False
        terms.begun = True
        terms.raised += 1
        ticket.packet = packet._replace(attempt=attempt + 1)
        cause = cause_of(failure)
        now = monotonic()
        text = terms.again(terms.raised, terms.retries.raised, cause, now, random())  # noqa: S311
        result, options = ticket.result, ticket.options
        if options.monitor_progress:
            told = (None, text)
            result._report(Report(result.name, result.id, Status.PROGRESS, told, failure, node, attempt, options))
        self._done(ticket)  # polled anew when it is sent
        self._pause(ticket, terms.due - now)
        return True

    def _end(self, ticket: _Ticket, failure: Failure) -> None:
        """Settle a task here, without a report of a node."""
        if ticket.result._fail(failure) and ticket.options.ignore_report:
            tell_ignored(self.events, ticket.result.name, ticket.result.id, failure)
        if self._forget(ticket):
            self._counts.settled(ticket.result)

    # ------------------------------------------------------------------ the end of a task

    def _full(self) -> bool:
        return len(self._open) >= self._max_open and not self._closed

    def _forget(self, ticket: _Ticket) -> bool:
        """Take a task out of the open ones; whoever is told True counts it."""
        try:
            self._open.remove(ticket)
        except KeyError:
            return False
        if self._room.waiting:
            self._room.freed()
        if ticket.large:
            self._space.give(ticket.large)
        self._done(ticket)
        return True

    def _done(self, ticket: _Ticket) -> None:
        if not self._roles.has_store:
            return
        name, id = ticket.result.name, ticket.result.id  # noqa: A001
        try:
            self._roles.store().done(name, id)
        except Exception as exc:
            text = f"the store failed in done() of task {plain(name)} id {plain(id)}"
            details = {"name": name, "id": id, "error": exc}
            self.events.tell(Origin.CALLER, Level.ERROR, EventCode.GENERIC, text, **details)

    def ended(self, ticket: _Ticket, report: Report, attempt: int) -> None:
        """The final report of an attempt at a task is there; the first one wins."""
        if ticket not in self._open:
            return
        failure, terms = report.failure, ticket.terms
        if failure is None or terms is None:
            if self._forget(ticket):
                ticket.result._report(report)
                self._counts.settled(ticket.result)
        elif not self._try_again(ticket, failure, report.node, attempt):
            if failure.code is Code.RAISED:
                failure = failure.after(terms.raised + 1)
            elif failure.code is Code.EXPIRED or (failure.code is Code.CANCELLED and ticket.expiring):
                failure = terms.failure()
            self._end(ticket, failure)

    def cancel(self, ticket: _Ticket) -> bool:
        """Cancel a task that has not been sent, or that its producer can take back."""
        producer, result = self._roles.producer(), ticket.result
        if not self._was_paused(ticket) and not (
            isinstance(producer, Cancels) and producer.cancel(result.name, result.id)
        ):
            return False
        self._end(ticket, Failure(Code.CANCELLED, BEFORE_IT_STARTED))
        return result.cancelled()  # the producer may have said so first

    def stop(self, ticket: _Ticket) -> bool:
        """Cancel a task even where it runs, if its producer can pass that on; its final report tells."""
        ticket.stopping = True
        if ticket in self._paused and self.cancel(ticket):
            return True
        for _ in range(2):  # it may be taken in between
            asked = self._stop_there(ticket)
            if asked or self.cancel(ticket):
                return True
        ticket.stopping = False
        return False

    def _stop_there(self, ticket: _Ticket) -> bool:
        producer, result = self._roles.producer(), ticket.result
        return isinstance(producer, Stops) and producer.stop_task(result.name, result.id)

    def why(self, ticket: _Ticket) -> str:
        """Return in words why a task is not done."""
        result = ticket.result
        if ticket.oddity:
            return ticket.oddity
        if ticket in self._paused and ticket.terms is not None:
            return ticket.terms.why(monotonic())
        if isinstance(ticket, _StreamTicket) and ticket.reading.had:
            return "it is running" + (", and waits for its reader" if ticket.reading.unread else "")
        last = result.last
        if last is not None:
            where = f" on {last.node}" if last.node else ""
            return f"it is running{where}" if last.status is Status.PROGRESS else f"it waits for a worker{where}"
        producer = self._roles.producer()
        said = producer.why(result.name, result.id) if isinstance(producer, Explains) else ""
        return said or "it was sent, and nothing has been heard of it"

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Run a user's callback on a thread of its own."""
        self._callbacks.call_soon(fn, *args)

    def results(self) -> list[Result[Any]]:
        """Return the results of all tasks not settled."""
        return [ticket.result for ticket in list(self._open)]

    def left_behind(self) -> list[Result[Any]]:
        """In a forked child: take no more tasks, and return the results that nobody will settle here."""
        self._closed, self._cause = True, FORKED
        return self.results()

    def ledger(self) -> Ledger:
        """Return what became of the tasks called; see `App.ledger`."""
        still = list(self._open)  # none of these was counted before it was done, nor called after the others
        ok, codes, turned_away = self._counts.ok, self._counts.codes(), self._turned_away
        called, now = drawn(self._called) - turned_away, monotonic()
        tasks = [self._open_task(ticket, now) for ticket in still if not ticket.result.done()]
        return balanced(called, ok, codes, tasks)

    def _open_task(self, ticket: _Ticket, now: float) -> OpenTask:
        result, packet, last, paused = ticket.result, ticket.packet, ticket.result.last, ticket in self._paused
        holder = last.node if last is not None and not paused else ""
        attempt = packet.attempt if packet is not None else 1
        return OpenTask(result.name, result.id, holder, attempt, now - ticket.since, not paused)

    def close(self, timeout: float) -> None:
        """Settle what is open with FAIL/SHUTDOWN."""
        self._closed = True
        self._room.freed()
        self._space.freed()
        self._later.close(timeout)
        self._paused.clear()
        still = list(self._open)
        tell_left_undone(self.events, sum(ticket.options.ignore_report for ticket in still))
        for ticket in still:
            ticket.result._fail(Failure(Code.SHUTDOWN, "the App was closed before the task was done"))
            if self._forget(ticket):
                self._counts.settled(ticket.result)
        self._callbacks.close(timeout)


def _id_maker(function: Function) -> Callable[[], str]:
    """Return what makes the ids of a function's tasks: its setting `id_maker`, or UUIDs."""
    maker, name = function.settings.get("id_maker"), function.name
    if maker is None:
        return lambda: str(uuid.uuid4())
    return lambda: check_part("the id of a task", maker.new_id(name))


def _sent(options: Options, left: float, *, heard: bool) -> Options:
    """
    Return the options that travel: those that the caller has not seen to itself.

    Args:
        options: of the task.
        left: seconds in which it must start, 0.0 for any.
        heard: whether the end of it is to be heard of, although its report may be ignored.
    """
    tries = options.tries
    elsewhere = tries.lost is not None or tries.refused is not None
    retries: int | Retries = replace(tries, raised=0) if elsewhere else 0
    ignored = options.ignore_report and not heard
    told = options.monitor_progress and not options.ignore_report
    return options.replace(
        delay=0.0, expires=left or None, retries=retries, ignore_report=ignored, monitor_progress=told
    )


def _checked(packet: Any, result: Result[Any]) -> Body:
    """
    Return the body of a report, if it is one of this task.

    Raises:
        PeerError: if it is not.
    """
    if not isinstance(packet, ReportPacket):
        raise PeerError(f"a {type(packet).__qualname__}")
    if (packet.name, packet.id) != (result.name, result.id):
        raise PeerError(f"it speaks of task {packet.id!r:.80} of {packet.name!r:.80}")
    if not isinstance(packet.status, int) or packet.status not in _STATUSES or packet.status == Status.NONE:
        raise PeerError(f"there is no status {packet.status!r:.80}")
    buffers = packet.buffers
    if not isinstance(buffers, tuple | list) or not all(
        isinstance(part, _BYTES) for part in (packet.body, *buffers)
    ):
        raise PeerError("its body is not made of bytes")
    if not isinstance(packet.node, str) or not isinstance(packet.attempt, int):
        raise PeerError("its node or attempt cannot be")
    return bytes(packet.body), tuple(buffers)
