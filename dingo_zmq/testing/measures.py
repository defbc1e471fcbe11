"""How much piles up in callers and nodes of the simulated world, beside the bounds of that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dingo_zmq.protocol.credit import KEPT_SPARE
from dingo_zmq.protocol.node import BURIED_MOST
from dingo_zmq.protocol.roster import NUMBERS_MOST, Peer
from dingo_zmq.protocol.starter import GONE_MOST
from dingo_zmq.protocol.streams import WINDOW
from dingo_zmq.protocol.terms import SPARE

if TYPE_CHECKING:
    from dingo_zmq.testing.hosts import CallerHost
    from dingo_zmq.testing.node_host import NodeHost

Measure = tuple[str, int, int]
"""what it is, how many there are, how many there may be"""

LARGEST_POOL = 4
"""workers that a pool of this world has, whatever becomes of it"""
KEPT_MOST = 3 * 5 * 2000 + KEPT_SPARE
"""answers of one link that a node may ever keep: five allowances of each function"""


def of_caller(host: CallerHost) -> Iterator[Measure]:
    """Yield what a caller keeps."""
    caller, ledger = host.caller, host.caller.ledger
    peers = list(caller.peers.values())
    keys = 2 * len(host.scene.nodes) + 2
    lanes = [lane for peer in peers for lane in peer.lanes.values()]
    waiting = sum(map(len, ledger.queues.values())) + len(ledger.parked)
    strays = [entry for lane in lanes for entry in lane.strays.values()]
    yield "nodes known", len(peers), keys
    yield "links", len(caller.links), len(peers)
    yield "tasks counted as open", ledger.open, waiting + sum(len(lane.open) for lane in lanes)
    yield "tasks queued or sent", waiting + sum(len(lane.open) for lane in lanes), ledger.open
    yield "settled tasks astray", sum(entry.settled for entry in strays), 0
    yield "streams read", len(caller.streams), ledger.open
    yield "dates", len(ledger.agenda.items), 2 * (3 * len(host.scene.jobs)) + SPARE
    for peer in peers:
        yield from _of_peer(host, peer)


def _of_peer(host: CallerHost, peer: Peer) -> Iterator[Measure]:
    of_streams = WINDOW * sum(job.stream for job in host.scene.jobs.values())
    yield "numbers not echoed", len(peer.sent_at), NUMBERS_MOST
    yield "reports heard after a gap", len(peer.heard.ahead), KEPT_MOST + of_streams
    yield "reports of streams before their turn", len(peer.early), len(peer.heard.ahead) + of_streams
    yield "blames", len(peer.blamed), len(host.scene.jobs)


def of_node(host: NodeHost) -> Iterator[Measure]:
    """Yield what a node keeps."""
    node = host.node
    if node is None:
        return
    held = sum(len(lane.held) for link in node.links.values() for lane in link.lanes.values())
    pools = node.starter.pools.values()
    yield "links at a node", len(node.links), len(host.scene.callers)
    yield "callers at a node", len(node.by_caller), len(node.links)
    yield "links forgotten", len(node._buried), BURIED_MOST
    yield "tasks counted as held", node.held, held
    yield "tasks held", held, node.held
    workers = sum(max(LARGEST_POOL, slots) for slots in host.plan.pools.values())
    yield "bundles with workers", len(node.starter.active), workers
    yield "tasks that ask", sum(len(pool.asking) for pool in pools), held
    ready = sum(len(pool.ready) + sum(map(len, pool.ranks.values())) for pool in pools)
    yield "tasks that are ready", ready, 2 * held + len(node.starter.pools) * (GONE_MOST + 1)
    yield "dates at a node", len(node.starter.agenda.items), 2 * (3 * len(host.scene.jobs)) + SPARE
