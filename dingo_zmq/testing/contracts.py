"""
What every broker and every backend must do, as tests for pytest; their authors subclass and give fixtures.

::

    class TestMyBroker(BrokerContract):
        @pytest.fixture
        def broker(self):
            broker = MyBroker()
            yield Ends(broker)
            broker.close()

Nothing here needs pytest by itself.  Each wait ends with what it waits for, and fails after `patience` seconds.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Sequence
from queue import Empty, Queue
from typing import Any

from dingo_zmq.errors import UsageError
from dingo_zmq.model import Options, Status
from dingo_zmq.ports import (
    Consumer,
    HearsStops,
    HearsTaken,
    Listener,
    NamedConsumer,
    Producer,
    Receipt,
    ReceiptStatus,
    Reporter,
    ReportPacket,
    Stops,
    Store,
    TaskPacket,
    TellsTaken,
    send_many,
)
from dingo_zmq.remote import Roles

__all__ = ["BackendContract", "BrokerContract", "Ends", "backend_ends"]

OK = Receipt(ReceiptStatus.OK)
_UNIQUE = itertools.count(1)


class Ends:
    """
    The two ends of a broker.

    Args:
        producer: where tasks go in.
        consumer: where they come out; None where it is the same object.
    """

    def __init__(self, producer: Any, consumer: Any = None) -> None:
        self.producer = producer
        self.consumer = producer if consumer is None else consumer


def backend_ends(reporter: Any, store: Any = None) -> tuple[Any, Any]:
    """Return the two ends of a backend: reporter and store, where there is one object twice that."""
    return reporter, reporter if store is None else store


class _Taker:
    """A listener that takes all it gets."""

    def __init__(self, contract: BrokerContract, broker: Ends) -> None:
        self._contract, self._broker = contract, broker
        self.taken: Queue[TaskPacket] = Queue()

    def take(self, task: TaskPacket) -> Receipt:
        self.taken.put(task)
        self._contract.held(self._broker, task)
        return OK

    def next(self) -> TaskPacket:
        """Wait for the next task."""
        try:
            return self.taken.get(timeout=self._contract.patience)
        except Empty:
            raise AssertionError(f"no task came within {self._contract.patience:g} s") from None


class BrokerContract:
    """
    What a Producer and a NamedConsumer, or a Consumer, must do together.

    Subclass it and give a fixture `broker`, an `Ends` that nothing else uses.

    Attributes:
        patience: seconds after which a wait has failed.
    """

    patience = 10.0

    def held(self, broker: Ends, task: TaskPacket) -> None:
        """Called with each task that was taken; a broker that waits for its end has it reported here."""

    # ------------------------------------------------------------------ the tests

    def test_a_task_comes_as_it_was_sent(self, broker: Ends) -> None:
        """Name, id, options, body and buffers of a task arrive."""
        name = self.fresh("f")
        options = Options(monitor_progress=True)
        sent = TaskPacket(name, "7", options, b"\x00body\xff", (b"one" * 40_000, bytearray(b"two"), b""))
        taker = self.listen(broker, name)
        broker.producer.send(sent)

        got = taker.next()
        assert isinstance(got, TaskPacket)
        assert (got.name, got.id, bytes(got.body), got.attempt) == (name, "7", sent.body, 1)
        assert [bytes(buffer) for buffer in got.buffers] == [bytes(buffer) for buffer in sent.buffers]
        assert got.options.monitor_progress

    def test_what_was_sent_before_anybody_listened_comes(self, broker: Ends) -> None:
        """A task waits for its listener."""
        name = self.fresh("f")
        broker.producer.send(_task(name, 1))

        assert self.listen(broker, name).next().id == "1"

    def test_five_functions_get_their_own_in_order(self, broker: Ends) -> None:
        """256 tasks of 5 functions, shuffled: each listener gets those of its own function, in order."""
        names = [self.fresh("f") for _ in range(5)]
        takers = [_Taker(self, broker) for _ in names]
        listeners = [Listener(name, taker.take) for name, taker in zip(names, takers, strict=True)]
        if isinstance(broker.consumer, NamedConsumer):
            for listener in listeners:
                self.bring(broker, [listener])
        else:  # what one listener refuses may come to another one later
            self.bring(broker, listeners)
        dice = random.Random(1)  # noqa: S311 - a shuffle
        tasks = [_task(dice.choice(names), number) for number in range(256)]
        send_many(broker.producer, tasks)

        for name, taker in zip(names, takers, strict=True):
            wanted = [task.id for task in tasks if task.name == name]
            got = [taker.next() for _ in wanted]
            assert {task.name for task in got} == {name}
            assert [task.id for task in got] == wanted
            assert taker.taken.empty()

    def test_no_task_comes_twice(self, broker: Ends) -> None:
        """300 tasks of one function and three listeners: each task comes to one of them."""
        name = self.fresh("f")
        takers = [self.listen(broker, name) for _ in range(3)]
        for taker in takers[1:]:
            taker.taken = takers[0].taken
        wanted = [str(number) for number in range(300)]
        send_many(broker.producer, [_task(name, number) for number in range(300)])

        got = [takers[0].next().id for _ in wanted]
        broker.producer.send(_task(name, 300))
        assert takers[0].next().id == "300"
        assert sorted(got, key=int) == wanted
        assert takers[0].taken.empty()

    def test_what_is_refused_goes_to_another(self, broker: Ends) -> None:
        """A task that one listener refuses is not gone."""
        name = self.fresh("f")
        refused: Queue[str] = Queue()

        def refuse(task: TaskPacket) -> Receipt:
            refused.put(task.id)
            return Receipt(ReceiptStatus.NOK, "not today")

        stop = self.bring(broker, [Listener(name, refuse)])
        broker.producer.send(_task(name, 1))
        assert refused.get(timeout=self.patience) == "1"
        taker = self.listen(broker, name)
        stop()

        assert taker.next().id == "1"

    def test_a_listener_that_raises_has_refused(self, broker: Ends) -> None:
        """An exception in `take` loses no task."""
        name = self.fresh("f")
        raised = threading.Event()

        def fail(task: TaskPacket) -> Receipt:
            raised.set()
            raise ValueError("a mistake in the listener")

        stop = self.bring(broker, [Listener(name, fail)])
        broker.producer.send(_task(name, 1))
        assert raised.wait(self.patience)
        taker = self.listen(broker, name)
        stop()

        assert taker.next().id == "1"

    def test_nothing_is_brought_after_the_end(self, broker: Ends) -> None:
        """Once a listener was stopped, others get the tasks."""
        name = self.fresh("f")
        late: list[TaskPacket] = []

        def take(task: TaskPacket) -> Receipt:
            late.append(task)
            return OK

        stop = self.bring(broker, [Listener(name, take)])
        stop()
        stop()
        broker.producer.send(_task(name, 1))

        assert self.listen(broker, name).next().id == "1"
        assert late == []

    def test_who_is_full_holds_up_no_other(self, broker: Ends) -> None:
        """While `take` of one function blocks, the tasks of another come.  For a NamedConsumer alone."""
        if not isinstance(broker.consumer, NamedConsumer):
            return
        slow, quick = self.fresh("slow"), self.fresh("quick")
        blocked, free = threading.Event(), threading.Event()
        taker = _Taker(self, broker)

        def wait(task: TaskPacket) -> Receipt:
            blocked.set()
            free.wait(self.patience)
            return taker.take(task)

        self.bring(broker, [Listener(slow, wait), Listener(quick, taker.take)])
        try:
            broker.producer.send(_task(slow, 1))
            assert blocked.wait(self.patience)
            broker.producer.send(_task(quick, 2))
            assert taker.next().id == "2"
        finally:
            free.set()
        assert taker.next().id == "1"

    def test_a_wish_to_stop_a_task_is_brought(self, broker: Ends) -> None:
        """For a producer and a consumer that pass such wishes on; it may come more than once."""
        producer: Any = broker.producer
        if not isinstance(producer, Stops) or not isinstance(broker.consumer, HearsStops):
            return
        name, wishes, taken = self.fresh("f"), Queue[tuple[str, str]](), Queue[TaskPacket]()

        def take(task: TaskPacket) -> Receipt:
            taken.put(task)
            return OK

        broker.consumer.hear_stops(lambda *task: wishes.put(task))
        self.bring(broker, [Listener(name, take, slots=2)])
        for task in (_task(name, 1), _task(name, 2)):
            broker.producer.send(task)
        tasks = _next(taken, self.patience), _next(taken, self.patience)
        assert producer.stop_task(name, "2")
        assert _next(wishes, self.patience) == (name, "2")
        for task in tasks:
            self.held(broker, task)
        assert set(wishes.queue) <= {(name, "2")}

    def test_it_plays_its_roles_and_no_others(self, broker: Ends) -> None:
        """Both ends can be attached in their roles; what they cannot play is refused."""
        kind = "named_consumer" if isinstance(broker.consumer, NamedConsumer) else "consumer"
        assert "producer" in Roles().find(broker.producer)
        assert kind in Roles().find(broker.consumer)
        _check_refusals(broker.producer)
        _check_refusals(broker.consumer)

    # ------------------------------------------------------------------ aids

    def fresh(self, start: str) -> str:
        """Return a name that no other test uses, since queues of a server may outlive a test."""
        return f"{start}{next(_UNIQUE)}"

    def listen(self, broker: Ends, name: str) -> _Taker:
        """Listen for one function, until the broker is closed."""
        taker = _Taker(self, broker)
        self.bring(broker, [Listener(name, taker.take)])
        return taker

    def bring(self, broker: Ends, listeners: Sequence[Listener]) -> Callable[[], None]:
        """Listen, by whichever kind of consumer there is."""
        if isinstance(broker.consumer, NamedConsumer):
            return broker.consumer.listen(listeners)
        takes = {listener.name: listener.take for listener in listeners}

        def take(task: TaskPacket) -> Receipt:
            known = takes.get(task.name)
            return known(task) if known else Receipt(ReceiptStatus.WORKER_NOT_FOUND, f"no {task.name} here")

        stop: Callable[[], None] = broker.consumer.listen_all(take)
        return stop


class BackendContract:
    """
    What a Reporter and a Store must do together.

    Subclass it and give a fixture `backend`, a pair (reporter, store) that nothing else uses; see `backend_ends`.

    Attributes:
        patience: seconds after which a wait has failed.
    """

    patience = 10.0

    def known(self, backend: tuple[Any, Any], task: TaskPacket) -> None:
        """Called with each task before its reports; where the reporter has to hold it, see to that here."""

    # ------------------------------------------------------------------ the tests

    def test_a_report_comes_as_it_was_sent(self, backend: tuple[Any, Any]) -> None:
        """Name, id, status, body, buffers and attempt of a report arrive at whoever polls."""
        task = self.task("f")
        ear = self.poll(backend, task)
        self.known(backend, task)
        sent = ReportPacket(task.name, task.id, Status.SUCCESS, b"\x00body", (b"one" * 40_000, b"two"), 1, "n")
        backend[0].channel(task.name)([sent])

        got = ear.next()
        assert isinstance(got, ReportPacket)
        assert (got.name, got.id, got.status, bytes(got.body), got.attempt) == (*sent[:4], 1)
        assert [bytes(buffer) for buffer in got.buffers] == list(sent.buffers)
        assert got.done

    def test_reports_that_were_sent_before_somebody_polled(self, backend: tuple[Any, Any]) -> None:
        """100 tasks, polled only after their reports were sent: SENT, PROGRESS and SUCCESS, in this order."""
        tasks = [self.task(name, monitor=True) for name in (self.fresh("f"), self.fresh("g")) for _ in range(50)]
        channels = {task.name: backend[0].channel(task.name) for task in tasks}
        for task in tasks:
            self.known(backend, task)
            self.send_all(channels[task.name], task)

        for task in tasks:
            self.check_order(self.poll(backend, task), task)

    def test_reports_that_are_polled_before(self, backend: tuple[Any, Any]) -> None:
        """The same for tasks that are polled first, as an App does it."""
        tasks = [self.task(name, monitor=True) for name in (self.fresh("f"), self.fresh("g")) for _ in range(50)]
        channels = {task.name: backend[0].channel(task.name) for task in tasks}
        ears = [self.poll(backend, task) for task in tasks]
        for task in tasks:
            self.known(backend, task)
            self.send_all(channels[task.name], task)

        for task, ear in zip(tasks, ears, strict=True):
            self.check_order(ear, task)

    def test_the_values_of_a_stream_come_in_order(self, backend: tuple[Any, Any]) -> None:
        """100 PARTIAL reports and then SUCCESS; where both sides can, the reporter hears how many were taken."""
        reporter, store = backend
        task = self.task("f")._replace(stream=True)
        told: Queue[tuple[str, str, int]] = Queue()
        if isinstance(reporter, HearsTaken):
            reporter.hear_taken(lambda *taken: told.put(taken))
        ear = self.poll(backend, task)
        self.known(backend, task)
        channel = reporter.channel(task.name)
        for part in range(0, 100, 20):
            bodies = [str(number).encode() for number in range(part, part + 20)]
            channel([ReportPacket(task.name, task.id, Status.PARTIAL, body) for body in bodies])
            got = [ear.next() for _ in bodies]
            assert [(report.status, bytes(report.body)) for report in got] == [(Status.PARTIAL, b) for b in bodies]
            if isinstance(store, TellsTaken):
                store.taken(task.name, task.id, part + 20)
        if isinstance(store, TellsTaken) and isinstance(reporter, HearsTaken):
            totals: list[int] = []
            while not totals or totals[-1] < 100:  # noqa: PLR2004
                name, id, total = told.get(timeout=self.patience)
                assert (name, id) == task[:2]
                totals.append(total)
            assert totals == sorted(totals)
        channel([ReportPacket(task.name, task.id, Status.SUCCESS)])
        assert ear.next().status == Status.SUCCESS

    def test_equal_ids_do_not_mix(self, backend: tuple[Any, Any]) -> None:
        """10 functions with tasks of 10 equal ids: (name, id) is the identity."""
        names = [self.fresh("f") for _ in range(10)]
        tasks = [
            TaskPacket(name, str(id), Options(), f"{name} {id}".encode()) for id in range(10) for name in names
        ]
        early = {task[:2]: self.poll(backend, task) for task in tasks[::2]}
        channels = {name: backend[0].channel(name) for name in names}
        for task in tasks:
            self.known(backend, task)
            channels[task.name]([ReportPacket(task.name, task.id, Status.SUCCESS, task.body)])

        for task in tasks:
            ear = early.get(task[:2]) or self.poll(backend, task)
            got = ear.next()
            assert (got.name, got.id, bytes(got.body)) == (task.name, task.id, task.body)
            assert ear.heard.empty()

    def test_polling_twice_is_refused(self, backend: tuple[Any, Any]) -> None:
        """The second one would take reports from the first."""
        task = self.task("f")
        self.poll(backend, task)
        try:
            self.poll(backend, task)
        except UsageError:
            return
        raise AssertionError("a task could be polled twice")

    def test_done_may_be_called_where_the_end_is_heard(self, backend: tuple[Any, Any]) -> None:
        """An App does so; afterwards the task is forgotten, and may be polled anew."""
        task, ended = self.task("f"), threading.Event()

        def heard(report: ReportPacket) -> None:
            backend[1].done(task.name, task.id)
            ended.set()

        backend[1].poll(task.name, task.id, heard)
        self.known(backend, task)
        backend[0].channel(task.name)([ReportPacket(task.name, task.id, Status.SUCCESS)])
        assert ended.wait(self.patience)
        again = self.poll(backend, task)
        assert again.heard.empty()

    def test_nothing_is_heard_after_done(self, backend: tuple[Any, Any]) -> None:
        """Who is not interested any more is left in peace."""
        task, other = self.task("f"), self.task("g")
        ear, marker = self.poll(backend, task), self.poll(backend, other)
        self.known(backend, task)
        backend[1].done(task.name, task.id)
        backend[0].channel(task.name)([ReportPacket(task.name, task.id, Status.SUCCESS)])
        self.known(backend, other)
        backend[0].channel(other.name)([ReportPacket(other.name, other.id, Status.SUCCESS)])

        assert marker.next().id == other.id
        assert ear.heard.empty()

    def test_done_of_what_is_unknown_does_nothing(self, backend: tuple[Any, Any]) -> None:
        """It may be called more than once."""
        for _ in range(2):
            backend[1].done(self.fresh("f"), "1")

    def test_it_plays_its_roles_and_no_others(self, backend: tuple[Any, Any]) -> None:
        """Both ends can be attached in their roles; what they cannot play is refused."""
        assert "reporter" in Roles().find(backend[0])
        assert "store" in Roles().find(backend[1])
        _check_refusals(backend[0])
        _check_refusals(backend[1])

    # ------------------------------------------------------------------ aids

    def fresh(self, start: str) -> str:
        """Return a name that no other test uses, since queues of a server may outlive a test."""
        return f"{start}{next(_UNIQUE)}"

    def task(self, name: str, *, monitor: bool = False) -> TaskPacket:
        """Return a task of a function, or of a fresh one that begins so."""
        full = name if name[-1].isdigit() else self.fresh(name)
        return TaskPacket(full, self.fresh("id"), Options(monitor_progress=monitor), b"arguments")

    def poll(self, backend: tuple[Any, Any], task: TaskPacket) -> _Ear:
        """Poll a task, and return who hears it."""
        ear = _Ear(self.patience)
        backend[1].poll(task.name, task.id, ear.heard.put)
        return ear

    def send_all(self, channel: Callable[[Sequence[ReportPacket]], None], task: TaskPacket) -> None:
        """Send the three reports of a task, in two parts."""
        told = ReportPacket(task.name, task.id, Status.PROGRESS, PROGRESS)
        channel([ReportPacket(task.name, task.id, Status.SENT), told])
        channel([ReportPacket(task.name, task.id, Status.SUCCESS, task.id.encode())])

    def check_order(self, ear: _Ear, task: TaskPacket) -> None:
        """Check that all that `send_all` sent comes, in order, and nothing after the final report."""
        got = [ear.next()]
        while not got[-1].done:
            got.append(ear.next())
        order = [int(report.status) for report in got]
        assert order == sorted(order)
        assert {Status.SENT, Status.PROGRESS, Status.SUCCESS} == set(order)
        assert PROGRESS in [report.body for report in got]
        assert {(report.name, report.id) for report in got} == {(task.name, task.id)}
        assert bytes(got[-1].body) == task.id.encode()
        assert ear.heard.empty()


PROGRESS = b"\x92\xca\x3f\x00\x00\x00\xc0"
"""the body of progress(0.5)"""


def _next(queue: Queue[Any], patience: float) -> Any:
    try:
        return queue.get(timeout=patience)
    except Empty:
        raise AssertionError(f"nothing came within {patience:g} s") from None


class _Ear:
    """Hears the reports of one task."""

    def __init__(self, patience: float) -> None:
        self.heard: Queue[ReportPacket] = Queue()
        self._patience = patience

    def next(self) -> ReportPacket:
        """Wait for the next report."""
        try:
            return self.heard.get(timeout=self._patience)
        except Empty:
            raise AssertionError(f"no report came within {self._patience:g} s") from None


def _task(name: str, number: int) -> TaskPacket:
    return TaskPacket(name, str(number), Options(), f"arguments of {number}".encode())


def _check_refusals(obj: object) -> None:
    ports: dict[str, type] = {
        "producer": Producer,
        "consumer": Consumer,
        "named_consumer": NamedConsumer,
        "reporter": Reporter,
        "store": Store,
    }
    for role, port in ports.items():
        if isinstance(obj, port):
            Roles().add({role: obj})
            continue
        try:
            Roles().add({role: obj})
        except UsageError:
            continue
        raise AssertionError(f"it cannot be a {role}, and was taken for one")
