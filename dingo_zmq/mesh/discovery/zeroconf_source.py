"""Nodes found by multicast DNS."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from dingo_zmq.errors import PeerError
from dingo_zmq.mesh.discovery.gate import Gate
from dingo_zmq.mesh.discovery.multicast import SERVICE_TYPE, STAND_IN_TTL, Interfaces, Multicast
from dingo_zmq.mesh.discovery.port import Announcement, Changed, Emit, Found, Gone
from dingo_zmq.mesh.discovery.txt import decode_txt
from dingo_zmq.model import MAX_NODES, counted

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncZeroconf

__all__ = ["ZeroconfSource"]

_log = logging.getLogger(__name__)

_LOOKUP_MS = 3000
_STALE_SECONDS = 5.0
_TXT, _INTERNET = 16, 1  # type and class (RFC 1035)
_MAX_LOOKUPS = 32
_ASK_SECONDS, _ASK_TIMES = 3.0, 9
"""how often we ask again: zeroconf itself asks at once and after 1, 5 and 14 s, which a bad network may lose"""


class ZeroconfSource:
    """
    Hears of nodes on the given interfaces.  Goodbyes are heard; a crash is not: mDNS is no life sign.

    What does not look like an announcement is left out, with a line in the debug log.
    """

    name = "zeroconf"

    def __init__(self, interfaces: Interfaces = ("127.0.0.1",), limit: int = MAX_NODES) -> None:
        """
        Prepare it.

        Args:
            interfaces: addresses of the interfaces to listen on, and no others; or a function that returns
                them, asked every two seconds.
            limit: nodes known at a time; further ones are ignored, with a warning at the first.

        Raises:
            ConfigError: if there are no interfaces.
        """
        self._multicast = Multicast(interfaces, self._work, "dingo-zeroconf-source")
        self._limit = limit
        self._warned = False
        self._known: dict[str, Announcement] = {}  # by instance
        self._lookups: dict[str, asyncio.Task[None]] = {}
        self._gate: Gate | None = None

    def start(self, emit: Emit) -> None:
        """Return at once; if the sockets cannot be opened this is logged, and `wait_open` raises it."""
        self._gate = Gate(emit)
        self._multicast.start()

    def wait_open(self, timeout: float = 5.0) -> None:
        """
        Wait until we listen.

        Raises:
            ConfigError: if we cannot (no such interface, port 5353 taken), or not within `timeout` seconds.
        """
        self._multicast.wait_open(timeout)

    def stop(self) -> None:
        """Emit nothing any more, and end the thread."""
        if self._gate:
            self._gate.shut()
            self._multicast.stop()

    async def _work(self, instance: AsyncZeroconf) -> None:
        from zeroconf import DNSQuestionType
        from zeroconf.asyncio import AsyncServiceBrowser

        browser = AsyncServiceBrowser(
            instance.zeroconf, SERVICE_TYPE, handlers=[self._on_change], question_type=DNSQuestionType.QM
        )
        _ask(instance.zeroconf, unicast=True)
        for _ in range(_ASK_TIMES):
            await self._multicast.pause(_ASK_SECONDS)
            if self._multicast.ending:
                break
            _ask(instance.zeroconf)
        heard_enough_at = time.monotonic() + STAND_IN_TTL
        while not self._multicast.ending:
            await self._multicast.pause(_STALE_SECONDS)
            if time.monotonic() > heard_enough_at:
                self._forget_stale(instance.zeroconf)
        await browser.async_cancel()

    def _on_change(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        """Called by zeroconf in the loop; the names of the parameters are its own."""
        from zeroconf import ServiceStateChange
        from zeroconf.asyncio import AsyncServiceInfo

        instance = name.removesuffix(f".{service_type}")
        if state_change is ServiceStateChange.Removed:
            self._forget(instance)
            return
        info = AsyncServiceInfo(service_type, name)
        info.load_from_cache(zeroconf)
        if info.text:
            self._heard(instance, info.text)
        elif instance not in self._lookups and len(self._lookups) < _MAX_LOOKUPS and self._has_room(instance):
            self._lookups[instance] = asyncio.ensure_future(self._look_up(zeroconf, instance, info))

    async def _look_up(self, zeroconf: Zeroconf, instance: str, info: Any) -> None:
        from zeroconf import DNSQuestionType

        try:
            await info.async_request(zeroconf, _LOOKUP_MS, question_type=DNSQuestionType.QM)
            if info.text:
                self._heard(instance, info.text)
            else:
                _log.debug("no TXT record for %r", instance)
        finally:
            self._lookups.pop(instance, None)

    def _heard(self, instance: str, record: bytes) -> None:
        try:
            announcement = decode_txt(instance, record)
        except PeerError as exc:
            _log.debug("ignored what zeroconf says of %r: %s", instance, exc)
            return
        before = self._known.get(instance)
        if before == announcement or not self._has_room(instance):
            return
        if before and (before.node, before.via) != (announcement.node, announcement.via):
            self._emit(Gone(before.node, self.name, before.via))
            before = None
        self._known[instance] = announcement
        event = Changed(announcement, self.name) if before else Found(announcement, self.name)
        self._emit(event)

    def _forget_stale(self, zeroconf: Zeroconf) -> None:
        """
        Forget what forwarders stand in for that they do not announce any more: they were killed.

        Nodes are not forgotten so, since a bad network may lose what they say.  zeroconf does not do it for us: it
        keeps pointers for 19 minutes at least.
        """
        from zeroconf import current_time_millis

        for instance, said in list(self._known.items()):
            if not said.path:
                continue
            records = zeroconf.cache.get_all_by_details(f"{instance}.{SERVICE_TYPE}", _TXT, _INTERNET)
            now = current_time_millis()
            if all(record.is_expired(now) for record in records):
                self._forget(instance)

    def _forget(self, instance: str) -> None:
        lookup = self._lookups.pop(instance, None)
        if lookup:
            lookup.cancel()
        said = self._known.pop(instance, None)
        if said:
            self._emit(Gone(said.node, self.name, said.via))

    def _emit(self, event: Found | Changed | Gone) -> None:
        if self._gate:
            self._gate(event)

    def _has_room(self, instance: str) -> bool:
        if instance in self._known or len(self._known) < self._limit:
            return True
        if not self._warned:
            self._warned = True
            _log.warning("zeroconf announces more than %s; the rest is ignored", counted(self._limit, "node"))
        return False


def _ask(zeroconf: Zeroconf, *, unicast: bool = False) -> None:
    """
    Ask once more who is there; who knows that we know of him does not answer.

    Args:
        zeroconf: asks.
        unicast: ask for answers to us alone.  Nobody multicasts the same record twice within a second (RFC 6762,
            section 6), so that we would wait for that long where somebody else has just asked.  These answers may
            miss us where several programs share the port, so the other questions are needed too.
    """
    from zeroconf import DNSOutgoing, DNSQuestion, current_time_millis  # type: ignore[attr-defined]

    query, pointer = 0, 12  # flags of a query, type PTR (RFC 1035)
    question = DNSQuestion(SERVICE_TYPE, pointer, _INTERNET)
    question.unicast = unicast
    out = DNSOutgoing(query, multicast=True)
    out.add_question(question)
    now = current_time_millis()
    for known in zeroconf.cache.get_all_by_details(SERVICE_TYPE, pointer, _INTERNET):
        if not known.is_stale(now):  # RFC 6762, section 7.1
            out.add_answer_at_time(known, now)
    zeroconf.async_send(out)
