"""Callers and nodes of the simulated world: the doers around the deciders, in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dingo_zmq.errors import PeerError
from dingo_zmq.model import Options, Status
from dingo_zmq.protocol import caller as calling
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import node as serving
from dingo_zmq.protocol import wire
from dingo_zmq.protocol.intake import Function, Held, Link
from dingo_zmq.protocol.ledger import Entry, Route, wire_options
from dingo_zmq.protocol.roster import Side
from dingo_zmq.protocol.starter import Bundle

if TYPE_CHECKING:
    from dingo_zmq.testing.network import Connection, Frames
    from dingo_zmq.testing.plan import Job, NodePlan
    from dingo_zmq.testing.world import World

MESH = "test"
GRACE_SECONDS = 8.0
GROUP_MOST = 8
LONG = 0.2
"""seconds from which on a task tells of its progress and looks whether it is cancelled"""
STALE_KEY = "nowhere"
TICK_LEAST = 1e-4


class Host:
    """A process: where it sleeps, what comes in waits, and is later read in no order but each source's own."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.asleep_until = 0.0
        self.frozen = False
        self._inbox: dict[Any, deque[tuple[Callable[..., None], tuple[Any, ...]]]] = {}

    @property
    def awake(self) -> bool:
        """Whether its I/O thread runs."""
        return self.world.now >= self.asleep_until

    def sleep(self, seconds: float, *, frozen: bool) -> None:
        """Stop the I/O thread; `frozen`: also the threads of libzmq."""
        self.asleep_until = max(self.asleep_until, self.world.now + seconds)
        self.frozen = self.frozen or frozen
        self.world.after(seconds, self._wake)

    def rouse(self) -> None:
        """End its sleep."""
        self.asleep_until = self.world.now
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
            source = self.world.dice.choice(sources)
            call, arguments = source.popleft()
            call(*arguments)
            if not source:
                sources.remove(source)

    def forget(self) -> None:
        """Lose what waits: the process is dead."""
        self._inbox.clear()
        self.asleep_until, self.frozen = 0.0, False


class CallerHost(Host):
    """The doer around a `Caller`."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.dead = False
        self.caller = calling.Caller(name, MESH, world.dice)
        self.stuck = self.refusals = 0
        self._refused: dict[str, set[Side]] = {}
        self._tick_at = float("inf")
        self._ticks = 0

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
        if self.dead:
            return
        options = Options(at_most_once=job.at_most_once, monitor_progress=job.monitor_progress)
        route = Route(job.function, job.fingerprint)
        entry = Entry(route, job.id, job.body, job.buffers, options, wire_options(options), job)
        self.world.history.accepted[job.id] = entry
        self.handle("user", self._do, self.caller.submit, [entry])
        if job.cancel_after is not None:
            self.world.after(job.cancel_after, self._cancel_soon, entry)

    def die(self, *, good_bye: bool) -> None:
        """Close the App, or just die."""
        if good_bye:
            self._do(self.caller.close)
        self.dead = True
        for connection in self.world.network.of(self.name, ""):
            connection.up = False

    # ------------------------------------------------------------------ doing

    def _found(self, key: str) -> None:
        self._do(self.caller.found, key)
        if key in self.caller.peers and (self.name, key, Side.TASKS) not in self.world.network.connections:
            self.world.network.open(self, self.world.node_at(key), key)

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
        self._do(self.caller.connected if what == "up" else self.caller.disconnected, key, side)

    def _message(self, frames: Frames) -> None:
        if self.dead:
            return
        try:
            message = wire.decode_node(frames)
        except PeerError as exc:
            self.world.history.fault("wire", f"{self.name}: {exc}")
            return
        self._do(self.caller.received, message, tuple(frames[1:]))

    def _cancel_soon(self, entry: Entry) -> None:
        self.handle("user", self._cancel, entry)

    def _cancel(self, entry: Entry) -> None:
        if not self.dead:
            if self.caller.cancel(entry, self.world.now):
                self.world.history.cancelled.add(entry.id)
            self._perform()

    def _do(self, call: Callable[..., Any], *arguments: Any) -> None:
        if not self.dead:
            call(*arguments, self.world.now)
            self._perform()

    def _perform(self) -> None:
        while actions := self.caller.take():
            for action in actions:
                match action:
                    case calling.Send():
                        self._send(action)
                    case calling.Settled():
                        self.world.history.settled_at(action.entries, action.node, self.world.now)
                    case calling.Told():
                        self.world.history.told(action.entry, action.status, self.world.now)
                    case calling.Drop():
                        self.world.note("drop", self.name, action.key)
                        self.world.network.close(self.name, action.key)
                    case calling.Note():
                        self.world.note("log", self.name, action.node, action.text)
        self._set_alarm()

    def _send(self, send: calling.Send) -> None:
        world = self.world
        world.history.sent(self, send)
        connection = world.network.connections.get((self.name, send.key, Side.TASKS))
        up = connection is not None and connection.up
        world.note("send" if up else "unsent", self.name, send.key, send.message)
        if connection is None or not up:
            self.caller.unsent(send, world.now)
        else:
            world.network.send(connection, [wire.encode(send.message), *send.buffers])

    # ------------------------------------------------------------------ time

    def _set_alarm(self) -> None:
        wakeup = max(self.caller.wakeup, self.world.now + TICK_LEAST)
        if wakeup < self._tick_at:
            self._tick_at = wakeup
            self._ticks += 1
            self.world.after(wakeup - self.world.now, self._tick, self._ticks)

    def _tick(self, number: int) -> None:
        if self.dead or number != self._ticks:
            return
        if not self.awake:
            self.world.after(self.asleep_until - self.world.now + 1e-6, self._tick, number)
            return
        self._tick_at = float("inf")
        self._do(self.caller.tick)


class NodeHost(Host):
    """The doer around a `Node`, with its workers; a new `life` begins with each start."""

    def __init__(self, world: World, name: str, plan: NodePlan) -> None:
        super().__init__(world, name)
        self.plan = plan
        self.node: serving.Node | None = None
        self.life = 0
        self.powered = True
        self.drains = 0
        self._exit_at = float("inf")
        self._results: list[tuple[Bundle, list[tuple[Held, int, bytes, tuple[Any, ...]]], float, bool]] = []
        self._round_due = False
        self._tick_at = float("inf")
        self._ticks = 0

    @property
    def up(self) -> bool:
        """Whether its process lives."""
        return self.node is not None

    # ------------------------------------------------------------------ life

    def boot(self) -> None:
        """Start the process, unless it runs."""
        if self.node is not None:
            return
        self.life += 1
        self.powered = True
        identity = serving.Identity(
            node=f"id-{self.name}",
            incarnation=self.world.dice.randbytes(8),
            name=self.name,
            mesh=MESH,
            pace=self.plan.pace,
        )
        self.world.history.born(self.name, self.life, identity.incarnation)
        functions = [
            self.world.history.function(self.name, name, pool, self.plan.pools[pool], fingerprint)
            for name, (pool, fingerprint) in self.plan.functions.items()
        ]
        self.node = serving.Node(identity, functions, self.plan.pools, self.world.now)
        self.node.watch(b"watch/", True)
        self.world.note("boot", self.name, self.life)
        for connection in self.world.network.of("", self.name):
            if connection.up:  # of a life that ended without a word: the machine knows it no more
                self.world.after(self.world.dice.uniform(0, 0.5), self._reset, connection, connection.epoch)
        self._perform()

    def crash(self, *, powered: bool = True) -> None:
        """End the process at once; `powered`: its machine lives and resets the connections."""
        if self.node is None:
            return
        self.world.note("crash", self.name, self.life, powered)
        self.world.history.died(self.name, self.life, self.world.now)
        self.node, self.powered = None, powered
        self._results.clear()
        self._round_due = False
        self._exit_at, self._tick_at = float("inf"), float("inf")
        self._ticks += 1
        self.forget()
        connections = [c for c in self.world.network.of("", self.name) if c.up]
        if powered:
            for connection in connections:
                self.world.after(0.001, self._reset, connection, connection.epoch)
        else:
            self.world.network.heartbeats(connections)

    def _reset(self, connection: Connection, epoch: int) -> None:
        self.world.network.snap(connection, epoch)

    def drain(self) -> bool:
        """Ask the node to finish and go; return whether it will."""
        node = self.node
        if node is None or node.draining or not self.awake:
            return False
        self._exit_at = self.world.now + GRACE_SECONDS
        self._do(node.drain)
        return True

    # ------------------------------------------------------------------ what happens to it

    def subscribed(self, caller: str) -> None:
        """A subscription has come."""
        self.handle("subscriptions", self._subscribed, self.life, caller)

    def _subscribed(self, life: int, caller: str) -> None:
        if self.node is not None and life == self.life:
            self._do(self.node.subscribed, caller)

    def arrived(self, connection: Connection, epoch: int, frames: Frames) -> None:
        """A message has come."""
        self.handle((connection, epoch), self._message, frames)

    def _message(self, frames: Frames) -> None:
        node = self.node
        if node is None:
            return
        try:
            message = wire.decode_caller(frames)
        except PeerError as exc:
            self.world.history.fault("wire", f"{self.name}: {exc}")
            return
        self._do(node.received, message, tuple(frames[1:]))
        link = node.links.get(message.link)
        if link is not None and type(message) is m.Tasks:
            self.world.history.check_link(self.name, link)

    def _do(self, call: Callable[..., Any], *arguments: Any) -> None:
        call(*arguments, self.world.now)
        self._perform()

    def _perform(self) -> None:
        while self.node is not None and (actions := self.node.take()):
            for action in actions:
                if self.node is None:
                    return
                match action:
                    case serving.Publish():
                        self._publish(self.node, action)
                    case serving.Start():
                        for held in action.bundle.all:
                            self.world.history.started(self, held)
                        self._work(self.life, action.bundle)
                    case serving.Note():
                        self.world.note("log", self.name, action.caller, action.text)
        self._set_alarm()

    def _publish(self, node: serving.Node, publish: serving.Publish) -> None:
        world = self.world
        caller, _, rest = publish.topic.decode().partition("/")
        if caller == "pulse":
            return
        if caller == "watch":
            world.history.watched(rest)
            return
        host = world.callers_by_name[caller]
        if host.stuck:
            host.refusals += 1
            world.note("refused", self.name, caller, publish.message)
            node.unpublished(publish)
            return
        world.history.published(self, host, publish)
        world.note("publish", self.name, caller, publish.message)
        frames: list[bytes] = []
        for key in world.keys_of(self.name):
            connection = world.network.connections.get((caller, key, Side.REPORTS))
            if connection is not None and connection.up and connection.subscribed:
                frames = frames or [wire.encode(publish.message, publish.topic), *publish.buffers]
                world.network.send(connection, frames)

    # ------------------------------------------------------------------ workers

    def _work(self, life: int, bundle: Bundle) -> None:
        """One worker takes what it does next from its bundle: some quick tasks, or one."""
        if life != self.life or self.node is None:
            return
        if not self.awake:
            self.world.after(self.asleep_until - self.world.now + 1e-6, self._work, life, bundle)
            return
        answers: list[tuple[Held, int, bytes, tuple[Any, ...]]] = []
        seconds = 0.0
        while bundle.todo and len(answers) < GROUP_MOST and seconds < LONG:
            held = bundle.todo[0]
            job = self.world.jobs[held.id]
            long = job.seconds >= LONG and not held.cancelled
            if long and answers:
                break
            bundle.todo.popleft()
            if held.cancelled:
                answers.append((held, int(Status.FAIL), b"cancelled", ()))
                continue
            self._executed(held)
            if job.killer:
                self._killed()
                return
            if long:
                self._long(life, bundle, held, job.seconds)
                return
            seconds += job.seconds
            answers.append((held, int(Status.SUCCESS), _answer(held), held.buffers))
        self.world.after(seconds, self._done, life, bundle, answers, seconds)

    def _executed(self, held: Held) -> None:
        self.world.stamp(held.id.encode())
        self.world.note("execute", self.name, held.id, held.number, held.attempt)
        self.world.history.executed(self, held, self.world.now)

    def _killed(self) -> None:
        self.crash()
        self.world.after(self.world.dice.uniform(0.2, 1.0), self.boot)

    def _long(self, life: int, bundle: Bundle, held: Held, left: float, spent: float = 0.0) -> None:
        """A task that takes long: it tells of its progress, and ends early where it is cancelled."""
        if life != self.life or self.node is None:
            return
        if not self.awake:
            self.world.after(self.asleep_until - self.world.now + 1e-6, self._long, life, bundle, held, left, spent)
            return
        if left > 0 and not held.cancelled:
            if spent:
                self._do(self.node.progressed, held, b"still at it")
            step = min(left, 1.0)
            self.world.after(step, self._long, life, bundle, held, left - step, spent + step)
            return
        ending = (held, int(Status.SUCCESS), _answer(held), held.buffers)
        if left > 0:
            ending = (held, int(Status.FAIL), b"cancelled", ())
        self._done(life, bundle, [ending], spent)

    def _done(self, life: int, bundle: Bundle, answers: list[Any], seconds: float) -> None:
        """A worker hands over what it has finished, and goes on with its bundle."""
        if life != self.life or self.node is None:
            return
        if not self.awake:
            wait = self.asleep_until - self.world.now + 1e-6
            self.world.after(wait, self._done, life, bundle, answers, seconds)
            return
        self._results.append((bundle, answers, seconds, not bundle.todo))
        if not self._round_due:
            self._round_due = True
            self.world.after(self.world.dice.uniform(0, 0.001), self._round, life)
        if bundle.todo:
            self._work(life, bundle)

    def _round(self, life: int) -> None:
        """The I/O thread comes round: what workers finished goes out."""
        node = self.node
        if life != self.life or node is None:
            return
        if not self.awake:
            self.world.after(self.asleep_until - self.world.now + 1e-6, self._round, life)
            return
        self._round_due = False
        results, self._results = self._results, []
        for bundle, answers, seconds, ended in results:
            node.finished(bundle, answers, seconds, ended, self.world.now)
        links: dict[Link, None] = {held.link: None for _, answers, _, _ in results for held, *_ in answers}
        for link in links:
            self.world.history.check_link(self.name, link)
        self._do(node.flush)

    # ------------------------------------------------------------------ time

    def _set_alarm(self) -> None:
        if self.node is None:
            return
        wakeup = max(self.node.wakeup, self.world.now + TICK_LEAST)
        if wakeup < self._tick_at:
            self._tick_at = wakeup
            self._ticks += 1
            self.world.after(wakeup - self.world.now, self._tick, self._ticks)

    def _tick(self, number: int) -> None:
        node = self.node
        if node is None or number != self._ticks:
            return
        if not self.awake:
            self.world.after(self.asleep_until - self.world.now + 1e-6, self._tick, number)
            return
        self._tick_at = float("inf")
        self._do(node.tick)
        if node is self.node and node.draining and (node.drained or self.world.now >= self._exit_at):
            self.drains += 1
            self.crash()
            self.world.after(self.world.dice.uniform(0.1, 2.0), self.boot)


def _answer(held: Held) -> bytes:
    return b"answer to " + held.body
