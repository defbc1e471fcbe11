"""Which marshallers tasks need that were called by name, as the nodes have told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dingo_zmq.protocol.caller import Caller
from dingo_zmq.protocol.ledger import Route, marshallers_of
from dingo_zmq.protocol.roster import Peer

__all__ = ["marshallers_for", "misread"]


def marshallers_for(peers: Iterable[Peer], route: Route, known: Callable[[str], bool]) -> str:
    """
    Return the marshallers that nodes have for a route called by name: msgpack ("") before others.

    Args:
        peers: the nodes.
        route: of the tasks.
        known: whether this side has such marshallers.
    """
    return min(_told(peers, route, known), default="")


def _told(peers: Iterable[Peer], route: Route, known: Callable[[str], bool]) -> set[str]:
    told = set()
    for peer in peers:
        lane = peer.lanes.get(route.name)
        how = marshallers_of(lane.fingerprint) if lane else ""
        if known(how) and peer.takes(route._replace(fingerprint=how and f"/{how}")):
            told.add(how)
    return told


def misread(caller: Caller, known: Callable[[str], bool]) -> list[tuple[Route, str]]:
    """
    Return routes called by name on which tasks wait that no node could read, and what some node reads.

    They were called before any node had told; see `Caller.reroute`.
    """
    peers = caller.peers.values()
    waiting = [route for route in caller.ledger.queues if route.by_name]
    lost = [route for route in waiting if not any(peer.takes(route) for peer in peers)]
    better = [(route, told) for route in lost if (told := _told(peers, route, known))]
    return [(route, how) for route, told in better if (how := min(told)) != marshallers_of(route.fingerprint)]
