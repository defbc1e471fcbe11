"""Hundreds of tasks that a caller keeps open while its network is bad, and an account of what becomes of them."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from dingo_zmq import App, Result
from dingo_zmq.errors import Closed, TaskUnknown
from dingo_zmq.events import EventCode, Level
from tests.support import PATIENCE, wait_until

OPEN = 200
SECONDS = 0.05
MORE = 10
ONCE_EVERY = 5
"""one task of so many must not start twice"""
_WAS_LOST = "the node was lost"


class Account(NamedTuple):
    """How many tasks were sent in all, given up at a lost node, executed again, and ended as unknown."""

    sent: int
    given_up: int
    again: int
    unknown: int


class Start(NamedTuple):
    """An execution of a task, and when it began, in monotonic seconds."""

    number: int
    attempt: int
    host: str
    at: float


class Work:
    """
    Keeps tasks open without a pause, until `stop`.

    Args:
        app: the caller.
        log: a file of this work alone, where tasks note that they are executed.
        open: tasks open at a time.
        seconds: that each takes.

    Attributes:
        sent: tasks sent; their numbers are those below.
        done: by host, how many are done there.
        settled_at: by number, monotonic seconds.
        ids: by number.
    """

    def __init__(self, app: App, log: Path, *, open: int = OPEN, seconds: float = SECONDS) -> None:
        self.app, self._log, self._seconds = app, log, seconds
        self.sent = 0
        self.settled_at: dict[int, float] = {}
        self.done: Counter[str] = Counter()
        self._values: dict[int, tuple[int, str] | BaseException] = {}
        self._settled: Counter[int] = Counter()
        self.ids: dict[int, str] = {}
        self._events = app.listen(["caller"], Level.INFO, size=1_000_000)
        self._told: Counter[tuple[EventCode, str]] = Counter()
        self._given_up: Counter[str] = Counter()
        self._room = threading.Semaphore(open)
        self._stop = False
        log.touch()
        self._thread = threading.Thread(target=self._run, name="work", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._room.acquire() and not self._stop:
            number = self.sent
            once = number % ONCE_EVERY == 0
            try:
                result = self.app.options(at_most_once=once).call("counted", str(self._log), number, self._seconds)
            except Closed:  # the test has failed
                return
            self.ids[number] = result.id
            self.sent += 1
            result.add_done_callback(partial(self._came, number))

    def _came(self, number: int, result: Result[Any]) -> None:
        self._settled[number] += 1
        self.settled_at[number] = monotonic()
        failure = result.exception()
        self._values[number] = failure if failure is not None else tuple(result.result())
        if failure is None:
            self.done[result.result()[1]] += 1
        self._room.release()

    # ------------------------------------------------------------------ what can be waited for

    def more_done(self, hosts: tuple[str, ...], first: int) -> bool:
        """Return whether `MORE` tasks from the number `first` on are done, on each of these hosts if any."""
        values = [v for number in range(first, self.sent) if isinstance(v := self._values.get(number), tuple)]
        there = Counter(host for _, host in values)
        return len(values) >= MORE and all(there[host] >= MORE for host in hosts)

    def told(self, code: EventCode, node: str, times: int = 1) -> None:
        """Wait until the caller has told that of a node so often, since it works."""
        wait_until(lambda: self.count(code, node) >= times, f"{node} is {code} ({times} times); {self}")

    def done_elsewhere(self, node: str) -> None:
        """Wait until a node is lost, and what was there is done elsewhere."""
        self.told(EventCode.LOST, node)
        given_up = self.given_up()
        assert given_up, f"nothing was at {node}; {self}"
        self.settled(given_up)

    def settled(self, numbers: set[int]) -> None:
        """Wait until these are settled."""
        wait_until(lambda: numbers <= self.settled_at.keys(), f"all of {numbers} are settled; {self}")

    def given_up(self) -> set[int]:
        """Return which tasks were given up at a lost node."""
        self.count(EventCode.GENERIC, "")  # reads all events
        return {number for number, id in self.ids.copy().items() if id in self._given_up}

    def starts(self) -> list[Start]:
        """Return all executions, in the order of their start."""
        lines = map(str.split, self._log.read_text().splitlines())
        return [Start(int(number), int(attempt), host, float(at)) for number, attempt, host, at in lines]

    def count(self, code: EventCode, node: str) -> int:
        """Return how often the caller has told that of a node."""
        while True:
            try:
                event = self._events.get(0)
            except (TimeoutError, Closed):
                return self._told[code, node]
            self._told[event.code, event.node] += 1
            if event.code is EventCode.REDELIVERED and _WAS_LOST in event.text:
                self._given_up[event.id] += 1

    # ------------------------------------------------------------------ the account

    def stop(self) -> None:
        """Send no more."""
        self._stop = True
        self._room.release()

    def account(self) -> Account:
        """After `stop`: wait for what is open, and see that each task was settled once and all is explained."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "a call does not return"
        wait_until(lambda: len(self._settled) == self.sent, f"all tasks are settled; {self}")
        given_up = self.given_up()
        runs = Counter(start[:2] for start in self.starts())
        starts = Counter(number for number, _ in runs.elements())
        unknown = {number for number, value in self._values.items() if isinstance(value, TaskUnknown)}
        for number in range(self.sent):
            value = self._values[number]
            if isinstance(value, BaseException):
                assert number in unknown, f"{value!r} of {self._task(number)}"
                assert number % ONCE_EVERY == 0, f"{value!r} of {self._task(number)}"
            else:
                assert value[0] == number, f"{value} of {self._task(number)}"
                assert starts[number], f"done, and never started: {self._task(number)}"
            most = 1 if number % ONCE_EVERY == 0 else 1 + self._given_up[self.ids[number]]
            assert starts[number] <= most, f"{starts[number]} starts, {most} explained: {self._task(number)}"
        assert set(self._settled.values()) <= {1}, f"settled twice; {self}"
        assert set(runs.values()) <= {1}, f"an attempt was executed twice: {runs.most_common(3)}; {self}"
        assert self._events.dropped == 0
        self._events.close()
        again = sum(count - 1 for count in starts.values())
        return Account(self.sent, len(given_up), again, len(unknown))

    def _task(self, number: int) -> str:
        return f"task {number} (id {self.ids[number]}); {self}"

    def __str__(self) -> str:
        """Say how things stand, for whoever reads a failure."""
        peers = ", ".join(f"{peer.name} at {peer.address} is {peer.state}" for peer in self.app.peers())
        told = ", ".join(f"{code} {node} {n}" for (code, node), n in sorted(self._told.items()))
        open_ = [number for number in range(self.sent) if number not in self._settled]
        return f"sent {self.sent}, open {len(open_)} ({open_[:5]} ...), done {dict(self.done)}; {peers}; {told}"
