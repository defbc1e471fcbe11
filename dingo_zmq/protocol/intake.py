"""The node's record of one caller's link: tasks held, answers kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import Any

from dingo_zmq.model import LARGE, MAX_CALLERS, MAX_KEPT, MAX_KEPT_BYTES, Status
from dingo_zmq.protocol import credit
from dingo_zmq.protocol.messages import BUSY, TEXT_MOST, UNKNOWN_FUNCTION, Refs, TaskItem, TaskOptions

NEVER, LATER = float("-inf"), float("inf")
ASKING_SECONDS = 1.5
"""how long a caller that said it wants credit counts as asking"""
DEAF_SECONDS = 5.0
"""after so long a silence nobody is thought to hear what is said"""

PLAIN = TaskOptions()
"""options of a task that was sent without any"""
_FAIL, _PARTIAL = int(Status.FAIL), int(Status.PARTIAL)


class State(Enum):
    """Where a held task is."""

    QUEUED = auto()
    RUNNING = auto()  # handed to a worker: it may have started
    GONE = auto()


QUEUED, RUNNING, GONE = State  # looking a member up on its class takes longer than all else here


class Function:
    """
    One function of a node, over all links.

    Attributes:
        name: what it is called by; also the name of its lanes.
        pool: the workers that run it.
        slots: how many they are.
        signature, fingerprint: what callers compare theirs with.
        at_most_once: whether its tasks are never to be started twice, for callers that know only its name.
        limits: seconds that a task of it may run where the task names no limit, hard and soft, 0 for any.
        run_time: measured.
        lanes: one for each link.
        held: tasks held, over all links.
    """

    __slots__ = (
        "_allowance",
        "_allowed_at",
        "at_most_once",
        "fingerprint",
        "held",
        "lanes",
        "limits",
        "name",
        "pool",
        "run_time",
        "signature",
        "slots",
    )

    def __init__(
        self,
        name: str,
        pool: str,
        slots: int,
        signature: str = "",
        fingerprint: str = "",
        at_most_once: bool = False,
        limits: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.limits = limits if any(limits) else None
        self.name, self.pool, self.slots, self.at_most_once = name, pool, slots, at_most_once
        self.signature = signature if len(signature) <= TEXT_MOST else ""  # a part of it would be none
        self.fingerprint = fingerprint
        self.run_time = credit.RunTime()
        self.lanes: list[Lane] = []
        self.held = 0
        self._allowed_at = NEVER
        self._allowance = 1

    @property
    def told(self) -> tuple[int, str, str, bool]:
        """What WELCOME says of it."""
        return self.slots, self.signature, self.fingerprint, self.at_most_once

    def resize(self, slots: int) -> None:
        """It has another number of workers now."""
        self.slots = slots
        self._allowed_at = NEVER

    def allowance(self, now: float) -> int:
        """Return how many tasks each asking caller may have here now."""
        if now != self._allowed_at:
            asking = 0
            for lane in self.lanes:
                if lane.held or lane.wants_until > now:
                    asking += 1
            self._allowance = credit.allowance(self.slots, self.run_time.estimate(now), asking)
            self._allowed_at = now
        return self._allowance


class Held:
    """
    A task that a node holds.

    Attributes:
        go: whether it asked to be started, and may be.
        asked, asked_again: when its caller was asked last whether it may start, and whether once more.
        alone: whether it shares a bundle with no other: it has a GO, or a time limit of its own.
        cancelled: whether nobody wants its result any more.
        awaited: whether its caller waits for its report although it is cancelled.
        expires_at: when it must have started; only where its options say that there is such a time.
        yielded: how many values it has yielded.
    """

    __slots__ = (
        "alone",
        "asked",
        "asked_again",
        "attempt",
        "awaited",
        "body",
        "buffers",
        "cancelled",
        "expires_at",
        "go",
        "id",
        "lane",
        "link",
        "number",
        "options",
        "state",
        "told",
        "yielded",
    )

    def __init__(self, link: Link, lane: Lane, item: TaskItem, buffers: tuple[Any, ...]) -> None:
        self.link, self.lane, self.buffers = link, lane, buffers
        _, self.number, self.id, self.attempt, options, self.body = item
        self.go = self.cancelled = self.awaited = self.alone = False
        if options is None:
            self.options = PLAIN
        else:
            self.options = options
            self.alone = options.time_limit > 0 or options.soft_time_limit > 0
        self.state = QUEUED
        self.yielded = 0
        self.expires_at: float
        self.told = False  # whether it was said that it is about to run; it may be taken back from its worker
        self.asked, self.asked_again = NEVER, False

    @property
    def limits(self) -> tuple[float, float] | None:
        """Seconds that it may run, hard and soft, 0 for any; None where there are none."""
        hard, soft = self.lane.function.limits or (0.0, 0.0)
        limits = self.options.time_limit or hard, self.options.soft_time_limit or soft
        return limits if any(limits) else None

    @property
    def claims(self) -> bool:
        """Whether it may start only after a GO."""
        return not self.go and (self.attempt > 1 or self.options.at_most_once)


class Answer:
    """A report kept until the caller has heard it; `at` is when it was last published."""

    __slots__ = ("at", "buffers", "id", "item")

    def __init__(self, item: tuple[int, str, int, int, int, bytes], id: str, buffers: tuple[Any, ...]) -> None:
        self.item, self.id, self.buffers, self.at = item, id, buffers, NEVER

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.item[5]) + sum([memoryview(buffer).nbytes for buffer in self.buffers])

    @property
    def large(self) -> int:
        """Its bytes where it is large, else 0."""
        size = self.size
        return size if self.buffers or size > LARGE else 0


class Bounds:
    """
    What a node keeps at most for all its callers; shared by its links.

    Args:
        kept: answers.
        kept_bytes: bytes of those of them that are large.
        callers: links at a time.

    Attributes:
        taken: bytes of the large answers that are kept.
        crowded: whether there were too many answers when they were counted last.
    """

    def __init__(self, kept: int = MAX_KEPT, kept_bytes: int = MAX_KEPT_BYTES, callers: int = MAX_CALLERS) -> None:
        self.kept, self.kept_bytes, self.callers = kept, kept_bytes, callers
        self.taken = 0
        self.crowded = False

    @property
    def full(self) -> bool:
        """Whether no more tasks are to be taken."""
        return self.crowded or self.taken > self.kept_bytes


class Lane:
    """
    One function on one link: numbers seen and granted (totals), and the tasks held.

    `used` is what its turns are measured by: seconds that its tasks should have taken in all, and at least as many
    as the lane had whose turn it was when it came back after having had none.
    """

    __slots__ = ("function", "granted", "held", "seen", "used", "wants_until")

    def __init__(self, function: Function) -> None:
        self.function = function
        self.seen = self.granted = 0
        self.held: dict[int, Held] = {}
        self.wants_until = NEVER
        self.used = 0.0


class Link:
    """
    One caller incarnation, as a node sees it.

    `kept` holds the answers not yet heard, by report number, oldest first; their number is bounded since
    beyond a few allowances they eat credit (see `credit.grant`).  `partial` of them are values of streams, which
    are bounded by the window of each, and `large` are counted in the `bounds` of the node.
    `life` is not 0 for a caller with a journal, whose next life may take the link over; `base` is the first token.
    """

    __slots__ = (
        "base",
        "bounds",
        "caller",
        "dead",
        "hello",
        "kept",
        "lanes",
        "large",
        "last_beat",
        "life",
        "partial",
        "pending",
        "previous_beat",
        "proved",
        "report_number",
        "running",
        "token",
        "touched",
    )

    def __init__(
        self,
        token: bytes,
        caller: str,
        functions: Iterable[Function],
        now: float,
        bounds: Bounds | None = None,
        life: int = 0,
    ) -> None:
        self.token, self.caller, self.touched = token, caller, now
        self.base, self.life = token, life
        self.bounds = bounds or Bounds()
        self.large = 0
        self.lanes = {function.name: Lane(function) for function in functions}
        for lane in self.lanes.values():
            lane.function.lanes.append(lane)
        self.hello = 0
        self.proved = self.dead = False
        self.previous_beat = self.last_beat = NEVER
        self.kept: dict[int, Answer] = {}
        self.pending: deque[Answer] = deque()
        self.report_number = self.partial = 0
        self.running = 0  # of our tasks, in the hands of workers

    def taken_over(self, token: bytes, life: int) -> None:
        """
        Another life of the caller goes on with this link, under a token of its own.

        It knows nothing of report numbers: those of the final reports that are kept begin anew.  Values of streams
        are dropped, for whoever read them is gone.
        """
        self.token, self.life = token, life
        self.proved = False
        self.hello = 0
        self.previous_beat = self.last_beat = NEVER
        answers = []
        for answer in self.kept.values():
            if answer.item[4] != _PARTIAL:
                answers.append(answer)
            elif self.large:
                self._let_go(answer)
        for number, answer in enumerate(answers, 1):
            answer.item = (number, *answer.item[1:])
            answer.at = NEVER
        self.kept = {answer.item[0]: answer for answer in answers}
        self.pending = deque(answer for answer in self.pending if answer.item[4] != _PARTIAL)
        self.report_number, self.partial = len(answers), 0

    @property
    def kept_bytes(self) -> int:
        """Bytes of the answers that are kept."""
        return sum([answer.size for answer in self.kept.values()])

    @property
    def large_bytes(self) -> int:
        """Bytes of those of them that are large."""
        return sum([answer.large for answer in self.kept.values()]) if self.large else 0

    def told(self) -> dict[str, tuple[int, str, str, bool]]:
        """Return what WELCOME says of each function that it may call."""
        return {lane.function.name: lane.function.told for lane in self.lanes.values()}

    def begin(self, links: int, now: float) -> None:
        """Grant what a link begins with, where there are so many of them."""
        for lane in self.lanes.values():
            lane.granted = max(lane.granted, credit.first_grant(lane.function.slots, links))

    def heard(self, number: int) -> None:
        """Free the answers up to a report number."""
        kept = self.kept
        while kept:
            first = next(iter(kept))
            if first > number:
                return
            if self.partial and kept[first].item[4] == _PARTIAL:
                self.partial -= 1
            if self.large:
                self._let_go(kept[first])
            del kept[first]

    def _let_go(self, answer: Answer) -> None:
        """An answer is kept no more."""
        size = answer.large
        if size:
            self.large -= 1
            self.bounds.taken -= size

    def credit(self, lane: Lane, now: float) -> int:
        """Return the highest task number granted on a lane; it never goes down."""
        if self.bounds.full:
            return lane.granted
        allowed = lane.function.allowance(now)
        total = credit.grant(lane.seen, len(lane.held), len(self.kept) - self.partial, allowed)
        lane.granted = max(lane.granted, total)
        return lane.granted

    def has_room(self, now: float) -> bool:
        """Whether any lane could be granted more than it was."""
        before = {lane: lane.granted for lane in self.lanes.values()}
        return any([self.credit(lane, now) > granted for lane, granted in before.items()])

    def accept(
        self, items: Iterable[TaskItem], buffers: tuple[Any, ...]
    ) -> tuple[list[Held], dict[str, dict[str, list[int]]]]:
        """
        Take in tasks that were sent; return those now held, and by reason the refs of those refused.

        A number not above the highest seen is a repeat, or was declared MISSING: dropped, never started.
        """
        taken: list[Held] = []
        refused: dict[str, dict[str, list[int]]] = {}
        lanes = self.lanes
        for item in items:
            name, number = item[0], item[1]
            lane = lanes.get(name)
            if lane is None:
                refused.setdefault(UNKNOWN_FUNCTION, {}).setdefault(name, []).append(number)
            elif number > lane.granted:
                refused.setdefault(BUSY, {}).setdefault(name, []).append(number)
            elif number > lane.seen:
                lane.seen = number
                lane.held[number] = held = Held(self, lane, item, buffers)
                lane.function.held += 1
                taken.append(held)
        return taken, refused

    def answer(self, held: Held, status: int, body: bytes, buffers: tuple[Any, ...]) -> None:
        """
        Keep the final report of a task, and have it published by the next flush.

        A cancelled task may have failed for being cancelled.  Unless its caller waits for the report, it has
        settled it or given it up; where it was given up it is sent elsewhere, and such a report would settle it
        wrongly: not kept.
        """
        lane, number = held.lane, held.number
        if self.dead or lane.held.pop(number, None) is None:
            return
        lane.function.held -= 1
        self.running -= 1
        held.state = GONE
        if held.cancelled and status == _FAIL and not held.awaited:
            return
        self._keep(held, status, body, buffers)

    def value(self, held: Held, body: bytes, buffers: tuple[Any, ...]) -> None:
        """Keep one value of a stream, and have it published by the next flush."""
        self.partial += 1
        held.yielded += 1
        self._keep(held, _PARTIAL, body, buffers)

    def values_heard(self, held: Held) -> int:
        """Return how many values of a stream are kept no more."""
        mine = held.lane.function.name, held.number
        items = [answer.item for answer in self.kept.values()]
        return held.yielded - sum(item[4] == _PARTIAL and (item[1], item[2]) == mine for item in items)

    def _keep(self, held: Held, status: int, body: bytes, buffers: tuple[Any, ...]) -> None:
        self.report_number = report = self.report_number + 1
        item = (report, held.lane.function.name, held.number, held.attempt, status, body)
        self.kept[report] = answer = Answer(item, held.id, buffers)
        self.pending.append(answer)
        if buffers or len(body) > LARGE:
            self.large += 1
            self.bounds.taken += answer.large

    def drop(self, held: Held) -> None:
        """Hold a task no more; nothing is said of it."""
        if held.lane.held.pop(held.number, None) is not None:
            held.lane.function.held -= 1
        held.state = GONE

    def all_held(self) -> Iterator[Held]:
        """Yield the tasks held."""
        return (held for lane in self.lanes.values() for held in lane.held.values())

    def find(self, refs: Refs) -> list[Held]:
        """Return the tasks held among refs."""
        found = []
        for name, numbers in refs.items():
            lane = self.lanes.get(name)
            if lane is not None:
                found += [lane.held[n] for n in numbers if n in lane.held]
        return found

    def lost_and_left(
        self, lanes: dict[str, tuple[int, int, int]], open_refs: Refs
    ) -> tuple[dict[str, list[int]], list[Held]]:
        """
        Compare a BEAT's list of open tasks with what is here.

        Returns:
            The refs that are neither held nor kept, and the tasks held that the caller no longer has open.
        """
        final = [answer.item for answer in self.kept.values() if answer.item[4] != _PARTIAL] if open_refs else []
        kept = {(item[1], item[2]) for item in final}
        missing: dict[str, list[int]] = {}
        for name, numbers in open_refs.items():
            lane = self.lanes.get(name)
            held = lane.held if lane else {}
            gone = [n for n in numbers if n not in held and (name, n) not in kept]
            if gone:
                missing[name] = gone
        left = []
        for name, (_, covered, _) in lanes.items():
            lane = self.lanes.get(name)
            if lane is not None and lane.held:
                listed = set(open_refs.get(name, ()))
                left += [h for n, h in lane.held.items() if n <= covered and n not in listed]
        return missing, left

    def stale_answers(self) -> list[Answer]:
        """Return the answers last published before the previous BEAT."""
        return [answer for answer in self.kept.values() if answer.at <= self.previous_beat]

    def bury(self) -> list[Held]:
        """Forget everything; return the tasks that were held."""
        self.dead = True
        held = [held for lane in self.lanes.values() for held in lane.held.values()]
        for lane in self.lanes.values():
            lane.function.lanes.remove(lane)
            lane.function.held -= len(lane.held)
            lane.held.clear()
        for answer in self.kept.values() if self.large else ():
            self._let_go(answer)
        self.kept.clear()
        self.pending.clear()
        return held
