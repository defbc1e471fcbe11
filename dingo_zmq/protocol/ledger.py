"""The caller's record of every task not yet settled, and who holds it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from dingo_zmq.model import Code, Failure, Options, Try, counted
from dingo_zmq.protocol.messages import TaskOptions
from dingo_zmq.protocol.terms import Agenda, Terms

NEVER = float("-inf")
PASSED_SECONDS = 1.0
"""time without a task that rather waits, after which waiting begins anew"""


class Route(NamedTuple):
    """
    What decides which nodes can take a task.

    Attributes:
        name: the function.
        fingerprint: of its signature, "" for any; see `fits`.
        size: bytes of a large body, 0 for one that every node takes.
        node: name or id of the node that is to run it, "" for any.
        needs: tags that the node must have.
        priority: it decides which tasks come first.
    """

    name: str
    fingerprint: str = ""
    size: int = 0
    node: str = ""
    needs: tuple[str, ...] = ()
    priority: int = 0

    @property
    def by_name(self) -> bool:
        """Whether the caller knows only the name of the function."""
        return not self.fingerprint or self.fingerprint[0] == "/"


def marshallers_of(fingerprint: str) -> str:
    """Return the marshallers that stand behind a fingerprint: "" for msgpack, "json", or "json/msgpack"."""
    return fingerprint.partition("/")[2]


def fits(ours: str, theirs: str) -> bool:
    """
    Return whether a caller's function is a node's, by their fingerprints.

    What stands before the slash is the same, or unknown to one side; what stands behind it, the marshallers, is
    the same always: nobody can read what was written by another one.
    """
    here, _, how = ours.partition("/")
    there, _, other = theirs.partition("/")
    return how == other and (here == there or not here or not there)


class Entry:
    """
    One task at its caller, from the call until it is settled.

    Attributes:
        route, id, body, buffers, options: the task.
        result: whatever the doer wants to find again when the task is settled.
        lane, number: who holds it, and as which number; lane is None while it waits in the queue.
        attempt: how often it has been sent.
        losses: how many nodes died while it may have been running.
        started: whether it may have started where it is now.
        recalls: how often it was recalled.
        history: what became of its tries that came to nothing; see `tried`.
        strays: other links' lanes that it was sent on, with its numbers there.
        stopping: whether its node was asked to stop it and to tell: it is sent nowhere else any more.
        record: its number in the journal, 0 where it is in none.
        terms: when it may start and how often it is tried, None where its options say nothing of that.  Tasks that
            share a route object either all have terms, or none has.
        since: when it was called, monotonic seconds; set as it is recorded.
        settled: whether the one final report has been delivered; then `status`, `body`, `buffers` and
            `failure` are what it said.
    """

    __slots__ = (
        "attempt",
        "body",
        "buffers",
        "failure",
        "history",
        "id",
        "lane",
        "losses",
        "number",
        "options",
        "recalls",
        "record",
        "result",
        "route",
        "settled",
        "since",
        "started",
        "status",
        "stopping",
        "strays",
        "terms",
        "wire_options",
    )

    def __init__(
        self,
        route: Route,
        id: str,
        body: bytes,
        buffers: tuple[Any, ...],
        options: Options,
        wire_options: TaskOptions | None,
        result: Any,
    ) -> None:
        self.route, self.id, self.body, self.buffers = route, id, body, buffers
        self.options, self.wire_options, self.result = options, wire_options, result
        self.lane: Lane | None = None
        self.number = self.attempt = self.losses = self.recalls = self.record = 0
        self.started = self.settled = self.stopping = False
        self.strays: list[tuple[Lane, int]] | None = None
        self.terms: Terms | None = None
        self.status = 0
        self.failure: Failure | None = None
        self.history: tuple[Try, ...] = ()
        self.since: float

    def forbid_twice(self) -> None:
        """The node says that its function is not to be started twice, and the caller knows only its name."""
        if not self.options.at_most_once:
            self.options = self.options.replace(at_most_once=True)
            self.wire_options = wire_options(self.options, stream=self.is_stream)

    @property
    def is_stream(self) -> bool:
        """Whether its caller reads what the function yields."""
        return self.wire_options is not None and self.wire_options.stream

    def held_as(self, lane: Lane, number: int) -> bool:
        """Return whether it is there now, rather than as another try, perhaps on the same lane."""
        return self.lane is lane and self.number == number

    @property
    def may_run(self) -> bool:
        """Whether it may have started where it is; what asks first has not, unless we said that it may."""
        return self.started or not (self.attempt > 1 or self.options.at_most_once)


def wire_options(options: Options, left: float = 0.0, *, stream: bool = False) -> TaskOptions | None:
    """Return the part of the options that travels, None where it says nothing; `left` as in `Terms.left`."""
    ignored = options.ignore_report
    told = options.monitor_progress and not ignored
    hard, soft = options.time_limit or 0.0, options.soft_time_limit or 0.0
    if options.at_most_once or told or ignored or options.priority or left or hard or soft or stream:
        return TaskOptions(
            at_most_once=options.at_most_once,
            monitor_progress=told,
            time_limit=hard,
            soft_time_limit=soft,
            priority=options.priority,
            expires=left,
            ignore_report=ignored,
            stream=stream,
        )
    return None


class Lane:
    """
    One function on one link.

    Attributes:
        key: the node's, as its caller knows it.
        name: of the function.
        slots, signature, fingerprint, at_most_once: as the node told them.
        sent: number of the last task sent.
        limit: highest task number the node will take (a total, never goes down).
        open: tasks held there, by number.
        strays: tasks sent there, not settled, and believed to be elsewhere by now.
        covered: last number sent at the BEAT before.
        run_time: seconds, None where unknown; told_at is when that was told.
        passed_since, passed_at: since when tasks wait for quicker nodes rather than go there, and when that was
            last so.
    """

    __slots__ = (
        "at_most_once",
        "covered",
        "fingerprint",
        "key",
        "limit",
        "name",
        "open",
        "passed_at",
        "passed_since",
        "run_time",
        "sent",
        "signature",
        "slots",
        "strays",
        "told_at",
    )

    def __init__(
        self, key: str, name: str, slots: int, signature: str, fingerprint: str, at_most_once: bool = False
    ) -> None:
        self.key, self.name = key, name
        self.slots, self.signature, self.fingerprint = slots, signature, fingerprint
        self.at_most_once = at_most_once
        self.sent = self.limit = self.covered = 0
        self.open: dict[int, Entry] = {}
        self.strays: dict[int, Entry] = {}
        self.run_time: float | None = None
        self.told_at = NEVER
        self.passed_since = self.passed_at = NEVER

    def pass_over(self, now: float) -> float:
        """Tasks rather wait for a quicker node; return for how many seconds they have done so by now."""
        if now - self.passed_at > PASSED_SECONDS:
            self.passed_since = now
        self.passed_at = now
        return now - self.passed_since

    @property
    def finished(self) -> int:
        """How many tasks sent there are there no more; most of them, because they were done."""
        return self.sent - len(self.open)

    def told(self, limit: int, run_time: int, now: float) -> None:
        """The node told its credit, and its run time in nanoseconds (0: unknown)."""
        self.limit = max(self.limit, limit)
        if run_time:
            self.run_time = run_time * 1e-9
            self.told_at = now


class Ledger:
    """
    Every task not yet settled: waiting in a queue here, or held by a node.

    `queues` has the waiting tasks of each route, oldest first; a route without waiting tasks is not in it.
    `parked` has those that are not to be sent yet, `agenda` says when to look at those with terms.
    `open` counts all tasks not settled.
    `dated` is set once there was a task that may expire.
    """

    def __init__(self) -> None:
        self.queues: dict[Route, deque[Entry]] = {}
        self.parked: dict[Entry, None] = {}
        self.agenda: Agenda[Entry] = Agenda(lambda entry: not entry.settled)
        self.open = 0
        self.dated = self._ranked = False

    def add(self, entries: list[Entry], now: float = NEVER) -> None:
        """Record tasks, and queue them."""
        route = queue = None
        for entry in entries:
            entry.since = now
            if queue is None or entry.route is not route:
                if entry.terms is not None:
                    queue = None
                    self._add_on_terms(entry, entry.terms, now)
                    continue
                route = entry.route
                queue = self.queue(route)
            queue.append(entry)
        self.open += len(entries)

    def _add_on_terms(self, entry: Entry, terms: Terms, now: float) -> None:
        terms.called(now)
        self.dated = self.dated or terms.may_expire
        if not self._parked(entry, terms):
            self.queue(entry.route).append(entry)

    def _parked(self, entry: Entry, terms: Terms) -> bool:
        """See that a task with terms is looked at in time; return whether it is parked, not to be queued yet."""
        if terms.may_expire:
            self.agenda.add(terms.expires_at, entry)
        if not terms.pauses:
            return False
        terms.pauses = False
        self.agenda.add(terms.due, entry)
        self.parked[entry] = None
        return True

    def due(self, entry: Entry, now: float) -> None:
        """Queue a task that was parked, if its time has come."""
        if entry in self.parked and entry.terms is not None and entry.terms.due <= now:
            del self.parked[entry]
            self.queue(entry.route).append(entry)

    def queue(self, route: Route) -> deque[Entry]:
        """Return the queue of a route, made if need be."""
        queue = self.queues.get(route)
        if queue is None:
            queue = self.queues[route] = deque()
            if route.priority:
                self._ranked = True
        return queue

    def routes(self) -> list[Route]:
        """Return the routes with waiting tasks, those of the highest priority first."""
        routes = list(self.queues)
        if self._ranked:
            routes.sort(key=lambda route: -route.priority)
        return routes

    def add_held(self, entry: Entry, lane: Lane, number: int, now: float) -> None:
        """Record a task that never waited."""
        entry.since = now
        self.open += 1
        self.held(entry, lane, number)

    def resume(self, entry: Entry, lane: Lane, number: int, now: float) -> None:
        """Record a task that was sent on a lane in an earlier life of its caller."""
        entry.since = now
        self.open += 1
        entry.lane, entry.number = lane, number
        lane.open[number] = entry
        lane.sent = max(lane.sent, number)
        if entry.terms is not None:
            entry.terms.called(now)
            entry.terms.pauses = False
            self.dated = self.dated or entry.terms.may_expire
            self._parked(entry, entry.terms)

    def reroute(self, route: Route, change: Callable[[Entry], Route]) -> None:
        """Ask `change` for a new route of each task that waits on a route, oldest first, and queue it there."""
        for entry in self.queues.pop(route, ()):
            entry.route = change(entry)
            self.queue(entry.route).append(entry)

    def wanted(self, takes: Callable[[Route], object]) -> dict[str, int]:
        """Return how many tasks of each function wait here, of the routes that `takes` says a node takes."""
        wanted: dict[str, int] = {}
        for route, queue in self.queues.items():
            if takes(route):
                wanted[route.name] = wanted.get(route.name, 0) + len(queue)
        return wanted

    def hold_next(self, queue: deque[Entry], lane: Lane, most: int) -> list[Entry]:
        """Take up to `most` tasks from the head of a queue: they are about to be sent on a lane."""
        entries: list[Entry] = []
        for _ in range(min(most, len(queue))):
            entry = queue.popleft()
            lane.sent = number = lane.sent + 1
            self.held(entry, lane, number)
            entries.append(entry)
        if lane.at_most_once and entries and entries[0].route.by_name:
            for entry in entries:
                entry.forbid_twice()
        return entries

    def held(self, entry: Entry, lane: Lane, number: int) -> None:
        """A task is about to be sent: recorded before anything leaves."""
        entry.lane, entry.number = lane, number
        entry.attempt += 1
        entry.started = False
        lane.open[number] = entry

    def unhold(self, entry: Entry) -> None:
        """Nobody holds the task any more, as far as we know; a late report may still settle it."""
        lane = entry.lane
        if lane is not None:
            del lane.open[entry.number]
            lane.strays[entry.number] = entry
            if entry.strays is None:
                entry.strays = []
            entry.strays.append((lane, entry.number))
            entry.lane = None

    def released(self, entry: Entry) -> None:
        """The node that held a task has it no more, and will say no more of it."""
        lane = entry.lane
        if lane is not None:
            del lane.open[entry.number]
            entry.lane = None

    def unsend(self, entry: Entry) -> None:
        """The task never left: as if it had not been sent."""
        lane = entry.lane
        if lane is not None:
            del lane.open[entry.number]
            entry.lane = None
            entry.attempt -= 1

    def requeue(self, entries: list[Entry]) -> None:
        """Put tasks back at the head of their queues, keeping their order."""
        for entry in reversed(entries):
            entry.started = False
            if entry.terms is None or not self._parked(entry, entry.terms):
                self.queue(entry.route).appendleft(entry)

    def lost(self, entry: Entry, *, proved: bool) -> Failure | None:
        """
        The node that held the task is lost; return how the task ends, or None where it is to be sent again.

        Args:
            entry: the task, already unheld.
            proved: whether the node's process is known to be dead; a loss by silence counts only later.
        """
        if entry.options.at_most_once and entry.started:
            return Failure(Code.UNKNOWN, "the node was lost while the task may have been running")
        if entry.stopping:
            return Failure(Code.CANCELLED, "cancelled; the node was lost where it may have been running")
        if entry.started and proved:
            return self.counted(entry)
        return None

    def counted(self, entry: Entry) -> Failure | None:
        """Count one more node that died while the task may have been running; return how it ends, if so."""
        entry.losses += 1
        if entry.losses < entry.options.max_losses:
            return None
        them = "it" if entry.losses == 1 else "them"
        return Failure(
            Code.POISON, f"{counted(entry.losses, 'node')} died while it may have been running on {them}"
        )

    def settle(self, entry: Entry) -> Lane | None:
        """Close the record of a task; return the lane of who may still hold it (others: `entry.strays`)."""
        entry.settled = True
        self.open -= 1
        lane = entry.lane
        if lane is not None:
            del lane.open[entry.number]
            entry.lane = None
        elif entry in self.parked:
            del self.parked[entry]
        else:
            queue = self.queues.get(entry.route)
            if queue is not None:
                self._unqueue(queue, entry)
        if entry.strays is not None:
            for stray, number in entry.strays:
                stray.strays.pop(number, None)
        return lane

    def _unqueue(self, queue: deque[Entry], entry: Entry) -> None:
        try:
            queue.remove(entry)
        except ValueError:
            return
        if not queue:
            del self.queues[entry.route]

    def everything(self, lanes: list[Lane]) -> list[Entry]:
        """Return all tasks not settled: the waiting ones, then those held on `lanes`."""
        waiting = [entry for queue in self.queues.values() for entry in queue]
        return [*self.parked, *waiting, *[entry for lane in lanes for entry in lane.open.values()]]
