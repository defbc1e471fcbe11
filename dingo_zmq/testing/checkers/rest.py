"""How things are at rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dingo_zmq.protocol.roster import Peer, Stage
from dingo_zmq.protocol.starter import Starter
from dingo_zmq.testing.cast import Cast
from dingo_zmq.testing.hosts import CallerHost
from dingo_zmq.testing.node_host import NodeHost


def at_rest(cast: Cast) -> Iterator[str]:
    """In the end nothing is open, held or kept, all credit is back, and every node is READY."""
    yield from unrest(cast)


def unrest(cast: Cast) -> Iterator[str]:
    """Yield what is not at rest."""
    living = {caller.name for caller in cast.callers if not caller.dead}
    for caller in cast.callers:
        if not caller.dead:
            yield from _open_at(caller)
            yield from _restless_peers(cast, caller)
    for node in cast.nodes:
        yield from _busy(node, living)


def _open_at(caller: CallerHost) -> Iterator[str]:
    ledger = caller.caller.ledger
    if caller.caller.streams:
        yield f"{caller.name} still reads {[entry.id for entry in caller.caller.streams]}"
    if ledger.open or ledger.queues or ledger.parked:
        yield f"{caller.name} has {ledger.open} tasks open, queues {[len(q) for q in ledger.queues.values()]}"
    for peer in caller.caller.peers.values():
        for lane in peer.lanes.values():
            if lane.open or lane.strays:
                yield f"{caller.name} thinks {peer.key} has {list(lane.open)} open, {list(lane.strays)} astray"
        if any(not entry.settled for _, entry in peer.blamed):
            yield f"{caller.name} still blames {peer.key}"


def _busy(node: NodeHost, living: set[str]) -> Iterator[str]:
    if node.node is None:
        yield f"{node.name} is down"
        return
    if node.node.draining:
        yield f"{node.name} is draining"
    for link in node.node.links.values():
        if link.caller not in living:
            yield f"{node.name} remembers {link.caller}, who is dead"
        if link.kept or link.partial:
            yield f"{node.name} keeps {list(link.kept)} for {link.caller}"
        if link.running or any(lane.held for lane in link.lanes.values()):
            yield f"{node.name} holds {[list(lane.held) for lane in link.lanes.values()]} for {link.caller}"
    if node.node.held:
        yield f"{node.name} counts {node.node.held} tasks"
    yield from _workers(node.name, node.node.starter)


def _workers(name: str, starter: Starter) -> Iterator[str]:
    for pool in starter.pools.values():
        if pool.free != pool.slots or pool.asking or pool.ready or any(pool.ranks.values()):
            yield f"{name}: {pool.free} of {pool.slots} free, {len(pool.ready)} ready, {len(pool.asking)} ask"
    if starter.active:
        yield f"{name} has {len(starter.active)} bundles running"


def _restless_peers(cast: Cast, caller: CallerHost) -> Iterator[str]:
    for node in cast.nodes:
        keys = cast.scene.keys_of(node.name)
        peers = [caller.caller.peers[key] for key in keys if key in caller.caller.peers]
        ready = [peer for peer in peers if peer.usable(caller.now)]
        if len(ready) != 1 or len(peers) != 1:
            states = [(peer.key, peer.state(caller.now), peer.broke) for peer in peers]
            yield f"{caller.name} has for {node.name}: {states}"
        elif node.node is not None:
            yield from _leaks(cast, caller, ready[0], node)


def _leaks(cast: Cast, caller: CallerHost, peer: Peer, node: NodeHost) -> Iterator[str]:
    """A lane at rest has all of its credit, on both ends, and no more than it should."""
    assert node.node is not None
    link = node.node.links.get(peer.token)
    if link is None or peer.stage is not Stage.READY:
        yield f"{node.name} does not know the link of {caller.name}"
        return
    for name, lane in link.lanes.items():
        here = peer.lanes[name]
        ends = (here.sent, here.limit), (lane.seen, lane.granted)
        allowed = lane.function.allowance(node.now)
        if ends[0] != ends[1] or not allowed <= here.limit - here.sent <= _largest(lane.function):
            yield f"{caller.name} to {node.name}, {name}: {ends[0]}, at the node {ends[1]}, allowed {allowed}"


def _largest(function: Any) -> int:
    return int(function.largest)
