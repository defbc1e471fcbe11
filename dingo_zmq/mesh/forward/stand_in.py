"""What stands in for one node on the other side: a streamer for its tasks, and a forwarder for its reports."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import zmq

from dingo_zmq.errors import ConfigError, PeerError
from dingo_zmq.mesh import sockets
from dingo_zmq.mesh.connections import Connections
from dingo_zmq.mesh.discovery.port import Announcement, Found
from dingo_zmq.mesh.forward.desk import Desk
from dingo_zmq.mesh.forward.routes import Route
from dingo_zmq.mesh.forward.side import Side
from dingo_zmq.mesh.guard import Guard
from dingo_zmq.mesh.reactor import SETTLED, Reactor
from dingo_zmq.protocol import wire
from dingo_zmq.protocol.guests import GUEST, Guest
from dingo_zmq.protocol.relay import relayed
from dingo_zmq.protocol.roster import LOST_SECONDS
from dingo_zmq.protocol.roster import Side as Half

__all__ = ["StandIn"]

MESSAGES_A_ROUND = 64
"""passed on in each direction, before it is another one's turn"""
AGAIN_SECONDS = 0.05
"""after which a node that takes no more, or a port that is not free again yet, is tried once more"""
HOLD_SECONDS = 1.0
"""before a node behind another forwarder is announced: a shorter way to it may be about to be heard of"""
PORT_SECONDS = 1.0
"""for which it waits for its ports to be free again, before it takes others"""
FULL_SECONDS = 2.0
"""between two looks for any ports, where none were free"""
SUBSCRIPTIONS_MOST = 100_000
"""beyond which those of guests are not taken any more; those of others always are"""
NEVER = float("inf")
_log = logging.getLogger("dingo_zmq.forward")


class StandIn:
    """
    Passes on between one node and whoever calls it from the other side.  Only the I/O thread uses it.

    Its ports are open only while both connections to the node stand: where one breaks, callers see a break, too.
    They find it at the same ports when it is open again.

    Args:
        reactor: watches its sockets.
        back: the side where the node is.
        front: the side where it stands in for it.
        route: the node, and how it is announced.
        entry: what messages that tell who is there get added.
        changed: called when what is to be announced may have changed, with this.
    """

    def __init__(
        self,
        reactor: Reactor,
        back: Side,
        front: Side,
        route: Route,
        entry: str,
        changed: Callable[[StandIn], object],
    ) -> None:
        self._wakeup = NEVER
        self.route: Route | None = route
        self.key = ""  # of the connection to the node
        self.trouble = "not reached yet"
        self._reactor, self._back, self._front, self._entry, self._changed = reactor, back, front, entry, changed
        self._said = route.node
        self._hold_until: float | None = monotonic() + HOLD_SECONDS
        self._up: set[Half] = set()
        self._down_at: float | None = None  # since when its node is away; None where it never was there
        self._dead = False  # whether the process of the node is
        self._port: int | None = None
        self._hosts: list[str] = []  # where it listens
        self._waits_since: float | None = None  # for its ports
        self._pull: zmq.Socket[bytes] | None = None
        self._xpub: zmq.Socket[bytes] | None = None
        self._subscriptions: Counter[bytes] = Counter()
        self._desk = Desk(self._subscribe, self._unsubscribe)
        self._guard: Guard | None = None
        self._waiting: list[Any] | None = None  # a message that the node does not take at the moment
        self._tasks_wait = self._reports_wait = self._subscriptions_wait = False  # or may, since nobody has looked
        self._xsub = back.client(zmq.XSUB)
        self._connections = Connections(reactor, self._xsub, partial(back.client, zmq.PUSH), back.key_id, self)
        reactor.watch(self._xsub, self._pass_reports)
        self._tell(Found(self._said, "routes"))

    # ------------------------------------------------------------------ what is to be

    def follow(self, route: Route | None) -> None:
        """The node is announced with another content, or is to be seen on the other side no more."""
        self.route = route
        if route is not None and route.node != self._said:
            self._said = route.node
            self._tell(Found(self._said, "routes"))

    @property
    def announcement(self) -> Announcement | None:
        """What is to be announced on the other side, None for nothing."""
        route, port = self.route, self._port
        soon = self._down_at is not None  # it may be back, as after a cable was pulled for a moment
        if route is None or port is None or self._dead or not (self.is_open or soon):
            return None
        if len(route.path) > 1 and self._hold_until is not None:
            return None
        return self._front.announced(route.node, port, route.path)

    @property
    def name(self) -> str:
        """What people call the node."""
        return self._said.name or self._said.node

    @property
    def is_open(self) -> bool:
        """Whether callers can connect."""
        return self._pull is not None

    @property
    def is_over(self) -> bool:
        """Whether nobody needs it any more: the node is not to be seen, and is gone or called by nobody."""
        return self.route is None and (not self.is_open or not self._subscriptions)

    def _tell(self, event: Found) -> None:
        self._connections.discovered(event, monotonic())

    def close(self) -> None:
        """Close all sockets."""
        self._shut()
        self._connections.close()
        self._reactor.unwatch(self._xsub)
        self._xsub.close(0)

    # ------------------------------------------------------------------ what the connections to the node do

    def found(self, key: str, now: float, label: str) -> None:
        """Nothing here: it is known what there is to be reached."""

    def gone(self, key: str, now: float) -> None:
        """Nothing here."""

    def connected(self, key: str, side: Half, now: float) -> None:
        """One of the two connections to the node is up."""
        self.key = key
        self._up.add(side)
        if len(self._up) == len(Half):
            self.trouble, self._dead, self._down_at = "", False, None
            self._open(now)

    def disconnected(self, key: str, side: Half, now: float) -> None:
        """One of the two connections to the node broke."""
        self._up.discard(side)
        if self.is_open:
            self._down_at = now
            self.trouble = "its connection broke"
            _log.info("%s: %s: its connection broke", self._back.name, self.name)
        self._shut()
        self._changed(self)

    def moved(self, key: str, now: float) -> None:
        """Nothing here: its ports are closed by now."""

    def locked_out(self, key: str, now: float, cause: str) -> None:
        """The node does not let us in."""
        if self.trouble != cause:
            self.trouble = cause
            _log.warning("%s: %s: locked out: %s", self._back.name, self.name, cause)
            self._changed(self)

    def refused(self, key: str, now: float) -> None:
        """Both ports of the node refuse connections: its process is dead, or a forwarder before it is."""
        if self.is_open or self._dead:
            return
        self.trouble, self._dead = "its ports are closed", True
        self._changed(self)

    # ------------------------------------------------------------------ the front

    def _open(self, now: float) -> None:
        if self.is_open:
            return
        pull, xpub = self._front.server(zmq.PULL), self._front.server(zmq.XPUB)
        self._guard = self._front.guard(self._desk, pull, xpub)
        self.admit()  # before anybody can connect
        # Where one caller is stuck its messages are dropped, and nobody else's: what it misses it asks for again.
        xpub.setsockopt(zmq.XPUB_NODROP, 0)
        try:
            self._port = self._front.bind(pull, xpub, self._port, self._said.node)
        except ConfigError as exc:  # the ports may not be free again yet
            pull.close(0)
            xpub.close(0)
            self._guard = None
            self._no_port(exc, now)
            return
        self._pull, self._xpub, self._hosts, self._waits_since = pull, xpub, self._front.hosts, None
        self.trouble = ""
        self._reactor.watch(pull, self._pass_tasks)
        self._reactor.watch(xpub, self._pass_subscriptions)
        self._changed(self)

    def admit(self) -> None:
        """There are other guests than before, perhaps."""
        if self._guard is not None:
            self._guard.admit(self._front.guests, monotonic(), lambda now: self._pass_subscriptions())
            self._desk.tell()

    def _no_port(self, cause: ConfigError, now: float) -> None:
        self._waits_since = self._waits_since or now
        self._wakeup = now + (FULL_SECONDS if self._port is None else AGAIN_SECONDS)
        if now - self._waits_since > PORT_SECONDS:
            self._port = None  # somebody else has them, or their address is gone
        trouble = str(cause).partition("; hint: ")[0]  # which is for a node, whose port can be told
        if self._port is None and self.trouble != trouble:
            self.trouble = trouble
            _log.warning("%s: no port for %s: %s", self._front.name, self.name, trouble)
            self._changed(self)

    def listen_on(self, hosts: list[str]) -> None:
        """Listen on these addresses from now on, at the same ports."""
        if self._pull is None or self._xpub is None or self._port is None or hosts == self._hosts:
            return
        for host in self._hosts:
            if host not in hosts:
                sockets.unbind_pair(self._pull, self._xpub, host, self._port)
        there = [host for host in self._hosts if host in hosts]
        for host in hosts:
            if host not in there:
                try:
                    sockets.bind_pair(self._pull, self._xpub, [host], self._port)
                    there.append(host)
                except ConfigError as exc:  # to be tried again
                    _log.info("%s: %s: not yet: %s", self._front.name, self.name, exc)
        self._hosts = there

    def _shut(self) -> None:
        """Close the ports; what callers had subscribed to is nobody's any more."""
        self._waiting = self._guard = None
        for socket in (self._pull, self._xpub):
            if socket is not None:
                self._reactor.unwatch(socket)
                socket.close(0)
        self._pull = self._xpub = None
        for prefix, number in self._subscriptions.items():
            for _ in range(number):
                self._xsub.send(sockets.UNSUBSCRIBE + prefix)
        self._subscriptions.clear()

    # ------------------------------------------------------------------ passing on

    # What comes is passed on as soon as it is noticed, before the round of the loop: that takes as long again.

    @property
    def ready(self) -> bool:
        """Whether `work` may find something."""
        return self._tasks_wait or self._reports_wait or self._subscriptions_wait

    @property
    def wakeup(self) -> float:
        """When `work` has something to do at the latest."""
        soonest = min(self._wakeup, self._connections.wakeup, self._hold_until or NEVER)
        return soonest if self._down_at is None else min(soonest, self._down_at + LOST_SECONDS)

    def work(self, now: float) -> bool:
        """Pass on what has come, up to a bound; return whether there may be more."""
        if now >= self.wakeup:
            self._tick(now)
        if self._tasks_wait:
            self._pass_tasks()
        if self._reports_wait:
            self._pass_reports()
        if self._subscriptions_wait:
            self._pass_subscriptions()
        return self.ready

    def _tick(self, now: float) -> None:
        self._wakeup = NEVER
        if self._hold_until is not None and now >= self._hold_until:
            self._hold_until = None
            self._changed(self)
        if now >= self._connections.wakeup:
            self._connections.tick(now)
        if len(self._up) == len(Half) and not self.is_open:
            self._open(now)
        if self._waiting is not None:
            self._tasks_wait = True
        if self._down_at is not None and now >= self._down_at + LOST_SECONDS:
            self._down_at = None
            self._changed(self)

    def _pass_tasks(self) -> object:
        connection = self._connections.by_key.get(self.key)
        push = None if connection is None else connection.push
        self._tasks_wait = False
        if self._pull is None or push is None:
            return None
        for _ in range(MESSAGES_A_ROUND):
            frames = self._waiting or self._next_task(self._pull)
            if frames is None:
                return SETTLED
            if not frames:
                continue
            try:
                sockets.send_frames(push, frames[0], tuple(frames[1:]))
                self._waiting = None
            except zmq.Again:  # so callers have to wait, too
                self._waiting = frames
                self._wakeup = min(self._wakeup, monotonic() + AGAIN_SECONDS)
                return None
        self._tasks_wait = True
        return None

    def _subscribe(self, prefix: bytes) -> None:
        """Somebody has subscribed; the node is told each time, for that answers a HELLO."""
        of_guest = prefix.removeprefix(b"watch/").startswith(GUEST.encode())
        if not of_guest or len(self._subscriptions) < SUBSCRIPTIONS_MOST or prefix in self._subscriptions:
            self._subscriptions[prefix] += 1
            self._xsub.send(sockets.SUBSCRIBE + prefix)
            self._reports_wait = True  # sending may have swallowed the signal of a report

    def _unsubscribe(self, prefix: bytes) -> None:
        if self._subscriptions[prefix]:
            self._subscriptions[prefix] -= 1
            if not self._subscriptions[prefix]:
                del self._subscriptions[prefix]
            self._xsub.send(sockets.UNSUBSCRIBE + prefix)
            self._reports_wait = True

    def _next_task(self, pull: zmq.Socket[bytes]) -> list[Any] | None:
        """Return the next message of a caller, empty where it may not say that; None where none waits."""
        guard = self._guard
        if guard is None or not guard.on:
            return sockets.next_message(pull)
        found: list[list[Any]] = []
        now = monotonic()

        def received(frames: list[Any], guest: Guest | None) -> None:
            if guest is None or self._lets_pass(guard, guest, frames, now):
                found.append(frames)

        if not guard.read(1, received, now):
            return None
        self._desk.tell()
        return found[0] if found else []

    @staticmethod
    def _lets_pass(guard: Guard, guest: Guest, frames: list[Any], now: float) -> bool:
        try:
            message = wire.decode_caller(frames)
        except PeerError:
            return False
        return guard.lets_pass(guest, message, now)

    def _pass_reports(self) -> object:
        self._reports_wait = False
        passed, settled = False, None
        for _ in range(MESSAGES_A_ROUND):
            frames = sockets.next_message(self._xsub)
            if frames is None:
                settled = SETTLED
                break
            frame = relayed(frames[0], self._entry)
            if frame is not None and self._xpub is not None:
                sockets.send_frames(self._xpub, frame, tuple(frames[1:]))
                passed = True
        self._reports_wait = settled is None
        # Sending may have swallowed the signal of a subscription.
        if passed and self._xpub is not None and int(self._xpub.get(zmq.EVENTS)) & zmq.POLLIN:
            self._subscriptions_wait = True
            return None
        return settled

    def _pass_subscriptions(self) -> None:
        self._subscriptions_wait = False
        if self._xpub is None:
            return
        if self._guard is not None and self._guard.on:
            self._subscriptions_wait = self._guard.read_subscriptions(monotonic())
            self._desk.tell()
            self._let_go()
            return
        while (frames := sockets.next_message(self._xpub)) is not None:
            frame, *more = frames
            kind, prefix = frame[:1], bytes(frame[1:])
            if more or kind not in (sockets.SUBSCRIBE, sockets.UNSUBSCRIBE):
                continue
            if kind == sockets.SUBSCRIBE:
                self._subscribe(prefix)
            else:
                self._unsubscribe(prefix)
        self._let_go()

    def _let_go(self) -> None:
        if self.is_over:
            self._changed(self)
