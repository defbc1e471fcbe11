"""Workers of a node in the simulated world: what a task does is in its job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from dingo_zmq.model import Status
from dingo_zmq.protocol.intake import Held
from dingo_zmq.protocol.node import Interrupt, Node, Resume
from dingo_zmq.protocol.starter import Bundle
from dingo_zmq.protocol.streams import Window
from dingo_zmq.testing.history import FAILED
from dingo_zmq.testing.plan import NodePlan
from dingo_zmq.testing.scene import Scene

GROUP_MOST = 8
LONG = 0.2
"""seconds from which on a task tells of its progress and looks whether it is cancelled"""
STEP = 1.0
"""seconds between two looks"""

CANCELLED, REFUSED, OVER_LIMIT = b"cancelled", b"refused", b"over its time limit"
"""what is reported of tasks that fail"""

Answer: TypeAlias = tuple[Held, int, bytes, tuple[Any, ...]]


class Employer(Protocol):
    """What workers need of the process they are in."""

    name: str
    scene: Scene
    plan: NodePlan
    workers: Workers | None
    rate: float

    @property
    def now(self) -> float:
        """What its monotonic clock says."""

    def postpone(self, call: Callable[..., None], *arguments: Any) -> bool:
        """Where it sleeps, have something done as soon as it is awake, and return True."""

    def do(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Tell the decider something, and perform what comes of it."""

    def executed(self, held: Held) -> None:
        """A worker calls the function."""

    def refuses(self, held: Held) -> bool:
        """Return whether a worker refuses a task, which then goes back to its caller."""

    def killed(self) -> None:
        """A task has killed the process."""


class Workers:
    """
    All workers of one process; they end with it.

    Args:
        host: whose they are.
        node: the decider that gives them work.
    """

    def __init__(self, host: Employer, node: Node) -> None:
        self.host, self.scene, self.node = host, host.scene, node
        self._speed = host.plan.speed
        self._results: list[tuple[Bundle, list[Answer], float, bool]] = []
        self._windows: dict[Held, Window] = {}
        self._waiting: dict[Held, tuple[Bundle, int, float]] = {}  # streams that are ahead of their readers

    @property
    def alive(self) -> bool:
        """Whether their process lives."""
        return self.host.workers is self

    def work(self, bundle: Bundle) -> None:
        """One worker takes what it does next from its bundle: some quick tasks, or a long one."""
        if not self.alive or self.host.postpone(self.work, bundle):
            return
        answers: list[Answer] = []
        seconds = 0.0
        while bundle.todo and len(answers) < GROUP_MOST and seconds < LONG:
            held = bundle.todo[0]
            job = self.scene.jobs[held.id]
            takes = job.seconds / self._speed
            long = (takes >= LONG or job.stream) and not held.cancelled
            if long and answers:
                break
            bundle.todo.popleft()
            if held.cancelled:
                answers.append(_cancelled(held))
                continue
            if self.host.refuses(held):
                self.node.refused(held, "no hand is free", self.host.now)
                answers.append((held, int(Status.FAIL), REFUSED, ()))
                continue
            self.host.executed(held)
            if job.killer:
                self.host.killed()
                return
            if job.stream:
                self._windows[held] = Window()
                self._stream(bundle, held)
                return
            if long:
                self._long(bundle, held, takes)
                return
            seconds += takes
            answers.append(self._answer(held))
        self.scene.after(seconds, self._done, bundle, answers, seconds)

    def _long(self, bundle: Bundle, held: Held, left: float, spent: float = 0.0) -> None:
        """A task that takes long: it tells of its progress, and ends early where it is cancelled."""
        if not self.alive or self.host.postpone(self._long, bundle, held, left, spent):
            return
        if left <= 0 or held.cancelled:
            self._done(bundle, [_cancelled(held) if left > 0 else self._answer(held)], spent)
            return
        if spent:
            self.host.do(self.node.progressed, held, b"still at it")
        step = min(left, STEP)
        self.scene.after(step, self._long, bundle, held, left - step, spent + step)

    def _stream(self, bundle: Bundle, held: Held, number: int = 0, spent: float = 0.0) -> None:
        """A task that yields: value `number` is next, if its reader is not too far behind."""
        if not self.alive or self.host.postpone(self._stream, bundle, held, number, spent):
            return
        job, window = self.scene.jobs[held.id], self._windows[held]
        if held.cancelled or number == job.values:
            del self._windows[held]
            self._done(bundle, [_cancelled(held) if held.cancelled else self._answer(held)], spent)
        elif window.full:
            self._waiting[held] = bundle, number, spent
        else:
            body = job.value(number)
            window.put(len(body))
            self.node.yielded(held, body, (), self.host.now)
            self.host.do(self.node.flush)
            self.scene.history.check_stream(self.host.name, held)
            takes = job.seconds / self._speed / job.values
            self.scene.after(takes, self._stream, bundle, held, number + 1, spent + takes)

    def hear(self, action: Interrupt | Resume) -> None:
        """A reader has taken more values, or wants none: its stream looks whether it still has to wait."""
        held = action.held
        if isinstance(action, Resume) and held in self._windows:
            self._windows[held].take(action.taken)
        waiting = self._waiting.pop(held, None)
        if waiting is not None:
            self.scene.after(0, self._stream, waiting[0], held, *waiting[1:])

    def leave(self, held: Held) -> bool:
        """Stop a stream if it waits for its reader; return whether it does."""
        if self._waiting.pop(held, None) is None:
            return False
        del self._windows[held]
        return True

    def _answer(self, held: Held) -> Answer:
        failed = self.scene.history.failed
        if failed[held.id] < self.scene.jobs[held.id].fails:
            failed[held.id] += 1
            return held, int(Status.FAIL), FAILED, ()
        if held.options.ignore_report or held.options.stream:
            return held, int(Status.SUCCESS), b"", ()
        return held, int(Status.SUCCESS), b"answer to " + held.body, held.buffers

    def _done(self, bundle: Bundle, answers: list[Answer], seconds: float) -> None:
        """A worker hands over what it has finished, and goes on with its bundle."""
        if not self.alive or self.host.postpone(self._done, bundle, answers, seconds):
            return
        if not self._results:
            self.scene.after(self.scene.dice.uniform(0, 0.001), self._round)
        self._results.append((bundle, answers, seconds, not bundle.todo))
        if bundle.todo:
            self.work(bundle)

    def _round(self) -> None:
        """The I/O thread comes round: what workers have finished goes out."""
        if not self.alive or self.host.postpone(self._round):
            return
        results, self._results = self._results, []
        for bundle, answers, seconds, ended in results:
            self.node.finished(bundle, answers, seconds * self.host.rate, ended, self.host.now)
        for link in dict.fromkeys(held.link for _, answers, _, _ in results for held, *_ in answers):
            self.scene.history.check_link(self.host.name, link)
        self.host.do(self.node.flush)


def _cancelled(held: Held) -> Answer:
    return held, int(Status.FAIL), CANCELLED, ()
