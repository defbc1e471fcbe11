"""A TCP proxy between callers and a node, whose connections can be broken; for storms and tests."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["FAULTS", "Proxy"]

CHUNK = 64 * 1024
RETRY_SECONDS = 0.02
"""between two looks whether a node that refused connections takes them again"""
FAULTS = ("reset", "stall", "half_close", "slice", "corrupt")
"""what can befall single connections, as methods of `Proxy`"""

T = TypeVar("T")


class _Way:
    """One direction of a connection: what comes from `source` goes to `sink`, more or less."""

    def __init__(self, source: socket.socket, sink: socket.socket, passed: Callable[[int], None]) -> None:
        self.source, self.sink = source, sink
        self._passed = passed
        self.open = asyncio.Event()
        self.open.set()
        self.sliced = 0  # so many bytes go one by one
        self.corrupt: Callable[[bytes], bytes] | None = None  # what becomes of the next chunk
        self.corrupted = False

    async def run(self) -> None:
        """Pass on what comes until the end of it."""
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self.source, CHUNK):
            await self.open.wait()
            if self.corrupt is not None:
                data, self.corrupt, self.corrupted = self.corrupt(data), None, True
            alone = min(self.sliced, len(data))
            self.sliced -= alone
            for place in range(alone):
                await loop.sock_sendall(self.sink, data[place : place + 1])
                await asyncio.sleep(0)
            await loop.sock_sendall(self.sink, data[alone:])
            self._passed(len(data))


class _Link:
    """A connection: a socket to the caller and one to the node."""

    def __init__(self, front: socket.socket, back: socket.socket, passed: Callable[[int], None]) -> None:
        self.sockets = front, back
        for each in self.sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ways = _Way(front, back, passed), _Way(back, front, passed)

    async def run(self) -> None:
        """Pass on what comes until either side ends, and close both."""
        ways = [asyncio.ensure_future(way.run()) for way in self.ways]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if any(way.exception() for way in done):
                self.linger_not()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self.close()

    def close(self) -> None:
        """Close both sockets, also where nothing was passed on yet."""
        for each in self.sockets:
            each.close()

    def linger_not(self) -> None:
        """Have both sockets end with a reset."""
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    @staticmethod
    def shut(how: int, which: Iterable[socket.socket]) -> None:
        for each in which:
            with contextlib.suppress(OSError):
                each.shutdown(how)


class _Door:
    """A port of the proxy, and the port of the node behind it."""

    def __init__(self, proxy: Proxy, port: int, target: int) -> None:
        self._proxy, self.port, self.target = proxy, port, target
        self._listener: socket.socket | None = None

    async def run(self) -> None:
        """Take connections as long as the node does: where it refuses them, so does the proxy."""
        loop = asyncio.get_running_loop()
        while True:
            with self._listen() as listener:
                refused = False
                while not refused:
                    front, _ = await loop.sock_accept(listener)
                    back = await self._reach()
                    refused = back is None
                    if back is None:
                        front.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        front.close()
                    else:
                        self._proxy._opened(_Link(front, back, self._proxy._count))
            while (back := await self._reach()) is None:
                await asyncio.sleep(RETRY_SECONDS)
            back.close()

    def _listen(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        return listener

    async def _reach(self) -> socket.socket | None:
        back = socket.socket()
        back.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(back, ("127.0.0.1", self.target))
        except OSError:
            back.close()
            return None
        except BaseException:
            back.close()
            raise
        return back


class Proxy:
    """
    Stands at two ports for those of a node on loopback.

    Args:
        port: its first port.
        target: the node's first port.
        seed: of its chance.

    Faults befall the connections that are there when they are called, or one of them; each returns how many.
    All methods may be called by any thread.
    """

    def __init__(self, port: int, target: int, seed: int = 0) -> None:
        self.port = port
        self._dice = random.Random(seed)
        self._links: dict[_Link, asyncio.Task[None]] = {}
        self._all_open: asyncio.TimerHandle | None = None
        self._cut = False
        self.passed = 0
        """bytes passed on so far"""
        self.opened = 0
        """connections made so far"""
        self.ended_corrupted = 0
        """connections that ended after they had been corrupted"""
        self._loop = asyncio.new_event_loop()
        self._doors = [_Door(self, port + each, target + each) for each in (0, 1)]
        self._thread = threading.Thread(target=self._run, name=f"proxy {port}", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """What callers name to get to the node."""
        return f"tcp://127.0.0.1:{self.port}"

    def close(self) -> None:
        """End all of it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def links(self) -> int:
        """Return how many connections there are."""
        return self._ask(lambda: len(self._links))

    # ------------------------------------------------------------------ faults

    def reset(self, *, one: bool = False) -> int:
        """Have connections end at both sides as if a machine between had forgotten them."""

        def fault(link: _Link) -> None:
            link.linger_not()
            self._links[link].cancel()

        return self._befall(fault, one)

    def stall(self, seconds: float, *, one: bool = False) -> int:
        """Let nothing through for some seconds, then all of it."""

        def fault(link: _Link) -> None:
            for way in link.ways:
                way.open.clear()
            self._loop.call_later(seconds, self._resume, link)

        return self._befall(fault, one)

    def cut(self, seconds: float) -> int:
        """Let nothing through for some seconds, nor on connections that are made meanwhile."""

        def fault() -> int:
            self._cut = True
            for link in self._links:
                for way in link.ways:
                    way.open.clear()
            self._loop.call_later(seconds, self._mend)
            return len(self._links)

        return self._ask(fault)

    def half_close(self, *, one: bool = False) -> int:
        """Tell one side, by chance, that the other has nothing more to say."""

        def fault(link: _Link) -> None:
            link.shut(socket.SHUT_WR, [self._dice.choice(link.sockets)])

        return self._befall(fault, one)

    def slice(self, count: int = 2000, *, one: bool = False) -> int:
        """Pass on the next `count` bytes of either direction one by one."""

        def fault(link: _Link) -> None:
            for way in link.ways:
                way.sliced = count

        return self._befall(fault, one)

    def corrupt(self, *, one: bool = False) -> int:
        """Change a bit of the next chunk of either direction."""

        def change(data: bytes) -> bytes:
            changed = bytearray(data)
            changed[self._dice.randrange(len(data))] ^= 1 << self._dice.randrange(8)
            return bytes(changed)

        def fault(link: _Link) -> None:
            for way in link.ways:
                way.corrupt = change

        return self._befall(fault, one)

    # ------------------------------------------------------------------ in the loop

    def _befall(self, fault: Callable[[_Link], None], one: bool) -> int:
        def befall() -> int:
            links = list(self._links)
            if one and links:
                links = [self._dice.choice(links)]
            for link in links:
                fault(link)
            return len(links)

        return self._ask(befall)

    def _resume(self, link: _Link) -> None:
        if not self._cut:
            for way in link.ways:
                way.open.set()

    def _mend(self) -> None:
        self._cut = False
        for link in self._links:
            self._resume(link)

    def _count(self, passed: int) -> None:
        self.passed += passed

    def _opened(self, link: _Link) -> None:
        if self._cut:
            for way in link.ways:
                way.open.clear()
        self.opened += 1
        task = self._loop.create_task(link.run())
        self._links[link] = task

        def ended(_: object) -> None:
            del self._links[link]
            link.close()
            self.ended_corrupted += any(way.corrupted for way in link.ways)

        task.add_done_callback(ended)

    def _run(self) -> None:
        loop = self._loop
        doors = [loop.create_task(door.run()) for door in self._doors]
        try:
            loop.run_forever()
        finally:
            tasks = [*doors, *self._links.values()]
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            for link in self._links:
                link.close()
            loop.close()

    def _ask(self, fn: Callable[[], T]) -> T:
        answer: Future[T] = Future()
        self._loop.call_soon_threadsafe(lambda: answer.set_result(fn()))
        return answer.result(10)
