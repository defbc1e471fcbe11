"""What is going to happen in one seed of the simulated world: nodes, callers, tasks, faults."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from random import Random
from typing import Any

from dingo_zmq.model import Options, Retries

HEAL_AT, LATE_HEAL_AT, LATEST_HEAL_AT = 18.0, 50.0, 90.0
JOBS_LEAST = 200
LONG = 0.1
"""seconds of a task from which on there may only be so many"""
BEARABLE = 16.0
"""seconds of long tasks for each worker that can do them; what is lost is done again"""
STALE_KEY = "nowhere"
"""a node that is found and does not exist"""
STRANGER_KEY = "stranger"
"""a node that is found, takes every connection, and never says a word"""
MESSAGES = (
    *("Hello", "Tasks", "Beat", "Taken", "Cancel", "Recall", "Go", "Bye"),
    *("Welcome", "Reports", "Credit", "Missing", "Claim", "Recalled", "Refused"),
)
"""kinds of messages that can be lost, those to nodes first"""
SKEW = 0.1
"""how much quicker or slower than the world a clock may run"""
OTHER_VERSION = "other"
OUR_VERSION = "ours"
TAGS = ("psu", "cam")
OTHER_MARSHALLER = "/json"
"""behind a fingerprint, where it is not msgpack"""

SECONDS = {"quick": 0.0003, "steady": 0.02, "slow": 1.0}
"""functions of the world, and about how long a task of each takes"""


class Kind(Enum):
    """What can go wrong."""

    CRASH = "crash"  # a node dies, and its machine resets the connections
    POWER = "power"  # a node's machine dies: nobody resets anything
    BREAK_TASKS = "break tasks"
    BREAK_REPORTS = "break reports"
    BREAK_BOTH = "break both"
    CUT_UP = "cut to node"  # a partition: nothing passes, TCP goes on trying
    CUT_DOWN = "cut to caller"
    CUT_BOTH = "cut"
    HOLE_UP = "hole to node"  # messages vanish while the connection stands
    HOLE_DOWN = "hole to caller"
    PARTITION = "partition"  # two groups of hosts do not reach each other; who is in neither reaches all
    PARTITION_ONE_WAY = "one-way partition"  # nothing comes from one group to the other
    CLOG = "clog"  # for some seconds nothing comes, then all of it; nobody notices
    SWIZZLE = "swizzle"  # clogs that begin one after the other, and end in another order
    LOSE = "lose messages"  # all messages of one kind vanish, at everybody
    MISTOLD = "mistold"  # a node is told that it could not publish, and it did
    PAUSE_NODE = "pause node"  # SIGSTOP: nobody answers pings either
    HOG_NODE = "hog node"  # a task keeps the GIL: pings are answered, nothing else
    PAUSE_CALLER = "pause caller"
    HOG_CALLER = "hog caller"
    STUCK = "stuck"  # publishing to a caller is refused
    DRAIN = "drain"
    GOODBYE = "goodbye"  # a false one
    STALE = "stale"  # found where there is nothing, and found again what is known
    RESIZE = "resize"  # a node gets more or fewer workers
    ALIAS = "alias"  # a node found under a second key
    REUSED = "reused"  # what a node was found as leads to another node for a while
    STRANGER = "stranger"  # found where somebody listens who is no node
    CALLER_DIES = "caller dies"
    CALLER_LEAVES = "caller leaves"
    CALLER_RESTARTS = "caller restarts"  # one with a journal dies, and is started again
    DISK_FULL = "disk full"  # a journal cannot be written for a while
    FORWARDER = "forwarder"  # one dies, and is started again
    DETOUR = "detour"  # what is reached directly is reached by way of a forwarder for a while


COMMON = [
    *([Kind.CRASH] * 3),
    *([Kind.BREAK_TASKS, Kind.BREAK_REPORTS, Kind.BREAK_BOTH] * 2),
    *[
        kind
        for kind in Kind
        if kind
        not in (
            Kind.CALLER_DIES,
            Kind.CALLER_LEAVES,
            Kind.CALLER_RESTARTS,
            Kind.DISK_FULL,
            Kind.FORWARDER,
            Kind.DETOUR,
        )
    ],
]


GENTLE = [
    Kind.BREAK_TASKS,
    Kind.BREAK_REPORTS,
    Kind.BREAK_BOTH,
    Kind.PAUSE_CALLER,
    Kind.HOG_CALLER,
    Kind.DRAIN,
    Kind.GOODBYE,
    Kind.STALE,
    Kind.STRANGER,
    Kind.MISTOLD,
    Kind.RESIZE,
]
"""no node is silent for long, or dies with work in its hands"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when it begins, for how long (where that makes sense), whom it should hit first."""

    kind: Kind
    at: float
    seconds: float = 1.0
    node: int = 0
    caller: int = 0
    breaks: bool = True
    """whether the heartbeats of the connections notice it in time"""
    message: str = ""
    """which of `MESSAGES` is lost first"""
    share: float = 1.0
    """of them that are lost"""


@dataclass(frozen=True, slots=True)
class Job:
    """One task: who calls it, when, and what it will be like for the worker."""

    id: str
    caller: int
    function: str
    at: float
    seconds: float
    at_most_once: bool = False
    monitor_progress: bool = False
    killer: bool = False
    watched: bool = False
    buffers: tuple[bytes, ...] = ()
    fingerprint: str = ""
    node: str = ""
    needs: tuple[str, ...] = ()
    cancel_after: float | None = None
    refusals: int = 0
    """so many workers that get it refuse it"""
    stop: bool = False
    """whether it is to be cancelled even where it runs"""
    time_limit: float | None = None
    fails: int = 0
    """how often it fails before it succeeds"""
    ignore_report: bool = False
    delay: float = 0.0
    expires: float | None = None
    retries: int | Retries = 0
    priority: int = 0
    stream: bool = False
    values: int = 0
    """of a stream: how many values it yields"""
    reads: float = 0.0
    """of a stream: seconds that its reader takes for each value"""

    def value(self, number: int) -> bytes:
        """Return one of the values of a stream, from 0."""
        return f"value {number} of {self.id}".encode()

    def written(self, fingerprint: str) -> bytes:
        """Return the arguments as the marshaller behind a fingerprint writes them."""
        how = fingerprint.partition("/")[2]
        return f"{how and how + ' '}arguments of {self.id}".encode()

    @property
    def options(self) -> Options:
        """How it is to be treated."""
        return Options(
            at_most_once=self.at_most_once,
            monitor_progress=self.monitor_progress,
            node=self.node,
            needs=self.needs,
            ignore_report=self.ignore_report,
            delay=self.delay,
            expires=self.expires,
            retries=self.retries,
            priority=self.priority,
            time_limit=self.time_limit,
        )

    @property
    def body(self) -> bytes:
        """The arguments, as the caller first writes them."""
        return self.written(self.fingerprint)

    @property
    def by_name(self) -> bool:
        """Whether its caller knows only the name of the function."""
        return not self.fingerprint.partition("/")[0]

    def fits(self, fingerprint: str) -> bool:
        """Return whether a node may run it whose function has this fingerprint."""
        if not self.fingerprint:  # written anew in whatever way is needed
            return True
        ours, theirs = self.fingerprint.partition("/"), fingerprint.partition("/")
        return ours[2] == theirs[2] and ours[0] in ("", theirs[0])


@dataclass(frozen=True, slots=True)
class NodePlan:
    """
    One node: its pools of workers, by function the pool and the fingerprint, its tags.

    `pace` is what it says of its speed, `speed` how much quicker than others its workers are in truth; `mortal`:
    whether its process ends where a task runs longer than it may.  `dies_at`: the number of the thing before
    which it dies, 0 for none.
    """

    pools: dict[str, int]
    functions: dict[str, tuple[str, str]]
    pace: int = 1000
    tags: tuple[str, ...] = ()
    speed: float = 1.0
    mortal: bool = True
    dies_at: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """
    Everything that is going to happen.

    `loss` and `repeats` are shares of all messages (harsh seeds); what is repeated comes `copies` times.
    `rates`: how fast the clocks of hosts run, by name; where any is named clocks also begin at any number.
    """

    seed: int
    nodes: list[NodePlan]
    callers: list[float]
    """when each starts"""
    jobs: list[Job] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    delay: float = 0.001
    harsh: bool = False
    loss: float = 0.0
    repeats: float = 0.0
    copies: int = 2
    rates: dict[str, float] = field(default_factory=dict)
    heal_at: float = HEAL_AT
    journals: frozenset[int] = frozenset()
    """callers that have one"""
    watched: bool = False
    """whether somebody watches all tasks at all nodes"""
    lans: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """where there are forwarders, the networks that each host is in"""
    relays: tuple[tuple[int, int], ...] = ()
    """forwarders: the two networks that each joins"""
    delicate: frozenset[str] = frozenset()
    """functions that all nodes say are never to be started twice, to callers that know only their name"""

    def at_most_once(self, job: Job) -> bool:
        """Return whether a task may be started once only."""
        return job.at_most_once or (job.function in self.delicate and job.by_name)

    @property
    def deadly(self) -> bool:
        """Whether nodes die that no fault kills."""
        return any(job.killer for job in self.jobs) or any(node.dies_at for node in self.nodes)

    def replace(self, **changes: Any) -> Plan:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


def chance(dice: Random, share: float) -> bool:
    """Return whether it happens, which it does in a share of all cases."""
    return dice.random() < share


def draw(seed: int, *, faults: bool = True, harsh: bool | None = None) -> Plan:
    """
    Return the plan of a seed: at least 2 callers, 3 nodes and 200 tasks.

    Args:
        seed: any number.
        faults: whether anything goes wrong.
        harsh: whether messages are also lost, repeated and out of order; None: in one seed of three.
    """
    dice = Random(f"plan {seed}")  # noqa: S311 (dice of a game)
    if harsh is None:
        harsh = faults and seed % 3 == 2  # noqa: PLR2004
    nodes = [_node(dice, first=n == 0) for n in range(dice.choice((3, 3, 3, 4, 5)))]
    how = Random(f"marshallers {seed}")  # noqa: S311 (dice of a game)
    nodes = _marshalled(how, nodes)
    callers = [
        dice.uniform(0, 0.5) if chance(dice, 0.8) else dice.uniform(0, 5) for _ in range(dice.choice((2, 2, 3)))
    ]
    heal_at = LATE_HEAL_AT if faults and chance(dice, 0.2) else HEAL_AT
    long = Random(f"minutes {seed}")  # noqa: S311 (dice of a game)
    minutes = []
    if faults and chance(long, 0.04):
        heal_at, minutes = LATEST_HEAL_AT, [_minute(long)]
    planned = [*minutes, *_faults(dice, heal_at)] if faults else []
    jobs = _bearable(_jobs(dice, how, nodes, callers, faults, heal_at), nodes)
    delicate = frozenset({dice.choice(list(SECONDS))} if chance(dice, 0.1) else ())
    jobs = _streams(seed, _on_terms(seed, _with_refusals(seed, jobs)))
    journals, more = frozenset[int](), list[Fault]()
    lans, relays = dict[str, tuple[int, ...]](), tuple[tuple[int, int], ...]()
    if faults:
        journals, more = _journals(seed, len(callers), heal_at, planned, jobs)
        lans, relays, falls = _networks(seed, len(nodes), len(callers), heal_at, planned)
        more += falls
    return Plan(
        seed=seed,
        nodes=nodes,
        callers=callers,
        jobs=jobs,
        faults=planned + more,
        heal_at=heal_at,
        journals=journals,
        lans=lans,
        relays=relays,
        delicate=delicate,
        delay=min(dice.choice((0.0003, 0.003, 0.03, 0.1)), 0.03 if relays else 0.1),
        harsh=harsh,
        loss=dice.uniform(0, 0.3) if harsh else 0.0,
        repeats=dice.uniform(0, 0.5) if harsh else 0.0,
        watched=seed % 4 == 0,
        rates=_rates(seed, len(nodes), len(callers)),
    )


def _rates(seed: int, nodes: int, callers: int) -> dict[str, float]:
    """Have clocks run at different speeds, in three seeds of four."""
    dice = Random(f"clocks {seed}")  # noqa: S311 (dice of a game)
    if chance(dice, 0.25):
        return {}
    hosts = [f"n{number}" for number in range(nodes)] + [f"c{number}" for number in range(callers)]
    return {name: dice.choice((dice.uniform(1 - SKEW, 1 + SKEW), 1 - SKEW, 1 + SKEW)) for name in hosts}


def _node(dice: Random, *, first: bool) -> NodePlan:
    pools = {"shared": dice.choice((1, 1, 2, 4))}
    if chance(dice, 0.3):
        pools["own"] = dice.choice((1, 2))
    functions = {}
    for name in SECONDS:
        if first or chance(dice, 0.9):
            pool = "own" if "own" in pools and name == "slow" else "shared"
            functions[name] = (pool, OUR_VERSION if first or chance(dice, 0.85) else OTHER_VERSION)
    tags = tuple(tag for tag in TAGS if chance(dice, 0.5))
    return NodePlan(pools, functions, dice.choice((300, 1000, 3000)), tags, mortal=chance(dice, 0.5))


def _marshalled(dice: Random, nodes: list[NodePlan]) -> list[NodePlan]:
    """Have some functions of some nodes take and send something else than msgpack."""
    usual = {name: OTHER_MARSHALLER if chance(dice, 0.2) else "" for name in SECONDS}
    made = []
    for number, node in enumerate(nodes):
        functions = {}
        for name, (pool, version) in node.functions.items():
            odd = number > 0 and chance(dice, 0.1)
            functions[name] = (pool, version + (OTHER_MARSHALLER if bool(usual[name]) != odd else ""))
        made.append(replace(node, functions=functions))
    return made


def _aimed(dice: Random, job: Job, nodes: list[NodePlan]) -> Job:
    """Have a caller know the marshaller that the first node has, but for some of those that know only a name."""
    how = OTHER_MARSHALLER if nodes[0].functions[job.function][1].endswith(OTHER_MARSHALLER) else ""
    return job if job.by_name and chance(dice, 0.5) else replace(job, fingerprint=job.fingerprint + how)


def _jobs(
    dice: Random, how: Random, nodes: list[NodePlan], callers: list[float], faults: bool, heal_at: float
) -> list[Job]:
    jobs: list[Job] = []
    budget = 4.0 * sum(sum(node.pools.values()) for node in nodes)
    killers = dice.choice((1, 1, 2)) if faults and chance(dice, 0.3) else 0
    while len(jobs) < JOBS_LEAST:
        caller = len(jobs) % len(callers) if len(jobs) < JOBS_LEAST / 4 else dice.randrange(len(callers))
        at = callers[caller] + (dice.uniform(0, 2) if chance(dice, 0.3) else dice.uniform(0, heal_at - 6))
        function = dice.choice(list(SECONDS))
        for _ in range(dice.choice((1, 3, 10, 30, 60))):
            job = _job(dice, f"t{len(jobs)}", caller, function if chance(dice, 0.9) else "quick", at)
            if job.seconds > LONG:
                if budget < job.seconds:
                    job = replace(job, seconds=0.01)
                budget -= job.seconds
            if killers and chance(dice, 0.03) and not job.at_most_once:
                killers -= 1
                job = replace(job, killer=True, cancel_after=None)
            job = _aimed(how, job, nodes)
            jobs.append(_bound(dice, job, nodes) if chance(dice, 0.1) else job)
    for caller in range(len(callers)):
        late = [_job(dice, f"l{caller}.{n}", caller, "steady", heal_at + dice.uniform(0, 1)) for n in range(5)]
        jobs += [_aimed(how, job, nodes) for job in late]
    return jobs


def _bearable(jobs: list[Job], nodes: list[NodePlan]) -> list[Job]:
    """Have no more long tasks of a function than its workers can do in the minute that they have in the end."""
    left = {
        name: BEARABLE * sum(node.pools[node.functions[name][0]] for node in nodes if name in node.functions)
        for name in SECONDS
    }
    made = []
    for job in jobs:
        if job.seconds > LONG:
            left[job.function] -= job.seconds
        made.append(replace(job, seconds=0.01) if job.seconds > LONG and left[job.function] < 0 else job)
    return made


def _with_refusals(seed: int, jobs: list[Job]) -> list[Job]:
    """Have workers refuse some tasks, in one seed of two; by dice of its own, so that the rest stays as it was."""
    dice = Random(f"refusals {seed}")  # noqa: S311 (dice of a game)
    if chance(dice, 0.5):
        return jobs
    return [replace(job, refusals=dice.choice((1, 1, 2))) if chance(dice, 0.03) else job for job in jobs]


def _job(dice: Random, id: str, caller: int, function: str, at: float) -> Job:
    seconds = SECONDS[function] * dice.uniform(0.5, 2)
    if chance(dice, 0.02):
        seconds = dice.uniform(0.1, 4)
    cancel_after = None
    if chance(dice, 0.04):
        cancel_after = dice.choice((0.0, dice.uniform(0, 0.1), dice.uniform(0, 3)))
    time_limit = None
    if seconds > LONG and chance(dice, 0.3):
        time_limit = seconds * dice.choice((0.3, 0.8, 3.0))
    return Job(
        id=id,
        caller=caller,
        function=function,
        at=at + dice.uniform(0, 0.05) if chance(dice, 0.5) else at,
        seconds=seconds,
        at_most_once=chance(dice, 0.15),
        monitor_progress=chance(dice, 0.15),
        watched=chance(dice, 0.03),
        buffers=(id.encode() * 3, b"") if chance(dice, 0.05) else (),
        fingerprint=OUR_VERSION if chance(dice, 0.3) else "",
        cancel_after=cancel_after,
        stop=chance(dice, 0.5),
        time_limit=time_limit,
    )


def _on_terms(seed: int, jobs: list[Job]) -> list[Job]:
    """Have some tasks wait, expire, fail, be tried again, and go first or last; in two seeds of three."""
    dice = Random(f"terms {seed}")  # noqa: S311 (dice of a game)
    if chance(dice, 0.33):
        return jobs
    share = dice.choice((0.05, 0.2, 0.6))
    return [replace(job, **_terms(dice)) if not job.killer and chance(dice, share) else job for job in jobs]


def _streams(seed: int, jobs: list[Job]) -> list[Job]:
    """Have some tasks yield values, to quick readers and slow ones; in one seed of two."""
    dice = Random(f"streams {seed}")  # noqa: S311 (dice of a game)
    if chance(dice, 0.5):
        return jobs
    made = []
    for job in jobs:
        if job.killer or job.ignore_report or not chance(dice, 0.05):
            made.append(job)
            continue
        values = dice.choice((0, 1, 3, 30, 100, 300))
        reads = dice.choice((0.0, 0.0, 0.001, min(0.5, 4.0 / (values + 1))))
        never = not values or (job.time_limit or 0.0) > job.seconds  # or a slow reader would make it too long
        limit = None if never else job.time_limit
        made.append(replace(job, stream=True, values=values, reads=reads, buffers=(), time_limit=limit))
    return made


def _terms(dice: Random) -> dict[str, Any]:
    terms: dict[str, Any] = {}
    if chance(dice, 0.3):
        terms["delay"] = dice.choice((0.001, dice.uniform(0, 1), dice.uniform(0, 5)))
    if chance(dice, 0.3):
        terms["expires"] = terms.get("delay", 0.0) + dice.choice((0.0005, dice.uniform(0.001, 0.1), 3.0))
    if chance(dice, 0.4):
        terms["fails"] = dice.choice((1, 1, 2, 4))
    if chance(dice, 0.5):
        lost, refused = dice.choice((None, None, 0, 2)), dice.choice((None, None, 2))
        backoff = dice.choice((0.0, 0.01, 0.3))
        terms["retries"] = Retries(dice.choice((0, 1, 3)), lost, refused, backoff, most=1.0)
    if chance(dice, 0.3):
        terms["priority"] = dice.choice((-5, -1, 1, 1, 2, 9))
    terms["ignore_report"] = chance(dice, 0.1)
    return terms


def _bound(dice: Random, job: Job, nodes: list[NodePlan]) -> Job:
    """Have a task ask for a node that can take it, by name, id or tags."""
    fits = [
        number
        for number, node in enumerate(nodes)
        if job.function in node.functions and job.fits(node.functions[job.function][1])
    ]
    number = dice.choice(fits)
    if chance(dice, 0.5):
        return replace(job, node=dice.choice((f"n{number}", f"id-n{number}")))
    return replace(job, needs=nodes[number].tags)


def _faults(dice: Random, heal_at: float) -> list[Fault]:
    theme = dice.choices((COMMON, GENTLE, dice.sample(COMMON, 3)), (5, 1, 3))[0]
    kinds = [dice.choice(theme) for _ in range(dice.choice((2, 4, 6, 9, 12)))]
    if chance(dice, 0.15):
        kinds.append(dice.choice((Kind.CALLER_DIES, Kind.CALLER_LEAVES)))
    return [_fault(dice, kind, heal_at) for kind in kinds]


def _journals(
    seed: int, callers: int, heal_at: float, planned: list[Fault], jobs: list[Job]
) -> tuple[frozenset[int], list[Fault]]:
    """Have some callers keep a journal, be started again, and have a full disk; in one seed of two."""
    dice = Random(f"journals {seed}")  # noqa: S311 (dice of a game)
    if chance(dice, 0.5):
        return frozenset(), []
    mortal = any(fault.kind in (Kind.CALLER_DIES, Kind.CALLER_LEAVES) for fault in planned)
    chosen = frozenset(n for n in range(callers - mortal) if chance(dice, 0.6)) or frozenset((0,))
    number = dice.choice((0, 1, 1, 2, 4))
    restarts = [_fault(dice, Kind.CALLER_RESTARTS, heal_at) for _ in range(number)]
    dice = Random(f"disks {seed}")  # noqa: S311 (dice of a game)
    written = [job for job in jobs if job.caller in chosen and not job.stream and job.at < heal_at]
    number = dice.choice((0, 0, 1, 2)) if written else 0
    return chosen, restarts + [_full_disk(dice, sorted(chosen), written, heal_at) for _ in range(number)]


def _networks(
    seed: int, nodes: int, callers: int, heal_at: float, planned: list[Fault]
) -> tuple[dict[str, tuple[int, ...]], tuple[tuple[int, int], ...], list[Fault]]:
    """
    Have forwarders join two networks or three, in one seed of four: in a row, side by side, or in a ring.

    Some callers have a leg in all of them; what they reach directly may be reached by a forwarder for a while.
    """
    dice = Random(f"networks {seed}")  # noqa: S311 (dice of a game)
    if chance(dice, 0.75):
        return {}, (), []
    relays = dice.choice((((0, 1),), ((0, 1), (0, 1)), ((0, 1), (1, 2)), ((0, 1), (1, 2), (0, 2))))
    number = 1 + max(max(ends) for ends in relays)
    hosts = [f"n{n}" for n in range(nodes)] + [f"c{n}" for n in range(callers)]
    lans: dict[str, tuple[int, ...]] = {name: (dice.randrange(number),) for name in hosts}
    mortal = any(fault.kind in (Kind.CALLER_DIES, Kind.CALLER_LEAVES) for fault in planned)
    lans["n0"] = (0,)  # so that somebody needs a forwarder
    lans.update({f"c{n}": (number - 1,) for n in range(callers if mortal else 1)})
    falls = [_fault(dice, Kind.FORWARDER, heal_at) for _ in range(dice.choice((1, 1, 2, 4)))]
    if not mortal and callers > 1 and chance(dice, 0.5):
        lans["c1"] = tuple(range(number))
        falls += [_fault(dice, Kind.DETOUR, heal_at) for _ in range(dice.choice((1, 2, 3)))]
    return lans, relays, falls


def _full_disk(dice: Random, journals: list[int], jobs: list[Job], heal_at: float) -> Fault:
    """Fill a disk shortly before one of these tasks is to be written to it."""
    job, fault = dice.choice(jobs), _fault(dice, Kind.DISK_FULL, heal_at)
    return replace(fault, at=max(0.1, job.at - dice.uniform(0, 0.2)), caller=journals.index(job.caller))


def _fault(dice: Random, kind: Kind, heal_at: float) -> Fault:
    seconds = dice.choice((0.1, 0.5, 1.5, 3.0, 7.0, 12.0))
    if kind in (Kind.CLOG, Kind.SWIZZLE):
        seconds = dice.uniform(2.0 if kind is Kind.SWIZZLE else 0.1, 5.0)
    if kind in (Kind.HOG_NODE, Kind.HOLE_DOWN, Kind.HOLE_UP, Kind.STUCK, Kind.DISK_FULL) and chance(dice, 0.3):
        seconds = dice.uniform(12, heal_at)
    return Fault(
        kind=kind,
        at=dice.uniform(0.5, heal_at - 6),
        seconds=seconds,
        node=dice.randrange(1000),
        caller=dice.randrange(1000),
        breaks=chance(dice, 0.7),
        message=dice.choice(MESSAGES) if kind is Kind.LOSE else "",
    )


def _minute(dice: Random) -> Fault:
    """The GIL is held for a minute, somewhere."""
    kind = dice.choice((Kind.HOG_NODE, Kind.HOG_CALLER))
    at, seconds = dice.uniform(2, 15), dice.uniform(55, 70)
    return Fault(kind, at, seconds, dice.randrange(1000), dice.randrange(1000))
