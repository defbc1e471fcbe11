"""Local mode: functions run on a pool in this process, and nothing is encoded."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from random import random
from time import monotonic
from typing import Any

from dingo_zmq.current import Running, running
from dingo_zmq.errors import ArgumentError, Closed, UsageError
from dingo_zmq.ignored import log_ignored, log_left_undone
from dingo_zmq.later import Later
from dingo_zmq.model import Code, Failure, Options, Report, Status
from dingo_zmq.pool import CallbackThread, LoopPool, ThreadPool, failure_of
from dingo_zmq.registry import Function
from dingo_zmq.result import Result
from dingo_zmq.room import Room
from dingo_zmq.task import Submit

__all__ = ["LocalEngine"]


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
        "options",
        "result",
    )

    def __init__(
        self,
        engine: LocalEngine,
        function: Function,
        id: str,  # noqa: A002
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
    ) -> None:
        self.engine, self.function, self.id, self.args, self.kwargs = engine, function, id, args, kwargs
        self.options = options
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
        self.engine._ended(self)
        return result._fail(Failure(Code.CANCELLED, "cancelled before it started"))

    def why(self, result: Result[Any]) -> str:
        if self.claim and (pause := self.engine.pauses.get(self)) is not None:
            return pause.why()
        if self.claim:
            return f"it waits for one of the {self.engine.slots(self.function)} workers of this process"
        return "it is running in this process"

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        self.engine.call_soon(fn, *args)


class _Pause:
    """Why a task is not to start yet: `text` with the seconds until `due` put in."""

    __slots__ = ("due", "text")

    def __init__(self, text: str, due: float) -> None:
        self.text, self.due = text, due

    def why(self) -> str:
        return self.text.format(max(0.0, self.due - monotonic()))


class LocalEngine:
    """
    Runs tasks on threads of this process; coroutine functions on one event loop.

    Args:
        threads: size of the shared pool.
        own: functions with workers of their own, and how many.
        max_open: tasks not settled at a time; at the bound a call waits, or raises `Busy` in an event loop.
    """

    def __init__(self, threads: int, own: Mapping[str, int], max_open: int) -> None:
        self._threads, self._own, self._max_open = threads, dict(own), max_open
        self._room = Room(max_open)
        self._ids = itertools.count(1)
        self._closed = False
        self._pools: dict[str, ThreadPool[_Job] | LoopPool[_Job]] = {}
        self._making = threading.Lock()
        self._callbacks = CallbackThread()
        self._open: set[_Job] = set()
        self._later = Later("later")
        self.pauses: dict[_Job, _Pause] = {}  # of tasks that are not to start yet

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
        correct, name, ids = function.signature.correct, function.name, self._ids
        monitor = options.monitor_progress and not options.ignore_report
        special = options.on_terms or options.ignore_report or options.priority
        pool = self._pool_for(function)
        tasks, max_open = self._open, self._max_open
        opened = tasks.add

        def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result[Any]:
            args, kwargs = correct(args, kwargs)
            if len(tasks) >= max_open:
                self._room.wait(self._full)
            job = _Job(self, function, str(next(ids)), args, kwargs, options)
            result: Result[Any] = Result(name, job.id, job)
            job.result = result
            opened(job)
            if self._closed:  # looked at last: `close` says so first, and then settles what is open
                self._ended(job)
                raise Closed("this App is closed")
            if monitor:
                result._report(Report(name, job.id, Status.SENT, attempt=1, options=options))
            if special:
                return self._submit_special(job)
            pool.submit(job)  # looked up each time: it gets quicker once all threads are there
            return result

        return call

    def _submit_special(self, job: _Job) -> Result[Any]:
        """See to a task whose options ask for more than to be run; return what the program gets."""
        options, told = job.options, job.result
        if options.ignore_report:
            told = Result(job.function.name, job.id, job)
            told._succeed(None)
        if options.expires is not None:
            self._later.after(options.expires, partial(self._expire, job, job.claim))
        if options.delay:
            self._pause(job, options.delay, "it is not to start for another {:.1f} s (delay)")
        else:
            self._queue(job)
        return told

    def _queue(self, job: _Job) -> None:
        self._pool_for(job.function).submit_ranked(job, job.options.priority)

    def _pause(self, job: _Job, seconds: float, text: str) -> None:
        self.pauses[job] = _Pause(text, monotonic() + seconds)
        self._later.after(seconds, partial(self._resume, job))

    def _resume(self, job: _Job) -> None:
        if self.pauses.pop(job, None) is not None:
            self._queue(job)

    def _expire(self, job: _Job, claim: list[None]) -> None:
        """The time of a task is up: it ends, unless it has started."""
        try:
            claim.pop()
        except IndexError:
            return
        self._end(job, Failure(Code.EXPIRED, f"it was not started within {job.options.expires:g} s of the call"))

    def _try_again(self, job: _Job, failure: Failure) -> bool:
        """A function has raised; return whether it is called again, and see to it."""
        tries, number = job.options.tries, job.attempt
        if job.options.at_most_once or job.cancelled or self._closed:
            return False
        if number > tries.raised or not tries.covers(failure):
            return False
        seconds = tries.pause(number, random())  # noqa: S311 (of no use to anybody who guesses it)
        cause = f"{failure.type}: {failure.message}".strip(": ").replace("{", "{{").replace("}", "}}")
        text = f"attempt {number + 1} of {tries.raised + 1} in {{:.1f}} s after {cause}"
        if job.options.monitor_progress and not job.options.ignore_report:
            said = text.format(seconds)
            name, options = job.function.name, job.options
            job.result._report(
                Report(name, job.id, Status.PROGRESS, (None, said), failure, attempt=number, options=options)
            )
        job.attempt += 1
        job.claim = [None]  # from now on it can be cancelled
        self._pause(job, seconds, text)
        return True

    def _end(self, job: _Job, failure: Failure) -> None:
        """Settle a task that has failed."""
        self._ended(job)
        if job.result._fail(failure) and job.options.ignore_report:
            log_ignored(job.function.name, job.id, failure)

    def _full(self) -> bool:
        return len(self._open) >= self._max_open and not self._closed

    def _ended(self, job: _Job) -> None:
        self._open.discard(job)
        if self.pauses:
            self.pauses.pop(job, None)
        if self._room.waiting:
            self._room.freed()

    def _pool_for(self, function: Function) -> ThreadPool[_Job] | LoopPool[_Job]:
        own = self._own.get(function.name)
        if function.is_coroutine:
            name = "loop" if own is None else f"loop {function.name}"
            return self._pool(name, lambda: LoopPool(name, self._run_coroutine, own))
        if own is not None:
            return self._pool(f"own {function.name}", lambda: ThreadPool(function.name, own, self._run))
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
            self._fail(job, exc)
        finally:
            running.reset(token)

    async def _run_coroutine(self, job: _Job) -> None:
        now_running = self._begin(job)
        if now_running is None:
            return
        running.set(now_running)
        try:
            value = await job.function.callable(*job.args, **job.kwargs)  # type: ignore[misc]
            self._succeed(job, job.function.signature.correct_return(value))
        except BaseException as exc:
            self._fail(job, exc)

    def _begin(self, job: _Job) -> Running | None:
        try:
            job.claim.pop()
        except IndexError:
            self._ended(job)
            return None
        options = job.options
        if options.monitor_progress and not options.ignore_report:
            name = job.function.name
            job.result._report(Report(name, job.id, Status.PROGRESS, attempt=job.attempt, options=options))
        now_running = Running(job.function.name, self._tell)
        now_running.task = job
        return now_running

    def _succeed(self, job: _Job, value: Any) -> None:
        self._ended(job)
        job.result._succeed(value, "", 1)

    def _fail(self, job: _Job, exc: BaseException) -> None:
        code = Code.DECODE if isinstance(exc, ArgumentError) else Code.RAISED
        failure = failure_of(exc, code)
        if job.options.retries:
            if self._try_again(job, failure):
                return
            failure = replace(failure, attempt=job.attempt)
            if failure.code is Code.RAISED:
                failure = failure.after(job.attempt)
        self._end(job, failure)

    def _tell(self, job: _Job, fraction: float | None, note: str | None) -> None:
        options = job.options
        if options.monitor_progress and not options.ignore_report:
            name, value = job.function.name, (fraction, note)
            job.result._report(Report(name, job.id, Status.PROGRESS, value, attempt=job.attempt, options=options))

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
        self._later.close(timeout)
        still = list(self._open)
        log_left_undone(sum(job.options.ignore_report for job in still))
        for job in still:
            job.cancelled = True
            if job.claim:
                job.claim.clear()
            job.result._fail(Failure(Code.SHUTDOWN, "the App was closed before the task was done"))
        for pool in self._pools.values():  # where nothing is open, workers may still be settling the last results
            pool.close(0.0 if still else timeout)
        self._callbacks.close(timeout)
