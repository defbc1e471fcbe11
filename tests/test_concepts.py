"""
The README's table of dingo's concepts: each row is true, tested by what stands here under its first cell.

A row without a test fails, as does a test without a row, and a row that points to where its concept is not.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import dingo_zmq
from dingo_zmq import (
    App,
    Code,
    Event,
    EventCode,
    Failure,
    Level,
    Options,
    Origin,
    Report,
    Retries,
    SequenceIDs,
    Status,
    UUIDs,
    ports,
)
from dingo_zmq.config import for_app
from dingo_zmq.errors import (
    ArgumentError,
    Closed,
    DingoError,
    EncodeError,
    PeerError,
    TaskError,
    TaskFailed,
    TaskShutdown,
    UnknownFunction,
    UsageError,
)
from dingo_zmq.invoke import DirectInvoker
from dingo_zmq.local_broker import LocalBackend, LocalBroker
from dingo_zmq.marshal import Header, Kind, compose, decompose, encode_arguments
from dingo_zmq.marshallers import CustomMarshaller, JSONMarshaller, JSONSafeCodec, MsgpackMarshaller
from dingo_zmq.pool import ThreadPool
from dingo_zmq.ports import Listener, Receipt, ReceiptStatus, ReportPacket, TaskPacket
from dingo_zmq.testing.app_suite import AppSuite
from dingo_zmq.testing.contracts import BackendContract, BrokerContract, Ends, backend_ends
from tests.support import wait_until

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PATIENCE = 10.0

Make = Callable[..., App]
Test = Callable[[Make], None]
TESTS: dict[str, Test] = {}


class Row(NamedTuple):
    concept: str
    ours: str
    where: str


def rows() -> list[Row]:
    table = README.partition("| dingo's concept | ours | where |\n")[2].partition("\n\n")[0]
    return [Row(*[cell.strip() for cell in line.strip("|").split("|")]) for line in table.splitlines()[1:]]


ROWS = {row.concept: row for row in rows()}


def concept(cell: str) -> Callable[[Test], Test]:
    """Say that a function tests the row with this first cell."""

    def keep(test: Test) -> Test:
        assert cell not in TESTS, cell
        TESTS[cell] = test
        return test

    return keep


def misplaced(row: Row) -> str:
    """Return what is wrong with the last cell of a row: there has to be a word of the cell before it."""
    words = [word for code in re.findall(r"`([^`]+)`", row.ours) for word in re.findall(r"[\w-]+", code)]
    section = re.fullmatch(r"\[([^]]+)\]\(#[a-z-]+\)", row.where)
    file = re.fullmatch(r"`(dingo_zmq/[\w/]+\.py)`", row.where)
    if section:
        text = README.partition(f"\n## {section[1]}\n")[2].partition("\n## ")[0]
        found = [word for word in words if re.search(rf"(?<!\w){word}(?!\w)", text)]
    elif file and (ROOT / file[1]).exists():
        text = (ROOT / file[1]).read_text()
        defined = r'(?:def|class) {0}\b|^    {0}: |self\._?{0}\b.* = |"{0}"'
        found = [word for word in words if re.search(defined.format(word), text, re.M)]
    else:
        return f"{row.where} is no section and no module"
    return "" if found else f"{row.where} has none of {words}"


@pytest.fixture
def make() -> Iterator[Make]:
    """Apps that are closed at the end; of remote ones, those of one test reach each other."""
    apps: list[App] = []
    tasks, reports = LocalBroker().queue, LocalBackend().queue

    def make(mode: str = "local", **settings: Any) -> App:
        apps.append(app := App(mode, **settings))
        if mode == "remote":
            app.use(LocalBroker(tasks))
            app.use(LocalBackend(reports))
        return app

    yield make
    for app in apps:
        app.close(wait=False)


def test_every_row_has_a_test_and_every_test_a_row() -> None:
    assert len(rows()) == len(ROWS) > 50
    assert set(TESTS) == set(ROWS)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_row_says_where(row: Row) -> None:
    assert misplaced(row) == ""


@pytest.mark.parametrize(
    "where", ["`dingo_zmq/nowhere.py`", "`dingo_zmq/mesh/pace.py`", "[Limits](#limits)", "[No](#no)", "model"]
)
def test_a_wrong_place_is_noticed(where: str) -> None:
    assert misplaced(ROWS["`Status`"]._replace(where=where)) != ""


# ---------------------------------------------------------------------- a. the App


def add(a: int, b: int = 5) -> int:
    return a + b


@concept("`NewApp`")
def new_app(make: Make) -> None:
    for mode in ("local", "remote"):
        app = make(mode)
        app.register("add", add)
        app.serve()
        assert app.call("add", 1).result(PATIENCE) == 6
    assert make("mesh").mode == "mesh"
    with pytest.raises(UsageError, match="unknown mode 'redis'; there are: local, mesh, remote"):
        make("redis")
    assert [make().register("add", add).call(1).id for _ in range(2)] == ["1", "1"]


@concept("`App.Register`")
def register(make: Make) -> None:
    app = make()
    app.register("add", add)
    for again in (app.register, app.declare):
        with pytest.raises(UsageError, match="already a function 'add'"):
            again("add", add)
    caller, node = make("remote"), make("remote")
    stub = caller.declare("add", add)  # the caller needs the signature alone
    node.register("add", add)
    node.serve()
    assert stub.call(1, b=1).result(PATIENCE) == 2


@concept("`App.Allocate`")
def allocate(make: Make) -> None:
    app, names = make(), set()
    both = threading.Barrier(2)

    @app.task
    def who() -> None:
        names.add(threading.current_thread().name)
        both.wait(PATIENCE)

    with pytest.raises(UnknownFunction, match="register it first"):
        app.allocate("nobody", 1)
    workers = app.allocate("who", 1, share=1)
    assert (workers.count, workers.remaining) == (1, 1)
    with pytest.raises(UsageError, match="has workers of its own already"):
        app.allocate("who", 1)
    workers.resize(2)
    for result in [who.call(), who.call()]:
        result.result(PATIENCE)
    assert (len(names), workers.count, workers.share, workers.remaining) == (2, 2, 1, 0)
    served = make("remote")
    served.register("add", add)
    workers = served.allocate("add", 1)
    workers.resize(2)
    served.serve()
    workers.resize(3)
    assert workers.count == 3
    assert served.call("add", 1, 2).result(PATIENCE) == 3


@concept("`App.Call`")
def call(make: Make) -> None:
    class Order(LocalBackend):
        def poll(self, *args: Any) -> None:
            seen.append("poll")
            super().poll(*args)

    class Sends(LocalBroker):
        def send(self, task: TaskPacket) -> None:
            seen.append("send")
            super().send(task)

    seen: list[str] = []
    app = App("remote")
    app.use(Sends())
    app.use(Order())
    app.register("add", add)
    result = app.call("add", 2, b=3)  # nobody is there who runs it, and it waits
    assert seen == ["poll", "send"]
    app.serve()
    assert [report.value for report in result.reports(PATIENCE)] == [5]
    assert app.options(ignore_report=True).call("add", 2).result(0) is None
    app.close()
    shared = make().register("add", add)  # a function without `allocate` runs on the shared pool
    assert shared.call(1).result(PATIENCE) == 6


@concept("`App.SetOption`")
def set_option(make: Make) -> None:
    app = make()
    task = app.register("add", add, priority=3, monitor_progress=True)
    plain = app.options(monitor_progress=False).call("add", 1).wait(PATIENCE)
    assert task.call(1).wait(PATIENCE).options == Options(priority=3, monitor_progress=True)
    assert plain.options == Options(priority=3)


@concept("`App.SetMarshaller`")
def set_marshaller(make: Make) -> None:
    class Spy(LocalBroker):
        def send(self, task: TaskPacket) -> None:
            sent.append(bytes(task.body))
            super().send(task)

    class Reports(LocalBackend):
        def channel(self, name: str) -> ports.Channel:
            channel = super().channel(name)

            def send(reports: Sequence[ReportPacket]) -> None:
                reported.extend(bytes(report.body) for report in reports)
                channel(reports)

            return send

    sent: list[bytes] = []
    reported: list[bytes] = []
    app = App("remote")
    app.use(Spy())
    app.use(Reports())
    task = app.register("add", add, marshaller="json", report_marshaller="msgpack")
    app.serve()
    assert task.call(1, 2).result(PATIENCE) == 3
    app.close()
    assert (sent, reported) == ([b"[1,2]"], [b"\x03"])


@concept("`App.AddMarshaller`")
def add_marshaller(make: Make) -> None:
    app = make(wire=True, marshallers={"mine": CustomMarshaller(JSONSafeCodec())})
    assert app.register("add", add, marshaller="mine").call(1).result(PATIENCE) == 6
    with pytest.raises(UsageError, match="there is already a marshaller 'json'"):
        make(marshallers={"json": CustomMarshaller(JSONSafeCodec())})
    with pytest.raises(UsageError, match="there is no marshaller 'yours'"):
        app.register("sub", add, marshaller="yours")


@concept("`App.AddIDMaker`, `App.SetIDMaker`")
def set_id_maker(make: Make) -> None:
    class Hundreds:
        def new_id(self, name: str, /) -> str:
            return "100"

    free = threading.Event()
    app = make(id_maker=Hundreds(), threads=2)
    app.register("one", lambda: free.wait(PATIENCE))
    app.register("two", lambda: 2)
    app.register("own", lambda: 3, id_maker=SequenceIDs(7))
    first, second = app.call("one"), app.call("two")
    assert (first.id, second.id, app.call("own").id) == ("100", "100", "7")
    assert second.result(PATIENCE) == 2
    free.set()
    assert first.result(PATIENCE) is True


@concept("`App.Use`")
def use(make: Make) -> None:
    app, broker = App("remote"), LocalBroker()
    assert app.use(broker) == ("producer", "named_consumer")
    with pytest.raises(UsageError, match="the App has a producer already"):
        app.use(producer=LocalBroker())
    with pytest.raises(UsageError, match="a LocalBroker cannot be the store"):
        app.use(store=LocalBroker())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="can play no role"):
        app.use(object())
    app.close()
    with pytest.raises(Closed):
        broker.send(TaskPacket("add", "1", Options(), b""))


@concept("`App.Listen`, `App.StopListen`")
def listen(make: Make) -> None:
    app = make()
    app.register("boom", lambda: 1 / 0)
    small, stream = (app.listen("worker", Level.INFO, size=size) for size in (1, 10))
    silent = app.listen(Origin.NODE)
    for _ in range(3):
        app.call("boom").wait(PATIENCE)
    wait_until(lambda: small.dropped == 2, "both others are dropped")
    assert [stream.get(PATIENCE).code for _ in range(3)] == [EventCode.FAILED] * 3
    stream.close()
    app.call("boom").wait(PATIENCE)
    assert list(stream) == []
    app.close()
    assert (len(list(small)), list(silent)) == (1, [])


@concept("`App.Close`")
def close(make: Make) -> None:
    app, free = make("remote", threads=1), threading.Event()
    app.register("hold", lambda: free.wait(PATIENCE))
    app.serve()
    stream = app.listen()
    results = [app.call("hold") for _ in range(3)]
    app.close(wait=False)
    reports = [result.wait(PATIENCE) for result in results]
    free.set()
    assert [(report.status, report.failure.code) for report in reports if report.failure] == [
        (Status.FAIL, Code.SHUTDOWN)
    ] * 3
    assert list(stream) == []
    with pytest.raises(Closed):
        app.call("hold")
    with make() as clean:
        last = clean.register("add", add).call(1)
    assert last.result(0) == 6  # a clean end waits


# ---------------------------------------------------------------------- b. values


@concept("`Config`")
def config(make: Make) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DINGO_ZMQ_MESH", "lab")
        assert for_app({"mesh": None})["mesh"] == "lab"
        assert for_app({"mesh": "bench"})["mesh"] == "bench"
        assert make("mesh", mesh="bench").mesh_settings().mesh == "bench"
        assert make("mesh").mesh_settings().mesh == "lab"
    assert make(threads=5).threads == 5


@concept("`Option`")
def option(make: Make) -> None:
    chosen = Options().replace(monitor_progress=True)
    assert (Options().ignore_report, chosen.monitor_progress, Options().monitor_progress) == (False, True, False)
    with pytest.raises(UsageError, match="unknown option"):
        Options().replace(progress=True)
    caller, node = make("remote"), make("remote")
    node.register("add", add)
    node.serve()
    reports = list(caller.options(monitor_progress=True, priority=2).call("add", 1).reports(PATIENCE))
    assert {report.options for report in reports} == {Options(monitor_progress=True, priority=2)}
    assert Options(retries=2).tries == Retries(2)


@concept("`Status`")
def status(make: Make) -> None:
    names = ["NONE", "SENT", "PROGRESS", "SUCCESS", "FAIL", "PARTIAL"]
    assert [(each.name, int(each)) for each in Status] == [(name, number) for number, name in enumerate(names)]
    app = make()
    app.register("add", add)
    app.register("returns", lambda: ValueError("it is only returned"))
    asked = app.options(monitor_progress=True)
    told = [report.status for report in asked.call("add", 1).reports(PATIENCE)]
    assert told == [Status.SENT, Status.PROGRESS, Status.SUCCESS]
    assert [report.status for report in app.call("add", 1).reports(PATIENCE)] == [Status.SUCCESS]
    assert app.call("returns").wait(PATIENCE).status is Status.SUCCESS


@concept("`Report`")
def report(make: Make) -> None:
    app = make()
    app.register("pair", lambda: (1, "x"))
    app.register("boom", lambda: 1 / 0)
    good, bad = app.call("pair").wait(PATIENCE), app.call("boom").wait(PATIENCE)
    assert (good.name, good.id, good.value, good.returns) == ("pair", "1", (1, "x"), (1, "x"))
    assert (good.done, good.ok, good.fail, good.error) == (True, True, False, None)
    assert (bad.done, bad.ok, bad.fail, bad.returns) == (True, False, True, ())
    assert isinstance(bad.error, TaskFailed)
    assert Report("pair", "1", Status.SUCCESS, 5).returns == (5,)
    assert not Report("pair", "1", Status.SENT).done


@dataclass
class Point:
    x: int


@concept("`Result`")
def result(make: Make) -> None:
    heard: list[Any] = []
    app, free = make(), threading.Event()

    app.register("wait", lambda x: free.wait(PATIENCE) and {"x": x})
    waits = app.options(monitor_progress=True).call("wait", 3)

    def on_point(point: Point) -> None:
        heard.append(point)

    assert waits.on_ok(on_point).on_nok(heard.append).then() is waits
    with pytest.raises(TimeoutError):
        waits.wait(0.01)  # and it may be waited for again
    assert (waits.ok, waits.nok) == (False, False)  # not NOK is not OK
    free.set()
    last = waits.wait(PATIENCE)
    waits.on_ok(lambda value: heard.append("late"))
    assert (waits.last, waits.ok, waits.nok) == (last, True, False)
    wait_until(lambda: len(heard) == 2, "both handlers")
    assert heard == [Point(3), "late"]


@concept("`ResultError`")
def result_error(make: Make) -> None:
    app, free = make(), threading.Event()
    app.register("hold", lambda: free.wait(PATIENCE))
    held = app.call("hold")
    with pytest.raises(TimeoutError, match="running in this process"):
        held.result(0.01)
    with pytest.raises(UsageError, match=r"then\(\) without on_ok\(\) or on_nok\(\)"):
        held.then()
    app.close(wait=False)
    free.set()
    with pytest.raises(TaskShutdown):
        held.result(PATIENCE)


@concept("`Error`, `NewErr`")
def error(make: Make) -> None:
    app = make()
    app.register("boom", lambda: 1 / 0)
    with pytest.raises(TaskFailed) as caught:
        app.call("boom").result(PATIENCE)
    failure: Any = caught.value.failure
    assert isinstance(failure, Failure)
    assert (failure.code, failure.message, failure.type) == (
        Code.RAISED,
        "division by zero",
        "ZeroDivisionError",
    )
    assert "1 / 0" in failure.traceback
    assert str(Failure(Code.GENERIC, "by hand", node="bench")) == "by hand (on bench)"
    assert issubclass(TaskError, DingoError)


@concept("`ErrCode`")
def err_code(make: Make) -> None:
    assert [Code(number).name for number in range(3)] == ["GENERIC", "RAISED", "SHUTDOWN"]
    app, free = make(threads=1), threading.Event()
    app.register("hold", lambda: free.wait(PATIENCE))
    app.register("lies", lies)
    running, waiting = app.call("hold"), app.call("hold")
    expired = app.options(expires=0.01).call("hold")
    assert waiting.cancel()
    assert _code(waiting) is Code.CANCELLED
    assert _code(expired) is Code.EXPIRED
    free.set()
    assert running.result(PATIENCE) is True
    assert _code(app.call("lies")) in (Code.DECODE, Code.ENCODE)


def lies() -> int:
    return "three"  # type: ignore[return-value]


def _code(ended: Any) -> Code:
    failure = ended.wait(PATIENCE).failure
    assert failure is not None
    code: Code = failure.code
    return code


@concept("`Event`, `EventLvl`, `EventCode`")
def event(make: Make) -> None:
    assert [(each.name, int(each)) for each in Level] == [("DEBUG", 0), ("INFO", 1), ("WARNING", 2), ("ERROR", 3)]
    app = make()
    heard: list[Event] = []
    app.listen(callback=heard.append)
    before = time.time()
    app.register("add", add).call(1).on_ok(lambda value: 1 / 0)
    wait_until(lambda: heard, "the handler's error")
    assert (heard[0].origin, heard[0].level, heard[0].code) == (Origin.HANDLER, Level.ERROR, EventCode.HANDLER)
    assert isinstance(heard[0].error, ZeroDivisionError)
    assert before <= heard[0].time <= time.time()
    polls = LocalBackend()
    polls.poll("add", "1", lambda report: None)
    with pytest.raises(UsageError, match="is polled already"):  # dingo's DuplicatedPolling
        polls.poll("add", "1", lambda report: None)


@concept("`ObjT`")
def obj_t(make: Make) -> None:
    app = make()
    app.register("boom", lambda: 1 / 0)
    worker, handler = (app.listen(origin, Level.INFO) for origin in ("worker", Origin.HANDLER))
    app.call("boom").on_nok(lambda failure: 1 / 0)
    assert (worker.get(PATIENCE).origin, handler.get(PATIENCE).origin) == ("worker", "handler")
    with pytest.raises(UsageError, match="unknown origin 'mapper'; there are: caller, node, worker, handler"):
        app.listen("mapper")


@concept("`Meta`")
def meta(make: Make) -> None:
    app = make()

    @app.task
    def who() -> tuple[str, str]:
        task = dingo_zmq.current_task()
        return task.name, task.id

    asked = who.call()
    ended = asked.wait(PATIENCE)
    assert {ended.value, (asked.name, asked.id), (ended.name, ended.id)} == {("who", "1")}


@concept("`Task`, `TaskPayload`")
def task(make: Make) -> None:
    app, broker = App("remote"), LocalBroker()
    app.use(broker)
    app.use(LocalBackend())
    app.register("add", add)
    taken: list[TaskPacket] = []

    def take(packet: TaskPacket) -> Receipt:
        taken.append(packet)
        return Receipt(ReceiptStatus.OK)

    stop = broker.listen([Listener("add", take)])
    asked = app.options(priority=2).call("add", 1, b=2)
    (packet,) = wait_until(lambda: taken, "the task")
    stop()
    assert packet[:3] == ("add", asked.id, Options(priority=2))
    assert (packet.body, packet.buffers, packet.attempt) == (*encode_arguments((1, 2), {}), 1)
    app.close(wait=False)


@concept("`Header`, `ComposeBytes`, `DecomposeBytes`")
def header(make: Make) -> None:
    data = compose(Header(Kind.REPORT, "12", "scan", "json"), [b"one", b"", bytes(300)])
    got, parts = decompose(data)
    assert got == Header(Kind.REPORT, "12", "scan", "json", (3, 0, 300))
    assert parts == [b"one", b"", bytes(300)]
    with pytest.raises(PeerError, match="cut off"):
        decompose(data[:10])


@concept("`ReportEnvelope`")
def report_envelope(make: Make) -> None:
    got: list[ReportPacket] = []

    class Reporter:
        def channel(self, name: str) -> ports.Channel:
            return got.extend

    app = App("remote")
    app.use(LocalBroker())
    app.use(reporter=Reporter(), store=LocalBackend())
    app.register("add", add)
    app.serve(name="bench")
    app.options(monitor_progress=True).call("add", 1)
    wait_until(lambda: got and got[-1].done, "the final report")
    app.close(wait=False)
    assert {(each.name, each.node, each.attempt) for each in got} == {("add", "bench", 1)}
    assert [each.status for each in got] == [Status.SENT, Status.PROGRESS, Status.SUCCESS]


@concept("`TaskReceipt`, `ReceiptStatus`")
def task_receipt(make: Make) -> None:
    assert [(each.name, int(each)) for each in ReceiptStatus] == [("OK", 1), ("NOK", 2), ("WORKER_NOT_FOUND", 3)]
    takes: list[ports.Take] = []

    class AllInOne:
        def listen_all(self, take: ports.Take) -> Callable[[], None]:
            takes.append(take)
            return lambda: None

    app, free = App("remote", threads=1), threading.Event()
    app.use(consumer=AllInOne(), reporter=LocalBackend())
    app.register("hold", lambda: free.wait(PATIENCE))
    app.serve(name="bench")
    assert takes[0](TaskPacket("hold", "1", Options(), *encode_arguments((), {}))).status is ReceiptStatus.OK
    unknown = takes[0](TaskPacket("other", "1", Options(), *encode_arguments((), {})))
    assert unknown == Receipt(ReceiptStatus.WORKER_NOT_FOUND, "bench has no function 'other'")
    free.set()
    app.close(wait=False)
    assert takes[0](TaskPacket("hold", "2", Options(), *encode_arguments((), {}))).status is ReceiptStatus.NOK


# ---------------------------------------------------------------------- c. encoding and calling


def scan(start: date, points: list[int]) -> date:
    assert isinstance(start, date)
    return start.replace(day=len(points))


def opaque(value: Any) -> None: ...


@concept("`Marshaller`")
def marshaller(make: Make) -> None:
    class Counting(MsgpackMarshaller):
        name = "counting"
        prepared: list[str] = []

        def prepare(self, function: ports.Shape) -> ports.Encoding:
            self.prepared.append(function.text)
            return super().prepare(function)

    assert isinstance(Counting(), ports.Marshaller)
    app = make(wire=True)
    counting = Counting()
    task = app.register("scan", scan, marshaller=counting)
    assert task.call(date(2026, 3, 1), [1, 2]).result(PATIENCE) == date(2026, 3, 2)
    assert Counting.prepared == ["(start: date, points: list[int]) -> date"]
    with pytest.raises(EncodeError):
        make("remote").declare("size", opaque, marshaller=counting).call(object())


@concept("`Encode`")
def encode(make: Make) -> None:
    app = make(wire=True, allow_pickle=True)
    for name in ("msgpack", "json", "json-safe", "pickle"):
        task = app.register(f"scan-{name}", scan, marshaller=name)
        assert task.call(date(2026, 3, 1), [1, 2]).result(PATIENCE) == date(2026, 3, 2)
    with pytest.raises(UsageError, match="pickles run whatever code"):
        make().register("scan", scan, marshaller="pickle")


@concept("`CustomMarshaller`, `CustomMarshallerCodec`")
def custom_marshaller(make: Make) -> None:
    class Text:
        def prepare(self, function: ports.Shape) -> None: ...

        def encode_arguments(self, function: ports.Shape, names: Any, values: Any) -> list[bytes]:
            return [str(value).encode() for value in values]

        def decode_arguments(self, function: ports.Shape, names: Any, parts: Any) -> list[int]:
            seen.append([bytes(part) for part in parts])
            return [int(bytes(part)) for part in parts]

        def encode_return(self, function: ports.Shape, value: Any) -> list[bytes]:
            return [b"=", str(value).encode()]

        def decode_return(self, function: ports.Shape, parts: Any) -> int:
            return int(bytes(parts[1]))

    seen: list[list[bytes]] = []
    app = make(wire=True)
    task = app.register("add", add, marshaller=CustomMarshaller(Text()), monitor_progress=True)
    reports = list(task.call(1, b=20).reports(PATIENCE))
    assert (len(reports), reports[-1].value, seen) == (3, 21, [[b"1", b"20"]])
    app.register("boom", lambda: 1 / 0, marshaller=CustomMarshaller(Text(), "text2"))
    assert _code(app.call("boom")) is Code.RAISED  # failures are the wrapper's


@concept("`JSONSafeCodec`")
def json_safe_codec(make: Make) -> None:
    class Spy(JSONSafeCodec):
        def encode_arguments(self, *args: Any) -> Any:
            seen.extend(made := super().encode_arguments(*args))
            return made

    seen: list[Any] = []
    app = make(wire=True)
    task = app.register("scan", scan, marshaller=CustomMarshaller(Spy()), invoker="direct")
    assert task.call(date(2026, 3, 1), [1, 2]).result(PATIENCE) == date(2026, 3, 2)  # typed without an invoker
    assert [json.loads(bytes(part)) for part in seen] == ["2026-03-01", [1, 2]]


@concept("`JsonMarshaller`, `GobMarshaller`")
def json_marshaller(make: Make) -> None:
    app = make(wire=True)
    for each in (JSONMarshaller(), MsgpackMarshaller()):
        task = app.register(each.name, scan, marshaller=each)
        assert task.call(date(2026, 3, 1), [1]).result(PATIENCE) == date(2026, 3, 1)


class Doubling(DirectInvoker):
    """Calls with twice of everything, and gives back a text."""

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return function(*[2 * each for each in args], **kwargs)

    def correct_return(self, function: Callable[..., Any] | None, value: Any) -> Any:
        return f"<{value}>"


@concept("`Invoker`")
def invoker(make: Make) -> None:
    assert isinstance(Doubling(), ports.Invoker)
    for app in (make(), make(wire=True), make("remote")):
        app.register("add", add, invoker=Doubling())
        app.serve()
        assert app.call("add", 1, 2).result(PATIENCE) == "<6>"


@concept("`GenericInvoker`")
def generic_invoker(make: Make) -> None:
    @dataclass
    class Plan:
        day: date
        steps: list[tuple[int, float]]

    def run(plan: Plan) -> Plan:
        return Plan(plan.day, [*plan.steps, (9, 0.5)])

    run.__annotations__ = {"plan": Plan, "return": Plan}
    for name in ("json", "msgpack"):
        app = make(wire=True)
        task = app.register("run", run, marshaller=name)
        plan = Plan(date(2026, 3, 1), [(1, 2.0)])
        assert task.call(plan).result(PATIENCE) == Plan(plan.day, [(1, 2.0), (9, 0.5)])
    with pytest.raises(ArgumentError, match="parameter 'plan'"):
        task.call({"day": "never", "steps": []})  # type: ignore[arg-type]


@concept("`LazyInvoker`")
def lazy_invoker(make: Make) -> None:
    app = make()
    app.register("same", same, invoker="direct")
    app.register("own", same, invoker=DirectInvoker())
    assert [app.call(name, "text").result(PATIENCE) for name in ("same", "own")] == ["text", "text"]
    with pytest.raises(ArgumentError):
        app.register("typed", same).call("text")  # type: ignore[arg-type]


def same(number: int) -> int:
    return number


@concept("`IDMaker`, `SeqIDMaker`")
def id_maker(make: Make) -> None:
    uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f-]+"
    local, remote = make(), make("remote")
    assert [local.register(name, add).call(1).id for name in ("one", "two")] == ["1", "2"]
    assert re.fullmatch(uuid, remote.call("add", 1).id)
    assert [SequenceIDs(5).new_id("add"), make(id_maker=SequenceIDs()).register("f", add).call(1).id] == ["5", "1"]
    assert re.fullmatch(uuid, make(id_maker=UUIDs()).register("add", add).call(1).id)
    with pytest.raises(UsageError, match=r"hint: id_maker=UUIDs\(\)"):
        make(id_maker=UUIDs)


@concept("types that cannot travel")
def types_that_cannot_travel(make: Make) -> None:
    class Thing: ...

    def take(thing: Any) -> None: ...

    def give(path: str) -> Any:
        return open(path)  # noqa: SIM115

    take.__annotations__ = {"thing": Thing}
    app = make()
    with pytest.raises(UsageError, match="parameter 'thing'"):
        app.register("take", take)
    assert "take" not in app.registry
    for value in (Thing(), iter([1]), threading.Lock()):
        with pytest.raises(EncodeError):
            make(wire=True).register("any", lambda value: None).call(value)


# ---------------------------------------------------------------------- d. ports


@concept("`Object`")
def object_(make: Make) -> None:
    class Closing(LocalBackend):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    assert isinstance(thing := Closing(), ports.Closes)
    app = App("remote")
    with pytest.raises(UsageError, match=r"Closing cannot be the producer, which has send\(\)"):
        app.use(producer=thing)  # type: ignore[arg-type]
    app.use(thing)
    app.close()
    assert thing.closed == 1


@concept("`Producer`")
def producer(make: Make) -> None:
    class Many:
        def __init__(self) -> None:
            self.sent: list[list[TaskPacket]] = []

        def send(self, task: TaskPacket) -> None:
            self.sent.append([task])

        def send_many(self, tasks: Sequence[TaskPacket]) -> None:
            self.sent.append(list(tasks))

    many = Many()
    assert isinstance(many, ports.Producer)
    assert isinstance(many, ports.SendsMany)
    ports.send_many(many, iter([TaskPacket("add", str(number), Options(), b"") for number in range(3)]))
    app = App("remote")
    app.use(producer=many, store=LocalBackend())
    asked = app.call("add", 1)
    assert [[task.id for task in tasks] for tasks in many.sent] == [["0", "1", "2"], [asked.id]]
    app.close(wait=False)


class Only:
    """A broker with one queue for all, and nothing else."""

    def __init__(self) -> None:
        self._broker = LocalBroker()
        self.send, self.listen_all, self.close = self._broker.send, self._broker.listen_all, self._broker.close


@concept("`Consumer`")
def consumer(make: Make) -> None:
    app = App("remote")
    assert isinstance(LocalBroker(), ports.Consumer)
    assert app.use(Only()) == ("producer", "consumer")
    app.use(LocalBackend())
    app.register("add", add)
    app.register("sub", lambda a, b: a - b)
    app.serve()
    assert [app.call(name, 3, 2).result(PATIENCE) for name in ("add", "sub")] == [5, 1]
    app.close()


@concept("`NamedConsumer`")
def named_consumer(make: Make) -> None:
    caller, adds, subs = make("remote"), make("remote"), make("remote")
    assert isinstance(LocalBroker(), ports.NamedConsumer)
    adds.register("add", add)
    subs.register("sub", lambda a, b: a - b)
    adds.serve(name="adds")
    subs.serve(name="subs")  # different machines serve different tasks
    reports = [caller.call(name, 3, 2).wait(PATIENCE) for name in ("add", "sub", "add")]
    assert [(each.value, each.node) for each in reports] == [(5, "adds"), (1, "subs"), (5, "adds")]


@concept("`Broker`, `NamedBroker`")
def broker(make: Make) -> None:
    def both_ends(one: ports.Broker, named: ports.NamedBroker) -> None:
        taken: list[str] = []

        def take(task: TaskPacket) -> Receipt:
            taken.append(task.name)
            return Receipt(ReceiptStatus.OK)

        stops = [one.listen_all(take), named.listen([Listener("add", take)])]
        one.send(TaskPacket("any", "1", Options(), b""))
        named.send(TaskPacket("add", "1", Options(), b""))
        wait_until(lambda: sorted(taken) == ["add", "any"], "both")
        for stop in stops:
            stop()

    both_ends(LocalBroker(), LocalBroker())


@concept("`Reporter`")
def reporter(make: Make) -> None:
    class Channels(LocalBackend):
        def channel(self, name: str) -> ports.Channel:
            mine: dict[str, list[int]] = {}
            opened.append((name, mine))
            send = super().channel(name)

            def note(reports: Sequence[ReportPacket]) -> None:
                for each in reports:
                    mine.setdefault(each.id, []).append(each.status)
                send(reports)

            return note

    opened: list[tuple[str, dict[str, list[int]]]] = []
    assert isinstance(LocalBackend(), ports.Reporter)
    app = App("remote")
    app.use(LocalBroker())
    app.use(Channels())
    app.register("add", add, monitor_progress=True)
    app.allocate("add", 4, share=2)
    app.serve()
    assert list(app.map("add", range(20))) == list(range(5, 25))
    app.close()
    assert [name for name, _ in opened] == ["add", "add"]  # 4 workers, 2 to a channel
    told = [order for _, mine in opened for order in mine.values()]
    assert told == [[Status.SENT, Status.PROGRESS, Status.SUCCESS]] * 20  # and no task has two channels


@concept("`Store`")
def store(make: Make) -> None:
    backend = LocalBackend()
    heard: list[list[ReportPacket]] = [[], []]
    assert isinstance(backend, ports.Store)
    send = backend.channel("add")
    send([ReportPacket("add", "1", Status.SENT)])
    backend.poll("add", "1", heard[0].append)  # after the first was sent
    backend.poll("add", "2", heard[1].append)  # before
    send([ReportPacket("add", "1", Status.SUCCESS), ReportPacket("add", "2", Status.SUCCESS)])
    backend.done("add", "1")
    send([ReportPacket("add", "1", Status.SUCCESS)])
    assert [[each.status for each in each_heard] for each_heard in heard] == [
        [Status.SENT, Status.SUCCESS],
        [Status.SUCCESS],
    ]


@concept("`Backend`")
def backend(make: Make) -> None:
    def through(backend: ports.Backend) -> list[ReportPacket]:
        heard: list[ReportPacket] = []
        backend.poll("add", "1", heard.append)
        backend.channel("add")([ReportPacket("add", "1", Status.SUCCESS, b"\x05")])
        return heard

    assert through(LocalBackend()) == [ReportPacket("add", "1", Status.SUCCESS, b"\x05")]


@concept("`ProducerHook`, `ReporterHook`")
def hooks(make: Make) -> None:
    told: list[Any] = []

    class Tells(LocalBroker):
        def declared(self, name: str) -> None:
            told.append(("declared", name))

    class Reports(LocalBackend):
        def before_reports(self, name: str, id: str) -> None:
            told.append(("before", name, id))

    app = App("remote", id_maker=SequenceIDs())
    app.use(Tells())
    app.use(Reports())
    app.register("add", add)
    app.serve()
    assert app.call("add", 1).result(PATIENCE) == 6
    app.close()
    assert told == [("declared", "add"), ("before", "add", "1")]


@concept("`NewLocalBroker`, `NewLocalBackend`")
def new_local_broker(make: Make) -> None:
    node, caller = App("remote"), App("remote")
    broker, backend = LocalBroker(), LocalBackend()
    node.use(broker)
    node.use(backend)
    caller.use(LocalBroker(broker.queue))
    caller.use(LocalBackend(backend.queue))
    node.register("scan", scan, marshaller="json-safe")
    node.serve()
    task = caller.declare("scan", scan, marshaller="json-safe")
    assert task.call(date(2026, 3, 1), [1, 2]).result(PATIENCE) == date(2026, 3, 2)
    caller.close()
    node.close()


@concept("bridge, mapper, worker, mux, `Routines`")
def routines(make: Make) -> None:
    assert ThreadPool.__module__ == "dingo_zmq.pool"
    public = set(dingo_zmq.__all__)
    assert not public & {"Bridge", "Mapper", "Worker", "Mux", "Routines", "ThreadPool"}
    before = set(threading.enumerate())
    app = make(threads=3)
    assert list(app.register("add", add).map(range(10))) == list(range(5, 15))
    app.close()  # what is in the queues runs, and the workers end
    wait_until(lambda: set(threading.enumerate()) <= before, "the threads end")


@concept("`BrokerTestSuite`")
def broker_test_suite(make: Make) -> None:
    class Doubling(LocalBroker):
        def send_many(self, tasks: Sequence[TaskPacket]) -> None:
            super().send_many([*tasks, *tasks])

    names = [name for name in vars(BrokerContract) if name.startswith("test_")]
    assert {"test_five_functions_get_their_own_in_order", "test_no_task_comes_twice"} < set(names)
    contract = BrokerContract()
    for name in names:
        good = LocalBroker()
        getattr(contract, name)(Ends(good))
        good.close()
    bad = Doubling()
    with pytest.raises(AssertionError):
        contract.test_no_task_comes_twice(Ends(bad))
    bad.close()


@concept("`BackendTestSuite`")
def backend_test_suite(make: Make) -> None:
    class Mixing(LocalBackend):
        def poll(self, name: str, id: str, heard: ports.Heard) -> None:
            super().poll("all", id, heard)

        def channel(self, name: str) -> ports.Channel:
            send = super().channel("all")
            return lambda reports: send([each._replace(name="all") for each in reports])

    names = [name for name in vars(BackendContract) if name.startswith("test_")]
    assert {"test_reports_that_are_polled_before", "test_equal_ids_do_not_mix"} < set(names)
    contract = BackendContract()
    for name in names:
        getattr(contract, name)(backend_ends(LocalBackend()))
    contract.patience = 0.1
    with pytest.raises((AssertionError, UsageError)):
        contract.test_equal_ids_do_not_mix(backend_ends(Mixing()))


@concept("`DingoSingleAppTestSuite`, `DingoMultiAppTestSuite`")
def app_suite(make: Make) -> None:
    class One(AppSuite): ...

    class Several(AppSuite):
        callers, nodes = 2, 2

    One().test_reports_come_in_order(lambda **settings: make("local", **settings))
    Several().test_every_caller_gets_its_returns(lambda **settings: make("remote", **settings))
    with pytest.raises(AssertionError):
        Several().test_every_caller_gets_its_returns(lambda **settings: _forgetful(make("remote", **settings)))


def _forgetful(app: App) -> App:
    """Return an App that knows one function as another one."""
    right = app.register

    def register(name: str, fn: Callable[..., Any], **more: Any) -> Any:
        return right(name, (lambda a, b=0: 0) if name == "add" else fn, **more)

    app.register = register  # type: ignore[method-assign]
    return app


@concept("stateful worker")
def stateful_worker(make: Make) -> None:
    class Counter:
        def __init__(self) -> None:
            self.calls = 0

        def count(self) -> int:
            self.calls += 1
            return self.calls

        def __call__(self) -> int:
            all_there.wait(PATIENCE)
            return self.count()

    def make_closure() -> Callable[[], int]:
        counter = Counter()
        return counter.count

    all_there = threading.Barrier(2)
    for app in (make("local"), make("remote")):
        bound = Counter()
        app.register("closure", make_closure())
        app.register("method", bound.count)
        app.register("each", lambda: 0)
        for name in ("closure", "method"):
            app.allocate(name, 1)
        app.allocate("each", 2, factory=Counter)
        app.serve()
        for name in ("closure", "method"):
            assert [app.call(name).result(PATIENCE) for _ in range(3)] == [1, 2, 3]
        assert bound.calls == 3
        for number in (1, 2):
            assert [each.result(PATIENCE) for each in [app.call("each"), app.call("each")]] == [number] * 2


@concept("generator")
def generator(make: Make) -> None:
    def count(most: int) -> Iterator[int]:
        yield from range(most)

    for mode in ("local", "mesh", "remote"):
        app = make(mode)
        scan = app.register("scan", count)
        app.serve()
        stream = scan.stream(3)
        assert (next(stream), stream.last and stream.last.status) == (0, Status.PARTIAL)
        assert list(stream) == [1, 2]
        assert stream.result.result(PATIENCE) == 3
        with pytest.raises(EncodeError):  # as in dingo, none is an argument
            make("mesh").call("anything", count(3))


# ---------------------------------------------------------------------- all of them


@pytest.mark.parametrize("cell", TESTS)
def test_concept(cell: str, make: Make) -> None:
    TESTS[cell](make)
