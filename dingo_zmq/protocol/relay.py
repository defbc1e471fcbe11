"""What a forwarder changes in messages: nothing, but for its name in those that tell who is there."""

from __future__ import annotations

from dingo_zmq.errors import PeerError
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire

__all__ = ["relayed"]

_KINDS = frozenset(b"WK")  # Welcome, Credit


def relayed(frame: bytes, name: str) -> bytes | None:
    """
    Return the first frame of what a node published as a forwarder called `name` passes it on.

    A caller has to know of each forwarder before a node: ports that are closed then prove nothing of the node.
    None is returned for what is to be dropped: a message that cannot be read, or one that has passed too many.
    """
    start = frame.find(b"\0") + 1
    if not start or frame[start : start + 1] == b"" or frame[start] not in _KINDS:
        return frame
    try:
        message: m.Welcome | m.Credit = wire.decode_node([frame])
    except PeerError:
        return None
    if len(message.via) >= m.VIA_MOST:
        return None
    message.via = [*message.via, name]
    return wire.encode(message, frame[: start - 1])
