"""Why a task is not done yet, in words for people."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from dingo_zmq.protocol.caller import Caller
from dingo_zmq.protocol.ledger import Entry, Route
from dingo_zmq.protocol.roster import Peer, Stage


def why(caller: Caller, entry: Entry, now: float) -> str:
    """Return one or a few clauses: who holds the task, or what it waits for."""
    if entry.settled:
        return "it is done"
    lane = entry.lane
    if lane is not None:
        peer = caller.peers[lane.key]
        doing = "may be running" if entry.started else "is queued or running"
        silent = f", which has been silent for {peer.silence(now):.0f} s" if not peer.usable(now) else ""
        return f"it {doing} on {peer.name}{silent}{_history(entry)}"
    lost = "its node was lost, and " if entry.attempt else ""
    return lost + _no_node(caller, entry.route, now) + _history(entry)


def _history(entry: Entry) -> str:
    if entry.attempt <= 1:
        return ""
    died = "1 node died" if entry.losses == 1 else f"{entry.losses} nodes died"
    return f" (sent {entry.attempt} times, {died} with it)"


def _no_node(caller: Caller, route: Route, now: float) -> str:
    peers = list(caller.peers.values())
    if not peers:
        return f"no node of mesh {caller.mesh!r} has been found"
    ready = [peer for peer in peers if peer.stage is Stage.READY]
    if not ready:
        return f"no node has answered yet: {_list(_standing(peer, now) for peer in peers)}"
    having = [peer for peer in ready if route.name in peer.lanes]
    if not having:
        return f'no node has "{route.name}"{_did_you_mean(route.name, ready)}'
    clauses = [f'{len(having)} of {len(ready)} nodes have "{route.name}"']
    clauses += [clause for peer in having if (clause := _obstacle(peer, route, now))]
    return "; ".join(clauses[:5])


def _standing(peer: Peer, now: float) -> str:
    if peer.locked_out:
        return f"{peer.name} does not accept our key"
    if peer.barred:
        return f"{peer.name} refused us: {peer.barred}"
    return f"{peer.name} is {peer.state(now)}"


def _obstacle(peer: Peer, route: Route, now: float) -> str:
    lane = peer.lanes[route.name]
    if route.fingerprint and lane.fingerprint and lane.fingerprint != route.fingerprint:
        return f"{peer.name} has {route.name}{lane.signature}"
    if route.size > peer.limit:
        return f"{peer.name} has a body limit of {peer.limit:,} bytes, and this one has {route.size:,}"
    if not peer.usable(now):
        return f"{peer.name} is {peer.state(now)}"
    if lane.limit <= lane.sent:
        return f"{peer.name} is full"
    return ""


def _did_you_mean(name: str, peers: Iterable[Peer]) -> str:
    known = {lane: peer.name for peer in peers for lane in peer.lanes}
    close = difflib.get_close_matches(name, known, 1)
    return f'; did you mean "{close[0]}" ({known[close[0]]})?' if close else ""


def _list(texts: Iterable[str]) -> str:
    return "; ".join(list(texts)[:5])
