"""The caller's doer: one PUSH per node, one SUB to all of them, and their monitors."""

from __future__ import annotations

import logging
import random
import secrets
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from dingo_zmq.errors import PeerError
from dingo_zmq.mesh import keys
from dingo_zmq.mesh import sockets as mesh_sockets
from dingo_zmq.mesh.discovery.port import Announcement, Changed, Event, Found, Gone
from dingo_zmq.mesh.info import PeerInfo
from dingo_zmq.mesh.probe import Probe
from dingo_zmq.mesh.reactor import Reactor
from dingo_zmq.protocol import caller as decider
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire
from dingo_zmq.protocol.ledger import Entry, Route
from dingo_zmq.protocol.roster import Peer, Side
from dingo_zmq.protocol.why import why

__all__ = ["MeshCaller"]

FRAMES_A_ROUND = 32
_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
)
_log = logging.getLogger("dingo_zmq.caller")


class _Connection:
    """The sockets to one node."""

    def __init__(self, key: str, reports: str, push: zmq.Socket[bytes]) -> None:
        self.key, self.reports, self.push = key, reports, push
        self.monitor: zmq.Socket[bytes] = push.get_monitor_socket(_EVENTS)
        self.nodes: dict[str, None] = {}  # the announced ids that led here
        self.probe: Probe | None = None


class MeshCaller:
    """
    Runs a `decider.Caller` on a reactor.

    Args:
        name: the caller's part of topics.
        mesh: name of the mesh.
        key: proves to nodes who we are, and them to us; None for no security at all.
        limit: largest body, bytes.
        settle: called by the I/O thread with each settled task and the node's name.
        told: called by the I/O thread with each report that is not final.
        sources_of: tells how a node was found.
    """

    def __init__(
        self,
        name: str,
        mesh: str,
        key: keys.Key | None,
        limit: int,
        settle: Callable[[Entry, str], None],
        told: Callable[[decider.Told], None],
        sources_of: Callable[[str], tuple[str, ...]] = lambda node: (),
    ) -> None:
        self.decider = decider.Caller(name, mesh, _dice())
        self.inbox: deque[Entry] = deque()
        self.wakeup = float("inf")
        self._readable = False
        self._place: decider.Express | None = None
        self._expressed: deque[tuple[Entry, decider.Express]] = deque()
        self._route: Route | None = None  # of the last task
        self._done: list[decider.Settled | decider.Told] = []
        self.watcher: Callable[[bytes, m.Reports, tuple[Any, ...]], None] | None = None
        self.on_news: Callable[[], None] = lambda: None
        self._key, self._limit, self._settle, self._told = key, limit, settle, told
        self._sources_of = sources_of
        self._connections: dict[str, _Connection] = {}
        self._keys_of: dict[str, str] = {}  # announced id -> key
        self._keys_by_reports: dict[str, str] = {}
        self._pulses: dict[bytes, tuple[m.Pulse, float]] = {}

    # ------------------------------------------------------------------ as a part of the reactor

    def open(self, reactor: Reactor) -> None:
        """Make the SUB."""
        self._reactor = reactor
        self._sub = self._socket(zmq.SUB)
        self._sub.setsockopt(zmq.RCVHWM, 0)
        self._sub.subscribe(f"{self.decider.name}/")
        monitor: zmq.Socket[bytes] = self._sub.get_monitor_socket(_EVENTS)
        self._monitor = monitor
        self._watch_monitor(monitor, Side.REPORTS, None)
        reactor.watch(self._sub, self._sub_ready)

    def _sub_ready(self) -> None:
        self._readable = True

    def pending(self) -> bool:
        """Whether tasks wait to be sent."""
        return bool(self.inbox)

    def subscribe(self, prefix: str) -> None:
        """Also receive what is published under another prefix, such as "pulse/" or "watch/"."""
        self._sub.subscribe(prefix)

    def work(self, now: float) -> bool:
        """Send what was called, take what was reported, and look at the time."""
        caller = self.decider
        busy = self._take_inbox(now)
        if self._readable:
            busy |= self._read(now)
        if now >= self.wakeup:
            caller.tick(now)
            self._perform(now)
        self.wakeup = caller.wakeup
        return busy

    def hand_out(self) -> None:
        """Tell other threads what was reported, in order."""
        done, self._done = self._done, []
        for action in done:
            if isinstance(action, decider.Told):
                self._told(action)
            else:
                settle, node = self._settle, action.node
                for entry in action.entries:
                    settle(entry, node)
        if self._route is not None and self._place is None:
            self._place = self.decider.express(self._route, monotonic())

    def close(self, now: float) -> None:
        """Settle what is open and leave."""
        self.work(now)
        self.decider.close(now)
        self._perform(now)
        self.hand_out()
        for connection in list(self._connections.values()):
            self._disconnect(connection)
        self._reactor.unwatch(self._monitor)
        self._sub.disable_monitor()
        self._monitor.close(0)
        self._reactor.unwatch(self._sub)
        self._sub.close(0)

    def _read(self, now: float) -> bool:
        sub = self._sub
        for _ in range(FRAMES_A_ROUND):
            if not mesh_sockets.readable(sub):
                self._readable = False
                return False
            self._received(mesh_sockets.recv_frames(sub), now)
        return True

    def send_now(self, entry: Entry) -> bool:
        """
        Send a lone task from the thread that calls, while the loop sleeps; return whether that was done.

        The task is handed over before it is sent: should a signal's exception come in between, the loop takes
        it for sent, and the next BEAT finds out.
        """
        place = self._place
        if place is None or place.route is not entry.route or entry.buffers or not self._reactor.enter():
            return False
        try:
            if self._place is not place or self.inbox:
                return False
            self._place = None
            self._expressed.append((entry, place))
            try:
                frame = wire.encode(place.tasks(self.decider.name, entry))
                self._connections[place.lane.key].push.send(frame, mesh_sockets.NOBLOCK)
            except zmq.Again:
                place.refused = True
                self._reactor.wake()
            return True
        finally:
            self._reactor.leave()

    def _take_inbox(self, now: float) -> bool:
        """Take over what was called; before anything else is done, so that the decider never knows less."""
        self._place = None
        while self._expressed:
            entry, place = self._expressed.popleft()
            self._route = entry.route
            self.decider.expressed(entry, place, now)
        inbox = self.inbox
        if not inbox:
            return False
        entries = []
        while inbox:
            entries.append(inbox.popleft())
        self._route = entries[0].route
        self.decider.submit(entries, now)
        self._perform(now)
        return True

    # ------------------------------------------------------------------ asked by other threads, run by this one

    def cancel(self, entry: Entry) -> None:
        """Settle a task as cancelled, unless it is settled or known to have started."""
        now = monotonic()
        self._take_inbox(now)
        self.decider.cancel(entry, now)
        self._perform(now)

    def why(self, entry: Entry) -> str:
        """Return in words why a task is not done."""
        now = monotonic()
        self._take_inbox(now)
        return why(self.decider, entry, now)

    def results(self) -> list[Any]:
        """Return the results of all tasks not settled."""
        self._take_inbox(monotonic())
        return [entry.result for entry in self.decider.everything()]

    # ------------------------------------------------------------------ in and out

    def _received(self, frames: list[Any], now: float) -> None:
        try:
            message = wire.decode_node(frames)
        except PeerError as exc:
            _log.debug("dropped: %s", exc)
            return
        if type(message) is m.Pulse:
            self._pulses[wire.topic_of(frames[0])] = (message, now)
            return
        if frames[0].startswith(b"watch/"):
            if self.watcher is not None:
                self.watcher(wire.topic_of(frames[0]), message, tuple(frames[1:]))
            return
        self.decider.received(message, tuple(frames[1:]), now)
        self._perform(now)

    def _perform(self, now: float) -> None:
        caller = self.decider
        while caller.out:
            for action in caller.take():
                if isinstance(action, decider.Settled):
                    self._done.append(action)
                elif isinstance(action, decider.Send):
                    self._send(action, now)
                elif isinstance(action, decider.Told):
                    self._done.append(action)
                elif isinstance(action, decider.Note):
                    _log.log(logging.WARNING if action.bad else logging.INFO, "%s: %s", action.node, action.text)
                    self.on_news()
                else:
                    self._drop(action.key)

    def _send(self, send: decider.Send, now: float) -> None:
        connection = self._connections.get(send.key)
        if connection is None:
            self.decider.unsent(send, now)
            return
        frame = wire.encode(send.message)
        try:
            mesh_sockets.send_frames(connection.push, frame, send.buffers)
        except zmq.Again:
            self.decider.unsent(send, now)

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = mesh_sockets.make(self._reactor.context, kind, self._limit)
        if self._key is not None:
            keys.secure_client(socket, self._key)
        return socket

    # ------------------------------------------------------------------ connections

    def discovered(self, event: Event) -> None:
        """Discovery tells something; called by the I/O thread."""
        now = monotonic()
        self._take_inbox(now)
        if isinstance(event, Found | Changed):
            self._found(event.announcement, now)
        elif isinstance(event, Gone):
            key = self._keys_of.pop(event.node, None)
            connection = self._connections.get(key) if key else None
            if connection is not None:
                connection.nodes.pop(event.node, None)
                if not connection.nodes:
                    self.decider.gone(connection.key, now)
        self._perform(now)
        self.wakeup = self.decider.wakeup

    def _found(self, announcement: Announcement, now: float) -> None:
        key, reports = announcement.candidates[0]
        before = self._keys_of.get(announcement.node)
        if before is not None and before != key:
            self.discovered(Gone(announcement.node, ""))
        self._keys_of[announcement.node] = key
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connect(key, reports)
        connection.nodes[announcement.node] = None
        self.decider.found(key, now)

    def _connect(self, key: str, reports: str) -> _Connection:
        push = self._socket(zmq.PUSH)
        self._connections[key] = connection = _Connection(key, reports, push)
        self._keys_by_reports[reports] = key
        self._watch_monitor(connection.monitor, Side.TASKS, connection)
        push.connect(key)
        self._sub.connect(reports)
        return connection

    def _drop(self, key: str) -> None:
        connection = self._connections.get(key)
        if connection is not None:
            self._disconnect(connection)

    def _disconnect(self, connection: _Connection) -> None:
        del self._connections[connection.key]
        if connection.probe is not None:
            connection.probe.stop()
        self._keys_by_reports.pop(connection.reports, None)
        for node in connection.nodes:
            self._keys_of.pop(node, None)
        self._reactor.unwatch(connection.monitor)
        connection.push.disable_monitor()
        connection.monitor.close(0)
        connection.push.close()
        self._sub.disconnect(connection.reports)

    def _watch_monitor(self, monitor: zmq.Socket[bytes], side: Side, connection: _Connection | None) -> None:
        self._reactor.watch(monitor, partial(self._read_monitor, monitor, side, connection))

    def _read_monitor(self, monitor: zmq.Socket[bytes], side: Side, connection: _Connection | None) -> None:
        now = monotonic()
        self._take_inbox(now)
        while True:
            try:
                frames = monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            event = parse_monitor_message(frames)
            about = connection
            if about is None:
                key = self._keys_by_reports.get(event["endpoint"].decode())
                about = self._connections.get(key) if key else None
            if about is not None:
                self._connection_event(about, side, event["event"], now)
        self._perform(now)
        self.wakeup = self.decider.wakeup

    def _connection_event(self, connection: _Connection, side: Side, event: int, now: float) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.decider.connected(connection.key, side, now)
        elif event in _FAILED:
            self.decider.locked_out(connection.key, now)
        else:
            if event == zmq.EVENT_DISCONNECTED:
                self.decider.disconnected(connection.key, side, now)
            self._probe(connection)

    def _probe(self, connection: _Connection) -> None:
        """Find out whether the process at the other end is dead."""
        if connection.probe is None:
            done = partial(self._probed, connection)
            connection.probe = Probe(self._reactor, (connection.key, connection.reports), done)
            connection.probe.start()

    def _probed(self, connection: _Connection, refused: bool) -> None:
        connection.probe = None
        if refused and self._connections.get(connection.key) is connection:
            now = monotonic()
            self._take_inbox(now)
            self.decider.refused(connection.key, now)
            self._perform(now)

    # ------------------------------------------------------------------ for people

    def peers(self) -> list[PeerInfo]:
        """Return what is known of each node; called by the I/O thread."""
        now = monotonic()
        return [
            self._info(connection, self.decider.peers[key], now)
            for key, connection in self._connections.items()
            if key in self.decider.peers
        ]

    def _info(self, connection: _Connection, peer: Peer, now: float) -> PeerInfo:
        welcome = peer.welcome
        pulse, at = self._pulses.get(wire.pulse_topic(welcome.node) if welcome else b"", (None, now))
        return PeerInfo(
            name=peer.name,
            node=welcome.node if welcome else "",
            address=connection.key,
            state=peer.state(now),
            functions={lane.name: lane.signature for lane in peer.lanes.values()},
            slots=max((lane.slots for lane in peer.lanes.values()), default=0),
            running=pulse.running if pulse else None,
            queued=pulse.queued if pulse else None,
            done=pulse.done if pulse else None,
            pulse_age=now - at if pulse else None,
            round_trip=peer.round_trip,
            version=welcome.version if welcome else 0,
            sources=tuple(sorted({s for node in connection.nodes for s in self._sources_of(node)})),
        )


def _dice() -> random.Random:
    """Return chance that nobody can guess for tokens, and quick enough for ties."""
    return _Dice(secrets.randbits(128))


class _Dice(random.Random):
    def randbytes(self, n: int) -> bytes:
        return secrets.token_bytes(n)
