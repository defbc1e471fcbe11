"""What became of the tasks that an App called, in counts that balance: see `App.ledger`."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from dingo_zmq.model import Code
from dingo_zmq.result import Result

__all__ = ["Counts", "Ledger", "OpenTask", "balanced", "drawn"]


@dataclass(frozen=True, slots=True)
class OpenTask:
    """
    A task that is not settled.

    Attributes:
        name, id: of the task.
        holder: name of the node that has it; "" while it waits here, and where that is not known.
        attempt: how often it has been sent.
        age: seconds since the call.
        started: whether it may have started, as far as is known here.
    """

    name: str
    id: str
    holder: str
    attempt: int
    age: float
    started: bool


@dataclass(frozen=True, slots=True)
class Ledger:
    """
    What became of the tasks of an App: ``called == ok + failed + cancelled + expired + open``, always.

    A task is counted once, however often it is tried.  A call that raised is not counted.  Chains, groups and
    calls that wait for their arguments count as the tasks that they have sent.

    Attributes:
        called: tasks called.
        ok: how many of them ended well; without a store in remote mode, those that were sent.
        failed: how many failed, but for those that were cancelled or expired.
        cancelled, expired: how many ended so.
        open: how many are not settled, those included whose call is about to return.
        codes: all that did not end well, by code.
        tasks: the open ones.
    """

    called: int = 0
    ok: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    open: int = 0
    codes: Mapping[Code, int] = field(default_factory=dict)
    tasks: tuple[OpenTask, ...] = ()

    def __str__(self) -> str:
        """Return the counts in one line."""
        return (
            f"called {self.called} = {self.ok} ok + {self.failed} failed + {self.cancelled} cancelled "
            f"+ {self.expired} expired + {self.open} open"
        )


class Counts:
    """
    Counts tasks that were settled; any thread may use it.

    Attributes:
        went_well: counts one that ended well, in one step.
    """

    def __init__(self) -> None:
        self._ok = itertools.count(1)
        self.went_well: Callable[[], int] = self._ok.__next__
        self._codes: Counter[Code] = Counter()
        self._lock = threading.Lock()

    def went_wrong(self, code: Code) -> None:
        """Count one that failed."""
        with self._lock:
            self._codes[code] += 1

    def settled(self, result: Result[object]) -> None:
        """Count a task by its result."""
        failure = result.failure
        if failure is None:
            self.went_well()
        else:
            self.went_wrong(failure.code)

    @property
    def ok(self) -> int:
        """How many ended well."""
        return drawn(self._ok)

    def codes(self) -> Counter[Code]:
        """Return how many failed, by code."""
        with self._lock:
            return self._codes.copy()


def drawn(numbers: itertools.count[int]) -> int:
    """Return how many numbers were drawn of those that began with 1; none is drawn for that."""
    return int(repr(numbers)[len("count(") : -1]) - 1


def balanced(called: int, ok: int, codes: Counter[Code], tasks: Iterable[OpenTask]) -> Ledger:
    """
    Return a ledger.

    Args:
        called: counted after all else, so that nothing is settled that was not called.
        ok: tasks that ended well.
        codes: tasks that failed.
        tasks: those that are open.
    """
    cancelled, expired, wrong = codes[Code.CANCELLED], codes[Code.EXPIRED], codes.total()
    failed = wrong - cancelled - expired
    return Ledger(called, ok, failed, cancelled, expired, called - ok - wrong, {**+codes}, tuple(tasks))
