"""
Tasks and reports as one byte string, for adapters that have a stream of bytes and no frames.

::

    magic       2 bytes   "dz"
    version     1 byte    1
    type        1 byte    1 task, 2 report
    id          1 byte and as many bytes of UTF-8
    name        likewise, of the function
    marshaller  likewise, of the parts
    count       4 bytes   of parts
    lengths     8 bytes   for each part
    parts       one after the other, and nothing behind them

Numbers are unsigned, the most significant byte first.  The parts are whatever the two sides agree on, such as the
data of a body and then its buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from dingo_zmq.errors import PeerError, UsageError
from dingo_zmq.marshal.body import Buffer
from dingo_zmq.model import check_part, plain

__all__ = ["Header", "Kind", "compose", "decompose"]

MAGIC: Final = b"dz"
VERSION: Final = 1
_COUNT, _LENGTH = struct.Struct(">I"), struct.Struct(">Q")
_BYTES_MOST = 255


class Kind(IntEnum):
    """What the parts are of."""

    TASK = 1
    REPORT = 2


@dataclass(frozen=True, slots=True)
class Header:
    """
    What stands before the parts.

    Args:
        type: of what the parts are.
        id: of the task; (name, id) is its identity.
        name: of the function.
        marshaller: that made the parts.
        lengths: bytes of each part; `compose` fills them in.

    Raises:
        UsageError: for a text that cannot be part of a topic, or takes more than 255 bytes.
    """

    type: Kind
    id: str
    name: str
    marshaller: str = "msgpack"
    lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.type not in (Kind.TASK, Kind.REPORT):
            raise UsageError(f"the type of a header must be Kind.TASK or Kind.REPORT, not {self.type!r}")
        for field in ("id", "name", "marshaller"):
            if len(check_part(f"{field} in a header", getattr(self, field)).encode()) > _BYTES_MOST:
                raise UsageError(f"{field} in a header takes more than {_BYTES_MOST} bytes")


def compose(header: Header, parts: Sequence[Buffer]) -> bytes:
    """Return header and parts as one byte string."""
    texts = [text.encode() for text in (header.id, header.name, header.marshaller)]
    views = [memoryview(part) for part in parts]
    return b"".join(
        [
            MAGIC,
            bytes((VERSION, header.type)),
            *[bytes((len(text),)) + text for text in texts],
            _COUNT.pack(len(views)),
            *[_LENGTH.pack(view.nbytes) for view in views],
            *views,
        ]
    )


def decompose(data: Buffer) -> tuple[Header, list[bytes]]:
    """
    Return what `compose` was given, with the lengths of the parts in the header.

    Raises:
        PeerError: whatever is wrong with the bytes; nothing else is raised.
    """
    reader = _Reader(data)
    if reader.take(2) != MAGIC:
        raise PeerError("these bytes begin with no header of ours")
    version, kind = reader.take(2)
    if version != VERSION:
        raise PeerError(f"a header of version {version}; this is version {VERSION}")
    try:
        header = Header(Kind(kind), id=reader.text(), name=reader.text(), marshaller=reader.text())
    except (ValueError, UsageError) as exc:  # no such kind, no UTF-8, or no text that may stand there
        raise PeerError(f"a header that cannot be: {plain(str(exc), most=200)}") from None
    (count,) = _COUNT.unpack(reader.take(_COUNT.size))
    reader.need(count * _LENGTH.size)
    lengths = tuple([_LENGTH.unpack(reader.take(_LENGTH.size))[0] for _ in range(count)])
    if sum(lengths) != reader.left:
        raise PeerError(f"a header tells of {sum(lengths):,} bytes of parts; there are {reader.left:,}")
    return replace(header, lengths=lengths), [reader.take(length) for length in lengths]


class _Reader:
    """Takes bytes from the front, and never more than there are."""

    def __init__(self, data: Buffer) -> None:
        view = memoryview(data)
        self._view = view.cast("B") if view.nbytes else memoryview(b"")
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._view) - self._at

    def need(self, count: int) -> None:
        if count > self.left:
            raise PeerError(f"cut off: {count:,} more bytes are needed, there are {self.left:,}")

    def take(self, count: int) -> bytes:
        self.need(count)
        self._at += count
        return bytes(self._view[self._at - count : self._at])

    def text(self) -> str:
        (length,) = self.take(1)
        return self.take(length).decode()
