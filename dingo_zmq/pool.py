"""Workers: threads that run what they are given, one event loop for coroutines, and what failures look like."""

from __future__ import annotations

import logging
import os
import threading
import traceback
from collections.abc import Callable, Coroutine
from functools import partial
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
        self._jobs: SimpleQueue[T | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.submit: Callable[[T], None] = self._first  # the queue's own `put` once all threads are there

    def _first(self, job: T) -> None:
        self._jobs.put(job)
        with self._lock:
            if len(self._threads) < self._size:
                thread = threading.Thread(
                    target=self._work, name=f"dingo-{self._name}-{len(self._threads)}", daemon=True
                )
                self._threads.append(thread)
                thread.start()
            else:
                self.submit = self._jobs.put

    def _work(self) -> None:
        get, run = self._jobs.get, self._run
        while (job := get()) is not None:
            try:
                run(job)
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
    """

    def __init__(self, name: str, run: Callable[[T], Coroutine[Any, Any, None]], slots: int | None = None) -> None:
        import asyncio

        self._run = run if slots is None else partial(self._in_turn, run, asyncio.Semaphore(slots))
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=f"dingo-{name}", daemon=True)
        self._thread.start()

    @staticmethod
    async def _in_turn(run: Callable[[T], Coroutine[Any, Any, None]], turns: asyncio.Semaphore, job: T) -> None:
        async with turns:
            await run(job)

    def _serve(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def submit(self, job: T) -> None:
        """Start a job; after `close`, nothing is done."""
        try:
            self._loop.call_soon_threadsafe(self._start, job)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _start(self, job: T) -> None:
        task = self._loop.create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self, timeout: float) -> bool:
        """Cancel what runs and end the thread; return whether it ended within `timeout` seconds."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _stop(self) -> None:
        import asyncio

        async def finish() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=1.0)

        if self._tasks:
            ending = self._loop.create_task(finish())
            ending.add_done_callback(lambda _: self._loop.stop())
        else:
            self._loop.stop()
