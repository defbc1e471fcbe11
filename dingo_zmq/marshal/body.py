"""What a body is made of."""

from __future__ import annotations

import re
from typing import Final

from dingo_zmq.ports import Body, Buffer

__all__ = [
    "BYTEARRAY",
    "BYTES",
    "DTYPE",
    "EXTENSION",
    "INLINE",
    "KINDS",
    "MEMORYVIEW",
    "NDARRAY",
    "OUT_OF_BAND",
    "Body",
    "Buffer",
    "frozen",
    "is_large",
    "size",
]

OUT_OF_BAND: Final = 64 * 1024
"""Binary values of at least so many bytes travel as buffers of their own."""

EXTENSION: Final = 1
INLINE: Final = -1
BYTES, BYTEARRAY, MEMORYVIEW, NDARRAY = range(4)
KINDS: Final[dict[type, int]] = {bytes: BYTES, bytearray: BYTEARRAY, memoryview: MEMORYVIEW}
DTYPE: Final = re.compile(r"[<>|][biufcmMSUV]\d{1,9}(\[\d{0,9}[A-Za-z]{1,2}\])?")
"""The array types that travel: no objects and nothing with fields."""


def size(body: Body) -> int:
    """Return the bytes of a body, buffers included."""
    data, buffers = body
    return len(data) + sum(memoryview(buffer).nbytes for buffer in buffers)


def frozen(body: Body) -> Body:
    """Return a body whose buffers nobody can change any more, copied where need be."""
    data, buffers = body
    return data, tuple([buffer if _is_fixed(buffer) else bytes(buffer) for buffer in buffers])


def _is_fixed(buffer: Buffer) -> bool:
    return isinstance(buffer.obj if isinstance(buffer, memoryview) else buffer, bytes)


def is_large(value: object) -> bool:
    """Whether `value` is bytes, a bytearray or a memoryview that travels as a buffer of its own."""
    if type(value) is memoryview:
        return value.nbytes >= OUT_OF_BAND
    return type(value) in KINDS and len(value) >= OUT_OF_BAND  # type: ignore[arg-type]
