"""Functions that yield: the same program in local mode, with everything encoded, and in a mesh."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date
from typing import Any

import pytest

from dingo_zmq import App, Code, Level, Origin, Status, current_task
from dingo_zmq.errors import (
    ArgumentError,
    Closed,
    SoftTimeLimit,
    TaskFailed,
    TaskShutdown,
    TaskTimeout,
    UsageError,
)
from dingo_zmq.invoke import DirectInvoker
from dingo_zmq.local_broker import LocalBackend, LocalBroker
from dingo_zmq.mesh.engine import MeshSettings
from dingo_zmq.mesh.ports import MeshCallerPort, MeshNodePort
from dingo_zmq.protocol.streams import WINDOW, WINDOW_BYTES
from tests.support import PATIENCE, Mesh, wait_until

LARGE = WINDOW_BYTES // 4


def remote() -> App:
    """Return an App that is attached to itself."""
    app = App("remote", threads=2)
    app.use(LocalBroker())
    app.use(LocalBackend())
    return app


def remote_over_mesh() -> App:
    """The same, with the mesh in between."""
    app = App("remote", threads=2)
    settings = MeshSettings(discovery=("directory",))
    app.use(MeshCallerPort(settings))
    app.use(MeshNodePort(settings))
    return app


@pytest.fixture(params=["local", "wire", "mesh", "remote", "remote over mesh"])
def app(request: pytest.FixtureRequest) -> Iterator[App]:
    make: dict[str, Callable[[], App]] = {
        "local": lambda: App("local", threads=2),
        "wire": lambda: App("local", threads=2, wire=True),
        "mesh": lambda: App("mesh", discovery=["directory"], threads=2),
        "remote": remote,
        "remote over mesh": remote_over_mesh,
    }
    app = make[request.param]()
    yield app
    app.close(wait=False)


class Counter:
    """A function that yields, and how often it did so far."""

    def __init__(self, app: App, **options: Any) -> None:
        self.made = 0
        self.closed = threading.Event()
        self.task = app.register("count", self.count, **options)
        self.app = app

    def count(self, most: int) -> Iterator[int]:
        try:
            for number in range(most):
                self.made += 1
                yield number
        finally:
            self.closed.set()

    def waits(self) -> None:
        """Wait until it is kept back."""
        wait_until(lambda: self.made >= WINDOW, "it yields as far as it may")
        before = -1
        while before != self.made:  # nothing tells that nothing comes
            before = self.made
            threading.Event().wait(0.05)


def test_values_come_in_order_for_as_long_as_there_are_some(app: App) -> None:
    @app.task
    def squares(most: int) -> Iterator[int]:
        for number in range(most):
            yield number * number

    app.serve(name="both")
    assert list(squares.stream(1000)) == [number * number for number in range(1000)]
    assert list(squares.stream(0)) == []
    stream = squares.stream(3)
    assert list(stream) == [0, 1, 4]
    assert next(stream, None) is None
    assert stream.result.result(PATIENCE) == 3
    assert stream.last is not None
    assert (stream.last.status, stream.last.value, stream.last.id) == (Status.PARTIAL, 4, stream.result.id)


def test_an_asynchronous_generator_is_read_in_a_loop(app: App) -> None:
    @app.task
    async def letters(word: str) -> AsyncIterator[str]:
        for letter in word:
            await asyncio.sleep(0)
            yield letter

    app.serve(name="both")

    async def read() -> tuple[list[str], list[str]]:
        async with letters.stream("dingo") as stream:
            one = [letter async for letter in stream]
        return one, [letter async for letter in app.stream("letters", "mesh")]

    assert asyncio.run(read()) == (list("dingo"), list("mesh"))
    assert "".join(letters.stream("zeromq")) == "zeromq"


def test_whatever_can_be_iterated_over_is_a_stream_where_the_annotation_says_so(app: App) -> None:
    @app.task
    def words(text: str) -> Iterator[str]:
        return iter(text.split())

    @app.task
    def nothing() -> Iterator[str]:
        return None  # type: ignore[return-value]

    app.serve(name="both")
    assert list(words.stream("a b c")) == ["a", "b", "c"]
    with pytest.raises(TaskFailed, match="it is to yield values, and returned NoneType"):
        list(nothing.stream())


def test_values_are_checked_and_corrected_like_returns(app: App) -> None:
    @app.task
    def pairs() -> Iterator[tuple[int, float]]:
        yield 1, 2.0
        yield (3, "four")  # type: ignore[misc]

    app.serve(name="both")
    stream = pairs.stream()
    assert next(stream) == (1, 2.0)
    error = stream.result.exception(PATIENCE)
    assert error is not None
    assert error.failure is not None
    assert error.failure.code is Code.DECODE
    assert "expected tuple[int, float]" in str(error)
    with pytest.raises(type(error)):
        next(stream)


def test_a_slow_reader_keeps_back_its_own_function_and_nobody_else(app: App) -> None:
    counter = Counter(app)

    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    app.serve(name="both")
    stream = counter.task.stream(1000)
    assert next(stream) == 0
    counter.waits()
    assert counter.made <= WINDOW + 1
    wait_until(lambda: "and waits for its reader" in stream.result.why(), "it says what it waits for")
    assert list(add.map(range(100), range(100))) == [2 * number for number in range(100)]
    assert list(counter.task.stream(3)) == [0, 1, 2]
    assert list(stream) == list(range(1, 1000))


def test_large_values_wait_sooner(app: App) -> None:
    if app.mode == "local":
        pytest.skip("nothing is encoded, so nobody knows how large a value is")
    made = []

    @app.task
    def frames(count: int) -> Iterator[bytes]:
        for number in range(count):
            made.append(number)
            yield bytes(LARGE)

    app.serve(name="both")
    stream = frames.stream(20)
    wait_until(lambda: len(made) >= 4, "it yields as far as it may")
    assert len(next(stream)) == LARGE
    assert len(made) <= 6
    assert sum(map(len, stream)) == 19 * LARGE


def test_a_buffer_may_be_filled_anew(app: App) -> None:
    if app.mode == "local" and not app._wire:
        pytest.skip("the object itself goes to the reader")

    @app.task
    def frames(count: int) -> Iterator[bytearray]:
        frame = bytearray(100_000)
        for number in range(count):
            frame[:] = bytes([number]) * len(frame)
            yield frame

    app.serve(name="both")
    assert [set(frame) for frame in frames.stream(20)] == [{number} for number in range(20)]


def test_an_argument_may_be_changed_after_the_call(app: App) -> None:
    if app.mode == "local" and not app._wire:
        pytest.skip("the object itself goes to the function")

    @app.task
    def first(frame: bytearray) -> int:
        return frame[0]

    app.serve(name="both")
    frame = bytearray(100_000)
    results = []
    for number in range(20):
        frame[:] = bytes([number]) * len(frame)
        results.append(first.call(frame))
    assert [result.result(PATIENCE) for result in results] == list(range(20))


def test_a_worker_may_return_one_buffer_again_and_again(app: App) -> None:
    if app.mode == "local" and not app._wire:
        pytest.skip("the object itself goes to the caller")
    frame = bytearray(100_000)

    @app.task
    def grab(number: int) -> bytearray:
        frame[:] = bytes([number]) * len(frame)
        return frame

    app.allocate("grab", 1)
    app.serve(name="both")
    assert [set(got) for got in grab.map(range(20))] == [{number} for number in range(20)]


@pytest.mark.parametrize("leave", ["close", "with", "break"])
def test_leaving_a_stream_ends_its_function(app: App, leave: str) -> None:
    counter = Counter(app)
    app.serve(name="both")
    stream = counter.task.stream(10**9)
    result = stream.result
    assert next(stream) == 0
    counter.waits()
    if leave == "close":
        stream.close()
        assert list(stream) == []
    elif leave == "with":
        with stream:
            assert next(stream) == 1
    else:
        for number in stream:
            if number == 5:
                break
        del stream
        gc.collect()
    assert result.wait(PATIENCE).failure is not None
    assert result.cancelled()
    assert counter.closed.wait(PATIENCE)


def test_values_come_before_the_failure(app: App) -> None:
    @app.task
    def falls() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no more")

    app.serve(name="both")
    got = []
    with pytest.raises(TaskFailed, match="no more"):
        for value in falls.stream():
            got.append(value)
    assert got == [1, 2]


def test_a_further_try_begins_anew_and_its_reader_goes_on(app: App) -> None:
    runs = []

    @app.task(retries=1)
    def stumbles(most: int) -> Iterator[int]:
        runs.append(current_task().attempt)
        for number in range(most):
            yield number
            if number == 3 * WINDOW and len(runs) == 1:
                raise LookupError("stumbled")

    app.serve(name="both")
    with stumbles.options(retries=1).stream(4 * WINDOW) as stream:
        assert list(stream) == list(range(4 * WINDOW))
    assert runs == [1, 2]


def test_a_function_that_waits_for_its_reader_is_over_its_limit_all_the_same(app: App) -> None:
    counter = Counter(app)
    app.serve(name="both")
    stream = counter.task.options(time_limit=0.3).stream(1000)
    assert next(stream) == 0
    with pytest.raises(TaskTimeout):
        stream.result.result(PATIENCE)
    assert counter.closed.wait(PATIENCE)
    with pytest.raises(TaskTimeout):
        list(stream)
    assert list(counter.task.stream(2)) == [0, 1]


def test_a_soft_limit_is_raised_where_the_function_yields(app: App) -> None:
    @app.task
    def patient() -> Iterator[str]:
        try:
            while True:
                yield "more"
        except SoftTimeLimit:
            yield "enough"

    app.serve(name="both")
    values = list(patient.options(soft_time_limit=0.1).stream())
    assert set(values[:-1]) == {"more"}
    assert values[-1] == "enough"


def test_whoever_waits_for_a_value_may_lose_patience_and_go_on(app: App) -> None:
    go = threading.Event()

    @app.task
    def slow() -> Iterator[int]:
        go.wait(PATIENCE)
        yield 1

    app.serve(name="both")
    stream = slow.stream()
    stream.timeout = 0.01
    with pytest.raises(TimeoutError, match=r"slow/[\w-]+ is not done after 0.01 s"):
        next(stream)
    go.set()
    stream.timeout = PATIENCE
    assert list(stream) == [1]


def test_a_stream_ends_with_its_app(app: App) -> None:
    counter = Counter(app)
    app.serve(name="both")
    stream = counter.task.stream(10**9)
    assert next(stream) == 0
    began = time.monotonic()
    app.close(wait=False)
    with pytest.raises(TaskShutdown):
        list(stream)
    assert counter.closed.wait(PATIENCE)
    assert time.monotonic() - began < PATIENCE
    with pytest.raises(Closed):
        counter.task.stream(3)


def test_an_app_that_is_closed_waits_for_readers_and_for_nobody_else(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    counter = Counter(app)
    app.serve(name="both")
    read: list[int] = []
    stream, lonely = counter.task.stream(5 * WINDOW), counter.task.stream(10**9)
    assert (next(stream), next(lonely)) == (0, 0)
    reader = threading.Thread(target=lambda: read.extend(stream))
    reader.start()
    app.close(timeout=PATIENCE)
    reader.join(PATIENCE)
    assert read == list(range(1, 5 * WINDOW))
    assert lonely.result.nok
    assert "is stopped, since nobody takes its values; hint: close() the stream" in caplog.text


def test_a_stream_can_be_closed_while_somebody_waits_for_it(app: App) -> None:
    free = threading.Event()

    @app.task
    def slow() -> Iterator[int]:
        yield 1
        free.wait(PATIENCE)
        yield 2

    app.serve(name="both")
    stream = slow.stream()
    assert next(stream) == 1
    closing = threading.Timer(0.05, stream.close)
    closing.start()
    assert list(stream) == []
    assert not free.is_set()
    free.set()


def test_a_function_that_waits_for_its_reader_hears_of_its_soft_limit(app: App) -> None:
    heard = threading.Event()

    @app.task
    def patient() -> Iterator[int]:
        try:
            while True:
                yield 1
        except SoftTimeLimit:
            heard.set()

    app.serve(name="both")
    stream = patient.options(soft_time_limit=0.2).stream()
    assert heard.wait(PATIENCE)
    assert set(stream) == {1}


def test_a_function_that_does_not_end_when_it_is_stopped_has_been_cancelled_all_the_same(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task
    def stubborn() -> Iterator[int]:
        while True:
            try:
                yield 1
            except GeneratorExit:
                yield 2

    app.serve(name="both")
    with stubborn.stream() as stream:
        assert next(stream) == 1
    failure = stream.result.wait(PATIENCE).failure
    assert failure is not None
    assert failure.code is Code.CANCELLED
    assert "did not end well when it was stopped" in caplog.text


def test_mistakes_are_told_at_once(app: App) -> None:
    counter = Counter(app)

    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    app.serve(name="both")
    with pytest.raises(UsageError, match=r"count yields its values; hint: for value in count.stream\(...\)"):
        counter.task.call(3)
    with pytest.raises(UsageError, match=r"add does not yield; hint: add.call\(...\)"):
        add.stream(1, 2)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match=r"hint: for value in count.stream\(...\)"):
        counter.task.bind(3)
    with pytest.raises(UsageError, match=r"takes no Result and no Stream; hint: pass on result.result\(\)"):
        counter.task.stream(add.call(1, 2))  # type: ignore[arg-type]
    stream = counter.task.stream(3)
    with pytest.raises(UsageError, match="timeout must be a number of seconds, or None, not 'x'"):
        stream.timeout = "x"  # type: ignore[assignment]
    with pytest.raises(UsageError, match="cannot be pickled or copied; pass on its values"):
        copy.copy(stream)
    with pytest.raises(UsageError, match="with ignore_report nobody would get what it yields"):
        counter.task.options(ignore_report=True).stream(3)
    with pytest.raises(ArgumentError, match="'most': expected int, got str 'x'"):
        counter.task.stream("x")  # type: ignore[arg-type]


@pytest.mark.parametrize("marshaller", ["json", "json-safe"])
def test_values_travel_as_their_marshaller_wants(app: App, marshaller: str) -> None:
    @app.task(marshaller=marshaller)
    def days(count: int) -> Iterator[tuple[int, date]]:
        for number in range(count):
            yield number, date(2026, 1, 1 + number)

    app.serve(name="both")
    assert list(days.stream(2)) == [(0, date(2026, 1, 1)), (1, date(2026, 1, 2))]


def test_an_invoker_of_ones_own_sees_each_value(app: App) -> None:
    class Doubler(DirectInvoker):
        def correct_return(self, function: Callable[..., Any] | None, value: Any) -> Any:
            return 2 * value

    @app.task(invoker=Doubler())
    def numbers(count: int) -> Iterator[int]:
        yield from range(count)

    app.serve(name="both")
    assert list(numbers.stream(3)) == [0, 2, 4]


def test_streams_of_workers_of_their_own(app: App) -> None:
    class Device:
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, count: int) -> Iterator[int]:
            self.calls += 1
            yield from range(self.calls, self.calls + count)

    async def later(count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    read = app.register("read", Device())
    app.allocate("read", 1, factory=Device)
    slowly = app.register("later", later)
    app.allocate("later", 2)
    app.serve(name="both")
    assert [list(read.stream(2)) for _ in range(3)] == [[1, 2], [2, 3], [3, 4]]
    assert list(slowly.stream(2)) == [0, 1]


# ---------------------------------------------------------------------- between processes


@pytest.fixture
def caller(mesh: Mesh) -> App:
    mesh.node("n1")
    return mesh.app()


def test_a_stream_by_name_is_one_and_what_is_none_says_so(caller: App) -> None:
    assert list(caller.stream("count", 3)) == [0, 1, 2]
    assert list(caller.options(node="n1").stream("count", 2)) == [0, 1]
    failure = caller.call("count", 3).wait(PATIENCE).failure
    assert failure is not None
    assert (failure.code, failure.message) == (
        Code.DECODE,
        "count yields its values; hint: stream instead of call",
    )
    stream = caller.stream("add", 1, 2)
    failure = stream.result.wait(PATIENCE).failure
    assert failure is not None
    assert (failure.code, failure.message) == (Code.DECODE, "add does not yield; hint: call instead of stream")


def test_what_a_dead_node_had_yielded_is_not_read_twice(mesh: Mesh) -> None:
    nodes = {name: mesh.node(name) for name in ("n1", "n2")}
    app = mesh.app()
    events = app.listen([Origin.CALLER], Level.INFO)
    stream = app.stream("count", 5 * WINDOW)
    first = [next(stream) for _ in range(2 * WINDOW)]
    assert stream.last is not None
    (process,) = nodes[stream.last.node].children()
    os.kill(process, signal.SIGKILL)
    assert first + list(stream) == list(range(5 * WINDOW))
    assert stream.result.attempt == 2
    while "is sent again" not in events.get(PATIENCE).text:
        pass
