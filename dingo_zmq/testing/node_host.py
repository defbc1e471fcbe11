"""The doer around a `Node` of the simulated world, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dingo_zmq.errors import PeerError
from dingo_zmq.model import Status
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import node as serving
from dingo_zmq.protocol import wire
from dingo_zmq.protocol.former import Holder
from dingo_zmq.protocol.intake import Held
from dingo_zmq.protocol.roster import Side
from dingo_zmq.testing.history import MeasuredFunction
from dingo_zmq.testing.hosts import MESH, TICK_LEAST, Host
from dingo_zmq.testing.network import Connection, Frames
from dingo_zmq.testing.plan import NodePlan
from dingo_zmq.testing.scene import Scene
from dingo_zmq.testing.workers import OVER_LIMIT, Workers

GRACE_SECONDS = 8.0


class NodeHost(Host):
    """
    The doer around a `Node`, with its workers; a new `life` begins with each start.

    `effects` counts what its deciders had it do.
    """

    def __init__(self, scene: Scene, name: str, plan: NodePlan) -> None:
        super().__init__(scene, name)
        scene.nodes[name] = self
        self.plan = plan
        self.node: serving.Node | None = None
        self.life = 0
        self.powered = True
        self.effects = 0
        self._exit_at = float("inf")
        self.workers: Workers | None = None
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
        self.start_clock()
        identity = serving.Identity(
            node=f"id-{self.name}",
            incarnation=self.scene.dice.randbytes(8),
            name=self.name,
            mesh=MESH,
            tags=self.plan.tags,
            pace=self.plan.pace,
        )
        self.scene.history.born(self.name, self.life, identity.incarnation)
        functions = [
            MeasuredFunction(name, pool, self.plan.pools[pool], fingerprint, name in self.scene.plan.delicate)
            for name, (pool, fingerprint) in self.plan.functions.items()
        ]
        self.node = serving.Node(identity, functions, self.plan.pools, self.now)
        self.workers = Workers(self, self.node)
        if self.scene.plan.watched:
            self.node.watch(b"watch/", True)
        self.scene.note("boot", self.name, self.life)
        self.scene.on_boot(self.name)
        for connection in self.scene.network.of("", self.name):
            if connection.up:  # of a life that ended without a word: the machine knows it no more
                self.scene.after(self.scene.dice.uniform(0, 0.5), self._reset, connection, connection.epoch)
        self._perform()

    def crash(self, *, powered: bool = True, cleanly: bool = False) -> None:
        """
        End the process.

        Args:
            powered: whether its machine lives and resets the connections.
            cleanly: whether it lingers until what it has published has left.
        """
        if self.node is None:
            return
        self.scene.note("crash", self.name, self.life, powered)
        self.scene.history.died(self.name, self.life)
        self.scene.on_crash(self.name)
        self.node, self.powered = None, powered
        self.workers = None
        self._exit_at, self._tick_at = float("inf"), float("inf")
        self._ticks += 1
        self.forget()
        connections = [c for c in self.scene.network.of("", self.name) if c.up]
        if powered:
            for connection in connections:
                self.scene.after(0.001, self._reset, connection, connection.epoch, cleanly)
        else:
            self.scene.network.heartbeats(connections)

    def _reset(self, connection: Connection, epoch: int, cleanly: bool = False) -> None:
        self.scene.network.snap(connection, epoch, cleanly=cleanly)

    def drain(self) -> bool:
        """Ask the node to finish and go; return whether it will."""
        node = self.node
        if node is None or node.draining or not self.awake:
            return False
        self._exit_at = self.scene.now + GRACE_SECONDS
        self.do(node.drain)
        return True

    # ------------------------------------------------------------------ what happens to it

    def subscribed(self, caller: str) -> None:
        """A subscription has come."""
        self.handle("subscriptions", self._subscribed, self.life, caller)

    def _subscribed(self, life: int, caller: str) -> None:
        if self.node is not None and life == self.life:
            self.do(self.node.subscribed, caller)

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
            self.scene.history.fault("wire", f"{self.name}: {exc}")
            return
        self.do(node.received, message, tuple(frames[1:]))
        link = node.links.get(message.link)
        if link is not None and type(message) is m.Tasks:
            self.scene.history.check_link(self.name, link)

    def do(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Tell the decider something, and perform what comes of it."""
        call(*arguments, self.now)
        self._perform()

    def _perform(self) -> None:
        node, workers = self.node, self.workers
        while node is not None and workers is not None and (actions := node.take()):
            for action in actions:
                if node is not self.node or self._dies_now():  # or a task has killed it
                    return
                match action:
                    case serving.Publish():
                        self._publish(node, action)
                    case serving.Start():
                        for held in action.bundle.all:
                            self.scene.history.started(self.name, self.life, held, node.starter)
                        workers.work(action.bundle)
                    case serving.Interrupt() | serving.Resume():
                        workers.hear(action)
                    case serving.Overrun():
                        self._overran(node, action)
                    case serving.Note():
                        self.scene.note("log", self.name, action.caller, action.text)
        self._set_alarm()

    def _dies_now(self) -> bool:
        """Count what is to be done next; where the plan says so the process dies before that."""
        self.effects += 1
        dies = self.effects == self.plan.dies_at
        if dies:
            self.killed()
        return dies

    def _overran(self, node: serving.Node, overrun: serving.Overrun) -> None:
        """A task is over its time limit: its worker is lost, with the process where that has to end."""
        assert self.workers is not None
        restart = not self.workers.leave(overrun.held) and self.plan.mortal
        if restart and not node.draining:
            self.scene.history.restarts.add((self.name, self.life))
        node.overran(overrun.bundle, overrun.held, OVER_LIMIT, self.now, restart=restart)

    def _publish(self, node: serving.Node, publish: serving.Publish) -> None:
        scene = self.scene
        caller, _, rest = publish.topic.decode().partition("/")
        if caller == "pulse":
            return
        if caller == "watch":
            scene.history.watched(rest)
            return
        if scene.stuck[caller]:
            scene.refusals[caller] += 1
            scene.note("refused", self.name, caller, publish.message)
            node.unpublished(publish)
            return
        if scene.mistold[caller]:
            scene.refusals[caller] += 1
            node.unpublished(publish)
        scene.history.published(self.name, self.life, scene.callers[caller], publish)
        scene.note("publish", self.name, caller, publish.message)
        frames: list[bytes] = []
        for key in scene.keys_of(self.name):
            connection = scene.network.connections.get((caller, key, Side.REPORTS))
            if connection is not None and connection.up and connection.subscribed:
                frames = frames or [wire.encode(publish.message, publish.topic), *publish.buffers]
                scene.network.send(connection, frames, type(publish.message).__name__)

    def has_succeeded(self, caller: str, hold: Holder, name: str) -> bool:
        """Whether it keeps the answer to a task of a caller, on the link on which that was sent."""
        link = None if self.node is None else self.node.by_caller.get(caller)
        if link is None or link.base != hold.base:
            return False
        items = [answer.item for answer in link.kept.values()]
        return any(item[1:3] == (name, hold.number) and item[4] == Status.SUCCESS for item in items)

    # ------------------------------------------------------------------ for its workers

    def executed(self, held: Held) -> None:
        """A worker calls the function."""
        self.scene.stamp(held.id.encode())
        self.scene.note("execute", self.name, held.id, held.number, held.attempt)
        self.scene.history.executed(self.name, self.life, held)

    def refuses(self, held: Held) -> bool:
        """Return whether a worker refuses a task, as its job has it for the first workers that get it."""
        refusals = self.scene.history.refusals[held.id]
        if len(refusals) >= self.scene.jobs[held.id].refusals:
            return False
        refusals.append((self.name, self.life, held.link.token, held.number))
        self.scene.note("refuse", self.name, held.id, held.number, held.attempt)
        return True

    def killed(self) -> None:
        """A task has killed the process; somebody starts it again."""
        self.crash()
        self.scene.after(self.scene.dice.uniform(0.2, 1.0), self.boot)

    # ------------------------------------------------------------------ time

    def _set_alarm(self) -> None:
        if self.node is None:
            return
        wakeup = max(self.node.wakeup, self.now + TICK_LEAST)
        if wakeup < self._tick_at:
            self._tick_at = wakeup
            self._ticks += 1
            self.alarm(wakeup, self._tick, self._ticks)

    def _tick(self, number: int) -> None:
        node = self.node
        if node is None or number != self._ticks:
            return
        if self.postpone(self._tick, number):
            return
        self._tick_at = float("inf")
        self.do(node.tick)
        over = node.over or self.scene.now >= self._exit_at
        if node is self.node and node.draining and (node.drained or over):
            self.crash(cleanly=node.drained)
            self.scene.after(self.scene.dice.uniform(0.1, 2.0), self.boot)
