"""
A caller of a storm: calls tasks one after the other, and writes down what became of each.

    python -m tools.storming.caller '{"file": ..., ...}'    started by tools/storm.py

It calls until it has called all its tasks, or its standard input ends, and then waits for what is open.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dingo_zmq import App, EventCode, Level, Origin, Result
from tools.storming import served

__all__ = ["FATAL", "Caller", "Outcome", "Wanted"]

FATAL = ("exit", "segfault", "memory")
LARGE_BYTES, LARGE_SHARE = 100_000, 0.005
COUNTS = ("called", "ok", "failed", "cancelled", "expired", "open")
PATIENCE_SECONDS = 60.0
"""without any task settled, before those that are open count as lost"""
SHOWN = 5


@dataclass
class Wanted:
    """
    What a caller is told.

    Attributes:
        file: where it writes what became of it.
        first: number of its first task; others have the ones before.
        tasks: how many to call at most.
        ahead: how many are open at a time.
        mean: of the run times, seconds.
        seed: of its chance.
        peers: addresses to use, none for whom it finds.
        once: share of tasks that are at-most-once.
        fatal: of so many tasks one ends its process or its memory, 0 for none.
    """

    file: str
    first: int
    tasks: int
    ahead: int = 300
    mean: float = 0.005
    seed: int = 0
    peers: list[str] = field(default_factory=list)
    once: float = 0.02
    fatal: int = 0


@dataclass
class Outcome:
    """
    What became of a caller's tasks.

    Attributes:
        called, ok, unknown, ended: how many were called; ended well; at-most-once ones that nobody knows of;
            and fatal ones that ended as they should.
        lost: numbers of those that never ended, and what `why()` said of some.
        twice: numbers of those that were settled more than once.
        wrong: numbers of those that ended otherwise than they should, with how.
        once: numbers of at-most-once tasks.
        fatal: numbers of fatal tasks.
        again: tasks sent again: when (seconds since 1970), from which node, and why.
        seconds: from the first call to the last result.
        ledger: what `app.ledger()` said in the end.
    """

    called: int = 0
    ok: int = 0
    unknown: int = 0
    ended: int = 0
    lost: dict[int, str] = field(default_factory=dict)
    twice: list[int] = field(default_factory=list)
    wrong: dict[int, str] = field(default_factory=dict)
    once: list[int] = field(default_factory=list)
    fatal: list[int] = field(default_factory=list)
    again: list[tuple[float, str, str, int]] = field(default_factory=list)
    seconds: float = 0.0
    ledger: dict[str, int] = field(default_factory=dict)


class Caller:
    """
    Calls, and counts what comes back.

    Args:
        wanted: what it is told.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.outcome = Outcome()
        self._dice = random.Random(wanted.seed)
        self._app = App("mesh", peers=wanted.peers, max_open=wanted.ahead + 1)
        work = self._app.declare("work", served.work)
        self._work, self._once = work, work.options(at_most_once=True)
        self._fatal = self._app.declare("fatal", served.fatal)
        self._settled = bytearray()  # how often each was, by its number less the first
        self._open: dict[int, Result[Any]] = {}
        self._room = threading.Semaphore(wanted.ahead)
        self._progress = 0.0
        self._counting = threading.Lock()  # `_done` runs on the callback thread, or at once in the calling one
        self._stop = threading.Event()
        self._over = False
        self._app.listen(Origin.CALLER, Level.INFO, callback=self._heard, size=1_000_000)
        self._count_settlements()

    def _count_settlements(self) -> None:
        """Count below `Result`, which would hide a second settlement."""
        caller: Any = self._app.engine().caller
        settle, first = caller.settle, self._wanted.first

        def counted(entry: Any, node: str) -> None:
            place = int(entry.id) - 1
            if self._settled[place] < 255:
                self._settled[place] += 1
            if self._settled[place] == 1:
                settle(entry, node)
            else:
                self.outcome.twice.append(first + place)

        caller.settle = counted

    def _heard(self, event: Any) -> None:
        if event.code is EventCode.REDELIVERED:
            number = self._wanted.first + int(event.id) - 1
            self.outcome.again.append((event.time, event.node, event.text.rpartition("again: ")[2], number))

    def stop(self) -> None:
        """Call no more."""
        self._stop.set()

    def run(self) -> Outcome:
        """Call all, wait for all, and return what became of them."""
        began = self._progress = time.monotonic()
        for number in range(self._wanted.first, self._wanted.first + self._wanted.tasks):
            while not self._room.acquire(timeout=1.0):
                if self._stuck():
                    break
            if self._stop.is_set() or self._stuck():
                break
            self._call(number)
        while self._open and not self._stuck():
            time.sleep(0.05)
        self.outcome.seconds = self._progress - began
        self._finish()
        return self.outcome

    def _stuck(self) -> bool:
        return time.monotonic() - self._progress > PATIENCE_SECONDS

    def _call(self, number: int) -> None:
        """Call one; ids count from 1, as numbers do from the first."""
        self._settled.append(0)
        self.outcome.called += 1
        every = self._wanted.fatal
        result, wanted = self._call_fatal(number) if every and number % every == 0 else self._call_work(number)
        self._open[number] = result
        result.add_done_callback(lambda result: self._done(result, number, wanted))

    def _call_work(self, number: int) -> tuple[Result[Any], dict[str, str]]:
        """Call a task that works; return by its possible ends what they count as."""
        dice = self._dice
        junk = dice.randbytes(LARGE_BYTES if dice.random() < LARGE_SHARE else dice.randrange(200))
        seconds = dice.expovariate(1 / self._wanted.mean)
        wanted = {str(served.expected(number, junk)): "ok"}
        if dice.random() >= self._wanted.once:
            return self._work.call(number, seconds, junk), wanted
        self.outcome.once.append(number)
        return self._once.call(number, seconds, junk), {**wanted, "UNKNOWN": "unknown"}

    def _call_fatal(self, number: int) -> tuple[Result[Any], dict[str, str]]:
        """The same with a task that ends its process, once or always, or its memory."""
        self.outcome.fatal.append(number)
        kind, deaths = self._dice.choice(FATAL), self._dice.choice((1, 100))
        if kind == "memory":
            wanted = {"MemoryError": "ended"}
        else:
            wanted = {str(served.expected(number, b"")): "ended"} if deaths == 1 else {"POISON": "ended"}
        return self._fatal.call(number, kind, deaths), wanted

    def _done(self, result: Result[Any], number: int, wanted: dict[str, str]) -> None:
        failure = result.failure
        told = str(result.result(0)) if failure is None else failure.type or failure.code.name
        end = wanted.get(told)
        with self._counting:
            if self._over:
                return
            self._progress = time.monotonic()
            if end is None:
                self.outcome.wrong[number] = f"{told}, not {' or '.join(wanted)}: {failure}"
            else:
                setattr(self.outcome, end, getattr(self.outcome, end) + 1)
            del self._open[number]
        self._room.release()

    def _finish(self) -> None:
        with self._counting:
            self._over = True
            left = list(self._open.items())
        for number, result in left:
            self.outcome.lost[number] = result.why() if len(self.outcome.lost) < SHOWN else ""
        ledger = getattr(self._app, "ledger", None)
        if ledger is not None:
            told = ledger()
            self.outcome.ledger = {name: getattr(told, name) for name in COUNTS}
        self._app.close(wait=False)


def main() -> None:
    """Do what the storm wants."""
    wanted = Wanted(**json.loads(sys.argv[1]))
    caller = Caller(wanted)

    def listen() -> None:
        sys.stdin.read()
        caller.stop()

    threading.Thread(target=listen, daemon=True, name="waits for the end").start()
    outcome = caller.run()
    Path(wanted.file).write_text(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
