"""Nodes announced by multicast DNS."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dingo_zmq.errors import UsageError
from dingo_zmq.mesh.discovery.multicast import SERVICE_TYPE, STAND_IN_TTL, Interfaces, Multicast
from dingo_zmq.mesh.discovery.port import Announcement, check_node_id, split_tcp
from dingo_zmq.mesh.discovery.txt import encode_txt

if TYPE_CHECKING:
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

__all__ = ["ZeroconfAnnouncer"]

_WITHDRAW_WAIT = 0.4
_OTHER_TTL = 4500  # seconds, as RFC 6762 has it


@dataclass(slots=True)
class _Published:
    """What the network was told of a node, and the repetitions that are still to come."""

    announcement: Announcement
    info: ServiceInfo
    repeats: asyncio.Future[None]


class ZeroconfAnnouncer:
    """
    Announces nodes on the given interfaces; one serves all nodes of a supervisor.

    What is wanted is a table; the loop's thread makes the network agree with it, tells everything again each
    `period` seconds (more or less a fifth, by chance), and says goodbye for what is withdrawn.
    """

    def __init__(self, interfaces: Interfaces = ("127.0.0.1",), period: float = 30.0) -> None:
        """
        Begin to open the sockets, in a thread; see `wait_open` for how that went.

        Args:
            interfaces: addresses of the interfaces to speak on, and no others; or a function that returns
                them, asked every two seconds.
            period: seconds between two announcements of everything.

        Raises:
            ConfigError: if there are no interfaces.
        """
        self._period = period
        self._lock = threading.Lock()
        self._wanted: dict[str, Announcement] = {}
        self._waiting: list[threading.Event] = []
        self._published: dict[str, _Published] = {}
        self._byes: dict[str, asyncio.Future[None]] = {}
        self._turns = itertools.count(1)
        self._multicast = Multicast(interfaces, self._work, "dingo-zeroconf-announcer")
        self._multicast.start()

    def wait_open(self, timeout: float = 5.0) -> None:
        """
        Wait until we can speak.

        Raises:
            ConfigError: if we cannot (no such interface, port 5353 taken), or not within `timeout` seconds.
        """
        self._multicast.wait_open(timeout)

    def announce(self, announcement: Announcement) -> None:
        """
        Tell of a node, or of its new content, as soon as the sockets are open; does not wait for that.

        Where they cannot be opened nothing is told: that is in the log, and `wait_open` raises it.

        Raises:
            ConfigError: if the record would be too large, or has no address to tell.
            UsageError: if the node's id is not one that `check_node_id` accepts.
        """
        check_node_id(announcement.instance)
        encode_txt(announcement)
        with self._lock:
            self._wanted[announcement.node] = announcement
        self._multicast.wake()

    def withdraw(self, node: str) -> None:
        """Say goodbye for a node; returns when that was sent, or after half a second at the latest."""
        done = threading.Event()
        with self._lock:
            if not self._wanted.pop(node, None) or not self._multicast.running:
                return
            self._waiting.append(done)
        self._multicast.wake()
        done.wait(_WITHDRAW_WAIT)

    def close(self) -> None:
        """Say goodbye for all nodes and end the thread, within half a second."""
        with self._lock:
            self._wanted.clear()
        self._multicast.stop()

    async def _work(self, instance: AsyncZeroconf) -> None:
        repeat_at = self._next_repeat()
        while not self._multicast.ending:
            await self._agree(instance)
            await self._multicast.pause(max(0.0, repeat_at - time.monotonic()))
            if time.monotonic() >= repeat_at:
                repeat_at = self._next_repeat()
                for published in self._published.values():
                    zeroconf = instance.zeroconf
                    zeroconf.async_send(zeroconf.generate_service_broadcast(published.info, None))
        if not self._multicast.closing:
            self._leave(instance)
            return
        await self._agree(instance)
        if self._byes:
            # Time for a second goodbye, should the first be lost.
            await asyncio.wait(self._byes.values(), timeout=0.15)

    def _leave(self, instance: AsyncZeroconf) -> None:
        """Forget what was published there without a goodbye: the next instance tells it again."""
        for published in self._published.values():
            published.repeats.cancel()
            instance.zeroconf.registry.async_remove(published.info)
        for bye in self._byes.values():
            bye.cancel()
        self._published.clear()
        self._byes.clear()

    def _next_repeat(self) -> float:
        return time.monotonic() + self._period * random.uniform(0.8, 1.2)  # noqa: S311 (jitter)

    async def _agree(self, instance: AsyncZeroconf) -> None:
        """Make what is published equal to what is wanted, and tell those who wait for it."""
        with self._lock:
            wanted = dict(self._wanted)
            waiting, self._waiting = self._waiting, []
        for node in self._published.keys() - wanted.keys():
            await self._unpublish(instance, node)
        for node, announcement in wanted.items():
            await self._publish(instance, node, announcement)
        await asyncio.sleep(0)  # the first packet of each leaves now
        for event in waiting:
            event.set()

    async def _publish(self, instance: AsyncZeroconf, node: str, announcement: Announcement) -> None:
        published = self._published.get(node)
        if published and published.announcement == announcement:
            return
        bye = self._byes.pop(node, None)
        for old in (bye, published and published.repeats):
            if old:
                old.cancel()  # its repetitions would contradict what comes now
        info = self._info(announcement)
        if published:
            sending = await instance.async_update_service(info)
        else:
            sending = await instance.async_register_service(info, cooperating_responders=True)
        self._published[node] = _Published(announcement, info, asyncio.ensure_future(sending))

    async def _unpublish(self, instance: AsyncZeroconf, node: str) -> None:
        published = self._published.pop(node)
        published.repeats.cancel()
        bye = asyncio.ensure_future(await instance.async_unregister_service(published.info))
        self._byes[node] = bye
        bye.add_done_callback(lambda _: self._byes.pop(node, None) if self._byes.get(node) is bye else None)

    def _info(self, announcement: Announcement) -> ServiceInfo:
        from zeroconf import ServiceInfo

        hosts, port = _hosts_and_port(announcement)
        return ServiceInfo(
            SERVICE_TYPE,
            name := f"{announcement.instance}.{SERVICE_TYPE}",
            server=name,
            port=port,
            other_ttl=STAND_IN_TTL if announcement.path else _OTHER_TTL,
            properties=encode_txt(announcement, next(self._turns)),
            parsed_addresses=hosts or list(filter(_is_address, self._multicast.interfaces)),
        )


def _hosts_and_port(announcement: Announcement) -> tuple[list[str], int]:
    """Return what other tools than ours are told: the addresses among the candidates, and the first port."""
    hosts, ports = [], []
    for endpoint in announcement.tasks:
        with contextlib.suppress(UsageError):
            host, port = split_tcp(endpoint)
            ports.append(port)
            hosts.append(host.strip("[]"))
    return list(dict.fromkeys(filter(_is_address, hosts))), ports[0]


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text)) and "%" not in text
    except ValueError:
        return False
