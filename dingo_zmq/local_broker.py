"""A broker and a backend in memory: Apps of one process reach each other, by the ports that a server would use."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

from dingo_zmq.errors import Closed, UsageError
from dingo_zmq.model import plain
from dingo_zmq.ports import (
    Channel,
    Heard,
    Listener,
    Receipt,
    ReceiptStatus,
    ReportPacket,
    Stop,
    Take,
    Taken,
    TaskPacket,
)
from dingo_zmq.protocol.terms import LEAST_SECONDS
from dingo_zmq.shelf import Shelf
from dingo_zmq.waiting import Condition

__all__ = ["LocalBackend", "LocalBroker", "TaskQueue"]

_log = logging.getLogger(__name__)


class _Waiting:
    """
    A task that nobody holds.

    Attributes:
        refused_by, reason: the listeners that do not want it, and why the last did not.
        stopped: whether it is to be stopped.
    """

    __slots__ = ("came", "priority", "reason", "refused_by", "stopped", "task")

    def __init__(self, task: TaskPacket) -> None:
        self.task = task
        self.refused_by: set[_Ear] = set()
        self.reason = ""
        self.stopped = False
        self.priority = task.options.priority
        self.came = monotonic()

    def aged(self) -> TaskPacket:
        """Return the task with what is left of its time."""
        options = self.task.options
        if options.expires is None:
            return self.task
        left = max(LEAST_SECONDS, options.expires - (monotonic() - self.came))
        return self.task._replace(options=options.replace(expires=left, delay=0.0))


class TaskQueue:
    """The tasks on their way between the `LocalBroker` objects that share it."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._ears: list[_Ear] = []
        self._offered: set[_Waiting] = set()
        self._stops: dict[LocalBroker, Stop] = {}

    def put(self, tasks: Sequence[TaskPacket]) -> None:
        """Add tasks."""
        with self._changed:
            for task in tasks:
                self._line_up(_Waiting(task))
            self._changed.notify_all()

    def _line_up(self, waiting: _Waiting) -> None:
        """Queue a task behind all that have its priority or a higher one."""
        queue = self._waiting.setdefault(waiting.task.name, deque())
        if not queue or queue[-1].priority >= waiting.priority:
            queue.append(waiting)
            return
        place = len(queue)
        while place and queue[place - 1].priority < waiting.priority:
            place -= 1
        queue.insert(place, waiting)

    def remove(self, name: str, id: str) -> bool:
        """Take back a task that nobody holds; return whether there was such a one."""
        with self._changed:
            found = self._find(name, id)
            if found is not None:
                self._drop(found)
            return found is not None

    def why(self, name: str, id: str) -> str:
        """Return what a task waits for, "" if it does not wait here."""
        with self._changed:
            waiting = self._find(name, id)
            if waiting is None:
                return ""
            if waiting.reason:
                return f"it waits in the local broker; it was refused: {waiting.reason}"
            if not any(ear.wants(name) for ear in self._ears):
                return f"it waits in the local broker; nobody there runs {name}()"
            return "it waits in the local broker for a worker"

    def stop(self, name: str, id: str) -> bool:
        """Tell whoever may hold a task that it is to be stopped; return whether anybody may have heard that."""
        with self._changed:
            if self._find(name, id) is not None:
                return False
            for each in list(self._offered):
                if each.task[:2] == (name, id):
                    each.stopped = True
            stops = list(self._stops.values())
        for stop in stops:
            stop(name, id)
        return bool(stops)

    def hear_stops(self, broker: LocalBroker, stop: Stop | None) -> None:
        """A broker wants to hear what is to be stopped, or with None no more."""
        with self._changed:
            if stop is None:
                self._stops.pop(broker, None)
            else:
                self._stops[broker] = stop

    def _find(self, name: str, id: str) -> _Waiting | None:
        return next((each for each in self._waiting.get(name, ()) if each.task.id == id), None)

    def _drop(self, waiting: _Waiting) -> None:
        name = waiting.task.name
        queue = self._waiting[name]
        queue.remove(waiting)
        if not queue:
            del self._waiting[name]

    # ------------------------------------------------------------------ for the threads of listeners

    def add(self, ear: _Ear) -> None:
        """Somebody listens."""
        with self._changed:
            self._ears.append(ear)

    def leave(self, ear: _Ear) -> None:
        """Somebody listens no more; returns before its thread has ended."""
        with self._changed:
            ear.leaving = True
            if ear in self._ears:
                self._ears.remove(ear)
            self._changed.notify_all()

    def next(self, ear: _Ear) -> _Waiting | None:
        """Wait for a task for this listener, and take it out; None when it leaves."""
        with self._changed:
            while not ear.leaving:
                found = self._for(ear)
                if found is not None:
                    self._drop(found)
                    self._offered.add(found)
                    return found
                self._changed.wait()
            return None

    def _for(self, ear: _Ear) -> _Waiting | None:
        if ear.name is not None:
            return self._first(ear.name, ear)
        found = [first for name in self._waiting if (first := self._first(name, ear)) is not None]
        return max(found, key=lambda waiting: waiting.priority, default=None)

    def _first(self, name: str, ear: _Ear) -> _Waiting | None:
        for waiting in self._waiting.get(name, ()):
            if ear not in waiting.refused_by:
                return waiting
        return None

    def held(self, waiting: _Waiting) -> None:
        """A listener holds a task now."""
        self._offered.discard(waiting)
        if waiting.stopped:
            self.stop(*waiting.task[:2])

    def give_back(self, waiting: _Waiting, ear: _Ear, reason: str) -> None:
        """A listener has refused a task: it goes back to the head of its priority, for others."""
        with self._changed:
            self._offered.discard(waiting)
            waiting.refused_by.add(ear)
            waiting.reason = reason
            queue = self._waiting.setdefault(waiting.task.name, deque())
            place = next((n for n, each in enumerate(queue) if each.priority <= waiting.priority), len(queue))
            queue.insert(place, waiting)
            self._changed.notify_all()


class _Ear:
    """The thread that brings tasks to one listener; `name` is the function, None for all."""

    def __init__(self, queue: TaskQueue, name: str | None, take: Take) -> None:
        self.name = name
        self.leaving = False
        self._queue, self._take = queue, take
        self._thread = threading.Thread(target=self._run, name=f"dingo-listens {name or 'all'}", daemon=True)
        queue.add(self)
        self._thread.start()

    def wants(self, name: str) -> bool:
        return self.name in (None, name)

    def _run(self) -> None:
        while (waiting := self._queue.next(self)) is not None:
            receipt = self._offer(waiting.aged())
            if receipt.status is ReceiptStatus.OK:
                self._queue.held(waiting)
            else:
                self._queue.give_back(waiting, self, plain(receipt.reason) or receipt.status.name.lower())

    def _offer(self, task: TaskPacket) -> Receipt:
        try:
            return self._take(task)
        except Exception as exc:
            _log.exception("a listener of %s stumbled", plain(task.name))
            return Receipt(ReceiptStatus.NOK, f"the listener raised {type(exc).__name__}")

    def stop(self) -> None:
        self._queue.leave(self)
        if threading.current_thread() is not self._thread:
            self._thread.join()


class LocalBroker:
    """
    Plays Producer, NamedConsumer and Consumer within one process.

    A task that a listener refuses stays, and is offered to each other listener once; `why` tells the reason.
    Tasks of higher priority come first; the time that a task waits here is taken off its `expires`.

    Args:
        queue: the queue to share with other brokers; None for a new one.

    Attributes:
        queue: what another `LocalBroker` may share.
    """

    def __init__(self, queue: TaskQueue | None = None) -> None:
        self.queue = queue or TaskQueue()
        self._ears: list[_Ear] = []
        self._lock = threading.Lock()
        self._closed = False

    def send(self, task: TaskPacket) -> None:
        """
        Send a task; buffers are copied, as if it had left the process.

        Raises:
            Closed: after `close`.
        """
        self.send_many([task])

    def send_many(self, tasks: Sequence[TaskPacket]) -> None:
        """Send tasks, in order; see `send`."""
        if self._closed:
            raise Closed("this LocalBroker is closed")
        self.queue.put([task._replace(buffers=_copied(task.buffers)) for task in tasks])

    def cancel(self, name: str, id: str) -> bool:
        """Take back a task that nobody holds yet; return whether there was such a one."""
        return self.queue.remove(name, id)

    def stop_task(self, name: str, id: str) -> bool:
        """See `ports.Stops.stop_task`."""
        return self.queue.stop(name, id)

    def hear_stops(self, stop: Stop) -> None:
        """See `ports.HearsStops.hear_stops`."""
        self.queue.hear_stops(self, stop)

    def why(self, name: str, id: str) -> str:
        """Return what a task waits for, "" if it does not wait here."""
        return self.queue.why(name, id)

    def listen_all(self, take: Take) -> Callable[[], None]:
        """See `ports.Consumer.listen_all`; a `take` that blocks holds up the tasks of all functions."""
        return self._listen([(None, take)])

    def listen(self, listeners: Sequence[Listener]) -> Callable[[], None]:
        """See `ports.NamedConsumer.listen`; there is a thread for each function."""
        return self._listen([(listener.name, listener.take) for listener in listeners])

    def _listen(self, asked: Sequence[tuple[str | None, Take]]) -> Callable[[], None]:
        with self._lock:
            if self._closed:
                raise Closed("this LocalBroker is closed")
            ears = [_Ear(self.queue, name, take) for name, take in asked]
            self._ears += ears

        def stop() -> None:
            _stop(ears)

        return stop

    def close(self) -> None:
        """End the listeners of this broker; tasks that nobody holds stay in the queue."""
        with self._lock:
            self._closed = True
            ears, self._ears = self._ears, []
        _stop(ears)
        self.queue.hear_stops(self, None)


def _stop(ears: Sequence[_Ear]) -> None:
    for ear in ears:
        ear.stop()


class LocalBackend:
    """
    Plays Reporter and Store within one process.

    Args:
        queue: the reports to share with other backends; None for new ones.

    Attributes:
        queue: what another `LocalBackend` may share.
    """

    def __init__(self, queue: Shelf | None = None) -> None:
        self.queue = queue or Shelf()

    def channel(self, name: str) -> Channel:
        """
        Return a channel for reports of one function.

        The channel raises:
            UsageError: for a report of another function.
        """
        put = self.queue.put

        def send(reports: Sequence[ReportPacket]) -> None:
            for report in reports:
                if report.name != name:
                    raise UsageError(f"a report of {plain(report.name)} came down the channel of {plain(name)}")
                put(report._replace(buffers=_copied(report.buffers)))

        return send

    def poll(self, name: str, id: str, heard: Heard) -> None:
        """See `ports.Store.poll`."""
        self.queue.poll(name, id, heard)

    def done(self, name: str, id: str) -> None:
        """See `ports.Store.done`."""
        self.queue.done(name, id)

    def taken(self, name: str, id: str, total: int) -> None:
        """See `ports.TellsTaken.taken`."""
        self.queue.taken(name, id, total)

    def hear_taken(self, taken: Taken) -> None:
        """See `ports.HearsTaken.hear_taken`."""
        self.queue.hear_taken(self, taken)

    def close(self) -> None:
        """Hear no more of how far readers are; reports stay for others."""
        self.queue.hear_taken(self, None)


def _copied(buffers: tuple[object, ...]) -> tuple[bytes, ...]:
    return tuple([bytes(buffer) for buffer in buffers])  # type: ignore[call-overload]
