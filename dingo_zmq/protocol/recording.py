"""What of a caller's actions belongs into its journal."""

from __future__ import annotations

from collections.abc import Iterator

from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.actions import Send
from dingo_zmq.protocol.caller import Caller
from dingo_zmq.protocol.former import Holder
from dingo_zmq.protocol.ledger import Entry


def holds(caller: Caller, send: Send) -> Iterator[tuple[Entry, Holder]]:
    """Yield the recorded tasks that a message is about to send, or to let start, and who will hold them."""
    message = send.message
    if isinstance(message, m.Tasks):
        refs = [(item[0], item[1]) for item in message.items]
    elif isinstance(message, m.Go):
        refs = [(name, number) for name, numbers in message.refs.items() for number in numbers]
    else:
        return
    peer = caller.peers.get(send.key)
    if peer is None:
        return
    for name, number in refs:
        lane = peer.lanes.get(name)
        entry = None if lane is None else lane.open.get(number)
        if entry is not None and entry.record:
            yield entry, Holder(peer.base, peer.incarnation, peer.name, number)
