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

__all__ = ["CallbackThread", "LoopPool", "ThreadPool", "failure_of"]

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


class _Turn:
    """In the queue of a pool: run whatever is of the highest priority."""


_TURN = _Turn()


class ThreadPool(Generic[T]):
    """
    Threads that each take one job at a time.

    Args:
        name: for the threads' names.
        threads: how many; they are started when the first job comes.
        run: called with each job; it must not raise.
    """

    def __init__(self, name: str, threads: int, run: Callable[[T], None]) -> None:
        self._name, self._size, self._run = name, threads, run
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
                thread = threading.Thread(
                    target=self._work, name=f"dingo-{self._name}-{len(self._threads)}", daemon=True
                )
                self._threads.append(thread)
                thread.start()
            elif self.submit == self._first:
                self.submit = self._jobs.put

    def _work(self) -> None:
        get, run, ranked = self._jobs.get, self._run, self._ranked
        while (job := get()) is not None:
            try:
                run(self._best(job) if ranked else job)  # type: ignore[arg-type]  # no _TURN where none is ranked
            except BaseException:
                _log.exception("a worker of pool %s stumbled", self._name)

    def close(self, timeout: float) -> bool:
        """Let the threads end after what is queued; return whether they did within `timeout` seconds."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout)
        return not any(thread.is_alive() for thread in self._threads)


class CallbackThread:
    """One thread for the callbacks of users, which may call and wait; started when the first one comes."""

    def __init__(self) -> None:
        self._pool: ThreadPool[Callable[[], object]] = ThreadPool("callbacks", 1, _call)

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
    """

    def __init__(self, name: str, run: Callable[[T], Coroutine[Any, Any, None]], slots: int | None = None) -> None:
        import asyncio

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
        self.submit_ranked(job, 0)

    def submit_ranked(self, job: T, priority: int) -> None:
        """The same; where all slots are taken, jobs of higher priority come first."""
        try:
            self._loop.call_soon_threadsafe(self._start, job, priority)
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
            self._start(heappop(self._waiting)[2])

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
