"""Signatures: what fits travels and arrives as it is, what does not fit is refused with a clear word."""

# ruff: noqa: UP006, UP007, UP035, UP045 - old ways to write annotations are tested too
# mypy: disable-error-code="empty-body"

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import functools
import inspect
import re
import sys
import typing
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dingo_zmq import marshal
from dingo_zmq.errors import ArgumentError, EncodeError, PeerError, UsageError
from dingo_zmq.invoke import Signature, convert_words, example_words

T = TypeVar("T")
UserId = NewType("UserId", int)
BIG = b"x" * marshal.OUT_OF_BAND
WHEN = datetime(2030, 1, 2, 3, 4, 5)
UID = UUID(int=5)
UNSPEAKABLE = object()


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0
    when: datetime | None = None


@dataclasses.dataclass
class Tree:
    value: int
    children: list[Tree] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Picky:
    x: int

    def __post_init__(self) -> None:
        if self.x < 0:
            raise RuntimeError("negative")


class Row(TypedDict):
    a: int


class Pair(NamedTuple):
    a: int
    b: str


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Item(msgspec.Struct):
    a: int


class Text(str):
    pass


class Opaque:
    pass


def add(a: int, b: int = 5) -> int:
    return a + b


def one(annotation: Any) -> Signature:
    """A function f(a: annotation) -> annotation."""
    parameter = inspect.Parameter("a", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
    return Signature("f", inspect.Signature([parameter], return_annotation=annotation))


def sent(signature: Signature, *args: Any, **kwargs: Any) -> Any:
    """What the function gets over the wire."""
    return signature.unpack(signature.pack(args, kwargs))


FITTING = [
    (int, 5),
    (int, Level.LOW),
    (float, 1.5),
    (float, 1),
    (float, float("nan")),
    (float, 2**63 + 1),
    (str, "a"),
    (str, Text("a")),
    (bool, True),
    (bytes, b"a"),
    (bytes, bytearray(b"a")),
    (bytearray, bytearray(b"a")),
    (memoryview, memoryview(b"a")),
    (bytes, BIG),
    (bytes | None, BIG),
    (bytes | str, BIG),
    (Any, BIG),
    (None, None),
    (Point, Point(1.0, 2.0, WHEN)),
    (Point, Point(1, 2)),
    (Tree, Tree(1, [Tree(2)])),
    (Row, {"a": 1}),
    (Pair, Pair(1, "b")),
    (Colour, Colour.RED),
    (Level, Level.LOW),
    (Item, Item(1)),
    (datetime, WHEN),
    (datetime, WHEN.replace(tzinfo=UTC)),
    (date, date(2030, 1, 2)),
    (time, time(1, 2, 3)),
    (timedelta, timedelta(days=-3, microseconds=7)),
    (UUID, UID),
    (Decimal, Decimal("1.50")),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (list[int], [1, 2]),
    (list[int], (1, 2)),
    (set[int], [1, 2]),
    (list[float], [1, 2]),
    (dict[str, int], {"a": 1}),
    (dict[int, list[Point]], {1: [Point(1.0)]}),
    (Mapping[str, int], {"a": 1}),
    (Sequence[int], [1]),
    (Iterable[int], [1]),
    (list, [1, "a"]),
    (int | None, None),
    (Optional[int], 5),
    (int | str, "a"),
    (int | float, 1),
    (str | bytes, "a"),
    (str | bytes, b"a"),
    (str | UUID, "a"),
    (UUID | str, str(UID)),
    (list[str | bytes], ["a", b"a"]),
    (list[int] | tuple[str, str], [1]),
    (list[int] | tuple[str, str], ("a", "b")),
    (Point | Item | None, Point(1.0)),
    (Point | Item | None, Item(1)),
    (Point | Item | None, None),
    (Path, Path("a/b")),
    (PurePosixPath, PurePosixPath("a/b")),
    (Path | None, Path("a")),
    (list[Path], [Path("a")]),
    (Path | int, Path("a")),
    (Annotated[int, "metres"], 5),
    (Annotated[int, msgspec.Meta(ge=0)], 5),
    (Literal["a", 1], "a"),
    (UserId, 5),
    (Any, [1, {"a": None}]),
    (object, "a"),
    (dict[str, Any], {"a": [1]}),
]


def like(got: Any, value: Any) -> bool:
    """Equal, or not a number both, or the same items in another container."""
    if isinstance(got, list | set) and isinstance(value, list | tuple | set):
        return list(got) == list(value)
    return bool(got == value or (got != got and value != value))  # noqa: PLR0124


def ids(value: Any) -> str:
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))[:40]  # the same in every process


@pytest.mark.parametrize(("annotation", "value"), FITTING, ids=ids)
def test_what_fits_arrives_as_it_is_and_is_returned_so(annotation: Any, value: Any) -> None:
    signature = one(annotation)
    expected = float(value) if annotation is float else value
    ((got,), kwargs) = sent(signature, value)
    assert kwargs == {}
    assert like(got, expected)
    assert like(signature.unpack_return(signature.pack_return(value)), expected)


@pytest.mark.parametrize(("annotation", "value"), FITTING, ids=ids)
def test_local_correction_gives_what_the_wire_gives(annotation: Any, value: Any) -> None:
    signature = one(annotation)
    ((local,), _), ((far,), _) = signature.correct((value,), {}), sent(signature, value)
    assert like(local, far)
    assert like(signature.correct_return(value), far)
    assert isinstance(local, type(far))


MISFITS = [
    (int, "3"),
    (int, True),
    (int, 1.0),
    (int, None),
    (int, Colour.RED),
    (float, "1.5"),
    (float, Decimal("1.5")),
    (float, True),
    (str, 5),
    (str, b"a"),
    (str, WHEN),
    (str, WHEN.replace(tzinfo=UTC)),
    (str, UID),
    (str, Path("a")),
    (str, Decimal(1)),
    (bool, 1),
    (bytes, "YWJj"),
    (bytes, "a"),
    (str, BIG),
    (int, BIG),
    (datetime, WHEN.isoformat()),
    (date, "2030-01-02"),
    (timedelta, "P1D"),
    (UUID, str(UID)),
    (Decimal, "1.5"),
    (Colour, "red"),
    (Path, "a/b"),
    (Point, {"x": 1.0}),
    (Point, Item(1)),
    (dict, Point(1.0)),
    (dict[str, Any], {"a": 1, 2: 3}),
    (dict[str, int], Item(1)),
    (list[int], [1, "a"]),
    (list[int], {"a": 1}),
    (list[datetime], [WHEN.isoformat()]),
    (dict[str, UUID], {"a": str(UID)}),
    (set[date], ["2030-01-02"]),
    (tuple[int, int], (1,)),
    (int | None, "a"),
    (str | bytes, 5),
    (str | UUID, UID),  # no way to tell it from a text once it is encoded
    (Point | Item, {"x": 1.0}),
    (Literal["a"], "b"),
    (Annotated[int, msgspec.Meta(ge=0)], -1),
    (Row, {}),
    (Row, {"a": "b"}),
    (Point, Point("1")),  # type: ignore[arg-type]
    (Point, Point(1.0, when="2030-01-02T03:04:05")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("annotation", "value"), MISFITS, ids=ids)
def test_what_does_not_fit_is_refused_at_the_caller(annotation: Any, value: Any) -> None:
    signature = one(annotation)
    with pytest.raises(ArgumentError) as caught:
        signature.pack((value,), {})
    assert (caught.value.function, caught.value.parameter) == ("f", "a")
    assert caught.value.expected == signature.text[4 : signature.text.index(") ->")]


# Local mode can tell a UUID from a text, and leaves the inside of finished objects alone.
@pytest.mark.parametrize(
    ("annotation", "value"),
    [(a, v) for a, v in MISFITS if not (isinstance(v, Point) and a is Point) and (a, v) != (str | UUID, UID)],
    ids=ids,
)
def test_what_does_not_fit_is_refused_in_local_mode(annotation: Any, value: Any) -> None:
    signature = one(annotation)
    with pytest.raises(ArgumentError):
        signature.correct((value,), {})
    with pytest.raises(ArgumentError) as caught:
        signature.correct_return(value)
    assert caught.value.parameter == "return"


@pytest.mark.parametrize("value", [2**64, object(), "\ud800", 3j])
def test_what_cannot_travel_names_function_and_parameter(value: Any) -> None:
    def f(a: int, b: Any) -> Any: ...

    signature = Signature.of(f)
    with pytest.raises(EncodeError, match=r"f\(\), parameter 'b'"):
        signature.pack((1, value), {})
    with pytest.raises(EncodeError, match=r"f\(\), return"):
        signature.pack_return(value)


def test_the_error_names_all_there_is_to_name() -> None:
    with pytest.raises(ArgumentError, match=r"add\(\), parameter 'b': expected int, got str '3'"):
        Signature.of(add).pack((1, "3"), {})


def test_the_error_says_where_inside_the_value() -> None:
    with pytest.raises(ArgumentError, match=r"got list \[1, 'a'\] \(.*\$\[1\]"):
        one(list[int]).pack(([1, "a"],), {})


def test_a_long_value_is_shortened_in_the_error() -> None:
    with pytest.raises(ArgumentError) as caught:
        one(int).pack(("x" * 1000,), {})
    assert len(caught.value.got) < 80


def test_a_value_with_a_broken_repr_can_be_named() -> None:
    class Broken(str):
        def __repr__(self) -> str:
            raise ValueError

    with pytest.raises(ArgumentError, match="no repr"):
        one(int).pack((Broken("a"),), {})


def many(a: int, /, b: int, c: int = 3, *rest: int, d: int, e: int = 5, **named: float) -> None: ...


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1, 2), {"d": 4}),
        ((1,), {"b": 2, "d": 4}),
        ((1, 2, 3, 4, 5, 6, 7, 8, 9, 10), {"d": 4, "e": 6}),
        ((1, 2), {"d": 4, "x": 1.5, "a": 2.5}),
    ],
)
def test_every_kind_of_parameter_binds(args: Any, kwargs: Any) -> None:
    signature = Signature.of(many)
    assert sent(signature, *args, **kwargs) == (args, kwargs)
    assert signature.correct(args, kwargs) == (args, kwargs)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "parameter"),
    [
        (add, (), {}, "a"),
        (add, (1, 2, 3), {}, ""),
        (add, (1,), {"a": 1}, "a"),
        (add, (1,), {"x": 1}, "x"),
        (add, (), {"b": 1}, "a"),
        (many, (1, 2), {}, "d"),
        (many, (), {"b": 1, "d": 2}, "a"),
        (many, (1, 2), {"d": 4, "b": 1}, "b"),
        (many, (1, 2, 3, "4"), {"d": 4}, "rest"),
        (many, (1, 2), {"d": 4, "x": "y"}, "named"),
        (add, (1,), {"b": "2"}, "b"),
    ],
)
def test_what_does_not_bind_is_refused_on_both_sides(
    function: Any, args: Any, kwargs: Any, parameter: str
) -> None:
    signature = Signature.of(function)
    body = marshal.encode_arguments(args, kwargs)
    for attempt in (signature.pack, signature.correct, lambda *_: signature.unpack(body)):
        with pytest.raises(ArgumentError) as caught:
            attempt(args, kwargs)
        assert caught.value.parameter == parameter


def test_keywords_travel_by_position_where_they_can() -> None:
    signature = Signature.of(add)
    assert signature.pack((), {"b": 2, "a": 1}) == signature.pack((1, 2), {})
    assert signature.correct((1,), {"b": 2}) == ((1, 2), {})
    assert sent(Signature.of(lambda a=1, b=2: 0), b=3) == ((), {"b": 3})


def test_long_calls_bind_too() -> None:
    def f(*numbers: int) -> int: ...

    signature = Signature.of(f)
    for count in (0, 1, 4, 5, 15, 16, 100):
        assert sent(signature, *range(count)) == (tuple(range(count)), {})
    with pytest.raises(ArgumentError):
        signature.unpack(marshal.encode_arguments((*range(50), "a"), {}))


def test_no_arguments_are_an_empty_array() -> None:
    signature = Signature.of(lambda: None)
    assert signature.pack((), {}) == (b"\x90", ())
    assert sent(signature) == ((), {})


def test_without_annotations_anything_passes_untouched_here() -> None:
    signature = Signature.of(lambda a, b=None: None)
    args = (object(), (1, 2))
    assert signature.correct(args, {})[0] is args
    assert signature.correct_return(args) is args
    assert sent(signature, (1, 2), {"a": None}) == (([1, 2], {"a": None}), {})


def test_fitting_objects_pass_as_they_are_in_local_mode() -> None:
    def f(a: int, p: Point, q: Path) -> Point: ...

    signature, point, path = Signature.of(f), Point(1.0), Path("a")
    (_, p, q), _ = signature.correct((1, point, path), {})
    assert p is point
    assert q is path
    assert signature.correct_return(point) is point


def test_an_object_that_holds_itself_passes_in_local_mode_and_cannot_travel() -> None:
    tree = Tree(1)
    tree.children.append(tree)
    assert one(Tree).correct((tree,), {})[0][0] is tree
    assert one(Tree | Item).correct((tree,), {})[0][0] is tree
    with pytest.raises(EncodeError, match="parameter 'a'.*too deeply"):
        one(Tree).pack((tree,), {})


def test_a_large_view_with_gaps_names_its_parameter() -> None:
    with pytest.raises(EncodeError, match="parameter 'a'.*C-contiguous"):
        one(memoryview).pack((memoryview(bytearray(2 * len(BIG)))[::2],), {})


def test_large_values_are_not_copied_on_their_way() -> None:
    def f(a: memoryview, n: int) -> None: ...

    signature = Signature.of(f)
    view = memoryview(bytearray(BIG))
    data, (buffer,) = signature.pack((view, 5), {})
    (got, n), _ = signature.unpack((data, (buffer,)))
    assert n == 5
    assert got.obj is view.obj
    assert len(data) < 40


def test_a_large_keyword_argument_goes_beside_too() -> None:
    def f(*, a: bytes, n: int = 0) -> None: ...

    body = Signature.of(f).pack((), {"a": BIG})
    assert body[1] == (BIG,)
    assert Signature.of(f).unpack(body) == ((), {"a": BIG})


HOSTILE = [
    b"",
    b"\x01",
    b"\x92\x01",
    b"\x92\x01\x02\x03",
    b"\x91" * 100_000,
    b"\xc1",
    b"\xdd\xff\xff\xff\xff",
    b"\x80",
]


@pytest.mark.parametrize("data", HOSTILE, ids=ids)
@pytest.mark.parametrize("buffers", [(), (b"1",)])
def test_rubbish_is_a_peer_error(data: bytes, buffers: Any) -> None:
    with pytest.raises(PeerError):
        Signature.of(add).unpack((data, buffers))


ANYTHING = (
    Signature.of(lambda *a, **k: None),
    Signature.of(add),
    Signature.of(many),
    one(list[Tree | Path | str]),
)


@settings(max_examples=50)
@given(st.binary(max_size=30) | st.binary(max_size=30).map(lambda b: b"\x91" + b), st.booleans())
def test_nothing_else_is_raised_whatever_arrives(data: bytes, beside: bool) -> None:
    body = (data, (b"1234",) if beside else ())
    for signature in ANYTHING:
        for read in (signature.unpack, signature.unpack_return):
            with contextlib.suppress(PeerError, ArgumentError):
                read(body)


def test_an_extension_that_lies_is_a_peer_error() -> None:
    data, _ = one(bytes).pack((BIG,), {})
    with pytest.raises(PeerError):
        one(bytes).unpack((data, ()))
    with pytest.raises(ArgumentError):
        one(int).unpack((data, (BIG,)))


def test_text_that_is_no_utf8_is_a_peer_error() -> None:
    with pytest.raises(PeerError):
        one(str).unpack((b"\x91\xa2\xff\xfe", ()))


def test_a_return_that_does_not_fit_names_the_return() -> None:
    signature = Signature.of(add)
    with pytest.raises(ArgumentError, match=r"add\(\), parameter 'return': expected int, got str 'a'"):
        signature.unpack_return(signature.pack_return("a"))
    with pytest.raises(PeerError):
        signature.unpack_return((b"", ()))


def test_an_error_in_somebodys_class_is_an_argument_error() -> None:
    with pytest.raises(ArgumentError):
        one(Picky).unpack((msgspec.msgpack.encode([{"x": -1}]), ()))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.lists(VALUES, max_size=5), st.dictionaries(st.text(min_size=1), VALUES, max_size=3))
def test_untyped_calls_come_back(args: list[Any], kwargs: dict[str, Any]) -> None:
    signature = Signature.unchecked("f")
    assert sent(signature, *args, **kwargs) == (tuple(args), kwargs)


RICH = one(dict[str, list[tuple[int, float | None, Point]]])
POINTS = st.builds(Point, st.floats(allow_nan=False), st.floats(allow_nan=False), st.none() | st.datetimes())


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.text(),
        st.lists(st.tuples(st.integers(-9, 9), st.none() | st.floats(allow_nan=False), POINTS), max_size=2),
        max_size=2,
    )
)
def test_typed_calls_come_back(value: Any) -> None:
    assert sent(RICH, value) == ((value,), {})
    assert RICH.correct((value,), {}) == ((value,), {})


@settings(max_examples=50)
@given(
    st.one_of(
        st.integers(), st.floats(), st.text(), st.booleans(), st.none(), st.dates(), st.uuids(), st.decimals()
    )
)
def test_scalars_fit_only_their_own_annotation(value: Any) -> None:
    for annotation in (int, float, str, bool, date, UUID, Decimal):
        # An int stands for a float and, being the same number, for a Decimal.
        number = annotation in (float, Decimal) and type(value) in (int, float)
        too_long = isinstance(value, int) and not -(2**63) <= value < 2**64
        try:
            one_of(annotation).pack((value,), {})
        except (ArgumentError, EncodeError):
            assert type(value) is not annotation or too_long
        else:
            assert type(value) is annotation or number


one_of = functools.cache(one)


# --- what can be registered -------------------------------------------------------------------------------


class Bench:
    def method(self, a: int) -> int: ...

    @classmethod
    def of_class(cls, a: int) -> int: ...

    @staticmethod
    def static(a: int) -> int: ...

    def __call__(self, a: int) -> int: ...


async def coroutine(a: int) -> int: ...


@functools.wraps(coroutine)
def wrapped(*args: Any, **kwargs: Any) -> Any: ...


@pytest.mark.parametrize(
    "function",
    [
        Bench().method,
        Bench.of_class,
        Bench.static,
        Bench(),
        coroutine,
        wrapped,
        functools.partial(lambda b, a: 0, 1),
    ],
    ids=ids,
)
def test_all_kinds_of_functions_have_signatures(function: Any) -> None:
    signature = Signature.of(function)
    if not isinstance(function, functools.partial):
        assert signature.text == "(a: int) -> int"
    assert sent(signature, 5) == ((5,), {})


def numbers(n: int) -> Iterator[int]:
    yield from range(n)


def iterable(n: int) -> Iterable[int]:
    yield from range(n)


async def later(n: int) -> AsyncIterator[int]:
    yield n


def stub(n: int) -> Iterator[int]: ...


@pytest.mark.parametrize("function", [numbers, iterable, later, stub], ids=ids)
def test_the_return_of_a_stream_is_checked_value_by_value(function: Any) -> None:
    signature = Signature.of(function)
    assert signature.is_stream
    assert signature.unpack_return(signature.pack_return(5)) == 5
    with pytest.raises(ArgumentError):
        signature.unpack_return(signature.pack_return("a"))


class Yielding:
    def __call__(self, n: int):  # type: ignore[no-untyped-def]
        yield n


def unsaid(n: int):  # type: ignore[no-untyped-def]
    yield n


def test_whatever_yields_is_an_iterator_to_others() -> None:
    stub_text = Signature.of(stub).text
    assert stub_text == "(n: int) -> Iterator[int]"
    for function in (numbers, later):
        assert (Signature.of(function).text, Signature.of(function).fingerprint) == (
            stub_text,
            Signature.of(stub).fingerprint,
        )
    for function in (Yielding(), unsaid, functools.partial(unsaid)):
        signature = Signature.of(function, "it")
        assert (signature.is_stream, signature.text) == (True, "(n: int) -> Iterator[Any]")


def test_what_a_generator_returns_is_not_sent() -> None:
    def summed(n: int) -> Generator[int, None, str]:
        yield n
        return "sum"

    def plain(n: int) -> Generator[int, None, None]:
        yield n

    assert Signature.of(plain).is_stream
    with pytest.raises(UsageError, match="is not sent, and Generator.* hint: yield it as the last value"):
        Signature.of(summed)


def test_only_streams_are_streams() -> None:
    assert not Signature.of(add).is_stream


def unresolved(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        (T, "type variable T"),
        (list[T], "type variable T"),  # type: ignore[valid-type]
        (Opaque, "Opaque"),
        (list[Opaque], "Opaque"),
        (Opaque | int, "Opaque"),
        (Callable[[int], int], "Callable"),
        (type, "type"),
        (complex, "complex"),
        (re.Pattern, "Pattern"),
        (Text, "Text"),
    ],
    ids=ids,
)
def test_unsupported_annotations_name_function_and_parameter(annotation: Any, why: str) -> None:
    with pytest.raises(UsageError, match=rf"f\(\), parameter 'a'.*{why}"):
        one(annotation)


def test_an_unsupported_return_is_refused_too() -> None:
    def f() -> complex: ...

    with pytest.raises(UsageError, match=r"f\(\), parameter 'return'"):
        Signature.of(f)


def test_an_annotation_that_does_not_resolve_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unresolved\(\).*Nowhere"):
        Signature.of(unresolved)


@pytest.mark.parametrize("function", [int, Bench, 5])
def test_what_is_no_function_is_refused(function: Any) -> None:
    with pytest.raises(UsageError, match="is needed"):
        Signature.of(function)


def test_a_function_without_a_readable_signature_is_refused() -> None:
    with pytest.raises(UsageError, match="no signature"):
        Signature.of(max)


# --- text and fingerprint ---------------------------------------------------------------------------------


def spelled(annotation: Any) -> str:
    return one(annotation).text[4:].partition(")")[0]


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Optional[int], "int | None"),
        (Union[None, int], "int | None"),
        (str | int | None, "int | str | None"),
        (Union[int, Optional[str]], "int | str | None"),
        (typing.List[int], "list[int]"),
        (typing.List, "list"),
        (typing.Dict[str, typing.List[int]], "dict[str, list[int]]"),
        (typing.Tuple[int, ...], "tuple[int, ...]"),
        (tuple, "tuple"),
        (Path, "Path"),
        (datetime, "datetime"),
        (Annotated[int, "x"], "int"),
        (UserId, "int"),
        (Literal["a", 1, None], "Literal['a', 1, None]"),
        (Point, "Point"),
        (Sequence[int], "Sequence[int]"),
        (Any, "Any"),
        (None, "None"),
        ("int | None", "int | None"),
    ],
)
def test_annotations_are_spelled_one_way(annotation: Any, text: str) -> None:
    assert spelled(annotation) == text


def test_an_empty_tuple_is_spelled() -> None:
    assert one(tuple[()]).text == "(a: tuple[()]) -> tuple[()]"


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (add, "(a: int, b: int = 5) -> int"),
        (
            many,
            "(a: int, /, b: int, c: int = 3, *rest: int, d: int, e: int = 5, **named: float) -> None",
        ),
        (lambda a, b=1, *, c: 0, "(a, b=1, *, c)"),
        (lambda *a, c: 0, "(*a, c)"),
        (lambda a, /: 0, "(a, /)"),
        (lambda: 0, "()"),
        (lambda a=UNSPEAKABLE, b=Colour.RED, c="x" * 100: 0, "(a=..., b=Colour.RED, c=...)"),
    ],
)
def test_signatures_as_text(function: Any, text: str) -> None:
    assert Signature.of(function).text == text
    with contextlib.suppress(ArgumentError):  # it can be parsed, at least
        convert_words(text, [])


def test_fingerprints_are_the_same_on_every_python() -> None:
    assert Signature.of(add).fingerprint == "fcd991bf3aa09752"
    assert Signature.of(many).fingerprint == "0e4e552097486e2f"
    assert one(dict[str, Path | None]).fingerprint == "f569bd301b2eaad6"


def shapes(p: Point, q: Optional[Point] = None, *, tree: Tree | None = None) -> typing.List[Point]: ...
def unions(a: Union[int, str, None], b: Optional[typing.List[int]] = None) -> typing.Dict[str, float]: ...
def modes(m: Literal["fast", "slow", 3, None, True] = "fast") -> list[dict[str, float]]: ...
def open_ended(*args: int, key: str = "x", **named: Any): ...
def bare(a, /, b=..., *, c=None): ...
def tuples(t: tuple[int, ...], u: tuple[()], v: typing.Tuple[int, str]) -> None: ...
def enums(c: Colour = Colour.RED, level: Level = Level.LOW) -> Colour: ...
def streams(a: Sequence[int], b: typing.Mapping[str, Iterable[float]]) -> Iterator[int]: ...
def ruled(a: Annotated[int, msgspec.Meta(ge=0)], n: UserId, b: Union[int, float]) -> None: ...
def scalars(a: datetime, b: Decimal, c: Path, d: UUID, e: bytes, f: memoryview) -> set[int]: ...
def defaults(a=float("inf"), b=(1, 2), c={"a": 1}, d=Path("a"), e=b"x", f=1.5e300, h=UNSPEAKABLE): ...  # noqa: B006
def records(r: Row, p: Pair, i: Item, s: frozenset[str] = frozenset()) -> Optional[Row]: ...
async def later_on(seconds: float = 1e-9) -> None: ...


@pytest.mark.parametrize(
    ("function", "fingerprint"),
    [
        (shapes, "733d4ee7968b28ed"),
        (unions, "dc73866313ae512d"),
        (modes, "a6536a3f921815f8"),
        (open_ended, "6a83db5f4b2ac9d7"),
        (bare, "a8bf05c4c6fde0a0"),
        (tuples, "8672da696149906a"),
        (enums, "0fe64775f5cfa341"),
        (streams, "c8f66fa7e6bb60ac"),
        (ruled, "46c711ead988e72d"),
        (scalars, "2a671de8ba5a6c8f"),
        (defaults, "3ae03b48ca0a1aeb"),
        (records, "40677d3ab49d9b75"),
        (later_on, "3fffe68e5809bf76"),
    ],
)
def test_a_function_has_the_same_fingerprint_on_3_11_and_3_13(function: Any, fingerprint: str) -> None:
    assert Signature.of(function).fingerprint == fingerprint


def test_a_version_is_part_of_the_fingerprint() -> None:
    plain, first, second = (Signature.of(add, version=version) for version in ("", "1", "2"))
    assert (first.fingerprint, second.fingerprint) == (f"{plain.fingerprint}@1", f"{plain.fingerprint}@2")
    assert Signature("add", inspect.signature(add), version="2").fingerprint == second.fingerprint
    assert first.text == plain.text


def test_fingerprints_do_not_depend_on_how_annotations_are_written() -> None:
    def quoted(a: int | None, b: list[str] = []) -> None: ...  # noqa: B006

    scope: dict[str, Any] = {}
    source = "from typing import *\ndef plain(a: Optional[int], b: List[str] = ()) -> None: ..."
    exec(compile(source, "x", "exec", dont_inherit=True), scope)  # without the __future__ import
    assert Signature.of(quoted).fingerprint == Signature.of(scope["plain"]).fingerprint


OTHERS: list[Any] = [
    lambda a, b: 0,
    lambda b, a: 0,
    lambda a, b=1: 0,
    lambda a, *b: 0,
    lambda a, *, b: 0,
    lambda a, /, b: 0,
    add,
]


def test_fingerprints_differ_where_it_matters() -> None:
    prints = {Signature.of(function).fingerprint for function in OTHERS}
    assert len(prints) == len(OTHERS)
    assert all(len(text) == 16 and int(text, 16) for text in prints)
    assert Signature.of(lambda a=1: 0).fingerprint == Signature.of(lambda a=2: 0).fingerprint


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is of 3.12")
def test_named_aliases_mean_what_they_name() -> None:
    scope: dict[str, Any] = {}
    exec("type Small = int | None\ndef f(a: Small, b: list[Small] | None = None) -> Small: ...", scope)
    signature = Signature.of(scope["f"])
    assert signature.text == "(a: int | None, b: list[int | None] | None = None) -> int | None"
    assert sent(signature, 5, [1, None]) == ((5, [1, None]), {})


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is of 3.12")
def test_an_alias_that_holds_itself_is_refused() -> None:
    scope: dict[str, Any] = {}
    exec("type Json = int | list[Json]\ndef f(a: Json) -> None: ...", scope)
    with pytest.raises(UsageError, match="holds itself"):
        Signature.of(scope["f"])


# --- words of the command line ----------------------------------------------------------------------------

WORDS = [
    ("a: int", "5", 5),
    ("a: int", "-0x1F", -31),
    ("a: int", "007", 7),
    ("a: float", "1e3", 1000.0),
    ("a: str", "5", "5"),
    ("a: str", "b=c", "b=c"),
    ("a: bool", "Yes", True),
    ("a: bool", "0", False),
    ("a: bytes", "\u20ac", "\u20ac".encode()),
    ("a: Decimal", "1.50", Decimal("1.50")),
    ("a: datetime", "2030-01-02T03:04:05", WHEN),
    ("a: date", "2030-01-02", date(2030, 1, 2)),
    ("a: time", "01:02", time(1, 2)),
    ("a: timedelta", "1.5", timedelta(seconds=1.5)),
    ("a: UUID", str(UID), UID),
    ("a: Path", "a/b", Path("a/b")),
    ("a: None", "null", None),
    ("a: int | None", "none", None),
    ("a: int | None", "5", 5),
    ("a: int | str", "5", 5),
    ("a: int | str", "x", "x"),
    ("a: bytes | datetime", "x", b"x"),
    ("a: Literal['a', 1]", "1", 1),
    ("a: Literal[Colour.RED]", "RED", "RED"),
    ("a: list[int]", "[1, 2]", [1, 2]),
    ("a: dict[str, int]", '{"a": 1}', {"a": 1}),
    ("a: Point", '{"x": 1}', {"x": 1}),
    ("a: Point", "x", "x"),
    ("a: Colour", "red", "red"),
    ("a", "5", 5),
    ("a", "x", "x"),
    ("a: Any", '"5"', "5"),
    ("a", "[" * 100_000, "[" * 100_000),
]


@pytest.mark.parametrize(("parameter", "word", "value"), WORDS, ids=ids)
def test_words_become_values(parameter: str, word: str, value: Any) -> None:
    (got,), kwargs = convert_words(f"({parameter}) -> None", [word])
    assert (type(got), got, kwargs) == (type(value), value, {})


@pytest.mark.parametrize(
    ("signature", "words", "expected"),
    [
        ("(a: int, b: int = 5) -> int", ["1", "2"], ((1, 2), {})),
        ("(a: int, b: int = 5) -> int", ["b=2", "1"], ((1,), {"b": 2})),
        ("(a, /, b=1)", ["a=2"], (("a=2",), {})),
        ("(*a: int, b: bool = False)", ["1", "2", "b=on"], ((1, 2), {"b": True})),
        ("(**k: int)", ["x=1"], ((), {"x": 1})),
        ("(a: str)", ["x=1"], (("x=1",), {})),
        ("(a: str)", ["a=x=1"], ((), {"a": "x=1"})),
        ("()", [], ((), {})),
        ("(*, a=..., b)", ["b=1"], ((), {"b": 1})),
    ],
)
def test_words_go_where_the_signature_says(signature: str, words: list[str], expected: Any) -> None:
    assert convert_words(signature, words) == expected


@pytest.mark.parametrize(
    ("signature", "words", "parameter"),
    [
        ("(a: int)", ["x"], "a"),
        ("(a: int)", [], "a"),
        ("(a: int)", ["1", "2"], ""),
        ("(a: int)", ["1", "a=2"], "a"),
        ("(a: bool)", ["maybe"], "a"),
        ("(a: Decimal)", ["x"], "a"),
        ("(a: list[int])", ["5"], "a"),
        ("(a: dict)", ["[]"], "a"),
        ("(a: int | None)", ["x"], "a"),
        ("(a: Literal['a'])", ["b"], "a"),
        ("(a: Literal[{[]: 1}])", ["b"], "a"),
        ("(a: timedelta)", ["1e300"], "a"),
        ("(*, a)", [], "a"),
        ("(*a: int)", ["x"], "a"),
    ],
)
def test_words_that_do_not_fit_are_refused(signature: str, words: list[str], parameter: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        convert_words(signature, words, "f")
    assert (caught.value.function, caught.value.parameter) == ("f", parameter)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "(",
        "(a: int",
        "(): pass\nimport os\ndef g()",
        "\0",
        "(a" + ", a" * 20_000 + ")",
        "(a: " + "(" * 5000,
        "(a: " + "|".join(["int"] * 1000) + ")",
        "(a: x" + ".y" * 1900 + ")",
    ],
)
def test_text_that_is_no_signature_is_a_peer_error(signature: str) -> None:
    with pytest.raises(PeerError):
        convert_words(signature, [])


@settings(max_examples=50)
@given(st.text(max_size=30), st.lists(st.text(max_size=8), max_size=3))
def test_words_raise_nothing_else(text: str, words: list[str]) -> None:
    for signature in (
        text,
        f"({text})",
        "(a: int, b: datetime | Decimal | Path = 1, *c: timedelta, **d: UUID)",
    ):
        with contextlib.suppress(PeerError, ArgumentError):
            convert_words(signature, words)


def test_the_words_of_a_call_fit_the_signature_they_were_made_for() -> None:
    def f(a: int, p: Point, when: datetime, path: Path, c: Colour) -> None: ...

    signature = Signature.of(f)
    words = ["5", '{"x": 1}', "2030-01-02T03:04:05", "a/b", "c=red"]
    body = marshal.encode_arguments(*convert_words(signature.text, words, "f"))
    assert signature.unpack(body) == ((5, Point(1.0), WHEN, Path("a/b")), {"c": Colour.RED})


def test_a_signature_can_be_used_by_many_threads_and_loops() -> None:
    async def check() -> None:
        signature = Signature.of(add)
        bodies = [signature.pack((i, i), {}) for i in range(100)]
        got = await asyncio.gather(*(asyncio.to_thread(signature.unpack, body) for body in bodies))
        assert got == [((i, i), {}) for i in range(100)]

    asyncio.run(check())


class TestArrays:
    @pytest.fixture
    def numpy(self) -> Any:
        return pytest.importorskip("numpy")

    @pytest.mark.parametrize("count", [3, marshal.OUT_OF_BAND])
    def test_arrays_travel_typed_and_untyped(self, numpy: Any, count: int) -> None:
        value = numpy.arange(count, dtype="f4")
        for annotation in (numpy.ndarray, Any, numpy.typing.NDArray[numpy.float32], numpy.ndarray | None):
            signature = one(annotation)
            (got,), _ = sent(signature, value)
            assert numpy.array_equal(got, value)
            assert numpy.array_equal(signature.unpack_return(signature.pack_return(value)), value)
            assert signature.correct((value,), {})[0][0] is value
        (got,), _ = sent(one(dict[str, list[numpy.ndarray]]), {"k": [value]})
        assert numpy.array_equal(got["k"][0], value)

    def test_arrays_are_spelled_without_what_is_inside(self, numpy: Any) -> None:
        assert spelled(numpy.ndarray) == "ndarray"

    def test_numbers_of_numpy_fit_where_numbers_do(self, numpy: Any) -> None:
        for annotation, value in (
            (float, numpy.float32(0.5)),
            (float, numpy.float64(0.5)),
            (int, numpy.int64(5)),
        ):
            assert sent(one(annotation), value) == ((value,), {})
            assert one(annotation).correct((value,), {}) == ((value,), {})

    def test_an_array_does_not_fit_elsewhere(self, numpy: Any) -> None:
        for annotation in (int, list[int], bytes, str):
            with pytest.raises(ArgumentError):
                one(annotation).pack((numpy.zeros(3),), {})
        with pytest.raises(ArgumentError):
            one(numpy.ndarray).pack(([1.0],), {})


def test_words_to_try() -> None:
    assert example_words("(a: int, b: int, c: float, d, e: str = 'x') -> int") == ["2", "3", "1.5", "D"]
    assert example_words("(p: Point) -> int") is None
    assert example_words("() -> None") == []
