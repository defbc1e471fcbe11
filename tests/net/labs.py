"""LANs that nothing joins but forwarders: each has a node, and hosts stand between them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dingo_zmq import App
from dingo_zmq.mesh.discovery.port import Announcement, Event, Gone
from dingo_zmq.mesh.discovery.zeroconf_source import ZeroconfSource
from dingo_zmq.mesh.info import PeerInfo
from tests.lan import Host, Net
from tests.support import SERVED, Program, wait_until

LETTERS = "abcdef"


class Labs:
    """
    LANs with one host each, called a, b, c ..., where a node of the same name serves.

    Args:
        net: where they are made.
        count: how many LANs.
        target: what the nodes serve.
        words: further words for the nodes.
    """

    def __init__(self, net: Net, count: int, target: Path | str = SERVED, *words: str) -> None:
        self.net = net
        self.lans = [net.lan() for _ in range(count)]
        self.hosts = [net.host(name, lan) for name, lan in zip(LETTERS, self.lans, strict=False)]
        self.nodes = [host.program("node", str(target), "--threads", "4", *words) for host in self.hosts]
        for node in self.nodes:
            node.line("node ", "out")
        self._between: dict[str, Host] = {}

    def __getitem__(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def between(self, name: str, lans: str = "") -> Host:
        """Return the host of that name, with a leg in each of two LANs: those of its name, unless told."""
        if name not in self._between:
            left, right = (self.lans[LETTERS.index(letter)] for letter in (lans or name)[:2])
            self._between[name] = self.net.host(name, left, right)
        return self._between[name]

    @contextmanager
    def for_one_test(self) -> Iterator[None]:
        """End what is started meanwhile, the forwarders with a good-bye."""
        with self.net.for_one_test():
            try:
                yield
            finally:
                for host in self.hosts:
                    host.close_apps()
                forwarders = [each for host in self._between.values() for each in host.programs]
                for each in forwarders:
                    each.signal(signal.SIGTERM)
                for each in forwarders:
                    each.wait()
                for host in self._between.values():
                    host.end()
                    host.show()
                    host.programs.clear()

    def forward(self, name: str, *words: str, wait: bool = True) -> Program:
        """Start a forwarder on the host between the two LANs that `name` says, such as ab or ab2."""
        return forward(self.between(name), *words, wait=wait)


def forward(host: Host, *words: str, wait: bool = True) -> Program:
    """Start a forwarder between the two LANs of a host, and wait until it works."""
    forwarder = host.program("forward", "--left", "lan0", "--right", "lan1", *words)
    if wait:
        forwarder.line("forward ", "out")
    return forwarder


def seen(app: App) -> dict[str, PeerInfo]:
    """Return the nodes that are ready at a caller, by name."""
    return {peer.name: peer for peer in app.peers() if peer.state == "ready"}


def past(peer: PeerInfo) -> list[str]:
    """Return the names of the forwarders before a node, the nearest to the node first."""
    return [entry.rpartition(".")[0] for entry in peer.via]


def sees(app: App, **ways: list[str] | None) -> dict[str, PeerInfo]:
    """Wait until a caller has these nodes alone, ready, each behind just these forwarders (None for any)."""
    try:
        wait_until(lambda: _is_seen(app, ways), f"it sees {ways}")
    except AssertionError:
        print(*app.peers(), sep="\n")
        raise
    return seen(app)


def _is_seen(app: App, ways: dict[str, list[str] | None]) -> bool:
    found = seen(app)
    told = found.keys() == ways.keys() and len(app.peers()) == len(ways)
    return told and all(way is None or past(found[name]) == way for name, way in ways.items())


class Ear:
    """
    Hears what is announced by multicast on a LAN; to be made on a host there.

    Attributes:
        ever: all that was ever announced.
    """

    def __init__(self, address: str) -> None:
        self.ever: list[Announcement] = []
        self._now: dict[tuple[str, str], Announcement] = {}
        self._source = ZeroconfSource([address])
        self._source.start(self._heard)

    def _heard(self, event: Event) -> None:
        if isinstance(event, Gone):
            self._now.pop((event.node, event.via), None)
        else:
            said = event.announcement
            self.ever.append(said)
            self._now[said.node, said.via] = said

    def paths(self, name: str) -> list[int]:
        """Return how many forwarders stand before a node, for each announcement of it that holds now."""
        return sorted(len(said.path) for said in list(self._now.values()) if said.name == name)

    def close(self) -> None:
        self._source.stop()


@contextmanager
def ears(*hosts: Host) -> Iterator[list[Ear]]:
    """Listen on the LANs of these hosts."""
    with ExitStack() as stack:
        made = [host.inside(Ear, host.address) for host in hosts]
        for ear in made:
            stack.callback(ear.close)
        yield made
