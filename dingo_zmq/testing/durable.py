"""A caller with a journal in the simulated world: it dies, loses what was not written, and goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from dingo_zmq.journal import End, Hold
from dingo_zmq.mesh.durable import end_of, holder_of, take_up
from dingo_zmq.mesh.recorder import Recorder
from dingo_zmq.protocol import caller as calling
from dingo_zmq.protocol.former import Holder
from dingo_zmq.protocol.ledger import Entry, Route
from dingo_zmq.protocol.terms import Terms
from dingo_zmq.testing.hosts import MESH, TICK_LEAST, CallerHost, read_failure
from dingo_zmq.testing.node_host import NodeHost
from dingo_zmq.testing.plan import Job
from dingo_zmq.testing.scene import Scene

WRITE_SECONDS = (0.0001, 0.001, 0.001, 0.01, 0.3)
"""what writing to the journal takes"""
RETRY_SECONDS = 0.2
"""a full disk is tried again"""
BACK_SECONDS = 0.5
"""a program that is down calls later"""


class Paper:
    """
    A journal on paper: what is written takes its time, in order, and what is not written at a crash is lost.

    Attributes:
        calls, holds, ends: what is written, by record.
        anew: what was written anew for another marshaller, by record: the fingerprint.
        full: by how many faults its disk is full.
        put_off: how often something could not be written since it was.
        trouble: why it cannot be written, or "".
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.calls: dict[int, Job] = {}
        self.anew: dict[int, str] = {}
        self.holds: dict[int, Hold] = {}
        self.ends: dict[int, End] = {}
        self._orders: deque[tuple[Callable[[], None], Callable[[], None] | None]] = deque()
        self._crashes = self.full = self.put_off = 0

    @property
    def trouble(self) -> str:
        """Why it cannot be written, or ""."""
        return "database or disk is full" if self.full else ""

    def note(
        self,
        *,
        holds: Iterable[Hold] = (),
        ends: Iterable[End] = (),
        then: Callable[[], None] | None = None,
    ) -> None:
        """Write soon what happened to tasks."""
        rows, last = list(holds), list(ends)

        def write() -> None:
            self.holds.update((hold.record, hold) for hold in rows)
            for end in last:
                self.ends[end.record] = end
                self.holds.pop(end.record, None)

        self._order(write, then)

    def record(self, number: int, job: Job, then: Callable[[], None]) -> None:
        """Write soon that a task is called."""
        self._order(partial(self.calls.__setitem__, number, job), then)

    def write_anew(self, number: int, fingerprint: str) -> None:
        """Write soon for whom the arguments of a task are."""
        self._order(partial(self.anew.__setitem__, number, fingerprint), None)

    def let_go(self, record: int) -> None:
        """The program has what came of a task."""
        for rows in (self.calls, self.holds, self.ends, self.anew):
            rows.pop(record, None)

    def crash(self) -> None:
        """Lose what is not written."""
        self._orders.clear()
        self._crashes += 1

    def _order(self, write: Callable[[], None], then: Callable[[], None] | None) -> None:
        self.put_off += bool(self.full)
        self._orders.append((write, then))
        if len(self._orders) == 1:
            self._write_later()

    def _write_later(self) -> None:
        seconds = RETRY_SECONDS if self.full else self._scene.dice.choice(WRITE_SECONDS)
        self._scene.after(seconds, self._write_all, self._crashes)

    def _write_all(self, crashes: int) -> None:
        if crashes != self._crashes:
            return
        if self.full:
            self._write_later()
            return
        orders = list(self._orders)
        for write, _ in orders:
            write()
        for _ in orders:
            self._orders.popleft()
        if self._orders:
            self._write_later()
        for _, then in orders:
            if then is not None and crashes == self._crashes:
                then()


class DurableHost(CallerHost):
    """
    The doer around a `Caller` with a journal.

    Attributes:
        up: whether its process lives; `dead` is for good.
        paper: its journal.
    """

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        self.up = True
        self.paper = Paper(scene)
        self._life = self._records = 0
        self._begin()

    # ------------------------------------------------------------------ what happens to it

    def submit(self, job: Job) -> None:
        """A program calls a function; the task is accepted when that is written."""
        if not self.up and not self.dead:
            self.scene.after(BACK_SECONDS, self.submit, job)
        elif self.dead or job.stream:
            super().submit(job)
        else:
            self._records += 1
            self.paper.record(self._records, job, partial(self._accepted, self._records, job))

    def _accepted(self, record: int, job: Job) -> None:
        if not self.dead:
            self._accept(job, record)

    def crash(self) -> bool:
        """Its process dies; return whether it was alive."""
        if self.dead or not self.up:
            return False
        self.up = False
        self.forget()
        self.paper.crash()
        history = self.scene.history
        mine = [e for e in history.accepted.values() if e.result.caller == self.number]
        for entry in [e for e in mine if not history.endings.get(e.id)]:
            if entry.record not in self.paper.ends:  # else it was stopped for good, though nobody was told
                history.stopped.pop(entry.id, None)
            if entry.record in self.paper.calls:
                history.carried_over[entry.id] += 1
            else:
                del history.accepted[entry.id]
        for connection in self.scene.network.of(self.name, ""):
            self.scene.network.close(self.name, connection.key)
        return True

    def restart(self) -> None:
        """Its program is started again."""
        if self.up or self.dead:
            return
        self.up = True
        self._begin()
        for node in self.scene.nodes.values():
            self.scene.after(self.scene.dice.uniform(0, 1.0), self.found, node.name)

    def rouse(self) -> None:
        """End its sleep, or have it started again."""
        super().rouse()
        self.restart()

    @property
    def number(self) -> int:
        """Which of the callers it is."""
        return int(self.name[1:])

    # ------------------------------------------------------------------ doing

    def _begin(self) -> None:
        """Begin a life with what the journal has."""
        self._life += 1
        self.start_clock()
        scene, paper = self.scene, self.paper
        self.caller = scene.callers[self.name] = calling.Caller(
            self.name, MESH, scene.dice, read_failure, self._life
        )
        self._route = self._place = None
        self._expressed.clear()
        self._refused.clear()
        self._tick_at = self._look_at = float("inf")
        self._ticks += 1
        life = self._life
        self._recorder: Recorder = Recorder(self.caller, self.paper, lambda: self._written(life))  # type: ignore[arg-type]
        waiting: list[Entry] = []
        held: list[tuple[Entry, Holder]] = []
        for record, job in list(paper.calls.items()):
            end, hold = paper.ends.get(record), paper.holds.get(record)
            entry = self._entry(job)
            entry.record = record
            if record in paper.anew:
                entry.route = entry.route._replace(fingerprint=paper.anew[record])
                entry.body = job.written(entry.route.fingerprint)
            scene.history.accepted[job.id] = entry
            if end is not None:
                end_of(entry, end)
                scene.history.settled([entry], end.node)
                paper.let_go(record)
                continue
            if entry.terms is not None:
                entry.terms = Terms(entry.options, scene.now - scene.history.called[job.id])
            if hold is not None:
                take_up(entry, hold)
            if hold is not None and hold.base:
                held.append((entry, holder_of(hold)))
            else:
                waiting.append(entry)
        if life > 1:
            scene.history.returned(self.name, self._answered(held))
        self.caller.resume(waiting, held, self.now)
        self._perform()

    def _answered(self, held: list[tuple[Entry, Holder]]) -> dict[str, tuple[str, int]]:
        """Return which tasks have succeeded where the journal looks for them, and the incarnations there."""
        found = {}
        for entry, hold in held:
            name, life = self.scene.history.lives[hold.incarnation]
            node = self.scene.nodes[name]
            if not isinstance(node, NodeHost) or node.life != life:
                continue
            if node.has_succeeded(self.name, hold, entry.route.name):
                found[entry.id] = name, life
        return found

    def _perform(self) -> None:
        super()._perform()
        self._recorder.flush(self.now)
        self._set_alarm()

    def _act(self, action: calling.Action) -> None:
        recorder = self._recorder
        if isinstance(action, calling.Send) and recorder.must_wait(action):
            self.scene.history.let_start(self.caller, action)
            return
        if isinstance(action, calling.Settled):
            others = recorder.settled(action)
            if others is not None:
                super()._act(others)
            return
        if isinstance(action, calling.Note | calling.Retried) and not recorder.noted(action):
            return
        super()._act(action)

    def _set_alarm(self) -> None:
        super()._set_alarm()
        wakeup = max(self._recorder.wakeup, self.now + TICK_LEAST)
        if wakeup < self._look_at:
            self._look_at = wakeup
            self.alarm(wakeup, self._look, self._life)

    def _look(self, life: int) -> None:
        if life != self._life or not self.up or self.dead or self.postpone(self._look, life):
            return
        self._look_at = float("inf")
        for send in self._recorder.look(self.now):
            super()._act(send)
        self._perform()

    def _unsent(self, send: calling.Send) -> None:
        self._recorder.unsent(self.caller.unsent(send, self.now))

    def _write_anew(self, how: str, entry: Entry) -> Route:
        route = super()._write_anew(how, entry)
        if entry.record and route is not entry.route:
            self.paper.write_anew(entry.record, route.fingerprint)
        return route

    def _written(self, life: int) -> None:
        """Something is in the journal: the I/O thread goes on with it, if it still lives."""
        if life == self._life and self.up and not self.dead:
            self.handle("journal", self._go_on, life)

    def _go_on(self, life: int) -> None:
        if life != self._life or not self.up or self.dead:
            return
        sends, settled = self._recorder.take(self.now)
        for action in settled:
            for entry in action.entries:
                self.paper.let_go(entry.record)
            super()._act(action)
        for send in sends:
            super()._act(send)
        self._perform()

    def _do(self, call: Callable[..., Any], *arguments: Any) -> None:
        if self.up:
            super()._do(call, *arguments)

    def _found(self, key: str) -> None:
        if self.up:
            super()._found(key)

    def _cancel(self, id: str) -> None:  # noqa: A002
        if self.up:
            super()._cancel(id)

    def _message(self, frames: Any) -> None:
        if self.up:
            super()._message(frames)
