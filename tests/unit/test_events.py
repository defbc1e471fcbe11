"""Events: what a stream of them gives, keeps and drops, and what local mode tells."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dingo_zmq import App, Event, EventCode, EventStream, Level, Origin
from dingo_zmq.errors import Closed, UsageError
from dingo_zmq.listening import Events
from dingo_zmq.model import Code, Failure

PATIENCE = 10.0


@pytest.fixture
def events() -> Iterator[Events]:
    events = Events()
    yield events
    events.close()


@pytest.fixture
def app() -> Iterator[App]:
    app = App("local", threads=2)
    yield app
    app.close(wait=False)


def listen(events: Events, level: Level = Level.INFO, *origins: Origin, size: int = 10) -> EventStream:
    return events.listen(origins or None, level, None, size)


def tell(events: Events, text: str, level: Level = Level.INFO, origin: Origin = Origin.CALLER) -> None:
    events.tell(origin, level, EventCode.GENERIC, text)


def texts(stream: EventStream) -> list[str]:
    """Return the texts of what is there, which ends the stream."""
    stream.close()
    return [event.text for event in stream]


# ---------------------------------------------------------------------- a stream


def test_an_event_says_what_who_and_when(events: Events) -> None:
    stream = listen(events)
    details = {"node": "bench", "name": "add", "id": "7"}
    events.tell(Origin.CALLER, Level.WARNING, EventCode.LOST, "bench: lost", **details)
    event = stream.get(PATIENCE)
    assert (event.origin, event.level, event.code) == ("caller", Level.WARNING, "lost")
    assert (event.text, event.node, event.name, event.id) == ("bench: lost", "bench", "add", "7")
    assert (event.caller, event.error) == ("", None)
    assert abs(event.time - logging.makeLogRecord({}).created) < 60


def test_only_what_was_asked_for_is_heard(events: Events) -> None:
    everything = listen(events, Level.DEBUG)
    severe = listen(events, Level.WARNING)
    ours = listen(events, Level.DEBUG, Origin.NODE, Origin.WORKER)
    tell(events, "one", Level.DEBUG, Origin.CALLER)
    tell(events, "two", Level.INFO, Origin.NODE)
    tell(events, "three", Level.WARNING, Origin.WORKER)
    tell(events, "four", Level.ERROR, Origin.HANDLER)
    assert texts(everything) == ["one", "two", "three", "four"]
    assert texts(severe) == ["three", "four"]
    assert texts(ours) == ["two", "three"]


def test_what_does_not_fit_is_dropped_and_counted(events: Events) -> None:
    small, large = listen(events, size=2), listen(events)
    for number in range(5):
        tell(events, str(number))
    assert (small.dropped, large.dropped) == (3, 0)
    assert repr(small) == "<EventStream from INFO: 2 waiting, 3 dropped>"
    assert small.get(0).text == "0"
    tell(events, "5")
    assert texts(small) == ["1", "5"]
    assert texts(large) == ["0", "1", "2", "3", "4", "5"]
    assert small.dropped == 3


def test_nobody_listens_and_nothing_is_wanted(events: Events) -> None:
    assert not events.hears(Origin.CALLER, Level.DEBUG)
    with listen(events, Level.WARNING):
        assert not events.hears(Origin.CALLER, Level.DEBUG)
        with listen(events, Level.DEBUG):
            assert events.hears(Origin.CALLER, Level.DEBUG)
    assert not events.hears(Origin.CALLER, Level.DEBUG)


def test_the_log_counts_as_a_listener(events: Events, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "dingo_zmq"):
        assert events.hears(Origin.CALLER, Level.DEBUG)
        tell(events, "100% of it", Level.DEBUG, Origin.NODE)
        events.tell(Origin.HANDLER, Level.ERROR, EventCode.HANDLER, "bad", error=ValueError("mine"))
    seen = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert seen == [("dingo_zmq.node", "DEBUG", "100% of it"), ("dingo_zmq.result", "ERROR", "bad")]
    assert "ValueError: mine" in caplog.text


def test_a_reader_that_waits_too_long_may_try_again(events: Events) -> None:
    stream = listen(events)
    with pytest.raises(TimeoutError, match="no event within 0 s"):
        stream.get(0)
    tell(events, "now")
    assert stream.get(0).text == "now"


def test_the_end_lets_a_reader_go(events: Events) -> None:
    stream = listen(events)
    got: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for event in stream:
            got.put(event.text)
        got.put("the end")

    reader = threading.Thread(target=read)
    reader.start()
    tell(events, "one")
    assert got.get(timeout=PATIENCE) == "one"
    stream.close()
    assert got.get(timeout=PATIENCE) == "the end"
    reader.join(PATIENCE)
    stream.close()
    tell(events, "too late")
    with pytest.raises(Closed, match="this stream of events is closed"):
        stream.get()
    assert repr(stream) == "<EventStream closed: 0 waiting, 0 dropped>"


def test_the_events_of_many_threads_all_come(events: Events) -> None:
    stream = listen(events, size=4000)
    threads = [
        threading.Thread(target=lambda n=n: [tell(events, f"{n} {each}") for each in range(500)])  # type: ignore[misc]
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    seen = [stream.get(PATIENCE).text for _ in range(4000)]
    for thread in threads:
        thread.join(PATIENCE)
    assert len(set(seen)) == 4000
    for n in range(8):
        assert [text for text in seen if text.startswith(f"{n} ")] == [f"{n} {each}" for each in range(500)]


def test_in_an_event_loop(events: Events) -> None:
    stream = listen(events)

    async def read() -> list[str]:
        seen: list[str] = []
        async for event in stream:
            seen.append(event.text)
            if event.text == "2":
                stream.close()
        return seen

    async def use() -> list[str]:
        reader = asyncio.create_task(read())
        await asyncio.sleep(0)
        tell(events, "0")
        await asyncio.to_thread(tell, events, "1")
        tell(events, "2")
        return await asyncio.wait_for(reader, PATIENCE)

    assert asyncio.run(use()) == ["0", "1", "2"]


def test_who_no_longer_waits_in_a_loop_takes_no_event(events: Events) -> None:
    stream = listen(events)

    async def use() -> str:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0)
        waiting = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        tell(events, "still there")
        return (await asyncio.wait_for(anext(stream), PATIENCE)).text

    assert asyncio.run(use()) == "still there"
    assert stream._bells == []


def test_a_loop_that_is_closed_does_no_harm(events: Events) -> None:
    stream = listen(events)
    waiting = stream.__anext__()

    async def begin() -> None:
        waiting.send(None)  # as far as it comes without an event

    asyncio.run(begin())
    tell(events, "for somebody else")
    assert stream.get(0).text == "for somebody else"
    waiting.close()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"origins": "moon"}, "unknown origin 'moon'; there are: caller, node, worker, handler"),
        ({"origins": ["caller", 3]}, "unknown origin 3"),
        ({"origins": 3}, "unknown origin 3"),
        ({"origins": []}, "no origin is named, so nothing would be heard"),
        ({"level": "loud"}, "level must be one of Level.DEBUG, Level.INFO, .*not 'loud'"),
        ({"level": 30}, "level must be one of .*not 30"),
        ({"callback": 3}, "callback must be callable, not 3"),
        ({"size": 0}, "size must be a whole number of at least 1, not 0"),
        ({"size": 1.5}, "size must be a whole number of at least 1, not 1.5"),
        ({"size": True}, "size must be a whole number of at least 1, not True"),
    ],
)
def test_what_cannot_be_listened_to(app: App, words: dict[str, Any], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        app.listen(**words)


# ---------------------------------------------------------------------- an App


def test_tasks_that_fail_are_told(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.task
    def spoil(word: str) -> int:
        if word == "lie":
            return "three"  # type: ignore[return-value]
        raise LookupError(f"it was {word}\nand worse")

    @app.task
    async def later() -> None:
        raise LookupError

    with caplog.at_level(logging.INFO, "dingo_zmq"), app.listen("worker", Level.INFO) as stream:
        spoil.call("rotten").wait(PATIENCE)
        spoil.call("lie").wait(PATIENCE)
        later.call().wait(PATIENCE)
        seen = [stream.get(0) for _ in range(3)]
    assert [(event.code, event.name, event.id) for event in seen] == [
        ("failed", "spoil", "1"),
        ("decode", "spoil", "2"),
        ("failed", "later", "3"),
    ]
    assert seen[0].text == "task spoil id 1 failed: LookupError: it was rotten"
    assert seen[1].text.startswith(
        "task spoil id 2 failed: dingo_zmq.errors.ArgumentError: spoil(), parameter 'return'"
    )
    assert seen[2].text == "task later id 3 failed: LookupError"
    assert isinstance(seen[0].error, LookupError)
    assert [record.getMessage() for record in caplog.records] == [event.text for event in seen]


def test_what_a_failure_says_cannot_spoil_a_terminal(events: Events) -> None:
    stream = listen(events)
    failure = Failure(Code.RAISED, "\x1b[31m" + "x" * 300, "Bad")
    events.failed(failure, "add", "\x07", error=ValueError())
    event = stream.get(0)
    assert event.text.startswith(r"task add id \x07 failed: Bad: \x1b[31mxxx")
    assert len(event.text) < 260


def test_a_callback_hears_events_on_the_apps_thread(app: App) -> None:
    seen: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    @app.task
    def spoil(word: str) -> None:
        raise LookupError(word)

    def hear(event: Event) -> None:
        seen.put((event.id, threading.current_thread().name))

    stream = app.listen(level=Level.INFO, callback=hear)
    for number in range(3):
        spoil.call(str(number)).wait(PATIENCE)
    heard = [seen.get(timeout=PATIENCE) for _ in range(3)]
    assert [id for id, _ in heard] == ["1", "2", "3"]
    assert {name.startswith("dingo-callbacks") for _, name in heard} == {True}
    with pytest.raises(UsageError, match="this stream has a callback"):
        stream.get()
    stream.close()
    spoil.call("4").wait(PATIENCE)
    app.close()
    assert seen.empty()


def test_a_slow_callback_holds_nobody_up(app: App) -> None:
    free, began = threading.Event(), threading.Event()
    seen: list[str] = []

    @app.task
    def spoil() -> None:
        raise LookupError

    def hear(event: Event) -> None:
        began.set()
        free.wait(PATIENCE)
        seen.append(event.id)

    stream = app.listen(level=Level.INFO, callback=hear, size=2)
    spoil.call().wait(PATIENCE)
    assert began.wait(PATIENCE)
    for _ in range(5):
        spoil.call().wait(PATIENCE)
    assert stream.dropped == 3
    free.set()
    app.close()  # lets the callback thread do what is there
    assert seen == ["1", "2", "3"]


def test_a_callback_that_raises_is_logged_and_hears_more(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.task
    def spoil() -> None:
        raise LookupError

    seen: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def hear(event: Event) -> None:
        seen.put(event)
        raise ValueError("not my day")

    app.listen(level=Level.DEBUG, callback=hear)
    spoil.call().wait(PATIENCE)
    spoil.call().wait(PATIENCE)
    assert [seen.get(timeout=PATIENCE).id for _ in range(2)] == ["1", "2"]
    app.close()
    assert caplog.text.count("ValueError: not my day") == 2
    assert seen.empty()  # its own errors are no events


def test_a_callback_may_close_its_app(app: App) -> None:
    closed = threading.Event()

    @app.task
    def spoil() -> None:
        raise LookupError

    def hear(event: Event) -> None:
        app.close(wait=False)
        closed.set()

    app.listen(level=Level.INFO, callback=hear)
    spoil.call().wait(PATIENCE)
    assert closed.wait(PATIENCE)


def test_the_end_of_the_app_ends_its_streams() -> None:
    with App("local") as app:
        stream = app.listen()
    assert list(stream) == []
    with pytest.raises(Closed, match="this App is closed"):
        app.listen()


def test_a_reader_at_the_end_of_the_app_gets_what_is_there(app: App) -> None:
    @app.task
    def spoil() -> None:
        raise LookupError

    stream = app.listen(level=Level.INFO)
    results = [spoil.call() for _ in range(100)]
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(event.id for event in stream))
    reader.start()
    app.close()
    reader.join(PATIENCE)
    assert sorted(seen) == sorted(result.id for result in results)


def test_a_reader_starts_the_app_and_listen_does_not(app: App) -> None:
    app.register("add", lambda: 1)
    app.register("later", lambda: 1)
    stream = app.listen()
    app.allocate("add", 1)
    with pytest.raises(TimeoutError):
        stream.get(0)
    with pytest.raises(UsageError, match="before the first call or serve"):
        app.allocate("later", 1)


@pytest.mark.parametrize("use", [lambda stream: stream.get(0), next])
def test_what_came_before_the_end_is_still_read(events: Events, use: Callable[[EventStream], Event]) -> None:
    stream = listen(events)
    tell(events, "one")
    events.close()
    assert use(stream).text == "one"
    with pytest.raises((Closed, StopIteration)):
        use(stream)
