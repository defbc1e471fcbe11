"""The node of remote mode: holds what a consumer brings, runs it, and reports."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, cast

from dingo_zmq.allocation import Own
from dingo_zmq.current import Running, running
from dingo_zmq.errors import ArgumentError, EncodeError, PeerError, UsageError
from dingo_zmq.events import EventCode, Level, Origin
from dingo_zmq.later import Later
from dingo_zmq.limits import BEFORE_IT_STARTED, THREAD_GOES_ON, Limits, over_limit, stopped, was_ended
from dingo_zmq.listening import Events
from dingo_zmq.marshal import Body, check_return, encode_failure, encode_progress, frozen, size
from dingo_zmq.model import Code, Failure, Options, Status, counted, plain
from dingo_zmq.pool import Leave, LoopPool, ThreadPool, failure_of
from dingo_zmq.ports import (
    Channel,
    Consumer,
    HearsStops,
    HearsTaken,
    Listener,
    NamedConsumer,
    PreparesReports,
    Receipt,
    ReceiptStatus,
    ReportPacket,
    Resizes,
    TaskPacket,
)
from dingo_zmq.registry import Function
from dingo_zmq.remote.roles import Roles
from dingo_zmq.waiting import Condition
from dingo_zmq.watchdog import Watchdog
from dingo_zmq.yielding import Gate, check_called_as_it_is, send_values, send_values_in_loop

__all__ = ["RemoteNode"]

COROUTINE_SLOTS = 64
BATCH_MOST = 256
"""reports handed to a channel at a time"""
FLUSH_SECONDS = 3.0
"""time for the last reports to leave"""
_OK = Receipt(ReceiptStatus.OK)
_CLOSING = Receipt(ReceiptStatus.NOK, "the node is closing")
_log = logging.getLogger("dingo_zmq.node")


class _Outbox:
    """Sends reports down one channel, in order, from a thread of its own."""

    def __init__(self, name: str, channel: Channel, events: Events) -> None:
        self._channel, self._name, self._events = channel, name, events
        self._reports: SimpleQueue[ReportPacket | None] = SimpleQueue()
        self.put: Callable[[ReportPacket | None], None] = self._reports.put
        self._thread = threading.Thread(target=self._run, name=f"dingo-reports {name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        going = True
        while going:
            reports = [self._reports.get()]
            try:
                while len(reports) < BATCH_MOST:
                    reports.append(self._reports.get_nowait())
            except Empty:
                pass
            going = None not in reports
            self._send([report for report in reports if report is not None])

    def _send(self, reports: list[ReportPacket]) -> None:
        try:
            if reports:
                self._channel(reports)
        except Exception as exc:
            text = f"{counted(len(reports), 'report')} of {self._name} lost: the channel failed"
            self._events.tell(Origin.NODE, Level.ERROR, EventCode.DROPPED, text, name=self._name, error=exc)

    def close(self, seconds: float) -> None:
        """Send what is there and end."""
        self.put(None)
        self._thread.join(seconds)


class _Workers:
    """A pool, and the tasks held for it: twice as many as run at a time, and no more."""

    def __init__(self, slots: int, pool: ThreadPool[_Job] | LoopPool[_Job]) -> None:
        self.slots, self.pool = slots, pool
        self._free = 2 * slots
        self._changed = Condition()
        self._closing = False

    def hold(self, job: _Job) -> bool:
        """Wait for room for one more task, and take it; False when closing, or if it is not to start any more."""
        with self._changed:
            if self._free <= 0:
                self._changed.wait_for(lambda: self._free > 0 or self._closing or job.over, job.seconds_left())
            if self._closing or self._free <= 0 or job.over:
                self._changed.notify()  # the room may be for another
                return False
            self._free -= 1
            return True

    def release(self) -> None:
        with self._changed:
            self._free += 1
            self._changed.notify()

    def look(self) -> None:
        """Have those who wait for room look whether they still want it."""
        with self._changed:
            self._changed.notify_all()

    def resize(self, slots: int) -> None:
        """Have another number of workers."""
        self.pool.resize(slots)
        with self._changed:
            self._free += 2 * (slots - self.slots)
            self.slots = slots
            self._changed.notify_all()

    def turn_away(self) -> None:
        """Hold no more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()


class _Served:
    """
    One function: its workers, and the channels of its reports, which its tasks use in turn.

    Args:
        function: what is called.
        workers: who calls it.
        channel: makes a channel of its reports.
    """

    def __init__(self, function: Function, workers: _Workers, channel: Callable[[], _Outbox]) -> None:
        self.function, self.workers = function, workers
        self.own = Own(function) if "factory" in function.settings else None
        self.outboxes: list[_Outbox] = []
        self._channel = channel
        options = function.options
        self.limits = options.time_limit, options.soft_time_limit
        self.open_channels()

    def open_channels(self) -> None:
        """Have as many channels as its workers need."""
        slots = self.workers.slots
        while len(self.outboxes) < -(-slots // (self.function.settings.get("share") or slots)):
            self.outboxes.append(self._channel())
        self._turns = itertools.cycle(list(self.outboxes))

    def outbox(self) -> _Outbox:
        return next(self._turns)


class _Job:
    """
    A task that is held, or waits for room.

    Attributes:
        start: emptied by whoever has it start, or sees to it that it never does.
        claim: emptied by whoever makes its final report.
        cancelled: whether nobody wants its result any more.
        gate: holds a function that yields back while its reader is behind.
        limits: seconds that it may run, hard and soft; None for any.
        until: when it must have started, by ``time.monotonic()``; None for never.
    """

    __slots__ = (
        "attempt",
        "cancelled",
        "claim",
        "gate",
        "id",
        "ignored",
        "limits",
        "monitor",
        "outbox",
        "packet",
        "served",
        "start",
        "until",
    )

    def __init__(self, served: _Served, packet: TaskPacket) -> None:
        options = packet.options
        self.served, self.packet, self.outbox = served, packet, served.outbox()
        self.id, self.attempt = packet.id, packet.attempt
        self.ignored = options.ignore_report
        self.monitor = options.monitor_progress and not self.ignored
        self.cancelled = False
        self.start, self.claim = [None], [None]
        self.gate = Gate(self) if served.function.is_stream else None
        hard, soft = served.limits
        limits = options.time_limit or hard, options.soft_time_limit or soft
        self.limits = limits if any(limits) else None
        self.until = None if options.expires is None else monotonic() + options.expires

    def seconds_left(self) -> float | None:
        """Return the seconds in which it must start, None for any number."""
        return None if self.until is None else max(0.0, self.until - monotonic())

    @property
    def over(self) -> bool:
        """Whether it is not to start any more."""
        return self.cancelled or (self.until is not None and monotonic() >= self.until)

    def give_up(self) -> None:
        """Nobody wants its result any more."""
        self.cancelled = True
        if self.gate is not None:
            self.gate.look()

    def keeps_still(self) -> bool:
        """Return whether it has not started, and is not going to: whoever is told so sees to it."""
        try:
            self.start.pop()
        except IndexError:
            return False
        return True


class RemoteNode:
    """
    Runs what a consumer brings.

    Args:
        roles: what is attached.
        functions: what it serves, all of them registered.
        own: functions with workers of their own, and how many.  Their setting `share` says how many of these use
            one channel of reports; 0 or not told: all.
        threads: workers that the other functions share.
        limit: largest body of a report, bytes.
        name: of the node, for people.
        events: where to tell what happens.

    Raises:
        UsageError: if no consumer or no reporter is attached, or a function yields and the reporter does not bring
            how far readers are.
    """

    def __init__(
        self,
        roles: Roles,
        functions: Iterable[Function],
        own: Mapping[str, int],
        threads: int,
        limit: int,
        name: str,
        events: Events | None = None,
    ) -> None:
        self._events = events or Events()
        consumer, self._reporter = roles.consumer(), roles.reporter()
        self._before_reports: Callable[[str, str], object] = _nothing
        if isinstance(self._reporter, PreparesReports):
            self._before_reports = self._reporter.before_reports
        functions = list(functions)
        yields = next((function.name for function in functions if function.is_stream), "")
        if isinstance(self._reporter, HearsTaken):
            self._reporter.hear_taken(self.taken)
        elif yields:
            raise UsageError(
                f"{yields} yields, and a {type(self._reporter).__qualname__} as reporter does not bring how far "
                "readers are; hint: it needs a method hear_taken"
            )
        self._limit, self._name = limit, name
        self._jobs: set[_Job] = set()
        self._offered: set[_Job] = set()  # and not held yet
        self._later = Later("expires")
        self._watchdog: Watchdog[_Job] = Watchdog("dingo-time-limits", self._overran)
        self._changed = Condition()
        self._pools: dict[str, _Workers] = {}
        self._served: dict[str, _Served] = {}
        for function in functions:
            workers = self._workers_for(function, own.get(function.name), threads)
            self._served[function.name] = _Served(function, workers, partial(self._outbox, function.name))
        self._consumer = consumer
        self._stop_listening: Callable[[], None] = lambda: None
        try:
            if isinstance(consumer, HearsStops):
                consumer.hear_stops(self.stop)
            self._stop_listening = self._listen(consumer, roles.is_named)
        except BaseException:
            self.close()
            raise

    def _outbox(self, name: str) -> _Outbox:
        return _Outbox(name, self._reporter.channel(name), self._events)

    def _listen(self, consumer: NamedConsumer | Consumer, named: bool) -> Callable[[], None]:
        if not named:
            return cast("Consumer", consumer).listen_all(self._take)
        return cast("NamedConsumer", consumer).listen(
            [Listener(name, self._take, served.workers.slots) for name, served in self._served.items()]
        )

    def _workers_for(self, function: Function, own: int | None, threads: int) -> _Workers:
        kind = "loop" if function.is_coroutine else "shared"
        name = kind if own is None else f"{kind} {function.name}"
        if name not in self._pools:
            if function.is_coroutine:
                slots = own or COROUTINE_SLOTS
                self._pools[name] = _Workers(slots, LoopPool(f"remote-{name}", self._run_coroutine, slots))
            else:
                slots = own or threads
                run = self._run if own is None else self._run_own
                self._pools[name] = _Workers(slots, ThreadPool(f"remote-{name}", slots, run))
        return self._pools[name]

    # ------------------------------------------------------------------ taking

    def _take(self, packet: Any) -> Receipt:
        """Hold a task, waiting for room; the receipt says whether it is held, not that it has run."""
        if not _is_task(packet):
            text = f"the consumer brought something that is no task: {type(packet).__qualname__}"
            self._events.tell(Origin.NODE, Level.WARNING, EventCode.DROPPED, text)
            return Receipt(ReceiptStatus.NOK, "it is no task")
        served = self._served.get(packet.name)
        if served is None:
            reason = f"{self._name} has no function {packet.name!r:.80}"
            return self._refuse(packet, Receipt(ReceiptStatus.WORKER_NOT_FOUND, reason))
        job = _Job(served, packet)
        self._offered.add(job)
        room = served.workers.hold(job)
        try:
            if not room and not job.over:
                return self._refuse(packet, _CLOSING)
            self._before_reports(packet.name, packet.id)
            if job.monitor:
                self._report(job, Status.SENT)
            with self._changed:
                self._jobs.add(job)  # from now on it has a final report
        except Exception as exc:
            if room:
                served.workers.release()
            reason = f"the reporter of {self._name} raised {type(exc).__name__}"
            return self._refuse(packet, Receipt(ReceiptStatus.NOK, reason), Level.ERROR, exc)
        finally:
            self._offered.discard(job)
        if job.over:
            self._end_unstarted(job)
        elif job.until is not None:
            self._later.after(job.seconds_left() or 0.0, partial(self._end_unstarted, job))
        if room:
            served.workers.pool.submit_ranked(job, packet.options.priority)
        return _OK

    def _refuse(
        self, packet: TaskPacket, receipt: Receipt, level: Level = Level.INFO, error: Exception | None = None
    ) -> Receipt:
        name, id = packet.name, packet.id  # noqa: A001
        if self._events.hears(Origin.NODE, level):
            text = f"task {plain(name)} id {plain(str(id))} was not taken: {plain(receipt.reason)}"
            details = {"node": self._name, "name": name, "id": id, "error": error}
            self._events.tell(Origin.NODE, level, EventCode.REFUSED, text, **details)
        return receipt

    def _end_unstarted(self, job: _Job) -> None:
        """End a task that is not to start any more, unless it has."""
        if job.keeps_still():
            what = Failure(Code.EXPIRED, "it was not started within the time that it had")
            if job.cancelled:
                what = Failure(Code.CANCELLED, BEFORE_IT_STARTED)
            self._finish(job, Status.FAIL, encode_failure(what))

    def stop(self, name: str, id: str) -> None:
        """End a task as soon as its function lets go of it; its final report says what became of it."""
        here = {*list(self._offered), *list(self._jobs)}
        for job in [job for job in here if (job.packet.name, job.id) == (name, id)]:
            job.give_up()
            if job not in self._jobs:  # `_take` sees to it
                job.served.workers.look()
                continue
            self._end_unstarted(job)
            pool = job.served.workers.pool
            if isinstance(pool, LoopPool):
                pool.cancel(job)

    def taken(self, name: str, id: str, total: int) -> None:
        """The reader of a stream has taken so many values in all."""
        for job in list(self._jobs):
            if job.gate is not None and (job.packet.name, job.id) == (name, id):
                job.gate.take(total)

    # ------------------------------------------------------------------ running

    def _run_own(self, job: _Job) -> None:
        """Run a task of a function that has workers of its own, with what this one calls."""
        own = job.served.own
        self._run(job, None if own is None else own.get())
        pool = job.served.workers.pool
        assert isinstance(pool, ThreadPool)
        pool.thin()

    def _run(self, job: _Job, function: Function | None = None) -> None:
        function = function or job.served.function
        now_running = self._begin(job)
        if now_running is not None:
            token = running.set(now_running)
            try:
                args, kwargs = self._arguments(job)
                value = function.callable(*args, **kwargs)  # type: ignore[misc]
                if job.gate is None:
                    self._succeed(job, value)
                else:
                    send_values(value, partial(self._value, job), job.gate, now_running.limits)
                    self._finish(job, Status.SUCCESS, (b"", ()))
            except BaseException as exc:
                self._fail(job, exc, now_running.limits)
            finally:
                running.reset(token)
        if not self._let_go(job, started=now_running is not None):
            raise Leave

    async def _run_coroutine(self, job: _Job) -> None:
        now_running = self._begin(job)
        if now_running is not None:
            running.set(now_running)
            function, pool = job.served.function, job.served.workers.pool
            assert isinstance(pool, LoopPool)
            pool.helm.begin(job)
            try:
                args, kwargs = self._arguments(job)
                work = function.callable(*args, **kwargs)  # type: ignore[misc]
                if job.gate is None:
                    self._succeed(job, await pool.helm.steered(work, now_running.limits))
                else:
                    work = send_values_in_loop(work, partial(self._value, job), job.gate)
                    await pool.helm.steered(work, now_running.limits)
                    self._finish(job, Status.SUCCESS, (b"", ()))
            except BaseException as exc:
                self._fail(job, exc, now_running.limits)
            finally:
                pool.helm.end(job)
        self._let_go(job, started=now_running is not None)

    @staticmethod
    def _arguments(job: _Job) -> Any:
        function = job.served.function
        check_called_as_it_is(function.name, yields=function.is_stream, stream=job.packet.stream)
        return function.signature.unpack((job.packet.body, job.packet.buffers))

    def _value(self, job: _Job, value: Any) -> int:
        """Send one value that a function yielded; return its size, bytes."""
        body = job.served.function.signature.pack_return(value)
        self._report(job, Status.PARTIAL, self._checked(job, body))
        return size(body)

    def _begin(self, job: _Job) -> Running | None:
        """A worker begins a task; None where it is not to start any more."""
        if job.over:
            self._end_unstarted(job)
        if not job.keeps_still():
            return None
        if job.monitor:
            self._report(job, Status.PROGRESS)
        now_running = Running(job.packet.name, self._tell)
        now_running.task = job
        if job.limits is not None:
            now_running.limits = Limits(*job.limits)
            self._watchdog.watch(job, now_running.limits.hard)
        return now_running

    def _let_go(self, job: _Job, *, started: bool) -> bool:
        """A worker is done with a task; return False where the worker was taken for lost by then."""
        if started and job.limits is not None and not self._watchdog.forget(job):
            return False
        job.served.workers.release()
        return True

    def _succeed(self, job: _Job, value: Any) -> None:
        body = job.served.function.signature.pack_return(value)
        self._finish(job, Status.SUCCESS, self._checked(job, body))

    def _checked(self, job: _Job, body: Body) -> Body:
        """Return a body that is not too large, and that nobody can change any more."""
        return frozen(check_return(job.packet.name, body, self._limit))

    def _fail(self, job: _Job, exc: BaseException, limits: Limits | None) -> None:
        code = Code.RAISED
        if isinstance(exc, EncodeError):
            code = Code.ENCODE
        elif isinstance(exc, ArgumentError | PeerError):
            code = Code.DECODE
        failure = stopped(exc, limits, cancelled=job.cancelled) or failure_of(exc, code)
        if job.claim:
            self._events.failed(failure, job.packet.name, job.id, error=exc)
        self._finish(job, Status.FAIL, encode_failure(failure))

    def _overran(self, job: _Job, thread: threading.Thread, limit: float) -> None:
        """The time of a task is over: it ends for its caller, and its thread is taken for lost."""
        ended = self._finish(job, Status.FAIL, encode_failure(over_limit(limit)))  # or it is done just now
        job.give_up()
        workers = job.served.workers
        said = was_ended(job.packet.name, job.id, limit)
        if isinstance(workers.pool, LoopPool):
            workers.pool.cancel(job)
        else:
            workers.pool.replace(thread)
            said += THREAD_GOES_ON
        workers.release()
        if ended:
            _log.warning("%s", said)

    def _tell(self, job: _Job, fraction: float | None, note: str | None) -> None:
        if job.monitor and job.claim:
            self._report(job, Status.PROGRESS, encode_progress(fraction, note))

    def resize(self, name: str, slots: int) -> None:
        """A function with workers of its own gets another number of them."""
        served = self._served[name]
        served.workers.resize(slots)
        served.open_channels()
        if isinstance(self._consumer, Resizes):
            self._consumer.resized(name, slots)

    def started(self, name: str) -> int:
        """Return how many workers of its own a function has that are started."""
        workers = self._served[name].workers
        return workers.pool.started if isinstance(workers.pool, ThreadPool) else workers.slots

    # ------------------------------------------------------------------ reporting

    def _report(self, job: _Job, status: Status, body: Body = (b"", ())) -> None:
        packet = job.packet
        job.outbox.put(ReportPacket(packet.name, packet.id, status, *body, packet.attempt, self._name))

    def _finish(self, job: _Job, status: Status, body: Body) -> bool:
        """Make the final report of a task; return False where there is one already."""
        try:
            job.claim.pop()
        except IndexError:
            return False
        if not job.ignored:
            self._report(job, status, body)
        with self._changed:
            self._jobs.discard(job)
            self._changed.notify_all()
        return True

    # ------------------------------------------------------------------ the end

    def load(self) -> int:
        """Return how many tasks are held."""
        return len(self._jobs)

    def drain(self, timeout: float | None) -> bool:
        """Take no more tasks, and run those that are held; return whether that took at most `timeout` seconds."""
        for workers in self._pools.values():
            workers.turn_away()
        stop, self._stop_listening = self._stop_listening, lambda: None
        stop()
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs, timeout)

    def close(self) -> None:
        """Take no more tasks, and report FAIL/SHUTDOWN for those that are held."""
        self.drain(0)
        self._later.close(FLUSH_SECONDS)
        body = encode_failure(Failure(Code.SHUTDOWN, f"node {self._name} was closed before the task was done"))
        left = list(self._jobs)
        for job in left:
            job.give_up()
            job.keeps_still()
            self._finish(job, Status.FAIL, body)
        self._watchdog.close()
        end = time.monotonic() + FLUSH_SECONDS
        for served in self._served.values():
            for outbox in served.outboxes:
                outbox.close(max(0.0, end - time.monotonic()))
        for workers in self._pools.values():
            workers.pool.close(0.0 if left else FLUSH_SECONDS)


def _nothing(name: str, id: str) -> None:
    """Stand for a reporter that need not know of tasks."""


def _is_task(packet: Any) -> bool:
    return isinstance(packet, TaskPacket) and isinstance(packet.name, str) and isinstance(packet.options, Options)
