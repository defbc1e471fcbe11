"""What a caller makes of what programs ask, nodes publish and connections do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dingo_zmq.model import Code, Failure, Status
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.dispatcher import Dispatcher
from dingo_zmq.protocol.ledger import Entry, Lane, Ledger, Route
from dingo_zmq.protocol.roster import (
    BEAT_SECONDS,
    HELLO_MOST,
    HELLO_SECONDS,
    LATER,
    Dice,
    Peer,
    Side,
    Stage,
    refs,
)

FRAME_TASKS = 64
FRAME_BYTES = 256 * 1024
TICK_SECONDS = 0.1
GAP_SECONDS = 1.0

_SENT, _FAIL = int(Status.SENT), int(Status.FAIL)
_FINAL = (int(Status.SUCCESS), _FAIL)


@dataclass(slots=True)
class Send:
    """Send a message to a node; tell `Caller.unsent` where the socket refuses it."""

    key: str
    message: m.Message
    buffers: tuple[Any, ...] = ()


@dataclass(slots=True)
class Settled:
    """These tasks are done: see their `status`, `body`, `buffers`, `failure`; `node` reported, if any did."""

    entries: list[Entry]
    node: str = ""


@dataclass(slots=True)
class Told:
    """A report that is not final."""

    entry: Entry
    status: int
    body: bytes
    buffers: tuple[Any, ...]
    node: str


@dataclass(slots=True)
class Drop:
    """Disconnect from a node that is gone for good."""

    key: str


@dataclass(slots=True)
class Note:
    """Something a person may want to read in a log."""

    text: str
    node: str
    bad: bool = False


Action = Send | Settled | Told | Drop | Note


@dataclass(slots=True, eq=False)
class Express:
    """
    A place kept for one lone task, so that the thread that calls can send it without waking another one.

    It holds as long as nothing else happens: the doer throws it away before it gives the decider any event.
    `refused` is set by whoever could not send after all.
    """

    route: Route
    lane: Lane
    link: bytes
    number: int
    heard: int
    refused: bool = False

    def tasks(self, caller: str, entry: Entry) -> m.Tasks:
        """Return the message that sends `entry` in this place."""
        item = (self.lane.name, self.number, entry.id, 1, entry.wire_options, entry.body)
        return m.Tasks(self.link, caller, self.heard, {}, [item])


class Caller:
    """
    A caller: finds a node for every task, and sees to it that each is settled exactly once.

    Args:
        name: the caller's part of all topics; unique and unguessable, drawn anew by each process.
        mesh: name of the mesh.
        dice: chance, from the doer.

    Every method takes `now`, monotonic seconds, last.  What is to be done is appended to `out`; the doer
    takes it with `take()`.
    """

    def __init__(self, name: str, mesh: str, dice: Dice) -> None:
        self.name, self.mesh = name, mesh
        self.ledger = Ledger()
        self.peers: dict[str, Peer] = {}
        self.links: dict[bytes, Peer] = {}
        self.closed = False
        self.out: list[Action] = []
        self.late = 0  # reports and messages that came too late to matter
        self._dice = dice
        self._dispatcher = Dispatcher(dice)
        self._hellos = 0
        self._last_tick: float | None = None
        self._handlers: dict[type, Callable[[Peer, Any, float], None]] = {
            m.Credit: self._credit,
            m.Missing: self._missing,
            m.Recalled: self._recalled,
            m.Claim: self._claim,
        }

    # ------------------------------------------------------------------ for the doer

    def take(self) -> list[Action]:
        """Return what is to be done, in order."""
        out, self.out = self.out, []
        return out

    @property
    def wakeup(self) -> float:
        """The next moment at which `tick` would do something."""
        if not self.peers or self._last_tick is None:
            return LATER
        soonest = self._last_tick + TICK_SECONDS
        for peer in self.peers.values():
            soonest = min(soonest, peer.next_beat)
            soonest = min(soonest, peer.next_hello)
        return soonest

    def submit(self, entries: list[Entry], now: float) -> None:
        """Accept tasks: recorded first, sent as soon as some node has credit."""
        self.ledger.add(entries)
        self._pump(now)

    def express(self, route: Route, now: float) -> Express | None:
        """Return a place for the next task of this route, if it would be the only one open."""
        if self.ledger.open or self.closed:
            return None
        usable = [peer for peer in self.peers.values() if peer.usable(now)]
        candidates = [(lane, peer) for peer in usable if (lane := _lane_for(route, peer)) is not None]
        if not candidates:
            return None
        lane = candidates[0][0]
        if len(candidates) > 1:
            lane, _ = self._dispatcher.choose(candidates, self.peers.values(), now)
        if lane.at_most_once and not route.fingerprint:
            return None
        peer = self.peers[lane.key]
        return Express(route, lane, peer.token, lane.sent + 1, peer.heard.total)

    def expressed(self, entry: Entry, place: Express, now: float) -> None:
        """
        A task was sent in its place; recorded as such even where that is not sure, for the next BEAT mends it.
        """
        if place.refused:
            self.submit([entry], now)
            return
        place.lane.sent = place.number
        self.ledger.add_held(entry, place.lane, place.number)

    def cancel(self, entry: Entry, now: float) -> bool:
        """Settle a task as cancelled, unless it is settled or known to have started; return whether it was."""
        if entry.settled or entry.started:
            return False
        self._end(entry, Failure(Code.CANCELLED, "cancelled before it started"), now)
        return True

    def everything(self) -> list[Entry]:
        """Return all tasks not settled."""
        return self.ledger.everything([lane for peer in self.peers.values() for lane in peer.lanes.values()])

    def close(self, now: float) -> None:
        """Settle what is open with FAIL/SHUTDOWN and say good-bye."""
        self.closed = True
        for entry in self.everything():
            self._end(entry, Failure(Code.SHUTDOWN, "the App was closed before the task was done"), now)
        for peer in self.peers.values():
            if peer.token:
                self._send(peer, m.Bye(peer.token))

    # ------------------------------------------------------------------ finding and losing nodes

    def found(self, key: str, now: float) -> None:
        """A node was found; the doer connects to it."""
        peer = self.peers.get(key)
        if peer is None:
            self.peers[key] = Peer(key, self._hellos)
            self._last_tick = self._last_tick or now
        else:
            peer.announced = True
            peer.draining = False

    def gone(self, key: str, now: float) -> None:
        """A node said good-bye, or is announced no more: a hint only, its next CREDIT knows better."""
        peer = self.peers.get(key)
        if peer is not None:
            peer.announced = False
            peer.draining = True

    def connected(self, key: str, side: Side, now: float) -> None:
        """One of the two connections to a node is up."""
        peer = self.peers.get(key)
        if peer is None:
            return
        peer.up.add(side)
        peer.locked_out = False
        if not peer.connected:
            return
        if not peer.token or peer.stage is Stage.BARRED:
            self._greet(peer, now)
        else:
            peer.valid_from = peer.number + 1
            peer.resync = True
            if peer.stage is Stage.READY:
                peer.next_beat = now
                self._beat_if_due(peer, now)
            else:
                peer.hello_wait, peer.next_hello = HELLO_SECONDS, now
                self._hello_if_due(peer, now)

    def disconnected(self, key: str, side: Side, now: float) -> None:
        """One of the two connections to a node broke."""
        peer = self.peers.get(key)
        if peer is not None:
            peer.up.discard(side)
            peer.broke = peer.resync = True

    def locked_out(self, key: str, now: float) -> None:
        """A node does not accept our key."""
        peer = self.peers.get(key)
        if peer is not None and not peer.locked_out:
            peer.locked_out = True
            self.out.append(Note("locked out: it does not accept our key", peer.name, bad=True))

    def refused(self, key: str, now: float) -> None:
        """Both ports of a node refuse connections: its process is dead."""
        peer = self.peers.get(key)
        if peer is not None and peer.token:
            self._lost(peer, "its ports are closed", now, proved=True)
            self._pump(now)

    # ------------------------------------------------------------------ messages

    def received(self, message: Any, buffers: tuple[Any, ...], now: float) -> None:
        """A node published a message to us (as `wire.decode_node` returns it)."""
        peer = self.links.get(message.link)
        if peer is None:
            self.late += 1
            return
        kind = type(message)
        if kind is m.Reports:
            if peer.incarnation:
                self._reports(peer, message, buffers, now)
        elif kind is m.Welcome:
            self._welcome(peer, message, now)
        elif kind is m.Refused:
            self._refused(peer, message, now)
        elif peer.incarnation:
            self._handlers[kind](peer, message, now)
        self._pump(now)

    def unsent(self, send: Send, now: float) -> None:
        """The socket refused a message."""
        peer, message = self.peers.get(send.key), send.message
        if peer is None:
            return
        if isinstance(message, m.Beat):
            peer.resync = True
        if not isinstance(message, m.Tasks) or message.link != peer.token:
            return
        back = []
        for name, number, *_ in message.items:
            entry = peer.lanes[name].open.get(number)
            if entry is not None:
                self.ledger.unsend(entry)
                back.append(entry)
        self.ledger.requeue(back)
        peer.broke = peer.resync = True

    def tick(self, now: float) -> None:
        """Time has passed; the doer has read its sockets before it says so."""
        if self.closed:
            return
        gap = 0.0 if self._last_tick is None else now - self._last_tick
        self._last_tick = now
        for peer in list(self.peers.values()):
            if gap > GAP_SECONDS:  # it was us who were asleep
                peer.proof = max(peer.proof, now - GAP_SECONDS)
            self._look_after(peer, now)
        self._recall(now)
        self._pump(now)

    # ------------------------------------------------------------------ links

    def _look_after(self, peer: Peer, now: float) -> None:
        if not peer.announced and peer.hopeless:
            self._close_link(peer)
            del self.peers[peer.key]
            self.out.append(Drop(peer.key))
            return
        if peer.stage is Stage.READY and peer.silent_too_long(now):
            self._lost(peer, f"silent for {peer.silence(now):.0f} s", now, proved=False)
        self._hello_if_due(peer, now)
        self._beat_if_due(peer, now)

    def _greet(self, peer: Peer, now: float) -> None:
        """Open a new link."""
        self._close_link(peer)
        peer.open_link(self._dice.randbytes(8), self._hellos, now)
        self.links[peer.token] = peer
        peer.stage = Stage.GREETING
        peer.next_hello = now
        self._hello_if_due(peer, now)

    def _close_link(self, peer: Peer) -> None:
        self.links.pop(peer.token, None)
        for lane in peer.lanes.values():
            for number, entry in lane.strays.items():
                if entry.strays is not None:
                    entry.strays.remove((lane, number))
        peer.open_link(b"", self._hellos, now=peer.proof)
        peer.stage = Stage.APART

    def _hello_if_due(self, peer: Peer, now: float) -> None:
        if peer.stage is not Stage.GREETING or now < peer.next_hello:
            return
        peer.next_hello = now + peer.hello_wait * self._jitter()
        peer.hello_wait = min(HELLO_MOST, peer.hello_wait * 2)
        if Side.TASKS not in peer.up:
            return
        peer.number = max(self._hellos, peer.number)
        self._hellos = number = peer.numbered(now)
        self._send(peer, m.Hello(peer.token, self.name, number, peer.incarnation, self.mesh, [m.VERSION]))

    def _beat_if_due(self, peer: Peer, now: float) -> None:
        if peer.stage is not Stage.READY or now < peer.next_beat:
            return
        peer.next_beat = now + BEAT_SECONDS * self._jitter()
        if Side.TASKS not in peer.up:
            return
        beat = peer.beat(self.name, self.ledger.wanted(), now)
        peer.beaten()  # `unsent` mends it where the socket refuses
        self._send(peer, beat)

    def _jitter(self) -> float:
        return 0.8 + 0.4 * self._dice.random()

    def _welcome(self, peer: Peer, welcome: m.Welcome, now: float) -> None:
        if welcome.echo < peer.valid_from:
            return
        if peer.incarnation and welcome.incarnation != peer.incarnation:
            self._lost(peer, "it was started anew", now, proved=True)
            return
        self._settle_blame(peer, welcome.incarnation, now)
        self._drop_double(peer, welcome, now)
        fresh = peer.stage is not Stage.READY
        peer.incarnation, peer.welcome, peer.draining = welcome.incarnation, welcome, welcome.draining
        for name, told in welcome.functions.items():
            lane = peer.lanes.get(name)
            if lane is None:
                lane = peer.lanes[name] = Lane(peer.key, name, *told)
            lane.told(welcome.credit.get(name, 0), 0, now)
        peer.echoed(welcome.echo, now)
        peer.stage, peer.next_hello = Stage.READY, LATER
        if fresh:
            peer.next_beat = now if peer.resync else now + BEAT_SECONDS * self._jitter()
            self.out.append(Note("found", peer.name))

    def _drop_double(self, peer: Peer, welcome: m.Welcome, now: float) -> None:
        """The same node under another key: this link has superseded that one at the node."""
        for other in list(self.peers.values()):
            same = other.welcome is not None and other.welcome.node == welcome.node
            if other is not peer and same and other.token and other.incarnation == welcome.incarnation:
                self._lost(other, "it is reached at another address", now, proved=False)
                self._close_link(other)
                del self.peers[other.key]
                self.out.append(Drop(other.key))

    def _settle_blame(self, peer: Peer, incarnation: bytes, now: float) -> None:
        """A loss by silence counts only when the node later shows another incarnation."""
        blamed, peer.blamed = peer.blamed, []
        for before, entry in blamed:
            if before != incarnation and not entry.settled:
                failure = self.ledger.counted(entry)
                if failure is not None:
                    self._end(entry, failure, now)

    def _refused(self, peer: Peer, refused: m.Refused, now: float) -> None:
        if refused.reason in (m.REFUSED_MESH, m.REFUSED_VERSION):
            peer.stage, peer.barred = Stage.BARRED, refused.text
            peer.next_hello = peer.next_beat = LATER
            self.out.append(Note(f"refused us: {refused.text}", peer.name, bad=True))
        else:
            self._lost(peer, "it knows our link no more", now, proved=False)
            self._close_link(peer)
            if peer.connected:
                self._greet(peer, now)

    def _lost(self, peer: Peer, why: str, now: float, *, proved: bool) -> None:
        """
        A node is lost: its tasks go back to the queue, or end.

        Where the loss is proved the link is closed; after mere silence its token lives on, for the node may
        be alive, and what it still says of a task counts.
        """
        entries, incarnation = peer.entries(), peer.incarnation
        if incarnation and (entries or not peer.lost):
            self.out.append(Note(f"lost: {why}; {_tasks_were(len(entries))} there", peer.name, bad=True))
        back, ended = [], []
        for entry in entries:
            self.ledger.unhold(entry)
            failure = self.ledger.lost(entry, proved=proved)
            if failure is not None:
                ended.append((entry, failure))
                continue
            if entry.started:
                blame = (incarnation, entry)
                if blame in peer.blamed:  # given up there before: one death counts once
                    peer.blamed.remove(blame)
                if not proved:
                    peer.blamed.append(blame)
            back.append(entry)
        self.ledger.requeue(back)
        for entry, failure in ended:
            self._end(entry, failure, now)
        peer.broke = peer.resync = True
        if proved:
            self._close_link(peer)
            if peer.connected:
                self._greet(peer, now)
        else:
            peer.lost, peer.proof, peer.valid_from = True, now, peer.number + 1

    # ------------------------------------------------------------------ what nodes say of tasks

    def _reports(self, peer: Peer, reports: m.Reports, buffers: tuple[Any, ...], now: float) -> None:  # noqa: C901 - hot, so all in one place
        lanes, heard = peer.lanes, peer.heard
        for name, (limit, run_time) in reports.lanes.items():
            if name in lanes:
                lanes[name].told(limit, run_time, now)
        peer.load, peer.load_at = reports.load[0], now
        settled: list[Entry] = []
        for report, name, number, _, status, body in reports.items:
            lane = lanes.get(name)
            if lane is None:
                continue
            if report:
                heard.add(report)
            entry = lane.open.get(number)
            if entry is None:
                entry = lane.strays.get(number)
                if entry is None:
                    self.late += 1
                    continue
            if status in _FINAL:
                self._settle(entry, lane, now)
                entry.status, entry.body, entry.buffers = status, body, buffers
                settled.append(entry)
            elif entry.lane is lane and not (status == _SENT and entry.started):
                entry.started = status != _SENT
                self.out.append(Told(entry, status, body, buffers, peer.name))
        if settled:
            self.out.append(Settled(settled, peer.name))

    def _settle(self, entry: Entry, reporter: Lane | None, now: float) -> None:
        """Close a task's record, and stop everybody else who may still have it."""
        others = entry.strays
        lane = entry.lane
        number = entry.number
        self.ledger.settle(entry)
        if lane is not None and lane is not reporter:
            self._cancel_at(lane, number)
        if others:
            for stray, at in others:
                if stray is not reporter:
                    self._cancel_at(stray, at)
            entry.strays = None

    def _cancel_at(self, lane: Lane, number: int) -> None:
        peer = self.peers.get(lane.key)
        if peer is not None and peer.token and peer.lanes.get(lane.name) is lane:
            self._send(peer, m.Cancel(peer.token, refs([(lane, number)])))

    def _end(self, entry: Entry, failure: Failure, now: float) -> None:
        """Settle a task here, without a report of a node."""
        if not entry.settled:
            self._settle(entry, None, now)
            entry.status, entry.failure = _FAIL, failure
            entry.body, entry.buffers = b"", ()
            self.out.append(Settled([entry]))

    def _credit(self, peer: Peer, message: m.Credit, now: float) -> None:
        peer.echoed(message.echo, now)
        for name, (limit, run_time) in message.lanes.items():
            if name in peer.lanes:
                peer.lanes[name].told(limit, run_time, now)
        peer.load, peer.load_at = message.load[0], now
        if message.draining and peer.told_heard < peer.heard.total:
            peer.next_beat = now
        peer.draining = message.draining
        for _, entry in self._open(peer, message.running):
            entry.started = True

    def _open(self, peer: Peer, named: m.Refs) -> list[tuple[Lane, Entry]]:
        """Return the tasks among refs that the node holds for us, as far as we know."""
        found = []
        for name, numbers in named.items():
            lane = peer.lanes.get(name)
            if lane is not None:
                found += [(lane, lane.open[n]) for n in numbers if n in lane.open]
        return found

    def _missing(self, peer: Peer, message: m.Missing, now: float) -> None:
        self._put_back([entry for _, entry in self._open(peer, message.refs)])

    def _recalled(self, peer: Peer, message: m.Recalled, now: float) -> None:
        entries = [entry for _, entry in self._open(peer, message.refs)]
        for entry in entries:
            entry.recalls += 1
        if message.reason == m.UNKNOWN_FUNCTION:  # nothing of such a lane can be there
            lanes = [lane for name in message.refs if (lane := peer.lanes.pop(name, None))]
            entries = [entry for lane in lanes for entry in lane.open.values()]
        elif message.reason == m.DRAINING:
            peer.draining = True  # also where it was just found anew: else the same tasks go to and fro
        self._put_back(entries)

    def _put_back(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.ledger.unhold(entry)
        self.ledger.requeue(entries)

    def _claim(self, peer: Peer, message: m.Claim, now: float) -> None:
        go = []
        for lane, entry in self._open(peer, message.refs):
            if entry.losses and not entry.started and self._has_suspect(peer, entry):
                continue
            entry.started = True
            go.append((lane, entry.number))
        if go:
            self._send(peer, m.Go(peer.token, refs(go)))

    def _has_suspect(self, peer: Peer, entry: Entry) -> bool:
        """Whether another task with a counted loss may be running there: a killer must die alone."""
        return any(other.started and other.losses and other is not entry for other in peer.entries())

    # ------------------------------------------------------------------ sending

    def _pump(self, now: float) -> None:
        if not self.ledger.queues or self.closed:
            return
        usable = [peer for peer in self.peers.values() if peer.usable(now)]
        if not usable:
            return
        placed: dict[str, list[Entry]] = {}
        for route in list(self.ledger.queues):
            self._place(route, usable, placed, now)
        for key, entries in placed.items():
            self._send_tasks(self.peers[key], entries)

    def _place(self, route: Route, usable: list[Peer], placed: dict[str, list[Entry]], now: float) -> None:
        candidates = [(lane, peer) for peer in usable if (lane := _lane_for(route, peer)) is not None]
        queue = self.ledger.queues[route]
        while queue and candidates:
            if len(candidates) == 1:  # nothing to choose
                lane = candidates[0][0]
                most = lane.limit - lane.sent
            else:
                lane, most = self._dispatcher.choose(candidates, self.peers.values(), now)
            batch = placed.setdefault(lane.key, [])
            for _ in range(min(most, len(queue))):
                entry = queue.popleft()
                lane.sent = number = lane.sent + 1
                self.ledger.held(entry, lane, number)
                batch.append(entry)
                if lane.at_most_once and not route.fingerprint:
                    entry.forbid_twice()
            if lane.sent >= lane.limit:
                candidates = [bid for bid in candidates if bid[0] is not lane]
        if not queue:
            del self.ledger.queues[route]

    def _send_tasks(self, peer: Peer, entries: list[Entry]) -> None:
        items: list[m.TaskItem] = []
        size = 0
        for entry in entries:
            item = (entry.route.name, entry.number, entry.id, entry.attempt, entry.wire_options, entry.body)
            if entry.buffers:
                if items:  # numbers of a lane must leave in order
                    self._send_frame(peer, items, ())
                    items, size = [], 0
                self._send_frame(peer, [item], entry.buffers)
                continue
            size += len(entry.body)
            if items and (len(items) >= FRAME_TASKS or size > FRAME_BYTES):
                self._send_frame(peer, items, ())
                items, size = [], len(entry.body)
            items.append(item)
        if items:
            self._send_frame(peer, items, ())

    def _send_frame(self, peer: Peer, items: list[m.TaskItem], buffers: tuple[Any, ...]) -> None:
        peer.told_heard = peer.heard.total
        tasks = m.Tasks(peer.token, self.name, peer.heard.total, self.ledger.wanted(), items)
        self._send(peer, tasks, buffers)

    def _send(self, peer: Peer, message: m.Message, buffers: tuple[Any, ...] = ()) -> None:
        self.out.append(Send(peer.key, message, buffers))

    def _recall(self, now: float) -> None:
        usable = [peer for peer in self.peers.values() if peer.usable(now)]
        if self.ledger.queues or len(usable) <= 1:
            return
        for name in dict.fromkeys(lane.name for peer in usable for lane in peer.lanes.values() if lane.open):
            found = self._dispatcher.recall(name, usable, now)
            if found is not None and found[1]:
                peer, entries = found
                peer.recalled_at = now
                lane = peer.lanes[name]
                self._send(peer, m.Recall(peer.token, refs((lane, entry.number) for entry in entries)))


def _lane_for(route: Route, peer: Peer) -> Lane | None:
    """Return a node's lane that can take a task of this route now."""
    lane = peer.lanes.get(route.name)
    if lane is None or lane.limit <= lane.sent or route.size > peer.limit:
        return None
    if route.fingerprint and lane.fingerprint and route.fingerprint != lane.fingerprint:
        return None
    return lane


def _tasks_were(count: int) -> str:
    return "1 of our tasks was" if count == 1 else f"{count} of our tasks were"
