"""Remote mode: what is attached, what stores and consumers may bring, receipts, and the end."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Queue
from typing import Any

import pytest

from dingo_zmq import App, Code, Options, Result, Status
from dingo_zmq.errors import Busy, ConfigError, TaskCancelled, TaskFailed, TaskShutdown, UsageError
from dingo_zmq.local_broker import LocalBackend, LocalBroker
from dingo_zmq.marshal import encode, encode_arguments, encode_failure, encode_progress
from dingo_zmq.model import Failure
from dingo_zmq.ports import Channel, Heard, Listener, Receipt, ReceiptStatus, ReportPacket, Take, TaskPacket

PATIENCE = 10.0
OK, NOK, WORKER_NOT_FOUND = ReceiptStatus


class Spy:
    """Plays every role, and lets a test play the other side."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.sent: Queue[TaskPacket] = Queue()
        self.heard: dict[tuple[str, str], Heard] = {}
        self.takes: dict[str, Take] = {}
        self.slots: dict[str, int] = {}
        self.channels: list[str] = []
        self.reports: Queue[ReportPacket] = Queue()
        self.closed = 0

    def send(self, task: TaskPacket) -> None:
        self.calls.append("send")
        self.sent.put(task)

    def listen(self, listeners: Sequence[Listener]) -> Callable[[], None]:
        self.takes = {listener.name: listener.take for listener in listeners}
        self.slots = {listener.name: listener.slots for listener in listeners}
        return lambda: self.calls.append("stop")

    def channel(self, name: str) -> Channel:
        self.channels.append(name)

        def send(reports: Sequence[ReportPacket]) -> None:
            for report in reports:
                self.reports.put(report)

        return send

    def poll(self, name: str, id: str, heard: Heard) -> None:
        self.calls.append("poll")
        self.heard[name, id] = heard

    def done(self, name: str, id: str) -> None:
        self.calls.append("done")
        self.heard.pop((name, id), None)

    def close(self) -> None:
        self.closed += 1

    def report(self) -> ReportPacket:
        """Wait for the next report."""
        return self.reports.get(timeout=PATIENCE)


@pytest.fixture
def spy() -> Spy:
    return Spy()


@pytest.fixture
def app(spy: Spy) -> Iterator[App]:
    app = App("remote", threads=2)
    app.use(spy)
    yield app
    app.close(wait=False)


def call(app: App, spy: Spy, name: str = "add", *args: Any, **options: Any) -> tuple[Result[Any], Heard]:
    """Call, and return the result and who hears its reports."""
    result = app.options(**options).call(name, *args)
    return result, spy.heard[name, result.id]


def packet(name: str, *args: Any, id: str = "1", **options: Any) -> TaskPacket:
    return TaskPacket(name, id, Options(**options), *encode_arguments(args, {}))


# ---------------------------------------------------------------------- attaching


class OnlyStore:
    def poll(self, name: str, id: str, heard: Heard) -> None: ...

    def done(self, name: str, id: str) -> None: ...


def test_the_roles_of_an_object_are_found(spy: Spy) -> None:
    assert App("remote").use(spy) == ("producer", "named_consumer", "reporter", "store")
    assert App("remote").use(LocalBroker()) == ("producer", "named_consumer")
    assert App("remote").use(LocalBackend()) == ("reporter", "store")
    assert App("remote").use(OnlyStore()) == ("store",)


def test_roles_can_be_named(spy: Spy) -> None:
    app, broker = App("remote"), LocalBroker()
    assert app.use(producer=broker, consumer=broker, store=OnlyStore()) == ("producer", "consumer", "store")
    assert app.use(reporter=spy) == ("reporter",)


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({"store": LocalBroker()}, r"a LocalBroker cannot be the store, which has poll\(\) and done\(\)"),
        ({"producer": LocalBackend()}, r"a LocalBackend cannot be the producer, which has send\(\)"),
        ({"consumer": OnlyStore()}, r"an? OnlyStore cannot be the consumer, which has listen_all\(\)"),
        ({"reporter": 3}, r"an? int cannot be the reporter"),
        ({"producer": LocalBroker}, r"the class LocalBroker \(hint: an object of it\) cannot be"),
        ({"consumer": LocalBroker(), "named_consumer": LocalBroker()}, "one consumer: either"),
        ({}, "either one object, or objects by their roles"),
    ],
)
def test_an_object_that_cannot_play_its_role(roles: dict[str, Any], said: str) -> None:
    app = App("remote")
    with pytest.raises(UsageError, match=said):
        app.use(**roles)
    assert app.use(Spy()) != ()


@pytest.mark.parametrize("thing", [3, "broker", object(), LocalBroker, Options()])
def test_an_object_without_a_role(thing: object) -> None:
    with pytest.raises(UsageError, match=r"can play no role: a producer has send\(\), "):
        App("remote").use(thing)


def test_an_attribute_that_is_no_method_is_no_role() -> None:
    class Odd:
        send = 3

    with pytest.raises(UsageError, match="can play no role"):
        App("remote").use(Odd())


def test_a_role_that_is_taken() -> None:
    app = App("remote")
    app.use(LocalBroker())
    for again in (lambda: app.use(LocalBroker()), lambda: app.use(consumer=LocalBroker())):
        with pytest.raises(UsageError, match="the App has a .* already, a LocalBroker; it cannot have two"):
            again()


def test_one_object_in_two_calls(spy: Spy) -> None:
    app = App("remote")
    app.use(producer=spy)
    app.use(store=spy)
    app.close()
    assert spy.closed == 1


@pytest.mark.parametrize("mode", ["local", "mesh"])
def test_other_modes_need_nothing_attached(mode: str) -> None:
    with pytest.raises(UsageError, match=f"mode '{mode}' needs nothing attached"):
        App(mode).use(LocalBroker())


def test_attaching_after_the_start(app: App) -> None:
    app.call("add")
    with pytest.raises(UsageError, match="before the first call or serve"):
        app.use(Spy())


@pytest.mark.parametrize(
    ("attached", "act", "missing"),
    [
        (None, lambda app: app.call("add"), "a call in remote mode needs a producer"),
        (LocalBroker, lambda app: app.call("add"), "a call in remote mode needs a store"),
        (LocalBackend, lambda app: app.call("add"), "a call in remote mode needs a producer"),
        (LocalBackend, lambda app: app.serve(), "serving in remote mode needs a consumer"),
        (LocalBroker, lambda app: app.serve(), "serving in remote mode needs a reporter"),
    ],
)
def test_what_is_missing_is_told(attached: Any, act: Callable[[App], Any], missing: str) -> None:
    app = App("remote")
    app.register("add", lambda: 1)
    if attached is not None:
        app.use(attached())
    with pytest.raises(UsageError, match=missing + r"; hint: attach one with app.use"):
        act(app)
    app.close()


def test_serving_nothing_or_twice(app: App) -> None:
    with pytest.raises(ConfigError, match="nothing to serve"):
        app.serve()
    app.register("add", lambda: 1)
    app.serve()
    with pytest.raises(UsageError, match="serves already"):
        app.serve()


def test_there_is_no_mesh(app: App) -> None:
    assert (app.peers(), app.waiting()) == ([], [])
    with pytest.raises(UsageError, match="in remote mode and has no mesh"):
        app.engine()
    assert repr(app) == "<App remote: 0 tasks open, 0 held here>"


# ---------------------------------------------------------------------- calling


def test_the_store_is_polled_before_the_task_is_sent(app: App, spy: Spy) -> None:
    result, heard = call(app, spy, "add", 2, 3)
    sent = spy.sent.get_nowait()
    assert spy.calls == ["poll", "send"]
    assert (sent.name, sent.id, sent.body, sent.attempt) == ("add", result.id, encode_arguments((2, 3), {})[0], 1)

    heard(ReportPacket("add", result.id, Status.SUCCESS, *encode(5), 1, "n"))
    assert (result.result(0), result.node, result.attempt) == (5, "n", 1)
    assert spy.calls == ["poll", "send", "done"]


def test_who_wants_to_know_beforehand_is_told() -> None:
    class Curious(Spy):
        def declared(self, name: str) -> None:
            self.calls.append(f"declared {name}")

        def before_reports(self, name: str, id: str) -> None:
            if id == "bad":
                raise OSError("no queue for it")
            self.calls.append(f"before {name} {id}")

    spy, app = Curious(), App("remote")
    app.use(spy)
    app.register("add", typed_add)
    app.call("add", 1, 2)
    assert spy.calls == ["declared add", "poll", "send"]
    app.serve(name="n")
    assert spy.takes["add"](packet("add", 1, 2, id="7")) == Receipt(OK)
    assert spy.report().id == "7"
    assert spy.calls[-1] == "before add 7"
    for _ in range(10):  # more than it can hold
        assert spy.takes["add"](packet("add", id="bad")) == Receipt(NOK, "the reporter of n raised OSError")
    app.close(wait=False)


def test_a_producer_that_fails(app: App, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(task: TaskPacket) -> None:
        raise OSError("no route")

    monkeypatch.setattr(spy, "send", fail)
    with pytest.raises(OSError, match="no route"):
        app.call("add")
    assert spy.calls == ["poll", "done"]
    assert repr(app) == "<App remote: 0 tasks open, 0 held here>"


def test_ids_of_ones_own(app: App, spy: Spy) -> None:
    """As the setting of a function; what cannot be a part of a topic is refused."""

    class Maker:
        id = "own 1"

        def new_id(self, name: str) -> str:
            return f"{name} {self.id}"

    maker = Maker()
    mine = app.register("mine", typed_add, id_maker=maker)
    assert mine.call(1, 2).id == "mine own 1"
    maker.id = "a/b"
    with pytest.raises(UsageError, match="the id of a task must be"):
        mine.call(1, 2)


def test_reports_on_the_way(app: App, spy: Spy) -> None:
    result, heard = call(app, spy, monitor_progress=True)
    assert result.why() == "it was sent, and nothing has been heard of it"
    heard(ReportPacket("add", result.id, Status.SENT, node="n"))
    assert result.why() == "it waits for a worker on n"
    heard(ReportPacket("add", result.id, Status.PROGRESS, node="n"))
    assert (result.why(), result.running()) == ("it is running on n", True)
    heard(ReportPacket("add", result.id, Status.PROGRESS, *encode_progress(0.5, "half")))
    heard(ReportPacket("add", result.id, Status.SUCCESS, *encode(1)))
    told = [(report.status, report.value) for report in result.reports(0)]
    assert told == [
        (Status.SENT, None),
        (Status.PROGRESS, None),
        (Status.PROGRESS, (0.5, "half")),
        (Status.SUCCESS, 1),
    ]


def test_a_failure(app: App, spy: Spy) -> None:
    result, heard = call(app, spy)
    body = encode_failure(Failure(Code.RAISED, "bad", "ValueError", "Traceback ..."))
    heard(ReportPacket("add", result.id, Status.FAIL, *body, 1, "n"))
    with pytest.raises(TaskFailed, match=r"ValueError: bad \(on n\)"):
        result.result(0)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x93\x01", bytes(100), b"\x81\xa1a"])
def test_a_final_report_that_cannot_be_decoded(app: App, spy: Spy, body: bytes) -> None:
    app.declare("typed", lambda: None)
    app.register("add", typed_add)
    for status, code in ((Status.SUCCESS, Code.DECODE), (Status.FAIL, Code.GENERIC)):
        result, heard = call(app, spy, "add", 1, 2)
        heard(ReportPacket("add", result.id, status, body, (), 1, "n"))
        assert result.failure is not None
        assert (result.failure.code, result.failure.node) == (code, "n")


def typed_add(a: int, b: int) -> int:
    return a + b


def test_a_return_of_another_type(app: App, spy: Spy) -> None:
    app.register("add", typed_add)
    result, heard = call(app, spy, "add", 1, 2)
    heard(ReportPacket("add", result.id, Status.SUCCESS, *encode("three")))
    assert result.failure is not None
    assert "expected int, got str 'three'" in result.failure.message


def test_progress_that_cannot_be_decoded_is_dropped(app: App, spy: Spy) -> None:
    result, heard = call(app, spy, monitor_progress=True)
    heard(ReportPacket("add", result.id, Status.PROGRESS, b"\xc1"))
    heard(ReportPacket("add", result.id, Status.SUCCESS, *encode(5)))
    assert [report.status for report in result.reports(0)] == [Status.SUCCESS]


def test_the_first_final_report_counts(app: App, spy: Spy) -> None:
    result, heard = call(app, spy)
    for value in (1, 2):
        heard(ReportPacket("add", result.id, Status.SUCCESS, *encode(value)))
    assert result.result(0) == 1
    assert spy.calls.count("done") == 1


def test_the_bound_on_open_tasks(spy: Spy) -> None:
    app = App("remote", max_open=1)
    app.use(spy)
    _, heard = call(app, spy)
    with pytest.raises(Busy):
        asyncio.run(app.acall("add"))
    waits = threading.Thread(target=lambda: app.call("add"))
    waits.start()
    heard(ReportPacket("add", next(iter(spy.heard))[1], Status.SUCCESS, *encode(1)))
    waits.join(PATIENCE)
    assert not waits.is_alive()
    app.close(wait=False)


def test_a_producer_that_cannot_cancel(app: App, spy: Spy) -> None:
    result, _ = call(app, spy)
    assert not result.cancel()
    assert not result.done()


# ---------------------------------------------------------------------- serving


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def node(app: App, gate: threading.Event) -> App:
    """The App, which serves `hold` (2 workers of its own) and others."""
    began = threading.Semaphore(0)

    def hold() -> int:
        began.release()
        gate.wait(PATIENCE)
        return 1

    async def hold_on() -> int:
        began.release()
        while not gate.is_set():
            await asyncio.sleep(0.001)
        return 1

    app.register("hold", hold)
    app.register("hold_on", hold_on)
    app.register("add", typed_add)
    app.allocate("hold", 2)
    app.allocate("hold_on", 2)
    app.serve(name="n")
    app.began = began  # type: ignore[attr-defined]
    return app


def test_what_a_node_reports(node: App, spy: Spy) -> None:
    assert spy.takes["add"](packet("add", 2, 3)) == Receipt(OK)
    assert spy.report() == ReportPacket("add", "1", Status.SUCCESS, *encode(5), 1, "n")

    spy.takes["add"](packet("add", 2, 3, monitor_progress=True)._replace(attempt=3))
    reports = [spy.report() for _ in range(3)]
    assert [report.status for report in reports] == [Status.SENT, Status.PROGRESS, Status.SUCCESS]
    assert {report.attempt for report in reports} == {3}


def test_what_a_node_tells_of_its_workers(node: App, spy: Spy) -> None:
    assert spy.slots == {"hold": 2, "hold_on": 2, "add": 2}
    assert sorted(spy.channels) == ["add", "hold", "hold_on"]


def test_a_receipt_does_not_wait_for_the_end(node: App, spy: Spy, gate: threading.Event) -> None:
    """A task is held when its receipt is given, and has perhaps not even started."""
    receipts = [spy.takes["hold"](packet("hold", id=str(number))) for number in range(4)]
    assert receipts == [Receipt(OK)] * 4
    assert spy.reports.empty()
    gate.set()
    assert {spy.report().id for _ in range(4)} == {"0", "1", "2", "3"}


@pytest.mark.parametrize("name", ["hold", "hold_on"])
def test_who_is_full_lets_the_broker_wait(node: App, spy: Spy, gate: threading.Event, name: str) -> None:
    for number in range(4):
        spy.takes[name](packet(name, id=str(number)))
    receipts: Queue[Receipt] = Queue()
    broker = threading.Thread(target=lambda: receipts.put(spy.takes[name](packet(name, id="4"))))
    broker.start()
    assert spy.takes["add"](packet("add", 1, 1)) == Receipt(OK)
    assert spy.report().name == "add"
    assert receipts.empty()
    gate.set()
    assert receipts.get(timeout=PATIENCE) == Receipt(OK)
    broker.join(PATIENCE)
    assert {spy.report().id for _ in range(5)} == {"0", "1", "2", "3", "4"}


def test_an_unregistered_name(node: App, spy: Spy) -> None:
    receipt = spy.takes["add"](packet("sub", 2, 3))
    assert receipt == Receipt(WORKER_NOT_FOUND, "n has no function 'sub'")
    assert spy.reports.empty()


@pytest.mark.parametrize(
    "thing",
    [
        None,
        b"task",
        ("add", "1"),
        TaskPacket("add", "1", None, b""),  # type: ignore[arg-type]
        TaskPacket(["add"], "1", Options(), b""),  # type: ignore[arg-type]
    ],
)
def test_a_consumer_that_brings_garbage(node: App, spy: Spy, thing: Any) -> None:
    assert spy.takes["add"](thing) == Receipt(NOK, "it is no task")


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x92\x01\xa1a", None, 3])
def test_arguments_that_cannot_be_decoded(node: App, spy: Spy, body: Any) -> None:
    assert spy.takes["add"](TaskPacket("add", "1", Options(), body)) == Receipt(OK)
    report = spy.report()
    assert report.status is Status.FAIL
    assert report.id == "1"


def test_a_reporter_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    failed = threading.Event()

    class Broken(Spy):
        def channel(self, name: str) -> Channel:
            whole = super().channel(name)

            def send(reports: Sequence[ReportPacket]) -> None:
                if not failed.is_set():
                    failed.set()
                    raise OSError("no route")
                whole(reports)

            return send

    broken, node = Broken(), App("remote")
    node.use(broken)
    node.register("add", typed_add)
    node.serve()
    with caplog.at_level(logging.ERROR, "dingo_zmq"):
        broken.takes["add"](packet("add", 1, 2, id="bad"))
        assert failed.wait(PATIENCE)
        broken.takes["add"](packet("add", 1, 2, id="good"))
        assert broken.report().id == "good"
    assert "1 report of add lost: the channel failed" in caplog.text
    node.close()


def test_a_consumer_that_fails_leaves_nothing_behind(spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(listeners: Sequence[Listener]) -> Callable[[], None]:
        raise OSError("no route")

    monkeypatch.setattr(spy, "listen", fail)
    app = App("remote")
    app.use(spy)
    app.register("add", typed_add)
    with pytest.raises(OSError, match="no route"):
        app.serve()
    app.close()  # and no thread is left


def test_tasks_take_turns_at_the_channels() -> None:
    from dingo_zmq.registry import Registry
    from dingo_zmq.remote import Roles
    from dingo_zmq.remote.node import RemoteNode

    class Numbered(Spy):
        def channel(self, name: str) -> Channel:
            number = len(self.channels)
            super().channel(name)

            def send(reports: Sequence[ReportPacket]) -> None:
                for report in reports:
                    self.reports.put(report._replace(node=str(number)))

            return send

    spy, roles, registry = Numbered(), Roles(), Registry()
    roles.add(roles.find(spy))
    registry.register("add", typed_add, settings={"share": 2})
    node = RemoteNode(roles, list(registry), {"add": 5}, 1, 1 << 20, "n")
    try:
        for number in range(6):
            spy.takes["add"](packet("add", 1, number, id=str(number), monitor_progress=True))
        reports = [spy.report() for _ in range(18)]
    finally:
        node.close()
    assert spy.channels == ["add"] * 3
    used = {id: {report.node for report in reports if report.id == id} for id in map(str, range(6))}
    assert all(len(channels) == 1 for channels in used.values())
    assert set().union(*used.values()) == {"0", "1", "2"}
    for id in used:
        assert [report.status for report in reports if report.id == id] == [1, 2, 3]


# ---------------------------------------------------------------------- the end


@pytest.mark.parametrize("name", ["hold", "hold_on"])
def test_a_node_that_is_closed_says_so_of_what_it_holds(
    node: App, spy: Spy, gate: threading.Event, name: str
) -> None:
    for number in range(4):
        spy.takes[name](packet(name, id=str(number)))
    for _ in range(2):
        assert node.began.acquire(timeout=PATIENCE)  # type: ignore[attr-defined]
    node.close(wait=False)
    reports = [spy.report() for _ in range(4)]
    gate.set()

    assert {report.id for report in reports} == {"0", "1", "2", "3"}
    for report in reports:
        assert (report.status, report.body[1]) == (Status.FAIL, Code.SHUTDOWN)
    assert spy.reports.empty()
    assert spy.calls[-1] == "stop"
    assert spy.closed == 1
    assert spy.takes[name](packet(name)) == Receipt(NOK, "the node is closing")


def test_a_clean_end_runs_what_is_held(node: App, spy: Spy, gate: threading.Event) -> None:
    for number in range(4):
        spy.takes["hold"](packet("hold", id=str(number)))
    closing = threading.Thread(target=node.close)
    closing.start()
    gate.set()
    closing.join(PATIENCE)
    assert [spy.reports.get_nowait().status for _ in range(4)] == [Status.SUCCESS] * 4


def test_a_clean_end_waits_no_longer_than_told(node: App, spy: Spy) -> None:
    spy.takes["hold"](packet("hold"))
    assert node.began.acquire(timeout=PATIENCE)  # type: ignore[attr-defined]
    node.close(timeout=0.01)
    assert spy.report().status is Status.FAIL


def test_a_caller_is_told_when_its_node_is_closed() -> None:
    """Over a broker and a backend in memory, shared by two Apps."""
    broker, backend, began, gate = LocalBroker(), LocalBackend(), threading.Event(), threading.Event()
    node, caller = App("remote", threads=1), App("remote")
    node.use(broker)
    node.use(backend)
    caller.use(LocalBroker(broker.queue))
    caller.use(LocalBackend(backend.queue))
    node.register("hold", lambda: (began.set(), gate.wait(PATIENCE)))
    node.serve(name="n")
    results = [caller.call("hold") for _ in range(5)]
    assert began.wait(PATIENCE)
    node.close(wait=False)
    gate.set()

    assert isinstance(results[0].exception(0), TaskShutdown)
    waiting = [result for result in results if not result.done()]
    assert len(waiting) >= 3
    for result in results:
        if result not in waiting:
            assert result.failure is not None
            assert result.failure.message == "node n was closed before the task was done"
    for result in waiting:
        assert result.why() in (
            "it waits in the local broker; nobody there runs hold()",
            "it waits in the local broker; it was refused: the node is closing",
        )
        assert result.cancel()
        with pytest.raises(TaskCancelled):
            result.result(0)
    caller.close(wait=False)


def test_pickles_are_refused() -> None:
    app = App("remote", allow_pickle=True)
    app.use(LocalBroker())
    app.use(LocalBackend())
    task = app.register("add", typed_add, marshaller="pickle")
    with pytest.raises(ConfigError, match="pickles need a mesh key"):
        task.call(1, 2)
    with pytest.raises(ConfigError, match="another marshaller"):
        app.serve()
    app.close()
