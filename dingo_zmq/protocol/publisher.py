"""What a node says to callers and to whoever watches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dingo_zmq.events import EventCode, Level
from dingo_zmq.model import BODY_LIMIT, Status, check_node_name, check_part
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire
from dingo_zmq.protocol.intake import NEVER, QUEUED, RUNNING, Answer, Function, Held, Lane, Link
from dingo_zmq.protocol.starter import Bundle, Starter

FRAME_REPORTS = 64
FRAME_BYTES = 256 * 1024
TOPIC_MOST = 2500
"""bytes that no topic has: three parts of 200 characters, and what is between them"""


@dataclass(frozen=True, slots=True)
class Identity:
    """
    Who a node is; `pace` is the relative speed of its machine, `limit` its largest body in bytes.

    Raises:
        UsageError: for a name or tag that cannot be one.
    """

    node: str
    incarnation: bytes
    name: str
    mesh: str
    tags: tuple[str, ...] = ()
    limit: int = BODY_LIMIT
    pace: int = 1000

    def __post_init__(self) -> None:
        check_node_name("the name of a node", self.name)
        for tag in self.tags:
            check_part("a tag", tag)


@dataclass(slots=True)
class Publish:
    """Publish a message; tell `Node.unpublished` where the socket refuses it."""

    topic: bytes
    message: m.Message
    buffers: tuple[Any, ...] = ()
    answers: list[Answer] = field(default_factory=list)


@dataclass(slots=True)
class Start:
    """Give a bundle to a worker of the pool `bundle.function.pool`."""

    bundle: Bundle


@dataclass(slots=True)
class Note:
    """Something that happened, for the log and for whoever listens; `caller` is whom it is about."""

    text: str
    caller: str = ""
    level: Level = Level.INFO
    code: EventCode = EventCode.GENERIC


@dataclass(slots=True)
class Interrupt:
    """Nobody wants the result of a running task any more: tell its function, if it can be told."""

    held: Held


@dataclass(slots=True)
class Overrun:
    """The one task of this bundle has run for longer than it may; answer with `Node.overran`."""

    bundle: Bundle
    held: Held


@dataclass(slots=True)
class Resume:
    """The reader of a stream that is held has taken so many of its values in all."""

    held: Held
    taken: int


Action = Publish | Start | Note | Interrupt | Overrun | Resume


class Publisher:
    """
    Puts into messages what a node has to say.

    Args:
        identity: who the node is.
        functions: what it serves, by name.
        starter: knows what runs.
        links: the callers there are, by token; somebody else keeps them.

    Attributes:
        out: what is to be done, in order.
        draining: whether the node takes no more tasks.
        done: tasks finished since its start.
        watches: how many subscribe to each prefix of the topics `watch/...`.
    """

    def __init__(
        self,
        identity: Identity,
        functions: Mapping[str, Function],
        starter: Starter,
        links: Mapping[bytes, Link],
        now: float,
    ) -> None:
        self.identity, self.functions = identity, functions
        self.out: list[Action] = []
        self.draining = False
        self.done = 0
        self._starter, self._links, self._began = starter, links, now
        self.watches: dict[bytes, int] = {}
        self._lengths: Counter[int] = Counter()  # of the prefixes in `watches`: however many, few lengths differ

    def watch(self, prefix: bytes, wanted: bool) -> None:
        """Somebody subscribes to (or leaves) a prefix of the topics `watch/...`."""
        if len(prefix) > TOPIC_MOST:
            return  # no topic begins so
        before = self.watches.get(prefix, 0)
        count = before + (1 if wanted else -1)
        if count > 0:
            self.watches[prefix] = count
            self._lengths[len(prefix)] += not before
        elif self.watches.pop(prefix, None):
            self._lengths[len(prefix)] -= 1
            if not self._lengths[len(prefix)]:
                del self._lengths[len(prefix)]

    @property
    def held(self) -> int:
        """How many tasks the node holds in all."""
        return sum([function.held for function in self.functions.values()])

    # ------------------------------------------------------------------ messages to a caller

    def welcome(self, link: Link, echo: int, now: float) -> None:
        """The link stands; who the node is."""
        me = self.identity
        links, taken_over = len(self._links), link.base != link.token
        if not self.draining:
            link.begin(links, now)
        self.tell(
            link,
            m.Welcome(
                link=link.token,
                echo=echo,
                node=me.node,
                incarnation=me.incarnation,
                name=me.name,
                mesh=me.mesh,
                tags=list(me.tags),
                limit=me.limit,
                functions=link.told(),
                version=m.VERSION,
                pace=me.pace,
                credit={name: lane.granted for name, lane in link.lanes.items()},
                draining=self.draining,
                base=link.base if taken_over else b"",
                seen={name: lane.seen for name, lane in link.lanes.items() if lane.seen} if taken_over else {},
            ),
        )

    def refuse(self, caller: str, token: bytes, reason: str, text: str) -> None:
        """There is no such link."""
        message = m.Refused(token, reason, text, [m.VERSION])
        self.out.append(Publish(f"{caller}/".encode(), message))

    def tell(self, link: Link, message: m.Message) -> None:
        """Publish a message to one caller."""
        self.out.append(Publish(f"{link.caller}/".encode(), message))

    def credit(self, link: Link, echo: int, now: float) -> None:
        """Credit and load, and what may have started; `echo` is the number of a BEAT, 0 for none."""
        may_run = [h for b in self._starter.active for h in b.all if h.link is link and h.state is RUNNING]
        may_run += [h for h in link.all_held() if h.go and h.state is QUEUED]
        message = m.Credit(
            link=link.token,
            echo=echo,
            lanes=self._lanes(link, link.lanes.values(), now),
            load=self._load(link),
            running=refs_of(may_run),
            draining=self.draining,
        )
        self.tell(link, message)

    def _lanes(self, link: Link, lanes: Iterable[Lane], now: float) -> dict[str, tuple[int, int]]:
        told = {}
        for lane in lanes:
            granted = lane.granted if self.draining else link.credit(lane, now)
            seconds = lane.function.run_time.estimate(now)
            told[lane.function.name] = (granted, 0 if seconds is None else max(1, int(seconds * 1e9)))
        return told

    def _load(self, link: Link) -> tuple[int, int]:
        return self.held, max(0, link.running)

    # ------------------------------------------------------------------ reports

    def reports(self, link: Link, now: float) -> None:
        """Publish the answers of a link that are ready."""
        while link.pending:
            self.publish(link, self._next_frame(link), now)

    def _next_frame(self, link: Link) -> list[Answer]:
        pending = link.pending
        first = pending.popleft()
        group, size = [first], len(first.item[5])
        if first.buffers:
            return group
        while pending and len(group) < FRAME_REPORTS:
            answer = pending[0]
            size += len(answer.item[5])
            if answer.buffers or size > FRAME_BYTES:
                break
            group.append(pending.popleft())
        return group

    def publish(self, link: Link, group: list[Answer], now: float) -> None:
        """Publish answers as one message."""
        first = group[0]
        name = first.item[1]
        lanes = [link.lanes[name]]
        if len(group) == 1:
            topic = wire.task_topic(link.caller, name, first.id)
        else:
            names = dict.fromkeys([answer.item[1] for answer in group])
            lanes = [link.lanes[n] for n in names]
            topic = f"{link.caller}/{name}/".encode() if len(names) == 1 else f"{link.caller}/".encode()
        items = [answer.item for answer in group]
        message = m.Reports(link.token, self._lanes(link, lanes, now), self._load(link), items)
        self.out.append(Publish(topic, message, first.buffers, group))
        if self.watches:
            for answer in group:
                if answer.at == NEVER:
                    self._copy(link.caller, answer.id, answer.item, answer.buffers)
        for answer in group:
            answer.at = now

    def told(self, held: Held, status: Status, body: bytes) -> None:
        """Publish a report that is not final, to whoever wants to know."""
        link, name = held.link, held.lane.function.name
        item = (0, name, held.number, held.attempt, int(status), body)
        if held.options.monitor_progress:
            message = m.Reports(link.token, {}, self._load(link), [item])
            self.out.append(Publish(wire.task_topic(link.caller, name, held.id), message))
        if self.watches:
            self._copy(link.caller, held.id, item, ())

    def _copy(
        self, caller: str, id: str, item: tuple[int, str, int, int, int, bytes], buffers: tuple[Any, ...]
    ) -> None:
        topic = b"watch/" + wire.task_topic(caller, item[1], id)
        watches = self.watches
        if any(topic[:length] in watches for length in self._lengths):
            self.out.append(Publish(topic, m.Reports(bytes(8), {}, (0, 0), [item]), buffers))

    def pulse(self, now: float) -> None:
        """Publish the load, for people who watch."""
        busy, held = self._starter.running(), self.held
        running = sum(1 for b in self._starter.active for h in b.all if h.state is RUNNING)
        me = self.identity
        pulse = m.Pulse(me.name, busy, max(0, held - running), self.done, int(now - self._began))
        self.out.append(Publish(wire.pulse_topic(me.node), pulse))


def refs_of(tasks: Iterable[Held]) -> dict[str, list[int]]:
    """Return tasks as refs."""
    refs: dict[str, list[int]] = {}
    for held in tasks:
        refs.setdefault(held.lane.function.name, []).append(held.number)
    return refs
