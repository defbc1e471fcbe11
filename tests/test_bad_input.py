"""What goes in wrongly, through the public API: each error says what happened, where, and what to do next."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dingo_zmq import App, EventCode, Level, Origin, Status, chain
from dingo_zmq.errors import EncodeError, PeerError, TaskFailed, UnknownFunction, UsageError
from dingo_zmq.local_broker import LocalBackend, LocalBroker
from dingo_zmq.marshal import Header, Kind, compose, decompose, encode
from dingo_zmq.marshallers import CustomMarshaller, JSONSafeCodec
from dingo_zmq.ports import Heard, ReportPacket

PATIENCE = 10.0

HEADER = compose(Header(Kind.TASK, "12", "scan", "json"), [b"one", b"", b"three"])


@pytest.fixture
def app() -> Iterator[App]:
    app = App("local", threads=2, wire=True)
    app.register("add", add)
    yield app
    app.close(wait=False)


def add(a: int, b: int = 5) -> int:
    return a + b


def says(text: str) -> str:
    """Return the pattern of an error with just this text."""
    return f"^{re.escape(text)}$"


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize("second", ["register", "declare"])
def test_the_same_name_registered_twice(app: App, second: str) -> None:
    text = "there is already a function 'add'; names are unique within an App; hint: choose another"
    with pytest.raises(UsageError, match=says(text)):
        getattr(app, second)("add", add)
    with pytest.raises(UsageError, match=says(text)):
        app.task(name="add")(add)


def test_allocate_before_register(app: App) -> None:
    with pytest.raises(
        UnknownFunction, match=says("allocate: there is no function 'sub' here; hint: register it first")
    ):
        app.allocate("sub", 2)
    app.declare("sub", add)
    with pytest.raises(
        UnknownFunction, match=says("allocate: 'sub' is only declared here; hint: register it first")
    ):
        app.allocate("sub", 2)


def test_an_unregistered_name(app: App) -> None:
    uses: list[Callable[[str], object]] = [
        lambda name: app.call(name, 1),
        lambda name: app.map(name, [1]),
        lambda name: app.bind(name, 1),
        lambda name: app.options(priority=1).call(name),
        lambda name: asyncio.run(app.acall(name)),
    ]
    for use in uses:
        with pytest.raises(UnknownFunction, match=says("no function 'ad' is known; did you mean 'add'?")):
            use("ad")
        text = "there is no function 'xyz'; none of the 1 known has a similar name; hint: register or declare it"
        with pytest.raises(KeyError) as caught:
            use("xyz")
        assert str(caught.value) == text
    empty = App("local")
    with pytest.raises(UnknownFunction, match="none is registered; hint: register or declare it"):
        empty.call("xyz")
    empty.close()


# ---------------------------------------------------------------------- attaching


def test_an_object_attached_twice() -> None:
    app, broker, backend = App("remote"), LocalBroker(), LocalBackend()
    app.use(broker)
    with pytest.raises(UsageError, match="a LocalBroker is attached twice: it is the producer already"):
        app.use(broker)
    app.use(store=backend)
    with pytest.raises(UsageError, match="a LocalBackend is attached twice: it is the store already"):
        app.use(store=backend)

    other = App("remote")
    with pytest.raises(
        UsageError,
        match="a LocalBackend is attached twice: another App has it, and will close it; hint: one object for each",
    ):
        other.use(backend)
    app.close()
    assert other.use(backend) == ("reporter", "store")
    other.close()


# ---------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"at_most_once": "no"}, "at_most_once must be True or False, not 'no'"),
        ({"ignore_report": 1}, "ignore_report must be True or False, not 1"),
        ({"delay": "1"}, "delay must be seconds, from 0 to 1e+09, not '1'"),
        ({"expires": "1"}, "expires must be seconds, more than 0 to 1e+09, or None, not '1'"),
        ({"retries": "3"}, "retries must be a whole number of at least 0, or a Retries, not '3'"),
        ({"priority": 1.5}, "priority must be a whole number from -1000000 to 1000000, not 1.5"),
        ({"time_limit": "5 s"}, "time_limit must be a number of seconds above 0, or None, not '5 s'"),
        ({"needs": "psu"}, "needs must be a list of tags, such as [\"psu\"], not 'psu'"),
        ({"retry": 3}, "unknown option in ['retry']; there are: at_most_once, "),
    ],
)
def test_an_option_of_the_wrong_type(app: App, wrong: dict[str, Any], text: str) -> None:
    plain = app.declare("sub", add)
    uses: list[tuple[str, Callable[[], object]]] = [
        ("", lambda: app.options(**wrong)),
        ("sub: ", lambda: plain.options(**wrong)),
        ("third: ", lambda: app.register("third", add, **wrong)),
        ("third: ", lambda: app.task(name="third", **wrong)(add)),
        ("third: ", lambda: app.declare("third", add, **wrong)),
    ]
    for where, use in uses:
        with pytest.raises(UsageError, match="^" + re.escape(where + text)):
            use()
    assert app.call("add", 1).result(PATIENCE) == 6


# ---------------------------------------------------------------------- codecs and handlers


class Faulty(JSONSafeCodec):
    """Does one thing wrong."""

    def __init__(self, method: str, change: Callable[[list[Any]], object]) -> None:
        super().__init__()
        right = getattr(self, method)
        setattr(self, method, lambda function, *rest: change(list(right(function, *rest))))


def double(parts: list[Any]) -> object:
    return parts * 2


def first(parts: list[Any]) -> object:
    return parts[:1]


def last_as_text(parts: list[Any]) -> object:
    return [*parts[:-1], "2"]


ONE_EACH = "; hint: one for each"
BYTES = "what Faulty.encode_return returned is no list of bytes, but has a str in it"


@pytest.mark.parametrize(
    ("method", "change", "text"),
    [
        (
            "encode_arguments",
            first,
            f"arguments: Faulty.encode_arguments returned 1 part for 2 arguments{ONE_EACH}",
        ),
        (
            "encode_arguments",
            double,
            f"arguments: Faulty.encode_arguments returned 4 parts for 2 arguments{ONE_EACH}",
        ),
        (
            "decode_arguments",
            first,
            f"arguments: .*Faulty.decode_arguments returned 1 part for 2 arguments{ONE_EACH}",
        ),
        (
            "encode_return",
            double,
            "return: .*a return is 1 part here, and there are 2; hint: decode_return of your own",
        ),
        ("encode_return", last_as_text, f"return: {BYTES}"),
    ],
)
def test_a_codec_that_returns_the_wrong_number_of_parts(
    app: App, method: str, change: Callable[[list[Any]], object], text: str
) -> None:
    faulty = app.register("sub", add, marshaller=CustomMarshaller(Faulty(method, change)))
    with pytest.raises((EncodeError, PeerError, TaskFailed), match=rf"sub\(\), {text}"):
        faulty.call(1, 2).result(PATIENCE)
    assert app.call("add", 1).result(PATIENCE) == 6


def test_a_handler_that_raises(app: App, caplog: pytest.LogCaptureFixture) -> None:
    def bad(value: object) -> None:
        raise ValueError(f"not {value}")

    with app.listen() as stream:
        result = app.call("add", 3).on_ok(bad)
        event = stream.get(PATIENCE)
        assert (event.origin, event.level, event.code) == (Origin.HANDLER, Level.ERROR, EventCode.HANDLER)
        assert (event.name, event.id, repr(event.error)) == ("add", result.id, "ValueError('not 8')")
        assert event.text == f"a callback of {result!r} failed: ValueError: not 8"
        result.add_done_callback(bad)
        assert isinstance(stream.get(PATIENCE).error, ValueError)
    assert result.result(0) == 8
    assert [record.getMessage() for record in caplog.records][0] == event.text
    assert {record.name for record in caplog.records} == {"dingo_zmq.result"}
    assert 'raise ValueError(f"not {value}")' in caplog.text  # the traceback says where


# ---------------------------------------------------------------------- what comes in


class Garbled(LocalBackend):
    """A Store that brings whatever it is told to, too."""

    def poll(self, name: str, id: str, heard: Heard) -> None:
        self.heard, self.id = heard, id
        super().poll(name, id, heard)


def report(status: Any, *rest: Any, name: str = "add", id: str = "ID") -> ReportPacket:
    return ReportPacket(name, id, status, *rest)


@pytest.mark.parametrize(
    ("garbage", "said"),
    [
        (None, "a NoneType"),
        (b"\x93\x01\x02", "a bytes"),
        ("report", "a str"),
        (("add", "ID", Status.SUCCESS, b""), "a tuple"),
        (report(Status.SUCCESS, b"\x05", name="other"), "it speaks of task 'ID' of 'other'"),
        (report(Status.SUCCESS, b"\x05", id="other"), "it speaks of task 'other' of 'add'"),
        (report(99, b"\x05"), "there is no status 99"),
        (report(Status.NONE, b"\x05"), "there is no status <Status.NONE: 0>"),
        (report("SUCCESS", b"\x05"), "there is no status 'SUCCESS'"),
        (report(Status.SUCCESS, None), "its body is not made of bytes"),
        (report(Status.SUCCESS, "5"), "its body is not made of bytes"),
        (report(Status.SUCCESS, b"\x05", None), "its body is not made of bytes"),
        (report(Status.SUCCESS, b"\x05", (3,)), "its body is not made of bytes"),
        (report(Status.SUCCESS, b"\x05", (), "first"), "its node or attempt cannot be"),
        (report(Status.SUCCESS, b"\x05", (), 1, None), "its node or attempt cannot be"),
    ],
)
def test_a_store_that_delivers_garbage(garbage: Any, said: str, caplog: pytest.LogCaptureFixture) -> None:
    app, store = App("remote", id_maker=Always()), Garbled()
    app.use(LocalBroker())
    app.use(store)
    stream = app.listen("caller")
    result = app.call("add", 2, 3)
    store.heard(garbage)

    assert not result.done()
    text = f"its store brought something that is no report of it: {said}; hint: ports.ReportPacket"
    assert result.why() == text
    event = stream.get(PATIENCE)
    assert (event.code, event.text, event.id) == (EventCode.DROPPED, f"task add id ID: {text}", "ID")
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [(logging.WARNING, event.text)]
    store.channel("add")([report(Status.SUCCESS, *encode(5))])
    assert result.result(PATIENCE) == 5
    app.close()


class Always:
    """Makes one id."""

    def new_id(self, name: str, /) -> str:
        return "ID"


@pytest.mark.parametrize("end", range(len(HEADER)))
def test_a_header_cut_at_every_byte(end: int) -> None:
    short = r"cut off: \d+ more bytes? (are|is) needed, there (are|is) \d+"
    with pytest.raises(PeerError, match=rf"^({short}|a header tells of 8 bytes of parts; there are \d+)$"):
        decompose(HEADER[:end])


# ---------------------------------------------------------------------- flows


def test_a_chain_whose_middle_fails(app: App) -> None:
    ran: list[int] = []

    @app.task
    def boom(a: int) -> int:
        raise ValueError(f"no {a}")

    app.register("note", ran.append)
    result = chain(app.bind("add", 2), app.bind("boom"), app.bind("note")).call()

    with pytest.raises(TaskFailed, match="^ValueError: link 2 of 3, boom: no 7") as caught:
        result.result(PATIENCE)
    failure: Any = caught.value.failure
    assert failure.type == "ValueError"
    assert 'raise ValueError(f"no {a}")' in failure.traceback
    assert ran == []
