"""Local mode: functions run on a pool in this process, and nothing is encoded."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from dingo_zmq.allocation import Own
from dingo_zmq.current import Running, running
from dingo_zmq.errors import ArgumentError, Closed, EncodeError, UsageError
from dingo_zmq.flow import refusing_results
from dingo_zmq.ids import OpenIDs
from dingo_zmq.invoke import WireSignature
from dingo_zmq.limits import BEFORE_IT_STARTED, Limits, over_limit, stopped
from dingo_zmq.listening import Events
from dingo_zmq.marshal import decode_failure, decode_progress, encode_failure, encode_progress
from dingo_zmq.model import Code, Failure, Options, Report, Status
from dingo_zmq.pool import CallbackThread, Leave, LoopPool, ThreadPool, failure_of
from dingo_zmq.registry import Function
from dingo_zmq.result import Result
from dingo_zmq.room import Room
from dingo_zmq.task import Submit
from dingo_zmq.watchdog import Watchdog

__all__ = ["LocalEngine"]

_log = logging.getLogger("dingo_zmq.local")


class _Job:
    """One task; `claim` is emptied by whoever gets it: the worker that starts it, or `cancel`."""

    __slots__ = (
        "args",
        "attempt",
        "cancelled",
        "claim",
        "engine",
        "function",
        "id",
        "kwargs",
        "limits",
        "monitor",
        "pool",
        "result",
    )

    def __init__(
        self,
        engine: LocalEngine,
        function: Function,
        id: str,  # noqa: A002
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        monitor: bool,
        pool: ThreadPool[_Job] | LoopPool[_Job],
        limits: tuple[float | None, float | None] | None,
    ) -> None:
        self.engine, self.function, self.id, self.args, self.kwargs = engine, function, id, args, kwargs
        self.monitor, self.pool, self.limits = monitor, pool, limits
        self.attempt = 1
        self.cancelled = False
        self.claim = [None]
        self.result: Result[Any]

    # -- as the owner of its result

    def cancel(self, result: Result[Any]) -> bool:
        try:
            self.claim.pop()
        except IndexError:
            return False
        self.cancelled = True
        return result._fail(Failure(Code.CANCELLED, BEFORE_IT_STARTED))

    def stop(self, result: Result[Any]) -> bool:
        if result.done() or self.cancel(result):
            return result.cancelled()
        self.cancelled = True
        if isinstance(self.pool, LoopPool):
            self.pool.cancel(self)
        return True

    def why(self, result: Result[Any]) -> str:
        if self.claim:
            return f"it waits for one of the {self.engine.slots(self.function)} workers of this process"
        return "it is running in this process"

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        self.engine.call_soon(fn, *args)

    def handler_failed(self, result: Result[Any], error: Exception) -> None:
        self.engine.events.handler_failed(error, result.name, result.id, repr(result))


class _OwnRun:
    """What the workers of one function do with a job."""

    def __init__(self, engine: LocalEngine, function: Function) -> None:
        self._engine = engine
        self._own = Own(function) if "factory" in function.settings else None

    def run(self, job: _Job) -> None:
        if self._own is not None:
            job.function = self._own.get()
        self._engine._run(job)
        pool = job.pool
        assert isinstance(pool, ThreadPool)
        pool.thin()


class LocalEngine:
    """
    Runs tasks on threads of this process; coroutine functions on one event loop.

    Args:
        threads: size of the shared pool.
        own: functions with workers of their own, and how many.
        max_open: tasks not settled at a time; at the bound a call waits, or raises `Busy` in an event loop.
        events: where to tell what happens.
        wire: encode and decode all that goes in and out, in bodies of at most so many bytes; None: do not.
    """

    def __init__(
        self,
        threads: int,
        own: Mapping[str, int],
        max_open: int,
        events: Events | None = None,
        *,
        wire: int | None = None,
    ) -> None:
        self.events = events or Events()
        self._wire = wire
        self._threads, self._own, self._max_open = threads, dict(own), max_open
        self._room = Room(max_open)
        self._ids = itertools.count(1)
        self._open_ids = OpenIDs()
        self._closed = False
        self._pools: dict[str, ThreadPool[_Job] | LoopPool[_Job]] = {}
        self._making = threading.Lock()
        self._callbacks = CallbackThread()
        self.events.call_soon = self._callbacks.call_soon
        self._watchdog: Watchdog[_Job] = Watchdog("dingo-time-limits", self._overran)
        self._open: set[_Job] = set()

    def slots(self, function: Function) -> int:
        """Return how many workers serve a function."""
        return self._own.get(function.name, self._threads)

    def submitter(self, function: Function, options: Options) -> Submit:
        """Return what sends a task of `function` with `options`."""
        if function.callable is None:
            raise UsageError(
                f"{function.name} is only declared here, so local mode cannot run it; "
                'hint: register it, or use App("mesh")'
            )
        if self._wire is not None:
            function = replace(function, signature=WireSignature.of_signature(function.signature, self._wire))
        correct, name, ids = function.signature.correct, function.name, self._ids
        if function.signature.takes_anything:
            correct = refusing_results(correct)
        new_id, new_result = self._id_makers(function)
        monitor = options.monitor_progress
        limits = (options.time_limit, options.soft_time_limit)
        limited = limits if any(limits) else None
        pool = self._pool_for(function)
        tasks, max_open = self._open, self._max_open
        opened = tasks.add

        def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result[Any]:
            args, kwargs = correct(args, kwargs)
            if len(tasks) >= max_open:
                self._room.wait(self._full)
            job = _Job(self, function, new_id(next(ids)), args, kwargs, monitor, pool, limited)
            result = new_result(name, job.id, job)
            job.result = result
            opened(job)
            if self._closed:  # looked at last: `close` says so first, and then settles what is open
                self._ended(job)
                raise Closed("this App is closed")
            if monitor:
                result._report(Report(name, job.id, Status.SENT, attempt=1))
            pool.submit(job)  # looked up each time: it gets quicker once all threads are there
            return result

        return call

    def _id_makers(
        self, function: Function
    ) -> tuple[Callable[[int], str], Callable[[str, str, _Job], Result[Any]]]:
        """Return what makes the id of a task (of its number, where there is no id maker), and its result."""
        maker, name = function.id_maker, function.name
        if maker is None:
            return str, Result

        def new_result(name: str, id: str, job: _Job) -> Result[Any]:
            result: Result[Any] = Result(name, id, job)
            self._open_ids.keep(result)
            return result

        return lambda _: OpenIDs.new(maker, name), new_result

    def _full(self) -> bool:
        return len(self._open) >= self._max_open and not self._closed

    def _ended(self, job: _Job) -> None:
        self._open.discard(job)
        if self._room.waiting:
            self._room.freed()

    def _pool_for(self, function: Function) -> ThreadPool[_Job] | LoopPool[_Job]:
        own = self._own.get(function.name)
        if function.is_coroutine:
            name = "loop" if own is None else f"loop {function.name}"
            return self._pool(name, lambda: LoopPool(name, self._run_coroutine, own))
        if own is not None:
            run = _OwnRun(self, function).run
            return self._pool(f"own {function.name}", lambda: ThreadPool(function.name, own, run))
        return self._pool("shared", lambda: ThreadPool("local", self._threads, self._run))

    def _pool(
        self, name: str, make: Callable[[], ThreadPool[_Job] | LoopPool[_Job]]
    ) -> ThreadPool[_Job] | LoopPool[_Job]:
        with self._making:
            if name not in self._pools:
                self._pools[name] = make()
            return self._pools[name]

    def _run(self, job: _Job) -> None:
        now_running = self._begin(job)
        if now_running is None:
            return
        token = running.set(now_running)
        try:
            value = job.function.callable(*job.args, **job.kwargs)  # type: ignore[misc]
            self._succeed(job, job.function.signature.correct_return(value))
        except BaseException as exc:
            self._fail(job, exc, now_running.limits)
        finally:
            running.reset(token)
        if job.limits is not None and not self._watchdog.forget(job):
            raise Leave

    async def _run_coroutine(self, job: _Job) -> None:
        now_running = self._begin(job)
        if now_running is None:
            return
        running.set(now_running)
        pool = job.pool
        assert isinstance(pool, LoopPool)
        pool.helm.begin(job)
        try:
            work = job.function.callable(*job.args, **job.kwargs)  # type: ignore[misc]
            value = await pool.helm.steered(work, now_running.limits)
            self._succeed(job, job.function.signature.correct_return(value))
        except BaseException as exc:
            self._fail(job, exc, now_running.limits)
        finally:
            pool.helm.end(job)
            if job.limits is not None:
                self._watchdog.forget(job)

    def _begin(self, job: _Job) -> Running | None:
        try:
            job.claim.pop()
        except IndexError:
            self._ended(job)
            return None
        if job.monitor:
            job.result._report(Report(job.function.name, job.id, Status.PROGRESS, attempt=1))
        now_running = Running(job.function.name, self._tell)
        now_running.task = job
        if job.limits is not None:
            now_running.limits = Limits(*job.limits)
            self._watchdog.watch(job, now_running.limits.hard)
        return now_running

    def _succeed(self, job: _Job, value: Any) -> None:
        self._ended(job)
        job.result._succeed(value, "", 1)

    def _fail(self, job: _Job, exc: BaseException, limits: Limits | None) -> None:
        self._ended(job)
        code = Code.DECODE if isinstance(exc, ArgumentError) else Code.RAISED
        failure = stopped(exc, limits, cancelled=job.cancelled)
        if failure is None:
            failure = failure_of(exc, Code.ENCODE if isinstance(exc, EncodeError) else code)
        self.events.failed(failure, job.function.name, job.id, error=exc)
        job.result._fail(decode_failure(encode_failure(failure)) if self._wire is not None else failure)

    def _overran(self, job: _Job, thread: threading.Thread, limit: float) -> None:
        """The time of a task is over: it ends for its caller, and its thread is taken for lost."""
        ended = job.result._fail(over_limit(limit))  # or it is done just now
        job.cancelled = True
        self._ended(job)
        said = f"task {job.function.name} id {job.id} was ended after {limit:g} s (time_limit)"
        if isinstance(job.pool, LoopPool):
            job.pool.cancel(job)
        else:
            job.pool.replace(thread)
            said += "; its thread goes on, and another takes its place"
        if ended:
            _log.warning("%s", said)

    def resize(self, name: str, count: int) -> None:
        """A function with workers of its own gets another number of them."""
        self._own[name] = count
        pool = self._own_pool(name)
        if pool is not None:
            pool.resize(count)

    def started(self, name: str) -> int:
        """Return how many workers of its own a function has that are started."""
        pool = self._own_pool(name)
        if pool is None:
            return 0
        return pool.started if isinstance(pool, ThreadPool) else self._own[name]

    def _own_pool(self, name: str) -> ThreadPool[_Job] | LoopPool[_Job] | None:
        return self._pools.get(f"own {name}") or self._pools.get(f"loop {name}")

    def _tell(self, job: _Job, fraction: float | None, note: str | None) -> None:
        if job.monitor:
            name = job.function.name
            if self._wire is not None:
                fraction, note = decode_progress(encode_progress(fraction, note))
            job.result._report(Report(name, job.id, Status.PROGRESS, value=(fraction, note), attempt=1))

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Run a user's callback on a thread of its own."""
        self._callbacks.call_soon(fn, *args)

    @property
    def open(self) -> int:
        """How many tasks are not settled."""
        return len(self._open)

    def load(self) -> tuple[int, int]:
        """Return how many tasks run, and how many wait for a worker."""
        jobs = list(self._open)
        return sum(not job.claim and not job.cancelled for job in jobs), sum(bool(job.claim) for job in jobs)

    def results(self) -> list[Result[Any]]:
        """Return the results of all tasks not settled."""
        return [job.result for job in list(self._open)]

    def close(self, timeout: float) -> None:
        """Settle what is open with FAIL/SHUTDOWN and let the workers end."""
        self._closed = True
        self._room.freed()
        still = list(self._open)
        for job in still:
            job.cancelled = True
            if job.claim:
                job.claim.clear()
            job.result._fail(Failure(Code.SHUTDOWN, "the App was closed before the task was done"))
        for pool in self._pools.values():  # where nothing is open, workers may still be settling the last results
            pool.close(0.0 if still else timeout)
        self._watchdog.close()
        self._callbacks.close(timeout)
