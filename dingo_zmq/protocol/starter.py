"""Which held task starts next, on which workers of a node, and which must ask first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import zip_longest

from dingo_zmq.protocol.credit import AHEAD_SECONDS
from dingo_zmq.protocol.intake import DEAF_SECONDS, GONE, NEVER, PLAIN, QUEUED, RUNNING, Function, Held, Lane
from dingo_zmq.protocol.terms import LATER, Agenda

BUNDLE_SECONDS = 0.001
BUNDLE_MOST = 64
STALL_SECONDS = 0.010
"""a bundle whose first task takes longer than this gives the rest back to other workers"""
SPREAD_SECONDS = 0.0001
"""tasks longer than this are spread over all free workers, shorter ones keep one worker busy"""
CLAIM_SECONDS = 1.0
SLOW_SECONDS = AHEAD_SECONDS
"""run time from which on lanes take turns: what waits behind fewer seconds of work need not care whose it is"""
UNKNOWN_SECONDS = 0.001
"""what a task is thought to take of its lane's time where nothing is known"""
GONE_MOST = 64
"""tasks that may stay in a queue though they are held no more; beyond, at most as many as the others"""


class Bundle:
    """
    Tasks of one function that one worker runs one after the other: a millisecond of work at most, by estimate.

    The worker takes from the left of `todo`; `Starter.reclaim` takes from the right (both are atomic).
    `expected` is how long one of them should take, in seconds, None where unknown.  `limits` are those
    of its one task, hard and soft, in seconds, 0 for none; None where it has none.
    """

    __slots__ = ("all", "expected", "function", "limits", "since", "todo")

    def __init__(self, function: Function, tasks: list[Held], expected: float | None, now: float) -> None:
        self.function, self.all, self.todo = function, tasks, deque(tasks)
        self.expected, self.since = expected, now
        self.limits: tuple[float, float] | None = None


class Pool:
    """
    A group of workers: how many are free, what is ready for them, what must ask before it starts.

    `ready` has what is of priority 0, `ranks` what is of others: empty where there are none.  `asking` is by lane;
    `asked` has those of them that have asked, in the order of when they did last.
    `gone` of all that is queued are held no more, and are passed over.  `clock` is what the lane had used whose
    turn was last.
    """

    __slots__ = ("asked", "asking", "clock", "free", "gone", "ranks", "ready", "slots")

    def __init__(self, slots: int) -> None:
        self.slots = self.free = slots
        self.gone = 0
        self.ready: deque[Held] = deque()
        self.ranks: dict[int, deque[Held]] = {}
        self.asking: dict[Lane, dict[Held, None]] = {}
        self.asked: dict[Held, None] = {}
        self.clock = 0.0

    def resize(self, slots: int) -> None:
        """There are more or fewer workers; `free` is below 0 while more are busy than there should be."""
        self.free += slots - self.slots
        self.slots = slots

    def queue(self, held: Held) -> deque[Held]:
        """Return where a task waits once it may start."""
        priority = held.options.priority
        if not priority:
            return self.ready
        queue = self.ranks.get(priority)
        if queue is None:
            queue = self.ranks[priority] = deque()
        return queue

    def first(self) -> deque[Held]:
        """Return the queue of the highest priority; empty where nothing waits."""
        for priority in [priority for priority, queue in self.ranks.items() if not queue]:
            del self.ranks[priority]
        best = max(self.ranks, default=0)
        return self.ready if self.ready and best < 0 or not best else self.ranks[best]

    def asks_no_more(self, held: Held) -> bool:
        """Return whether a task was to ask; it is not any more."""
        tasks = self.asking.get(held.lane, {})
        if held not in tasks:
            return False
        del tasks[held]
        self.asked.pop(held, None)
        if not tasks:
            del self.asking[held.lane]
        return True

    def in_turn(self, now: float, *, ranked: bool) -> Iterable[Held]:
        """Return what must ask of who hears it: by priority if there are any, then one of each lane, and so on."""
        heard = [lane for lane, tasks in self.asking.items() if _hears(next(iter(tasks)), now)]
        lanes = sorted(heard, key=lambda lane: lane.used)
        rows = zip_longest(*[self.asking[lane] for lane in lanes])
        turns = (held for row in rows for held in row if held is not None)
        return sorted(turns, key=lambda held: -held.options.priority) if ranked else turns

    def waits_for_others(self, held: Held, now: float) -> bool:
        """Whether a task that must ask, and takes long, is to leave a free worker to others that need not ask."""
        run_time, priority = held.lane.function.run_time.estimate(now), held.options.priority
        if run_time is None or run_time <= SLOW_SECONDS:
            return False
        return any(
            other.options.priority > priority
            or (other.options.priority == priority and (other.go or other.lane.used < held.lane.used))
            for other in (self.first() if self.ranks else self.ready)
            if other.state is QUEUED
        )

    def took(self, lane: Lane, seconds: float) -> None:
        """Tasks of a lane are started that should take so long together."""
        used = lane.used
        used = max(used, self.clock)
        self.clock = used
        lane.used = used + seconds

    def bring_forward(self, ready: deque[Held]) -> None:
        """
        Put those tasks first whose lane has used the least; among lanes alike the order stays as it is.

        The first one is still held; of the others those are left out that are not.
        """
        waiting = [held for held in ready if held.state is QUEUED]
        lane = min([held.lane for held in waiting], key=lambda lane: lane.used)
        if lane is not ready[0].lane:
            self.gone -= len(ready) - len(waiting)
            tasks = sorted(waiting, key=lambda held: held.lane is not lane and not held.go)
            ready.clear()
            ready.extend(tasks)

    def sweep(self, held: Held) -> None:
        """A task that waits is about to be gone; where most of them are, throw those away."""
        self.gone += 1
        queues = [self.ready, *self.ranks.values()]
        if self.gone <= GONE_MOST or 2 * self.gone <= sum(map(len, queues)):
            return
        self.gone = 0
        for queue in queues:
            alive = [task for task in queue if task.state is QUEUED and task is not held]
            queue.clear()
            queue.extend(alive)


class Starter:
    """
    Hands held tasks to the workers of a node: by priority, and then in the order of their arrival.

    But tasks that take long are no reason for others to wait: then it is the turn of the lane that has used the
    least time by now.  So a lane with thousands of them delays another one's by no more than one of its own.

    Attributes:
        pools: the workers, by name.
        active: the bundles that workers have.
        timed: those with a time limit, and when it is over.
        agenda: when those are to be looked at that may expire.
        passed: whether tasks that should ask were passed over for others, and are to be looked at after these.
    """

    def __init__(self, pools: dict[str, int]) -> None:
        self.pools = {name: Pool(slots) for name, slots in pools.items()}
        self.active: dict[Bundle, None] = {}
        self.timed: dict[Bundle, float] = {}
        self.agenda: Agenda[Held] = Agenda(lambda held: held.state is not GONE)
        self.passed = self._ranked = False

    def add(self, tasks: list[Held], now: float) -> None:
        """Queue tasks that have arrived."""
        for held in tasks:
            pool = self.pools[held.lane.function.pool]
            if held.options is PLAIN and held.attempt <= 1:
                pool.ready.append(held)
            else:
                self._add_special(pool, held, now)

    def _add_special(self, pool: Pool, held: Held, now: float) -> None:
        options = held.options
        if options.expires:
            held.expires_at = now + options.expires
            self.agenda.add(held.expires_at, held)
        if options.priority:
            self._ranked = True
        if held.claims:
            pool.asking.setdefault(held.lane, {})[held] = None
        else:
            pool.queue(held).append(held)

    def expired(self, now: float) -> list[Held]:
        """Return the tasks whose time has run out before they started."""
        return [held for held in self.agenda.due(now) if held.state is QUEUED and not held.go]

    def go(self, held: Held) -> None:
        """A task that asked may start."""
        pool = self.pools[held.lane.function.pool]
        if pool.asks_no_more(held):
            held.go = held.alone = True
            pool.queue(held).appendleft(held)

    def forget(self, held: Held) -> None:
        """A queued task is held no more; a queue passes it over when its turn comes, or is swept before."""
        pool = self.pools[held.lane.function.pool]
        if not pool.asks_no_more(held):
            pool.sweep(held)

    def claims(self, now: float) -> list[Held]:
        """
        Return the tasks that should ask now: no more for the first time than there are free workers, nor again.

        Those that ask again stand in nobody's way, for a GO may be withheld as long as another task runs.
        A silent caller is not asked.
        """
        due: list[Held] = []
        self.passed = False
        for pool in self.pools.values():
            if pool.asking and pool.free > 0:
                due += self._claims(pool, now)
        return due

    def _claims(self, pool: Pool, now: float) -> list[Held]:
        vain: list[Held] = []
        first = again = pool.free
        for held in pool.asked:
            if now - held.asked > CLAIM_SECONDS:
                vain.append(held)
            elif held.asked_again:
                again -= 1
            else:
                first -= 1
        due = self._ask_again(pool, vain, again, now) if vain else []
        if first > 0:
            due += self._ask_first(pool, first, now)
        for held in due:
            held.asked_again = held.asked != NEVER
            held.asked = now
            pool.asked.pop(held, None)
            pool.asked[held] = None
        return due

    def _ask_again(self, pool: Pool, vain: list[Held], most: int, now: float) -> list[Held]:
        due: list[Held] = []
        for held in vain:
            if len(due) >= most:
                break
            if _hears(held, now) and not self._passes(pool, held, now):
                due.append(held)
        return due

    def _ask_first(self, pool: Pool, most: int, now: float) -> list[Held]:
        due: list[Held] = []
        for held in pool.in_turn(now, ranked=self._ranked):
            if len(due) >= most:
                break
            if held.asked == NEVER:
                if self._passes(pool, held, now):
                    break
                due.append(held)
        return due

    def _passes(self, pool: Pool, held: Held, now: float) -> bool:
        """Return whether a task that should ask is passed over for others; then there is to be another look."""
        passes = pool.waits_for_others(held, now)
        self.passed = self.passed or passes
        return passes

    def start(self, now: float) -> list[Bundle]:
        """Return the bundles that free workers are to run from now on."""
        bundles = []
        for pool in self.pools.values():
            while pool.free > 0 and (ready := pool.first() if pool.ranks else pool.ready):
                tasks = self._take(pool, ready, now)
                if not tasks:
                    continue
                function = tasks[0].lane.function
                bundle = Bundle(function, tasks, function.run_time.estimate(now), now)
                bundle.function.run_time.started(now)
                pool.free -= 1
                self.active[bundle] = None
                if tasks[0].alone or function.limits:
                    self._time(bundle, tasks[0], now)
                bundles.append(bundle)
        return bundles

    def _take(self, pool: Pool, ready: deque[Held], now: float) -> list[Held]:
        first = ready.popleft()
        if first.state is not QUEUED:
            pool.gone -= 1
            return []
        run_time = first.lane.function.run_time.estimate(now)
        if ready and run_time is not None and run_time > SLOW_SECONDS and not first.go:
            ready.appendleft(first)
            pool.bring_forward(ready)
            first = ready.popleft()
            run_time = first.lane.function.run_time.estimate(now)
        first.state = RUNNING
        first.link.running += 1
        tasks = [first]
        function = first.lane.function
        if run_time is None or first.alone or function.limits:
            pool.took(first.lane, UNKNOWN_SECONDS if run_time is None else run_time)
            return tasks
        most = min(BUNDLE_MOST, int(BUNDLE_SECONDS / max(run_time, 1e-9)))
        if pool.free > 1 and run_time > SPREAD_SECONDS:
            most = min(most, 1 + len(ready) // pool.free)
        while len(tasks) < most and ready and ready[0].lane.function is function and not ready[0].alone:
            held = ready.popleft()
            if held.state is QUEUED:
                held.state = RUNNING
                held.link.running += 1
                tasks.append(held)
            else:
                pool.gone -= 1
        pool.took(first.lane, run_time * len(tasks))
        return tasks

    def _time(self, bundle: Bundle, held: Held, now: float) -> None:
        bundle.limits = limits = held.limits
        if limits and limits[0]:
            self.timed[bundle] = now + limits[0]

    def overdue(self, now: float) -> list[Bundle]:
        """Return the bundles whose time is over, once each."""
        if not self.timed:
            return []
        due = [bundle for bundle, at in self.timed.items() if now >= at]
        for bundle in due:
            del self.timed[bundle]
        return due

    def progressed(self, bundle: Bundle, tasks: int, seconds: float, now: float) -> None:
        """Some tasks of a bundle have finished; nothing where its worker was taken for lost by then."""
        if bundle not in self.active:
            return
        run_time = bundle.function.run_time
        run_time.stopped(bundle.since)
        run_time.started(now)
        run_time.finished(tasks, seconds)
        bundle.since = now

    def ended(self, bundle: Bundle) -> None:
        """A worker is done with its bundle."""
        if self.active.pop(bundle, bundle) is None:
            if bundle.limits:
                self.timed.pop(bundle, None)
            bundle.function.run_time.stopped(bundle.since)
            self.pools[bundle.function.pool].free += 1

    def reclaim(self, now: float) -> None:
        """Queue again what waits behind a task that takes longer than was thought."""
        for bundle in self.active:
            if bundle.todo and now >= bundle.since + STALL_SECONDS:
                self._take_back(bundle)

    def reclaim_all(self) -> None:
        """Queue again everything that no worker has begun."""
        for bundle in self.active:
            self._take_back(bundle)

    def _take_back(self, bundle: Bundle) -> None:
        pool = self.pools[bundle.function.pool]
        while True:
            try:
                held = bundle.todo.pop()
            except IndexError:
                return
            if held.state is RUNNING:
                held.state = QUEUED
                held.link.running -= 1
                pool.queue(held).appendleft(held)

    @property
    def wakeup(self) -> float | None:
        """The next moment at which `reclaim`, `overdue` or `expired` might do something."""
        soonest = min((b.since + STALL_SECONDS for b in self.active if b.todo), default=None)
        if not self.timed and not self.agenda.items:
            return soonest
        others = min(self.timed.values(), default=LATER), self.agenda.wakeup
        return min(others if soonest is None else (soonest, *others))

    def running(self) -> int:
        """Return how many workers are busy."""
        return len(self.active)


def _hears(held: Held, now: float) -> bool:
    """Return whether a task's caller is there to be asked."""
    return held.link.touched >= now - DEAF_SECONDS
