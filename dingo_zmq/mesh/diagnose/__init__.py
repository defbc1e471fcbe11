"""
What is wrong between this machine and the nodes of a mesh: first the facts, then what they mean.

`gather` looks, at this machine and as a caller at the mesh; `judge` turns what it saw into findings, and
`verdict` those into a few words.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import replace

from dingo_zmq.mesh.diagnose.facts import Facts
from dingo_zmq.mesh.diagnose.findings import Cause, Finding, Level, verdict
from dingo_zmq.mesh.diagnose.judge import judge
from dingo_zmq.mesh.diagnose.machine import bind_error, descriptors, host_addresses, key_facts, later
from dingo_zmq.mesh.diagnose.multicast import listen, port_error
from dingo_zmq.mesh.diagnose.nodes import examine, look, rank_of
from dingo_zmq.mesh.engine import MeshSettings
from dingo_zmq.mesh.interfaces import Address, addresses, lan_addresses
from dingo_zmq.registry import Function

__all__ = ["Cause", "Facts", "Finding", "Level", "gather", "judge", "verdict"]

FILES_LEAST = 48
"""with fewer that may be open a caller cannot even start"""


def gather(settings: MeshSettings, seconds: float, file: str = "", functions: Iterable[Function] = ()) -> Facts:
    """
    Look at this machine and at the mesh.

    Args:
        settings: as for an App.
        seconds: how long to look around for nodes.
        file: where functions are from that nodes should have, "" for none.
        functions: those.

    Raises:
        ConfigError: for settings that no caller could use.
    """
    key = key_facts(settings)
    there = addresses()
    host = socket.gethostname()
    lan = [each for each in lan_addresses(there) if _is_bound(each, settings)]
    facts = Facts(
        settings.mesh,
        key,
        seconds,
        descriptors=descriptors(),
        lan=tuple((each.ip, each.interface) for each in lan),
        bind=settings.bind,
        bind_error="" if key.error else bind_error(settings, key),
        host=host,
        host_addresses=host_addresses(host),
        multicast="zeroconf" in settings.discovery,
        file=file,
        functions={f.name: (f.signature.text, f.signature.fingerprint) for f in functions},
    )
    return _of_network(facts, settings, lan if key.open else [], there)


def _is_bound(address: Address, settings: MeshSettings) -> bool:
    return not settings.bind or any(address.is_meant(word) for word in settings.bind)


def _of_network(facts: Facts, settings: MeshSettings, lan: list[Address], own: list[Address]) -> Facts:
    """Add what takes time: who is heard, and who answers."""
    error, taken = port_error() if facts.multicast and facts.key.open else ("", False)
    enough = facts.descriptors is None or facts.descriptors >= FILES_LEAST
    looked = enough and not facts.key.error and not facts.bind_error
    where = [] if error or not facts.multicast else list(_one_each(lan))
    facts = replace(facts, port_error=error, taken=taken, looked=looked)
    listening = later(lambda: listen(where, own, facts.seconds))
    if looked:
        seen = look(settings, facts.seconds)
        facts = replace(facts, nodes=examine(seen), other_meshes=seen.others)
    echoes, heard = listening.result()
    far = tuple(peer for peer in settings.peers if rank_of(peer) > 0)
    return replace(facts, echoes=echoes, heard=heard, far_peers=far)


def _one_each(lan: list[Address]) -> Iterable[Address]:
    """Return the addresses on which discovery speaks: one for each interface and IP version."""
    found: dict[tuple[int, bool], Address] = {}
    for each in lan:
        if not each.is_v6 or each.is_link_local:
            found.setdefault((each.index, each.is_v6), each)
    return found.values()
