"""One of the two networks of a forwarder: its key, its addresses, and how nodes are found and announced there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from zlib import crc32

import zmq

from dingo_zmq.errors import Closed, ConfigError
from dingo_zmq.mesh import keys, sockets
from dingo_zmq.mesh.discovery.port import Announcement, Source
from dingo_zmq.mesh.discovery.ways import sources
from dingo_zmq.mesh.forward.crier import Crier
from dingo_zmq.mesh.forward.desk import Desk
from dingo_zmq.mesh.forward.named import NamedPeers
from dingo_zmq.mesh.forward.settings import SideSettings
from dingo_zmq.mesh.guard import Guard
from dingo_zmq.mesh.guests import GuestWatch
from dingo_zmq.mesh.herald import Herald
from dingo_zmq.mesh.interfaces import LOOPBACK, Address, addresses, chosen
from dingo_zmq.mesh.reach import credentials
from dingo_zmq.mesh.reactor import Reactor
from dingo_zmq.protocol.guests import Guest

__all__ = ["Side", "check_apart"]


class Side:
    """
    A side at work.

    Args:
        settings: what was told of it.
        mesh: the mesh that is joined.

    Attributes:
        guests: those that callers of this side may be.
        is_open: whether callers there can find a stand-in; not where only nodes are named.
        hosts: the addresses of this machine to listen on there, as they were when last looked at.

    Raises:
        ConfigError: for an address, an interface or a key that cannot be used.
    """

    def __init__(self, settings: SideSettings, mesh: str) -> None:
        self.name, self._settings, self._mesh = settings.name, settings, mesh
        if not settings.words:
            raise ConfigError(
                f"--{settings.name} is missing; hint: --{settings.name} with an interface or address of this "
                "machine, or tcp://host:port of a node there"
            )
        self.key, reach = credentials(
            settings.key, insecure_lan=settings.insecure_lan, bind=settings.bind, advertise=settings.advertise
        )
        if self.key is not None and self.key.is_guest:
            raise ConfigError(
                f"{self.key.path} is the key of a guest, and a guest cannot forward, only call; "
                f"hint: --{settings.name}-key with the mesh key itself"
            )
        self.reach = replace(reach, apart=True)
        self.hosts = self.reach.hosts()
        self.key_id = keys.key_id(self.key)
        self.is_open = bool(settings.bind)
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._crier: Crier | None = None
        self._gate: keys.Gatekeeper | None = None
        self._watch: GuestWatch | None = None
        self.guests: list[Guest] = []

    def start(self, reactor: Reactor, admitted: Callable[[], object]) -> None:
        """
        Admit the holders of the key and its guests, and be ready to announce; before the loop runs.

        Args:
            reactor: the loop.
            admitted: called in it where the guests are others than before.
        """
        self._context = sockets.new_context()
        if not self.is_open:
            return
        if self.key is not None:
            gate = self._gate = keys.Gatekeeper(self._context, [self.key.public])
            reactor.watch(gate.socket, lambda: None if gate.answer() else None)
        if self.key is not None and self.key.kind == "mesh":
            self._watch = GuestWatch(self.key, lambda guests: self._admit(reactor, guests, admitted))
            self.guests = self._watch.guests
            self._watch.start()
        self._crier = Crier(Herald([self._way], self.reach))

    def _admit(self, reactor: Reactor, guests: list[Guest], admitted: Callable[[], object]) -> None:
        """There are other guests; called by the thread that looks for them."""

        def admit() -> None:
            self.guests = guests
            admitted()

        with suppress(Closed):
            reactor.call(admit)

    def guard(self, desk: Desk, pull: zmq.Socket[bytes], xpub: zmq.Socket[bytes]) -> Guard | None:
        """Return what holds guests of this side to what they may do; None where there is no key."""
        if self.key is None or self._gate is None:
            return None
        return Guard(desk, self.key, self._gate, pull, xpub, desk.ended)

    def tell(self, node: str, announcement: Announcement | None) -> None:
        """Announce here what stands in for a node of the other side, or with None announce it no more."""
        if self._crier is not None:
            self._crier.tell(node, announcement)

    def fall_silent(self) -> None:
        """Announce nothing any more, and look for no guests."""
        if self._watch is not None:
            self._watch.close()
        if self._crier is not None:
            self._crier.close()

    def sources(self) -> list[Source]:
        """
        Return what finds the nodes of this side.

        Raises:
            ConfigError: for the address of a node that is none.
        """
        found: list[Source] = []
        if self._settings.peers:
            found.append(NamedPeers(self._settings, self._mesh))
        if self._settings.bind:
            found += sources([self._way], [], self.reach.interfaces)
        return found

    def __str__(self) -> str:
        """Return what it is, in words."""
        key = "no key" if self.key is None else f"{self.key.kind} key {self.key_id}"
        return f"{self.name} ({', '.join(self._settings.words)}; {key})"

    @property
    def _way(self) -> str:
        """How nodes find each other there: beyond this machine by multicast, and on it by files."""
        here = self.addresses()
        return "directory" if here and all(each.is_loopback for each in here) else "zeroconf"

    def addresses(self) -> list[Address]:
        """Return the addresses of this machine on this side."""
        there = addresses()
        return [each for word in self._settings.bind for each in chosen(word, there)]

    def client(self, kind: int) -> zmq.Socket[bytes]:
        """Return a socket that connects to nodes of this side."""
        socket = self._socket(kind)
        if self.key is not None:
            keys.secure_client(socket, self.key)
        return socket

    def server(self, kind: int) -> zmq.Socket[bytes]:
        """Return a socket to which callers of this side connect."""
        socket = self._socket(kind)
        if self.key is not None:
            keys.secure_server(socket, self.key)
        return socket

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        assert self._context is not None
        return sockets.make(self._context, kind, self._settings.limit)

    def look(self) -> None:
        """See which addresses this side has; while an interface has none, the old ones count: they may be back."""
        with suppress(ConfigError):
            self.hosts = self.reach.hosts()

    def bind(self, pull: zmq.Socket[bytes], xpub: zmq.Socket[bytes], port: int | None, node: str) -> int:
        """
        Listen on the addresses of this side; return the first port of the pair.

        A stand-in for the same node is at the same ports where they are free, also when this forwarder was started
        anew: who knew them must not find another node there.

        Raises:
            ConfigError: where none is free, or the given one is not.
        """
        return sockets.bind_pair(pull, xpub, self.hosts, port, crc32(node.encode()))

    def announced(self, node: Announcement, port: int, path: tuple[str, ...]) -> Announcement:
        """Return what is announced here of a node of the other side."""
        pair = f"tcp://{LOOPBACK}:{port}", f"tcp://{LOOPBACK}:{port + 1}"  # of which the ports alone count
        return Announcement(
            node.node,
            node.name,
            self._mesh,
            node.incarnation,
            node.version,
            (pair[0],),
            (pair[1],),
            node.digest,
            self.key_id,
            path,
        )

    def close(self, reactor: Reactor) -> None:
        """Admit nobody any more; in the I/O thread, when all sockets are closed."""
        if self._gate is not None:
            reactor.unwatch(self._gate.socket)
            self._gate.close()
        if self._context is not None:
            self._context.term()


def check_apart(left: Side, right: Side) -> None:
    """
    Check that there is something to be joined.

    Raises:
        ConfigError: where both sides are one network, or nobody could find a stand-in on either.
    """
    here, there = left.addresses(), right.addresses()
    if not here and not there:
        raise ConfigError(
            "both sides only name nodes, so that nobody could find what stands in for them; "
            "hint: give one side an interface or address of this machine"
        )
    for one in here:
        for other in there:
            link_local = one.is_link_local  # which says nothing of the link: all of them have the same network
            if one.index == other.index or (one.network == other.network and not link_local):
                where = "this machine itself" if one.is_loopback else f"{one.network} ({one.interface})"
                raise ConfigError(
                    f"both sides are the same network, {where}: there is nothing to join; "
                    "hint: --left and --right with the interfaces or addresses of two networks"
                )
