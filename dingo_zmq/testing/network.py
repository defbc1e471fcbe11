"""Connections of the simulated world: first in, first out and with a delay, until one breaks; or worse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from dingo_zmq.protocol.relay import relayed
from dingo_zmq.protocol.roster import Side
from dingo_zmq.testing.plan import STRANGER_KEY

if TYPE_CHECKING:
    from random import Random

Frames = list[bytes]

Chain: TypeAlias = "tuple[Relay, ...]"

HEARTBEAT = (3.0, 4.2)
"""seconds until a connection over which nothing passes is given up: least and most"""
REORDER = 0.05
"""mean of the additional delay of a message in a harsh seed"""
CLOGGED, CLOG = 0.01, 8.0
"""share of messages in a harsh seed that take long, and how long at most"""


class Way(Enum):
    """Where a message goes."""

    UP = "to node"
    DOWN = "to caller"


WAY_OF = {Side.TASKS: Way.UP, Side.REPORTS: Way.DOWN}


class Scheduler(Protocol):
    """What the network needs of the world."""

    now: float
    dice: Random

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Have something done later."""

    def stamp(self, what: bytes) -> None:
        """Something happened that makes this story differ from others."""

    def note(self, what: str, *details: Any) -> None:
        """Write to the trace."""


class CallerEnd(Protocol):
    """What the network needs of a caller's host."""

    name: str
    dead: bool
    frozen: bool

    def monitored(self, connection: Connection, what: str) -> None:
        """A connection is "up", "down", "refused", or about to be made by another way ("moved")."""

    def arrived(self, connection: Connection, epoch: int, frames: Frames) -> None:
        """A message has come."""


class NodeEnd(Protocol):
    """What the network needs of a node's host."""

    name: str
    life: int
    powered: bool
    frozen: bool

    @property
    def up(self) -> bool:
        """Whether its process lives."""

    def subscribed(self, caller: str) -> None:
        """A subscription has come."""

    def arrived(self, connection: Connection, epoch: int, frames: Frames) -> None:
        """A message has come."""


class Stranger:
    """Somebody who takes every connection, and never says a word; `told` counts what is sent to it."""

    name = STRANGER_KEY
    up = powered = True
    frozen = False
    life = 1

    def __init__(self) -> None:
        self.told = 0

    def subscribed(self, caller: str) -> None:
        """A subscription has come."""

    def arrived(self, connection: Connection, epoch: int, frames: Frames) -> None:
        """A message has come."""


class Relay:
    """A forwarder; it is `up` or not, and loses whatever it is about to pass on when it dies."""

    def __init__(self, name: str) -> None:
        self.name, self.up = name, True


class Flight:
    """A message on its way."""

    __slots__ = ("alive", "at", "frames")

    def __init__(self, frames: Frames, at: float) -> None:
        self.frames, self.at, self.alive = frames, at, True


class Connection:
    """One side of a caller's connections to a node (None: an address where nobody is)."""

    def __init__(self, caller: CallerEnd, node: NodeEnd | None, key: str, side: Side) -> None:
        self.caller, self.node, self.key, self.side = caller, node, key, side
        self.way = WAY_OF[side]
        self.up = self.subscribed = self.closed = False
        self.epoch = self.life = 0
        self.last_at = self.told_at = 0.0
        self.flying: dict[Flight, None] = {}
        self.chain: Chain = ()  # the forwarders that it goes through, the nearest to the node first

    @property
    def path(self) -> tuple[str, str, Way]:
        """What cuts and holes are kept by."""
        return self.caller.name, self.node.name if self.node else "", self.way


class Network:
    """
    All connections.

    Args:
        world: clock and dice.
        delay: seconds on the way.
        harsh: whether messages overtake each other, and reach the next life of a node.
        loss, repeats: shares of messages lost and repeated.
        copies: how often one that is repeated comes.

    Attributes:
        cut, holes, clogs: by path, how many faults there are of each sort.
        losing: by kind of message, the share that is lost.
        hits: how often each of these did harm, and to what.
        ways: returns the chains of forwarders by which a caller may reach a node, by their names, shortest first.
    """

    def __init__(
        self, world: Scheduler, delay: float, *, harsh: bool, loss: float, repeats: float, copies: int = 2
    ) -> None:
        self.world = world
        self.delay, self.harsh, self.loss, self.repeats, self.copies = delay, harsh, loss, repeats, copies
        self.connections: dict[tuple[str, str, Side], Connection] = {}
        self.cut: Counter[tuple[str, str, Way]] = Counter()
        self.holes: Counter[tuple[str, str, Way]] = Counter()
        self.clogs: Counter[tuple[str, str, Way]] = Counter()
        self.losing: dict[str, float] = {}
        self.hits: Counter[tuple[str, Any]] = Counter()
        self.lost = self.repeated = 0
        self.ways: Callable[[str, str], list[Chain]] = lambda caller, node: [()]

    # ------------------------------------------------------------------ connections

    def open(self, caller: CallerEnd, node: NodeEnd | None, key: str) -> None:
        """Have a caller connect to a node."""
        for side in Side:
            connection = Connection(caller, node, key, side)
            self.connections[caller.name, key, side] = connection
            self.world.after(self.world.dice.uniform(0.001, 0.02), self._dial, connection)

    def close(self, caller: str, key: str) -> None:
        """Have a caller disconnect for good."""
        for side in Side:
            connection = self.connections.pop((caller, key, side), None)
            if connection is not None:
                connection.closed, connection.up = True, False

    def of(self, caller: str, node: str) -> list[Connection]:
        """Return the connections between a caller and a node ("" for any)."""
        return [
            c
            for c in self.connections.values()
            if caller in ("", c.caller.name) and c.node is not None and node in ("", c.node.name)
        ]

    def _dial(self, c: Connection) -> None:
        if c.up or c.closed or c.caller.dead:
            return
        node, dice, chain = c.node, self.world.dice, self._chain(c)
        if node is not None and chain is not None and self._reachable(c, node):
            if c.epoch and chain != c.chain:
                self._tell(c, "moved")
            c.chain = chain
            self._establish(c, node)
            return
        if self._is_cut(c):
            self.hits["cut", c.path] += 1
        elif chain is None and c.epoch and not c.chain:
            pass  # it is only the direct way that is closed, and nobody there to refuse
        elif node is None or chain is None or (not node.up and (node.powered or chain)):
            self._tell(c, "refused")
        self.world.after(dice.uniform(0.1, 1.0), self._dial, c)

    def _chain(self, c: Connection) -> Chain | None:
        """Return the forwarders by which a connection can be made now, None where there is no way."""
        if c.node is None or isinstance(c.node, Stranger):
            return ()
        ways = self.ways(c.caller.name, c.node.name)
        return next((chain for chain in ways if all(relay.up for relay in chain)), None)

    def fell(self, relay: Relay) -> None:
        """A forwarder has died: what went through it breaks."""
        for c in list(self.connections.values()):
            if relay in c.chain:
                self.snap(c)

    def _reachable(self, c: Connection, node: NodeEnd) -> bool:
        return node.up and not node.frozen and not c.caller.frozen and not self._is_cut(c)

    def _is_cut(self, c: Connection) -> bool:
        caller, node, _ = c.path
        return any(self.cut[caller, node, way] for way in Way)

    def _establish(self, c: Connection, node: NodeEnd) -> None:
        world = self.world
        c.up, c.subscribed = True, False
        c.epoch += 1
        c.life, c.last_at = node.life, world.now
        if c.side is Side.REPORTS:
            world.after(self.delay * world.dice.choice((0, 1, 3)), self._subscribe, c, c.epoch)
        self._tell(c, "up")

    def _subscribe(self, c: Connection, epoch: int) -> None:
        node = c.node
        if c.up and c.epoch == epoch and node is not None and node.up:
            c.subscribed = True
            node.subscribed(c.caller.name)

    def snap(self, c: Connection, epoch: int | None = None, *, cleanly: bool = False) -> bool:
        """
        Break a connection, unless it is broken already.

        A tail of what is on its way is lost; cleanly: nothing of what the node has published.
        """
        if not c.up or (epoch is not None and c.epoch != epoch):
            return False
        c.up, dice = False, self.world.dice
        flights = list(c.flying)
        keep = 0 if self.cut[c.path] or dice.choice((True, False)) else dice.randint(0, len(flights))
        if cleanly and c.way is Way.DOWN and not self.cut[c.path]:
            keep = len(flights)
        for flight in flights[keep:]:
            flight.alive = False
            del c.flying[flight]
        self._tell(c, "down")
        self.world.after(dice.uniform(0.1, 0.6), self._dial, c)
        return True

    def heartbeats(self, connections: list[Connection]) -> None:
        """Nothing passes any more: these connections break some seconds from now, unless they broke before."""
        for c in connections:
            self.world.after(self.world.dice.uniform(*HEARTBEAT), self._give_up, c, c.epoch)

    def _give_up(self, c: Connection, epoch: int) -> None:
        if c.node is None or c.life != c.node.life or not self._reachable(c, c.node):
            self.snap(c, epoch)

    def _tell(self, c: Connection, what: str) -> None:
        """Tell the caller, a little later, in order."""
        world = self.world
        c.told_at = max(c.told_at, world.now + world.dice.uniform(0, 0.002))
        world.note(what, c.caller.name, c.key, c.side.name)
        world.after(c.told_at - world.now, c.caller.monitored, c, what)

    def lead(self, key: str, node: NodeEnd | None) -> None:
        """From now on a key leads to another node."""
        for c in self.connections.values():
            if c.key == key:
                self.snap(c)
                c.node = node

    # ------------------------------------------------------------------ messages

    def send(self, c: Connection, frames: Frames, kind: str) -> None:
        """Put a message on its way over a connection that is up; `kind` is the name of its class."""
        world, path = self.world, c.path
        world.stamp(frames[0])
        if isinstance(c.node, Stranger):
            c.node.told += 1
        if self.losing and world.dice.random() < self.losing.get(kind, 0.0):
            self.hits["lose", kind] += 1
            return
        if self.holes[path]:
            self.hits["hole", path] += 1
            return
        copies = 1
        if self.harsh:
            if world.dice.random() < self.loss:
                self.lost += 1
                return
            if world.dice.random() < self.repeats:
                self.repeated += 1
                copies = self.copies
        for _ in range(copies):
            at = world.now + self.delay * (1 + len(c.chain)) * world.dice.uniform(0.8, 1.2)
            if self.harsh:
                clog = CLOG if world.dice.random() < CLOGGED else 0.0
                at += world.dice.expovariate(1 / REORDER) + world.dice.uniform(0, clog)
            else:
                at = c.last_at = max(at, c.last_at)
            flight = Flight(frames, at)
            c.flying[flight] = None
            world.after(at - world.now, self._arrive, c, flight, c.epoch)

    def _arrive(self, c: Connection, flight: Flight, epoch: int) -> None:
        if not flight.alive:
            return
        if self.cut[c.path] and c.epoch == epoch and c.up:
            self.hits["cut", c.path] += 1
            return  # TCP goes on trying; `thaw` brings it
        if self.clogs[c.path] and c.epoch == epoch and c.up:
            self.hits["clog", c.path] += 1
            return
        c.flying.pop(flight, None)
        flight.alive = False
        self._hand_over(c, flight.frames, epoch)

    def _hand_over(self, c: Connection, frames: Frames, epoch: int) -> None:
        if c.way is Way.DOWN:
            for relay in c.chain if c.epoch == epoch else ():
                frame = relayed(frames[0], relay.name)
                if frame is None:
                    return
                frames = [frame, *frames[1:]]
            c.caller.arrived(c, epoch, frames)
        elif c.node is not None and c.node.up and (c.life == c.node.life or self.harsh):
            c.node.arrived(c, epoch, frames)

    def thaw(self, path: tuple[str, str, Way]) -> None:
        """A cut or a clog has ended: what was held up arrives, in order."""
        if self.cut[path] or self.clogs[path]:
            return
        for c in self.connections.values():
            if c.path == path:
                for flight in list(c.flying):
                    if flight.at <= self.world.now:
                        flight.at = c.last_at = max(c.last_at, self.world.now) + 1e-5
                        self.world.after(flight.at - self.world.now, self._arrive, c, flight, c.epoch)
