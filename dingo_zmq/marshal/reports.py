"""Bodies of the reports FAIL and PROGRESS."""

from __future__ import annotations

from msgspec.msgpack import Decoder, Encoder

from dingo_zmq.errors import EncodeError
from dingo_zmq.marshal.body import Body
from dingo_zmq.marshal.unpacking import guard
from dingo_zmq.model import Code, Failure

__all__ = ["decode_failure", "decode_progress", "encode_failure", "encode_progress"]

_MESSAGE_LIMIT = 4 * 1024
_TRACEBACK_LIMIT = 64 * 1024
_CODES = frozenset(Code)

_encode = Encoder().encode
_read_failure = Decoder(tuple[int, str, str, str]).decode
_read_progress = Decoder(tuple[float | None, str | None]).decode


def _cut(text: str, limit: int) -> str:
    """Keep head and tail of a text of more than `limit` bytes, and escape what UTF-8 cannot hold."""
    if len(text) > 2 * limit:  # so that a huge text is not encoded whole
        text = text[:limit] + text[-limit:]
    data = text.encode(errors="backslashreplace")
    if len(data) <= limit:
        return data.decode()
    half = limit // 2 - 10
    return f"{data[:half].decode(errors='ignore')}\n ... \n{data[-half:].decode(errors='ignore')}"


def encode_failure(failure: Failure) -> Body:
    """
    Encode code, message, type and traceback; node and attempt are known to who receives it.

    Never fails: message and type are cut to 4 KiB, the traceback to 64 KiB (head and tail are kept), and
    lone surrogates are escaped.
    """
    texts = (
        _cut(failure.message, _MESSAGE_LIMIT),
        _cut(failure.type, _MESSAGE_LIMIT),
        _cut(failure.traceback, _TRACEBACK_LIMIT),
    )
    return _encode([int(failure.code), *texts]), ()


def decode_failure(body: Body, node: str = "", attempt: int = 0) -> Failure:
    """
    Decode a failure; a code that this version does not know becomes `Code.GENERIC`.

    Raises:
        PeerError: if it is none; nothing else is raised.
    """
    code, message, kind, traceback = guard(_read_failure, body[0])
    known = Code(code) if code in _CODES else Code.GENERIC
    return Failure(known, message, kind, traceback, node, attempt)


def encode_progress(fraction: float | None = None, note: str | None = None) -> Body:
    """
    Encode what `progress` was given; the note is cut to 4 KiB.

    Raises:
        EncodeError: if the fraction is no number or the note no text.
    """
    if fraction is not None and (isinstance(fraction, bool) or not isinstance(fraction, int | float)):
        raise EncodeError(f"the fraction of a progress must be a number, not {fraction!r}")
    if note is not None and not isinstance(note, str):
        raise EncodeError(f"the note of a progress must be text, not {note!r}")
    part = None if fraction is None else float(fraction)
    return _encode([part, None if note is None else _cut(note, _MESSAGE_LIMIT)]), ()


def decode_progress(body: Body) -> tuple[float | None, str | None]:
    """
    Decode a pair (fraction, note).

    Raises:
        PeerError: if it is none; nothing else is raised.
    """
    return guard(_read_progress, body[0])
