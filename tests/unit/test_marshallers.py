"""Marshallers and invokers, chosen for each function: what travels, what comes back, and what is refused."""

from __future__ import annotations

import enum
import importlib.metadata
import json
import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dingo_zmq import App
from dingo_zmq.errors import ArgumentError, EncodeError, PeerError, TaskFailed, UsageError
from dingo_zmq.invoke import DirectInvoker, Marshalled, Signature
from dingo_zmq.marshal import OUT_OF_BAND, size
from dingo_zmq.marshallers import (
    ENTRY_POINTS,
    CustomMarshaller,
    JSONMarshaller,
    JSONSafeCodec,
    Marshallers,
    MsgpackMarshaller,
    PickleMarshaller,
    is_safe,
    spoken,
)
from dingo_zmq.registry import Registry

BIG = OUT_OF_BAND


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    when: datetime


class Stranger:
    """A class that no annotation of ours can check."""

    def __init__(self, word: str) -> None:
        self.word = word


def scan(point: Point, *rest: float, words: dict[int, bytes] | None = None) -> list[Point]:
    return [point]


POINT = Point(1, datetime(2026, 1, 2, 3, 4, 5))


def signature(function: Any, **how: Any) -> Signature:
    return Registry(Marshallers(allow_pickle=True)).register("scan", function, **how).signature


BUILT_IN = ["msgpack", "json", "json-safe", "pickle"]


# ---------------------------------------------------------------------- there and back


@pytest.mark.parametrize("report", BUILT_IN)
@pytest.mark.parametrize("task", BUILT_IN)
def test_every_pair_takes_typed_values_there_and_back(task: str, report: str) -> None:
    made = signature(scan, marshaller=task, report_marshaller=report)
    args, kwargs = made.unpack(made.pack((POINT, 1, 2.5), {"words": {1: b"a"}}))
    assert (args, kwargs) == ((POINT, 1.0, 2.5), {"words": {1: b"a"}})
    assert type(args[1]) is float
    assert made.unpack_return(made.pack_return([POINT])) == [POINT]


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Colour, Colour.RED),
        (Decimal, Decimal("1.50")),
        (UUID, UUID(int=5)),
        (Path, Path("a/b")),
        (date, date(2026, 1, 2)),
        (set[int], {1, 2}),
        (tuple[int, str], (1, "a")),
        (int, 2**63),
        (bytes, b"\0\xff"),
        (bytes | None, None),
        (Point | str, "a"),
        (dict[int, list[Path]], {3: [Path("x")]}),
    ],
)
def test_kinds_of_values(name: str, kind: Any, value: Any) -> None:
    def echo(value):  # type: ignore[no-untyped-def]
        return value

    echo.__annotations__ = {"value": kind, "return": kind}
    made = signature(echo, marshaller=name)
    ((back,), _) = made.unpack(made.pack((value,), {}))
    assert (type(back), back) == (type(value), value)
    assert made.unpack_return(made.pack_return(value)) == value


def test_json_is_one_document_and_json_safe_one_for_each_argument() -> None:
    def add(a: int, b: int, *, c: int = 0) -> int:
        return a + b + c

    whole, _ = signature(add, marshaller="json").pack((1, 2), {})
    named, _ = signature(add, marshaller="json").pack((1,), {"b": 2, "c": 3})
    safe, _ = signature(add, marshaller="json-safe").pack((1, 2), {})
    assert json.loads(whole) == [1, 2]
    assert json.loads(named) == {"args": [1], "kwargs": {"b": 2, "c": 3}}
    assert safe == b"\x92\x90\x92\xc4\x011\xc4\x012"


def test_a_wrong_argument_is_refused_at_the_call_as_always() -> None:
    texts = set()
    for name in BUILT_IN:
        with pytest.raises(ArgumentError) as caught:
            signature(scan, marshaller=name).pack(("2026",), {})
        texts.add(str(caught.value))
    assert texts == {"scan(), parameter 'point': expected Point, got str '2026'"}


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_call_that_does_not_bind(name: str) -> None:
    for how in ({}, {"invoker": "direct"}):
        with pytest.raises(ArgumentError, match="'point': expected a value"):
            signature(scan, marshaller=name, **how).pack((), {})


@pytest.mark.parametrize("name", ["json", "json-safe"])
@pytest.mark.parametrize("value", [float("nan"), [1.0, {"k": float("inf")}], {"a": (float("-inf"),)}])
def test_what_has_no_json(name: str, value: Any) -> None:
    def echo(value: Any) -> Any:
        return value

    made = signature(echo, marshaller=name)
    with pytest.raises(EncodeError, match="NaN and infinity have no JSON"):
        made.pack((value,), {})
    with pytest.raises(EncodeError, match="scan.., return: NaN"):
        made.pack_return(value)
    assert made.unpack(made.pack(([None, 1.5],), {})) == (([None, 1.5],), {})


@pytest.mark.parametrize("name", ["json", "json-safe"])
def test_a_value_without_json_is_named(name: str) -> None:
    def echo(value: Any) -> Any:
        return value

    with pytest.raises(EncodeError, match="type Stranger cannot travel as JSON"):
        signature(echo, marshaller=name).pack((Stranger("a"),), {})


@pytest.mark.parametrize("name", ["json", "json-safe", "pickle"])
def test_what_a_stranger_sends_is_refused(name: str) -> None:
    made = signature(scan, marshaller=name)
    junk = [
        b"",
        b"\xff",
        b"5",
        b'"text"',
        b'{"args": 5, "kwargs": {}}',
        b"[[[",
        b"\x92\x90\x90",
        b"\x92\x91\xa1x\x90",
        b"N.",
    ]
    for data in junk:
        with pytest.raises((PeerError, ArgumentError)):
            made.unpack((data, ()))
    if name != "pickle":  # who finds no use for a buffer does not say so
        with pytest.raises((PeerError, ArgumentError)):
            made.unpack((made.pack((POINT,), {})[0], (b"more",)))


def test_a_document_that_does_not_fit_is_named_with_its_parameter() -> None:
    def add(a: int, b: int) -> int:
        return a + b

    def other(a: int, b: str) -> str:
        return b

    for name in ("json", "json-safe"):
        theirs, ours = signature(other, marshaller=name), signature(add, marshaller=name)
        with pytest.raises(ArgumentError, match="parameter 'b': expected int, got str 'x'"):
            ours.unpack(theirs.pack((1, "x"), {}))
        with pytest.raises(ArgumentError, match="'return': expected int, got str 'x'"):
            ours.unpack_return(theirs.pack_return("x"))


@pytest.mark.parametrize(("name", "frames"), [("msgpack", 1), ("json", 0), ("json-safe", 1), ("pickle", 0)])
def test_large_values(name: str, frames: int) -> None:
    def echo(value: bytes | str) -> bytes:
        return bytes(value)  # type: ignore[arg-type]

    made = signature(echo, marshaller=name, invoker="direct")
    body = made.pack((b"x" * BIG,), {})
    assert len(body[1]) == frames
    assert size(body) >= BIG
    ((back,), _) = made.unpack(body)
    assert len(back) >= BIG


class Block:
    """Offers its memory to pickle, as an array of NumPy does."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Block, (pickle.PickleBuffer(self.data),)


def test_what_offers_its_memory_to_pickle_goes_beside() -> None:
    def echo(value: Any) -> Any:
        return value

    made = signature(echo, marshaller="pickle", invoker="direct")
    data, buffers = made.pack(([Block(bytearray(BIG)), Block(b"small")],), {})
    assert (len(data) < 300, [memoryview(buffer).nbytes for buffer in buffers]) == (True, [BIG])
    (([large, small],), _) = made.unpack((data, buffers))
    assert (bytes(large.data), bytes(small.data)) == (bytes(BIG), b"small")


# ---------------------------------------------------------------------- invokers


def test_direct_calls_with_what_was_decoded() -> None:
    plain = {"x": 1, "when": "2026-01-02T03:04:05"}
    for name, got in (("msgpack", plain), ("json", plain), ("json-safe", POINT), ("pickle", POINT)):
        made = signature(scan, marshaller=name, invoker="direct")
        assert made.unpack(made.pack((POINT,), {})) == ((got,), {})
        assert made.unpack_return(made.pack_return([POINT])) == [got]


def test_direct_checks_nothing_but_that_it_binds() -> None:
    made = signature(scan, invoker="direct")
    assert made.unpack(made.pack(("anything",), {})) == (("anything",), {})
    assert made.correct(("anything",), {}) == (("anything",), {})


def test_with_pickle_and_direct_a_function_takes_what_has_no_annotation_of_ours() -> None:
    def take(value: Stranger) -> Stranger:
        return value

    with pytest.raises(UsageError, match="Stranger is not supported"):
        signature(take, marshaller="pickle")
    made = signature(take, marshaller="pickle", invoker="direct")
    ((back,), _) = made.unpack(made.pack((Stranger("a"),), {}))
    assert back.word == "a"


class Doubling(DirectInvoker):
    """Gives every argument twice its value, and takes a half of every return."""

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return function(*[2 * arg for arg in args], **kwargs)

    def correct_return(self, function: Any, value: Any) -> Any:
        if value == 0:
            raise ZeroDivisionError("nothing to halve")
        return value / 2


def test_an_own_invoker_calls_and_corrects() -> None:
    with App("local") as app:

        @app.task(invoker=Doubling())
        def add(a: int, b: int) -> int:
            """Add."""
            return a + b

        @app.task(invoker=Doubling())
        async def later(a: int) -> int:
            return a

        assert add.call(2, 3).result(5) == 5.0
        assert later.call(3).result(5) == 3.0
        assert add(2, 3) == 5  # called here, by nobody else
        assert add.__doc__ == "Add."
        with pytest.raises(TaskFailed, match="'return': expected what Doubling.correct_return takes, got ZeroDiv"):
            add.call(1, -1).result(5)
    made = add.function.signature
    assert made.unpack(made.pack((2, 3), {})) == ((2, 3), {})
    assert made.unpack_return(made.pack_return(10)) == 5.0
    assert made.fingerprint == signature(add.function.original).fingerprint  # nobody else has to know


@pytest.mark.parametrize(
    ("invoker", "text"),
    [
        ("lazy", "there is no invoker 'lazy'; there are: typed, direct"),
        (DirectInvoker, r"hint: make an object of it: DirectInvoker\(\)"),
        (object(), "an invoker has call and correct_return"),
    ],
)
def test_what_is_no_invoker(invoker: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        App("local").register("scan", scan, invoker=invoker)


# ---------------------------------------------------------------------- a codec of one's own


class Doubles:
    """Every argument and return is a number of eight bytes."""

    def __init__(self) -> None:
        self.prepared: list[str] = []

    def prepare(self, function: Any) -> None:
        if function.hints.get("return") is str:
            raise ValueError("no numbers there")
        self.prepared.append(function.name)

    def encode_arguments(self, function: Any, names: Sequence[str], values: Sequence[Any]) -> list[Any]:
        return [struct.pack("<d", value) for value in values]

    def decode_arguments(self, function: Any, names: Sequence[str], parts: Sequence[Any]) -> list[Any]:
        return [struct.unpack("<d", part)[0] for part in parts]

    def encode_return(self, function: Any, value: Any) -> list[Any]:
        return [struct.pack("<d", value)]

    def decode_return(self, function: Any, parts: Sequence[Any]) -> Any:
        return struct.unpack("<d", parts[0])[0]


def add(a: float, *rest: float, scale: float = 1.0) -> float:
    return (a + sum(rest)) * scale


def test_a_codec_sees_values_and_parameters_and_the_wrapper_adds_the_rest() -> None:
    class Noting(Doubles):
        def encode_arguments(self, function: Any, names: Sequence[str], values: Sequence[Any]) -> list[Any]:
            seen.append((function.name, list(names), list(values)))
            return super().encode_arguments(function, names, values)

    seen: list[Any] = []
    codec = Noting()
    made = signature(add, marshaller=CustomMarshaller(codec, "doubles"))
    body = made.pack((1, 2.0, 3.0), {"scale": 4.0})
    assert seen == [("scan", ["a", "rest", "rest", "scale"], [1.0, 2.0, 3.0, 4.0])]
    assert made.unpack(body) == ((1.0, 2.0, 3.0), {"scale": 4.0})
    assert made.unpack_return(made.pack_return(7.0)) == 7.0
    assert codec.prepared == ["scan"]
    assert made.fingerprint.endswith("/doubles")


def test_the_typed_invoker_corrects_what_a_codec_decoded() -> None:
    class Text(Doubles):
        def encode_arguments(self, function: Any, names: Sequence[str], values: Sequence[Any]) -> list[Any]:
            return [f"{value.x} {value.when.isoformat()}".encode() for value in values]

        def decode_arguments(self, function: Any, names: Sequence[str], parts: Sequence[Any]) -> list[Any]:
            texts = [bytes(part).decode().split() for part in parts]
            return [{"x": int(x), "when": when} for x, when in texts]

    def scan(point: Point) -> None: ...

    marshaller = CustomMarshaller(Text())
    typed, direct = (
        signature(scan, marshaller=marshaller),
        signature(scan, marshaller=marshaller, invoker="direct"),
    )
    body = typed.pack((POINT,), {})
    assert typed.unpack(body) == ((POINT,), {})
    assert direct.unpack(body) == (({"x": 1, "when": "2026-01-02T03:04:05"},), {})


@pytest.mark.parametrize(
    ("method", "returns", "text"),
    [
        ("encode_arguments", [b"1", "2"], "returned is no list of bytes, but has a str in it"),
        ("encode_arguments", b"12", "returned is no list of bytes, but bytes"),
        ("encode_arguments", None, "TypeError"),
    ],
)
def test_a_codec_that_returns_wrong_parts_for_arguments(method: str, returns: Any, text: str) -> None:
    class Faulty(Doubles):
        pass

    setattr(Faulty, method, lambda self, *rest: returns)
    with pytest.raises(EncodeError, match=text):
        signature(add, marshaller=CustomMarshaller(Faulty())).pack((1.0, 2.0), {})


@pytest.mark.parametrize("returns", [b"1", "1", ["1"], 5])
def test_a_codec_that_returns_wrong_parts_for_a_return(returns: Any) -> None:
    class Faulty(Doubles):
        def encode_return(self, function: Any, value: Any) -> Any:
            return returns

    with pytest.raises(EncodeError, match=r"scan\(\), return: "):
        signature(add, marshaller=CustomMarshaller(Faulty())).pack_return(1.0)


def test_a_codec_that_raises() -> None:
    made = signature(add, marshaller=CustomMarshaller(Doubles()))
    with pytest.raises(EncodeError, match=r"scan\(\), return: error: required argument is not a float"):
        made.pack_return("five")
    with pytest.raises(PeerError, match="cannot decode a body: error: unpack requires"):
        made.unpack((signature(add, marshaller="json-safe").pack((1.0,), {})[0], ()))


def test_a_codec_can_refuse_a_function() -> None:
    def shout(word: str) -> str:
        return word

    with pytest.raises(UsageError, match=r"scan\(\): marshaller 'Doubles' refuses it: no numbers there"):
        signature(shout, marshaller=CustomMarshaller(Doubles()))


def test_large_parts_travel_beside_in_their_order() -> None:
    class Raw(Doubles):
        def encode_arguments(self, function: Any, names: Sequence[str], values: Sequence[Any]) -> list[Any]:
            return list(values)

        def decode_arguments(self, function: Any, names: Sequence[str], parts: Sequence[Any]) -> list[Any]:
            return list(parts)

    def take(*values: bytes) -> bytes:
        return values[0]

    first, second = b"1" * BIG, memoryview(b"2" * BIG)
    made = signature(take, marshaller=CustomMarshaller(Raw()), invoker="direct")
    data, buffers = made.pack((first, b"small", second, b""), {})
    assert (buffers, len(data) < 40) == ((first, second), True)
    assert made.unpack((data, buffers)) == ((first, b"small", second, b""), {})
    for wrong in ((), (first,), (first, second, first)):
        with pytest.raises(PeerError, match="for 2 large parts"):
            made.unpack((data, wrong))


def test_names_that_lie() -> None:
    made = signature(add, marshaller=CustomMarshaller(Doubles()))
    for data in (b"\x92\x91\xa5scale\x90", b"\x92\x92\xa5scale\xa5scale\x92\xc4\x00\xc4\x00"):
        with pytest.raises(PeerError, match="or one twice"):
            made.unpack((data, ()))
    with pytest.raises(ArgumentError, match="an unknown name"):
        made.unpack((b"\x92\x91\xa5wrong\x92\xc4\x00\xc4\x00", ()))


# ---------------------------------------------------------------------- by name


def test_an_app_takes_more_by_name() -> None:
    app = App("local", marshallers={"doubles": CustomMarshaller(Doubles())})
    assert app.register("add", add, marshaller="doubles").function.signature.fingerprint.endswith("/doubles")


def test_an_object_goes_by_its_own_name_or_the_one_the_app_gave_it() -> None:
    mine = CustomMarshaller(Doubles())
    named = Marshallers({"mine": mine})
    assert named.find(mine) == ("mine", mine)
    assert Marshallers().find(mine) == ("Doubles", mine)
    assert Marshallers().find(CustomMarshaller(Doubles(), "other"))[0] == "other"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"json": CustomMarshaller(Doubles())}, "there is already a marshaller 'json'"),
        ({"a/b": CustomMarshaller(Doubles())}, "the name of a marshaller must be"),
        ({"mine": Doubles()}, "marshaller 'mine': .* is none; hint: CustomMarshaller"),
        ({"mine": JSONMarshaller}, r"hint: make an object of it: JSONMarshaller\(\)"),
    ],
)
def test_what_an_app_does_not_take(given: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        App("local", marshallers=given)


def test_an_unknown_name_tells_those_there_are() -> None:
    app = App("local", marshallers={"mine": CustomMarshaller(Doubles())})
    with pytest.raises(
        UsageError, match="no marshaller 'yaml'; there are: msgpack, json, json-safe, pickle, mine"
    ):
        app.register("add", add, marshaller="yaml")
    with pytest.raises(UsageError, match="no marshaller 'yaml'"):
        app.declare("add", add, report_marshaller="yaml")


def test_two_objects_of_one_name() -> None:
    app = App("local")
    app.register("one", add, marshaller=CustomMarshaller(Doubles()))
    with pytest.raises(UsageError, match="there is already another marshaller 'Doubles'"):
        app.register("two", add, marshaller=CustomMarshaller(Doubles()))
    with pytest.raises(UsageError, match="another marshaller 'json'"):
        app.register("three", add, marshaller=Installed())


@pytest.mark.parametrize("made", [JSONMarshaller(), MsgpackMarshaller()])
def test_an_object_of_a_built_in_kind_is_the_one_of_that_name(made: Any) -> None:
    app = App("local")
    by_object = app.register("one", add, marshaller=made).function.signature.fingerprint
    assert by_object == app.register("two", add, marshaller=made.name).function.signature.fingerprint


def test_a_marshaller_made_of_a_built_in_one_is_another() -> None:
    class Louder(MsgpackMarshaller):
        name = "louder"

        def prepare(self, function: Any) -> Any:
            seen.append(function.name)
            return super().prepare(function)

    seen: list[str] = []
    task = App("local").register("one", add, marshaller=Louder())
    assert (seen, task.function.signature.fingerprint.endswith("/louder")) == (["one"], True)


@pytest.mark.parametrize("codec", [object(), JSONMarshaller()])
def test_what_is_no_codec(codec: Any) -> None:
    with pytest.raises(UsageError, match="is no codec: it has no .*encode_arguments"):
        CustomMarshaller(codec)


class Installed(JSONMarshaller):
    """What an installed package has."""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Entry points: names and what they name."""
    points: list[tuple[str, str]] = []

    def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
        return [
            importlib.metadata.EntryPoint(name, value, group) for name, value in points if group == ENTRY_POINTS
        ]

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    return points


def test_an_installed_one_is_found_by_name(installed: list[tuple[str, str]]) -> None:
    installed.append(("other", f"{__name__}:Installed"))
    name, found = Marshallers().find("other")
    assert (name, type(found).__name__) == ("other", "Installed")


def test_a_package_that_is_really_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "paper-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: paper\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[dingo_zmq.marshallers]\npaper = dingo_zmq.marshallers:JSONMarshaller\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = App("local").register("add", add, marshaller="paper").function.signature
    assert made.pack((1.5,), {}) == (b"[1.5]", ())
    assert made.fingerprint.endswith("/paper")


def test_installed_ones_are_not_looked_at_for_a_known_name(installed: list[tuple[str, str]]) -> None:
    installed.append(("json", "nowhere:nothing"))
    assert isinstance(Marshallers().find("json")[1], JSONMarshaller)


@pytest.mark.parametrize(
    ("points", "text"),
    [
        (["nowhere:nothing"], "the marshaller 'other' of nowhere:nothing cannot be loaded"),
        (["json:dumps"], "is none"),
        (["json:dumps", "json:loads"], "several installed packages have a marshaller 'other'"),
    ],
)
def test_an_installed_one_that_will_not_do(installed: list[tuple[str, str]], points: list[str], text: str) -> None:
    installed += [("other", value) for value in points]
    with pytest.raises(UsageError, match=text):
        Marshallers().find("other")


@pytest.mark.parametrize("wanted", ["pickle", PickleMarshaller()])
def test_pickle_has_to_be_allowed(wanted: Any) -> None:
    for how in ({"marshaller": wanted}, {"report_marshaller": wanted}):
        with pytest.raises(UsageError, match=r"hint: App\(allow_pickle=True\)"):
            App("local").register("scan", scan, **how)
        with pytest.raises(UsageError, match=r"hint: App\(allow_pickle=True\)"):
            App("local").declare("scan", **how)
    app = App("local", allow_pickle=True)
    assert app.register("scan", scan, marshaller="pickle").function.signature.pickles


# ---------------------------------------------------------------------- what others are told


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({}, ""),
        ({"marshaller": "msgpack"}, ""),
        ({"marshaller": "json"}, "/json"),
        ({"marshaller": "json", "report_marshaller": "msgpack"}, "/json/msgpack"),
        ({"report_marshaller": "json-safe"}, "/msgpack/json-safe"),
        ({"invoker": "direct"}, ""),
    ],
)
def test_the_marshallers_stand_behind_the_fingerprint(how: dict[str, Any], told: str) -> None:
    plain = signature(scan).fingerprint
    assert signature(scan, **how).fingerprint == plain + told
    assert signature(scan, version="2", **how).fingerprint == f"{plain}@2{told}"
    assert Registry().declare("scan", scan, **how).signature.fingerprint == plain + told
    assert Registry().declare("scan", **how).signature.fingerprint == told


def test_the_usual_function_has_the_usual_signature() -> None:
    assert type(signature(scan)) is Signature
    assert type(signature(scan, marshaller="json")) is Marshalled


@pytest.mark.parametrize("how", ["", "json", "json-safe", "json/msgpack", "msgpack/json-safe"])
def test_what_nodes_tell_is_spoken_where_it_is_safe(how: str) -> None:
    tasks, _, reports = (how or "msgpack").partition("/")
    theirs = signature(add, marshaller=tasks, report_marshaller=reports or tasks)
    ours = spoken("scan", how)
    assert is_safe(how)
    assert theirs.unpack(ours.pack((1, 2), {"scale": 3})) == ((1.0, 2.0), {"scale": 3.0})
    assert ours.unpack_return(theirs.pack_return(5.0)) == 5.0
    assert ours.fingerprint == (how and f"/{how}")


@pytest.mark.parametrize("how", ["pickle", "json/pickle", "pickle/json", "mine", "msgpack/msgpack/pickle"])
def test_nothing_else_is_spoken(how: str) -> None:
    assert not is_safe(how)
    with pytest.raises(UsageError, match="is not spoken here; hint: declare the function"):
        spoken("scan", how)


# ---------------------------------------------------------------------- the marshallers as objects


@pytest.mark.parametrize(
    "marshaller", [MsgpackMarshaller(), JSONMarshaller(), PickleMarshaller(), CustomMarshaller(JSONSafeCodec())]
)
def test_a_marshaller_by_itself(marshaller: Any) -> None:
    encoding = marshaller.prepare(Signature.of(add))
    body = encoding.encode_arguments((1.0, 2.0), {"scale": 3.0})
    assert encoding.decode_arguments(body) == ((1.0, 2.0), {"scale": 3.0})
    assert encoding.decode_return(encoding.encode_return(4.0)) == 4.0
