"""Header, compose, decompose: what arrives is checked, whatever it is."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingo_zmq.errors import PeerError, UsageError
from dingo_zmq.marshal import Header, Kind, compose, decompose
from dingo_zmq.marshallers import CustomMarshaller, JSONSafeCodec

HEADER = Header(Kind.TASK, "12", "scan", "json")
PARTS = [b"one", b"", b"three"]
GOOD = compose(HEADER, PARTS)
COUNT_AT = 4 + 3 + 5 + 5

texts = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/"), min_size=1, max_size=60)


@given(st.sampled_from(Kind), texts, texts, texts, st.lists(st.binary(max_size=50), max_size=6))
def test_what_was_composed_comes_back(kind: Kind, id: str, name: str, marshaller: str, parts: list[bytes]) -> None:
    got, back = decompose(compose(Header(kind, id, name, marshaller), parts))
    assert got == Header(kind, id, name, marshaller, tuple(map(len, parts)))
    assert back == parts


def test_the_bytes_are_as_the_table_says() -> None:
    assert (
        b"dz\x01\x01\x0212\x04scan\x04json\x00\x00\x00\x03" + struct.pack(">QQQ", 3, 0, 5) + b"onethree"
    ) == GOOD


def test_lengths_are_filled_in_whatever_the_header_says() -> None:
    header, _ = decompose(compose(Header(Kind.REPORT, "1", "f", lengths=(7, 7)), [b"x"]))
    assert header.lengths == (1,)


def test_a_body_with_buffers_goes_through() -> None:
    class Halves(JSONSafeCodec):
        def encode_return(self, function: Any, value: bytes) -> list[Any]:
            return [b"small", value]

    encoding = CustomMarshaller(Halves()).prepare(Shape())
    data, buffers = encoding.encode_return(bytes(100_000))
    _, (data_back, *buffers_back) = decompose(compose(HEADER, [data, *buffers]))
    assert (data_back, tuple(buffers_back)) == (data, buffers)
    assert len(buffers) == 1


class Shape:
    name, text = "f", "()"

    def __init__(self) -> None:
        self.hints: dict[str, Any] = {}

    def names(self, count: int, words: Any = ()) -> list[str]:
        return ["x"] * count


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_every_kind_of_bytes_is_read(buffer: Any) -> None:
    assert decompose(buffer(GOOD))[1] == PARTS


@pytest.mark.parametrize("more", [b"\0", b"x" * 1000, GOOD])
def test_rubbish_behind_it(more: bytes) -> None:
    with pytest.raises(PeerError, match="there are"):
        decompose(GOOD + more)


@pytest.mark.parametrize("lengths", [(2**64 - 1, 0, 5), (3, 2**63, 5), (4, 0, 5), (3, 0, 4), (0, 0, 0)])
def test_lengths_that_lie(lengths: tuple[int, ...]) -> None:
    at = COUNT_AT + 4
    with pytest.raises(PeerError, match="bytes of parts"):
        decompose(GOOD[:at] + struct.pack(">QQQ", *lengths) + GOOD[at + 24 :])


@pytest.mark.parametrize("count", [4, 2**16, 2**32 - 1])
def test_a_huge_count(count: int) -> None:
    with pytest.raises(PeerError):
        decompose(GOOD[:COUNT_AT] + struct.pack(">I", count) + GOOD[COUNT_AT + 4 :])


@pytest.mark.parametrize(
    ("at", "byte", "text"),
    [
        (0, b"D", "no header of ours"),
        (2, b"\x02", "version 2"),
        (3, b"\x00", "not a valid Kind"),
        (3, b"\x09", "not a valid Kind"),
        (5, b"/", "without '/'"),
        (5, b"\n", "id in a header"),
        (5, b"\xff", "utf-8"),
    ],
)
def test_fields_that_cannot_be(at: int, byte: bytes, text: str) -> None:
    with pytest.raises(PeerError, match=text):
        decompose(GOOD[:at] + byte + GOOD[at + 1 :])


def test_an_empty_text() -> None:
    with pytest.raises(PeerError, match="id in a header"):
        decompose(GOOD[:4] + b"\0" + GOOD[7:])


@given(st.binary(max_size=200))
def test_anything_at_all(data: bytes) -> None:
    with pytest.raises(PeerError):
        decompose(data)


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=9))
def test_a_good_one_with_other_bytes_in_it(at: int, other: bytes) -> None:
    try:
        header, parts = decompose(GOOD[:at] + other + GOOD[at + len(other) :])
    except PeerError:
        return
    assert header.lengths == tuple(map(len, parts))


@pytest.mark.parametrize(
    "fields", [(3, "1", "f"), (Kind.TASK, "", "f"), (Kind.TASK, "1", "a/b"), (Kind.TASK, "1", "f", "ü" * 200)]
)
def test_a_header_that_makes_no_sense_cannot_be_made(fields: Any) -> None:
    with pytest.raises(UsageError):
        Header(*fields)
