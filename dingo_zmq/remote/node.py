"""The node of remote mode: holds what a consumer brings, runs it, and reports."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, cast

from dingo_zmq.allocation import Own
from dingo_zmq.current import Running, running
from dingo_zmq.errors import ArgumentError, EncodeError, PeerError
from dingo_zmq.marshal import Body, check_return, encode_failure, encode_progress
from dingo_zmq.model import Code, Failure, Options, Status, counted, plain
from dingo_zmq.pool import LoopPool, ThreadPool, failure_of
from dingo_zmq.ports import (
    Channel,
    Consumer,
    Listener,
    NamedConsumer,
    PreparesReports,
    Receipt,
    ReceiptStatus,
    ReportPacket,
    TaskPacket,
)
from dingo_zmq.registry import Function
from dingo_zmq.remote.roles import Roles

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

    def __init__(self, name: str, channel: Channel) -> None:
        self._channel, self._name = channel, name
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
        except Exception:
            _log.exception("%s of %s lost: the channel failed", counted(len(reports), "report"), self._name)

    def close(self, seconds: float) -> None:
        """Send what is there and end."""
        self.put(None)
        self._thread.join(seconds)


class _Workers:
    """A pool, and the tasks held for it: twice as many as run at a time, and no more."""

    def __init__(self, slots: int, pool: ThreadPool[_Job] | LoopPool[_Job]) -> None:
        self.slots, self.pool = slots, pool
        self._free = 2 * slots
        self._changed = threading.Condition()
        self._closing = False

    def hold(self) -> bool:
        """Wait for room for one more task, and take it; False when closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._closing)
            if self._closing:
                return False
            self._free -= 1
            return True

    def release(self) -> None:
        with self._changed:
            self._free += 1
            self._changed.notify()

    def turn_away(self) -> None:
        """Hold no more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()


class _Served:
    """One function: its workers, and the channels of its reports, which its tasks use in turn."""

    def __init__(self, function: Function, workers: _Workers, outboxes: list[_Outbox]) -> None:
        self.function, self.workers, self.outboxes = function, workers, outboxes
        self._turns = itertools.cycle(outboxes)
        self._own = Own(function) if "factory" in function.settings else None

    def mine(self) -> Function:
        """Return the function with what this worker is to call."""
        return self.function if self._own is None else self._own.get()

    def outbox(self) -> _Outbox:
        return next(self._turns)


class _Job:
    """A task that is held; `claim` is emptied by whoever makes its final report."""

    __slots__ = ("attempt", "cancelled", "claim", "id", "ignored", "monitor", "outbox", "packet", "served")

    def __init__(self, served: _Served, packet: TaskPacket) -> None:
        self.served, self.packet, self.outbox = served, packet, served.outbox()
        self.id, self.attempt = packet.id, packet.attempt
        self.ignored = packet.options.ignore_report
        self.monitor = packet.options.monitor_progress and not self.ignored
        self.cancelled = False
        self.claim = [None]


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

    Raises:
        UsageError: if no consumer or no reporter is attached.
    """

    def __init__(
        self,
        roles: Roles,
        functions: Iterable[Function],
        own: Mapping[str, int],
        threads: int,
        limit: int,
        name: str,
    ) -> None:
        consumer, self._reporter = roles.consumer(), roles.reporter()
        self._before_reports: Callable[[str, str], object] = _nothing
        if isinstance(self._reporter, PreparesReports):
            self._before_reports = self._reporter.before_reports
        self._limit, self._name = limit, name
        self._jobs: set[_Job] = set()
        self._changed = threading.Condition()
        self._pools: dict[str, _Workers] = {}
        self._served: dict[str, _Served] = {}
        for function in functions:
            workers = self._workers_for(function, own.get(function.name), threads)
            count = -(-workers.slots // (function.settings.get("share") or workers.slots))
            channel = partial(self._reporter.channel, function.name)
            outboxes = [_Outbox(function.name, channel()) for _ in range(count)]
            self._served[function.name] = _Served(function, workers, outboxes)
        self._stop_listening: Callable[[], None] = lambda: None
        try:
            self._stop_listening = self._listen(consumer, roles.is_named)
        except BaseException:
            self.close()
            raise

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
                self._pools[name] = _Workers(slots, ThreadPool(f"remote-{name}", slots, self._run))
        return self._pools[name]

    # ------------------------------------------------------------------ taking

    def _take(self, packet: Any) -> Receipt:
        """Hold a task, waiting for room; the receipt says whether it is held, not that it has run."""
        if not _is_task(packet):
            _log.warning("the consumer brought something that is no task: %s", type(packet).__qualname__)
            return Receipt(ReceiptStatus.NOK, "it is no task")
        served = self._served.get(packet.name)
        if served is None:
            return Receipt(ReceiptStatus.WORKER_NOT_FOUND, f"{self._name} has no function {packet.name!r:.80}")
        if not served.workers.hold():
            return _CLOSING
        job = _Job(served, packet)
        try:
            self._before_reports(packet.name, packet.id)
        except Exception as exc:
            _log.exception("the reporter cannot report on task %s of %s", plain(packet.id), plain(packet.name))
            served.workers.release()
            return Receipt(ReceiptStatus.NOK, f"the reporter of {self._name} raised {type(exc).__name__}")
        with self._changed:
            self._jobs.add(job)
        if job.monitor:
            self._report(job, Status.SENT)
        served.workers.pool.submit(job)
        return _OK

    # ------------------------------------------------------------------ running

    def _run(self, job: _Job) -> None:
        now_running = self._begin(job)
        token = running.set(now_running)
        try:
            if not job.cancelled:
                function = job.served.mine()
                args, kwargs = function.signature.unpack((job.packet.body, job.packet.buffers))
                self._succeed(job, function.callable(*args, **kwargs))  # type: ignore[misc]
        except BaseException as exc:
            self._fail(job, exc)
        finally:
            running.reset(token)
            job.served.workers.release()

    async def _run_coroutine(self, job: _Job) -> None:
        running.set(self._begin(job))
        try:
            if not job.cancelled:
                function = job.served.function
                args, kwargs = function.signature.unpack((job.packet.body, job.packet.buffers))
                self._succeed(job, await function.callable(*args, **kwargs))  # type: ignore[misc]
        except BaseException as exc:
            self._fail(job, exc)
        finally:
            job.served.workers.release()

    def _begin(self, job: _Job) -> Running:
        if job.monitor and not job.cancelled:
            self._report(job, Status.PROGRESS)
        now_running = Running(job.packet.name, self._tell)
        now_running.task = job
        return now_running

    def _succeed(self, job: _Job, value: Any) -> None:
        body = job.served.function.signature.pack_return(value)
        self._finish(job, Status.SUCCESS, check_return(job.packet.name, body, self._limit))

    def _fail(self, job: _Job, exc: BaseException) -> None:
        code = Code.RAISED
        if isinstance(exc, EncodeError):
            code = Code.ENCODE
        elif isinstance(exc, ArgumentError | PeerError):
            code = Code.DECODE
        failure = failure_of(exc, code)
        _log.info("task %s id %s failed: %s", job.packet.name, plain(job.id), plain(failure.type))
        self._finish(job, Status.FAIL, encode_failure(failure))

    def _tell(self, job: _Job, fraction: float | None, note: str | None) -> None:
        if job.monitor and job.claim:
            self._report(job, Status.PROGRESS, encode_progress(fraction, note))

    # ------------------------------------------------------------------ reporting

    def _report(self, job: _Job, status: Status, body: Body = (b"", ())) -> None:
        packet = job.packet
        job.outbox.put(ReportPacket(packet.name, packet.id, status, *body, packet.attempt, self._name))

    def _finish(self, job: _Job, status: Status, body: Body) -> None:
        """Make the final report of a task, unless there is one."""
        try:
            job.claim.pop()
        except IndexError:
            return
        if not job.ignored:
            self._report(job, status, body)
        with self._changed:
            self._jobs.discard(job)
            self._changed.notify_all()

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
        body = encode_failure(Failure(Code.SHUTDOWN, f"node {self._name} was closed before the task was done"))
        left = list(self._jobs)
        for job in left:
            job.cancelled = True
            self._finish(job, Status.FAIL, body)
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
