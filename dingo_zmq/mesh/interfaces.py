"""The network interfaces of this machine, and which of their addresses others can use."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import ifaddr

from dingo_zmq.errors import ConfigError

__all__ = [
    "EVERYWHERE",
    "LOOPBACK",
    "NEVER",
    "Address",
    "Networks",
    "addresses",
    "chosen",
    "is_link_local",
    "lan_addresses",
    "multicast_addresses",
]

LOOPBACK = "127.0.0.1"
EVERYWHERE = "*"
"""stands for all addresses of this machine where a node listens"""
NEVER = 9
"""the rank of an address that cannot be reached from here"""
_V6_LINK_LOCAL = ipaddress.ip_network("fe80::/10")


@dataclass(frozen=True, slots=True)
class Address:
    """
    One address of one interface.

    Attributes:
        interface: name of the interface, such as "eth0".
        index: number of the interface; scopes link-local IPv6 addresses.
        ip: the address, without a scope.
        prefix: length of its network's prefix in bits.
    """

    interface: str
    index: int
    ip: str
    prefix: int

    @property
    def is_v6(self) -> bool:
        """Whether it is an IPv6 address."""
        return ":" in self.ip

    @property
    def is_loopback(self) -> bool:
        """Whether it never leaves this machine."""
        return ipaddress.ip_address(self.ip).is_loopback

    @property
    def is_link_local(self) -> bool:
        """Whether it is an IPv6 address that means something on its own link alone."""
        return is_link_local(self.ip)

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """The network that it is in."""
        return ipaddress.ip_network(f"{self.ip}/{self.prefix}", strict=False)

    @property
    def host(self) -> str:
        """The address as the host of an endpoint that others are told: IPv6 in brackets, without a scope."""
        return f"[{self.ip}]" if self.is_v6 else self.ip

    def is_meant(self, word: str) -> bool:
        """Whether `word` is this address, in brackets and with a scope or not, or its interface."""
        return word == self.interface or self.ip == word.strip("[]").partition("%")[0]


def is_link_local(host: str) -> bool:
    """Whether a host is an IPv6 address of one link, in brackets or not; its scope may follow."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]) in _V6_LINK_LOCAL
    except ValueError:
        return False


def addresses() -> list[Address]:
    """Return all addresses of this machine, in the order of the system."""
    found = []
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            ip = each.ip if isinstance(each.ip, str) else each.ip[0]
            found.append(Address(adapter.name, adapter.index or 0, ip, each.network_prefix))
    return found


def lan_addresses(all_of_them: Iterable[Address]) -> list[Address]:
    """Return those that other machines could reach: IPv4, then global IPv6, then link-local IPv6."""
    others = [each for each in all_of_them if not each.is_loopback]
    return sorted(others, key=lambda each: (each.is_v6, each.is_link_local))


def chosen(word: str, all_of_them: Sequence[Address]) -> list[Address]:
    """
    Return the addresses that `word` means: an address, or all of an interface.

    Raises:
        ConfigError: if this machine has no such address or interface; the text lists what there is.
    """
    found = [each for each in all_of_them if each.is_meant(word)]
    if not found:
        there = ", ".join(f"{each.ip} ({each.interface})" for each in all_of_them if not each.is_link_local)
        raise ConfigError(f"this machine has no address or interface {word!r}; hint: it has {there or 'none'}")
    return found


def multicast_addresses(some: Iterable[Address]) -> list[str]:
    """
    Return one address for each interface and IP version, for sockets that speak multicast there.

    IPv6 addresses keep their scope; IPv6 loopback is left out, since multicast is not heard on it.
    """
    found: dict[tuple[int, bool], str] = {}
    for each in some:
        if each.is_v6 and not each.is_link_local:
            continue
        scope = f"%{each.interface}" if each.is_v6 else ""
        found.setdefault((each.index, each.is_v6), each.ip + scope)
    return list(found.values())


class Networks:
    """How near other machines' addresses are, by the networks that this machine is in."""

    def __init__(self, own: Iterable[Address]) -> None:
        self._own = list(own)

    def rank(self, host: str) -> int:
        """Return 0 for this machine, 1 for a network it is in, 2 for another, 3 for a name, `NEVER` for never."""
        bare, _, scope = host.strip("[]").partition("%")
        try:
            ip = ipaddress.ip_address(bare)
        except ValueError:
            return 3
        if ip.is_loopback or any(each.ip == bare for each in self._own):
            return 0
        if is_link_local(bare):
            return 1 if scope else NEVER
        near = any(each.network.version == ip.version and ip in each.network for each in self._own)
        return 1 if near else 2

    def links(self) -> list[str]:
        """Return the interfaces with a link-local IPv6 address: the scopes that such an address can have."""
        found = [each.interface for each in self._own if each.is_link_local]
        return list(dict.fromkeys(found))
