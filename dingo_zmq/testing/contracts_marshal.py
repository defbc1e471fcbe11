"""What every marshaller has to keep to, as tests for its author to inherit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dingo_zmq.errors import ArgumentError, EncodeError, PeerError
from dingo_zmq.invoke import Signature
from dingo_zmq.marshal import Header, Kind, compose, decompose
from dingo_zmq.model import check_part
from dingo_zmq.ports import Body, Marshaller
from dingo_zmq.registry import Registry

__all__ = ["MarshallerContract"]

_BUFFERS = (bytes, bytearray, memoryview)
_LARGE = 300_000
_THREADS, _ROUNDS = 4, 50


class MarshallerContract:
    """
    Tests of a marshaller; inherit and say which::

        class TestMine(MarshallerContract):
            def marshaller(self):
                return CustomMarshaller(MyCodec())

    Attributes:
        values: annotations, and values of each that travel; yours may be fewer, at least one.
        stranger: a value that cannot travel, or None where there is none.
    """

    values: Iterable[tuple[Any, Any]] = (
        (int, 0),
        (int, -(2**40)),
        (float, 0.1),
        (bool, True),
        (str, "ä\0\n"),
        (str, ""),
        (bytes, b"\0\xff"),
        (bytes, b"x" * _LARGE),
        (list[int], [1, 2]),
        (dict[str, float], {"a": 1.5}),
        (int | None, None),
    )
    stranger: Any = open

    def marshaller(self) -> Marshaller:
        """Return the marshaller that is to be tested, a new one each time."""
        raise NotImplementedError("say which marshaller: def marshaller(self): return ...")

    def function(self, annotation: Any) -> Signature:
        """Return what a function of these parameters has: ``(first, second, *, third) -> annotation``."""

        def taken(first: Any, second: Any, *, third: Any) -> Any: ...

        taken.__annotations__ = dict.fromkeys(("first", "second", "third", "return"), annotation)
        return Registry().register("taken", taken, marshaller=_Named(self.marshaller())).signature

    # ------------------------------------------------------------------ there and back

    def test_its_name_can_be_told(self) -> None:
        """The name is one that stands in topics and headers."""
        check_part("the name", self.marshaller().name)

    def test_arguments_come_back(self) -> None:
        """Positional and keyword arguments arrive as they were, and of their type."""
        for annotation, value in self.values:
            made = self.function(annotation)
            args, kwargs = made.unpack(_sound(made.pack((value, value), {"third": value})))
            assert (args, kwargs) == ((value, value), {"third": value})
            assert all(type(got) is type(value) for got in (*args, kwargs["third"]))

    def test_returns_come_back(self) -> None:
        """So does what a function returns."""
        for annotation, value in self.values:
            made = self.function(annotation)
            got = made.unpack_return(_sound(made.pack_return(value)))
            assert (type(got), got) == (type(value), value)

    def test_a_body_can_be_one_string_of_bytes(self) -> None:
        """Data and buffers, put together and taken apart, are as good as before."""
        for annotation, value in self.values:
            made = self.function(annotation)
            data, buffers = made.pack_return(value)
            _, (head, *rest) = decompose(compose(Header(Kind.REPORT, "1", "taken"), [data, *buffers]))
            assert made.unpack_return((head, tuple(rest))) == value

    def test_functions_are_kept_apart(self) -> None:
        """What is prepared for one function does not change another."""
        marshaller = self.marshaller()
        shapes = [self.function(annotation) for annotation, _ in self.values]
        encodings = [marshaller.prepare(shape) for shape in shapes]
        for encoding, (_, value) in reversed(list(zip(encodings, self.values, strict=True))):
            encoding.decode_return(_sound(encoding.encode_return(value)))

    def test_threads_may_use_it_together(self) -> None:
        """Many threads at a time get each its own values back."""
        (annotation, value), *_ = self.values
        made = self.function(annotation)

        def often(_: int) -> bool:
            return all(made.unpack_return(made.pack_return(value)) == value for _ in range(_ROUNDS))

        with ThreadPoolExecutor(_THREADS) as pool:
            assert all(pool.map(often, range(_THREADS)))

    # ------------------------------------------------------------------ what goes wrong

    def test_what_cannot_travel_is_an_encode_error(self) -> None:
        """It is told at the caller, and at the node with the return."""
        if self.stranger is None:
            return
        made = self.function(Any)
        args, kwargs = (self.stranger, self.stranger), {"third": self.stranger}
        assert _raised(lambda: made.pack(args, kwargs)) is EncodeError
        assert _raised(lambda: made.pack_return(self.stranger)) is EncodeError

    def test_whatever_arrives_is_decoded_or_refused(self) -> None:
        """Bodies cut at each byte, with other bytes in them, and rubbish: nothing else is ever raised."""
        (annotation, value), *_ = self.values
        made = self.function(annotation)
        args, buffers = made.pack((value, value), {"third": value})
        report, beside = made.pack_return(value)
        for data in _spoiled(args):
            assert _raised(lambda: made.unpack((data, buffers))) in (None, PeerError, ArgumentError)  # noqa: B023
        for data in _spoiled(report):
            assert _raised(lambda: made.unpack_return((data, beside))) in (None, PeerError, ArgumentError)  # noqa: B023


class _Named:
    """A marshaller under a name that no other has, so that also a built-in one is used as an object."""

    def __init__(self, marshaller: Marshaller) -> None:
        self.name, self.prepare = "under test", marshaller.prepare


def _sound(body: Body) -> Body:
    data, buffers = body
    assert type(data) is bytes
    assert type(buffers) is tuple
    assert all(isinstance(buffer, _BUFFERS) for buffer in buffers)
    return body


def _spoiled(data: bytes) -> Iterable[bytes]:
    step = max(1, len(data) // 100)
    for at in range(0, len(data), step):
        yield data[:at]
        yield data[:at] + b"\xff" + data[at + 1 :]
        yield data[:at] + b"\0" + data[at:]
    yield from (b"\xff" * 50, b"\0" * 50, data + data, b"[" * 100_000, b"\x91" * 100_000)


def _raised(call: Callable[[], object]) -> type[BaseException] | None:
    try:
        call()
    except Exception as exc:
        return type(exc)
    return None
