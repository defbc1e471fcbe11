"""What a node makes of what callers send and workers finish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dingo_zmq.errors import UsageError
from dingo_zmq.model import BODY_LIMIT, Status, check_part
from dingo_zmq.protocol import credit, wire
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.intake import (
    ASKING_SECONDS,
    NEVER,
    QUEUED,
    RUNNING,
    Answer,
    Function,
    Held,
    Lane,
    Link,
)
from dingo_zmq.protocol.starter import Bundle, Starter

FORGET_SECONDS = 60.0
DEAF_SECONDS = 5.0
PULSE_SECONDS = 1.0
FRAME_REPORTS = 64
FRAME_BYTES = 256 * 1024
BURIED_MOST = 4096


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node is; `pace` is the relative speed of its machine, `limit` its largest body in bytes."""

    node: str
    incarnation: bytes
    name: str
    mesh: str
    tags: tuple[str, ...] = ()
    limit: int = BODY_LIMIT
    pace: int = 1000


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
    """Something a person may want to read in a log."""

    text: str
    caller: str = ""


Action = Publish | Start | Note


class Node:
    """
    A node: takes tasks in, has them started, keeps answers until they are heard.

    Args:
        identity: who it is.
        functions: what it serves; `Function.pool` names one of `pools`.
        pools: number of workers of each pool.
        now: when it started.

    Every method takes `now`, monotonic seconds, last.  What is to be done is appended to `out`; the doer
    takes it with `take()`.
    """

    def __init__(
        self, identity: Identity, functions: Iterable[Function], pools: Mapping[str, int], now: float
    ) -> None:
        self.identity = identity
        self.functions = {function.name: function for function in functions}
        self.starter = Starter(dict(pools))
        self.links: dict[bytes, Link] = {}
        self.by_caller: dict[str, Link] = {}
        self.draining = False
        self.done = 0
        self._began = now
        self._next_pulse = self._ticked = now
        self._dirty: dict[Link, None] = {}
        self._watches: dict[bytes, int] = {}
        self._buried: dict[bytes, None] = {}  # links that were forgotten: a late HELLO must not begin them anew
        self.out: list[Action] = []
        self._handlers: dict[type, Callable[[Link, Any, float], None]] = {
            m.Beat: self._beat,
            m.Cancel: self._cancel,
            m.Recall: self._recall,
            m.Go: self._go,
            m.Bye: self._bye,
        }

    # ------------------------------------------------------------------ for the doer

    def take(self) -> list[Action]:
        """Return what is to be done, in order."""
        out, self.out = self.out, []
        return out

    @property
    def wakeup(self) -> float:
        """The next moment at which `tick` would do something."""
        reclaim = self.starter.wakeup
        return self._next_pulse if reclaim is None else min(self._next_pulse, reclaim)

    @property
    def held(self) -> int:
        """How many tasks it holds in all."""
        return sum([function.held for function in self.functions.values()])

    @property
    def drained(self) -> bool:
        """Whether nothing runs and nothing is kept."""
        alive = self._ticked - DEAF_SECONDS  # nobody will hear what is kept for a caller silent for longer
        return not self.starter.active and not any(k.kept and k.touched >= alive for k in self.links.values())

    def received(self, message: Any, buffers: tuple[Any, ...], now: float) -> None:
        """A caller sent a message (as `wire.decode_caller` returns it)."""
        if type(message) is m.Hello:
            self._hello(message, now)
            return
        link = self.links.get(message.link)
        if link is None:
            if type(message) is m.Tasks or type(message) is m.Beat:
                self._refuse(message.caller, message.link, m.REFUSED_UNKNOWN, "this node knows no such link")
            return
        link.touched = now
        link.proved = True
        if type(message) is m.Tasks:
            self._tasks(link, message, buffers, now)
        else:
            self._handlers[type(message)](link, message, now)
        self._start(now)

    def subscribed(self, caller: str, now: float) -> None:
        """A caller's subscription has arrived: say again what it may have missed."""
        link = self.by_caller.get(caller)
        if link is not None and not link.proved:
            self._welcome(link, link.hello, now)

    def watch(self, prefix: bytes, wanted: bool) -> None:
        """Somebody subscribes to (or leaves) a prefix of the topics `watch/...`."""
        count = self._watches.get(prefix, 0) + (1 if wanted else -1)
        if count > 0:
            self._watches[prefix] = count
        else:
            self._watches.pop(prefix, None)

    def finished(
        self,
        bundle: Bundle,
        answers: list[tuple[Held, int, bytes, tuple[Any, ...]]],
        seconds: float,
        ended: bool,
        now: float,
    ) -> None:
        """
        A worker has finished tasks of its bundle.

        Args:
            bundle: as it came with `Start`.
            answers: task, status (SUCCESS or FAIL), body and buffers of each.
            seconds: what they took together.
            ended: whether the worker is free again.
        """
        dirty = self._dirty
        for held, status, body, buffers in answers:
            link = held.link
            link.answer(held, status, body, buffers)
            dirty[link] = None
        if answers:
            self.done += len(answers)
            self.starter.progressed(bundle, len(answers), seconds, now)
        if ended:
            self.starter.ended(bundle)
            self._start(now)

    def progressed(self, held: Held, body: bytes, now: float) -> None:
        """A function told of its progress."""
        if not held.link.dead and held.state is RUNNING:
            self._tell(held, Status.PROGRESS, body, now)

    def flush(self, now: float) -> None:
        """Publish the answers that are ready; called once per round of the I/O loop."""
        dirty, self._dirty = self._dirty, {}
        for link in dirty:
            while link.pending:
                self._publish(link, self._next_frame(link), now)

    def unpublished(self, refused: Publish) -> None:
        """The socket refused a message: what it carried counts as not published."""
        for answer in refused.answers:
            answer.at = NEVER

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._ticked = now
        self.starter.reclaim(now)
        if now >= self._next_pulse:
            self._next_pulse = now + PULSE_SECONDS
            for link in [k for k in self.links.values() if now - k.touched > FORGET_SECONDS]:
                self._forget(link)
                self.out.append(Note("forgotten after a minute of silence", link.caller))
            self._pulse(now)
        self._start(now)

    def drain(self, now: float) -> None:
        """Take no more tasks, give back what has not started, and let the rest finish."""
        if self.draining:
            return
        self.draining = True
        self.starter.reclaim_all()
        for link in self.links.values():
            self._give_back(link, list(_all_held(link)), m.DRAINING)
            self._credit(link, 0, now)

    # ------------------------------------------------------------------ messages

    def _hello(self, hello: m.Hello, now: float) -> None:
        try:
            check_part("caller", hello.caller)
        except UsageError:
            return
        link = self.links.get(hello.link)
        refusal = self._objection(hello, link)
        if refusal:
            self._refuse(hello.caller, hello.link, *refusal)
            return
        if link is None:
            older = self.by_caller.get(hello.caller)
            if older is not None:
                if hello.number <= older.hello:
                    return
                self._forget(older)
            link = Link(hello.link, hello.caller, self.functions.values(), now)
            self.links[link.token] = self.by_caller[link.caller] = link
        link.touched = now
        link.hello = max(link.hello, hello.number)
        self._welcome(link, hello.number, now)

    def _objection(self, hello: m.Hello, link: Link | None) -> tuple[str, str] | None:
        me = self.identity
        if m.VERSION not in hello.versions:
            return m.REFUSED_VERSION, f"{me.name} speaks protocol version {m.VERSION}, not {hello.versions}"
        if hello.mesh != me.mesh:
            return m.REFUSED_MESH, f"{me.name} belongs to mesh {me.mesh!r}, not {hello.mesh!r}"
        believed = hello.incarnation
        if (believed and (link is None or believed != me.incarnation)) or hello.link in self._buried:
            return m.REFUSED_UNKNOWN, "this node knows no such link"
        return None

    def _welcome(self, link: Link, echo: int, now: float) -> None:
        me = self.identity
        links = len(self.links)
        for lane in link.lanes.values():
            if not self.draining:
                lane.granted = max(lane.granted, credit.first_grant(lane.function.slots, links))
        self._publish_to(
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
                functions={f.name: f.told for f in self.functions.values()},
                version=m.VERSION,
                pace=me.pace,
                credit={name: lane.granted for name, lane in link.lanes.items()},
                draining=self.draining,
            ),
        )

    def _tasks(self, link: Link, tasks: m.Tasks, buffers: tuple[Any, ...], now: float) -> None:
        link.heard(tasks.heard)
        for name, wanted in tasks.wanted.items():
            lane = link.lanes.get(name)
            if lane is not None and wanted:
                lane.wants_until = now + ASKING_SECONDS
        taken, refused = link.accept(tasks.items, buffers)
        for reason, refs in refused.items():
            self._publish_to(link, m.Recalled(link.token, refs, reason))
        if self.draining:
            self._give_back(link, taken, m.DRAINING)
            return
        self.starter.add(taken)
        for held in taken:
            if held.options.monitor_progress or self._watches:
                self._tell(held, Status.SENT, b"", now)

    def _beat(self, link: Link, beat: m.Beat, now: float) -> None:
        if beat.incarnation != self.identity.incarnation:
            self._refuse(link.caller, link.token, m.REFUSED_UNKNOWN, "the link is another incarnation's")
            return
        link.heard(beat.heard)
        link.previous_beat, link.last_beat = link.last_beat, now
        for name, (last, _, wanted) in beat.lanes.items():
            lane = link.lanes.get(name)
            if lane is not None:
                lane.seen = max(lane.seen, last)
                lane.wants_until = now + ASKING_SECONDS if wanted else NEVER
        missing, left = link.lost_and_left(beat.lanes, beat.open)
        for held in left:
            self._stop(held)
        for answer in link.stale_answers():
            self._publish(link, [answer], now)
        if missing:
            self._publish_to(link, m.Missing(link.token, missing))
        self._credit(link, beat.number, now)

    def _cancel(self, link: Link, cancel: m.Cancel, now: float) -> None:
        for held in link.find(cancel.refs):
            self._stop(held)

    def _recall(self, link: Link, recall: m.Recall, now: float) -> None:
        self._give_back(link, link.find(recall.refs), m.GIVEN_BACK)

    def _go(self, link: Link, go: m.Go, now: float) -> None:
        for held in link.find(go.refs):
            if held.state is QUEUED:
                self.starter.go(held)

    def _bye(self, link: Link, bye: m.Bye, now: float) -> None:
        self._forget(link)

    # ------------------------------------------------------------------ inside

    def _start(self, now: float) -> None:
        starter = self.starter
        for held in starter.claims(now):
            self._publish_to(held.link, m.Claim(held.link.token, _refs([held])))
        for bundle in starter.start(now):
            self.out.append(Start(bundle))
            for held in bundle.all:
                if held.options.monitor_progress or self._watches:
                    self._tell(held, Status.PROGRESS, b"", now)

    def _stop(self, held: Held) -> None:
        if held.state is QUEUED:
            self.starter.forget(held)
            held.link.drop(held)
        else:
            held.cancelled = True

    def _give_back(self, link: Link, tasks: list[Held], reason: str) -> None:
        back = [held for held in tasks if held.state is QUEUED]
        for held in back:
            self._stop(held)
        if back:
            self._publish_to(link, m.Recalled(link.token, _refs(back), reason))

    def _forget(self, link: Link) -> None:
        self.links.pop(link.token, None)
        self._buried[link.token] = None
        if len(self._buried) > BURIED_MOST:
            del self._buried[next(iter(self._buried))]
        if self.by_caller.get(link.caller) is link:
            del self.by_caller[link.caller]
        for held in link.bury():
            self._stop(held)

    def _refuse(self, caller: str, token: bytes, reason: str, text: str) -> None:
        message = m.Refused(token, reason, text, [m.VERSION])
        self.out.append(Publish(f"{caller}/".encode(), message))

    def _publish_to(self, link: Link, message: m.Message) -> None:
        self.out.append(Publish(f"{link.caller}/".encode(), message))

    def _lanes(self, link: Link, lanes: Iterable[Lane], now: float) -> dict[str, tuple[int, int]]:
        told = {}
        for lane in lanes:
            granted = lane.granted if self.draining else link.credit(lane, now)
            seconds = lane.function.run_time.estimate(now)
            told[lane.function.name] = (granted, 0 if seconds is None else max(1, int(seconds * 1e9)))
        return told

    def _load(self, link: Link) -> tuple[int, int]:
        return self.held, max(0, link.running)

    def _credit(self, link: Link, echo: int, now: float) -> None:
        may_run = [h for b in self.starter.active for h in b.all if h.link is link and h.state is RUNNING]
        may_run += [h for h in _all_held(link) if h.go and h.state is QUEUED]
        message = m.Credit(
            link=link.token,
            echo=echo,
            lanes=self._lanes(link, link.lanes.values(), now),
            load=self._load(link),
            running=_refs(may_run),
            draining=self.draining,
        )
        self._publish_to(link, message)

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

    def _publish(self, link: Link, group: list[Answer], now: float) -> None:
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
        if self._watches:
            for answer in group:
                if answer.at == NEVER:
                    self._copy(link.caller, answer.id, answer.item, answer.buffers)
        for answer in group:
            answer.at = now

    def _tell(self, held: Held, status: Status, body: bytes, now: float) -> None:
        link, name = held.link, held.lane.function.name
        item = (0, name, held.number, held.attempt, int(status), body)
        if held.options.monitor_progress:
            message = m.Reports(link.token, {}, self._load(link), [item])
            self.out.append(Publish(wire.task_topic(link.caller, name, held.id), message))
        if self._watches:
            self._copy(link.caller, held.id, item, ())

    def _copy(
        self, caller: str, id: str, item: tuple[int, str, int, int, int, bytes], buffers: tuple[Any, ...]
    ) -> None:
        topic = b"watch/" + wire.task_topic(caller, item[1], id)
        if any(topic.startswith(prefix) for prefix in self._watches):
            self.out.append(Publish(topic, m.Reports(bytes(8), {}, (0, 0), [item]), buffers))

    def _pulse(self, now: float) -> None:
        busy, held = self.starter.running(), self.held
        running = sum(1 for b in self.starter.active for h in b.all if h.state is RUNNING)
        me = self.identity
        pulse = m.Pulse(me.name, busy, max(0, held - running), self.done, int(now - self._began))
        self.out.append(Publish(wire.pulse_topic(me.node), pulse))


def _all_held(link: Link) -> Iterable[Held]:
    return (held for lane in link.lanes.values() for held in lane.held.values())


def _refs(tasks: Iterable[Held]) -> dict[str, list[int]]:
    refs: dict[str, list[int]] = {}
    for held in tasks:
        refs.setdefault(held.lane.function.name, []).append(held.number)
    return refs
