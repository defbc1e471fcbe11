"""Values to bodies."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any, NoReturn

from msgspec.msgpack import Encoder, Ext

from dingo_zmq.errors import EncodeError
from dingo_zmq.marshal.body import (
    DTYPE,
    EXTENSION,
    INLINE,
    KINDS,
    MEMORYVIEW,
    NDARRAY,
    OUT_OF_BAND,
    Body,
    Buffer,
    is_large,
)

__all__ = ["encode", "encode_arguments", "encode_inline"]


# Of these msgspec encodes the class itself alone, not what inherits from it.
_BASES: tuple[Any, ...] = (int, float, str, bytes, bytearray)


class _Large(Exception):
    """A large value was met, and there is nowhere to put it: encode again with a collector."""


class _Collector:
    """Gathers the buffers of one body.  With `room` false it refuses large ones by raising `_Large`."""

    __slots__ = ("buffers", "room")

    def __init__(self, *, room: bool) -> None:
        self.buffers: list[Buffer] = []
        self.room = room

    def extension(self, kind: int, content: Buffer, dtype: str | None = None, shape: Sequence[int] = ()) -> Ext:
        if memoryview(content).nbytes < OUT_OF_BAND:
            return Ext(EXTENSION, _encode([kind, INLINE, dtype, shape, content]))
        if not self.room:
            raise _Large
        self.buffers.append(content)
        return Ext(EXTENSION, _encode([kind, len(self.buffers) - 1, dtype, shape, None]))

    def lift(self, value: Any) -> Any:
        """Put an argument or return that is a large binary value itself out of band."""
        return self.extension(KINDS[type(value)], _flat(value)) if is_large(value) else value

    def hook(self, value: Any) -> Any:
        """Encode what msgspec does not know."""
        if isinstance(value, PurePath):
            return str(value)
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ndarray):
            return self.extension(NDARRAY, _array_bytes(numpy, value), value.dtype.str, value.shape)
        if numpy is not None and isinstance(value, numpy.generic):
            return _plain(value.item(), value)
        for base in _BASES:
            if isinstance(value, base):
                return base(value)
        return self.extension(MEMORYVIEW, _flat(_view(value)))


def _plain(item: object, scalar: object) -> object:
    if type(item) is type(scalar):  # a scalar wider than Python's, such as longdouble
        _refuse(scalar)
    return item


def _view(value: Any) -> memoryview:
    try:
        return memoryview(value)
    except TypeError:
        _refuse(value)


def _refuse(value: object, why: str = "cannot travel") -> NoReturn:
    raise EncodeError(f"a value of type {type(value).__qualname__} {why}")


def _flat(value: Buffer) -> Buffer:
    if type(value) is not memoryview:
        return value
    if not value.c_contiguous:
        _refuse(value, "can travel only if it is C-contiguous")
    return value.cast("B") if value.nbytes else b""


def _array_bytes(numpy: Any, array: Any) -> memoryview:
    dtype = array.dtype
    if dtype.hasobject or not DTYPE.fullmatch(dtype.str) or numpy.dtype(dtype.str) != dtype:
        _refuse(array, f"and dtype {dtype} cannot travel")
    # Through uint8, since some dtypes (dates) export no buffer; copies only what is not C-contiguous.
    flat = numpy.ascontiguousarray(array).reshape(-1)
    return memoryview(flat.view(numpy.uint8) if flat.nbytes else b"")


_encode = Encoder().encode

encode_inline: Callable[[Any], bytes] = Encoder(enc_hook=_Collector(room=False).hook).encode
"""
The quick half of `encode`: the data of a body without buffers, or any `Exception`, and then `encode` must be
asked.  Does not look for `is_large` values: who calls it does.
"""


def _encode_body(value: Any, lift: Callable[[_Collector], Any]) -> Body:
    collector = _Collector(room=True)
    try:
        return Encoder(enc_hook=collector.hook).encode(lift(collector)), tuple(collector.buffers)
    except EncodeError:
        raise
    except RecursionError:
        raise EncodeError(f"a {type(value).__qualname__} that is nested too deeply or holds itself") from None
    except OverflowError as exc:
        raise EncodeError(f"whole numbers must fit into 64 bits: {exc}") from exc
    except Exception as exc:
        raise EncodeError(str(exc)) from exc


def encode(value: Any) -> Body:
    """
    Encode one value, such as a return.

    Raises:
        EncodeError: if it cannot travel.
    """
    return _encode_body(value, lambda collector: collector.lift(value))


def encode_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Body:
    """
    Encode the arguments of a task.

    Raises:
        EncodeError: if one of them cannot travel.
    """

    def lift(collector: _Collector) -> Any:
        positional = [collector.lift(value) for value in args]
        if not kwargs:
            return positional
        return {"args": positional, "kwargs": {name: collector.lift(value) for name, value in kwargs.items()}}

    return _encode_body(args, lift)
