"""Bodies to values.  Whatever arrives, decoding raises `PeerError` and nothing else."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec.msgpack import Decoder

from dingo_zmq.errors import PeerError
from dingo_zmq.marshal.body import (
    BYTEARRAY,
    BYTES,
    DTYPE,
    EXTENSION,
    INLINE,
    MEMORYVIEW,
    NDARRAY,
    Body,
    Buffer,
)

__all__ = ["decode", "guard", "is_extension", "read_extension", "split_arguments"]

_T = TypeVar("_T")

_Header: TypeAlias = tuple[int, int, str | None, tuple[int, ...], memoryview | None]


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    args: list[msgspec.Raw]
    kwargs: dict[str, msgspec.Raw]


_read_header = Decoder(_Header).decode
# Where the code of an extension stands: behind its length, which takes what the first byte says.
_CODE_AT = {0xC7: 2, 0xC8: 3, 0xC9: 5, 0xD4: 1, 0xD5: 1, 0xD6: 1, 0xD7: 1, 0xD8: 1}

_read_arguments = Decoder(list[msgspec.Raw]).decode
_read_call = Decoder(_Call).decode


def guard(read: Callable[[Any], _T], data: Buffer) -> _T:
    """Decode, and raise PeerError whatever goes wrong."""
    try:
        return read(data)
    except PeerError:
        raise
    except Exception as exc:
        raise PeerError(f"cannot decode a body: {exc}") from exc


def decode(body: Body) -> Any:
    """
    Decode a value for which no type is known; tuples come back as lists.

    Raises:
        PeerError: whatever is wrong with the body; nothing else is raised.
    """
    data, buffers = body
    return guard(Decoder(ext_hook=partial(read_extension, buffers)).decode, data)


def split_arguments(data: Buffer) -> tuple[list[msgspec.Raw], dict[str, msgspec.Raw]]:
    """
    Return the positional and the keyword arguments in `data`, each still encoded.

    Raises:
        PeerError: if these are no arguments; nothing else is raised.
    """
    if not data:
        raise PeerError("cannot decode a body: it is empty")
    if 0x80 <= data[0] <= 0x8F:  # noqa: PLR2004 - a short map in msgpack
        call = guard(_read_call, data)
        return call.args, call.kwargs
    return guard(_read_arguments, data), {}


def is_extension(data: Buffer) -> bool:
    """Whether an encoded value is, as a whole, an extension of ours."""
    place = _CODE_AT.get(data[0], 0) if data else 0
    return 0 < place < len(data) and data[place] == EXTENSION


def read_extension(buffers: Sequence[Buffer], code: int, data: memoryview) -> Any:
    """
    Return the binary value that an extension stands for; a bytes-like one is copied, others are views.

    Raises:
        PeerError: if it is none of ours, or does not fit its buffer; nothing else is raised.
    """
    if code != EXTENSION:
        raise PeerError(f"unknown extension {code} in a body")
    kind, index, dtype, shape, content = guard(_read_header, data)
    found: Buffer | None = content
    if index != INLINE:
        found = buffers[index] if 0 <= index < len(buffers) else None
    if found is None:
        raise PeerError(f"an extension names buffer {index} of {len(buffers)}")
    if kind == BYTES:
        return bytes(found)
    if kind == BYTEARRAY:
        return bytearray(found)
    view = memoryview(found)
    view = view.cast("B") if view.nbytes else memoryview(b"")
    if kind == MEMORYVIEW:
        return view
    if kind == NDARRAY:
        return _array(view, dtype or "", shape)
    raise PeerError(f"unknown kind {kind} of extension in a body")


def _array(view: memoryview, dtype: str, shape: tuple[int, ...]) -> Any:
    if not DTYPE.fullmatch(dtype) or min(shape, default=0) < 0:
        raise PeerError(f"an array of dtype {dtype[:40]!r} and shape {shape[:8]} cannot be")
    try:
        numpy = importlib.import_module("numpy")
    except ImportError:
        return view
    try:
        kind = numpy.dtype(dtype)
        if kind.itemsize * math.prod(shape) == view.nbytes:
            return numpy.ndarray(shape, kind, buffer=view)
    except (TypeError, ValueError, OverflowError, MemoryError) as exc:
        raise PeerError(f"an array of dtype {dtype!r} and shape {shape[:8]} cannot be: {exc}") from exc
    raise PeerError(f"an array of dtype {dtype!r} and shape {shape[:8]} does not fit {view.nbytes} bytes")
