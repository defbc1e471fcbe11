"""Processes of the simulated world, and the doer around a `Caller`, in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from dingo_zmq.errors import PeerError
from dingo_zmq.model import Code, Failure, Status
from dingo_zmq.protocol import caller as calling
from dingo_zmq.protocol import wire
from dingo_zmq.protocol.ledger import Entry, Route, wire_options
from dingo_zmq.protocol.reading import misread
from dingo_zmq.protocol.roster import Side
from dingo_zmq.protocol.streams import WINDOW, Reading
from dingo_zmq.protocol.terms import Terms
from dingo_zmq.testing.history import FAILED
from dingo_zmq.testing.network import Connection, Frames
from dingo_zmq.testing.plan import Job
from dingo_zmq.testing.scene import Scene

MESH = "test"
TICK_LEAST = 1e-4
FOUND_SECONDS = 0.01
"""after which a node is found again whose key led to another one"""


def read_failure(body: bytes, buffers: tuple[Any, ...]) -> Failure:
    """Return what the body of a FAIL says in this world."""
    return Failure(Code.RAISED, "no", "ValueError") if body == FAILED else Failure(Code.CANCELLED)


class Host:
    """A process: where it sleeps, what comes in waits, and is later read in no order but each source's own."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.scene, self.name = scene, name
        self.asleep_until = 0.0
        self.frozen = False
        self.rate, self._zero = scene.plan.rates.get(name, 1.0), 0.0
        self.start_clock()
        self._inbox: dict[Any, deque[tuple[Callable[..., None], tuple[Any, ...]]]] = {}

    def start_clock(self) -> None:
        """Begin to count from another number, where clocks differ."""
        if self.scene.plan.rates:
            self._zero = self.scene.dice.uniform(0, 1e6)

    @property
    def now(self) -> float:
        """What its monotonic clock says."""
        return self._zero + self.scene.now * self.rate

    def alarm(self, moment: float, call: Callable[..., None], *arguments: Any) -> None:
        """Have something done when its own clock says so."""
        self.scene.after((moment - self.now) / self.rate, call, *arguments)

    @property
    def awake(self) -> bool:
        """Whether its I/O thread runs."""
        return self.scene.now >= self.asleep_until

    def sleep(self, seconds: float, *, frozen: bool) -> None:
        """Stop the I/O thread; `frozen`: also the threads of libzmq."""
        self.asleep_until = max(self.asleep_until, self.scene.now + seconds)
        self.frozen = self.frozen or frozen
        self.scene.after(seconds, self._wake)

    def rouse(self) -> None:
        """End its sleep."""
        self.asleep_until = self.scene.now
        self._wake()

    def handle(self, source: Any, call: Callable[..., None], *arguments: Any) -> None:
        """Do something now, or when it wakes up."""
        if self.awake:
            call(*arguments)
        else:
            self._inbox.setdefault(source, deque()).append((call, arguments))

    def _wake(self) -> None:
        if not self.awake:
            return
        self.frozen = False
        inbox, self._inbox = self._inbox, {}
        sources = list(inbox.values())
        while sources:
            source = self.scene.dice.choice(sources)
            call, arguments = source.popleft()
            call(*arguments)
            if not source:
                sources.remove(source)

    def postpone(self, call: Callable[..., None], *arguments: Any) -> bool:
        """Where it sleeps, have something done as soon as it is awake, and return True."""
        if self.awake:
            return False
        self.scene.after(self.asleep_until - self.scene.now + 1e-6, call, *arguments)
        return True

    def forget(self) -> None:
        """Lose what waits: the process is dead."""
        self._inbox.clear()
        self.asleep_until, self.frozen = 0.0, False


class CallerHost(Host):
    """The doer around a `Caller`."""

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        self.dead = False
        self.caller = calling.Caller(name, MESH, scene.dice, read_failure)
        scene.callers[name] = self.caller
        self._route: Route | None = None  # of the last task
        self._place: calling.Express | None = None
        self._expressed: deque[tuple[Entry, calling.Express]] = deque()
        self._refused: dict[str, set[Side]] = {}  # by key, the sides refused since one was last up
        self._tick_at = float("inf")
        self._ticks = 0
        self._readings: dict[Entry, Reading] = {}
        self._unread: dict[Entry, deque[bytes]] = {}

    # ------------------------------------------------------------------ what happens to it

    def found(self, key: str) -> None:
        """Discovery found a node."""
        self.handle("discovery", self._found, key)

    def gone(self, key: str) -> None:
        """Discovery heard good-bye."""
        self.handle("discovery", self._do, self.caller.gone, key)

    def monitored(self, connection: Connection, what: str) -> None:
        """A connection came up, broke, or was refused."""
        self.handle(("monitor", connection), self._monitored, connection, what)

    def arrived(self, connection: Connection, epoch: int, frames: Frames) -> None:
        """A message has come."""
        self.handle((connection, epoch), self._message, frames)

    def submit(self, job: Job) -> None:
        """A program calls a function."""
        if not self.dead:
            self._accept(job)

    def _accept(self, job: Job, record: int = 0) -> None:
        entry = self._entry(job)
        entry.record = record
        self.scene.history.accepted[job.id] = entry
        self.scene.history.called[job.id] = self.scene.now
        self.handle("user", self._submit_stream if job.stream else self._submit, entry)
        if job.cancel_after is not None:
            self.scene.after(job.cancel_after, self._cancel_soon, job.id)

    def _entry(self, job: Job) -> Entry:
        options = job.options
        route = Route(job.function, job.fingerprint, 0, options.node, options.needs, options.priority)
        wired = wire_options(options, stream=job.stream)
        entry = Entry(route, job.id, job.body, job.buffers, options, wired, job)
        if options.on_terms:
            entry.terms = Terms(options)
        return entry

    def die(self, *, good_bye: bool) -> None:
        """Close the App, or just die."""
        if good_bye:
            self._do(self._close)
        self.dead = True
        for connection in self.scene.network.of(self.name, ""):
            connection.up = False

    # ------------------------------------------------------------------ doing

    def _close(self, now: float) -> None:
        if self.caller.close(now):
            self.caller.good_bye()

    def _submit(self, entry: Entry) -> None:
        """Where there is a place for a lone task, who calls sends it; the decider hears of it later."""
        place, self._place = self._place, None
        self._route = entry.route
        unfit = entry.buffers or entry.terms is not None or entry.record
        if place is None or place.route != entry.route or unfit:
            self._do(self.caller.submit, [entry])
            return
        self._expressed.append((entry, place))
        message = place.tasks(self.name, entry)
        scene, key = self.scene, place.lane.key
        connection = scene.network.connections.get((self.name, key, Side.TASKS))
        scene.note("express", self.name, key, message)
        if connection is None or not connection.up:
            place.refused = True
            return
        scene.history.sent_tasks(message)
        scene.network.send(connection, [wire.encode(message)], "Tasks")

    def _submit_stream(self, entry: Entry) -> None:
        self._unread[entry] = deque()
        reading = self._readings[entry] = Reading()
        self._do(self.caller.stream, entry, reading)

    def _came(self, entry: Entry, value: bytes) -> None:
        """One value of a stream is there; its reader takes them one after the other."""
        unread = self._unread[entry]
        unread.append(value)
        self.scene.history.values[entry.id].append(value)
        if len(unread) > WINDOW:
            self.scene.history.fault("window", f"{self.name} has {len(unread)} unread values of {entry.id}")
        if len(unread) == 1:
            self.scene.after(entry.result.reads, self._read, entry)

    def _read(self, entry: Entry) -> None:
        if self.dead or self.postpone(self._read, entry):
            return
        value = self._unread[entry].popleft()
        if self._readings[entry].took(len(value)):
            self._do(self.caller.took, entry)
        if self._unread[entry]:
            self.scene.after(entry.result.reads, self._read, entry)

    def _settle_up(self) -> None:
        """Before anything else, the decider hears what was sent without it."""
        self._place = None
        while self._expressed:
            entry, place = self._expressed.popleft()
            self.caller.expressed(entry, place, self.now)

    def _found(self, key: str) -> None:
        self._do(self.caller.found, key)
        if key in self.caller.peers and (self.name, key, Side.TASKS) not in self.scene.network.connections:
            self.scene.network.open(self, self.scene.node_at(key), key)

    def _monitored(self, connection: Connection, what: str) -> None:
        key, side = connection.key, connection.side
        if connection.closed or self.dead:
            return
        refused = self._refused.setdefault(key, set())
        if what == "refused":
            refused.add(side)
            if len(refused) == len(Side):
                refused.clear()
                self._do(self.caller.refused, key)
            return
        refused.discard(side)
        if what == "moved":
            self._do(self.caller.moved, key)
            return
        self._do(self.caller.connected if what == "up" else self.caller.disconnected, key, side)

    def _message(self, frames: Frames) -> None:
        if self.dead:
            return
        try:
            message = wire.decode_node(frames)
        except PeerError as exc:
            self.scene.history.fault("wire", f"{self.name}: {exc}")
            return
        self._do(self.caller.received, message, tuple(frames[1:]))

    def _cancel_soon(self, id: str) -> None:  # noqa: A002
        self.handle("user", self._cancel, id)

    def _cancel(self, id: str) -> None:  # noqa: A002
        entry = self.scene.history.accepted.get(id)
        if not self.dead and entry is not None and not entry.settled:
            self._settle_up()
            if entry.result.stop:
                self.scene.history.stopped[entry.id] = entry.attempt
                self.caller.stop(entry, self.now)
            elif self.caller.cancel(entry, self.now):
                self.scene.history.cancelled.add(entry.id)
            self._perform()

    def _do(self, call: Callable[..., Any], *arguments: Any) -> None:
        if not self.dead:
            self._settle_up()
            call(*arguments, self.now)
            self._perform()

    def _perform(self) -> None:
        while actions := self.caller.take():
            for action in actions:
                self._act(action)
        self._set_alarm()
        if self._route is not None:
            self._place = self.caller.express(self._route, self.now)

    def _act(self, action: calling.Action) -> None:
        match action:
            case calling.Send():
                self._send(action)
            case calling.Settled():
                self.scene.history.settled(action.entries, action.node)
            case calling.Told() | calling.Retried():
                self._told(action)
            case calling.Drop(key=key):
                self._drop([key])
            case calling.Reached(node=node, doubles=doubles):
                self._drop(doubles)
                self._look_elsewhere(node, doubles)
            case calling.Note():
                self.scene.history.noted(self.name, action)
                self.scene.note("log", self.name, action.node, action.text)
            case calling.Fenced(text=text):
                self.scene.history.fault("fenced", f"{self.name}: {text}")

    def _told(self, action: calling.Told | calling.Retried) -> None:
        if isinstance(action, calling.Told) and action.status == Status.PARTIAL:
            self._came(action.entry, action.body)
        elif isinstance(action, calling.Told):
            self.scene.history.told(action.entry, action.status)
        else:
            self.scene.note("retried", self.name, action.entry.id, action.text)
            self.scene.history.retried[action.entry.id] += 1

    def _look_elsewhere(self, node: str, keys: list[str]) -> None:
        """Who was found under these keys is still announced; where that is somebody else, he is found again."""
        for key in keys:
            other = self.scene.node_at(key)
            if other is not None and f"id-{other.name}" != node:
                self.scene.after(FOUND_SECONDS, self.found, key)

    def _drop(self, keys: list[str]) -> None:
        for key in keys:
            self.scene.note("drop", self.name, key)
            self.scene.network.close(self.name, key)

    def _send(self, send: calling.Send) -> None:
        scene = self.scene
        scene.history.sent(self.caller, send)
        connection = scene.network.connections.get((self.name, send.key, Side.TASKS))
        up = connection is not None and connection.up
        scene.note("send" if up else "unsent", self.name, send.key, send.message)
        if connection is None or not up:
            self._unsent(send)
        else:
            frames = [wire.encode(send.message), *send.buffers]
            scene.network.send(connection, frames, type(send.message).__name__)

    def _unsent(self, send: calling.Send) -> None:
        self.caller.unsent(send, self.now)

    # ------------------------------------------------------------------ time

    def _set_alarm(self) -> None:
        wakeup = max(self.caller.wakeup, self.now + TICK_LEAST)
        if wakeup < self._tick_at:
            self._tick_at = wakeup
            self._ticks += 1
            self.alarm(wakeup, self._tick, self._ticks)

    def _tick(self, number: int) -> None:
        if self.dead or number != self._ticks:
            return
        if self.postpone(self._tick, number):
            return
        self._tick_at = float("inf")
        self._do(self.caller.tick)
        for route, how in misread(self.caller, lambda how: True):
            self._do(self.caller.reroute, route, partial(self._write_anew, how))

    def _write_anew(self, how: str, entry: Entry) -> Route:
        """Write anew a task that was never sent, for nodes that read it otherwise; return its route."""
        if entry.attempt or entry.strays or entry.result.fingerprint:
            return entry.route
        fingerprint = how and f"/{how}"
        entry.body = entry.result.written(fingerprint)
        return entry.route._replace(fingerprint=fingerprint)
