"""The nodes of a caller: found, greeted, kept in touch with, lost."""

from __future__ import annotations

from dingo_zmq.events import EventCode, Level
from dingo_zmq.model import plain
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.actions import Action, Drop, Fenced, Note, Reached, Send
from dingo_zmq.protocol.former import Former, FormerPeer, Holder, resumed
from dingo_zmq.protocol.ledger import Entry, Lane
from dingo_zmq.protocol.roster import (
    BEAT_SECONDS,
    HELLO_MOST,
    HELLO_SECONDS,
    LATER,
    SUSPECT_SECONDS,
    Dice,
    Peer,
    RecordedHeard,
    Side,
    Stage,
)
from dingo_zmq.protocol.tasks import OpenTasks

TICK_SECONDS = 0.1
GAP_SECONDS = 1.0
REFUSAL_MOST = 300
LOCKED_SECONDS, LOCKED_MOST = 60.0, 10
NAMESAKES_SECONDS, NAMESAKES_MOST = 1.0, 1000
BLAMED_MOST = 1000


class Contacts:
    """
    Keeps a link to each node, and knows which of them live.

    Args:
        name: the caller's part of all topics.
        mesh: name of the mesh.
        dice: chance, from the doer.
        tasks: what becomes of the tasks of a node that is lost.
        life: number of this life of the caller with its journal, a later one is higher; 0 where it has none.

    Attributes:
        peers: the nodes, by key.
        links: those with a link, by its token.
        met: whether any node has ever answered.
    """

    def __init__(self, name: str, mesh: str, dice: Dice, tasks: OpenTasks, life: int = 0) -> None:
        self.name, self.mesh, self.life = name, mesh, life
        self._former: dict[Former, FormerPeer] = {}
        self.peers: dict[str, Peer] = tasks.peers
        self.links: dict[bytes, Peer] = {}
        self.met = False
        self.out: list[Action] = tasks.out
        self._dice, self._tasks = dice, tasks
        self._hellos = 0
        self._last_tick: float | None = None
        self._locked_until, self._locked_noted = 0.0, 0
        self._look_at = 0.0  # when to look for nodes of one name
        self._namesakes: dict[str, None] = {}  # names that were noted
        self._blamed: dict[str, list[tuple[bytes, Entry]]] = {}  # of nodes that are gone, by their names

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

    def tick(self, now: float) -> None:
        """Time has passed."""
        gap = 0.0 if self._last_tick is None else now - self._last_tick
        self._last_tick = now
        for peer in list(self.peers.values()):
            if gap > GAP_SECONDS:  # it was us who were asleep
                peer.proof = max(peer.proof, now - GAP_SECONDS)
            self._look_after(peer, now)
        if now >= self._look_at:
            self._look_at = now + NAMESAKES_SECONDS
            self._note_namesakes(now)

    def good_bye(self) -> None:
        """Tell all nodes that we leave."""
        for peer in self.peers.values():
            if peer.token:
                self._send(peer, m.Bye(peer.token))

    # ------------------------------------------------------------------ an earlier life

    def resume(self, held: list[tuple[Entry, Holder]], now: float) -> None:
        """These tasks were held by nodes when the life before ended."""
        for entry, hold in held:
            which = Former(hold.base, hold.incarnation)
            peer = self._former.get(which)
            if peer is None:
                peer = self._former[which] = FormerPeer(which, hold.node, now)
                self.peers[peer.key] = peer
            peer.holds(self._tasks.ledger, entry, hold.number, now)
        self._last_tick = self._last_tick or now

    def _look_after_former(self, peer: FormerPeer, now: float) -> None:
        if peer.overdue(now):
            self._lost(peer, "it is not back since the journal was opened", now, proved=False)
        elif peer.forgettable(now):
            self._tasks.forget(peer)
            self._end_former(peer)

    def _end_former(self, peer: FormerPeer) -> None:
        del self._former[peer.which], self.peers[peer.key]

    def _take_up(self, peer: Peer, welcome: m.Welcome) -> None:
        """A link was taken over: go on with the lanes that the journal knows of it."""
        former = self._former.get(Former(welcome.base, welcome.incarnation))
        if former is not None:
            former.move(peer, welcome)
            self._end_former(former)
        resumed(peer, welcome)

    # ------------------------------------------------------------------ what the doer tells

    def found(self, key: str, now: float, label: str = "") -> None:
        """A node was found, and is called `label` until it says its name; the doer connects to it."""
        peer = self.peers.get(key)
        if peer is None:
            peer = self.peers[key] = Peer(key, self._hellos, journal=self.life > 0)
            peer.found_at = now
            self._last_tick = self._last_tick or now
        else:
            if not peer.announced:
                peer.found_at = now
            peer.announced = True
            peer.draining = False
        peer.found_as(label)

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
        if not peer.connected:
            return
        self._let_in(peer)
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

    def moved(self, key: str, now: float) -> None:
        """A node is tried at another address: there may be a forwarder before that."""
        peer = self.peers.get(key)
        if peer is not None:
            peer.via = None

    def locked_out(self, key: str, now: float, cause: str = "it does not accept our key") -> None:
        """A node does not let us in, as has been proved; `cause` says why, as "it ..."."""
        peer = self.peers.get(key)
        if peer is not None and peer.locked_out != cause:
            peer.locked_out = cause
            self._note_locked_out(peer, now)

    def _note_locked_out(self, peer: Peer, now: float) -> None:
        """Anybody can announce nodes that do not let us in: their number must not fill a log."""
        if now >= self._locked_until:
            self._locked_until, self._locked_noted = now + LOCKED_SECONDS, 0
        self._locked_noted += 1
        if self._locked_noted <= LOCKED_MOST:
            last = self._locked_noted == LOCKED_MOST
            more = f"; more of them in the next {LOCKED_SECONDS:.0f} s are not named here" if last else ""
            self._note(f"locked out: {peer.locked_out}{more}", peer, EventCode.REFUSED, Level.WARNING)

    def let_in(self, key: str, now: float) -> None:
        """A node that did not let us in may do so now; also known from both connections being up."""
        peer = self.peers.get(key)
        if peer is not None:
            self._let_in(peer)

    def _let_in(self, peer: Peer) -> None:
        if peer.locked_out and peer.stage is Stage.READY:  # others are noted when they are found
            self._note("locked out no more", peer, EventCode.FOUND)
        peer.locked_out = ""

    def refused(self, key: str, now: float) -> None:
        """
        Both ports of a node refuse connections: its process is dead, unless it is that of a forwarder before it.

        A forwarder may be back soon, or another one lead there; so silence decides then.
        """
        peer = self.peers.get(key)
        if peer is not None and peer.token and peer.refusal_is_proof:
            self._lost(peer, "its ports are closed", now, proved=True)

    # ------------------------------------------------------------------ links

    def _look_after(self, peer: Peer, now: float) -> None:
        if isinstance(peer, FormerPeer):
            self._look_after_former(peer, now)
            return
        if not peer.announced and peer.hopeless:
            self._close_link(peer)
            self._forget(peer)
            self.out.append(Drop(peer.key))
            return
        if peer.stage is Stage.READY and peer.silent_too_long(now):
            self._lost(peer, f"silent for {peer.silence(now):.0f} s", now, proved=False)
        self._note_busy(peer, now)
        self._hello_if_due(peer, now)
        self._beat_if_due(peer, now)

    def _forget(self, peer: Peer) -> None:
        """
        A node is gone for good; should one of its name come with another incarnation, it had died.

        Behind a forwarder nothing else tells: the process that is started in its place is found as another node.
        """
        del self.peers[peer.key]
        if peer.blamed and peer.welcome is not None:
            still = [blame for blame in peer.blamed if not blame[1].settled]
            self._blamed.setdefault(peer.name, []).extend(still)
            while len(self._blamed) > BLAMED_MOST:
                del self._blamed[next(iter(self._blamed))]

    def _settle_old_blame(self, peer: Peer, now: float) -> None:
        if self._blamed and peer.name in self._blamed:
            peer.blamed += self._blamed.pop(peer.name)
            self._tasks.settle_blame(peer, peer.incarnation, now)

    def _note_busy(self, peer: Peer, now: float) -> None:
        """Say once of a node whose connections stand that it is silent, and so gets no new tasks."""
        silence = peer.silence(now)
        stands = peer.stage is Stage.READY and not peer.broke and not peer.draining
        if silence < SUSPECT_SECONDS or not stands or peer.busy or peer.lost:
            return
        peer.busy = True
        self._note(f"silent for {silence:.1f} s; it gets no new tasks until it answers", peer, EventCode.BUSY)

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
        self._tasks.forget(peer)
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
        life = self.life
        self._send(peer, m.Hello(peer.token, self.name, number, peer.incarnation, self.mesh, [m.VERSION], life))

    def _beat_if_due(self, peer: Peer, now: float) -> None:
        if peer.stage is not Stage.READY or now < peer.next_beat:
            return
        peer.next_beat = now + BEAT_SECONDS * self._jitter()
        if Side.TASKS not in peer.up:
            return
        beat = peer.beat(self.name, self._tasks.wanted(peer), now)
        beat.taken = self._tasks.taken(peer)
        peer.beaten()  # `unsent` mends it where the socket refuses
        self._send(peer, beat)
        self._tasks.remind(peer)

    def _jitter(self) -> float:
        return 0.8 + 0.4 * self._dice.random()

    def welcome(self, peer: Peer, welcome: m.Welcome, now: float) -> None:
        """The link stands; who the node is."""
        if welcome.echo < peer.valid_from:
            return
        if peer.incarnation and welcome.incarnation != peer.incarnation:
            self._lost(peer, "it was started anew", now, proved=True)
            return
        if welcome.base and not peer.incarnation:
            self._take_up(peer, welcome)
        self._tasks.settle_blame(peer, welcome.incarnation, now)
        doubles = self._close_doubles(peer, welcome, now)
        if doubles or peer.welcome is None or peer.welcome.node != welcome.node:
            self.out.append(Reached(peer.key, welcome.node, doubles))
        fresh = peer.stage is not Stage.READY
        self.met = True
        peer.welcomed(welcome)
        peer.via = tuple(welcome.via)
        self._settle_old_blame(peer, now)
        for name, told in welcome.functions.items():
            lane = peer.lanes.get(name)
            if lane is None:
                slots, signature, fingerprint, at_most_once = told
                lane = Lane(peer.key, name, slots, plain(signature), fingerprint, at_most_once)
                peer.lanes[name] = lane
            lane.slots, _, lane.fingerprint, lane.at_most_once = told
            lane.signature = lane.signature or plain(told[1])
            lane.sent = max(lane.sent, welcome.seen.get(name, 0))
            lane.told(welcome.credit.get(name, 0), 0, now)
        self.echoed(peer, welcome.echo, now)
        peer.stage, peer.next_hello = Stage.READY, LATER
        if fresh:
            peer.next_beat = now if peer.resync else now + BEAT_SECONDS * self._jitter()
            self._note(f"now reached at {peer.key}" if doubles else "found", peer, EventCode.FOUND)

    def echoed(self, peer: Peer, number: int, now: float) -> None:
        """A number came back; where it proves that a node lives which was given up, say so."""
        given_up = peer.lost
        peer.echoed(number, now)
        busy = peer.busy
        if busy and peer.silence(now) < SUSPECT_SECONDS:
            peer.busy = False
        if given_up and not peer.lost and peer.stage is Stage.READY:
            self._note("found again", peer, EventCode.FOUND)
        elif busy and not peer.busy and not peer.lost:
            self._note("answers again", peer, EventCode.FOUND)

    def _close_doubles(self, peer: Peer, welcome: m.Welcome, now: float) -> list[str]:
        """Forget the same node under other keys, and return those: this link has superseded theirs at the node."""
        closed = []
        for other in list(self.peers.values()):
            same = other.welcome is not None and other.welcome.node == welcome.node
            if other is not peer and same and other.token and other.incarnation == welcome.incarnation:
                self._give_up(other, now, proved=False)
                self._close_link(other)
                del self.peers[other.key]
                closed.append(other.key)
        return closed

    def _note_namesakes(self, now: float) -> None:
        """Say once of each name that two nodes have it; a node that has died is none of them."""
        first: dict[str, Peer] = {}
        for peer in self.peers.values():
            if peer.welcome is None or peer.name in self._namesakes or not peer.usable(now):
                continue
            other = first.setdefault(peer.name, peer)
            if other.welcome is not None and other.welcome.node != peer.welcome.node:
                self._namesakes[peer.name] = None
                text = (
                    f"two nodes are called {peer.name} (node ids {other.welcome.node}, {peer.welcome.node}); "
                    "options(node=...) means either; give one another --name"
                )
                self._note(text, peer, EventCode.GENERIC, Level.WARNING)
        while len(self._namesakes) > NAMESAKES_MOST:
            del self._namesakes[next(iter(self._namesakes))]

    def turned_away(self, peer: Peer, refused: m.Refused, now: float) -> None:
        """The node does not know our link, or wants nothing of us."""
        if refused.reason in (m.REFUSED_MESH, m.REFUSED_VERSION):
            before, peer.barred = peer.barred, plain(refused.text, most=REFUSAL_MOST)
            self._give_up(peer, now, proved=False)
            peer.stage, peer.next_hello, peer.next_beat = Stage.BARRED, LATER, LATER
            if peer.barred != before:
                self._note(f"refused us: {peer.barred}", peer, EventCode.REFUSED, Level.WARNING)
        elif refused.reason == m.REFUSED_LIFE:
            self.out.append(Fenced(f"{peer.name} says: {plain(refused.text, most=REFUSAL_MOST)}"))
        else:
            self._lost(peer, "it knows our link no more", now, proved=False)
            self._close_link(peer)
            if peer.connected:
                self._greet(peer, now)

    def _lost(self, peer: Peer, why: str, now: float, *, proved: bool) -> None:
        """A node is lost; say so, unless that was said already and nothing has come to pass since."""
        number = peer.in_flight()
        if peer.incarnation and (number or not peer.lost):
            if peer.leaving and proved and not number:
                self._note("gone: it has ended", peer, EventCode.GONE)
            else:
                level = Level.WARNING if number else Level.INFO
                self._note(f"lost: {why}; {_tasks_were(number)} there", peer, EventCode.LOST, level)
        self._give_up(peer, now, proved=proved)

    def credit(self, peer: Peer, message: m.Credit, now: float) -> None:
        """The answer to a BEAT."""
        self.echoed(peer, message.echo, now)
        peer.via = tuple(message.via)
        if message.draining and peer.told_heard < peer.heard.told:
            peer.next_beat = now
        peer.draining = peer.leaving = message.draining

    def recorded(self, marks: list[tuple[bytes, int]], now: float) -> None:
        """What was reported up to these numbers is in the journal: the nodes may be told."""
        for token, number in marks:
            peer = self.links.get(token)
            if peer is not None and isinstance(peer.heard, RecordedHeard):
                peer.heard.recorded = max(peer.heard.recorded, number)
                if peer.leaving:
                    peer.next_beat = now

    def marks(self) -> list[tuple[bytes, int]]:
        """Return the links on which more was reported than nodes may be told, with the numbers."""
        heard = [(token, peer.heard) for token, peer in self.links.items()]
        return [(token, numbers.total) for token, numbers in heard if numbers.total > numbers.told]

    def _give_up(self, peer: Peer, now: float, *, proved: bool) -> None:
        """
        A node is lost.

        Where that is proved the link is closed; after mere silence its token lives on, for the node may be
        alive, and what it still says of a task counts.
        """
        self._tasks.give_up(peer, now, proved=proved)
        peer.broke = peer.resync = True
        if proved:
            self._close_link(peer)
            if peer.connected:
                self._greet(peer, now)
        else:
            peer.given_up(now)

    def _note(self, text: str, peer: Peer, code: EventCode, level: Level = Level.INFO) -> None:
        self.out.append(Note(text, peer.name, level, code))

    def _send(self, peer: Peer, message: m.Message) -> None:
        self.out.append(Send(peer.key, message))


def _tasks_were(count: int) -> str:
    if not count:
        return "none of our tasks was"
    return "1 of our tasks was" if count == 1 else f"{count} of our tasks were"
