"""The caller's sockets to nodes: one PUSH for each, one SUB to all, and which address of a node they use."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Protocol

import zmq
from zmq.utils.monitor import parse_monitor_message

from dingo_zmq.mesh import sockets as mesh_sockets
from dingo_zmq.mesh.discovery.port import UNKEYED, Announcement, Event, Gone
from dingo_zmq.mesh.nearest import Nearest, Pair
from dingo_zmq.mesh.probe import Probe
from dingo_zmq.mesh.reactor import Reactor
from dingo_zmq.mesh.scout import Scout
from dingo_zmq.mesh.trials import Trials
from dingo_zmq.protocol.roster import Side

__all__ = ["Connection", "Connections", "Listener"]

LOOK_SECONDS = 0.5
MOVE_SECONDS = 2.0
"""between two looks for another address of a node that is not connected"""
RETRY_SECONDS = 5.0
"""after which a node that turned our key down is tried anew"""
UNPROVED_MOST = 64
"""connections at a time to what has never let us in: anybody can announce what does not exist"""
CHANCE_SECONDS = 3.0
"""that each of those has at least, where others wait"""
SHORTEN_SECONDS = 10.0
"""between two looks whether a node can be reached past fewer forwarders"""
FAILURES = 3
"""handshakes in a row that end without a word, before that is taken for a wrong key"""
WORDLESS_SECONDS = 2.0
"""a handshake that ends later was given up by ourselves, as with a process that is stopped"""
OTHER_KEY = "it has another key"
NO_KEY = "it uses no key"
WANTS_KEY = "it wants a key, and we use none"
TURNED_DOWN = "it does not accept our key, or is no dingo-zmq node"

# Not EVENT_HANDSHAKE_FAILED_PROTOCOL: libzmq 4.3.5 also tells it of a broken message after the handshake, and
# forgets its own error over that.  The connection then stands and is not read any more, until the process aborts.
_EVENTS = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_log = logging.getLogger("dingo_zmq.caller")


class Listener(Protocol):
    """Who is told what connections do, in the I/O thread; `key` names a connection."""

    def found(self, key: str, now: float, label: str) -> None:
        """There is a node to be reached; `label` is what it is called before it says its name, or ""."""

    def gone(self, key: str, now: float) -> None:
        """Nobody announces it any more."""

    def connected(self, key: str, side: Side, now: float) -> None:
        """One of its two connections is up."""

    def disconnected(self, key: str, side: Side, now: float) -> None:
        """One of its two connections broke."""

    def moved(self, key: str, now: float) -> None:
        """It is tried at another address from now on; both connections are down."""

    def locked_out(self, key: str, now: float, cause: str) -> None:
        """It does not let us in, and why."""

    def refused(self, key: str, now: float) -> None:
        """Both of its ports refuse connections."""


class Connection:
    """
    The sockets to one node.

    Attributes:
        key: its name for good: the first address that was tried.
        tasks, reports: the endpoints in use.
        hops: how many forwarders stand before them, as announced.
        nodes: what announced ids led here say.
        answers: id of the node that answers here, or "".
        cause: why it does not let us in, or "".
    """

    def __init__(self, key: str, pair: Pair, push: zmq.Socket[bytes] | None) -> None:
        self.key = key
        self.tasks, self.reports = pair
        self.hops = 0
        self.push = push
        self.monitor = None if push is None else push.get_monitor_socket(_EVENTS)
        self.nodes: dict[str, Announcement] = {}
        self.answers = ""
        self.began = monotonic()
        self.up: set[Side] = set()
        self.proved = False  # whether it ever let us in
        self.probe: Probe | None = None
        self.scout: Scout | None = None
        self.refuses = False  # whether its ports were closed when it was last probed
        self.look_at = 0.0  # when to look for another address
        self.failures = 0
        # Sides that ended and are not tried again, and whether they were let in before.
        self.over: dict[Side, bool] = {}
        self.over_at = 0.0
        self.connected_at = dict.fromkeys(Side, 0.0)
        self.cause = ""
        self.turned_down_at = 0.0

    @property
    def is_up(self) -> bool:
        """Whether both connections stand."""
        return len(self.up) == len(Side)

    @property
    def name(self) -> str:
        """What people call the node, as announced."""
        return next((said.name for said in self.nodes.values() if said.name), self.tasks)


class Connections:
    """
    Makes and keeps connections to whatever is found.

    A node with several candidate addresses is tried at the nearest; where that does not answer, or breaks, at
    the others.  It keeps its key then, and its link: to the decider it was a break.  So it is, too, where a node
    that was reached through a forwarder can be reached without it.

    Args:
        reactor: watches the sockets.
        sub: receives from all nodes.
        push: makes a socket to one node.
        key_id: id of our key as announcements tell it.
        listener: is told.
    """

    def __init__(
        self,
        reactor: Reactor,
        sub: zmq.Socket[bytes],
        push: Callable[[], zmq.Socket[bytes]],
        key_id: str,
        listener: Listener,
    ) -> None:
        self.by_key: dict[str, Connection] = {}
        self.wakeup = float("inf")
        self._reactor, self._sub, self._push, self._key_id, self._listener = reactor, sub, push, key_id, listener
        self._of_node: dict[str, Connection] = {}
        self._by_tasks: dict[str, Connection] = {}
        self._by_reports: dict[str, Connection] = {}
        self._nearest = Nearest()
        self._short = False  # whether a connection could not be made for want of descriptors
        self._trials = Trials(reactor, self._nearest.first, self._answers)
        self._monitor: zmq.Socket[bytes] = sub.get_monitor_socket(_EVENTS)
        reactor.watch(self._monitor, partial(self._read_monitor, self._monitor, Side.REPORTS, None))

    # ------------------------------------------------------------------ what discovery tells

    def discovered(self, event: Event, now: float) -> None:
        """A node was found, has changed or is gone."""
        if isinstance(event, Gone):
            self._trials.remove(event.node)
            self._leave(event.node, now)
            return
        said = event.announcement
        connection = self._of_node.get(said.node)
        if connection is not None and self._is_elsewhere(connection, said):
            self._leave(said.node, now)
            connection = None
        if connection is None:
            self._place(said, now)
        else:
            self._join(connection, said, now)

    def answered(self, key: str, node: str, doubles: list[str], now: float) -> None:
        """Behind a connection is the node with this id, which was behind those of `doubles` before."""
        connection = self.by_key.get(key)
        if connection is None:
            return
        connection.answers = node
        lost = [said for double in doubles if double in self.by_key for said in self.by_key[double].nodes.values()]
        for double in doubles:
            self.drop(double)
        for said in list(connection.nodes.values()):
            if self._is_elsewhere(connection, said):
                self._leave(said.node, now)
                lost.append(said)
        for said in lost:
            self._place(said, now)

    def _is_elsewhere(self, connection: Connection, said: Announcement) -> bool:
        """Whether a node can no longer be meant by its connection: other key, or another node is there."""
        if bool(connection.push) != self._may_try(said):
            return True
        another = len(connection.nodes) > 1 or connection.answers != ""
        if not another or connection.answers == said.node:
            return False
        return all(tasks != connection.tasks for tasks, _ in self._nearest.first(said))

    def _may_try(self, said: Announcement) -> bool:
        return said.key in ("", self._key_id)

    def _why_not(self, said: Announcement) -> str:
        if self._key_id == UNKEYED:
            return WANTS_KEY
        return NO_KEY if said.key == UNKEYED else OTHER_KEY

    def _place(self, said: Announcement, now: float) -> None:
        """Give a node the connection that leads to it already, a new one, or its turn to be tried."""
        pairs = self._nearest.first(said)
        connection = self._leading_to(said, pairs)
        if connection is None and pairs:
            if not self._may_try(said):
                connection = self._lock_out(said, pairs[0])
            elif said.mesh == "" or self._has_place():  # who names an address himself means it
                connection = self._enter(pairs[0])
        if connection is None:
            _log.debug("%s: waits to be tried", said.name or said.node)
            self._trials.add(said, now)
            self._set_wakeup()
        else:
            self._join(connection, said, now)

    def _answers(self, said: Announcement, pair: Pair) -> None:
        """A node that waited is there, at least something at its address."""
        now = monotonic()
        connection = self._leading_to(said, [pair])
        if connection is None and (self._has_place() or self._make_place(now)):
            connection = self._enter(pair)
        if connection is None:
            self._trials.add(said, now + CHANCE_SECONDS)
        else:
            self._join(connection, said, now)

    def _join(self, connection: Connection, said: Announcement, now: float) -> None:
        self._trials.remove(said.node)
        connection.nodes[said.node] = said
        self._of_node[said.node] = connection
        connection.hops = self._nearest.ways(said).get((connection.tasks, connection.reports), connection.hops)
        self._listener.found(connection.key, now, connection.name)
        if connection.push is None:
            connection.cause = self._why_not(said)
            self._listener.locked_out(connection.key, now, connection.cause)
        elif not connection.is_up:
            self._look(connection, now)
        elif connection.hops:
            self._shorten(connection, now)

    def _leading_to(self, said: Announcement, pairs: list[Pair]) -> Connection | None:
        """
        Return the connection at whose other end the node is, or else one to an address of its.

        It may also be one that broke when what announced the node was gone, such as a forwarder: the link that the
        node has is not to be lost by that.
        """
        may_try = self._may_try(said)
        if may_try:
            for connection in self.by_key.values():
                if connection.answers == said.node and (connection.is_up or not connection.nodes):
                    return connection
        known = next((self._by_tasks[tasks] for tasks, _ in pairs if tasks in self._by_tasks), None)
        return known if may_try else None

    def _lock_out(self, said: Announcement, pair: Pair) -> Connection:
        """Remember a node with another key, without connecting to it."""
        key = f"{pair[0]} {said.node}"
        self.by_key[key] = connection = Connection(key, pair, None)
        return connection

    def _enter(self, pair: Pair) -> Connection | None:
        """Connect to an address; return None where this process has no descriptor left for that."""
        key = pair[0]
        while key in self.by_key:  # the address has been another node's, which has moved
            key += "'"
        connection = self._make(key, pair)
        if connection is None:
            return None
        self.by_key[key] = self._by_tasks[connection.tasks] = self._by_reports[connection.reports] = connection
        assert connection.monitor is not None
        read = partial(self._read_monitor, connection.monitor, Side.TASKS, connection)
        self._reactor.watch(connection.monitor, read)
        self._connect(connection)
        return connection

    def _make(self, key: str, pair: Pair) -> Connection | None:
        push = None
        try:
            push = self._push()
            connection = Connection(key, pair, push)
        except zmq.ZMQError as exc:
            if push is not None:
                push.close(0)
            if exc.errno != errno.EMFILE:
                raise
            if not self._short:
                _log.warning("no file descriptor is left to connect to %s; hint: raise ulimit -n", pair[0])
            self._short = True
            return None
        self._short = False
        return connection

    def _unproved(self) -> list[Connection]:
        return [each for each in self.by_key.values() if each.push is not None and not each.proved]

    def _has_place(self) -> bool:
        return len(self._unproved()) < UNPROVED_MOST

    def _make_place(self, now: float) -> bool:
        """Take the connection that has waited longest for an answer from its nodes, if it has had its chance."""
        oldest = min(self._unproved(), key=lambda each: each.began)
        if now - oldest.began < CHANCE_SECONDS or any(said.mesh == "" for said in oldest.nodes.values()):
            return False
        for said in list(oldest.nodes.values()):
            self._leave(said.node, now)
            self._trials.add(said, now + CHANCE_SECONDS)
        self.drop(oldest.key)
        return True

    def _leave(self, node: str, now: float) -> None:
        connection = self._of_node.pop(node, None)
        if connection is None:
            return
        connection.nodes.pop(node, None)
        if not connection.nodes:
            self._listener.gone(connection.key, now)

    def _ways(self, connection: Connection) -> dict[Pair, int]:
        """Return all addresses that should lead there, with the number of forwarders before each."""
        found: dict[Pair, int] = {}
        for said in connection.nodes.values():
            found.update(self._nearest.ways(said))
        return found

    # ------------------------------------------------------------------ connecting

    def _connect(self, connection: Connection) -> None:
        assert connection.push is not None
        mesh_sockets.connect(connection.push, connection.tasks)
        mesh_sockets.connect(self._sub, connection.reports)

    def _disconnect(self, connection: Connection) -> None:
        assert connection.push is not None
        connection.push.disconnect(connection.tasks)
        self._sub.disconnect(connection.reports)

    def _move(self, connection: Connection, pair: Pair, now: float) -> None:
        """Reach the node at another address, or anew at the same."""
        other = self._by_tasks.get(pair[0])
        if other is not None and other is not connection:
            for node, said in list(connection.nodes.items()):
                self._leave(node, now)
                other.nodes[node], self._of_node[node] = said, other
            self._listener.found(other.key, now, other.name)
            return
        elsewhere = pair[0] != connection.tasks
        if elsewhere:
            _log.info("%s: now at %s, not %s", connection.name, pair[0], connection.tasks)
        self._disconnect(connection)
        del self._by_tasks[connection.tasks], self._by_reports[connection.reports]
        if connection.probe is not None:
            connection.probe.stop()
            connection.probe = None
        connection.tasks, connection.reports = pair
        connection.hops = self._ways(connection).get(pair, connection.hops)
        connection.refuses = False
        self._by_tasks[pair[0]] = self._by_reports[pair[1]] = connection
        connection.failures = 0
        connection.over.clear()
        for side in connection.up.copy():
            connection.up.discard(side)
            self._listener.disconnected(connection.key, side, now)
        if elsewhere:
            self._listener.moved(connection.key, now)
        self._connect(connection)

    def drop(self, key: str) -> None:
        """Disconnect from a node for good."""
        connection = self.by_key.pop(key, None)
        if connection is None:
            return
        for node in connection.nodes:
            self._of_node.pop(node, None)
        if connection.push is None or connection.monitor is None:
            return
        del self._by_tasks[connection.tasks], self._by_reports[connection.reports]
        for helper in (connection.probe, connection.scout):
            if helper is not None:
                helper.stop()
        self._reactor.unwatch(connection.monitor)
        connection.push.disable_monitor()
        connection.monitor.close(0)
        connection.push.close()
        self._sub.disconnect(connection.reports)

    def close(self) -> None:
        """Disconnect from all nodes."""
        self._trials.stop()
        for key in list(self.by_key):
            self.drop(key)
        self._reactor.unwatch(self._monitor)
        self._sub.disable_monitor()
        self._monitor.close(0)

    # ------------------------------------------------------------------ looking for another address

    def tick(self, now: float) -> None:
        """Time has passed."""
        self.wakeup = float("inf")
        if now >= self._trials.wakeup:
            self._trials.tick(now)
        for connection in list(self.by_key.values()):
            if connection.scout is not None:
                if now >= connection.scout.deadline:
                    connection.scout.tick(now)
            elif connection.push is not None and not connection.is_up and now >= connection.look_at:
                self._look(connection, now)
            elif connection.hops and now >= connection.look_at:
                self._shorten(connection, now)
            if connection.over and not connection.cause and now - connection.over_at >= LOOK_SECONDS:
                self._anew(connection, now)
            self._wake_for(connection, now)
        self._set_wakeup()

    def _set_wakeup(self) -> None:
        self.wakeup = min(self.wakeup, self._trials.wakeup)

    def _wake_for(self, connection: Connection, now: float) -> None:
        """See that `tick` is called when there may be something to do for a connection."""
        if connection.scout is not None:
            self.wakeup = min(self.wakeup, connection.scout.deadline)
        if connection.push is not None and (connection.scout is not None or not connection.is_up):
            self.wakeup = min(self.wakeup, now + LOOK_SECONDS)
        elif connection.hops:
            self.wakeup = min(self.wakeup, max(now, connection.look_at))

    def _look(self, connection: Connection, now: float) -> None:
        """Find out which address answers, and try a node anew that has turned us down."""
        connection.look_at = now + MOVE_SECONDS
        if connection.cause and now - connection.turned_down_at >= RETRY_SECONDS:
            connection.turned_down_at = now
            self._move(connection, (connection.tasks, connection.reports), now)  # ZeroMQ does not try again
        pairs = list(self._ways(connection))
        if connection.scout is None and set(pairs) - {(connection.tasks, connection.reports)}:
            connection.scout = Scout(self._reactor, pairs, partial(self._scouted, connection))
            connection.scout.start()
        self._wake_for(connection, now)

    def _shorten(self, connection: Connection, now: float) -> None:
        """Find out whether a node that is reached through forwarders answers past fewer of them."""
        connection.look_at = now + SHORTEN_SECONDS
        better = [pair for pair, hops in self._ways(connection).items() if hops < connection.hops]
        if better and connection.scout is None:
            connection.scout = Scout(self._reactor, better, partial(self._shortened, connection))
            connection.scout.start()
        self._wake_for(connection, now)

    def _shortened(self, connection: Connection, pair: Pair | None) -> None:
        connection.scout = None
        if pair is not None:
            self._move(connection, pair, monotonic())

    def _anew(self, connection: Connection, now: float) -> None:
        """Connect again: after bytes that broke its protocol ZeroMQ does not."""
        failures = connection.failures + (False in connection.over.values())
        self._move(connection, (connection.tasks, connection.reports), now)
        connection.failures = failures
        if failures >= FAILURES:
            self._turned_down(connection, now)

    def _scouted(self, connection: Connection, pair: Pair | None) -> None:
        connection.scout = None
        current = connection.tasks, connection.reports
        if connection.is_up:
            return
        if pair is None:
            self._tell_refused(connection)
        elif pair != current:
            self._move(connection, pair, monotonic())

    # ------------------------------------------------------------------ what the monitors tell

    def _read_monitor(self, monitor: zmq.Socket[bytes], side: Side, connection: Connection | None) -> None:
        now = monotonic()
        while True:
            try:
                event: Any = parse_monitor_message(monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            endpoint = event["endpoint"].decode(errors="replace")
            about = self._by_reports.get(endpoint) if connection is None else connection
            if about is not None and endpoint == (about.tasks if side is Side.TASKS else about.reports):
                self._happened(about, side, event["event"], now)

    def _happened(self, connection: Connection, side: Side, event: int, now: float) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            connection.up.add(side)
            connection.proved = True
            connection.failures, connection.cause, connection.refuses = 0, "", False
            self._listener.connected(connection.key, side, now)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._turned_down(connection, now)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:  # a wrong server key, or it only was too slow
            if connection.proved and now - connection.connected_at[side] > WORDLESS_SECONDS:
                return
            connection.failures += 1
            if connection.failures >= FAILURES:
                self._turned_down(connection, now)
        elif event == zmq.EVENT_CONNECTED:
            connection.connected_at[side] = now
            connection.over.pop(side, None)
        else:
            if event == zmq.EVENT_DISCONNECTED:
                self._ended(connection, side, now)
            else:
                connection.over.pop(side, None)
            self._probe(connection)

    def _ended(self, connection: Connection, side: Side, now: float) -> None:
        """One of the two connections ended; ZeroMQ says at once whether it tries again."""
        was_up = side in connection.up
        connection.over[side], connection.over_at = was_up, now
        if was_up:
            connection.up.discard(side)
            self._listener.disconnected(connection.key, side, now)
            self._look(connection, now)

    def _turned_down(self, connection: Connection, now: float) -> None:
        if not connection.cause:
            connection.turned_down_at = now
            self._wake_for(connection, now)
        connection.cause = TURNED_DOWN
        self._listener.locked_out(connection.key, now, TURNED_DOWN)

    def _probe(self, connection: Connection) -> None:
        """Find out whether the process at the other end is dead."""
        if connection.probe is None:
            done = partial(self._probed, connection)
            connection.probe = Probe(self._reactor, (connection.tasks, connection.reports), done)
            connection.probe.start()

    def _probed(self, connection: Connection, refused: bool) -> None:
        connection.probe = None
        connection.refuses = refused
        if self.by_key.get(connection.key) is connection and not connection.scout:
            self._tell_refused(connection)

    def _tell_refused(self, connection: Connection) -> None:
        """Tell of a process that is dead, once its reports have ended: what it said last is here by then."""
        if connection.refuses and Side.REPORTS not in connection.up:
            self._listener.refused(connection.key, monotonic())
