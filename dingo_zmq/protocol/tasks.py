"""The tasks of a caller that are not settled: which node gets each, and what nodes say of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dingo_zmq.events import EventCode, Level
from dingo_zmq.model import GAVE_BACK, Code, Failure, Status, counted, plain
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import tried
from dingo_zmq.protocol.actions import Action, Express, Note, Send, Settled, Told
from dingo_zmq.protocol.dispatcher import WAITING_MOST, Dispatcher
from dingo_zmq.protocol.ledger import NEVER, Entry, Lane, Ledger, Route
from dingo_zmq.protocol.roster import Dice, Early, Peer, refs
from dingo_zmq.protocol.streams import Reading
from dingo_zmq.protocol.tries import ReadFailure, Tries, date, unread

FRAME_TASKS = 64
FRAME_BYTES = 256 * 1024
REASON_MOST = 200

_SENT, _FAIL, _PARTIAL = int(Status.SENT), int(Status.FAIL), int(Status.PARTIAL)
_FINAL = (int(Status.SUCCESS), _FAIL)


class OpenTasks:
    """
    Places tasks at nodes, takes them back where that is better, and settles each exactly once.

    Args:
        name: the caller's part of all topics.
        dice: chance, from the doer.
        peers: the nodes there are, by key; somebody else keeps them.
        out: where to append what is to be done.
        read_failure: returns what the body of a FAIL says.

    Attributes:
        paused: whether nothing is sent that would have to be recorded first; see `Caller.pause`.
    """

    def __init__(
        self, name: str, dice: Dice, peers: dict[str, Peer], out: list[Action], read_failure: ReadFailure = unread
    ) -> None:
        self.name, self.peers, self.out = name, peers, out
        self.ledger = Ledger()
        self._tries = Tries(self.ledger, dice, out, read_failure, self._end)
        self.closed = self.paused = False
        self.late = 0  # reports that came too late to matter
        self._dispatcher = Dispatcher(dice)
        self._stopping: dict[Entry, None] = {}  # and perhaps settled since
        self.streams: dict[Entry, Reading] = {}

    # ------------------------------------------------------------------ what the program asks

    def submit(self, entries: list[Entry], now: float) -> None:
        """Accept tasks: recorded first, sent as soon as some node has credit."""
        self.ledger.add(entries, now)
        self.pump(now)

    def stream(self, entry: Entry, reading: Reading, now: float) -> None:
        """Accept a task whose values are read as they come."""
        self.streams[entry] = reading
        self.submit([entry], now)

    def took(self, entry: Entry) -> None:
        """The program has taken so many values of a stream that its node should know at once."""
        reading, lane = self.streams.get(entry), entry.lane
        if reading is not None and lane is not None:
            self._tell_taken(self.peers[lane.key], entry, reading)

    def _tell_taken(self, peer: Peer, entry: Entry, reading: Reading) -> None:
        lane, number = entry.lane, entry.number
        if lane is not None and peer.token and reading.due((lane, number)):
            taken = {lane.name: [(number, reading.tell((lane, number)))]}
            peer.told_heard = peer.heard.told
            self._send(peer, m.Taken(peer.token, peer.heard.told, taken))

    def taken(self, peer: Peer) -> dict[str, list[tuple[int, int]]]:
        """Return how many values were taken of each stream that a node has, to be told in a BEAT."""
        taken: dict[str, list[tuple[int, int]]] = {}
        for entry, reading in self.streams.items():
            lane, number = entry.lane, entry.number
            if lane is not None and lane.key == peer.key:
                taken.setdefault(lane.name, []).append((number, reading.tell((lane, number))))
        return taken

    def express(self, route: Route, now: float) -> Express | None:
        """Return a place for the next task of this route, if it would be the only one open."""
        if self.ledger.open > len(self.ledger.parked) or self.closed:
            return None
        usable = [peer for peer in self.peers.values() if peer.usable(now)]
        candidates = [(lane, peer) for peer in usable if (lane := _lane_for(route, peer)) is not None]
        if not candidates:
            return None
        lane = candidates[0][0]
        if len(candidates) > 1:
            (lane, _), _ = self._dispatcher.choose(candidates, self.peers.values(), now)
        if lane.at_most_once and route.by_name:
            return None
        peer = self.peers[lane.key]
        return Express(route, lane, peer.token, lane.sent + 1, peer.heard.told)

    def expressed(self, entry: Entry, place: Express, now: float) -> None:
        """
        A task was sent in its place; recorded as such even where that is not sure, for the next BEAT mends it.
        """
        if place.refused:
            self.submit([entry], now)
            return
        place.lane.sent = place.number
        self.ledger.add_held(entry, place.lane, place.number, now)

    def cancel(self, entry: Entry, now: float) -> bool:
        """Settle a task as cancelled, unless it is settled or known to have started; return whether it was."""
        if entry.settled or entry.started:
            return False
        self._end(entry, Failure(Code.CANCELLED, "cancelled before it started"), now)
        return True

    def reroute(self, route: Route, change: Callable[[Entry], Route], now: float) -> None:
        """Give the tasks that wait on a route other ones, as `change` says, and send what can be sent then."""
        self.ledger.reroute(route, change)
        self.pump(now)

    def stop(self, entry: Entry, now: float) -> None:
        """End a task as soon as its function lets go of it; its final report says what became of it."""
        if entry.settled or entry.stopping:
            return
        lane = entry.lane
        if lane is None:
            self._end(entry, Failure(Code.CANCELLED, "cancelled before it started"), now)
            return
        entry.stopping = True
        self._stopping[entry] = None
        peer = self.peers[lane.key]
        self._send(peer, m.Cancel(peer.token, refs([(lane, entry.number)]), tell=True))

    def remind(self, peer: Peer) -> None:
        """Ask a node to stop what it was asked to stop, for that may not have come through."""
        if not self._stopping:
            return
        self._stopping = {entry: None for entry in self._stopping if not entry.settled}
        here = [(e.lane, e.number) for e in self._stopping if e.lane is not None and e.lane.key == peer.key]
        if here and peer.token:
            self._send(peer, m.Cancel(peer.token, refs(here), tell=True))

    def everything(self) -> list[Entry]:
        """Return all tasks not settled."""
        return self.ledger.everything([lane for peer in self.peers.values() for lane in peer.lanes.values()])

    def close(self, now: float) -> None:
        """Settle what is open with FAIL/SHUTDOWN."""
        self.closed = True
        for entry in self.everything():
            if entry.record:  # its node goes on with it
                self.ledger.unhold(entry)
                entry.strays = None
            self._end(entry, Failure(Code.SHUTDOWN, "the App was closed before the task was done"), now)
        self.ledger.agenda.items.clear()

    # ------------------------------------------------------------------ what becomes of nodes

    def give_up(self, peer: Peer, now: float, *, proved: bool) -> None:
        """The tasks of a node that is lost go back to the queue, or end; `proved`: its process is dead."""
        entries, incarnation = peer.entries(), peer.incarnation
        back, ended = [], []
        peer.blamed = [blame for blame in peer.blamed if not blame[1].settled]
        for entry in entries:
            self.ledger.unhold(entry)
            tried.note_lost(entry, peer.name, proved=proved)
            failure = self.ledger.lost(entry, proved=proved)
            if failure is None and entry.terms is not None:
                failure = self._tries.lost(entry, entry.terms, peer, now)
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
        self._note_again(back, peer, "the node was lost")
        for entry, failure in ended:
            self._end(entry, failure, now)

    def forget(self, peer: Peer) -> None:
        """A link is closed: nothing that its node says of a task counts any more."""
        for lane in peer.lanes.values():
            for number, entry in lane.strays.items():
                if entry.strays is not None:
                    entry.strays.remove((lane, number))

    def settle_blame(self, peer: Peer, incarnation: bytes, now: float) -> None:
        """A node shows this incarnation; a loss by silence counts only where it is another one."""
        blamed, peer.blamed = peer.blamed, []
        for before, entry in blamed:
            if before != incarnation and not entry.settled:
                tried.note_died(entry, peer.name)
                failure = self.ledger.counted(entry)
                if failure is not None:
                    self._end(entry, failure, now)

    def unsent(self, peer: Peer, message: m.Tasks) -> list[Entry]:
        """The socket refused tasks: they never left, and wait again; return them."""
        back: list[Entry] = []
        for name, number, *_ in message.items:
            lane = peer.lanes.get(name)  # it may have said since that it does not have the function
            entry = None if lane is None else lane.open.get(number)
            if entry is not None:
                self.ledger.unsend(entry)
                back.append(entry)
        self.ledger.requeue(back)
        return back

    # ------------------------------------------------------------------ what nodes say of tasks

    def reports(self, peer: Peer, reports: m.Reports, buffers: tuple[Any, ...], now: float) -> None:  # noqa: C901, PLR0912 - hot
        """Reports of tasks, with credit and load."""
        lanes, heard, early = peer.lanes, peer.heard, peer.early
        for name, (limit, run_time) in reports.lanes.items():
            if name in lanes:
                lanes[name].told(limit, run_time, now)
        peer.load, peer.load_at = reports.load[0], now
        settled: list[Entry] = []
        late, streams = self.late, self.streams
        for report, name, number, _, status, body in reports.items:
            lane = lanes.get(name)
            if lane is None:
                self.late += 1
                continue
            if early:
                settled += self._turn_of_early(peer, now)
            if streams:
                if report > heard.total + 1 and self._of_stream(lane, number):
                    heard.add(report)
                    early[report] = Early(lane, number, status, body, buffers)
                    continue
                if status == _PARTIAL:
                    again = report <= heard.total
                    heard.add(report)
                    self._value(peer, lane, number, body, buffers, again=again)
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
                if status == _FAIL and self._tries.failed(entry, lane, number, (body, buffers), peer, now):
                    continue
                self._settle(entry, lane, now)
                entry.status, entry.body, entry.buffers = status, body, buffers
                settled.append(entry)
            elif entry.held_as(lane, number) and not (status == _SENT and entry.started):
                entry.started = status != _SENT
                self.out.append(Told(entry, status, body, buffers, peer.name))
        if early:
            settled += self._turn_of_early(peer, now)
        if settled:
            self.out.append(Settled(settled, peer.name))
        if late != self.late:
            text = f"{counted(self.late - late, 'report')} came twice or too late"
            self.out.append(Note(text, peer.name, Level.DEBUG, EventCode.REPEATED))

    def _of_stream(self, lane: Lane, number: int) -> bool:
        return (lane.open.get(number) or lane.strays.get(number)) in self.streams

    def _turn_of_early(self, peer: Peer, now: float) -> list[Entry]:
        """Take those reports of streams whose turn has come; return the tasks that are settled by them."""
        settled, early = [], peer.early
        for report in sorted(early) if early else ():
            if report > peer.heard.total:
                break
            lane, number, status, body, buffers = early.pop(report)
            if status == _PARTIAL:
                self._value(peer, lane, number, body, buffers, again=False)
                continue
            entry = lane.open.get(number) or lane.strays.get(number)
            if entry is None or (
                status == _FAIL and self._tries.failed(entry, lane, number, (body, buffers), peer, now)
            ):
                continue
            self._settle(entry, lane, now)
            entry.status, entry.body, entry.buffers = status, body, buffers
            settled.append(entry)
        return settled

    def _value(
        self, peer: Peer, lane: Lane, number: int, body: bytes, buffers: tuple[Any, ...], *, again: bool
    ) -> None:
        """One value of a stream has come, in its turn or once more."""
        entry = lane.open.get(number) or lane.strays.get(number)
        reading = self.streams.get(entry) if entry is not None else None
        if entry is None or reading is None or again:
            self.late += 1
            return
        if entry.held_as(lane, number):
            entry.started = True
        if reading.came((lane, number), len(body) + sum(map(len, buffers))):
            self.out.append(Told(entry, _PARTIAL, body, buffers, peer.name))
        else:
            self._tell_taken(peer, entry, reading)

    def _settle(self, entry: Entry, reporter: Lane | None, now: float) -> None:
        """Close a task's record, and stop everybody else who may still have it."""
        others = entry.strays
        lane = entry.lane
        number = entry.number
        self.ledger.settle(entry)
        if self.streams:
            self.streams.pop(entry, None)
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
            entry.status, entry.failure = _FAIL, failure.with_history(entry.history)
            entry.body, entry.buffers = b"", ()
            self.out.append(Settled([entry]))

    def credit(self, peer: Peer, message: m.Credit, now: float) -> None:
        """Credit, load, and which tasks may have started."""
        for name, (limit, run_time) in message.lanes.items():
            if name in peer.lanes:
                peer.lanes[name].told(limit, run_time, now)
        peer.load, peer.load_at = message.load[0], now
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

    def missing(self, peer: Peer, message: m.Missing, now: float) -> None:
        """Tasks are not there, and never will be."""
        entries = [entry for _, entry in self._open(peer, message.refs)]
        for entry in entries:
            if entry.terms is not None and entry.started:
                entry.terms.begun = True
            tried.note(entry, peer.name, "does not have it")
        self._put_back(entries, peer, "it never arrived there", now)

    def recalled(self, peer: Peer, message: m.Recalled, now: float) -> None:
        """Tasks are given back."""
        entries = [entry for _, entry in self._open(peer, message.refs)]
        for entry in entries:
            entry.recalls += 1
        if message.reason == m.UNKNOWN_FUNCTION:  # nothing of such a lane can be there
            lanes = [lane for name in message.refs if (lane := peer.lanes.pop(name, None))]
            entries = [entry for lane in lanes for entry in lane.open.values()]
        routine = message.reason in (m.GIVEN_BACK, m.DRAINING)
        reason = plain(message.reason, most=REASON_MOST)
        if message.reason != m.CANCELLED:
            for entry in entries:
                tried.note(entry, peer.name, GAVE_BACK if routine else f"{GAVE_BACK}: {reason}")
        if message.reason == m.RESTARTING:
            entries = self._given_up(peer, entries, now)
        elif message.reason == m.EXPIRED:
            entries = self._tries.expired_there(entries, now)
        elif message.reason != m.CANCELLED:
            entries = self._tries.refused(entries, message.reason, peer, now)
        self._put_back(
            entries, peer, f"the node gave it back: {reason}", now, Level.DEBUG if routine else Level.INFO
        )

    def _given_up(self, peer: Peer, entries: list[Entry], now: float) -> list[Entry]:
        """End what may have started and must not start twice, or not once more; return the rest."""
        for entry in entries:
            if entry.options.at_most_once and entry.started:
                text = (
                    f"{peer.name} ended another task that ran for too long, while this one may have been running"
                )
                self._end(entry, Failure(Code.UNKNOWN, text, node=peer.name, attempt=entry.attempt), now)
            elif entry.terms is not None and not entry.stopping:
                failure = self._tries.lost(entry, entry.terms, peer, now)
                if failure is not None:
                    self._end(entry, failure, now)
        return [entry for entry in entries if not entry.settled]

    def _put_back(self, entries: list[Entry], peer: Peer, why: str, now: float, level: Level = Level.INFO) -> None:
        """Queue tasks again that did not start, but for those that are not wanted any more."""
        for entry in entries:
            self.ledger.unhold(entry)
        self.ledger.requeue(entries)
        self._note_again([entry for entry in entries if not entry.stopping], peer, why, level)
        for entry in entries:
            if entry.stopping:
                self._end(entry, Failure(Code.CANCELLED, "cancelled before it started"), now)

    def _note_again(self, entries: list[Entry], peer: Peer, why: str, level: Level = Level.INFO) -> None:
        """Say that tasks are to be sent again."""
        if entries:
            self.out.append(Note(why, peer.name, level, EventCode.REDELIVERED, entries))

    def claim(self, peer: Peer, message: m.Claim, now: float) -> None:
        """Tasks ask whether they may start; those that get no answer ask again."""
        if self.paused:
            return
        go = []
        for lane, entry in self._open(peer, message.refs):
            if entry.losses and not entry.started and self._has_suspect(peer, entry):
                continue
            if self._tries.expired(entry, now):
                continue
            entry.started = True
            go.append((lane, entry.number))
        if go:
            self._send(peer, m.Go(peer.token, refs(go)))

    def _has_suspect(self, peer: Peer, entry: Entry) -> bool:
        """
        Whether another task with a counted loss may be running there: a killer must die alone.

        A stream is none any more once a value of it has come from there, for it may last for ever.
        """
        others = [other for other in peer.entries() if other.started and other.losses and other is not entry]
        return any(not self._has_yielded(other) for other in others)

    def _has_yielded(self, entry: Entry) -> bool:
        reading = self.streams.get(entry)
        return reading is not None and reading.has_come_from((entry.lane, entry.number))

    # ------------------------------------------------------------------ sending

    def pump(self, now: float) -> None:
        """Send what waits to whoever takes it."""
        if self.ledger.agenda.items:
            self._tries.look_at_clock(now)
        if not self.ledger.queues or self.closed or self.paused:
            return
        usable = [peer for peer in self.peers.values() if peer.usable(now)]
        if not usable:
            return
        placed: dict[str, list[Entry]] = {}
        for route in self.ledger.routes():
            self._place(route, usable, placed, now)
        for key, entries in placed.items():
            if self.ledger.dated:
                date(entries, now)
            self._send_tasks(self.peers[key], entries)

    def _place(self, route: Route, usable: list[Peer], placed: dict[str, list[Entry]], now: float) -> None:
        candidates = [(lane, peer) for peer in usable if (lane := _lane_for(route, peer)) is not None]
        if not candidates:
            return
        queue = self.ledger.queues[route]
        full: list[tuple[Lane, Peer]] = []  # quicker ones may be worth waiting for
        if len(candidates) < len(usable) and len(queue) < WAITING_MOST:
            full = [(lane, peer) for peer in usable if (lane := _full_lane(route, peer)) is not None]
        while queue and candidates:
            if len(candidates) == 1:  # nothing to choose
                bid = candidates[0]
                most = bid[0].limit - bid[0].sent
            else:
                bid, most = self._dispatcher.choose(candidates, self.peers.values(), now)
            lane = bid[0]
            if full and len(queue) < WAITING_MOST:
                if self._dispatcher.rather_waits(bid, full, len(queue), self.peers.values(), now):
                    candidates.remove(bid)
                    continue
                lane.passed_at = NEVER
            placed.setdefault(lane.key, []).extend(self.ledger.hold_next(queue, lane, most))
            if lane.sent >= lane.limit:
                candidates.remove(bid)
                full.append(bid)
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
        peer.told_heard = peer.heard.told
        tasks = m.Tasks(peer.token, self.name, peer.heard.told, self.wanted(peer), items)
        self._send(peer, tasks, buffers)

    def wanted(self, peer: Peer) -> dict[str, int]:
        """Return how many tasks of each function wait that a node takes."""
        return self.ledger.wanted(peer.takes)

    def _send(self, peer: Peer, message: m.Message, buffers: tuple[Any, ...] = ()) -> None:
        self.out.append(Send(peer.key, message, buffers))

    def recall(self, now: float) -> None:
        """Take tasks back for workers that are free elsewhere."""
        usable = [peer for peer in self.peers.values() if peer.usable(now)]
        if len(usable) <= 1:
            return
        for name in dict.fromkeys(lane.name for peer in usable for lane in peer.lanes.values() if lane.open):
            found = self._dispatcher.recall(name, usable, now, self.ledger.queues)
            if found is not None:
                peer, entries = found
                peer.recalled_at = now
                lane = peer.lanes[name]
                self._send(peer, m.Recall(peer.token, refs((lane, entry.number) for entry in entries)))


def _lane_for(route: Route, peer: Peer) -> Lane | None:
    """Return a node's lane that can take a task of this route now."""
    lane = peer.lanes.get(route.name)
    if lane is None or lane.limit <= lane.sent:
        return None
    return peer.takes(route)


def _full_lane(route: Route, peer: Peer) -> Lane | None:
    """Return a node's lane that could take a task of this route, had it credit."""
    lane = peer.takes(route)
    return lane if lane is not None and lane.limit <= lane.sent else None
