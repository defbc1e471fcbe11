"""The caller's doer: one PUSH per node, one SUB to all of them, and their monitors."""

from __future__ import annotations

import random
import secrets
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic, time
from typing import Any

import zmq

from dingo_zmq.balance import OpenTask
from dingo_zmq.errors import PeerError
from dingo_zmq.events import EventCode, Level, Origin
from dingo_zmq.listening import Events
from dingo_zmq.marshal import decode_failure
from dingo_zmq.marshallers import is_safe
from dingo_zmq.mesh import keys
from dingo_zmq.mesh import sockets as mesh_sockets
from dingo_zmq.mesh.connections import Connection, Connections
from dingo_zmq.mesh.discovery.port import Event
from dingo_zmq.mesh.info import Load, PeerInfo, shared_slots
from dingo_zmq.mesh.reactor import Reactor
from dingo_zmq.mesh.recorder import Recorder
from dingo_zmq.model import Code, Failure, plain
from dingo_zmq.protocol import caller as decider
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire
from dingo_zmq.protocol.ledger import Entry, Route, marshallers_of
from dingo_zmq.protocol.reading import marshallers_for, misread
from dingo_zmq.protocol.roster import NEVER, Peer, Side
from dingo_zmq.protocol.streams import Reading
from dingo_zmq.protocol.why import waiting, why

__all__ = ["MeshCaller"]

FRAMES_A_ROUND = 32
LAST_ROUNDS = 100
"""in which we read what was published, before a node is taken for dead"""
TRIED_MOST = 1000
JOURNAL_SECONDS = 2.0
"""longest time that the end waits for the journal to be written"""
_NEWS = frozenset(EventCode) - {EventCode.REDELIVERED, EventCode.REPEATED}
"""what changes how nodes stand"""


class MeshCaller:
    """
    Runs a `decider.Caller` on a reactor.

    Args:
        name: the caller's part of topics.
        mesh: name of the mesh.
        key: proves to nodes who we are, and them to us; None for no security at all.
        limit: largest body, bytes.
        sources_of: tells how a node was found.
        events: where to tell what happens.
        life: number of this life of the caller with its journal, a later one is higher; 0 where it has none.

    Attributes:
        settle: called with each settled task and the node's name.
        told: called with each report that is not final, and each further try.
        rewrite: marshals a task anew; returns its route.
        on_news: called when it changes how nodes stand.
        on_recorded: called with tasks whose ends are in the journal.
        on_fenced: told in words that another life has the tasks.
        recorder: set where there is a journal, before the loop runs.
    """

    def __init__(
        self,
        name: str,
        mesh: str,
        key: keys.Key | None,
        limit: int,
        sources_of: Callable[[str], tuple[str, ...]] = lambda node: (),
        events: Events | None = None,
        life: int = 0,
    ) -> None:
        self._events = events or Events()
        self.decider = decider.Caller(name, mesh, _dice(), _read_failure, life)
        self.recorder: Recorder | None = None
        self.settle: Callable[[Entry, str], object] = lambda entry, node: None
        self.told: Callable[[decider.Told | decider.Retried], object] = lambda told: None
        self.on_recorded: Callable[[list[Entry]], None] = lambda entries: None
        self.on_fenced: Callable[[str], None] = lambda text: None
        self.inbox: deque[Entry] = deque()
        self.wakeup = float("inf")
        self._readable = False
        self._place: decider.Express | None = None
        self._expressed: deque[tuple[Entry, decider.Express]] = deque()
        self._route: Route | None = None  # of the last task
        self._done: list[decider.Settled | decider.Told | decider.Retried] = []
        self._handed_out: list[decider.Settled | decider.Told | decider.Retried] = []
        self._reached: deque[decider.Reached] = deque()
        self._refused: dict[str, None] = {}  # keys of nodes that are dead, while the decider is not told yet
        self.watcher: Callable[[bytes, m.Reports, tuple[Any, ...]], None] | None = None
        self.on_news: Callable[[], None] = lambda: None
        self.news = 0  # rises with each
        self._tried: dict[Route, tuple[str, int]] = {}  # what is still there after that is not to be written anew
        self.rewrite: Callable[[Entry, str], Route] = lambda entry, how: entry.route
        self._key, self._limit = key, limit
        self._sources_of = sources_of
        self._pulses: dict[bytes, tuple[m.Pulse, float]] = {}

    # ------------------------------------------------------------------ as a part of the reactor

    def open(self, reactor: Reactor) -> None:
        """Make the SUB."""
        self._reactor = reactor
        self._sub = self._socket(zmq.SUB)
        self._sub.subscribe(f"{self.decider.name}/")
        self._connections = Connections(reactor, self._sub, self._new_push, keys.key_id(self._key), self)
        reactor.watch(self._sub, self._sub_ready)

    def _new_push(self) -> zmq.Socket[bytes]:
        return self._socket(zmq.PUSH)

    def _sub_ready(self) -> None:
        self._readable = True

    def pending(self) -> bool:
        """Whether tasks wait to be sent, or what was recorded to be done."""
        return bool(self.inbox) or (self.recorder is not None and self.recorder.pending)

    def subscribe(self, prefix: str) -> None:
        """Also receive what is published under another prefix, as "pulse/" or "watch/" (of a guest, its own)."""
        self._sub.subscribe(prefix + keys.callers_of(self._key) if prefix == "watch/" else prefix)

    def work(self, now: float) -> bool:
        """Send what was called, take what was reported, and look at the time."""
        caller = self.decider
        busy = self._take_inbox(now)
        if self.recorder is not None and self.recorder.pending:
            self._go_on(self.recorder, now)
        if self._readable:
            busy |= self._read(now)
        if self._refused:
            self._end_refused(now)
        if now >= self.wakeup:
            if self.recorder is not None:
                self._leave(self.recorder, now)
            caller.tick(now)
            self._write_anew(now)
            if now >= self._connections.wakeup:
                self._connections.tick(now)
            self._perform(now)
        self._set_wakeup()
        return busy

    def _set_wakeup(self) -> None:
        self.wakeup = min(self.decider.wakeup, self._connections.wakeup)
        if self.recorder is not None:
            self.wakeup = min(self.wakeup, self.recorder.wakeup)
        if self._refused:
            self.wakeup = NEVER

    def hand_out(self) -> None:
        """Tell other threads what was reported, in order."""
        if self.recorder is not None:
            self.recorder.flush(monotonic())
        if self._done:
            self._handed_out, self._done = self._done, []
            for action in self._handed_out:
                if isinstance(action, decider.Settled):
                    settle, node = self.settle, action.node
                    for entry in action.entries:
                        settle(entry, node)
                else:
                    self.told(action)
            self._handed_out = []
        if self._route is not None and self._place is None and self.recorder is None:
            self._place = self.decider.express(self._route, monotonic())

    def close(self, now: float) -> None:
        """Settle what is open and leave."""
        self.work(now)
        may_leave = self.decider.close(now)
        self._perform(now)
        self.hand_out()
        if self.recorder is not None:
            self.recorder.journal.close(JOURNAL_SECONDS)
            self._go_on(self.recorder, now)
            unfinished, self.recorder = self.recorder.give_up(), None
            may_leave = may_leave and not unfinished
            self._done += unfinished
            self.hand_out()
        if may_leave:
            self.decider.good_bye()
            self._perform(now)
        self._connections.close()
        self._reactor.unwatch(self._sub)
        self._sub.close(0)

    def _read(self, now: float) -> bool:
        sub = self._sub
        for _ in range(FRAMES_A_ROUND):
            frames = mesh_sockets.next_message(sub)
            if frames is None:
                self._readable = False
                return False
            self._received(frames, now)
        return True

    def send_now(self, entry: Entry) -> bool:
        """
        Send a lone task from the thread that calls, while the loop sleeps; return whether that was done.

        The task is handed over before it is sent: should a signal's exception come in between, the loop takes
        it for sent, and the next BEAT finds out.
        """
        place, reactor, got = self._place, self._reactor, False
        if place is None or place.route is not entry.route or entry.buffers:
            return False
        try:
            for got in iter(reactor.try_lock, None):  # noqa: B007 - see `Reactor`
                break
            if not got or not reactor.sleeping or self._place is not place or self.inbox:
                return False
            self._place = None
            self._expressed.append((entry, place))
            try:
                frame = wire.encode(place.tasks(self.decider.name, entry))
                push = self._connections.by_key[place.lane.key].push
                assert push is not None
                push.send(frame, mesh_sockets.NOBLOCK)
            except zmq.Again:
                place.refused = True
                reactor.wake()
            return True
        finally:
            if got:
                reactor.unlock()

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

    def marshallers_for(self, route: Route) -> str:
        """Return those that nodes have for a route called by name, msgpack first; any thread may ask."""
        return marshallers_for(list(self.decider.peers.values()), route, is_safe)

    def marshallers_told(self, name: str) -> str:
        """Return what some node told of a function, "" where none has; any thread may ask."""
        lanes = [peer.lanes.get(name) for peer in list(self.decider.peers.values())]
        return next((marshallers_of(lane.fingerprint) for lane in lanes if lane is not None), "")

    def _write_anew(self, now: float) -> None:
        """See to it that tasks called by name before any node had told its marshallers do not wait for ever."""
        if len(self._tried) > TRIED_MOST:
            self._tried.clear()
        for route, how in misread(self.decider, is_safe):
            if self._tried.get(route) != (how, self.news):
                self.decider.reroute(route, partial(self._written, how), now)
                if route in self.decider.ledger.queues:
                    self._tried[route] = how, self.news

    def _written(self, how: str, entry: Entry) -> Route:
        return self.rewrite(entry, how)

    def cancel(self, entry: Entry) -> None:
        """Settle a task as cancelled, unless it is settled or known to have started."""
        now = monotonic()
        self._happened(now, partial(self.decider.cancel, entry, now))

    def stream(self, entry: Entry, reading: Reading) -> None:
        """Send a task whose values are read as they come."""
        now = monotonic()
        self._happened(now, partial(self.decider.stream, entry, reading, now))

    def took(self, entry: Entry) -> None:
        """The program has taken so many values of a stream that its node should know at once."""
        now = monotonic()
        self._happened(now, partial(self.decider.took, entry, now))

    def stop(self, entry: Entry) -> None:
        """Cancel a task even where it runs; its final report tells."""
        now = monotonic()
        self._happened(now, partial(self.decider.stop, entry, now))

    def why(self, entry: Entry) -> str:
        """Return in words why a task is not done."""
        now = monotonic()
        self._take_inbox(now)
        unrecorded = self.recorder.why(entry) if self.recorder is not None and entry.record else ""
        return unrecorded or why(self.decider, entry, now)

    def waiting(self) -> list[str]:
        """Return a line for each function and cause for which tasks wait that no node can take."""
        now = monotonic()
        self._take_inbox(now)
        return waiting(self.decider, now)

    def load(self) -> Load:
        """Return how things stand."""
        decider, now = self.decider, monotonic()
        usable = [peer for peer in decider.peers.values() if peer.usable(now)]
        slots = [shared_slots(lane.slots for lane in peer.lanes.values()) for peer in usable]
        running = sum(min(peer.in_flight(), count) for peer, count in zip(usable, slots, strict=True))
        return Load(len(usable), sum(slots), running, decider.ledger.open + len(self.inbox) - running)

    def results(self) -> list[Any]:
        """Return the results of all tasks not settled, or settled while that is not recorded yet."""
        self._take_inbox(monotonic())
        unfinished = [] if self.recorder is None else self.recorder.unfinished()
        return [entry.result for entry in (*self.decider.everything(), *unfinished)]

    def has(self, entry: Entry) -> bool:
        """Return whether a task was handed over; asked by the I/O thread, or after its end."""
        if self._reactor.is_current:
            self._take_inbox(monotonic())
        waiting = (*self.inbox, *(one for one, _ in self._expressed))
        return hasattr(entry, "since") or any(one is entry for one in waiting)

    def open_tasks(self) -> list[tuple[Any, Entry]]:
        """Return the results of all tasks not settled, with their entries; also after the end."""
        if self._reactor.is_current:
            self._take_inbox(monotonic())
        said = [action for action in (*self._handed_out, *self._done) if isinstance(action, decider.Settled)]
        places = [*self.inbox, *(entry for entry, _ in self._expressed), *self.decider.everything()]
        places += [entry for action in said for entry in action.entries]
        if self.recorder is not None:
            places += self.recorder.unfinished()
        return [(result, entry) for entry in places if (result := entry.result) is not None]

    def open_task(self, entry: Entry) -> OpenTask:
        """Return what is said of a task that is open; any thread may ask."""
        lane, route = entry.lane, entry.route
        peer = None if lane is None else self.decider.peers.get(lane.key)
        blamed = any(other is entry for peer in list(self.decider.peers.values()) for _, other in peer.blamed)
        age = monotonic() - getattr(entry, "since", monotonic())
        return OpenTask(
            name=route.name,
            id=entry.id,
            holder="" if peer is None else peer.name,
            attempt=entry.attempt,
            age=max(0.0, age),
            started=entry.losses > 0 or blamed or (lane is not None and entry.may_run),
        )

    # ------------------------------------------------------------------ in and out

    def _received(self, frames: list[Any], now: float) -> None:
        try:
            message = wire.decode_node(frames)
        except PeerError as exc:
            if self._events.hears(Origin.CALLER, Level.DEBUG):
                self._events.tell(Origin.CALLER, Level.DEBUG, EventCode.DROPPED, f"dropped: {exc}", error=exc)
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
        caller, recorder = self.decider, self.recorder
        while caller.out:
            for action in caller.take():
                if recorder is not None and self._is_recorded(recorder, action):
                    continue
                if isinstance(action, decider.Settled | decider.Told | decider.Retried):
                    self._done.append(action)
                elif isinstance(action, decider.Send):
                    self._send(action, now)
                elif isinstance(action, decider.Note):
                    self._note(action)
                elif isinstance(action, decider.Fenced):
                    self.on_fenced(action.text)
                elif isinstance(action, decider.Reached):
                    self._reached.append(action)
                else:
                    self._connections.drop(action.key)
        while self._reached:  # only now, since this makes the decider act anew
            reached = self._reached.popleft()
            self._connections.answered(reached.key, reached.node, reached.doubles, now)

    def _is_recorded(self, recorder: Recorder, action: decider.Action) -> bool:
        """Hand an action over to be recorded; return whether nothing else is to be done with it for now."""
        if isinstance(action, decider.Send):
            return recorder.must_wait(action)
        if isinstance(action, decider.Settled):
            others = recorder.settled(action)
            if others is not None:
                self._done.append(others)
            return True
        if isinstance(action, decider.Note | decider.Retried):
            return not recorder.noted(action)
        return False

    def _leave(self, recorder: Recorder, now: float) -> None:
        """Send what must not wait any longer for a journal that is behind."""
        for send in recorder.look(now):
            self._send(send, now)

    def _go_on(self, recorder: Recorder, now: float) -> None:
        """Do what waited until it was recorded."""
        sends, settled = recorder.take(now)
        for action in settled:
            self.on_recorded(action.entries)
        self._done += settled
        for send in sends:
            self._send(send, now)
        self._perform(now)

    def _note(self, note: decider.Note) -> None:
        events, level = self._events, note.level
        if events.hears(Origin.CALLER, level):
            of = f"{note.node}: " if note.node else ""
            for entry in note.entries:
                name = entry.route.name
                text = f"{of}task {name} id {plain(entry.id)} is sent again: {note.text}"
                events.tell(Origin.CALLER, level, note.code, text, node=note.node, name=name, id=entry.id)
            if not note.entries:
                events.tell(Origin.CALLER, level, note.code, of + note.text, node=note.node)
        if note.code in _NEWS:
            self.news += 1
            self.on_news()

    def _send(self, send: decider.Send, now: float) -> None:
        connection = self._connections.by_key.get(send.key)
        if connection is None or connection.push is None:
            self._unsent(send, now)
            return
        frame = wire.encode(send.message)
        try:
            mesh_sockets.send_frames(connection.push, frame, send.buffers)
        except zmq.Again:
            self._unsent(send, now)

    def _unsent(self, send: decider.Send, now: float) -> None:
        back = self.decider.unsent(send, now)
        if self.recorder is not None:
            self.recorder.unsent(back)

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = mesh_sockets.make(self._reactor.context, kind, self._limit)
        if self._key is not None:
            keys.secure_client(socket, self._key)
        return socket

    # ------------------------------------------------------------------ what connections do

    def discovered(self, event: Event) -> None:
        """Discovery tells something; called by the I/O thread."""
        now = monotonic()
        self._happened(now, partial(self._connections.discovered, event, now))

    def found(self, key: str, now: float, label: str) -> None:
        """There is a node to be reached."""
        self._happened(now, partial(self.decider.found, key, now, label))

    def gone(self, key: str, now: float) -> None:
        """Nobody announces a node any more."""
        self._happened(now, partial(self.decider.gone, key, now))

    def connected(self, key: str, side: Side, now: float) -> None:
        """One of the two connections to a node is up."""
        self._happened(now, partial(self.decider.connected, key, side, now))

    def disconnected(self, key: str, side: Side, now: float) -> None:
        """One of the two connections to a node broke."""
        self._happened(now, partial(self.decider.disconnected, key, side, now))

    def moved(self, key: str, now: float) -> None:
        """A node is tried at another address."""
        self._happened(now, partial(self.decider.moved, key, now))

    def locked_out(self, key: str, now: float, cause: str) -> None:
        """A node does not let us in."""
        self._happened(now, partial(self.decider.locked_out, key, now, cause))

    def refused(self, key: str, now: float) -> None:
        """Both ports of a node refuse connections; the decider hears it after what the node said last."""
        self._refused[key] = None
        self._set_wakeup()

    def _end_refused(self, now: float) -> None:
        """All that was called is known by now; read what there is, and tell of the nodes that are dead."""
        for _ in range(LAST_ROUNDS):
            if not self._read(now):
                break
        refused, self._refused = self._refused, {}
        for key in refused:
            self.decider.refused(key, now)
            self._perform(now)

    def _happened(self, now: float, tell: Callable[[], object]) -> None:
        """Tell the decider something, which knows by then of all that was called, and do what it asks for."""
        self._take_inbox(now)
        tell()
        self._perform(now)
        self._set_wakeup()

    # ------------------------------------------------------------------ for people

    def peers(self) -> list[PeerInfo]:
        """Return what is known of each node; called by the I/O thread."""
        now = monotonic()
        return [
            self._info(connection, self.decider.peers[key], now)
            for key, connection in self._connections.by_key.items()
            if key in self.decider.peers
        ]

    def _info(self, connection: Connection, peer: Peer, now: float) -> PeerInfo:
        welcome = peer.welcome
        pulse, at = self._pulses.get(wire.pulse_topic(welcome.node) if welcome else b"", (None, now))
        return PeerInfo(
            name=peer.name if welcome else connection.name,
            node=welcome.node if welcome else "",
            address=connection.tasks,
            state=peer.state(now),
            functions={lane.name: lane.signature for lane in peer.lanes.values()},
            slots=shared_slots(lane.slots for lane in peer.lanes.values()),
            running=pulse.running if pulse else None,
            queued=pulse.queued if pulse else None,
            done=pulse.done if pulse else None,
            pulse_age=now - at if pulse else None,
            round_trip=peer.round_trip,
            version=welcome.version if welcome else 0,
            sources=tuple(sorted({s for node in connection.nodes for s in self._sources_of(node)})),
            tags=tuple(sorted(peer.tags)),
            cause=peer.locked_out or peer.barred,
            function_slots={lane.name: lane.slots for lane in peer.lanes.values()},
            clock=pulse.clock / 1000 + now - at - time() if pulse and pulse.clock else None,
            announced=tuple(connection.nodes),
            via=peer.via or (),
        )


def _read_failure(body: bytes, buffers: tuple[Any, ...]) -> Failure:
    try:
        return decode_failure((body, buffers))
    except PeerError as exc:
        return Failure(Code.GENERIC, str(exc))


def _dice() -> random.Random:
    """Return chance that nobody can guess for tokens, and quick enough for ties."""
    return _Dice(secrets.randbits(128))


class _Dice(random.Random):
    def randbytes(self, n: int) -> bytes:
        return secrets.token_bytes(n)
