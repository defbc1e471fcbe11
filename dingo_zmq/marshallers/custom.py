"""A marshaller around a codec, and the codec of `json-safe`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from dingo_zmq.errors import ArgumentError, EncodeError, PeerError, UsageError
from dingo_zmq.invoke.hints import short
from dingo_zmq.invoke.spelling import spell
from dingo_zmq.invoke.types import Converter
from dingo_zmq.marshal import OUT_OF_BAND
from dingo_zmq.marshallers.jsonable import decode_plain, encode_json
from dingo_zmq.model import check_part, counted
from dingo_zmq.ports import Body, Buffer, Codec, Encoding, Shape

__all__ = ["CustomMarshaller", "JSONSafeCodec"]

_METHODS = ("prepare", "encode_arguments", "decode_arguments", "encode_return", "decode_return")
_BUFFERS = (bytes, bytearray, memoryview)

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[list[str], list[bytes | None]]).decode


class CustomMarshaller:
    """
    A marshaller of which only a `Codec` has to be written.

    A body is ``[words, parts]`` in msgpack: the names of the keyword arguments, which are the last ones, and
    the parts, of which one of 64 KiB and more is nil and travels as a frame of its own.

    Args:
        codec: turns arguments and returns into parts, and back.
        name: what nodes and callers compare; default the name of the codec's class.  Where the marshaller is
            given to an App under a name, that counts.

    Raises:
        UsageError: if the codec lacks a method, or the name cannot be one.
    """

    def __init__(self, codec: Codec, name: str = "") -> None:
        missing = [method for method in _METHODS if not callable(getattr(codec, method, None))]
        if missing:
            raise UsageError(f"{type(codec).__qualname__} is no codec: it has no {', '.join(missing)}")
        self.codec = codec
        self.name = check_part("the name of a marshaller", name or type(codec).__name__)

    def prepare(self, function: Shape) -> Encoding:
        """Prepare the codec for a function, and return the encoding."""
        self.codec.prepare(function)
        return _Custom(self.codec, function)


class _Custom:
    def __init__(self, codec: Codec, function: Shape) -> None:
        self._codec, self._function = codec, function

    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Body:
        names, values = self._function.names(len(args), kwargs), [*args, *kwargs.values()]
        parts = self._checked("encode_arguments", self._codec.encode_arguments(self._function, names, values))
        if len(parts) != len(values):
            raise EncodeError(self._wrong_number("encode_arguments", len(parts), len(values)))
        return _body(list(kwargs), parts)

    def decode_arguments(self, body: Body) -> tuple[tuple[Any, ...], dict[str, Any]]:
        words, parts = _parts(body)
        count = len(parts) - len(words)
        if count < 0 or len(set(words)) < len(words):
            raise PeerError(f"{len(words)} names for {counted(len(parts), 'argument')}, or one twice")
        names = self._function.names(count, words)
        values = list(self._codec.decode_arguments(self._function, names, parts))
        if len(values) != len(parts):
            raise PeerError(self._wrong_number("decode_arguments", len(values), len(parts)))
        return tuple(values[:count]), dict(zip(words, values[count:], strict=True))

    def encode_return(self, value: Any) -> Body:
        return _body([], self._checked("encode_return", self._codec.encode_return(self._function, value)))

    def decode_return(self, body: Body) -> Any:
        _, parts = _parts(body)
        return self._codec.decode_return(self._function, parts)

    def _checked(self, method: str, parts: Any) -> list[Buffer]:
        wrong = f" but {type(parts).__name__}" if isinstance(parts, (*_BUFFERS, str)) else ""
        for part in () if wrong else parts:
            if not isinstance(part, _BUFFERS):
                wrong = f" but has a {type(part).__name__} in it"
        if wrong:
            raise EncodeError(
                f"what {type(self._codec).__qualname__}.{method} returned is no list of bytes,{wrong}"
            )
        return list(parts)

    def _wrong_number(self, method: str, got: int, wanted: int) -> str:
        return (
            f"{type(self._codec).__qualname__}.{method} returned {counted(got, 'part')} "
            f"for {counted(wanted, 'argument')}; hint: one for each"
        )


def _body(words: list[str], parts: list[Buffer]) -> Body:
    large = [memoryview(part).nbytes >= OUT_OF_BAND for part in parts]
    small = [None if is_large else bytes(part) for part, is_large in zip(parts, large, strict=True)]
    return _pack((words, small)), tuple([part for part, is_large in zip(parts, large, strict=True) if is_large])


def _parts(body: Body) -> tuple[list[str], list[Buffer]]:
    data, buffers = body
    words, small = _unpack(data)
    if small.count(None) != len(buffers):
        raise PeerError(f"{counted(len(buffers), 'buffer')} for {counted(small.count(None), 'large part')}")
    beside = iter(buffers)
    return words, [next(beside) if part is None else part for part in small]


class JSONSafeCodec:
    """Each argument is a JSON document of its own, decoded straight into its annotated type."""

    def __init__(self) -> None:
        self._readers: WeakKeyDictionary[Shape, dict[str, Callable[[Any], Any]]] = WeakKeyDictionary()

    def prepare(self, function: Shape) -> None:
        """
        Compile a decoder for each parameter and the return.

        Raises:
            UsageError: for an annotation whose values cannot be checked.
        """
        readers = {}
        for name, annotation in function.hints.items():
            try:
                readers[name] = Converter(annotation).json_reader()
            except Exception as exc:
                raise UsageError(f"{function.name}(), {name!r}: this annotation has no JSON: {exc}") from exc
        self._readers[function] = readers

    def encode_arguments(self, function: Shape, names: Sequence[str], values: Sequence[Any]) -> list[Buffer]:
        """Return a document for each argument."""
        return [encode_json(value) for value in values]

    def decode_arguments(self, function: Shape, names: Sequence[str], parts: Sequence[Buffer]) -> list[Any]:
        """Return the argument in each document."""
        return [self._read(function, name, part) for name, part in zip(names, parts, strict=True)]

    def encode_return(self, function: Shape, value: Any) -> list[Buffer]:
        """Return one document."""
        return [encode_json(value)]

    def decode_return(self, function: Shape, parts: Sequence[Buffer]) -> Any:
        """Return the value in the only document there is."""
        if len(parts) != 1:
            raise PeerError(
                f"a return is 1 part here, and there are {len(parts)}; hint: decode_return of your own"
            )
        return self._read(function, "return", parts[0])

    def _read(self, function: Shape, name: str, part: Buffer) -> Any:
        read = self._readers[function].get(name)
        if read is None:
            return decode_plain(part)
        try:
            return read(part)
        except Exception:
            got = decode_plain(part)
            raise ArgumentError(function.name, name, spell(function.hints[name]), short(got)) from None
