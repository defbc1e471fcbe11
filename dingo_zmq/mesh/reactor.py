"""The one I/O thread of a process's App: it owns every socket, and decides nothing."""

from __future__ import annotations

import logging
import math
import os
import select
import socket as sockets
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import Any, Protocol, TypeVar

import zmq

from dingo_zmq.errors import Closed

__all__ = ["Part", "Reactor"]

IDLE_SECONDS = 60.0
T = TypeVar("T")
_log = logging.getLogger(__name__)
_reactors: weakref.WeakSet[Reactor] = weakref.WeakSet()


class Part(Protocol):
    """A role that the I/O thread plays: caller or node.  All methods are called by that thread."""

    wakeup: float

    def open(self, reactor: Reactor) -> None:
        """Make sockets and have them watched."""

    def work(self, now: float) -> bool:
        """Take what has come, up to a bound, and act on it; return whether more may be waiting."""

    def close(self, now: float) -> None:
        """Say good-bye and close the sockets."""


class Reactor:
    """
    A thread with a poller, and a deque through which other threads hand it work.

    A thread that hands over work wakes the reactor only when it sleeps: with the work in the deque first and
    `sleeping` looked at second, while the reactor sets `sleeping` first and looks at the deques second, one
    of the two sees the other.

    Args:
        context: the ZeroMQ context; the reactor terminates it at its end.
        name: of the thread.
        on_crash: called if the thread dies of an error; the default ends the process, since half a node alive
            is worse than none.
    """

    def __init__(
        self, context: zmq.Context[Any], name: str, on_crash: Callable[[], None] | None = None
    ) -> None:
        self.context = context
        self.sleeping = False
        self.parts: list[Part] = []
        self._on_crash = on_crash or _end_process
        self._calls: deque[Callable[[], None]] = deque()
        self._poller = zmq.Poller()
        self._fds = _Watched()
        self._bell = _Bell()
        self._poller.register(self._bell.fd, zmq.POLLIN)
        self._poller.register(self._fds.fd, zmq.POLLIN)
        self._running = True
        self._forked = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        _reactors.add(self)

    # ------------------------------------------------------------------ any thread

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """See that the thread looks at its deques; cheap to call too often."""
        self.sleeping = False
        self._bell.ring()

    def call(self, fn: Callable[[], None]) -> None:
        """
        Have `fn` called by the thread.

        Raises:
            Closed: after its end, or in a process that was forked.
        """
        if self._forked or not self._running:
            raise Closed("this App is closed" if not self._forked else FORKED)
        self._calls.append(fn)
        if self.sleeping:
            self.wake()

    def ask(self, fn: Callable[[], T], timeout: float = 10.0) -> T:
        """
        Have `fn` called by the thread, wait, and return what it returns.

        Raises:
            Closed: after its end, or in a process that was forked.
            TimeoutError: when the thread did not come to it within `timeout` seconds.
        """
        if self.is_current:
            return fn()
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(fn())
            except BaseException as exc:
                answer.set_exception(exc)

        self.call(run)
        return answer.result(timeout)

    @property
    def is_current(self) -> bool:
        """Whether this is the reactor's own thread."""
        return threading.current_thread() is self._thread

    def stop(self, timeout: float) -> bool:
        """Close all parts and end the thread; return whether it ended within `timeout` seconds."""
        if self._forked:
            return True
        self._running = False
        self.wake()
        if not self.is_current:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # ------------------------------------------------------------------ the thread

    def watch(self, socket: zmq.Socket[Any]) -> None:
        """Wake up when a ZeroMQ socket has something."""
        self._poller.register(socket, zmq.POLLIN)

    def unwatch(self, socket: zmq.Socket[Any]) -> None:
        """The opposite of `watch`, before the socket is closed."""
        self._poller.unregister(socket)

    def watch_fd(self, fd: int, ready: Callable[[], None], *, writable: bool = False) -> None:
        """Call `ready` when a file descriptor is readable (or writable)."""
        self._fds.add(fd, ready, writable=writable)

    def unwatch_fd(self, fd: int) -> None:
        """The opposite of `watch_fd`, before the descriptor is closed."""
        self._fds.remove(fd)

    def _run(self) -> None:
        try:
            while self._running:
                self._round()
            now = monotonic()
            for part in self.parts:
                part.close(now)
            self.context.term()
        except BaseException:
            _log.critical("the I/O thread died", exc_info=True)
            self._running = False
            self._on_crash()
        finally:
            self._fds.close()
            self._bell.close()

    def _round(self) -> None:
        calls = self._calls
        while calls:
            calls.popleft()()
        now = monotonic()
        busy = False
        soonest = now + IDLE_SECONDS
        for part in self.parts:
            busy |= part.work(now)
            soonest = min(soonest, part.wakeup)
        if busy:
            return
        self.sleeping = True
        for part in self.parts:
            if part.work(now):  # what was handed over before `sleeping` was set
                self.sleeping = False
                return
            soonest = min(soonest, part.wakeup)
        if calls or not self._running:
            self.sleeping = False
            return
        wait = max(0.0, soonest - monotonic())
        ready = self._poller.poll(math.ceil(wait * 1000))
        self.sleeping = False
        for what, _ in ready:
            if what == self._bell.fd:
                self._bell.hush()
            elif what == self._fds.fd:
                self._fds.dispatch()

    def _after_fork(self) -> None:
        self._forked = True


FORKED = (
    "this process was forked from one that uses a mesh App, whose sockets do not work here; "
    'hint: start processes with multiprocessing.get_context("spawn"), or make a new App in the child'
)


def _end_process() -> None:
    os._exit(70)


def _mark_forked() -> None:
    for reactor in list(_reactors):
        reactor._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)


class _Bell:
    """Wakes a poller: an eventfd, or a socket pair where there is none."""

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._pair: tuple[sockets.socket, sockets.socket] | None = None
        else:
            self._pair = sockets.socketpair()
            for end in self._pair:
                end.setblocking(False)
            self.fd = self._pair[0].fileno()

    def ring(self) -> None:
        try:
            if self._pair is None:
                os.eventfd_write(self.fd, 1)
            else:
                self._pair[1].send(b"!")
        except (BlockingIOError, OSError):
            return  # it rings already, or is closed

    def hush(self) -> None:
        try:
            if self._pair is None:
                os.eventfd_read(self.fd)
            else:
                self._pair[0].recv(4096)
        except BlockingIOError:
            return

    def close(self) -> None:
        if self._pair is None:
            fd, self.fd = self.fd, -1
            os.close(fd)
        else:
            for end in self._pair:
                end.close()


class _Watched:
    """Many descriptors behind one, so that the poller's list stays short: an epoll, where there is one."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.fd = self._epoll.fileno()
        self._ready: dict[int, Callable[[], None]] = {}

    def add(self, fd: int, ready: Callable[[], None], *, writable: bool) -> None:
        self._ready[fd] = ready
        self._epoll.register(fd, select.EPOLLOUT if writable else select.EPOLLIN)

    def remove(self, fd: int) -> None:
        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def dispatch(self) -> None:
        for fd, _ in self._epoll.poll(0):
            ready = self._ready.get(fd)
            if ready is not None:
                ready()

    def close(self) -> None:
        self._epoll.close()
