"""Nodes that somebody named by their addresses: who they are is learned by calling them."""

from __future__ import annotations

import threading

from dingo_zmq.mesh.discovery.gate import Gate
from dingo_zmq.mesh.discovery.port import Announcement, Changed, Emit, Found, Gone, split_tcp
from dingo_zmq.mesh.engine import MeshEngine, MeshSettings
from dingo_zmq.mesh.forward.settings import SideSettings
from dingo_zmq.mesh.info import PeerInfo

__all__ = ["NamedPeers", "forwarder_id", "told_as"]

LOOK_SECONDS = 0.5
CLOSE_SECONDS = 1.0
TOLD_MOST = 200
"""characters in an entry of `via`, as `messages.Name` has it"""


class NamedPeers:
    """
    A source: announces the nodes at fixed addresses as soon as they have said who they are.

    Args:
        settings: of the side, with the addresses and the key.
        mesh: the mesh that they should be of.

    Raises:
        ConfigError: for an address or a key that will not do.
    """

    name = "named"

    def __init__(self, settings: SideSettings, mesh: str) -> None:
        self._mesh = mesh
        self._engine = MeshEngine(
            MeshSettings(
                mesh=mesh,
                peers=settings.peers,
                discovery=(),
                key=settings.key,
                insecure_lan=settings.insecure_lan,
                limit=settings.limit,
            )
        )
        self._known: dict[str, Announcement] = {}  # by the address as it was named
        self._stopping = threading.Event()
        self._gate: Gate | None = None
        self._thread = threading.Thread(target=self._watch, name="dingo-named-peers", daemon=True)

    def start(self, emit: Emit) -> None:
        """Look at them in a thread."""
        self._gate = Gate(emit)
        self._thread.start()

    def stop(self) -> None:
        """Emit nothing any more, and end the thread."""
        self._stopping.set()
        if self._gate:
            self._gate.shut()
        self._engine.close(CLOSE_SECONDS)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                peers = self._engine.wait_for(self._has_news, LOOK_SECONDS)
            except Exception:  # it is closed
                if not self._stopping.is_set():
                    raise
                return
            for peer in peers:
                self._look(peer)

    def _has_news(self, peers: list[PeerInfo]) -> bool:
        return any(peer.node and self._known.get(self._named(peer)) != self._said(peer) for peer in peers)

    def _look(self, peer: PeerInfo) -> None:
        named = self._named(peer)
        if not peer.node or self._gate is None:
            return
        said, before = self._said(peer), self._known.get(named)
        if said == before:
            return
        self._known[named] = said
        if before is not None and (before.node, before.via) != (said.node, said.via):
            self._gate(Gone(before.node, self.name, before.via))
            before = None
        self._gate(Changed(said, self.name) if before else Found(said, self.name))

    def _named(self, peer: PeerInfo) -> str:
        return peer.announced[0] if peer.announced else peer.address

    def _said(self, peer: PeerInfo) -> Announcement:
        host, port = split_tcp(peer.address)
        reports = f"tcp://{host}:{port + 1}"
        path = tuple(forwarder_id(entry) for entry in peer.via)
        return Announcement(
            peer.node, peer.name, self._mesh, "", peer.version, (peer.address,), (reports,), path=path
        )


def told_as(name: str, id: str) -> str:  # noqa: A002
    """Return what a forwarder adds to `via` of messages: its name for people, cut off if need be, and its id."""
    return f"{name[: TOLD_MOST - len(id) - 1]}.{id}"


def forwarder_id(entry: str) -> str:
    """Return the id in an entry of `via`."""
    return entry.rpartition(".")[2]
