"""The caller of remote mode: polls the store, sends the task, and settles by what is heard."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

from dingo_zmq.errors import ArgumentError, Closed, PeerError
from dingo_zmq.events import EventCode, Level, Origin
from dingo_zmq.listening import Events
from dingo_zmq.marshal import Body, check_arguments, decode_failure, decode_progress
from dingo_zmq.model import Code, Failure, Options, Report, Status, check_part, plain
from dingo_zmq.pool import CallbackThread
from dingo_zmq.ports import Cancels, Declares, Explains, Producer, ReportPacket, TaskPacket
from dingo_zmq.registry import Function
from dingo_zmq.remote.roles import Roles
from dingo_zmq.result import Result
from dingo_zmq.room import Room
from dingo_zmq.task import Submit

__all__ = ["RemoteCaller"]

_STATUSES = frozenset(Status)
_BYTES = (bytes, bytearray, memoryview)
_log = logging.getLogger("dingo_zmq.caller")


class _Ticket:
    """One task at its caller, and the owner of its result."""

    __slots__ = ("caller", "function", "oddity", "options", "result")

    def __init__(self, caller: RemoteCaller, function: Function, id: str, options: Options) -> None:
        self.caller, self.function, self.options = caller, function, options
        self.result: Result[Any] = Result(function.name, id, self)
        self.oddity = ""

    # -- as the owner of its result

    def cancel(self, result: Result[Any]) -> bool:
        return self.caller.cancel(self)

    def stop(self, result: Result[Any]) -> bool:
        return self.caller.cancel(self)  # what runs is the broker's business

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
            self._dropped(EventCode.DROPPED, self.oddity, exc)
            return
        if packet.done:
            self.caller.settle(self, _final(packet, body, self.function))
        elif packet.status in (Status.SENT, Status.PROGRESS):
            try:
                value = decode_progress(body) if packet.body else None
            except PeerError as exc:
                self._dropped(EventCode.DECODE, f"dropped a progress report: {exc}", exc)
                return
            status = Status(packet.status)
            report = Report(result.name, result.id, status, value, None, packet.node, packet.attempt, self.options)
            result._report(report)

    def _dropped(self, code: EventCode, what: str, exc: PeerError) -> None:
        name, id = self.result.name, self.result.id
        text = f"task {plain(name)} id {plain(id)}: {what}"
        self.caller.events.tell(Origin.CALLER, Level.WARNING, code, text, name=name, id=id, error=exc)


class RemoteCaller:
    """
    Sends tasks through a producer and hears of them through a store.

    Args:
        roles: what is attached.
        max_open: tasks not settled at a time; at the bound a call waits, or raises `Busy` in an event loop.
        limit: largest body of a task, bytes.
        events: where to tell what happens.
    """

    def __init__(self, roles: Roles, max_open: int, limit: int, events: Events) -> None:
        self.events = events
        self._roles, self._max_open, self._limit = roles, max_open, limit
        self._room = Room(max_open)
        self._open: set[_Ticket] = set()
        self._closed = False
        self._callbacks = CallbackThread()

    def submitter(self, function: Function, options: Options) -> Submit:
        """
        Return what sends a task of `function` with `options`.

        Raises:
            UsageError: if no producer is attached, or no store and the reports are wanted.
        """
        producer = self._roles.producer()
        ignored = options.ignore_report
        store = self._roles.store() if self._roles.has_store or not ignored else None
        pack, name, tasks = function.signature.pack, function.name, self._open
        limit = self._limit
        new_id = _id_maker(function)
        if isinstance(producer, Declares):
            producer.declared(name)

        def submit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result[Any]:
            body = check_arguments(name, pack(args, kwargs), limit)
            if len(tasks) >= self._max_open:
                self._room.wait(self._full)
            id = new_id()  # noqa: A001
            ticket = _Ticket(self, function, id, options)
            packet = TaskPacket(name, id, options, *body)
            if ignored or store is None:
                self._send_unheard(producer, packet, ticket)
                return ticket.result
            tasks.add(ticket)
            try:
                if self._closed:  # looked at last: `close` says so first, and then settles what is open
                    raise Closed("this App is closed")
                store.poll(name, id, ticket.hear)
                producer.send(packet)
            except BaseException:
                self._forget(ticket)
                raise
            return ticket.result

        return submit

    def _send_unheard(self, producer: Producer, packet: TaskPacket, ticket: _Ticket) -> None:
        if self._closed:
            raise Closed("this App is closed")
        producer.send(packet)
        if self._roles.has_store:
            self._roles.store().done(packet.name, packet.id)
        ticket.result._succeed(None)

    def _full(self) -> bool:
        return len(self._open) >= self._max_open and not self._closed

    def _forget(self, ticket: _Ticket) -> None:
        self._open.discard(ticket)
        if self._room.waiting:
            self._room.freed()
        try:
            self._roles.store().done(ticket.result.name, ticket.result.id)
        except Exception:
            _log.exception("the store failed in done()")

    def settle(self, ticket: _Ticket, report: Report) -> None:
        """The final report of a task is there; the first one wins."""
        if ticket in self._open:
            self._forget(ticket)
            ticket.result._report(report)

    def cancel(self, ticket: _Ticket) -> bool:
        """Cancel a task that its producer can take back."""
        producer, result = self._roles.producer(), ticket.result
        if not isinstance(producer, Cancels) or not producer.cancel(result.name, result.id):
            return False
        result._fail(Failure(Code.CANCELLED, "cancelled before it started"))
        self._forget(ticket)
        return result.cancelled()  # the producer may have said so first

    def why(self, ticket: _Ticket) -> str:
        """Return in words why a task is not done."""
        result = ticket.result
        if ticket.oddity:
            return ticket.oddity
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

    def close(self, timeout: float) -> None:
        """Settle what is open with FAIL/SHUTDOWN."""
        self._closed = True
        self._room.freed()
        for ticket in list(self._open):
            ticket.result._fail(Failure(Code.SHUTDOWN, "the App was closed before the task was done"))
            self._forget(ticket)
        self._callbacks.close(timeout)


def _id_maker(function: Function) -> Callable[[], str]:
    """Return what makes the ids of a function's tasks: its setting `id_maker`, or UUIDs."""
    maker, name = function.settings.get("id_maker"), function.name
    if maker is None:
        return lambda: str(uuid.uuid4())
    return lambda: check_part("the id of a task", maker.new_id(name))


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


def _final(packet: ReportPacket, body: Body, function: Function) -> Report:
    """Return a final report; one that cannot be decoded is a failure."""
    name, id, node, attempt = packet.name, packet.id, packet.node, packet.attempt  # noqa: A001
    try:
        if packet.status == Status.SUCCESS:
            value = function.signature.unpack_return(body)
            return Report(name, id, Status.SUCCESS, value, None, node, attempt)
        failure = decode_failure(body, node, attempt)
    except (ArgumentError, PeerError) as exc:
        what = "" if packet.status == Status.SUCCESS else "an unreadable failure: "
        code = Code.GENERIC if what else Code.DECODE
        failure = Failure(code, f"{what}{exc}", type(exc).__qualname__, "", node, attempt)
    return Report(name, id, Status.FAIL, None, failure, node, attempt)
