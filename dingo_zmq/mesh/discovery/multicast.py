"""One thread, one event loop and one zeroconf instance in it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import ipaddress
import logging
import socket
import struct
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, TypeAlias

from dingo_zmq.errors import ConfigError
from dingo_zmq.mesh.interfaces import addresses

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from zeroconf.asyncio import AsyncZeroconf

__all__ = ["SERVICE_TYPE", "STAND_IN_TTL", "Interfaces", "Multicast"]

SERVICE_TYPE = "_dingo-zmq._tcp.local."
STAND_IN_TTL = 120
"""seconds for which a forwarder's word of a node counts: where it was killed another one may have to take over"""

Interfaces: TypeAlias = Sequence[str] | Callable[[], Sequence[str]]
"""addresses of the interfaces to use and no others, or what tells them at any time"""

_IP_MULTICAST_ALL = (0, 49)  # of linux/in.h
_SO_ATTACH_FILTER = 26
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # of linux/bpf_common.h
_INTERFACE, _ALL, _JUMP_MOST = 0xFFFFF008, 0xFFFF, 200

_GONE = (errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO)

WATCH_SECONDS = 2.0
"""between two looks whether the interfaces are still the same"""

_log = logging.getLogger(__name__)


class Multicast:
    """
    Runs a coroutine beside a zeroconf instance until it is stopped.

    zeroconf is imported and opened in the thread, so that starting costs the starter nothing.  Where the
    interfaces change, the coroutine is asked to end and run again with a new instance.

    Attributes:
        closing: set when the coroutine should come to its end for good.
        moved: set when it should come to its end since the interfaces have changed.
        interfaces: the addresses of the interfaces in use.
    """

    def __init__(
        self, interfaces: Interfaces, work: Callable[[AsyncZeroconf], Awaitable[None]], thread_name: str
    ) -> None:
        """
        Prepare it.

        Args:
            interfaces: addresses of the interfaces to use, and no others; or a function that returns them.
            work: the coroutine; it should return soon after `ending` was set and `pause` returned.
            thread_name: for debuggers.

        Raises:
            ConfigError: if there are no interfaces.
        """
        if isinstance(interfaces, str) or not interfaces:
            raise ConfigError('zeroconf needs the addresses of its interfaces, such as ["127.0.0.1"]')
        self._tell = interfaces if callable(interfaces) else None
        self.interfaces = [] if callable(interfaces) else list(interfaces)
        self._work = work
        self._thread = threading.Thread(target=self._run, name=thread_name, daemon=True)
        self._opened = threading.Event()
        self._error: ConfigError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell: asyncio.Event | None = None
        self.closing = self.moved = False

    def start(self) -> None:
        """Start the thread and return at once."""
        self._thread.start()

    def wait_open(self, timeout: float) -> None:
        """
        Wait until the sockets are open.

        Raises:
            ConfigError: if they cannot be opened, or not within `timeout` seconds.
        """
        if not self._opened.wait(timeout):
            raise ConfigError(f"zeroconf did not open within {timeout:g} s")
        if self._error:
            raise self._error

    @property
    def running(self) -> bool:
        """Whether the thread is there to do anything."""
        return self._thread.is_alive()

    @property
    def ending(self) -> bool:
        """Whether the coroutine should come to its end."""
        return self.closing or self.moved

    def wake(self) -> None:
        """Let `pause` return, in the loop's thread.  May be called from any thread, at any time."""
        loop, bell = self._loop, self._bell
        if loop and bell:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(bell.set)

    async def pause(self, seconds: float | None = None) -> None:
        """Wait for `wake`, for at most so many seconds.  For the coroutine alone."""
        bell = self._bell
        if bell and not self.ending:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await bell.wait()
            bell.clear()

    def stop(self, timeout: float = 0.5) -> None:
        """End the thread; after `timeout` seconds it is left to end on its own."""
        self.closing = True
        self.wake()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        logging.getLogger("zeroconf").addFilter(_without_traceback)
        try:
            asyncio.run(self._main())
        except Exception as exc:  # whatever zeroconf does, finding by it is optional
            self._error = self._error or ConfigError(f"zeroconf failed: {exc}")
            _log.exception("zeroconf failed; nodes are no longer found or announced by it")
        finally:
            self._opened.set()

    async def _main(self) -> None:
        self._bell = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        while not self.closing:
            self.moved = False
            if self._tell is not None:
                self.interfaces = _usable(self._tell())
            try:
                instance = await self._open()
            except ConfigError as exc:
                if self._error is None or str(exc) != str(self._error):
                    _log.warning("%s", exc)
                self._error = exc
                self._opened.set()
                if self._tell is None:
                    return
                await self.pause(WATCH_SECONDS)
                continue
            self._error = None
            self._opened.set()
            watch = asyncio.ensure_future(self._watch())
            try:
                await self._work(instance)
            finally:
                watch.cancel()
                await instance.async_close()

    async def _watch(self) -> None:
        """Ask for a new instance once the interfaces are others."""
        while self._tell is not None and not self.moved:
            await asyncio.sleep(WATCH_SECONDS)
            now = _usable(self._tell())
            if now != self.interfaces:
                _log.info("the network interfaces have changed: %s", ", ".join(now))
                self.moved = True
                if self._bell is not None:
                    self._bell.set()

    async def _open(self) -> AsyncZeroconf:
        from zeroconf.asyncio import AsyncZeroconf

        for interface in self.interfaces:
            _check_interface(interface)
        where = ", ".join(self.interfaces)
        try:
            instance = AsyncZeroconf(interfaces=list(self.interfaces))
        except (OSError, RuntimeError, ValueError) as exc:
            raise ConfigError(
                f"cannot open zeroconf on {where}: {exc}; does another program keep UDP port 5353 to itself?"
            ) from exc
        try:
            for each in _sockets(instance):
                _keep_to(self.interfaces, each)
        except OSError as exc:
            await instance.async_close()
            raise ConfigError(f"cannot open zeroconf on {where}: it cannot be kept to that ({exc})") from exc
        await instance.zeroconf.async_wait_for_start()
        if not instance.zeroconf.engine.senders:
            await instance.async_close()
            raise ConfigError(f"cannot open zeroconf on {where}: no multicast there")
        return instance


def _usable(interfaces: Sequence[str]) -> list[str]:
    """Return those that can be used now: an IPv6 address, say, is not while it is looked for doubles of it."""
    usable = []
    for interface in interfaces:
        with contextlib.suppress(ConfigError):
            _check_interface(interface)
            usable.append(interface)
    return usable


def _check_interface(address: str) -> None:
    """Raise ConfigError unless an interface of ours has the address; zeroconf leaks sockets if not."""
    try:
        family, kind, _, _, sockaddr = socket.getaddrinfo(
            address, 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )[0]
        with socket.socket(family, kind) as probe:
            probe.bind(sockaddr)
    except OSError as exc:
        raise ConfigError(
            f"cannot open zeroconf on {address}: this machine has no interface with that address ({exc})"
        ) from exc


def _sockets(instance: AsyncZeroconf) -> list[socket.socket]:
    """Return the sockets of an instance that has just been made, before anything is read from them."""
    engine = instance.zeroconf.engine
    return [each for each in (engine._listen_socket, *engine._respond_sockets) if each is not None]


def _keep_to(interfaces: Sequence[str], listener: socket.socket) -> None:
    """
    Have a socket hear nothing but what comes in there, and forget what it has heard.

    Linux gives a multicast to all sockets of the port once any program of the machine has joined the group, and
    questions to this machine alone come in anywhere; both would be answered.  One word from a network that this is
    not about, and a node is taken for one of both networks.
    """
    if sys.platform != "linux":
        return
    listener.setsockopt(*_IP_MULTICAST_ALL, 0)
    if all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in interfaces):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    bare = {each.partition("%")[0] for each in interfaces}
    _hear_only({each.index for each in addresses() if each.ip in bare}, listener)
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.recv(1, socket.MSG_DONTWAIT)


def _hear_only(interfaces: Collection[int], listener: socket.socket) -> None:
    """
    Have the kernel drop what comes in at other interfaces.

    Nothing less will do for IPv6: a socket that has joined a group on one interface hears it on all where anybody
    has joined it, whatever IPV6_MULTICAST_ALL says.
    """
    here = sorted(interfaces)[:_JUMP_MOST]
    steps = [(_LOAD, 0, 0, _INTERFACE)]
    steps += [(_JUMP_IF_EQUAL, len(here) - number, 0, index) for number, index in enumerate(here)]
    steps += [(_RETURN, 0, 0, 0), (_RETURN, 0, 0, _ALL)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    told = struct.pack("HP", len(steps), ctypes.addressof(program))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, told)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Filter zeroconf's log: a firewall is worth a line but no traceback, an address that goes not even that."""
    if record.exc_info and isinstance(record.exc_info[1], OSError):
        if record.exc_info[1].errno in _GONE:
            return False
        record.exc_info = None
    return True
