"""Mesh mode: this process as a caller, and as a node where it serves."""

from __future__ import annotations

import itertools
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any, cast

from dingo_zmq.balance import Counts, Ledger, balanced, drawn
from dingo_zmq.errors import ArgumentError, BodyTooLarge, Closed, ConfigError, PeerError, UsageError
from dingo_zmq.events import EventCode, Level, Origin
from dingo_zmq.forked import FORKED
from dingo_zmq.ids import OpenIDs
from dingo_zmq.ignored import tell_ignored, tell_left_undone
from dingo_zmq.journal import BODY_MOST, Journal, JournalFile, State
from dingo_zmq.listening import Events
from dingo_zmq.marshal import Body, decode_failure, decode_progress, frozen, size
from dingo_zmq.mesh import keys, recorder, sockets
from dingo_zmq.mesh.by_name import ByName, rewrite
from dingo_zmq.mesh.caller import MeshCaller
from dingo_zmq.mesh.discovery import Finder
from dingo_zmq.mesh.discovery.port import Announcement
from dingo_zmq.mesh.discovery.ways import DISCOVERY, sources
from dingo_zmq.mesh.durable import KeptSubmit, call_of, end_of, recovered
from dingo_zmq.mesh.follower import Follower
from dingo_zmq.mesh.herald import Herald
from dingo_zmq.mesh.info import Load, PeerInfo
from dingo_zmq.mesh.node import MeshNode
from dingo_zmq.mesh.pace import pace
from dingo_zmq.mesh.reach import Reach, credentials
from dingo_zmq.mesh.reactor import DIED, Reactor
from dingo_zmq.mesh.selfcheck import check_lock
from dingo_zmq.mesh.tickets import KeptTicket, StreamTicket, Ticket
from dingo_zmq.model import (
    BODY_LIMIT,
    LARGE,
    MAX_CALLERS,
    MAX_KEPT,
    MAX_KEPT_BYTES,
    MAX_NODES,
    MAX_OPEN,
    MAX_OPEN_BYTES,
    Code,
    Failure,
    Options,
    Report,
    Status,
    check_part,
    counted,
    plain,
)
from dingo_zmq.pool import CallbackThread
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.caller import Retried, Told
from dingo_zmq.protocol.intake import Bounds
from dingo_zmq.protocol.ledger import Entry, Route, wire_options
from dingo_zmq.protocol.node import Identity
from dingo_zmq.protocol.terms import Terms
from dingo_zmq.registry import Function
from dingo_zmq.result import Result
from dingo_zmq.room import Room, Space
from dingo_zmq.stream import handing_out
from dingo_zmq.task import Submit, SubmitStream
from dingo_zmq.waiting import Condition, Event

__all__ = ["MeshEngine", "MeshSettings"]

CRASHED = 70
"""exit code of a process whose I/O thread died"""
GLANCE_SECONDS = 0.2
"""longest time that a look at the load may take"""
SAID_MOST = 300
"""characters of what is wrong with something that cannot be decoded, in an event"""
_SUCCESS, _PARTIAL = int(Status.SUCCESS), int(Status.PARTIAL)


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """
    What a mesh App can be told.

    Attributes:
        mesh: name of the mesh; nodes and callers of other meshes never meet.
        peers: addresses of nodes, as ``tcp://host:port``, beside those that are discovered.
        discovery: which of "directory" (this host) and "zeroconf" find nodes and announce them.
        limit: largest body of a task or report, bytes.
        max_open: tasks not settled at a time; at the bound `call` waits, or raises `Busy` in an event loop.
        key: file of a mesh key; None for the one in its usual place or, where there is none, this user's own.
        bind: addresses or interfaces to keep to; none for all of them.
        advertise: where others are told that a node is, instead of its addresses; "host" or "host:port".
        insecure_lan: use no key at all, and be open all the same.
        journal: file in which tasks are recorded before `call` returns, None for none.
        max_open_bytes: bytes of large arguments of tasks not settled; at the bound the same as for `max_open`.
        full: "wait", or "raise" where a call at one of these bounds raises `Busy` anywhere.
        max_kept, max_kept_bytes: answers, and bytes of large ones, that a node of this App keeps for its callers
            until they have heard them; above that it takes no more tasks.
        max_callers: callers that a node of this App knows at a time; above that it lets in nobody new.
        max_nodes: nodes that this App's caller knows at a time; later ones wait until an earlier one is gone.
    """

    mesh: str = "default"
    peers: tuple[str, ...] = ()
    discovery: tuple[str, ...] = DISCOVERY
    limit: int = BODY_LIMIT
    max_open: int = MAX_OPEN
    key: str | None = None
    bind: tuple[str, ...] = ()
    advertise: tuple[str, ...] = ()
    insecure_lan: bool = False
    journal: str | None = None
    max_open_bytes: int = MAX_OPEN_BYTES
    full: str = "wait"
    max_kept: int = MAX_KEPT
    max_kept_bytes: int = MAX_KEPT_BYTES
    max_callers: int = MAX_CALLERS
    max_nodes: int = MAX_NODES

    def credentials(self) -> tuple[keys.Key | None, Reach]:
        """Return the key and the reach; see `reach.credentials`."""
        return credentials(self.key, insecure_lan=self.insecure_lan, bind=self.bind, advertise=self.advertise)


class MeshEngine:
    """
    Brings reactor, caller, node and discovery together for one App.

    Args:
        settings: what the App was told.
        events: where to tell what happens.
        find: returns the function that the program knows under a name; for tasks of an earlier life.

    Raises:
        JournalError: the journal cannot be opened.
        UsageError: bodies may be larger than a journal can record.
    """

    def __init__(
        self,
        settings: MeshSettings,
        events: Events | None = None,
        find: Callable[[str], Function | None] = lambda name: None,
    ) -> None:
        check_part("the name of a mesh", settings.mesh)
        sockets.check_descriptors()
        self.settings = settings
        self.key, self.reach = settings.credentials()
        self.events = events or Events()
        self.journal: Journal | None
        self.journal, state = self._open_journal(settings.journal)
        self.id, self._life = (secrets.token_hex(8), 0) if state is None else (state.caller, state.life)
        self._lives = 0 if state is None else state.lives
        self._records = itertools.count(1 if state is None else state.last + 1)
        self._left: list[Result[Any]] = []  # of an earlier life, and not handed out yet
        self._ids = itertools.count(1)
        self._open_ids = OpenIDs()
        self._settled = 0
        self._counts = Counts()
        self._came_late: list[Ticket] = []  # when the loop had ended, or was about to
        self._left_undone = 0  # tasks whose reports are ignored, at the end
        self._turned_away = 0  # numbers drawn by calls that raised
        self._unusable = ""
        self._turning_away = threading.Lock()
        self._room = Room(settings.max_open, settings.full)
        self._space = Space(settings.max_open_bytes, settings.full)
        self._has_large = False  # whether there ever was a large body
        found_by = sources(settings.discovery, settings.peers, self.reach.interfaces)
        self._finder = Finder(found_by, settings.mesh, settings.max_nodes)
        self.caller = MeshCaller(
            self.id,
            settings.mesh,
            self.key,
            settings.limit,
            self._settle,
            self._told,
            self._finder.sources_of,
            self.events,
            self._life,
        )
        self.caller.rewrite = self._rewrite
        self.caller.on_news = lambda: self._callbacks.call_soon(self._changed)
        self._news, self._news_count = Condition(), 0
        self.node: MeshNode | None = None
        self._herald: Herald | None = None
        self._callbacks = CallbackThread()
        self.events.call_soon = self._callbacks.call_soon
        self.reactor = Reactor(sockets.new_context(), f"dingo-io-{self.id[:4]}", self._crashed)
        self.reactor.parts.append(self.caller)
        self.caller.open(self.reactor)
        if self.journal is not None and state is not None:
            self._resume(self.journal, state, find)
        self.reactor.start()
        self._finder.start(lambda event: self._later(partial(self.caller.discovered, event)))

    def _crashed(self) -> None:
        """The loop died: half a node alive is worse than none; a mere caller can still say so."""
        if self.node is not None:
            os._exit(CRASHED)
        self._unusable = DIED
        for result, _ in self.caller.open_tasks():
            result._fail(Failure(Code.SHUTDOWN, self._unusable))
        self._changed()
        self.events.close(DIED)

    def left_behind(self) -> list[Result[Any]]:
        """In a forked child: take no more tasks, and return the results that nobody will settle here."""
        self._unusable = FORKED
        return [result for result, _ in self.caller.open_tasks()]

    # ------------------------------------------------------------------ the journal

    def _open_journal(self, path: str | None) -> tuple[Journal, State] | tuple[None, None]:
        if path is None:
            return None, None
        if self.settings.limit > BODY_MOST:
            raise UsageError(
                f"limit may be {BODY_MOST:,} bytes at most with a journal, not {self.settings.limit:,}"
            )

        def say(text: str) -> None:
            self.events.tell(Origin.CALLER, Level.WARNING, EventCode.JOURNAL, f"journal {path}: {text}")

        def fenced(text: str) -> None:
            self._later(partial(self._fenced, text))

        file = JournalFile(path, partial(secrets.token_hex, 8))
        try:
            state = file.begin_life()
        except BaseException:
            file.close()
            raise
        return Journal(file, say, fenced), state

    def _resume(self, journal: Journal, state: State, find: Callable[[str], Function | None]) -> None:
        """Go on with what earlier lives left; before the loop runs."""
        found = recovered(state, journal, find, self)
        self._ids = itertools.count(1 + len(found.waiting) + len(found.held))
        self._left = found.results
        for result in self._left:
            self._open_ids.take(result)
        self.caller.recorder = recorder.Recorder(self.caller.decider, journal, self.reactor.wake)
        self.caller.on_recorded, self.caller.on_fenced = self._recorded, self._fenced
        self.caller.decider.resume(found.waiting, found.held, time.monotonic())
        for entry, age in found.ages.items():
            entry.since -= age
        for ticket, end in found.ended:
            end_of(ticket, end)
            self._finish(ticket, end.node)
        if self._left:
            text = f"journal {self.settings.journal}: {counted(len(self._left), 'task')} of an earlier life: "
            text += f"{len(found.waiting) + len(found.held)} open, {len(found.ended)} done; hint: app.recover()"
            self.events.tell(Origin.CALLER, Level.INFO, EventCode.JOURNAL, text)

    def recover(self) -> list[Result[Any]]:
        """Return the results of the tasks of earlier lives, in the order of their calls, each once."""
        found, self._left = self._left, []
        return found

    def leave_nothing(self) -> None:
        """The App is closed in good order: by its end the program has used what is settled."""
        if self.journal is not None:
            self.journal.clean = True

    def _recorded(self, entries: Iterable[Entry]) -> None:
        """The ends of these tasks are in the journal."""
        journal = self.journal
        assert journal is not None
        for entry in entries:
            if isinstance(entry, KeptTicket):
                entry.let_go = journal.let_go

    def _rewrite(self, entry: Entry, how: str) -> Route:
        route = rewrite(entry, how)
        if self.journal is not None and entry.record and route is not entry.route:
            before, entry.route = entry.route, route
            self.journal.note(calls=[call_of(entry)])
            entry.route = before
        return route

    def _fenced(self, text: str) -> None:
        """Another life has the journal: end, and leave all of it to that."""
        if self._unusable:
            return
        self._unusable = f"{text}; this one is fenced off: what was open here is the other's now"
        assert self.journal is not None
        self.journal.fence()
        self.caller.decider.fence()
        self.events.tell(Origin.CALLER, Level.ERROR, EventCode.JOURNAL, self._unusable)
        for result, _ in self.caller.open_tasks():
            result._fail(Failure(Code.SHUTDOWN, self._unusable))
        self._room.freed()
        self._changed()

    # ------------------------------------------------------------------ calling

    def submitter(self, function: Function, options: Options) -> Submit:
        """Return what sends a task of `function` with `options`."""
        if function.signature.by_name:
            return ByName(self.caller, function, options, self.submitter)
        if self.journal is not None:
            return self._kept(function, options)
        return self._submitter(function, options, Ticket)

    def streamer(self, function: Function, options: Options) -> SubmitStream:
        """Return what sends a task of `function` with `options`, whose values are read as they come."""
        if function.signature.by_name:
            return ByName(self.caller, function, options, self.streamer)
        return handing_out(self._submitter(function, options, StreamTicket))

    def _submitter(self, function: Function, options: Options, make: type[Ticket]) -> Submit:  # noqa: C901 - hot
        self._check_key(function)
        signature, name = function.signature, function.name
        pack, unpack = signature.pack, signature.unpack_return
        route = Route(name, signature.fingerprint, 0, options.node, options.needs, options.priority)
        wired = wire_options(options, stream=make is not Ticket)
        append, send_now, reactor = self.caller.inbox.append, self.caller.send_now, self.reactor
        ids, max_open = self._ids, self.settings.max_open
        limit = self.settings.limit
        new_id, new_result = self._id_makers(function)
        special = options.on_terms or options.ignore_report or make is not Ticket

        def submit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result[Any]:  # noqa: C901 - hot
            data, buffers = pack(args, kwargs)
            way = route
            if buffers or len(data) > LARGE:
                way, (data, buffers) = _large(route, (data, buffers), limit)
            if self._unusable:
                raise Closed(self._unusable)
            number, ticket = 0, None
            try:
                for number in ids:  # noqa: B007 - unlike after next(), no signal comes before it is kept
                    break
                if number - self._settled - self._turned_away > max_open:
                    self._wait_for_room(number)
                ticket = make(way, new_id(number), data, buffers, options, wired, None)
                ticket.engine, ticket.unpack = self, unpack
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

    def _kept(self, function: Function, options: Options) -> Submit:
        """Return what records a task, and sends it then."""
        self._check_key(function)
        signature, name = function.signature, function.name
        route = Route(name, signature.fingerprint, 0, options.node, options.needs, options.priority)
        wired, limit = wire_options(options), self.settings.limit
        new_id, new_result = self._id_makers(function)
        unpack = MethodType(_nothing, self) if options.ignore_report else signature.unpack_return

        def make(args: tuple[Any, ...], kwargs: dict[str, Any], before: Callable[[], None]) -> KeptTicket:
            (data, buffers), way = signature.pack(args, kwargs), route
            if buffers or len(data) > LARGE:
                way, (data, buffers) = _large(route, (data, buffers), limit)
            if self._unusable:
                raise Closed(self._unusable)
            number, ticket = 0, None
            try:
                for number in self._ids:  # noqa: B007 - as in `_submitter`
                    break
                if number - self._settled - self._turned_away > self.settings.max_open:
                    before()
                    self._wait_for_room(number)
                ticket = KeptTicket(way, new_id(number), data, buffers, options, wired, None)
                ticket.engine, ticket.unpack, ticket.let_go = self, unpack, None
                if way is not route:
                    before()
                    self._take_space(ticket, way.size)
                ticket.record = next(self._records)
                if options.on_terms:
                    ticket.terms = Terms(options)
                ticket.result = new_result(name, ticket.id, ticket)
            except BaseException:
                if number:
                    self._turn_away(ticket)
                raise
            return ticket

        return KeptSubmit(make, self._send_kept, self._turn_away)

    def _send_kept(self, tickets: list[KeptTicket]) -> list[Result[Any]]:
        """Send tasks as soon as they are recorded; return what the program gets."""
        assert self.journal is not None
        results = [ticket.result for ticket in tickets]
        try:
            self.journal.record([call_of(ticket) for ticket in tickets])
            self.caller.inbox.extend(tickets)
            if self.reactor.sleeping:
                self.reactor.wake()
            if not self.reactor.running:
                for ticket, result in zip(tickets, results, strict=True):
                    self._late(ticket, result)
        except BaseException:
            for ticket in tickets:
                self._turn_away(ticket)
            raise
        ignored = tickets[0].options.ignore_report
        return [_told_at_once(result) if ignored else result for result in results]

    def _late(self, ticket: Ticket, result: Result[Any]) -> None:
        with self._turning_away:
            self._came_late.append(ticket)
        result._fail(Failure(Code.SHUTDOWN, "the App was closed before the task was done"))

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

    def _turn_away(self, ticket: Ticket | None) -> None:
        """A call that has drawn its number raises; where a signal did that, the task may be on its way."""
        if ticket is not None and not self.reactor.is_current:
            self._later(partial(self._turn_away, ticket))
        elif ticket is None or not self.caller.has(ticket):
            with self._turning_away:
                self._turned_away += 1
            self._give_space(ticket)
            if self.journal is not None and ticket is not None:
                self.journal.let_go(ticket.record)  # it may be there, where a signal came in between

    def _check_key(self, function: Function) -> None:
        if function.signature.pickles and self.key is None:
            raise ConfigError(
                f"{function.name}: pickles need a mesh key, and there is none: whoever can reach it could run "
                "any code; hint: dingo-zmq keygen instead of --insecure-lan, or another marshaller"
            )

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
        self.caller.inbox.append(ticket)
        if self.reactor.sleeping:
            self.reactor.wake()
        if not self.reactor.running:
            self._late(ticket, result)
        return told

    def _submit_stream(self, ticket: StreamTicket, result: Result[Any]) -> Result[Any]:
        ticket.open_stream(result, partial(self.took, ticket))
        self._later(partial(self.caller.stream, ticket, ticket.reading))
        if not self.reactor.running:
            self._late(ticket, result)
        return result

    def _take_space(self, ticket: Ticket, size: int) -> None:
        self._has_large = True
        self._space.take(size, lambda: self._unusable, may_block=not self.reactor.is_current)
        ticket.large = size

    def _give_space(self, ticket: Ticket | None) -> None:
        large: int = getattr(ticket, "large", 0)
        if large:
            self._space.give(large)

    def _wait_for_room(self, number: int) -> None:
        def full() -> bool:
            return number - self._settled - self._turned_away > self.settings.max_open and not self._unusable

        self._room.wait(full, may_block=not self.reactor.is_current)
        if self._unusable:
            raise Closed(self._unusable)

    def cancel(self, ticket: Ticket, result: Result[Any]) -> bool:
        """Cancel a task unless it is known to have started."""
        if ticket.started or ticket.settled:
            return False
        won = result._fail(Failure(Code.CANCELLED, "cancelled before it started"))
        if won:
            self._later(partial(self.caller.cancel, ticket))
        return won

    def stop(self, ticket: Ticket) -> bool:
        """Cancel a task even where it runs; its final report tells."""
        asked = not ticket.settled
        if asked:
            self._later(partial(self.caller.stop, ticket))
        return asked

    def took(self, ticket: Ticket) -> None:
        """So many values of a stream were taken that its node should know at once."""
        self._later(partial(self.caller.took, ticket))

    def why(self, ticket: Ticket) -> str:
        """Return in words why a task is not done."""
        try:
            return self.reactor.ask(partial(self.caller.why, ticket), timeout=2.0)
        except (Closed, TimeoutError):
            return self._unusable or "the I/O thread of this process is busy"

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Run a user's callback on a thread of its own."""
        self._callbacks.call_soon(fn, *args)

    def _later(self, fn: Callable[[], None]) -> None:
        try:
            self.reactor.call(fn)
        except Closed:
            return

    # ------------------------------------------------------------------ in the I/O thread

    def _settle(self, entry: Entry, node: str) -> None:
        self._settled += 1
        if self._room.waiting:
            self._room.freed()
        if self._has_large:
            self._give_space(cast(Ticket, entry))
        result = entry.result
        if not self._finish(entry, node):
            self._counts.settled(result)

    def _finish(self, entry: Entry, node: str) -> bool:
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
                self._left_undone += 1
            else:
                tell_ignored(self.events, entry.route.name, entry.id, failure)
        return failure

    def _told(self, told: Told | Retried) -> None:
        entry = told.entry
        if isinstance(entry, StreamTicket) and isinstance(told, Told) and told.status == _PARTIAL:
            self._value(entry, told)
            return
        name, id, attempt, options = entry.route.name, entry.id, entry.attempt, entry.options
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
        name, id, attempt = ticket.route.name, ticket.id, ticket.attempt
        body = told.body, told.buffers
        try:
            value = ticket.unpack(body)
        except (ArgumentError, PeerError) as exc:
            ticket.result._fail(Failure(Code.DECODE, str(exc), type(exc).__qualname__, "", told.node, attempt))
            self._undecoded(ticket, told.node, "a value does not fit", exc)
            self.stop(ticket)
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
        if self.events.hears(Origin.CALLER, level):
            name, id = entry.route.name, entry.id
            text = f"{node}: task {name} id {plain(id)}: {what}: {plain(str(exc), most=SAID_MOST)}"
            details = {"node": node, "name": name, "id": id, "error": exc}
            self.events.tell(Origin.CALLER, level, EventCode.DECODE, text, **details)

    # ------------------------------------------------------------------ serving

    def serve(
        self,
        functions: Iterable[Function],
        own: Mapping[str, int],
        *,
        name: str,
        threads: int,
        port: int | None = None,
        tags: Sequence[str] = (),
        announce: bool = True,
    ) -> Announcement:
        """
        Serve functions from this process.

        Args:
            functions: registered ones.
            own: functions with workers of their own, and how many.
            name: of the node, for people.
            threads: size of the shared pool.
            port: the first of a pair of ports, None for a free one.
            tags: words that callers can ask for.
            announce: whether to tell discovery; a supervisor does that for its processes.

        Raises:
            ConfigError: where the address or port cannot be had, strangers would be let in, or a function takes
                pickles and there is no key.
        """
        served = list(functions)
        for function in served:
            self._check_key(function)
        node_id = secrets.token_hex(8)
        identity = Identity(
            node_id,
            secrets.token_bytes(8),
            name,
            self.settings.mesh,
            tuple(tags),
            self.settings.limit,
            pace(),
        )
        node = self._make_node(identity, served, own, threads, self.key, self.reach.hosts(), port, self.events)
        node.decider.bounds = Bounds(
            self.settings.max_kept, self.settings.max_kept_bytes, self.settings.max_callers
        )

        def start() -> None:
            node.open(self.reactor)
            self.reactor.parts.append(node)
            if self.reach.bind:
                self.reactor.parts.append(Follower(self.reach, node))

        self.reactor.ask(start)
        self.node = node
        tasks, reports = node.endpoints
        if self.key is not None:
            check_lock(tasks, reports, self.key)
        announcement = Announcement(
            node_id,
            name,
            self.settings.mesh,
            identity.incarnation.hex(),
            m.VERSION,
            (tasks,),
            (reports,),
            key=keys.key_id(self.key),
        )
        if announce:
            self._herald = Herald(self.settings.discovery, self.reach)
            self._herald.announce(announcement)
        return announcement

    def _make_node(self, *about: Any) -> MeshNode:
        return MeshNode(*about)

    def on_restart(self, fn: Callable[[], object]) -> None:
        """
        Have `fn` called when this process should end, since a thread of it has run longer than it may.

        By then all else that the node held has been given back.  Without this, such a thread is let go on.
        """
        assert self.node is not None
        self.node.on_restart = fn

    def resize(self, name: str, count: int) -> None:
        """A function with workers of its own gets another number of them, if it is served here."""
        node = self.node
        if node is not None:
            self.reactor.ask(partial(node.resize, name, count))

    def started(self, name: str) -> int:
        """Return how many workers of its own a function has here that are started."""
        return 0 if self.node is None else self.node.started(name)

    def drain(self, timeout: float) -> bool:
        """Stop serving: give back what has not started, and let the rest finish within `timeout` seconds."""
        node = self.node
        if node is None:
            return True
        done = Event()

        def begin() -> None:
            node.on_drained = done.set
            node.drain()

        if self._herald is not None:
            self._herald.close()
            self._herald = None
        self.reactor.ask(begin)
        return done.wait(timeout)

    # ------------------------------------------------------------------ for people

    def peers(self) -> list[PeerInfo]:
        """Return what is known of each node."""
        return self.reactor.ask(self.caller.peers)

    def load(self) -> Load:
        """
        Return how things stand, at once.

        Raises:
            Closed: after the end.
            TimeoutError: where the I/O thread is busy.
        """
        return self.reactor.ask(self.caller.load, GLANCE_SECONDS)

    def waiting(self) -> list[str]:
        """Return a line for each function and cause for which tasks wait that no node can take."""
        return self.reactor.ask(self.caller.waiting)

    def announced(self) -> dict[str, Announcement]:
        """Return what is announced for this mesh now, by the id of the node; a hint, never proof that it lives."""
        return self._finder.nodes

    def other_meshes(self) -> dict[str, int]:
        """Return the names of the other meshes whose nodes were seen, and how many nodes."""
        return dict(sorted(Counter(said.mesh for said in self._finder.others.values()).items()))

    def wait_for(self, enough: Callable[[list[PeerInfo]], bool], timeout: float) -> list[PeerInfo]:
        """
        Wait until the nodes known are `enough`, at most `timeout` seconds, and return what is known of them.

        Raises:
            Closed: after the end, and as soon as it comes.
        """
        end = time.monotonic() + timeout
        while True:
            seen = self._news_count
            if self._unusable:
                raise Closed(self._unusable)
            peers = self.peers()
            left = end - time.monotonic()
            if enough(peers) or left <= 0:
                return peers
            self._wait_for_news(seen, left)

    def _wait_for_news(self, seen: int, seconds: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._news_count != seen, seconds)

    def _changed(self) -> None:
        with self._news:
            self._news_count += 1
            self._news.notify_all()

    def subscribe(self, prefix: str) -> None:
        """Receive what is published under another prefix too."""
        self.reactor.ask(partial(self.caller.subscribe, prefix))

    @property
    def open(self) -> int:
        """How many tasks are not settled."""
        return self.reactor.ask(lambda: self.caller.decider.ledger.open + len(self.caller.inbox))

    def ledger(self) -> Ledger:
        """
        Return what became of the tasks called; see `App.ledger`.

        Raises:
            TimeoutError: where the I/O thread is busy.
        """
        try:
            return self._ledger(*self.reactor.ask(self._look))
        except Closed:
            self.reactor.has_ended(GLANCE_SECONDS)
            return self._ledger(*self._look())

    def _look(self) -> tuple[int, int, Counter[Code], list[tuple[Result[Any], Entry]]]:
        """Return how many tasks were called, how many were settled, the failures among them, and the others."""
        tasks = self.caller.open_tasks()
        if self._came_late:
            known = {entry for _, entry in tasks}
            late = [ticket for ticket in self._came_late if not (ticket.settled or ticket in known)]
            tasks += [(ticket.result, ticket) for ticket in late]
        codes, settled = self._counts.codes(), self._settled
        not_called = self._room.waiting + self._space.waiting + self._turned_away
        return drawn(self._ids) - not_called, settled, codes, tasks

    def _ledger(
        self, called: int, settled: int, codes: Counter[Code], tasks: list[tuple[Result[Any], Entry]]
    ) -> Ledger:
        ok, still = settled - codes.total(), []
        for result, entry in tasks:
            if not result.done():
                still.append(self.caller.open_task(entry))
            elif result.failure is None:
                ok += 1
            else:  # cancelled, say, and its node has not told yet what became of it
                codes[result.failure.code] += 1
        return balanced(called, ok, codes, still)

    def results(self) -> list[Result[Any]]:
        """Return the results of all tasks not settled; none after the end."""
        return [] if self._unusable else self.reactor.ask(self.caller.results)

    def close(self, timeout: float) -> None:
        """
        Settle what is open with FAIL/SHUTDOWN, say good-bye, and end all threads.

        In a forked child it touches nothing, since all of it is its parent's.
        """
        if self._unusable == FORKED:
            return
        if not self._unusable:
            self._unusable = "this App is closed"
        self._changed()
        if self._herald is not None:
            self._herald.close()
        self._finder.stop()
        self.reactor.stop(timeout)  # which closes the journal, too
        tell_left_undone(self.events, self._left_undone)
        self._room.freed()
        self._space.freed()
        self._callbacks.close()


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
