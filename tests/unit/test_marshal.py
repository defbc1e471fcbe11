"""Bodies: what goes in comes out, large binary values go beside it, and rubbish is a PeerError."""

from __future__ import annotations

import array
import contextlib
import enum
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dingo_zmq import marshal
from dingo_zmq.errors import EncodeError, PeerError
from dingo_zmq.model import Code, Failure

BIG = marshal.OUT_OF_BAND

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Number(int):
    pass


class Colour(enum.Enum):
    RED = "red"


@settings(max_examples=50)
@given(VALUES)
def test_what_is_encoded_comes_back(value: Any) -> None:
    assert marshal.decode(marshal.encode(value)) == value


@settings(max_examples=50)
@given(st.lists(VALUES, max_size=4), st.dictionaries(st.text(), VALUES, max_size=3))
def test_arguments_come_back_each_by_itself(args: list[Any], kwargs: dict[str, Any]) -> None:
    data, buffers = marshal.encode_arguments(tuple(args), kwargs)

    positional, named = marshal.split_arguments(data)

    assert buffers == ()
    assert [marshal.decode((bytes(raw), ())) for raw in positional] == args
    assert {name: marshal.decode((bytes(raw), ())) for name, raw in named.items()} == kwargs


def test_positional_arguments_are_a_plain_array() -> None:
    assert marshal.encode_arguments((1, "a"), {}) == (b"\x92\x01\xa1a", ())


def test_keyword_arguments_make_it_a_map() -> None:
    data, _ = marshal.encode_arguments((1,), {"b": 2})
    assert msgspec.msgpack.decode(data) == {"args": [1], "kwargs": {"b": 2}}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_large_value_goes_beside_uncopied(kind: Any) -> None:
    value = kind(b"x" * BIG)

    data, buffers = marshal.encode(value)

    assert len(data) < 30
    assert len(buffers) == 1
    assert memoryview(buffers[0]).obj is memoryview(value).obj
    assert marshal.size((data, buffers)) == len(data) + BIG


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_large_value_comes_back_as_its_kind(kind: Any) -> None:
    value = kind(b"x" * BIG)
    got = marshal.decode(marshal.encode(value))
    assert (type(got), got) == (kind, value)


def test_a_view_is_not_copied_when_it_comes_back() -> None:
    data, (buffer,) = marshal.encode(memoryview(bytearray(BIG)))
    assert marshal.decode((data, (buffer,))).obj is memoryview(buffer).obj


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_small_value_stays_inline(kind: Any) -> None:
    data, buffers = marshal.encode(kind(b"x" * (BIG - 1)))
    assert buffers == ()
    assert marshal.decode((data, ())) == b"x" * (BIG - 1)


def test_large_arguments_go_beside_in_their_order() -> None:
    first, second = b"1" * BIG, b"2" * BIG
    data, buffers = marshal.encode_arguments((first, 5), {"k": second})
    assert buffers == (first, second)
    assert marshal.decode((data, buffers)) == {"args": [first, 5], "kwargs": {"k": second}}


@pytest.mark.parametrize("count", [3, BIG])
def test_other_buffer_objects_come_back_as_views_wherever_they_stand(count: int) -> None:
    numbers = array.array("d", [1.5] * count)
    data, buffers = marshal.encode([{"k": numbers}])
    got = marshal.decode((data, buffers))[0]["k"]
    assert len(buffers) == (count == BIG)
    assert isinstance(got, memoryview)
    assert bytes(got) == numbers.tobytes()


@pytest.mark.parametrize("count", [0, BIG])
def test_a_view_of_numbers_travels_as_its_bytes(count: int) -> None:
    numbers = memoryview(array.array("d", [1.5] * count))
    got = marshal.decode(marshal.encode(numbers))
    assert bytes(got) == numbers.tobytes()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Number(5), 5),
        (Colour.RED, "red"),
        (Path("a/b"), "a/b"),
        ((1, {2}), [1, [2]]),
        (datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)),
    ],
)
def test_known_objects_travel(value: Any, expected: Any) -> None:
    assert marshal.decode(marshal.encode(value)) == expected


def nested() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "type object cannot travel"),
        (2**64, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        ("\ud800", "surrogates"),
        (nested(), "nested too deeply"),
        (3j, "complex"),
        (memoryview(bytearray(2 * BIG))[::2], "C-contiguous"),
        (lambda: 0, "function"),
    ],
)
def test_what_cannot_travel_is_an_encode_error(value: Any, why: str) -> None:
    with pytest.raises(EncodeError, match=why):
        marshal.encode(value)


def header(*fields: Any) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(1, msgspec.msgpack.encode(fields)))


HOSTILE = {
    "nothing": b"",
    "cut off": b"\x92\x01",
    "trailing rubbish": b"\x01\x01",
    "too deep": b"\x91" * 100_000,
    "a long array": b"\xdd\xff\xff\xff\xff\x01",
    "no UTF-8": b"\xa2\xff\xfe",
    "a list as key": b"\x81\x81\x01\x02\x03",
    "a moment that is none": b"\xc7\x0c\xff" + b"\xff" * 12,
    "another extension": b"\xd4\x05\x00",
    "an extension without a header": b"\xd4\x01\x00",
    "no such buffer": header(0, 1, None, [], None),
    "a negative buffer": header(0, -2, None, [], None),
    "neither inline nor beside": header(0, -1, None, [], None),
    "no such kind": header(9, 0, None, [], None),
    "an array of objects": header(3, 0, "|O8", [1], None),
    "an array of rubbish": header(3, 0, "i4,f8", [1], None),
    "an array of nothing": header(3, 0, None, [1], None),
    "an array of a negative length": header(3, 0, "<i4", [-1], None),
    "a header too long": header(0, 0, None, [], None, 1),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_rubbish_is_a_peer_error(data: bytes) -> None:
    with pytest.raises(PeerError):
        marshal.decode((data, (b"1234",)))


@settings(max_examples=50)
@given(st.binary(max_size=40))
def test_nothing_but_peer_error_is_raised_whatever_arrives(data: bytes) -> None:
    for read in (marshal.decode, marshal.decode_failure, marshal.decode_progress):
        with contextlib.suppress(PeerError):
            read((data, (b"1234",)))
    with contextlib.suppress(PeerError):
        marshal.split_arguments(data)


@pytest.mark.parametrize("data", [b"\x01", b"\x81\xa4args\x90", b"\x92\x01", b"\x80", b"\x82\x01\x90\x02\x80"])
def test_what_are_no_arguments_is_a_peer_error(data: bytes) -> None:
    with pytest.raises(PeerError):
        marshal.split_arguments(data)


@pytest.mark.parametrize("size", [1, 2, 5, 15, 300, 70_000])
def test_an_extension_is_known_by_its_first_bytes(size: int) -> None:
    ours = msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"x" * size))
    other = msgspec.msgpack.encode(msgspec.msgpack.Ext(2, b"x" * size))
    assert (marshal.is_extension(ours), marshal.is_extension(other)) == (True, False)
    assert not marshal.is_extension(b"")


FAILURE = Failure(Code.RAISED, "no", "builtins.ValueError", "Traceback ...")


def test_a_failure_comes_back_with_what_its_receiver_knows() -> None:
    got = marshal.decode_failure(marshal.encode_failure(FAILURE), "bench-3", 2)
    assert got == Failure(Code.RAISED, "no", "builtins.ValueError", "Traceback ...", "bench-3", 2)


def test_an_unknown_code_becomes_generic() -> None:
    assert marshal.decode_failure((msgspec.msgpack.encode([99, "", "", ""]), ())).code == Code.GENERIC


@settings(max_examples=50)
@given(st.text(st.characters(), max_size=40))
def test_any_text_can_be_in_a_failure(text: str) -> None:
    got = marshal.decode_failure(marshal.encode_failure(Failure(Code.RAISED, text, text, text)))
    assert got.message == text.encode(errors="backslashreplace").decode()


@pytest.mark.parametrize("middle", ["x", "\u20ac", "\ud800"])
def test_long_texts_lose_their_middle(middle: str) -> None:
    text = f"head {middle * 500_000} tail"
    got = marshal.decode_failure(marshal.encode_failure(Failure(Code.RAISED, text, "", text)))
    assert len(got.message.encode()) <= 4096
    assert len(got.traceback.encode()) <= 65536
    assert len(got.traceback.encode()) > 65000
    assert got.traceback.startswith("head ")
    assert got.message.endswith(" tail")


@pytest.mark.parametrize("pair", [(None, None), (0.5, None), (1.0, "half"), (0.0, "\u20ac")])
def test_progress_comes_back(pair: Any) -> None:
    assert marshal.decode_progress(marshal.encode_progress(*pair)) == pair


@pytest.mark.parametrize("pair", [("1", None), (True, None), (1.0, 5)])
def test_progress_of_a_wrong_type_is_an_encode_error(pair: Any) -> None:
    with pytest.raises(EncodeError):
        marshal.encode_progress(*pair)


def test_numpy_is_not_loaded_by_us() -> None:
    code = "import sys, dingo_zmq.registry, dingo_zmq.marshal as m; m.encode([1]); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_array_is_a_view_of_its_bytes_where_there_is_no_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    got = marshal.decode((header(3, 0, "<i4", [1], None), (b"1234",)))
    assert bytes(got) == b"1234"


class TestArrays:
    @pytest.fixture
    def numpy(self) -> Any:
        return pytest.importorskip("numpy")

    @pytest.mark.parametrize("dtype", ["f8", ">i2", "?", "c16", "M8[ns]", "m8[3D]", "S3", "U2", "f2"])
    def test_an_array_comes_back(self, numpy: Any, dtype: str) -> None:
        for shape in ((), (0,), (3,), (2, 0, 3), (2, 3)):
            value = numpy.zeros(shape, dtype)
            got = marshal.decode(marshal.encode({"k": [value]}))["k"][0]
            assert (got.dtype, got.shape) == (value.dtype, shape)
            assert numpy.array_equal(got, value)

    def test_a_large_array_is_copied_neither_going_nor_coming(self, numpy: Any) -> None:
        value = numpy.arange(BIG, dtype="i4").reshape(2, -1)
        data, buffers = marshal.encode([value])
        got = marshal.decode((data, buffers))[0]
        assert numpy.shares_memory(got, value)
        assert got.shape == value.shape

    def test_an_array_in_another_order_is_copied(self, numpy: Any) -> None:
        value = numpy.arange(BIG, dtype="i4").reshape(2, -1).T
        assert numpy.array_equal(marshal.decode(marshal.encode(value)), value)

    def test_numbers_of_numpy_travel_as_numbers(self, numpy: Any) -> None:
        value = [numpy.int64(5), numpy.float32(0.5), numpy.bool_(True), numpy.str_("a")]
        assert marshal.decode(marshal.encode(value)) == [5, 0.5, True, "a"]

    def test_objects_and_fields_are_refused(self, numpy: Any) -> None:
        for value in (numpy.array([object()]), numpy.zeros(2, "i4,f8"), numpy.longdouble(1)):
            with pytest.raises(EncodeError, match="cannot travel"):
                marshal.encode(value)

    @pytest.mark.parametrize(
        ("dtype", "shape"), [("<i4", [2]), ("<i4", [2**62, 4]), ("<i4", [1] * 99), ("<i3", [1]), ("|S0", [9])]
    )
    def test_an_array_that_does_not_fit_is_a_peer_error(self, numpy: Any, dtype: str, shape: Any) -> None:
        with pytest.raises(PeerError):
            marshal.decode((header(3, 0, dtype, shape, None), (b"1234",)))
