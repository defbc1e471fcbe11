"""Telling discovery where nodes are, and telling it again when this machine's addresses change."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from dingo_zmq.errors import ConfigError
from dingo_zmq.mesh.discovery.port import Announcement, Announcer
from dingo_zmq.mesh.discovery.ways import announcers
from dingo_zmq.mesh.interfaces import addresses
from dingo_zmq.mesh.reach import Reach

__all__ = ["Herald"]

WATCH_SECONDS = 2.0
_log = logging.getLogger("dingo_zmq.herald")


class Herald:
    """
    The announcer of all nodes of a supervisor: what the network hears, and what this machine hears.

    Args:
        discovery: which of "directory" and "zeroconf" are told.
        reach: gives the addresses.

    Raises:
        ConfigError: for an unknown name, or where announcing cannot work at all.
    """

    def __init__(self, discovery: Sequence[str], reach: Reach) -> None:
        self._reach = reach
        self._announcers: list[tuple[Announcer, bool]] = [
            (announcer, name == "zeroconf")
            for name, announcer in zip(discovery, announcers(discovery, reach.interfaces), strict=True)
        ]
        self._lock = threading.Lock()
        self._nodes: dict[str, Announcement] = {}
        self._closing = threading.Event()
        if reach.open:
            threading.Thread(target=self._watch, name="dingo-herald", daemon=True).start()

    def announce(self, announcement: Announcement) -> None:
        """
        Tell of a node; only the port of its first candidate counts, the addresses are this machine's.

        Raises:
            ConfigError: if it cannot be told.
        """
        with self._lock:
            self._nodes[announcement.node] = announcement
            self._tell(announcement)

    def withdraw(self, node: str) -> None:
        """Tell that the node is gone; unknown ids are ignored."""
        with self._lock:
            self._nodes.pop(node, None)
            for announcer, _ in self._announcers:
                announcer.withdraw(node)

    def close(self) -> None:
        """Withdraw all nodes and end it.  May be called twice."""
        self._closing.set()
        with self._lock:
            self._nodes.clear()
            for announcer, _ in self._announcers:
                announcer.close()

    def _watch(self) -> None:
        before = addresses()
        while not self._closing.wait(WATCH_SECONDS):
            now = addresses()
            if now == before:
                continue
            before = now
            _log.info("the addresses of this machine have changed")
            with self._lock:
                for announcement in self._nodes.values():
                    try:
                        self._tell(announcement)
                    except ConfigError as exc:
                        _log.warning("%s: %s", announcement.name, exc)

    def _tell(self, announcement: Announcement) -> None:
        for announcer, lan in self._announcers:
            told = self._reach.told(announcement, lan=lan)
            if told is None:
                announcer.withdraw(announcement.node)
            else:
                announcer.announce(told)
