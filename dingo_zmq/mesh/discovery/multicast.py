"""One thread, one event loop and one zeroconf instance in it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING

from dingo_zmq.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from zeroconf.asyncio import AsyncZeroconf

__all__ = ["SERVICE_TYPE", "Multicast"]

SERVICE_TYPE = "_dingo-zmq._tcp.local."

_log = logging.getLogger(__name__)


class Multicast:
    """
    Runs a coroutine beside a zeroconf instance until it is stopped.

    zeroconf is imported and opened in the thread, so that starting costs the starter nothing.

    Attributes:
        closing: set when the coroutine should come to its end.
    """

    def __init__(
        self, interfaces: Sequence[str], work: Callable[[AsyncZeroconf], Awaitable[None]], thread_name: str
    ) -> None:
        """
        Prepare it.

        Args:
            interfaces: addresses of the interfaces to use, and no others.
            work: the coroutine; it should return soon after `closing` was set and `pause` returned.
            thread_name: for debuggers.

        Raises:
            ConfigError: if there are no interfaces.
        """
        if isinstance(interfaces, str) or not interfaces:
            raise ConfigError('zeroconf needs the addresses of its interfaces, such as ["127.0.0.1"]')
        self._interfaces = list(interfaces)
        self._work = work
        self._thread = threading.Thread(target=self._run, name=thread_name, daemon=True)
        self._opened = threading.Event()
        self._error: ConfigError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell: asyncio.Event | None = None
        self.closing = False

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

    def wake(self) -> None:
        """Let `pause` return, in the loop's thread.  May be called from any thread, at any time."""
        loop, bell = self._loop, self._bell
        if loop and bell:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(bell.set)

    async def pause(self, seconds: float | None = None) -> None:
        """Wait for `wake`, for at most so many seconds.  For the coroutine alone."""
        bell = self._bell
        if bell and not self.closing:
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
        if self.closing:
            return
        try:
            instance = await self._open()
        except ConfigError as exc:
            self._error = exc
            _log.warning("%s", exc)
            return
        self._opened.set()
        try:
            await self._work(instance)
        finally:
            await instance.async_close()

    async def _open(self) -> AsyncZeroconf:
        from zeroconf.asyncio import AsyncZeroconf

        for interface in self._interfaces:
            _check_interface(interface)
        where = ", ".join(self._interfaces)
        try:
            instance = AsyncZeroconf(interfaces=list(self._interfaces))
        except (OSError, RuntimeError, ValueError) as exc:
            raise ConfigError(
                f"cannot open zeroconf on {where}: {exc}; does another program keep UDP port 5353 to itself?"
            ) from exc
        await instance.zeroconf.async_wait_for_start()
        if not instance.zeroconf.engine.senders:
            await instance.async_close()
            raise ConfigError(f"cannot open zeroconf on {where}: no multicast there")
        return instance


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
