"""What a caller makes of what programs ask, nodes publish and connections do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dingo_zmq.events import EventCode, Level
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.actions import Action, Drop, Express, Fenced, Note, Reached, Retried, Send, Settled, Told
from dingo_zmq.protocol.contacts import Contacts
from dingo_zmq.protocol.former import Holder
from dingo_zmq.protocol.ledger import Entry, Route
from dingo_zmq.protocol.roster import Dice, Peer, Side
from dingo_zmq.protocol.streams import Reading
from dingo_zmq.protocol.tasks import OpenTasks
from dingo_zmq.protocol.tries import ReadFailure, unread

__all__ = [
    "Action",
    "Caller",
    "Drop",
    "Express",
    "Fenced",
    "Note",
    "Reached",
    "Retried",
    "Send",
    "Settled",
    "Told",
]


class Caller:
    """
    A caller: finds a node for every task, and sees to it that each is settled exactly once.

    `OpenTasks` keeps the tasks, `Contacts` the nodes; this brings both together for the doer.

    Args:
        name: the caller's part of all topics; unique and unguessable, drawn anew by each process that has no
            journal.
        mesh: name of the mesh.
        dice: chance, from the doer.
        read_failure: returns what the body of a FAIL says.
        life: number of this life of the caller with its journal, a later one is higher; 0 where it has none.
            With a journal the doer does no `Send` before what the actions up to it say is recorded, and tells
            `recorded` of it; see `recording`.

    Every method takes `now`, monotonic seconds.  What is to be done is appended to `out`; the doer takes it
    with `take()`.
    """

    def __init__(
        self, name: str, mesh: str, dice: Dice, read_failure: ReadFailure = unread, life: int = 0
    ) -> None:
        self.name, self.mesh, self.life = name, mesh, life
        self.out: list[Action] = []
        self.peers: dict[str, Peer] = {}
        self._tasks = tasks = OpenTasks(name, dice, self.peers, self.out, read_failure)
        self._contacts = contacts = Contacts(name, mesh, dice, tasks, life)
        self.ledger, self.links, self.streams = tasks.ledger, contacts.links, tasks.streams
        self._pump, self._reports = tasks.pump, tasks.reports
        self._handlers: dict[type, Callable[[Peer, Any, float], None]] = {
            m.Credit: self._credit,
            m.Missing: tasks.missing,
            m.Recalled: self._recalled,
            m.Claim: tasks.claim,
        }

    @property
    def late(self) -> int:
        """How many reports and messages came too late to matter."""
        return self._tasks.late

    @property
    def met(self) -> bool:
        """Whether any node has ever answered."""
        return self._contacts.met

    @property
    def closed(self) -> bool:
        """Whether nothing is sent any more."""
        return self._tasks.closed

    def take(self) -> list[Action]:
        """Return what is to be done, in order."""
        out = self.out[:]
        self.out.clear()
        return out

    @property
    def wakeup(self) -> float:
        """The next moment at which `tick` would do something."""
        soonest = self._contacts.wakeup
        agenda = self.ledger.agenda
        return min(soonest, agenda.wakeup) if agenda.items else soonest

    def tick(self, now: float) -> None:
        """Time has passed; the doer has read its sockets before it says so."""
        if not self.closed:
            self._contacts.tick(now)
            self._tasks.recall(now)
            self._pump(now)

    # ------------------------------------------------------------------ what the program asks

    def submit(self, entries: list[Entry], now: float) -> None:
        """Accept tasks: recorded first, sent as soon as some node has credit."""
        self._tasks.submit(entries, now)

    def stream(self, entry: Entry, reading: Reading, now: float) -> None:
        """Accept a task whose values are read as they come; `reading` counts them."""
        self._tasks.stream(entry, reading, now)

    def took(self, entry: Entry, now: float) -> None:
        """The program has taken so many values of a stream that its node should know at once."""
        self._tasks.took(entry)

    def express(self, route: Route, now: float) -> Express | None:
        """Return a place for the next task of this route, if it would be the only one open."""
        return self._tasks.express(route, now)

    def expressed(self, entry: Entry, place: Express, now: float) -> None:
        """
        A task was sent in its place; recorded as such even where that is not sure, for the next BEAT mends it.
        """
        self._tasks.expressed(entry, place, now)

    def cancel(self, entry: Entry, now: float) -> bool:
        """Settle a task as cancelled, unless it is settled or known to have started; return whether it was."""
        return self._tasks.cancel(entry, now)

    def reroute(self, route: Route, change: Callable[[Entry], Route], now: float) -> None:
        """Give the tasks that wait on a route other ones, as `change` says."""
        self._tasks.reroute(route, change, now)

    def stop(self, entry: Entry, now: float) -> None:
        """End a task as soon as its function lets go of it; its final report says what became of it."""
        self._tasks.stop(entry, now)

    def everything(self) -> list[Entry]:
        """Return all tasks not settled."""
        return self._tasks.everything()

    def close(self, now: float) -> bool:
        """
        Settle what is open with FAIL/SHUTDOWN; return whether `good_bye` may be said then.

        Not where tasks are open that a journal has: nodes go on with them, for the next life.
        """
        left = any(entry.record for entry in self.everything())
        self._tasks.close(now)
        return not left

    def good_bye(self) -> None:
        """Tell all nodes that nobody will ask for what they have of us."""
        self._contacts.good_bye()

    # ------------------------------------------------------------------ where there is a journal

    def resume(self, waiting: list[Entry], held: list[tuple[Entry, Holder]], now: float) -> None:
        """Take over what was open when the life before ended; before anything else."""
        self._contacts.resume(held, now)
        self._tasks.submit(waiting, now)

    def pause(self) -> None:
        """Send no task, and let none start: neither can be recorded now.  All else goes on, and nodes are kept."""
        self._tasks.paused = True

    def go_on(self, now: float) -> None:
        """The opposite of `pause`."""
        self._tasks.paused = False
        self._pump(now)

    @property
    def paused(self) -> bool:
        """Whether `pause` was called last."""
        return self._tasks.paused

    def fence(self) -> None:
        """Do nothing any more, for another life has the tasks."""
        self._tasks.closed = True

    def marks(self) -> list[tuple[bytes, int]]:
        """Return what has been reported and not recorded, for `recorded`; see `Contacts.marks`."""
        return self._contacts.marks()

    def recorded(self, marks: list[tuple[bytes, int]], now: float) -> None:
        """All that was settled when `marks` was asked for is in the journal."""
        self._contacts.recorded(marks, now)

    # ------------------------------------------------------------------ what connections do

    def found(self, key: str, now: float, label: str = "") -> None:
        """A node was found, and is called `label` until it says its name; the doer connects to it."""
        self._contacts.found(key, now, label)

    def gone(self, key: str, now: float) -> None:
        """A node said good-bye, or is announced no more: a hint only, its next CREDIT knows better."""
        self._contacts.gone(key, now)

    def connected(self, key: str, side: Side, now: float) -> None:
        """One of the two connections to a node is up."""
        self._contacts.connected(key, side, now)

    def disconnected(self, key: str, side: Side, now: float) -> None:
        """One of the two connections to a node broke."""
        self._contacts.disconnected(key, side, now)

    def moved(self, key: str, now: float) -> None:
        """A node is tried at another address from now on; its connections are down."""
        self._contacts.moved(key, now)

    def locked_out(self, key: str, now: float, cause: str = "it does not accept our key") -> None:
        """A node does not let us in, as has been proved; `cause` says why, as "it ..."."""
        self._contacts.locked_out(key, now, cause)

    def let_in(self, key: str, now: float) -> None:
        """A node that did not let us in may do so now; also known from both connections being up."""
        self._contacts.let_in(key, now)

    def refused(self, key: str, now: float) -> None:
        """Both ports of a node refuse connections: its process is dead."""
        self._contacts.refused(key, now)
        self._pump(now)

    def unsent(self, send: Send, now: float) -> list[Entry]:
        """The socket refused a message; return the tasks that it was to send, which wait again."""
        peer, message = self.peers.get(send.key), send.message
        if peer is None:
            return []
        if isinstance(message, m.Beat):
            peer.resync = True
        elif isinstance(message, m.Tasks) and message.link == peer.token:
            peer.broke = peer.resync = True
            return self._tasks.unsent(peer, message)
        return []

    # ------------------------------------------------------------------ what nodes publish

    def received(self, message: Any, buffers: tuple[Any, ...], now: float) -> None:
        """A node published a message to us (as `wire.decode_node` returns it)."""
        peer = self.links.get(message.link)
        if peer is None:
            self._tasks.late += 1
            self.out.append(Note("a message of a link that is closed", "", Level.DEBUG, EventCode.REPEATED))
            return
        kind = type(message)
        if kind is m.Reports:
            if peer.incarnation:
                self._reports(peer, message, buffers, now)
        elif kind is m.Welcome:
            self._contacts.welcome(peer, message, now)
        elif kind is m.Refused:
            self._contacts.turned_away(peer, message, now)
        elif peer.incarnation:
            self._handlers[kind](peer, message, now)
        self._pump(now)

    def _credit(self, peer: Peer, message: m.Credit, now: float) -> None:
        self._contacts.credit(peer, message, now)
        self._tasks.credit(peer, message, now)

    def _recalled(self, peer: Peer, message: m.Recalled, now: float) -> None:
        if message.reason == m.DRAINING:
            # also where it was just found anew: else the same tasks go to and fro
            peer.draining = peer.leaving = True
        self._tasks.recalled(peer, message, now)
