"""The thread that writes a journal, all that has come up at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from dingo_zmq.errors import JournalError
from dingo_zmq.journal.file import JournalFile
from dingo_zmq.journal.rows import Batch, Call, End, Hold
from dingo_zmq.waiting import Condition, Event

__all__ = ["Journal"]

RETRY_SECONDS = 0.2
"""pause before what could not be written is tried again"""
LET_GO_SECONDS = 1.0
"""what was let go of waits so long at most for something else to be written"""
SAY_SECONDS = 60.0

Then: TypeAlias = Callable[[], object]


@dataclass(slots=True, eq=False)
class _Order:
    """Something to be written; `turned_away` is told where new calls cannot be, and they are dropped then."""

    calls: Iterable[Call] = ()
    holds: Iterable[Hold] = ()
    ends: Iterable[End] = ()
    then: Then | None = None
    turned_away: Callable[[JournalError], object] | None = None


@dataclass(slots=True)
class _Work:
    """What the writer has taken and not written yet."""

    orders: list[_Order] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.orders or self.gone)

    def batch(self) -> Batch:
        """Return all of it, of each task what came last."""
        batch = Batch()
        for order in self.orders:
            batch.calls.update((call.record, call) for call in order.calls)
            batch.holds.update((hold.record, hold) for hold in order.holds)
            batch.ends.update((end.record, end) for end in order.ends)
        batch.gone = dict.fromkeys(self.gone)
        return batch


class Journal:
    """
    Writes to a `JournalFile` from a thread of its own; any thread may hand it something.

    What cannot be written, as on a full disk: new calls are turned away, all else waits and is tried again.

    Args:
        file: one whose life has begun, and this object's from now on.
        say: told in words that it cannot be written, at most once a minute, and when it can again.
        fenced: told in words, once, that another life has opened the file, so that nothing is written any more.

    Attributes:
        trouble: why it cannot be written now, or "".
        clean: whether, when it is closed, the program has let go of all results, but those of `unasked`.
        unasked: numbers of tasks of earlier lives whose results the program never asked for.
    """

    def __init__(
        self, file: JournalFile, say: Callable[[str], object], fenced: Callable[[str], object] = str
    ) -> None:
        self._file, self._say, self._on_fenced = file, say, fenced
        self.trouble = ""
        self.clean = False
        self.unasked: frozenset[int] = frozenset()
        self._orders: list[_Order] = []
        self._gone: deque[int] = deque()
        self._recording: set[_Order] = set()  # those that somebody waits for
        self._changed = Condition()
        self._ending = self._fenced = self._done = False
        self._said_at, self._said = float("-inf"), False
        self._thread = threading.Thread(target=self._run, name="dingo-journal", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ any thread

    def record(self, calls: list[Call]) -> None:
        """
        Record tasks that are called; return when that has been done.

        Raises:
            JournalError: it cannot be done, and they are not recorded; or the journal is closed while the disk
                does not answer, and nobody knows.
        """
        done = Event()
        failed: list[JournalError] = []

        def turned_away(error: JournalError) -> None:
            failed.append(error)
            done.set()

        order = _Order(calls=calls, then=done.set, turned_away=turned_away)
        try:
            self._order(order)
            done.wait()
        finally:
            self._recording.discard(order)
        if failed:
            raise failed[0]

    def note(
        self,
        *,
        calls: Iterable[Call] = (),
        holds: Iterable[Hold] = (),
        ends: Iterable[End] = (),
        then: Then | None = None,
    ) -> None:
        """
        Record soon what happened to tasks, and what else is to be known of their calls.

        Args:
            then: called by the writer when that has been done; never after `fence` or the end.
        """
        self._order(_Order(calls, holds, ends, then))

    def let_go(self, record: int) -> None:
        """The program has let go of the result of a task.  It takes no lock: destructors call it."""
        self._gone.append(record)

    def fence(self) -> None:
        """Write nothing any more, since another life has the tasks."""
        with self._changed:
            self._fenced = True
            self._changed.notify()

    def close(self, timeout: float) -> bool:
        """Write what there is, for `timeout` seconds at most, and close the file; return whether that was done."""
        with self._changed:
            before, self._ending = self._ending, True
            self._changed.notify()
        if not before:  # else somebody has waited already
            self._thread.join(timeout)
        with self._changed:
            self.clean = self.clean and self._done  # what is written later was told to nobody
            waiting = [] if self._done else [*self._recording]
        for order in waiting:
            assert order.turned_away is not None
            order.turned_away(
                JournalError(
                    f"journal {self._file.path}: it was closed while its disk did not answer; nothing was sent, "
                    "but the next life may find the task there"
                )
            )
        return self._done and not self.trouble

    def _order(self, order: _Order) -> None:
        with self._changed:
            if not self._ending and not self._fenced:
                self._orders.append(order)
                if order.turned_away is not None:
                    self._recording.add(order)
                self._changed.notify()
                return
        if order.turned_away is not None:
            order.turned_away(self._error("it is closed"))

    def _error(self, why: object) -> JournalError:
        return JournalError(
            f"journal {self._file.path}: {why}; nothing was sent, and what was recorded earlier is still there"
        )

    # ------------------------------------------------------------------ the writer

    def _run(self) -> None:
        work = _Work()
        try:
            while True:
                last = self._take(work)
                if self._fenced or (last and not work) or not self._try(work, last=last):
                    return
        finally:
            with self._changed:
                self._ending = True
                work.orders += self._orders
                self._orders = []
            for order in work.orders:
                if order.turned_away is not None:
                    order.turned_away(self._error("it is closed"))
            with self._changed:
                self._done = True
                clean = self.clean and not self._fenced
            if clean:
                self._file.drop_settled(self.unasked)
            self._file.close()

    def _take(self, work: _Work) -> bool:
        """Wait for something to be done, and add it to `work`; return whether the end has come."""
        with self._changed:
            if not self._orders and not self._ending and not self._fenced:
                self._changed.wait(RETRY_SECONDS if work else LET_GO_SECONDS)
            while self._gone:  # before the orders: what was let go of has been ordered by then
                work.gone.append(self._gone.popleft())
            work.orders += self._orders
            self._orders = []
            return self._ending

    def _try(self, work: _Work, *, last: bool) -> bool:
        """Write what there is, as far as that can be done; return whether to go on."""
        if not work:
            return True
        error = self._write(work)
        if error is None:
            self._recover()
            return True
        if isinstance(error, JournalError):
            self.fence()
            self._on_fenced(str(error))
            return False
        self.trouble = str(error) or type(error).__name__
        if time.monotonic() - self._said_at > SAY_SECONDS:
            self._said_at, self._said = time.monotonic(), True
            self._say(f"it cannot be written: {self.trouble}; calls are turned away until it can")
        calls = [order for order in work.orders if order.turned_away is not None]
        work.orders = [order for order in work.orders if order.turned_away is None]
        for order in calls:
            assert order.turned_away is not None
            order.turned_away(self._error(f"it cannot be written: {self.trouble}"))
        if calls and work and self._write(work) is None:
            self._recover()
            return True
        return not last

    def _recover(self) -> None:
        """All that there was has been written."""
        self.trouble = ""
        if self._said:
            self._said = False
            self._say("it can be written again")

    def _write(self, work: _Work) -> Exception | None:
        try:
            self._file.write(work.batch())
        except Exception as exc:  # whatever it is: without this thread nobody would be told anything
            return exc
        orders = work.orders
        work.orders, work.gone = [], []
        for order in orders:
            if order.then is not None:
                order.then()
        return None
