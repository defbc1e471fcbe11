"""The ways of discovery by their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from dingo_zmq.errors import ConfigError
from dingo_zmq.mesh.discovery.directory import DirectoryAnnouncer, DirectorySource
from dingo_zmq.mesh.discovery.multicast import Interfaces
from dingo_zmq.mesh.discovery.port import Announcer, Source
from dingo_zmq.mesh.discovery.static import StaticSource
from dingo_zmq.mesh.discovery.zeroconf_announcer import ZeroconfAnnouncer
from dingo_zmq.mesh.discovery.zeroconf_source import ZeroconfSource

__all__ = ["DISCOVERY", "announcers", "sources"]

T = TypeVar("T")

_SOURCES: dict[str, Callable[[Interfaces], Source]] = {
    "directory": lambda _: DirectorySource(),
    "zeroconf": ZeroconfSource,
}
_ANNOUNCERS: dict[str, Callable[[Interfaces], Announcer]] = {
    "directory": lambda _: DirectoryAnnouncer(),
    "zeroconf": ZeroconfAnnouncer,
}
DISCOVERY = tuple(_SOURCES)
"""all of them, which is also the default"""


def sources(names: Sequence[str], peers: Sequence[str], interfaces: Interfaces) -> list[Source]:
    """
    Return the sources of these names on these interfaces, and one for fixed addresses where there are any.

    Raises:
        ConfigError: for a name or an address that is none.
    """
    fixed: list[Source] = [StaticSource(peers)] if peers else []
    return fixed + [make(interfaces) for make in _chosen(names, _SOURCES)]


def announcers(names: Sequence[str], interfaces: Interfaces) -> list[Announcer]:
    """
    Return the announcers of these names on these interfaces, ready to use.

    Raises:
        ConfigError: for a name that is none.
    """
    return [make(interfaces) for make in _chosen(names, _ANNOUNCERS)]


def _chosen(names: Sequence[str], makers: dict[str, T]) -> list[T]:
    for name in names:
        if name not in makers:
            raise ConfigError(f"unknown discovery {name!r}; there are: {', '.join(makers)}")
    return [makers[name] for name in names]
