"""What a caller knows of each node: its link, its lanes, and its signs of life."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

from dingo_zmq.model import plain
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.ledger import Entry, Lane, Route, fits

BEAT_SECONDS = 1.0
HELLO_SECONDS, HELLO_MOST = 0.1, 2.0
FRESH_SECONDS = 1.0
"""that connections to a node just found may take before it counts as one that cannot be reached"""
SUSPECT_SECONDS = 2.5
LOST_SECONDS = 5.0
BUSY_SECONDS = 30.0
NUMBERS_MOST = 64
LABEL_MOST = 200
NEVER = float("-inf")
LATER = float("inf")


class Dice(Protocol):
    """The doer's source of chance; `random.Random` fits."""

    def random(self) -> float:
        """Return a number from 0 up to 1."""

    def randbytes(self, n: int, /) -> bytes:
        """Return n random bytes."""


class Side(Enum):
    """One of the two connections to a node."""

    TASKS = auto()
    REPORTS = auto()


class Stage(Enum):
    """How far the link to a node is."""

    APART = auto()  # no link: not both connections have been up yet
    GREETING = auto()  # HELLO is out, both directions not yet proved
    READY = auto()
    BARRED = auto()  # the node refused us for good: other mesh or version


READY = Stage.READY  # looking a member up on its class is slow, and `usable` is asked often


class Heard:
    """Report numbers heard on a link: `total` is the highest with none missing below it, `told` may be told."""

    __slots__ = ("ahead", "total")

    @property
    def told(self) -> int:
        """The highest number that the node may know of: it frees its answers up to that."""
        return self.total

    def __init__(self) -> None:
        self.total = 0
        self.ahead: set[int] = set()

    def add(self, number: int) -> None:
        """A numbered report has come."""
        if number == self.total + 1:
            self.total = number
            ahead = self.ahead
            while ahead and self.total + 1 in ahead:
                self.total += 1
                ahead.discard(self.total)
        elif number > self.total:
            self.ahead.add(number)


class RecordedHeard(Heard):
    """The same where answers are recorded in a journal: what is not recorded yet is not told."""

    __slots__ = ("recorded",)

    def __init__(self) -> None:
        super().__init__()
        self.recorded = 0

    @property
    def told(self) -> int:
        """The highest number that the node may know of."""
        return self.recorded


class Early(NamedTuple):
    """A report of a stream that came before its turn."""

    lane: Lane
    number: int
    status: int
    body: bytes
    buffers: tuple[Any, ...]


class Peer:
    """
    One node, as a caller sees it.

    Silence is counted from the sending time of the newest HELLO or BEAT number that was echoed (`proof`), and
    from the last loss by silence (`lost`, until an echo proves the link again).
    After a broken connection (`broke`) no task is sent until a BEAT sent since has been echoed.
    `name` is what people call the node: its name, or before its WELCOME what it was found as.
    `tags` are what it said it has.
    `found_at` is when it was found, last.
    `locked_out` is why it does not let us in, or "".
    `busy` is set where it was said to get no new tasks, being silent.
    `early` has reports of streams, by number, that came after a gap: they wait for those before them.
    `leaving` is set where the node itself said that it is draining, `draining` also where that was only heard.
    `via` has the names of the forwarders between, the nearest to the node first, and is None while that is not
    known: where it is reached at another address the next CREDIT tells.
    `base` is the first token that its link had, in this life of the caller or in one before.
    `former` is set for what a journal knows of a link of an earlier life: nobody is reached by it, but a node may
    have that life's tasks; see `contacts`.

    Args:
        key: the node's, as its caller knows it.
        number: of the last HELLO sent to anybody.
        journal: whether answers are recorded in one.
    """

    former = False

    def __init__(self, key: str, number: int, *, journal: bool = False) -> None:
        self.key = key
        self._heard = RecordedHeard if journal else Heard
        self.stage = Stage.APART
        self.up: set[Side] = set()
        self.broke = False
        self.draining = self.leaving = False
        self.welcome: m.Welcome | None = None
        self._called: frozenset[str] = frozenset()
        self.tags: frozenset[str] = frozenset()
        self.barred = ""
        self.announced = True
        self.found_at = NEVER
        self.name = key
        self.locked_out = ""
        self.via: tuple[str, ...] | None = None
        self.blamed: list[tuple[bytes, Entry]] = []
        self.recalled_at = NEVER
        self.open_link(b"", number, NEVER)

    def open_link(self, token: bytes, number: int, now: float) -> None:
        """Start a new link: lanes, numbers and reports begin anew."""
        self.token = self.base = token
        self.incarnation = b""
        self.lanes: dict[str, Lane] = {}
        self.heard = self._heard()
        self.early: dict[int, Early] = {}
        self.number = self.valid_from = number  # of the last HELLO or BEAT; the first that proves anything
        self.sent_at: dict[int, float] = {}
        self.proof = now
        self.round_trip: float | None = None
        self.told_heard = 0
        self.resync = self.lost = self.busy = False
        self.silent_since = now
        self.next_hello = self.next_beat = LATER
        self.hello_wait = HELLO_SECONDS
        self.load = 0
        self.load_at = NEVER

    def found_as(self, label: str) -> None:
        """What the node is called until it says its name."""
        if label and self.welcome is None:
            self.name = plain(label, most=LABEL_MOST)

    def welcomed(self, welcome: m.Welcome) -> None:
        """The node has told who it is; lanes stay as they are."""
        self.welcome, self.name = welcome, welcome.name
        self.incarnation = welcome.incarnation
        self.draining = self.leaving = welcome.draining
        self.barred = ""
        base, slash, number = welcome.name.rpartition("/")
        called = {welcome.node, welcome.name}
        if slash and number.isdigit():  # one of the processes of a node
            called.add(base)
        self._called, self.tags = frozenset(called), frozenset(welcome.tags)

    def is_called(self, node: str) -> bool:
        """Whether a name (of a node, or of one of its processes) or an id means this node."""
        return node in self._called

    def lacks(self, needs: Iterable[str]) -> list[str]:
        """Return those of these tags that the node does not have."""
        return [tag for tag in needs if tag not in self.tags]

    def takes(self, route: Route) -> Lane | None:
        """Return the node's lane for tasks of a route, with credit or without; None where it takes none."""
        lane = self.lanes.get(route.name)
        if lane is None or route.size > self.limit:
            return None
        if route.fingerprint != lane.fingerprint and not fits(route.fingerprint, lane.fingerprint):
            return None
        if route.node and route.node not in self._called:
            return None
        if route.needs and not self.tags.issuperset(route.needs):
            return None
        return lane

    @property
    def refusal_is_proof(self) -> bool:
        """Whether closed ports prove that its process is dead, not only that a forwarder is."""
        return self.via == () or self.welcome is None

    @property
    def pace(self) -> int:
        """The relative speed of the node's machine."""
        return max(1, self.welcome.pace) if self.welcome else 1

    @property
    def limit(self) -> int:
        """The largest body the node takes, bytes."""
        return self.welcome.limit if self.welcome else 0

    @property
    def connected(self) -> bool:
        """Whether both connections are up."""
        return len(self.up) == len(Side)

    @property
    def hopeless(self) -> bool:
        """Whether nothing stands between the node and being forgotten, once it is announced no more."""
        apart = not self.connected and (self.lost or self.stage is not Stage.READY)
        return apart or not self.token

    def fresh(self, now: float) -> bool:
        """Whether it was found so lately that its connections need not be up yet."""
        return self.welcome is None and not self.token and now - self.found_at < FRESH_SECONDS

    def state(self, now: float) -> str:
        """Return in a word or two how things stand, for people."""
        if self.stage is Stage.BARRED:
            return f"refused us: {self.barred}"
        if self.locked_out:
            return "locked out"
        if self.former:
            return "not back yet"
        if self.stage is not Stage.READY:
            return "greeting" if self.connected else "apart"
        if self.draining:
            return "draining"
        return "ready" if self.usable(now) else "silent"

    def silence(self, now: float) -> float:
        """Return for how many seconds nothing has proved the link."""
        return now - self.proof

    def quiet(self, now: float) -> float:
        """Return the same for people: a loss by silence does not begin it anew."""
        return now - (self.silent_since if self.lost else self.proof)

    def given_up(self, now: float) -> None:
        """The node is lost by silence: its link lives on, and silence is counted anew."""
        if not self.lost:
            self.silent_since = self.proof
        self.lost, self.proof, self.valid_from = True, now, self.number + 1

    def usable(self, now: float) -> bool:
        """Whether tasks may be sent now."""
        return self.stage is READY and not self.draining and not self.broke and now - self.proof < SUSPECT_SECONDS

    def silent_too_long(self, now: float) -> bool:
        """Whether the node counts as lost: 5 s after a broken connection, 30 s where it may just be busy."""
        limit = LOST_SECONDS if self.broke or not self.connected else BUSY_SECONDS
        return self.silence(now) > limit

    def numbered(self, now: float) -> int:
        """Return the number of the HELLO or BEAT about to be sent."""
        self.number += 1
        self.sent_at[self.number] = now
        if len(self.sent_at) > NUMBERS_MOST:
            del self.sent_at[next(iter(self.sent_at))]
        return self.number

    def echoed(self, number: int, now: float) -> bool:
        """A number came back: proof of both directions as of its sending.  Return whether it proves the link."""
        at = self.sent_at.get(number)
        if at is None:
            return False
        self.proof = max(self.proof, at)
        self.round_trip = now - at
        for old in [n for n in self.sent_at if n <= number]:
            del self.sent_at[old]
        if number < self.valid_from:
            return False
        self.broke, self.lost = not self.connected, False
        return True

    def in_flight(self) -> int:
        """Return how many of our tasks the node holds."""
        return sum(len(lane.open) for lane in self.lanes.values())

    def entries(self) -> list[Entry]:
        """Return our tasks there, oldest first within a lane."""
        return [entry for lane in self.lanes.values() for entry in lane.open.values()]

    def beat(self, caller: str, wanted: dict[str, int], now: float) -> m.Beat:
        """Return the BEAT about to be sent."""
        lanes, opens = {}, {}
        for lane in self.lanes.values():
            covered = lane.sent if self.resync else lane.covered
            lanes[lane.name] = (lane.sent, covered, wanted.get(lane.name, 0))
            numbers = [number for number in lane.open if number <= covered]
            if numbers:
                opens[lane.name] = numbers
        number, heard = self.numbered(now), self.heard.told
        return m.Beat(self.token, caller, number, heard, lanes, opens, self.incarnation)

    def beaten(self) -> None:
        """The BEAT has left."""
        self.resync = False
        self.told_heard = self.heard.told
        for lane in self.lanes.values():
            lane.covered = lane.sent


def refs(lanes: Iterable[tuple[Lane, int]]) -> dict[str, list[int]]:
    """Return lanes and numbers as refs."""
    found: dict[str, list[int]] = {}
    for lane, number in lanes:
        found.setdefault(lane.name, []).append(number)
    return found
