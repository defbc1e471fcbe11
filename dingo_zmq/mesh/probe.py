"""Asking the kernel of the other side whether a process still listens."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from functools import partial

from dingo_zmq.mesh.reactor import Reactor
from dingo_zmq.mesh.scout import is_numeric, try_connect

__all__ = ["Probe"]


class Probe:
    """
    Tries to connect to some ports, without waiting.

    Ports that refuse mean a dead process; silence or any other error means nothing.

    Args:
        reactor: watches the attempts.
        endpoints: as ``tcp://host:port``.
        done: called once, with whether all of them refused.
    """

    def __init__(self, reactor: Reactor, endpoints: Sequence[str], done: Callable[[bool], None]) -> None:
        self._reactor, self._done = reactor, done
        self._endpoints, self._left = endpoints, len(endpoints)
        self._refused = True
        self._waiting: set[socket.socket] = set()

    def start(self) -> None:
        """Try; `done` may be called before this returns."""
        for endpoint in self._endpoints:
            self._try(endpoint)

    def _try(self, endpoint: str) -> None:
        if not is_numeric(endpoint):  # asking for a name may take long
            self._refused, self._left = False, self._left - 1
            if not self._left:
                self._done(False)
            return
        attempt, code = try_connect(endpoint)
        if code == errno.EINPROGRESS:
            self._waiting.add(attempt)
            self._reactor.watch_fd(attempt.fileno(), partial(self._ready, attempt), writable=True)
        else:
            self._ended(attempt, code)

    def stop(self) -> None:
        """Give up; `done` is not called any more."""
        while self._waiting:
            attempt = self._waiting.pop()
            self._reactor.unwatch_fd(attempt.fileno())
            attempt.close()

    def _ready(self, attempt: socket.socket) -> None:
        self._waiting.discard(attempt)
        self._reactor.unwatch_fd(attempt.fileno())
        self._ended(attempt, attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _ended(self, attempt: socket.socket, code: int) -> None:
        attempt.close()
        self._left -= 1
        self._refused &= code == errno.ECONNREFUSED
        if not self._left:
            self._done(self._refused)
