"""Never run: mypy reads it, so that the types of the public API are tested too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from typing import Any, assert_type

from dingo_zmq import (
    Allocation,
    App,
    Call,
    Event,
    EventStream,
    Failure,
    GroupResult,
    IDMaker,
    Level,
    Options,
    Origin,
    Report,
    Result,
    Retries,
    SequenceIDs,
    Stream,
    UUIDs,
    chain,
    current_task,
    group,
)
from dingo_zmq.errors import TaskError
from dingo_zmq.invoke import DirectInvoker
from dingo_zmq.local_broker import LocalBackend, LocalBroker
from dingo_zmq.marshallers import CustomMarshaller, JSONSafeCodec
from dingo_zmq.mesh.ports import MeshCallerPort, MeshNodePort
from dingo_zmq.ports import (
    Broker,
    Cancels,
    Closes,
    Codec,
    Explains,
    Invoker,
    Marshaller,
    NamedBroker,
    NamedConsumer,
    Producer,
    Reporter,
    SendsMany,
    Store,
)

app = App("local", marshallers={"other": CustomMarshaller(JSONSafeCodec())}, allow_pickle=True)
codec: Codec = JSONSafeCodec()
marshaller: Marshaller = CustomMarshaller(codec)
invoker: Invoker = DirectInvoker()


@app.task
def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


@app.task(name="other", at_most_once=True)
def shout(text: str) -> str:
    """Return the text in capitals."""
    return text.upper()


@app.task(marshaller=CustomMarshaller(JSONSafeCodec(), "mine"), report_marshaller="json", invoker=DirectInvoker())
def scan(start: float) -> list[float]:
    """Return something that travels in another way."""
    return [start]


@app.task
async def fetch(number: int) -> str:
    """Return something later."""
    return str(number)


def takes_number(number: int) -> None:
    """Hear of a return."""


def takes_failure(failure: Failure) -> None:
    """Hear of a failure."""


async def use() -> None:
    """Use what users use."""
    assert_type(add(2, 3), int)
    assert_type(add.call(2, 3), Result[int])
    assert_type(add.call(2, 3).result(timeout=1.0), int)
    assert_type(await add.acall(2, b=3), int)
    assert_type(await add.call(2, 3), int)
    assert_type(shout.options(monitor_progress=True).call("x"), Result[str])
    assert_type(scan.call(3), Result[list[float]])
    assert_type(fetch.call(3), Result[str])
    assert_type(await fetch.acall(3), str)
    for report in add.call(2, 3).reports():
        assert_type(report, Report)
        assert_type(report.options, Options)
    again = add.options(retries=Retries(3, on=("ValueError",)), delay=1, expires=5.0, priority=-1)
    assert_type(again.call(2, 3), Result[int])
    for value in add.map([1], [2]):
        assert_type(value, int)
    assert_type(add.bind(2), Call[int])
    assert_type(add.bind(add.call(1, 2)).call(), Result[int])
    pairs = group([add.bind(1, 2), add.options(max_losses=5).bind(3, 4)])
    assert_type(pairs.call(), GroupResult[int])
    assert_type(pairs.call().result(), list[int])
    assert_type(await pairs.acall(), list[int])
    assert_type(group([shout.bind("x")], errors="collect").call().result(), list[str | TaskError])
    assert_type(chain(add.bind(1, 2), fetch.bind()).call(), Result[str])
    assert_type(chain(add.bind(1), pairs, on_error=shout.bind()).call(5).result(), list[int])
    assert_type(chain(*[add.bind(1)] * 9).call(), Result[Any])
    group([add.bind(1)], errors="stop")  # type: ignore[call-overload]
    chain(add)  # type: ignore[call-overload]
    add.call(1, 2).on_ok(takes_number).on_nok(takes_failure).then()
    add.call(1, 2).on_ok(lambda a: a + 1).on_ok(lambda a, b: None)
    assert_type(app.allocate("add", 2, factory=lambda: lambda a, b: a + b), Allocation)
    assert_type(add.options(time_limit=5, soft_time_limit=4.5).call(2, 3).cancel(running=True), bool)
    current_task().check()
    assert_type(current_task().deadline, float | None)
    add.call("2", 3)  # type: ignore[arg-type]
    app.register("third", shout.function.callable or str)


@app.task(id_maker=SequenceIDs())
def counted(number: int) -> int:
    """Return the number."""
    return number


class Mine:
    """An id maker is whatever has this method."""

    def new_id(self, name: str, /) -> str:
        """Return an id."""
        return name


async def listen() -> None:
    """Listen, and make ids."""
    maker: IDMaker = Mine()
    other = App("local", id_maker=maker)
    assert_type(counted.call(3), Result[int])
    assert_type(other.register("add", len, id_maker=UUIDs()).call("x"), Result[int])
    with other.listen([Origin.CALLER, "node"], Level.INFO) as stream:
        assert_type(stream, EventStream)
        assert_type(stream.get(timeout=1.0), Event)
        for event in stream:
            assert_type(event.error, BaseException | None)
        async for event in stream:
            assert_type(event, Event)
    other.listen("caller", callback=lambda event: print(event.text), size=10)
    App("local", id_maker="uuid")  # type: ignore[arg-type]


def attach() -> None:
    """What is shipped fits the ports."""
    broker, backend = LocalBroker(), LocalBackend()
    named: NamedBroker = broker
    plain: Broker = broker
    more: tuple[SendsMany, Cancels, Explains, Closes] = (broker, broker, broker, broker)
    reporter: Reporter = backend
    store: Store = backend
    caller, node = MeshCallerPort(), MeshNodePort()
    mesh: tuple[Producer, Store, NamedConsumer, Reporter] = (caller, caller, node, node)
    also: tuple[Cancels, Explains, Closes, Closes] = (caller, caller, caller, node)
    assert_type(app.use(broker), tuple[str, ...])
    app.use(producer=named, consumer=plain, reporter=reporter, store=store)
    app.use(store=broker)  # type: ignore[arg-type]
    print(more, mesh, also)


@app.task
def climb(start: float) -> Iterator[float]:
    """Yield numbers."""
    yield start


@app.task
def sweep(start: float) -> Generator[str, None, None]:
    """Yield texts."""
    yield str(start)


@app.task(retries=2)
async def follow(start: float) -> AsyncIterator[int]:
    """Yield whole numbers."""
    yield int(start)


@app.task
def rows(start: float) -> Iterable[bytes]:
    """Return something to iterate over."""
    return [b""]


async def streams() -> None:
    """Streams have the type of what is yielded."""
    assert_type(climb.stream(1.5), Stream[float])
    assert_type(sweep.stream(1.5), Stream[str])
    assert_type(follow.stream(start=1.5), Stream[int])
    assert_type(climb.options(node="bench-1").stream(2), Stream[float])
    assert_type(climb.stream(1.5).result, Result[int])
    assert_type(next(climb.stream(1.5)), float)
    assert_type(app.stream("scan", 1.5), Stream[Any])
    assert_type(app.options(priority=1).stream("scan", 1.5), Stream[Any])
    async with follow.stream(1.5) as stream:
        async for number in stream:
            assert_type(number, int)
    climb.stream("1")  # type: ignore[call-overload]
    add.stream(1, 2)  # type: ignore[misc]
