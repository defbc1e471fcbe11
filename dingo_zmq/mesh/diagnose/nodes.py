"""What the nodes of a mesh are like from here: found, reached by TCP, let in, and what they serve."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dingo_zmq.mesh.caller import MeshCaller
from dingo_zmq.mesh.diagnose.facts import Answer, NodeFacts, Tried
from dingo_zmq.mesh.discovery.port import Announcement, split_tcp
from dingo_zmq.mesh.engine import MeshEngine, MeshSettings
from dingo_zmq.mesh.info import PeerInfo
from dingo_zmq.mesh.interfaces import Networks, addresses
from dingo_zmq.mesh.nearest import ways

__all__ = ["Seen", "examine", "look", "rank_of"]

TRY_SECONDS = 1.5
"""that a port has to answer"""
TRIES_MOST = 100
"""ports tried at a time"""
CLOSE_SECONDS = 1.0

_NO_ROUTE = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EINVAL)

Functions = dict[str, tuple[str, str]]


class Seen(NamedTuple):
    """What a caller has learned: nodes, announcements by id, functions by key of a node, other meshes."""

    peers: list[PeerInfo]
    announced: dict[str, Announcement]
    functions: dict[str, Functions]
    others: dict[str, int]


def look(settings: MeshSettings, seconds: float) -> Seen:
    """
    Be a caller for some seconds, and return what it learns.

    Raises:
        ConfigError: where the settings will not do.
    """
    engine = MeshEngine(settings)
    try:
        engine.subscribe("pulse/")
        peers = engine.wait_for(lambda _: False, seconds)
        functions = engine.reactor.ask(partial(_functions, engine.caller))
        return Seen(peers, engine.announced(), functions, engine.other_meshes())
    finally:
        engine.close(CLOSE_SECONDS)


def _functions(caller: MeshCaller) -> dict[str, Functions]:
    """Return what each node that let us in serves, by its id; called by the I/O thread."""
    peers = [peer for peer in caller.decider.peers.values() if peer.welcome is not None]
    return {
        peer.welcome.node: {lane.name: (lane.signature, lane.fingerprint) for lane in peer.lanes.values()}
        for peer in peers
        if peer.welcome is not None
    }


def rank_of(endpoint: str) -> int:
    """Return how near an endpoint is, see `Networks.rank`."""
    return Networks(addresses()).rank(split_tcp(endpoint)[0])


# ---------------------------------------------------------------------- one node after the other


def examine(seen: Seen) -> tuple[NodeFacts, ...]:
    """Try all candidates of all nodes, and return what is known of each node, sorted by name."""
    networks = Networks(addresses())
    groups = list(_groups(seen))
    pairs = [_pairs(said, networks) for _, said in groups]
    answers = asyncio.run(_try_all({end for some in pairs for pair in some for end in pair}))
    found = [
        _facts(peer, said, [Tried(*pair, *(answers[end] for end in pair)) for pair in some], seen, networks)
        for (peer, said), some in zip(groups, pairs, strict=True)
    ]
    there = [node for node in _without_doubles(found) if _may_be_here(node)]
    return tuple(sorted(there, key=lambda node: (node.name, node.address)))


def _groups(seen: Seen) -> Iterable[tuple[PeerInfo | None, list[Announcement]]]:
    """Yield each node with all that was announced of it; some are announced, and nobody has connected yet."""
    left = dict(seen.announced)
    for peer in seen.peers:
        said = [left.pop(node) for node in peer.announced if node in left]
        if said:  # else it has just said good-bye
            yield peer, said
    yield from ((None, [said]) for said in left.values())


def _pairs(said: list[Announcement], networks: Networks) -> list[tuple[str, str]]:
    """Return the candidates that can mean something here, nearest first, each once."""
    found = [pair for one in said for pair in ways(one, networks)]
    return [pair for pair in dict.fromkeys(found) if pair[0].startswith("tcp://")]


def _facts(
    peer: PeerInfo | None, said: list[Announcement], tried: list[Tried], seen: Seen, networks: Networks
) -> NodeFacts:
    """Return what is known of a node; what it announced counts for more than the address that somebody gave."""
    told = next((one for one in said if one.mesh), None)
    endpoints = [end for one in said for end in one.tasks]
    ranks = {end: networks.rank(split_tcp(end)[0]) for end in endpoints if end.startswith("tcp://")}
    address = peer.address if peer else endpoints[0]
    facts = NodeFacts(
        name=(peer.name if peer else "") or (told.name if told else "") or address,
        address=address,
        named=any(not one.mesh for one in said),
        here=0 in ranks.values(),
        loopback=bool(ranks) and all(_is_loopback(end) for end in ranks),
        tried=tuple(tried),
        key=told.key if told else "",
        version=(peer.version if peer else 0) or (told.version if told else 0),
        gates=min((hops for one in said for hops in one.distances), default=0),
    )
    if peer is None:
        return facts
    return replace(
        facts,
        state=peer.state,
        cause=peer.cause,
        sources=peer.sources,
        round_trip=peer.round_trip,
        clock=peer.clock,
        functions=seen.functions.get(peer.node, {}),
    )


def _is_loopback(endpoint: str) -> bool:
    host = split_tcp(endpoint)[0].strip("[]").partition("%")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _without_doubles(found: list[NodeFacts]) -> list[NodeFacts]:
    """Leave out addresses that somebody gave and that an announced node has too."""
    announced = {each.tasks for node in found if node.key for each in node.tried}
    return [node for node in found if node.key or node.address not in announced]


def _may_be_here(node: NodeFacts) -> bool:
    """Whether a node that tells of loopback alone can be one of this machine: others' are of no use to us."""
    known = node.named or "directory" in node.sources
    return known or not node.loopback or any(each.is_open for each in node.tried)


# ---------------------------------------------------------------------- ports


async def _try_all(endpoints: Iterable[str]) -> dict[str, Answer]:
    slots = asyncio.Semaphore(TRIES_MOST)
    known = list(endpoints)
    return dict(zip(known, await asyncio.gather(*(_try(each, slots) for each in known)), strict=True))


async def _try(endpoint: str, slots: asyncio.Semaphore) -> Answer:
    """Connect to a port and hang up, and return what came of it."""
    host, port = split_tcp(endpoint)
    host = host.strip("[]")
    async with slots:
        try:
            async with asyncio.timeout(TRY_SECONDS):
                _, writer = await asyncio.open_connection(host, port)
        except socket.gaierror:
            return Answer.NO_NAME
        except ConnectionRefusedError:
            return Answer.REFUSED
        except OSError as exc:  # a timeout, too
            return _silence(host, exc)
        writer.close()
        return Answer.OPEN


def _silence(host: str, exc: OSError) -> Answer:
    """Tell apart who is not there, who does not answer, and who cannot be asked."""
    if exc.errno in _NO_ROUTE:
        return Answer.NO_ROUTE
    there = _is_neighbour(host)
    if there is None:
        return Answer.SILENT
    return Answer.DROPPED if there else Answer.ABSENT


def _is_neighbour(host: str) -> bool | None:
    """Return whether a machine on our network says that the address is its own; None where nobody knows."""
    try:
        lines = Path("/proc/net/arp").read_text().splitlines()[1:]
    except OSError:  # no Linux
        return None
    flags = [int(words[2], 16) for line in lines if (words := line.split())[0] == host]
    return any(flags) if flags else None
