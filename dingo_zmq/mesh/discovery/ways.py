"""The ways of discovery by their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from dingo_zmq.errors import ConfigError
from dingo_zmq.mesh.discovery.directory import DirectoryAnnouncer, DirectorySource
from dingo_zmq.mesh.discovery.port import Announcer, Source
from dingo_zmq.mesh.discovery.static import StaticSource
from dingo_zmq.mesh.discovery.zeroconf_announcer import ZeroconfAnnouncer
from dingo_zmq.mesh.discovery.zeroconf_source import ZeroconfSource

__all__ = ["DISCOVERY", "announcers", "sources"]

T = TypeVar("T")

_SOURCES: dict[str, Callable[[], Source]] = {"directory": DirectorySource, "zeroconf": ZeroconfSource}
_ANNOUNCERS: dict[str, Callable[[], Announcer]] = {
    "directory": DirectoryAnnouncer,
    "zeroconf": ZeroconfAnnouncer,
}
DISCOVERY = tuple(_SOURCES)
"""all of them, which is also the default"""


def sources(names: Sequence[str], peers: Sequence[str]) -> list[Source]:
    """
    Return the sources of these names, and one for fixed addresses where there are any.

    Raises:
        ConfigError: for a name or an address that is none.
    """
    fixed: list[Source] = [StaticSource(peers)] if peers else []
    return fixed + [make() for make in _chosen(names, _SOURCES)]


def announcers(names: Sequence[str]) -> list[Announcer]:
    """
    Return the announcers of these names, ready to use.

    Raises:
        ConfigError: for a name that is none.
    """
    return [make() for make in _chosen(names, _ANNOUNCERS)]


def _chosen(names: Sequence[str], makers: dict[str, T]) -> list[T]:
    for name in names:
        if name not in makers:
            raise ConfigError(f"unknown discovery {name!r}; there are: {', '.join(makers)}")
    return [makers[name] for name in names]
