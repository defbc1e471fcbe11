"""Local mode: functions run on a pool in this process, and nothing is encoded."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from random import random
from time import monotonic
from typing import Any

from dingo_zmq.allocation import Own
from dingo_zmq.balance import Ledger, OpenTask, balanced, drawn
from dingo_zmq.current import Running, running
from dingo_zmq.errors import ArgumentError, Closed, EncodeError, UsageError
from dingo_zmq.flow import refusing_results
from dingo_zmq.forked import FORKED
from dingo_zmq.ids import OpenIDs
from dingo_zmq.ignored import tell_ignored, tell_left_undone
from dingo_zmq.invoke import WireSignature
from dingo_zmq.later import Later
from dingo_zmq.limits import BEFORE_IT_STARTED, THREAD_GOES_ON, Limits, over_limit, stopped, was_ended
from dingo_zmq.listening import Events
from dingo_zmq.marshal import decode_failure, decode_progress, encode_failure, encode_progress
from dingo_zmq.model import Code, Failure, Options, Report, Status
from dingo_zmq.pool import CallbackThread, Leave, LoopPool, ThreadPool, failure_of
from dingo_zmq.registry import Function
from dingo_zmq.result import Result
from dingo_zmq.room import Room
from dingo_zmq.stream import StreamOwner, handing_out
from dingo_zmq.task import Submit, SubmitStream
from dingo_zmq.watchdog import Watchdog
from dingo_zmq.yielding import Gate, send_values, send_values_in_loop

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
        "number",
        "options",
        "pool",
        "result",
        "since",
    )

    def __init__(
        self,
        engine: LocalEngine,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        monitor: bool,
        pool: ThreadPool[_Job] | LoopPool[_Job],
        limits: tuple[float | None, float | None] | None,
        options: Options,
    ) -> None:
        self.engine, self.function, self.args, self.kwargs = engine, function, args, kwargs
        self.monitor, self.pool, self.limits, self.options = monitor, pool, limits, options
        self.attempt = 1
        self.cancelled = False
        self.claim = [None]
        self.since = monotonic()
        self.number = 0  # until its call draws one
        self.id: str
        self.result: Result[Any]

    # -- as the owner of its result

    def cancel(self, result: Result[Any]) -> bool:
        try:
            self.claim.pop()
        except IndexError:
            return False
        self.cancelled = True
        return self.engine._settle(self, Failure(Code.CANCELLED, BEFORE_IT_STARTED))

    def stop(self, result: Result[Any]) -> bool:
        if result.done() or self.cancel(result):
            return result.cancelled()
        self.cancelled = True
        if self.claim and self.cancel(result):  # it was about to be tried again
            return True
        if isinstance(self.pool, LoopPool):
            self.pool.cancel(self)
        return True

    def why(self, result: Result[Any]) -> str:
        if self.claim and (pause := self.engine.pauses.get(self)) is not None:
            return pause.why()
        if self.claim:
            return f"it waits for one of the {self.engine.slots(self.function)} workers of this process"
        return "it is running in this process"

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        self.engine.call_soon(fn, *args)

    def handler_failed(self, result: Result[Any], error: Exception) -> None:
        self.engine.events.handler_failed(error, result.name, result.id, repr(result))

    def give_up(self) -> None:
        """Whoever runs it should know that nobody wants it any more."""
        self.cancelled = True


class _StreamJob(StreamOwner, _Job):
    """A task whose values are read as they come; `gate` is that of the try that runs."""

    gate: Gate

    def tell(self) -> None:
        """Have the function yield more."""
        self.gate.take(self.reading.tell(self.attempt))

    def put(self, value: Any) -> int:
        """Take one value that the function yielded."""
        value = self.function.signature.correct_return(value)
        if not self.reading.came(self.attempt, 0):
            if self.reading.due(self.attempt):
                self.tell()
        elif (stream := self.stream()) is not None:
            name, options = self.function.name, self.options
            stream.put(Report(name, self.id, Status.PARTIAL, value, attempt=self.attempt, options=options), 0)
        return 0

    def why(self, result: Result[Any]) -> str:
        return super().why(result) + (", and waits for its reader" if self.gate.waiting else "")

    def stop(self, result: Result[Any]) -> bool:
        asked = super().stop(result)
        self.gate.look()
        return asked

    def give_up(self) -> None:
        super().give_up()
        self.gate.look()


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
        events: where to tell what happens.
        full: "wait", or "raise" where a call at the bound raises `Busy` anywhere.
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
        full: str = "wait",
    ) -> None:
        self.events = events or Events()
        self._wire = wire
        self._threads, self._own, self._max_open = threads, dict(own), max_open
        self._room = Room(max_open, full)
        self._ids = itertools.count(1)
        self._open_ids = OpenIDs()
        self._counting = threading.Lock()  # held while a task is taken out of the open ones that did not end well
        self._codes: Counter[Code] = Counter()
        self._ok = itertools.count(1)
        self._went_well = self._ok.__next__  # counts a task that ended well, in one step
        self._turned_away = 0  # numbers drawn by calls that raised
        self._closed, self._cause = False, "this App is closed"
        self._pools: dict[str, ThreadPool[_Job] | LoopPool[_Job]] = {}
        self._making = threading.Lock()
        self._callbacks = CallbackThread()
        self.events.call_soon = self._callbacks.call_soon
        self._watchdog: Watchdog[_Job] = Watchdog("dingo-time-limits", self._overran)
        self._open: set[_Job] = set()
        self._later = Later("later")
        self.pauses: dict[_Job, _Pause] = {}  # of tasks that are not to start yet

    def slots(self, function: Function) -> int:
        """Return how many workers serve a function."""
        return self._own.get(function.name, self._threads)

    def submitter(self, function: Function, options: Options) -> Submit:
        """Return what sends a task of `function` with `options`."""
        return self._submitter(function, options, _Job)

    def streamer(self, function: Function, options: Options) -> SubmitStream:
        """Return what sends a task of `function` with `options`, whose values are read as they come."""
        return handing_out(self._submitter(function, options, _StreamJob))

    def _submitter(self, function: Function, options: Options, make: type[_Job]) -> Submit:  # noqa: C901 - hot
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
        monitor = options.monitor_progress and not options.ignore_report
        special = options.on_terms or options.ignore_report or options.priority or make is not _Job
        limits = (options.time_limit, options.soft_time_limit)
        limited = limits if any(limits) else None
        pool = self._pool_for(function)
        tasks, max_open = self._open, self._max_open
        opened = tasks.add

        def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result[Any]:
            args, kwargs = correct(args, kwargs)
            if len(tasks) >= max_open:
                self._room.wait(self._full)
            job = make(self, function, args, kwargs, monitor, pool, limited, options)
            try:
                opened(job)
                for job.number in ids:  # noqa: B007, B020 - unlike by next(), drawn and kept in one step, see `ledger`
                    break
                job.id = new_id(job.number)
                job.result = result = new_result(name, job.id, job)
                if self._closed:  # looked at last: `close` says so first, and then settles what is open
                    raise Closed(self._cause)
                if monitor:
                    result._report(Report(name, job.id, Status.SENT, attempt=1, options=options))
                if special:
                    return self._submit_special(job)
                pool.submit(job)  # looked up each time: it gets quicker once all threads are there
            except BaseException:
                self._turn_away(job)
                raise
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

    def _turn_away(self, job: _Job) -> None:
        """A call raises; its task does not run, unless it is about to already."""
        try:
            job.claim.pop()
        except IndexError:
            return
        job.cancelled = True
        with self._counting:
            if self._ended(job):
                self._turned_away += bool(job.number)

    def _submit_special(self, job: _Job) -> Result[Any]:
        """See to a task whose options ask for more than to be run; return what the program gets."""
        options, told = job.options, job.result
        if isinstance(job, _StreamJob):
            job.gate = Gate(job)
            job.open_stream(job.result, job.tell)
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
        job.pool.submit_ranked(job, job.options.priority)

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

    def _may_try_again(self, job: _Job, failure: Failure) -> bool:
        tries = job.options.tries
        if job.options.at_most_once or job.cancelled or self._closed:
            return False
        return job.attempt <= tries.raised and tries.covers(failure)

    def _try_again(self, job: _Job, failure: Failure) -> None:
        """A function has raised: call it again after a pause."""
        tries, number = job.options.tries, job.attempt
        seconds = tries.pause(number, random())  # noqa: S311 (of no use to anybody who guesses it)
        cause = f"{failure.type}: {failure.message}".strip(": ").replace("{", "{{").replace("}", "}}")
        text = f"attempt {number + 1} of {tries.raised + 1} in {{:.1f}} s after {cause}"
        if job.monitor:
            self._progress(job, (None, text.format(seconds)), failure)
        job.attempt += 1
        job.claim = [None]  # from now on it can be cancelled
        if job.cancelled:
            job.cancel(job.result)
        else:
            self._pause(job, seconds, text)

    def _end(self, job: _Job, failure: Failure, error: BaseException | None = None) -> None:
        """Settle a task that has failed."""
        if self._settle(job, self._carried(failure)) and job.options.ignore_report:
            tell_ignored(self.events, job.function.name, job.id, failure, error)

    def _carried(self, failure: Failure) -> Failure:
        return failure if self._wire is None else decode_failure(encode_failure(failure), attempt=failure.attempt)

    def _full(self) -> bool:
        return len(self._open) >= self._max_open and not self._closed

    def _ended(self, job: _Job) -> bool:
        """Take a task out of the open ones; whoever is told True settles it."""
        try:
            self._open.remove(job)
        except KeyError:
            return False
        if self.pauses:
            self.pauses.pop(job, None)
        if self._room.waiting:
            self._room.freed()
        return True

    def _settle(self, job: _Job, failure: Failure) -> bool:
        """Settle a task that has failed, unless it is settled; return whether it was."""
        with self._counting:
            ended = self._ended(job)
            if ended:
                self._codes[failure.code] += 1
        if ended:
            job.result._fail(failure)
        return ended

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
        again, token = None, running.set(now_running)
        try:
            value = job.function.callable(*job.args, **job.kwargs)  # type: ignore[misc]
            if type(job) is _Job:
                self._succeed(job, job.function.signature.correct_return(value))
            else:
                self._send_values(job, value, now_running.limits)
        except BaseException as exc:
            again = self._fail(job, exc, now_running.limits)
        finally:
            running.reset(token)
        if job.limits is not None and not self._watchdog.forget(job):
            raise Leave
        if again is not None:
            again()

    async def _run_coroutine(self, job: _Job) -> None:
        now_running = self._begin(job)
        if now_running is None:
            return
        running.set(now_running)
        again, pool = None, job.pool
        assert isinstance(pool, LoopPool)
        pool.helm.begin(job)
        try:
            work = job.function.callable(*job.args, **job.kwargs)  # type: ignore[misc]
            if isinstance(job, _StreamJob):
                job.gate = Gate(job)
                work = send_values_in_loop(work, job.put, job.gate)
            value = await pool.helm.steered(work, now_running.limits)
            if isinstance(job, _StreamJob):
                self._succeed(job, job.reading.had)
            else:
                self._succeed(job, job.function.signature.correct_return(value))
        except BaseException as exc:
            again = self._fail(job, exc, now_running.limits)
        finally:
            pool.helm.end(job)
            if job.limits is not None:
                self._watchdog.forget(job)
        if again is not None:
            again()

    def _begin(self, job: _Job) -> Running | None:
        try:
            job.claim.pop()
        except IndexError:
            return None
        if job.monitor:
            self._progress(job, None)
        now_running = Running(job.function.name, self._tell)
        now_running.task = job
        if job.limits is not None:
            now_running.limits = Limits(*job.limits)
            self._watchdog.watch(job, now_running.limits.hard)
        return now_running

    def _send_values(self, job: Any, values: Any, limits: Limits | None) -> None:
        """Hand on what a function yields; a generator has not begun yet."""
        job.gate = Gate(job)
        send_values(values, job.put, job.gate, limits)
        self._succeed(job, job.reading.had)

    def _succeed(self, job: _Job, value: Any) -> None:
        try:
            self._open.remove(job)  # as `_ended` does, for it is not paused
        except KeyError:
            return
        if self._room.waiting:
            self._room.freed()
        self._went_well()
        job.result._succeed(value, "", job.attempt)

    def _fail(self, job: _Job, exc: BaseException, limits: Limits | None) -> Callable[[], None] | None:
        """A task has failed; return what has it tried again, to be called when its worker is done with it."""
        code = Code.DECODE if isinstance(exc, ArgumentError) else Code.RAISED
        failure = stopped(exc, limits, cancelled=job.cancelled)
        if failure is None:
            failure = failure_of(exc, Code.ENCODE if isinstance(exc, EncodeError) else code)
        again = bool(job.options.retries) and self._may_try_again(job, failure)
        if again or not job.options.ignore_report:
            self.events.failed(failure, job.function.name, job.id, error=exc)
        if again:
            return partial(self._try_again, job, self._carried(failure))
        if job.options.retries:
            failure = replace(failure, attempt=job.attempt)
            if failure.code is Code.RAISED:
                failure = failure.after(job.attempt)
        self._end(job, failure, exc)
        return None

    def _overran(self, job: _Job, thread: threading.Thread, limit: float) -> None:
        """The time of a task is over: it ends for its caller, and its thread is taken for lost."""
        ended = self._settle(job, over_limit(limit))  # or it is done just now
        job.give_up()
        said = was_ended(job.function.name, job.id, limit)
        if isinstance(job.pool, LoopPool):
            job.pool.cancel(job)
        else:
            job.pool.replace(thread)
            said += THREAD_GOES_ON
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
            if self._wire is not None:
                fraction, note = decode_progress(encode_progress(fraction, note))
            self._progress(job, (fraction, note))

    def _progress(self, job: _Job, value: Any, failure: Failure | None = None) -> None:
        name = job.function.name
        job.result._report(
            Report(name, job.id, Status.PROGRESS, value, failure, attempt=job.attempt, options=job.options)
        )

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
        return [job.result for job in list(self._open) if hasattr(job, "result")]

    def left_behind(self) -> list[Result[Any]]:
        """In a forked child: take no more tasks, and return the results that nobody will settle here."""
        self._closed, self._cause = True, FORKED
        return self.results()

    def ledger(self) -> Ledger:
        """Return what became of the tasks called; see `App.ledger`."""
        with self._counting:
            ok = drawn(self._ok)  # before all else, so that nothing is done that was not called
            drawn_by_now = drawn(self._ids)
            still = list(self._open)
            called, codes = drawn_by_now - self._turned_away, self._codes.copy()
        still, now = [job for job in still if 0 < job.number <= drawn_by_now], monotonic()
        return balanced(called, ok, codes, [_open_task(job, now) for job in still if hasattr(job, "id")])

    def close(self, timeout: float) -> None:
        """Settle what is open with FAIL/SHUTDOWN and let the workers end."""
        self._closed = True
        self._room.freed()
        self._later.close(timeout)
        still = [job for job in list(self._open) if hasattr(job, "result")]  # else its call sees that it is closed
        tell_left_undone(self.events, sum(job.options.ignore_report for job in still))
        for job in still:
            job.give_up()
            if job.claim:
                job.claim.clear()
            self._settle(job, Failure(Code.SHUTDOWN, "the App was closed before the task was done"))
        for pool in self._pools.values():  # where nothing is open, workers may still be settling the last results
            pool.close(0.0 if still else timeout)
        self._watchdog.close()
        self._callbacks.close(timeout)


def _open_task(job: _Job, now: float) -> OpenTask:
    return OpenTask(job.function.name, job.id, "", job.attempt, now - job.since, not job.claim)
