"""Options in remote mode: what the caller sees to, what travels, and what the node sees to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, Queue
from typing import Any

import pytest

from dingo_zmq import App, Code, EventCode, Level, Options, Retries, Status
from dingo_zmq.errors import TaskExpired, TaskFailed, TaskShutdown
from dingo_zmq.local_broker import LocalBackend, LocalBroker
from dingo_zmq.marshal import decode_failure, encode, encode_failure
from dingo_zmq.model import Failure
from dingo_zmq.ports import Listener, Receipt, ReceiptStatus, ReportPacket, Stop, TaskPacket
from tests.unit.test_remote import PATIENCE, Spy, call, packet

OK = Receipt(ReceiptStatus.OK)
SHORT, FOREVER = 0.02, 3600.0
RAISED = encode_failure(Failure(Code.RAISED, "no", "ValueError"))


class Clever(Spy):
    """A broker that can do all that a broker may."""

    def __init__(self) -> None:
        super().__init__()
        self.taken_back: Queue[str] = Queue()
        self.wishes: Queue[str] = Queue()
        self.stop: Stop = lambda name, id: None
        self.sizes: Queue[tuple[str, int]] = Queue()

    def cancel(self, name: str, id: str) -> bool:
        self.taken_back.put(id)
        return True

    def stop_task(self, name: str, id: str) -> bool:
        self.wishes.put(id)
        return True

    def hear_stops(self, stop: Stop) -> None:
        self.stop = stop

    def resized(self, name: str, slots: int) -> None:
        self.sizes.put((name, slots))


@pytest.fixture
def spy() -> Clever:
    return Clever()


@pytest.fixture
def app(spy: Clever) -> Iterator[App]:
    app = App("remote", threads=1)
    app.use(spy)
    yield app
    app.close(wait=False)


def next_sent(spy: Spy) -> TaskPacket:
    return spy.sent.get(timeout=PATIENCE)


def fail(spy: Spy, sent: TaskPacket, body: Any = RAISED) -> None:
    spy.heard[sent.name, sent.id](ReportPacket(sent.name, sent.id, Status.FAIL, *body, sent.attempt, "n"))


# ---------------------------------------------------------------------- the caller


def test_a_delayed_task_is_neither_polled_nor_sent(app: App, spy: Clever) -> None:
    result = app.options(delay=FOREVER).call("add")
    assert result.why().startswith("it is not to start for another 3")
    assert spy.calls == []
    soon = app.options(delay=SHORT).call("add")
    sent = next_sent(spy)
    assert (sent.id, sent.options, spy.calls) == (soon.id, Options(), ["poll", "send"])
    assert result.cancel(running=True)
    assert result.cancelled()
    assert (spy.taken_back.qsize(), spy.wishes.qsize()) == (0, 0)


def test_what_travels_is_what_the_caller_does_not_see_to(app: App, spy: Clever) -> None:
    tries = Retries(3, lost=2)
    options = {"delay": SHORT, "expires": 60.0, "retries": tries, "priority": 3, "time_limit": 5.0}
    app.options(**options).call("add")
    sent = next_sent(spy).options
    assert (sent.delay, sent.priority, sent.time_limit) == (0.0, 3, 5.0)
    assert sent.expires is not None
    assert 60 - PATIENCE < sent.expires <= 60 - SHORT
    assert (sent.tries.raised, sent.tries.lost) == (0, 2)
    app.options(retries=3).call("add")
    assert next_sent(spy).options == Options()


def test_what_has_expired_is_taken_back(app: App, spy: Clever) -> None:
    result, _ = call(app, spy, expires=SHORT)
    with pytest.raises(TaskExpired, match=r"it was not started within 0\.02 s of the call"):
        result.result(PATIENCE)
    assert spy.taken_back.get_nowait() == result.id
    assert spy.calls[-1] == "done"


def test_a_producer_that_keeps_to_the_time_itself_is_left_alone(app: App, spy: Clever) -> None:
    spy.keeps_expires = True  # type: ignore[attr-defined]
    result, _ = call(app, spy, expires=SHORT)
    other = app.options(delay=2 * SHORT).call("add")
    while next_sent(spy).id != other.id:  # by then its time is over
        pass
    assert (result.done(), spy.taken_back.qsize()) == (False, 0)


def test_a_node_tells_what_expired_there(app: App, spy: Clever, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spy, "cancel", lambda name, id: False)
    result, _ = call(app, spy, expires=SHORT)
    fail(spy, next_sent(spy), encode_failure(Failure(Code.EXPIRED, "too late here")))
    with pytest.raises(TaskExpired, match=r"within 0\.02 s of the call"):
        result.result(PATIENCE)


def test_another_try_is_another_task_of_the_same_id(app: App, spy: Clever) -> None:
    result, _ = call(app, spy, retries=Retries(2, backoff=0.0), monitor_progress=True)
    first = next_sent(spy)
    fail(spy, first)
    second = next_sent(spy)
    assert spy.calls == ["poll", "send", "done", "poll", "send"]
    assert second == first._replace(attempt=2)
    fail(spy, second)
    third = next_sent(spy)
    assert third.attempt == 3
    spy.heard[third.name, third.id](ReportPacket("add", third.id, Status.SUCCESS, *encode(5), 3, "n"))
    assert result.result(0) == 5
    told = [(report.value[1], report.failure.type) for report in result.reports(0) if report.failure]
    texts = ["attempt 2 of 3 in 0.0 s after ValueError: no", "attempt 3 of 3 in 0.0 s after ValueError: no"]
    assert told == [(text, "ValueError") for text in texts]


def test_what_is_to_be_stopped_is_not_tried_again(app: App, spy: Clever, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spy, "cancel", lambda name, id: False)
    result, _ = call(app, spy, retries=Retries(2, backoff=0.0))
    assert result.cancel(running=True)
    assert spy.wishes.get_nowait() == result.id
    fail(spy, next_sent(spy))
    assert isinstance(result.exception(0), TaskFailed)


def test_nobody_can_be_asked_to_stop(app: App, spy: Clever, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cancel", "stop_task"):
        monkeypatch.setattr(spy, name, lambda name, id: False)
    result, _ = call(app, spy)
    assert not result.cancel(running=True)


def test_a_further_try_that_cannot_be_sent(app: App, spy: Clever, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_route(task: TaskPacket) -> None:
        raise OSError("no route")

    result, _ = call(app, spy, retries=Retries(2, backoff=0.0))
    monkeypatch.setattr(spy, "send", no_route)
    fail(spy, next_sent(spy))
    failure = result.wait(PATIENCE).failure
    assert failure is not None
    assert (failure.code, failure.message) == (Code.GENERIC, "it could not be sent: no route")


def test_the_end_of_a_task_whose_report_is_ignored_is_heard(app: App, spy: Clever) -> None:
    with app.listen("caller") as events:
        result = app.options(ignore_report=True).call("add")
        sent = next_sent(spy)
        assert (result.result(0), spy.calls, sent.options.ignore_report) == (None, ["poll", "send"], False)
        fail(spy, sent)
        assert spy.calls[-1] == "done"
        event = events.get(PATIENCE)
    assert (event.code, event.name, event.id) == (EventCode.FAILED, "add", sent.id)
    assert "whose report is ignored, failed: ValueError: no" in event.text


def test_without_a_store_nothing_is_heard() -> None:
    app, spy = App("remote"), Clever()
    app.use(producer=spy)
    with app.listen("caller") as events:
        app.options(ignore_report=True).call("add")
        assert next_sent(spy).options.ignore_report
        assert repr(app) == "<App remote: 0 tasks open, 0 held here>"
        app.options(ignore_report=True, expires=SHORT).call("add")
        assert "was not started within 0.02 s" in events.get(PATIENCE).text
    app.close()


def test_what_is_delayed_at_the_end_is_not_done(app: App) -> None:
    result = app.options(delay=FOREVER).call("add")
    app.options(delay=FOREVER, ignore_report=True).call("add")
    with app.listen("caller") as events:
        app.close(wait=False)
        assert "1 task whose reports are ignored: not done before" in events.get(PATIENCE).text
    assert isinstance(result.exception(0), TaskShutdown)


def test_what_a_caller_cannot_make_out_is_an_event(app: App, spy: Clever) -> None:
    with app.listen("caller", Level.DEBUG) as events:
        result, heard = call(app, spy)
        heard(None)  # type: ignore[arg-type]
        heard(ReportPacket("add", result.id, Status.PROGRESS, b"\xc1"))
        heard(ReportPacket("add", result.id, Status.SUCCESS, b"\xc1", node="n"))
        told = [events.get(PATIENCE) for _ in range(3)]
    assert [event.code for event in told] == [EventCode.DROPPED, EventCode.DECODE, EventCode.DECODE]
    assert told[2].text.startswith(f"n: task add id {result.id}: the return does not fit: ")
    assert told[2].node == "n"


def test_a_listener_is_called(app: App, spy: Clever) -> None:
    heard: Queue[str] = Queue()
    app.listen("caller", callback=lambda event: heard.put(event.text))
    _, tell = call(app, spy)
    tell(None)  # type: ignore[arg-type]
    assert "is no report of it" in heard.get(timeout=PATIENCE)


# ---------------------------------------------------------------------- the node


class Held:
    """A function whose calls wait until they are let go; each tells its number."""

    def __init__(self) -> None:
        self.began: Queue[int] = Queue()
        self.free = threading.Event()

    def __call__(self, number: int) -> int:
        self.began.put(number)
        self.free.wait(PATIENCE)
        return number

    def next(self) -> int:
        return self.began.get(timeout=PATIENCE)


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.free.set()


def serve(app: App, held: Held, **options: Any) -> None:
    app.register("hold", held, **options)
    app.allocate("hold", 1)
    app.serve(name="n")


def failure_in(report: ReportPacket) -> Failure:
    assert report.status is Status.FAIL
    return decode_failure((report.body, report.buffers))


def test_a_function_has_limits_of_its_own(app: App, spy: Clever, held: Held) -> None:
    serve(app, held, time_limit=SHORT)
    for number in range(3):  # each takes the place of the one before
        spy.takes["hold"](packet("hold", number, id=str(number)))
        failure = failure_in(spy.report())
        assert (failure.code, failure.message) == (Code.TIMEOUT, "it ran longer than its time_limit of 0.02 s")
    held.free.set()
    spy.takes["hold"](packet("hold", 7, time_limit=FOREVER))
    assert spy.report().status is Status.SUCCESS


def test_what_waits_for_room_expires(app: App, spy: Clever, held: Held) -> None:
    """Also while its broker waits for the receipt; then it is held, and reported."""
    serve(app, held)
    for number in range(2):
        assert spy.takes["hold"](packet("hold", number, id=str(number))) == OK
    assert spy.takes["hold"](packet("hold", 2, id="late", expires=SHORT)) == OK
    report = spy.report()
    assert (report.id, failure_in(report).code) == ("late", Code.EXPIRED)
    held.free.set()
    assert {spy.report().id for _ in range(2)} == {"0", "1"}
    assert spy.takes["hold"](packet("hold", 3, id="in time", expires=FOREVER)) == OK
    assert spy.report().status is Status.SUCCESS


def test_what_is_held_expires(app: App, spy: Clever, held: Held) -> None:
    serve(app, held)
    spy.takes["hold"](packet("hold", 0, id="0"))
    spy.takes["hold"](packet("hold", 1, id="late", expires=SHORT))
    report = spy.report()
    assert (report.id, failure_in(report).code) == ("late", Code.EXPIRED)
    held.free.set()
    assert spy.report().id == "0"
    assert [held.next(), held.began.qsize()] == [0, 0]


def test_what_is_to_be_stopped_before_it_starts(app: App, spy: Clever, held: Held) -> None:
    """Whether it is held or waits for room."""
    serve(app, held)
    spy.takes["hold"](packet("hold", 0, id="0"))
    held.next()
    spy.takes["hold"](packet("hold", 1, id="1", monitor_progress=True))
    assert spy.report().status is Status.SENT
    receipts: Queue[Receipt] = Queue()
    broker = threading.Thread(target=lambda: receipts.put(spy.takes["hold"](packet("hold", 2, id="2"))))
    broker.start()
    while receipts.empty():  # it may come too early, as from any broker
        spy.stop("hold", "2")
    broker.join(PATIENCE)
    assert receipts.get_nowait() == OK
    spy.stop("hold", "1")
    spy.stop("hold", "unknown")
    for id in ("2", "1"):
        report = spy.report()
        failure = failure_in(report)
        assert (report.id, failure.code, failure.message) == (id, Code.CANCELLED, "cancelled before it started")
    held.free.set()
    assert spy.report().id == "0"
    assert held.began.empty()


def test_the_highest_priority_is_next(app: App, spy: Clever, held: Held) -> None:
    app.register("hold", held)
    app.allocate("hold", 4)
    app.serve()
    for number in range(4):
        spy.takes["hold"](packet("hold", number, id=str(number)))
        held.next()
    for number, priority in ((10, 0), (11, -1), (12, 2), (13, 1)):
        spy.takes["hold"](packet("hold", number, id=str(number), priority=priority))
    workers = app._engine._node._served["hold"].workers.pool  # type: ignore[union-attr]
    assert [workers._best(workers._jobs.get_nowait()).id for _ in range(4)] == ["12", "13", "10", "11"]


def test_another_number_of_workers(spy: Clever, held: Held) -> None:
    app = App("remote", threads=1)
    app.use(spy)
    app.register("hold", held)
    own = app.allocate("hold", 1, share=2)
    app.serve()
    for number in range(2):
        spy.takes["hold"](packet("hold", number, id=str(number)))
    held.next()
    own.resize(3)
    assert held.next() == 1
    assert spy.sizes.get_nowait() == ("hold", 3)
    assert spy.channels == ["hold"] * 2
    for number in range(2, 6):
        spy.takes["hold"](packet("hold", number, id=str(number)))
    held.next()
    assert own.remaining == 0
    own.resize(1)
    held.free.set()
    assert {spy.report().id for _ in range(6)} == {str(number) for number in range(6)}
    app.close()


def test_each_worker_has_what_its_factory_makes(app: App, spy: Clever) -> None:
    made: list[threading.Thread] = []

    def factory() -> Any:
        made.append(threading.current_thread())
        calls: list[int] = []

        def count(number: int) -> int:
            calls.append(number)
            return len(calls)

        return count

    app.register("count", lambda number: number)
    app.allocate("count", 1, factory=factory)
    app.serve()
    for number in range(3):
        spy.takes["count"](packet("count", 0, id=str(number)))
    assert [spy.report().body for _ in range(3)] == [encode(number)[0] for number in (1, 2, 3)]
    assert len(made) == 1


def test_what_a_node_tells_besides(app: App, spy: Clever) -> None:
    def bad(number: int) -> None:
        raise LookupError("no such number")

    app.register("bad", bad)
    app.serve(name="n")
    with app.listen(level=Level.INFO) as events:
        spy.takes["bad"](packet("other"))
        spy.takes["bad"](None)  # type: ignore[arg-type]
        spy.takes["bad"](packet("bad", 1))
        told = [events.get(PATIENCE) for _ in range(3)]
    assert [event.code for event in told] == [EventCode.REFUSED, EventCode.DROPPED, EventCode.FAILED]
    assert told[0].text == "task other id 1 was not taken: n has no function 'other'"
    assert (told[0].name, told[0].id, told[0].node) == ("other", "1", "n")
    assert told[2].text == "task bad id 1 failed: LookupError: no such number"
    assert isinstance(told[2].error, LookupError)


# ---------------------------------------------------------------------- the broker in memory


def test_the_time_that_a_task_waits_is_taken_off() -> None:
    broker, taken = LocalBroker(), Queue[TaskPacket]()
    broker.send(TaskPacket("f", "1", Options(expires=SHORT), b""))
    broker.send(TaskPacket("f", "2", Options(expires=FOREVER), b""))
    with pytest.raises(Empty):
        taken.get(timeout=SHORT)
    broker.listen([Listener("f", lambda task: (taken.put(task), OK)[1])])
    lefts = [taken.get(timeout=PATIENCE).options.expires for _ in range(2)]
    broker.close()
    assert lefts[0] == 1e-6
    assert lefts[1] is not None
    assert FOREVER - PATIENCE < lefts[1] < FOREVER


def test_a_wish_for_a_task_that_is_being_offered_comes_again() -> None:
    broker, wishes = LocalBroker(), Queue[tuple[str, str]]()
    offered, answer = threading.Event(), threading.Event()

    def take(task: TaskPacket) -> Receipt:
        offered.set()
        answer.wait(PATIENCE)
        return OK

    broker.hear_stops(lambda *task: wishes.put(task))
    broker.send(TaskPacket("f", "1", Options(), b""))
    assert not broker.stop_task("f", "1")  # it is to be taken back
    broker.listen([Listener("f", take)])
    assert offered.wait(PATIENCE)
    assert broker.stop_task("f", "1")
    answer.set()
    assert [wishes.get(timeout=PATIENCE) for _ in range(2)] == [("f", "1")] * 2
    broker.close()
    assert not LocalBroker(broker.queue).stop_task("f", "1")


def test_what_was_refused_keeps_its_priority() -> None:
    broker, taken, refused = LocalBroker(), Queue[str](), threading.Event()

    def refuse(task: TaskPacket) -> Receipt:
        refused.set()
        return Receipt(ReceiptStatus.NOK, "no")

    for id, priority in (("low", 0), ("high", 1), ("low too", 0), ("high too", 1)):
        broker.send(TaskPacket("f", id, Options(priority=priority), b""))
    stop = broker.listen([Listener("f", refuse)])
    assert refused.wait(PATIENCE)
    stop()
    broker.listen_all(lambda task: (taken.put(task.id), OK)[1])
    got = [taken.get(timeout=PATIENCE) for _ in range(4)]
    broker.close()
    assert sorted(got[:2]) == ["high", "high too"]


def test_retries_over_a_broker_in_memory_tell_who_failed() -> None:
    app = App("remote", threads=1)
    app.use(LocalBroker())
    app.use(LocalBackend())
    app.register("bad", lambda: 1 / 0)
    app.serve(name="n")
    failure = app.options(retries=Retries(1, backoff=0.0)).call("bad").wait(PATIENCE).failure
    assert failure is not None
    assert (failure.type, failure.node, failure.attempt) == ("ZeroDivisionError", "n", 2)
    assert failure.message.endswith("(the last of 2 attempts)")
    app.close()
