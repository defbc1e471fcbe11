"""
Bytes on the wire, version 1.

A message is one frame, or one frame and the buffers of one body.  Every frame can be sorted without
decoding it.  ``msgpack(X)`` is the array of the fields of record X of `messages`, in order, each of the type
given there; records, maps and lists hold nothing else.

::

    caller to node (PUSH to PULL)     kind msgpack(record) [buffer ...]
        H Hello   T Tasks   B Beat   N Taken   C Cancel   R Recall   G Go   Y Bye
    node to caller (XPUB to SUB)      topic NUL kind msgpack(record) [buffer ...]
        W Welcome   P Reports   K Credit   M Missing   A Claim   L Recalled   X Refused   U Pulse

    kind      one byte
    topic     caller/                    Welcome Credit Missing Claim Recalled Refused, and Reports of many
              caller/name/               Reports of several tasks of one function
              caller/name/id/            Reports of one task
              watch/caller/name/id/      a copy of one report, for whoever watches
              pulse/node/                Pulse
    caller, name, id, node   1 to 200 printable characters without "/"; the name of a node may end in "/" and a
                             number
    buffer    a large binary value of the body; only behind a Tasks or Reports of exactly one item

A ref is (lane, number): `lane` is the name of a function, tasks of a lane are numbered 1, 2, 3 ... within one
link, and a link is named by the 8-byte token its caller drew.  The options of a task are a map that leaves out
what is as usual, or nil (see `messages.TaskOptions`).  A node takes tasks of a higher priority first, those of one
priority in the order of their arrival (where they take long, lanes take turns), and sends back with Recalled what
has not started in time.  A body is opaque here: arguments and returns are msgpack (see `marshal`) unless WELCOME
names another marshaller behind the fingerprint of the function (see `marshallers`); progress and failures are
msgpack always.

A task with the option `stream` has any number of PARTIAL reports, with bodies as of returns, before its final one.
They are numbered, kept and published again as that is.  A caller takes them, and the final one, in the order of
their numbers: one that comes after a gap waits until that is closed.  It tells with Taken and with each Beat how
many values were taken, and a node is ahead of that by a bounded number (see `streams`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from dingo_zmq.errors import PeerError
from dingo_zmq.protocol import messages as m

Frames = Sequence[Any]
"""bytes, or for buffers anything with the buffer protocol"""

_CALLER_KINDS: dict[bytes, type[m.Message]] = {
    b"H": m.Hello,
    b"T": m.Tasks,
    b"B": m.Beat,
    b"N": m.Taken,
    b"C": m.Cancel,
    b"R": m.Recall,
    b"G": m.Go,
    b"Y": m.Bye,
}
_NODE_KINDS: dict[bytes, type[m.Message]] = {
    b"W": m.Welcome,
    b"P": m.Reports,
    b"K": m.Credit,
    b"M": m.Missing,
    b"A": m.Claim,
    b"L": m.Recalled,
    b"X": m.Refused,
    b"U": m.Pulse,
}
_KIND_OF = {record: kind for kind, record in (*_CALLER_KINDS.items(), *_NODE_KINDS.items())}
_CALLER_DECODERS = {ord(kind): msgspec.msgpack.Decoder(record) for kind, record in _CALLER_KINDS.items()}
_NODE_DECODERS = {ord(kind): msgspec.msgpack.Decoder(record) for kind, record in _NODE_KINDS.items()}
_encode = msgspec.msgpack.Encoder().encode

MAX_BUFFERS = 1024


def encode(message: m.Message, topic: bytes | None = None) -> bytes:
    """Return the first frame of a message; with a topic for what a node publishes, without for a caller's."""
    kind = _KIND_OF[type(message)] + _encode(message)
    return kind if topic is None else topic + b"\0" + kind


def decode_caller(frames: Frames) -> Any:
    """
    Return the message that a caller sent.

    Raises:
        PeerError: on anything `encode` would not have produced.  Whatever arrives, nothing else is raised.
    """
    frame = frames[0] if frames else b""
    return _decode(_CALLER_DECODERS, frame, 0, frames)


def decode_node(frames: Frames) -> Any:
    """
    Return the message that a node published; see `topic_of` for its topic.

    Raises:
        PeerError: on anything `encode` would not have produced.  Whatever arrives, nothing else is raised.
    """
    frame = frames[0] if frames else b""
    return _decode(_NODE_DECODERS, frame, frame.find(b"\0") + 1 or len(frame), frames)


def topic_of(frame: bytes) -> bytes:
    """Return the topic of a frame that a node published, without decoding the rest."""
    return frame[: max(0, frame.find(b"\0"))]


def _decode(decoders: dict[int, Any], frame: bytes, start: int, frames: Frames) -> Any:
    try:
        decoder = decoders[frame[start]]
    except (IndexError, KeyError):
        raise PeerError("unknown kind of message", frames) from None
    try:
        message = decoder.decode(memoryview(frame)[start + 1 :])
    except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError) as exc:
        raise PeerError(f"malformed {frame[start : start + 1].decode()} message: {exc}", frames) from None
    if len(frames) > 1:
        _check_buffers(message, frames)
    return message


def _check_buffers(message: Any, frames: Frames) -> None:
    if not isinstance(message, m.Tasks | m.Reports) or len(message.items) != 1:
        raise PeerError("buffers behind a message that has none", frames)
    if len(frames) > MAX_BUFFERS + 1:
        raise PeerError(f"more than {MAX_BUFFERS} buffers", frames)


def pulse_topic(node: str) -> bytes:
    """Return the topic of a node's pulses."""
    return f"pulse/{node}/".encode()


def task_topic(caller: str, name: str, id: str) -> bytes:
    """Return the topic of one task."""
    return f"{caller}/{name}/{id}/".encode()
