"""Which of a node's candidate addresses answers."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic

from dingo_zmq.mesh.discovery.port import split_tcp
from dingo_zmq.mesh.reactor import Reactor

__all__ = ["Pair", "Scout", "is_numeric", "try_connect"]

Pair = tuple[str, str]
"""a candidate: the endpoint for tasks and the one for reports"""

HEAD_START_SECONDS = 0.15
"""that nearer candidates have over farther ones"""
SCOUT_SECONDS = 2.0


def is_numeric(endpoint: str) -> bool:
    """Return whether the host of an endpoint is an address, so that nobody must be asked for it."""
    host, _ = split_tcp(endpoint)
    return host.startswith("[") or host.replace(".", "").isdigit()


def try_connect(endpoint: str) -> tuple[socket.socket, int]:
    """Begin to connect without waiting; return the socket and the error code, EINPROGRESS while it goes on."""
    host, port = split_tcp(endpoint)
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    attempt = socket.socket(family, socket.SOCK_STREAM)
    attempt.setblocking(False)
    try:
        code = attempt.connect_ex((host.strip("[]"), port))
    except OSError as exc:
        code = exc.errno or errno.EIO
    return attempt, code


class Scout:
    """
    Tries to connect to all candidates at once, and takes the nearest of those that answer.

    Args:
        reactor: watches the attempts.
        pairs: the candidates, nearest first; those with names instead of addresses are left out.
        done: called once, with the pair or None.

    Attributes:
        deadline: monotonic seconds at which `tick` must be called.
    """

    def __init__(self, reactor: Reactor, pairs: Sequence[Pair], done: Callable[[Pair | None], None]) -> None:
        self._reactor, self._done = reactor, done
        self._pairs = [pair for pair in pairs if pair[0].startswith("tcp://") and is_numeric(pair[0])]
        self._answered: set[int] = set()
        self._waiting: dict[int, socket.socket] = {}
        self._over = False
        self._began = monotonic()
        self.deadline = self._began + HEAD_START_SECONDS

    def start(self) -> None:
        """Try; `done` may be called before this returns."""
        for number, (tasks, _) in enumerate(self._pairs):
            attempt, code = try_connect(tasks)
            if code == errno.EINPROGRESS:
                self._waiting[number] = attempt
                self._reactor.watch_fd(attempt.fileno(), partial(self._ready, number), writable=True)
            else:
                attempt.close()
                if code == 0:
                    self._answered.add(number)
        self._judge()

    def tick(self, now: float) -> None:
        """The deadline has come."""
        if self._answered or now - self._began >= SCOUT_SECONDS:
            self._end(min(self._answered, default=None))
        else:
            self.deadline = self._began + SCOUT_SECONDS

    def stop(self) -> None:
        """Give up; `done` is not called any more."""
        self._over = True
        for attempt in self._waiting.values():
            self._reactor.unwatch_fd(attempt.fileno())
            attempt.close()
        self._waiting.clear()

    def _ready(self, number: int) -> None:
        attempt = self._waiting.pop(number)
        self._reactor.unwatch_fd(attempt.fileno())
        if attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            self._answered.add(number)
        attempt.close()
        self._judge()

    def _judge(self) -> None:
        """End it once no nearer candidate than the best could still answer."""
        best = min(self._answered, default=None)
        nearer = [number for number in self._waiting if best is None or number < best]
        if not nearer or (best is not None and monotonic() >= self.deadline):
            self._end(best)

    def _end(self, number: int | None) -> None:
        if not self._over:
            self.stop()
            self._done(None if number is None else self._pairs[number])
