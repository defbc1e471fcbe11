"""Who may come: the key of this process, the addresses that it listens on, and those that others are told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dingo_zmq.errors import ConfigError, UsageError
from dingo_zmq.mesh.discovery.port import MAX_CANDIDATES, Announcement, split_tcp
from dingo_zmq.mesh.interfaces import (
    EVERYWHERE,
    LOOPBACK,
    Address,
    addresses,
    chosen,
    lan_addresses,
    multicast_addresses,
)

if TYPE_CHECKING:
    from dingo_zmq.mesh.keys import Key

__all__ = ["Reach", "credentials"]


@dataclass(frozen=True, slots=True)
class Reach:
    """
    From where a node can be reached, and on which interfaces nodes are looked for.

    Args:
        open: whether anything leaves this machine: a mesh key is there, or it was opened without one.
        bind: addresses or interfaces to keep to; none for all of them.
        advertise: what others are told instead, as "host" or "host:port".
        apart: whether discovery keeps off what is within this machine, for that belongs to no one network.

    Raises:
        ConfigError: for a `bind` beyond this machine where it is not open, and for an `advertise` that is no
            address.
    """

    open: bool
    bind: tuple[str, ...] = ()
    advertise: tuple[str, ...] = ()
    apart: bool = False

    def __post_init__(self) -> None:
        if self.advertise and not self.open:
            raise ConfigError(f"--advertise {self.advertise[0]} needs {_HOW_TO_OPEN}")
        for text in self.advertise:
            _advertised(text, 1)

    def hosts(self) -> list[str]:
        """
        Return the hosts to bind.

        Raises:
            ConfigError: for an address or interface that this machine does not have, or may not open.
        """
        if not self.bind:
            return [EVERYWHERE] if self.open else [LOOPBACK]
        here = list({each: None for word in self.bind for each in chosen(word, addresses())})
        if not self.open and not all(each.is_loopback for each in here):
            raise ConfigError(f"listening on {self.bind[0]} needs {_HOW_TO_OPEN}")
        return [_scoped(each) for each in here]

    def local(self, port: int) -> list[tuple[str, str]]:
        """Return the candidates for processes of this machine, nearest first; `port` is that of the tasks."""
        if not self.bind:
            return [_pair(LOOPBACK, port), *(self.lan(port) if self.open else [])][:MAX_CANDIDATES]
        return [_pair(_scoped(each), port) for each in self._bound(addresses())][:MAX_CANDIDATES]

    def lan(self, port: int) -> list[tuple[str, str]]:
        """Return the candidates that the network is told; nothing where this machine has no address there."""
        if self.advertise:
            return [_advertised(text, port) for text in self.advertise]
        if not self.open:
            return [_pair(LOOPBACK, port)]
        hosts = [each.host for each in lan_addresses(self._bound(addresses()))]
        return [_pair(host, port) for host in dict.fromkeys(hosts)][:MAX_CANDIDATES]

    def interfaces(self) -> list[str]:
        """Return the addresses of the interfaces on which discovery speaks and listens."""
        if not self.open:
            return [LOOPBACK]
        beyond = multicast_addresses(lan_addresses(self._bound(addresses())))
        return beyond if self.apart else [LOOPBACK, *beyond]

    def told(self, announcement: Announcement, *, lan: bool) -> Announcement | None:
        """Return an announcement with the candidates for the network or for this machine, None without any."""
        _, port = split_tcp(announcement.tasks[0])
        pairs = self.lan(port) if lan else self.local(port)
        if not pairs:
            return None
        tasks, reports = zip(*pairs, strict=True)
        return replace(announcement, tasks=tasks, reports=reports)

    def _bound(self, there: list[Address]) -> list[Address]:
        """Return those that are kept to; an interface may have lost its addresses for a while."""
        if not self.bind:
            return there
        return [each for each in there if any(each.is_meant(word) for word in self.bind)]


_HOW_TO_OPEN = "a mesh key; hint: make one with dingo-zmq keygen, and copy it to the other machines"


def credentials(
    key: str | None, *, insecure_lan: bool, bind: Iterable[str] = (), advertise: Iterable[str] = ()
) -> tuple[Key | None, Reach]:
    """
    Return the key to use, None for no security at all, and the reach that comes with it.

    Args:
        key: file of a mesh or guest key, None for the one in its usual place or, where there is none, this
            user's own.
        insecure_lan: use no key, and be open all the same.
        bind, advertise: see `Reach`.

    Raises:
        ConfigError: see `keys.find_key` and `Reach`; also for a key and `insecure_lan` at once.
    """
    from dingo_zmq.mesh.keys import find_key  # and with it ZeroMQ, which a supervisor does not need

    if insecure_lan:
        if key is not None:
            raise ConfigError(f"--insecure-lan means no key at all, but there is {key}; hint: leave one out")
        return None, Reach(open=True, bind=tuple(bind), advertise=tuple(advertise))
    found = find_key(key)
    reach = Reach(found.kind != "local", tuple(bind), tuple(advertise))
    reach.hosts()  # so that one hears of an address that is none
    return found, reach


def _pair(host: str, port: int) -> tuple[str, str]:
    return f"tcp://{host}:{port}", f"tcp://{host}:{port + 1}"


def _scoped(address: Address) -> str:
    return f"[{address.ip}%{address.interface}]" if address.is_link_local else address.host


def _advertised(text: str, port: int) -> tuple[str, str]:
    host, colon, told = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host and not host.endswith("]")):
        host, told = text, ""
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    try:
        pair = _pair(host, int(told or port))
        for endpoint in pair:
            split_tcp(endpoint)
    except (UsageError, ValueError):
        raise ConfigError(
            f"cannot advertise {text!r:.80}; hint: write 192.168.1.20, bench-3.local or 192.168.1.20:47100"
        ) from None
    return pair
