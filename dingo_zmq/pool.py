"""Workers: threads that run what they are given, one event loop for coroutines, and what failures look like."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from functools import partial
from heapq import heappop, heappush
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dingo_zmq.model import Code, Failure

if TYPE_CHECKING:
    import asyncio

__all__ = ["CallbackThread", "Leave", "LoopPool", "ThreadPool", "failure_of"]

T = TypeVar("T")
CALLBACK_SECONDS = 3.0
_OWN = os.path.dirname(__file__) + os.sep
_log = logging.getLogger(__name__)


def failure_of(exc: BaseException, code: Code = Code.RAISED) -> Failure:
    """Return what is reported of an exception: class, text, and traceback without the frames of this package."""
    kind = type(exc)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    try:
        message = str(exc)
        told = traceback.TracebackException(kind, exc, exc.__traceback__)
        frames = [frame for frame in told.stack if not frame.filename.startswith(_OWN)]
        told.stack = traceback.StackSummary.from_list(frames)
        text = "".join(told.format())
    except Exception as worse:  # an exception that cannot even be printed
        message, text = f"<{type(worse).__name__} while it was printed>", ""
    return Failure(code, message, f"{module}{kind.__qualname__}", text)


class Leave(BaseException):
    """Raised by what a `ThreadPool` runs: the thread is to end, since another has taken its place."""


class _Turn:
    """In the queue of a pool: run whatever is of the highest priority."""


_TURN = _Turn()


class ThreadPool(Generic[T]):
    """
    Threads that each take one job at a time.

    Args:
        name: for the threads' names.
        threads: how many; they are started when the first job comes.
        run: called with each job; it must not raise anything but `Leave`.
    """

    def __init__(self, name: str, threads: int, run: Callable[[T], None]) -> None:
        self._name, self._size, self._run = name, threads, run
        self._made = 0
        self._closed = False
        self._jobs: SimpleQueue[T | _Turn | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._ranked: list[tuple[int, int, T]] = []  # a heap: for each job here, `_jobs` has _TURN
        self._numbers = itertools.count()
        self._early = itertools.count(-sys.maxsize)  # of what was in `_jobs` before there were priorities
        self.submit: Callable[[T], None] = self._first  # the queue's own `put` once all threads are there

    def submit_ranked(self, job: T, priority: int) -> None:
        """Have a job run before all that wait and are of lower priority; 0 is that of `submit`."""
        if priority:
            with self._lock:
                self.submit = self._among_ranked  # from now on all of them have to be in one order
        if self.submit != self._among_ranked:
            self.submit(job)
            return
        with self._lock:
            heappush(self._ranked, (-priority, next(self._numbers), job))
        self._first(_TURN)

    def _among_ranked(self, job: T) -> None:
        self.submit_ranked(job, 0)

    def _best(self, job: T | _Turn) -> T:
        """Return the job that is to be run now; `job` is what came out of `_jobs`."""
        with self._lock:
            if not isinstance(job, _Turn):
                heappush(self._ranked, (0, next(self._early), job))
            return heappop(self._ranked)[2]

    def _first(self, job: T | _Turn) -> None:
        self._jobs.put(job)
        with self._lock:
            if len(self._threads) < self._size:
                self._begin()
            elif self.submit == self._first:
                self.submit = self._jobs.put

    def _begin(self) -> None:
        thread = threading.Thread(target=self._work, name=f"dingo-{self._name}-{self._made}", daemon=True)
        self._made += 1
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        get, run, ranked = self._jobs.get, self._run, self._ranked
        while True:
            job = get()
            if job is None:
                if self._may_leave():
                    return
                continue
            try:
                run(self._best(job) if ranked else job)  # type: ignore[arg-type]  # no _TURN where none is ranked
            except Leave:
                return
            except BaseException:
                _log.exception("a worker of pool %s stumbled", self._name)

    def _may_leave(self) -> bool:
        with self._lock:
            if self._closed:
                return True
            if len(self._threads) <= self._size:
                return False
            self._threads.remove(threading.current_thread())
            return True

    @property
    def started(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    def resize(self, threads: int) -> None:
        """
        Have more or fewer threads.

        More are started as jobs come.  Of too many, those that are idle end at once, and others after the job
        they have, if what they run calls `thin`.
        """
        with self._lock:
            surplus = len(self._threads) - threads
            self._size = threads
            if self.submit != self._among_ranked:
                self.submit = self._first
        for _ in range(surplus):
            self._jobs.put(None)
        for _ in range(min(-surplus, self._jobs.qsize())):
            self._fill_up()

    def _fill_up(self) -> None:
        with self._lock:
            if len(self._threads) < self._size and not self._closed:
                self._begin()

    def thin(self) -> None:
        """
        Called by a thread between two jobs.

        Raises:
            Leave: there are too many threads.
        """
        if len(self._threads) > self._size and self._may_leave():
            raise Leave

    def replace(self, thread: threading.Thread) -> None:
        """A thread is not expected to come back: start another at once; when it does, it is to raise `Leave`."""
        with self._lock:
            if thread in self._threads and not self._closed:
                self._threads.remove(thread)
                self._begin()

    def close(self, timeout: float) -> bool:
        """Let the threads end after what is queued; return whether they did within `timeout` seconds."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(timeout)
        return not any(thread.is_alive() for thread in threads)


class CallbackThread:
    """
    One thread for the callbacks of users, which may call and wait; started when the first one comes.

    Args:
        name: for the thread's name.
    """

    def __init__(self, name: str = "callbacks") -> None:
        self._pool: ThreadPool[Callable[[], object]] = ThreadPool(name, 1, _call)

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Have ``fn(*args)`` called, in the order of these calls; what it raises is logged."""
        self._pool.submit(partial(fn, *args))

    def close(self, timeout: float = CALLBACK_SECONDS) -> None:
        """
        Let the thread end after what is queued, so that even at the end of a program everybody is called.

        Args:
            timeout: seconds to wait for that at most; a callback that closes its own App does not wait.
        """
        self._pool.close(timeout)


def _call(fn: Callable[[], object]) -> None:
    fn()


class LoopPool(Generic[T]):
    """
    One thread with an event loop; each job is a coroutine of its own.

    Args:
        name: for the thread's name.
        run: called with each job; the coroutine it returns must not raise.
        slots: how many jobs run at a time, None for all.

    Attributes:
        helm: what `run` tells of the jobs that it begins and ends, so that they can be cancelled.
    """

    def __init__(self, name: str, run: Callable[[T], Coroutine[Any, Any, None]], slots: int | None = None) -> None:
        import asyncio

        from dingo_zmq.steering import Helm

        self.helm = Helm()
        self._run, self._slots = run, slots
        self._waiting: list[tuple[int, int, T]] = []  # a heap
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=f"dingo-{name}", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def submit(self, job: T) -> None:
        """Start a job as soon as a slot is free; after `close`, nothing is done."""
        self._soon(self._start, job)

    def submit_ranked(self, job: T, priority: int) -> None:
        """The same; where all slots are taken, jobs of higher priority come first."""
        self._soon(self._start, job, priority)

    def cancel(self, job: Any) -> None:
        """Cancel a job that `run` told the helm of, where it still runs."""
        self._soon(self.helm.cancel, job)

    def resize(self, slots: int) -> None:
        """Let more or fewer jobs run at a time; those that run go on."""
        self._soon(self._resized, slots)

    def _soon(self, fn: Callable[..., object], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _start(self, job: T, priority: int = 0) -> None:
        if self._slots is not None and len(self._tasks) >= self._slots:
            heappush(self._waiting, (-priority, next(self._numbers), job))
            return
        task = self._loop.create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._waiting:
            self._start_waiting()

    def _start_waiting(self) -> None:
        while self._waiting and (self._slots is None or len(self._tasks) < self._slots):
            self._start(heappop(self._waiting)[2])

    def _resized(self, slots: int) -> None:
        self._slots = slots
        self._start_waiting()

    def close(self, timeout: float) -> bool:
        """Cancel what runs and end the thread; return whether it ended within `timeout` seconds."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _stop(self) -> None:
        import asyncio

        self._waiting.clear()

        async def finish() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=1.0)

        if self._tasks:
            ending = self._loop.create_task(finish())
            ending.add_done_callback(lambda _: self._loop.stop())
        else:
            self._loop.stop()
