"""What happened in a simulated world, as far as the checkers want to know."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dingo_zmq.events import EventCode
from dingo_zmq.model import Code, Status
from dingo_zmq.protocol import caller as calling
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import node as serving
from dingo_zmq.protocol.credit import KEPT_SPARE
from dingo_zmq.protocol.dispatcher import RECALL_SECONDS, RECALLS_MOST
from dingo_zmq.protocol.intake import QUEUED, Function, Held, Link
from dingo_zmq.protocol.ledger import Entry
from dingo_zmq.protocol.starter import Starter
from dingo_zmq.protocol.streams import WINDOW
from dingo_zmq.testing.plan import SKEW

FAILED = b"failed"
"""body of the report of a task that has failed by itself"""


class MeasuredFunction(Function):
    """A function that remembers the largest allowance ever granted."""

    __slots__ = ("largest",)

    def __init__(self, name: str, pool: str, slots: int, fingerprint: str, delicate: bool) -> None:
        super().__init__(name, pool, slots, "", fingerprint, delicate)
        self.largest = slots

    def allowance(self, now: float) -> int:
        """Return the allowance, remembered."""
        allowed = super().allowance(now)
        self.largest = max(self.largest, allowed)
        return allowed

    def resize(self, slots: int) -> None:
        """It has another number of workers now."""
        super().resize(slots)
        self.largest = max(self.largest, slots)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a task was settled: `code` of a failure that its caller found, None for a node's report."""

    status: int
    code: Code | None
    body: bytes
    buffers: tuple[bytes, ...]
    node: str
    at: float


@dataclass(frozen=True, slots=True)
class Execution:
    """A function was called."""

    at: float
    node: str
    life: int
    body: bytes
    buffers: tuple[bytes, ...]
    fingerprint: str
    link: bytes
    number: int


@dataclass(frozen=True, slots=True)
class Return:
    """
    A caller with a journal was started again.

    Attributes:
        at: when.
        answered: tasks sent once that had succeeded, by id: the incarnation that kept the answer where the journal
            looks for it.
        notes: what the caller has said of nodes since, with the time.
    """

    at: float
    answered: dict[str, tuple[str, int]]
    notes: list[tuple[float, calling.Note]] = field(default_factory=list)


class History:
    """
    Attributes:
        accepted: tasks taken over by callers, by id.
        called: when.
        failed: how often each function call failed.
        retried: how often callers told that a task will be tried again.
        endings: how they were settled (once, it is to be hoped).
        tellings: reports told to the program that are not final: status and attempt.
        values: those of streams, as they came to their callers.
        executions: calls of their functions.
        refusals: workers that refused them: node, life, link and number there.
        trials: incarnations (node, life) in which they may have started.
        lives: the same, by the bytes that stand for them.
        deaths: incarnations that ended, with the time.
        traffic: in how many messages each was named.
        sends: how often each was sent.
        again: how often it was said of each that it is sent again.
        found: callers, and nodes that they said to have found.
        silent: callers, and nodes that they gave up for being silent.
        cancelled: tasks whose cancelling succeeded.
        stopped: tasks that were to be stopped even while they run, and how often they had been sent by then.
        carried_over: how often each was open when its caller was started again.
        returns: when callers were started again, by caller.
        restarts: incarnations that end for a task over its time limit.
        kinds: number of messages of each kind.
        recalls: how often callers asked for tasks back.
        recalled_at: when they last did, by node and link.
        peaks: how much of everything there ever was, where it came closest to its bound: number, bound, who, when.
        faults: rules broken that are noticed on the spot.
    """

    def __init__(self) -> None:
        self.accepted: dict[str, Entry] = {}
        self.called: dict[str, float] = {}
        self.failed: Counter[str] = Counter()
        self.retried: Counter[str] = Counter()
        self.endings: defaultdict[str, list[Ending]] = defaultdict(list)
        self.tellings: defaultdict[str, list[tuple[int, int, float]]] = defaultdict(list)
        self.values: defaultdict[str, list[bytes]] = defaultdict(list)
        self.executions: defaultdict[str, list[Execution]] = defaultdict(list)
        self.refusals: defaultdict[str, list[tuple[str, int, bytes, int]]] = defaultdict(list)
        self.trials: defaultdict[str, dict[tuple[str, int], None]] = defaultdict(dict)
        self.lives: dict[bytes, tuple[str, int]] = {}
        self.deaths: dict[tuple[str, int], float] = {}
        self.traffic: Counter[str] = Counter()
        self.sends: Counter[str] = Counter()
        self.again: Counter[str] = Counter()
        self.found: set[tuple[str, str]] = set()
        self.silent: list[tuple[str, str]] = []
        self.cancelled: set[str] = set()
        self.stopped: dict[str, int] = {}
        self.restarts: set[tuple[str, int]] = set()
        self.carried_over: Counter[str] = Counter()
        self.returns: defaultdict[str, list[Return]] = defaultdict(list)
        self.copies: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.recalls = 0
        self.recalled_at: dict[tuple[str, bytes], float] = {}
        self.peaks: dict[str, tuple[int, int, str, float]] = {}
        self.ids: dict[tuple[bytes, str, int], str] = {}  # of tasks, by link, lane and number
        self.faults: dict[str, list[str]] = {}
        self.now = 0.0

    def fault(self, rule: str, what: str) -> None:
        """A rule was broken."""
        self.faults.setdefault(rule, []).append(f"{self.now:.3f} {what}")

    # ------------------------------------------------------------------ callers

    def sent(self, caller: calling.Caller, send: calling.Send) -> None:
        """A caller has a message for a node."""
        message = send.message
        self.kinds[type(message).__name__] += 1
        if isinstance(message, m.Tasks):
            self.sent_tasks(message)
            self._check_priorities(caller, send.key, message)
        elif isinstance(message, (m.Cancel, m.Recall, m.Go)):
            self._named(message)
        if isinstance(message, m.Recall):
            self._check_recall(caller, send.key, message)
        self.let_start(caller, send)

    def let_start(self, caller: calling.Caller, send: calling.Send) -> None:
        """A caller has decided that tasks may start, and says so now or once that is recorded."""
        message = send.message
        if isinstance(message, m.Go) and message.link in caller.links:
            peer = caller.links[message.link]
            life = self.lives[peer.incarnation]
            for name, numbers in message.refs.items():
                for number in numbers:
                    entry = peer.lanes[name].open.get(number)
                    if entry is not None:  # given up, while it was to be recorded that it may start
                        self.trials[entry.id][life] = None

    def _check_priorities(self, caller: calling.Caller, key: str, tasks: m.Tasks) -> None:
        """No task is sent to a lane that one of a higher priority waits for, and for no other."""
        if caller.life:  # what it sends was decided earlier
            return
        peers = caller.peers.values()
        if not any(route.priority for route in caller.ledger.queues) or any(peer.broke for peer in peers):
            return
        peer = caller.peers[key]
        for name, _, id, _, options, _ in tasks.items:  # noqa: A001
            priority = options.priority if options else 0
            for route in caller.ledger.queues:
                if route.name != name or route.priority <= priority or peer.takes(route) is None:
                    continue
                if not any(other is not peer and other.takes(route) for other in peers):
                    self.fault("priority", f"{key} is sent {id} though one of priority {route.priority} waits")

    def _check_recall(self, caller: calling.Caller, key: str, recall: m.Recall) -> None:
        """No node is asked for tasks twice in 2 s, nor for one that is known to run or came back twice."""
        self.recalls += 1
        if caller.life:
            return
        before = self.recalled_at.get((key, recall.link), -RECALL_SECONDS)
        if self.now - before < RECALL_SECONDS / (1 + SKEW) - 1e-6:
            self.fault("recall", f"{caller.name} asks {key} again after {self.now - before:.3f} s")
        self.recalled_at[key, recall.link] = self.now
        for name, numbers in recall.refs.items():
            for number in numbers:
                entry = caller.peers[key].lanes[name].open[number]
                if entry.started or entry.recalls >= RECALLS_MOST:
                    self.fault(
                        "recall", f"{caller.name} asks {key} for {entry.id}, recalled {entry.recalls} times"
                    )

    def sent_tasks(self, message: m.Tasks) -> None:
        """Tasks were sent."""
        for name, number, id, *_ in message.items:
            self.ids[message.link, name, number] = id
            self.traffic[id] += 1
            self.sends[id] += 1

    def _named(self, message: Any) -> None:
        for name, numbers in message.refs.items():
            for number in numbers:
                id = self.ids.get((message.link, name, number))
                if id is not None:
                    self.traffic[id] += 1

    def settled(self, entries: list[Entry], node: str) -> None:
        """A caller delivers final reports."""
        for entry in entries:
            code = entry.failure.code if entry.failure else None
            ending = Ending(entry.status, code, entry.body, tuple(entry.buffers), node, self.now)
            self.endings[entry.id].append(ending)

    def told(self, entry: Entry, status: int) -> None:
        """A caller delivers a report that is not final."""
        self.tellings[entry.id].append((status, entry.attempt, self.now))

    def noted(self, caller: str, note: calling.Note) -> None:
        """A caller says something for the log."""
        self.again.update(entry.id for entry in note.entries if note.code is EventCode.REDELIVERED)
        if caller in self.returns:
            self.returns[caller][-1].notes.append((self.now, note))
        if note.code is EventCode.FOUND:
            self.found.add((caller, note.node))
        elif note.code is EventCode.LOST and "silent" in note.text:
            self.silent.append((caller, note.node))

    def returned(self, caller: str, answered: dict[str, tuple[str, int]]) -> None:
        """A caller is started again; nodes keep answers for it, to tasks that it thinks they hold."""
        sent_once = {id: where for id, where in answered.items() if self.sends[id] == 1}
        self.returns[caller].append(Return(self.now, sent_once))

    # ------------------------------------------------------------------ nodes

    def published(self, node: str, life: int, caller: calling.Caller, publish: serving.Publish) -> None:
        """A node has a message for a caller."""
        message = publish.message
        self.kinds[type(message).__name__] += 1
        if isinstance(message, m.Reports):
            for answer in publish.answers:
                self.traffic[answer.id] += 1
            if not publish.answers:
                self._progress(message)
        elif isinstance(message, (m.Claim, m.Missing, m.Recalled)):
            self._named(message)
        if isinstance(message, m.Recalled) and message.reason in (m.BUSY, m.UNKNOWN_FUNCTION):
            peer = caller.links.get(message.link)
            if peer is not None and not caller.closed and self.lives.get(peer.incarnation) == (node, life):
                self.fault("over credit", f"{node}: {message.reason} {message.refs}")

    def _progress(self, message: m.Reports) -> None:
        for _, name, number, *_ in message.items:
            id = self.ids.get((message.link, name, number))  # noqa: A001
            if id is not None:  # else it was sent by an earlier life of its caller
                self.traffic[id] += 1

    def measured(self, who: str, found: Iterable[tuple[str, int, int]]) -> None:
        """So much has piled up by now."""
        for what, number, bound in found:
            before = self.peaks.get(what)
            if before is None or number - bound > before[0] - before[1]:
                self.peaks[what] = number, bound, who, self.now

    def started(self, node: str, life: int, held: Held, starter: Starter) -> None:
        """A task was handed to a worker."""
        self.trials[held.id][node, life] = None
        pool = starter.pools[held.lane.function.pool]
        waiting = [task for queue in pool.ranks.values() for task in queue if task.state is QUEUED]
        first = max((task.options.priority for task in waiting), default=held.options.priority)
        if first > held.options.priority:
            self.fault("priority", f"{node} starts {held.id} though one of priority {first} waits")

    def executed(self, node: str, life: int, held: Held) -> None:
        """A worker calls the function."""
        fingerprint = held.lane.function.fingerprint
        execution = Execution(
            self.now, node, life, held.body, tuple(held.buffers), fingerprint, held.link.base, held.number
        )
        self.executions[held.id].append(execution)

    def born(self, node: str, life: int, incarnation: bytes) -> None:
        """A node's process began."""
        self.lives[incarnation] = (node, life)

    def died(self, node: str, life: int) -> None:
        """A node's process ended."""
        self.deaths[node, life] = self.now

    def watched(self, topic: str) -> None:
        """A copy for watchers was published."""
        self.copies[topic.split("/")[2]] += 1

    def check_link(self, node: str, link: Link) -> None:
        """Check the bounds of what a node holds and keeps for a caller."""
        kept = KEPT_SPARE
        for name, lane in link.lanes.items():
            function: Any = lane.function
            kept += 5 * function.largest
            if len(lane.held) > function.largest:
                self.fault("held", f"{node} holds {len(lane.held)} of {name}, allowed {function.largest}")
        if len(link.kept) - link.partial > kept:
            self.fault("kept", f"{node} keeps {len(link.kept)} answers, allowed {kept}")

    def check_stream(self, node: str, held: Held) -> None:
        """Check the bound of what a node keeps of one stream."""
        mine = (held.lane.function.name, held.number)
        items = [answer.item for answer in held.link.kept.values()]
        kept = sum(1 for item in items if item[4] == Status.PARTIAL and (item[1], item[2]) == mine)
        if kept > WINDOW:
            self.fault("kept", f"{node} keeps {kept} values of {held.id}")
