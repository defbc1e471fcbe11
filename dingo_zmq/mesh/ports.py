"""
The mesh as something to attach: its caller is a Producer and a Store, its node a NamedConsumer and a Reporter.

``App("remote").use(MeshCallerPort(settings))`` calls the same nodes as ``App("mesh")`` does, and nodes made of a
`MeshNodePort` serve the same callers: both are the same machinery.  App("mesh") is quicker, since there packing,
settling and running are part of it and no packet is made, and it compares signatures, which cannot cross a port.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any

from dingo_zmq.config import for_app
from dingo_zmq.errors import Closed, ConfigError, UsageError
from dingo_zmq.invoke import Signature
from dingo_zmq.limits import BEFORE_IT_STARTED
from dingo_zmq.marshal import encode_failure, encode_progress, size
from dingo_zmq.mesh.engine import MeshEngine, MeshSettings
from dingo_zmq.mesh.node import Answer, MeshNode
from dingo_zmq.model import LARGE, NUMBER_MOST, Code, Failure, Options, Status, check_part, plain
from dingo_zmq.ports import (
    Channel,
    Heard,
    Listener,
    Receipt,
    ReceiptStatus,
    ReportPacket,
    Stop,
    Take,
    Taken,
    TaskPacket,
)
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.caller import Retried, Told
from dingo_zmq.protocol.intake import Held
from dingo_zmq.protocol.ledger import Entry, Route, wire_options
from dingo_zmq.protocol.starter import Bundle
from dingo_zmq.protocol.streams import Reading
from dingo_zmq.protocol.terms import LEAST_SECONDS, Terms
from dingo_zmq.registry import Function
from dingo_zmq.shelf import Shelf
from dingo_zmq.waiting import Condition
from dingo_zmq.yielding import Gate

__all__ = ["MeshCallerPort", "MeshNodePort"]

CLOSE_SECONDS = 3.0
HEARD_SECONDS = 1.5
"""time for callers to say that they have heard the last reports; they do so each second"""
REFUSED_SECONDS = 0.1
"""a worker whose task was refused waits so long before it takes another"""
_FAIL = int(Status.FAIL)
_log = logging.getLogger("dingo_zmq.mesh")

Key = tuple[str, str]


class MeshCallerPort:
    """
    Plays Producer and Store: tasks go to whichever nodes of the mesh there are.

    It keeps every promise of the mesh: one final report for each task, whatever becomes of nodes.  It sees to all
    options, `delay`, `expires` and `retries` among them.  It does not bound how many tasks are open.  `heard` is
    called by the thread that does the I/O.

    Args:
        settings: what an App in mesh mode would be told; default what variables and the file say.
    """

    keeps_expires = True

    def __init__(self, settings: MeshSettings | None = None) -> None:
        self._shelf = Shelf()
        self._entries: dict[Key, Entry] = {}
        self._unwanted: set[Key] = set()
        self._streams: dict[Key, _Read] = {}
        self._routes: dict[tuple[str, str, tuple[str, ...], int], Route] = {}
        self.engine = _CallerEngine(settings or _default_settings(), self)

    def send(self, task: TaskPacket) -> None:
        """
        Send a task.

        Raises:
            UsageError: if a task of this name and id is open, or one of them cannot be part of a topic.
            Closed: after `close`, or in a process that was forked.
        """
        engine, options = self.engine, task.options
        if engine.unusable:
            raise Closed(engine.unusable)
        key = check_part("the name of a function", task.name), check_part("the id of a task", task.id)
        wired = wire_options(options, stream=task.stream)
        entry = Entry(self._route(task), task.id, task.body, task.buffers, options, wired, _Open(self, key))
        entry.attempt = task.attempt - 1  # it is counted when it leaves
        if options.on_terms:
            entry.terms = Terms(options)
        if self._entries.setdefault(key, entry) is not entry:
            raise UsageError(f"task {plain(task.id)} of {plain(task.name)} is open already")
        if task.stream:
            self._streams[key] = stream = _Read(entry)
            engine.start_stream(entry, stream.reading)
        else:
            engine.caller.inbox.append(entry)
            if engine.reactor.sleeping:
                engine.reactor.wake()
        if not engine.reactor.running and self._entries.pop(key, None) is not None:
            raise Closed("this MeshCallerPort is closed")

    def _route(self, task: TaskPacket) -> Route:
        options = task.options
        what = task.name, options.node, options.needs, options.priority
        route = self._routes.get(what)
        if route is None:
            route = self._routes[what] = Route(task.name, "", 0, *what[1:])
        if task.buffers or len(task.body) > LARGE:
            total = len(task.body) + sum(memoryview(buffer).nbytes for buffer in task.buffers)
            return route._replace(size=total)
        return route

    def poll(self, name: str, id: str, heard: Heard) -> None:
        """See `ports.Store.poll`."""
        self._shelf.poll(name, id, heard)

    def done(self, name: str, id: str) -> None:
        """See `ports.Store.done`; a task that is open goes on, unheard, but for a stream, which is stopped."""
        if (name, id) in self._entries:
            self._unwanted.add((name, id))
            if (name, id) in self._streams:
                self.stop_task(name, id)
        self._shelf.done(name, id)

    def taken(self, name: str, id: str, total: int) -> None:
        """See `ports.TellsTaken.taken`."""
        stream = self._streams.get((name, id))
        if stream is not None and stream.take(total):
            self.engine.tell_taken(stream.entry)

    def cancel(self, name: str, id: str) -> bool:
        """Cancel a task unless it is known to have started; return whether it is, or is about to be."""
        entry = self._entries.get((name, id))
        if entry is None or entry.started or entry.settled:
            return False
        self.engine.take_back(entry)
        return True

    def stop_task(self, name: str, id: str) -> bool:
        """See `ports.Stops.stop_task`."""
        entry = self._entries.get((name, id))
        if entry is None or entry.settled:
            return False
        self.engine.stop_there(entry)
        return True

    def why(self, name: str, id: str) -> str:
        """Return why a task is not done, "" if it is not open."""
        entry = self._entries.get((name, id))
        if entry is None:
            return ""
        try:
            return self.engine.reactor.ask(partial(self.engine.caller.why, entry), timeout=2.0)
        except (Closed, TimeoutError):
            return "the I/O thread of this process is busy or has ended"

    def close(self) -> None:
        """End; open tasks are settled with FAIL/SHUTDOWN."""
        self.engine.close(CLOSE_SECONDS)

    # ------------------------------------------------------------------ in the I/O thread

    def put(self, report: ReportPacket) -> None:
        """A report has come."""
        key = report.name, report.id
        if report.done:
            self._entries.pop(key, None)
            self._streams.pop(key, None)
        elif report.status == Status.PARTIAL and key in self._streams:
            self._streams[key].put(report)
        if key not in self._unwanted:
            self._shelf.put(report)
        elif report.done:
            self._unwanted.discard(key)


class _Read:
    """How far the reader of a stream is, who tells only numbers."""

    __slots__ = ("_sizes", "entry", "reading")

    def __init__(self, entry: Entry) -> None:
        self.entry, self.reading = entry, Reading()
        self._sizes: deque[int] = deque()  # of values that are not taken

    def put(self, report: ReportPacket) -> None:
        """A value has come."""
        self._sizes.append(size((report.body, report.buffers)))

    def take(self, total: int) -> bool:
        """So many values were taken in all; return whether the node may have to be told."""
        due = [self.reading.took(self._sizes.popleft()) for _ in range(total - self.reading.taken) if self._sizes]
        return any(due)


class _Open:
    """Stands where an App has a task's `Result`, for what ends without a report."""

    __slots__ = ("key", "port")

    def __init__(self, port: MeshCallerPort, key: Key) -> None:
        self.port, self.key = port, key

    def _fail(self, failure: Failure) -> None:
        self.port.put(ReportPacket(*self.key, Status.FAIL, *encode_failure(failure), failure.attempt))


class _CallerEngine(MeshEngine):
    """The machinery of an App in mesh mode, as far as a caller needs it; it hands out packets."""

    def __init__(self, settings: MeshSettings, port: MeshCallerPort) -> None:
        self._port = port
        super().__init__(settings)

    @property
    def unusable(self) -> str:
        """Why it cannot be used any more, "" while it can."""
        return self.calls.unusable

    def take_back(self, entry: Entry) -> None:
        """Have a task cancelled by the I/O thread, unless it has started by then."""
        self.calls.later(partial(self.caller.cancel, entry))

    def start_stream(self, entry: Entry, reading: Reading) -> None:
        """Have a task sent by the I/O thread whose values are read as they come."""
        self.calls.later(partial(self.caller.stream, entry, reading))

    def tell_taken(self, entry: Entry) -> None:
        """Have the I/O thread tell how many values were taken."""
        self.calls.later(partial(self.caller.took, entry))

    def stop_there(self, entry: Entry) -> None:
        """Have a task stopped by the I/O thread, even where it runs."""
        self.calls.later(partial(self.caller.stop, entry))

    def _hand_over_to(self) -> tuple[Callable[[Entry, str], object], Callable[[Told | Retried], object]]:
        return self._settle, self._told

    def _settle(self, entry: Entry, node: str) -> None:
        if entry.failure is not None:
            entry.result._fail(entry.failure)
        else:
            self._hand_over(entry, entry.status, entry.body, entry.buffers, node)
        entry.body, entry.buffers, entry.result = b"", (), None

    def _told(self, told: Told | Retried) -> None:
        if isinstance(told, Retried):
            self._hand_over(told.entry, Status.PROGRESS, *encode_progress(None, told.text), told.node)
            return
        self._hand_over(told.entry, told.status, told.body, told.buffers, told.node)

    def _hand_over(self, entry: Entry, status: int, body: Any, buffers: tuple[Any, ...], node: str) -> None:
        name, id = entry.route.name, entry.id  # noqa: A001
        self._port.put(ReportPacket(name, id, Status(status), bytes(body), tuple(buffers), entry.attempt, node))


class MeshNodePort:
    """
    Plays NamedConsumer and Reporter: a node of the mesh for each call of `listen`.

    A task counts as running from when it is offered until its final report.  Two tasks of one name and id, from
    two callers, are handed over one after the other.  SENT, and PROGRESS without a body, are told by the mesh
    itself, so they are not sent twice.  Time limits are kept by whoever takes the tasks, since he knows when they
    start.

    Args:
        settings: what an App in mesh mode would be told; default what variables and the file say.
        name: of the node, for people.
        port: the first of a pair of ports, None for a free one.
        tags: words that callers can ask for.
        announce: whether discovery is told; without it, callers have to be told the `addresses`.
    """

    def __init__(
        self,
        settings: MeshSettings | None = None,
        *,
        name: str = "node",
        port: int | None = None,
        tags: Sequence[str] = (),
        announce: bool = True,
    ) -> None:
        self._settings, self._name = settings or _default_settings(), name
        self._tags, self._announce = tags, announce
        self._port = port
        self._engines: list[_NodeEngine] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._desk = _Desk()

    def listen(self, listeners: Sequence[Listener]) -> Callable[[], None]:
        """
        See `ports.NamedConsumer.listen`; the slots of each listener are what the node tells callers.

        Raises:
            ConfigError: where the address or port cannot be had, or there is nothing to listen for.
        """
        if not listeners:
            raise ConfigError("a node of the mesh needs at least one function")
        number = next(self._numbers)
        name = self._name if number == 1 else f"{self._name}-{number}"
        engine = _NodeEngine(self._settings, listeners, self._desk)
        functions = [Function(name, _nothing, Signature.unchecked(name)) for name in engine.takes]
        own = {listener.name: listener.slots for listener in listeners}
        try:
            engine.serve(
                functions,
                own,
                name=name,
                threads=1,
                port=self._port if number == 1 else None,
                tags=self._tags,
                announce=self._announce,
            )
        except BaseException:
            engine.close(CLOSE_SECONDS)
            raise
        with self._lock:
            self._engines.append(engine)
        return engine.stop_taking

    def hear_taken(self, taken: Taken) -> None:
        """See `ports.HearsTaken.hear_taken`; called by the threads that do the I/O."""
        self._desk.taken = taken

    def hear_stops(self, stop: Stop) -> None:
        """See `ports.HearsStops.hear_stops`; called by the threads that do the I/O or hand over tasks."""
        self._desk.stop = stop

    def resized(self, name: str, slots: int) -> None:
        """See `ports.Resizes.resized`; callers are told."""
        for engine in list(self._engines):
            if name in engine.takes:
                engine.resize(name, slots)

    def channel(self, name: str) -> Channel:
        """
        Return a channel for reports of one function; a report of a task that is not held is dropped.

        The channel raises:
            UsageError: for a report of another function.
        """

        def send(reports: Sequence[ReportPacket]) -> None:
            for report in reports:
                if report.name != name:
                    raise UsageError(f"a report of {plain(report.name)} came down the channel of {plain(name)}")
                self._desk.report(report)

        return send

    @property
    def addresses(self) -> list[str]:
        """Where callers of this machine reach its nodes."""
        return [engine.node.endpoints[0] for engine in self._engines if engine.node is not None]

    def close(self) -> None:
        """End; what is held is lost here, and runs elsewhere."""
        with self._lock:
            engines, self._engines = self._engines, []
        for engine in engines:
            engine.stop_taking()
        self._desk.close()
        for engine in engines:
            engine.end()


class _Handed:
    """A task that somebody else runs."""

    __slots__ = ("ended", "final", "held", "tell", "value")

    def __init__(
        self,
        held: Held,
        tell: Callable[[Held, bytes], None],
        value: Callable[[Held, bytes, tuple[Any, ...]], None],
    ) -> None:
        self.held, self.tell, self.value = held, tell, value
        self.ended = threading.Event()
        self.final: ReportPacket | None = None


class _Pace(Gate):
    """Passes on how far the reader of a stream is, to whoever runs it."""

    def __init__(self, desk: _Desk, key: Key) -> None:
        self._desk, self._key = desk, key

    def take(self, total: int) -> None:
        """The reader has taken so many values in all."""
        self._desk.taken(*self._key, total)

    def look(self) -> None:
        """Nothing waits here."""


class _Desk:
    """Tasks that were handed over, by name and id: one at a time."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._handed: dict[Key, _Handed] = {}
        self.closed = False
        self.stop: Stop = _nothing
        self.taken: Taken = _nothing

    def enter(self, key: Key, handed: _Handed) -> bool:
        """Wait until no other task has this name and id; return False when closing."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or key not in self._handed)
            if not self.closed:
                self._handed[key] = handed
            return not self.closed

    def leave(self, key: Key) -> None:
        with self._changed:
            del self._handed[key]
            self._changed.notify_all()

    def report(self, report: ReportPacket) -> None:
        handed = self._handed.get((report.name, report.id))
        if handed is None:
            _log.debug("dropped a report of task %s, which is not held", plain(report.id))
        elif report.done:
            if handed.final is None:
                handed.final = report
            handed.ended.set()
        elif report.status == Status.PROGRESS and report.body:
            handed.tell(handed.held, report.body)
        elif report.status == Status.PARTIAL:
            handed.value(handed.held, report.body, tuple(report.buffers))

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()
            for handed in self._handed.values():
                handed.ended.set()


class _NodeEngine(MeshEngine):
    """The machinery of an App in mesh mode; its workers hand tasks over and wait for the final report."""

    def __init__(self, settings: MeshSettings, listeners: Sequence[Listener], desk: _Desk) -> None:
        self.takes = {listener.name: listener.take for listener in listeners}
        self.desk = desk
        self._stopped = False
        self._drained = threading.Event()
        super().__init__(settings)

    def _make_node(self, *about: Any) -> MeshNode:
        return _PortNode(self.takes, self.desk, *about)

    def stop_taking(self) -> None:
        """Take no more tasks, give back what was not handed over; returns when no `take` is called any more."""
        if self._stopped or self.node is None:
            return
        self._stopped = True
        if self._herald is not None:
            self._herald.close()
            self._herald = None
        node = self.node
        assert isinstance(node, _PortNode)
        node.on_drained = self._drained.set
        self.reactor.ask(node.drain)
        node.turn_away()

    def end(self) -> None:
        """Publish what is finished, wait until it has been heard where that does not take long, and end."""
        assert isinstance(self.node, _PortNode)
        self.node.let_workers_end(CLOSE_SECONDS)
        self._drained.wait(HEARD_SECONDS)
        self.close(CLOSE_SECONDS)


class _PortNode(MeshNode):
    """A node whose functions are run by whoever takes their tasks."""

    def __init__(self, takes: dict[str, Take], desk: _Desk, *about: Any) -> None:
        self._takes, self._desk = takes, desk
        self._refused: deque[tuple[Held, str]] = deque()
        self._offers = Condition()
        self._offering = 0
        self._away = threading.Event()
        super().__init__(*about)

    def turn_away(self) -> None:
        """Offer nothing any more, and wait until no offer is under way."""
        self._away.set()
        with self._offers:
            self._offers.wait_for(lambda: not self._offering)

    def let_workers_end(self, seconds: float) -> None:
        """Let each worker hand in what it has."""
        for pool in self._pools.values():
            pool.close(seconds)

    def pending(self) -> bool:
        """Whether workers have handed something in."""
        return bool(self._refused) or super().pending()

    def _from_workers(self, now: float) -> None:
        while self._refused:  # before their workers hand them in
            held, reason = self._refused.popleft()
            self.decider.refused(held, reason, now)
        super()._from_workers(now)

    def _execute(self, function: Any, held: Held) -> Answer:
        if held.cancelled:
            return _unstarted(held)
        key = function.name, held.id
        handed = _Handed(held, self._hand_progress, self._hand_value)
        if not self._desk.enter(key, handed):
            return self._give_back(held, Receipt(ReceiptStatus.NOK, "the node is closing"))
        try:
            if held.options.stream:
                self._gates[held] = _Pace(self._desk, key)
            body, options = (bytes(held.body), held.buffers), _options(held)
            receipt = self._offer(TaskPacket(*key, options, *body, held.attempt, held.options.stream))
            if receipt.status is not ReceiptStatus.OK:
                return self._give_back(held, receipt)
            self._pass_on(held)  # perhaps it was to be stopped before it was taken
            handed.ended.wait()
            if handed.final is None:
                held.cancelled = True  # nothing is said of it: its caller finds out that the node is gone
                held.awaited = False
                return held, _FAIL, b"", ()
            return held, int(handed.final.status), handed.final.body, tuple(handed.final.buffers)
        finally:
            self._gates.pop(held, None)
            self._desk.leave(key)

    def _interrupt(self, held: Held) -> None:
        self._pass_on(held)

    def _pass_on(self, held: Held) -> None:
        if held.cancelled:
            self._desk.stop(held.lane.function.name, held.id)

    def _overran(self, bundle: Bundle, held: Held) -> None:
        """Leave it to whoever took the task."""

    def _offer(self, packet: TaskPacket) -> Receipt:
        with self._offers:
            self._offering += 1
        try:
            if self._away.is_set():
                return Receipt(ReceiptStatus.NOK, "the node is closing")
            return self._takes[packet.name](packet)
        except Exception as exc:
            _log.exception("a listener of %s stumbled", plain(packet.name))
            return Receipt(ReceiptStatus.NOK, f"the listener raised {type(exc).__name__}")
        finally:
            with self._offers:
                self._offering -= 1
                self._offers.notify_all()

    def _give_back(self, held: Held, receipt: Receipt) -> Answer:
        reason = receipt.reason or receipt.status.name.lower()
        if receipt.status == ReceiptStatus.WORKER_NOT_FOUND:
            reason = m.UNKNOWN_FUNCTION
        self._refused.append((held, reason))
        if self._reactor.sleeping:
            self._reactor.wake()
        self._away.wait(REFUSED_SECONDS)  # else the same task might come and go without end
        return _unstarted(held)

    def _hand_value(self, held: Held, body: bytes, buffers: tuple[Any, ...]) -> None:
        self._yielded.append((held, body, buffers))
        if self._reactor.sleeping:
            self._reactor.wake()

    def _hand_progress(self, held: Held, body: bytes) -> None:
        self._told.append((held, body))
        if self._reactor.sleeping:
            self._reactor.wake()


def _default_settings() -> MeshSettings:
    return MeshSettings(**for_app({}))


def _options(held: Held) -> Options:
    said = held.options
    hard, soft = said.time_limit or None, said.soft_time_limit or None
    return Options(
        at_most_once=said.at_most_once,
        monitor_progress=said.monitor_progress,
        priority=said.priority,
        time_limit=hard,
        soft_time_limit=None if hard and soft and soft >= hard else soft,
        expires=min(NUMBER_MOST, max(LEAST_SECONDS, held.expires_at - monotonic())) if said.expires else None,
    )


def _unstarted(held: Held) -> Answer:
    """Return the answer of a task that never starts, which is heard of if its caller had it stopped."""
    return held, _FAIL, encode_failure(Failure(Code.CANCELLED, BEFORE_IT_STARTED))[0], ()


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Stand for a function that somebody else runs."""
