"""TCP connections that are tried without waiting for any of them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from functools import partial

from dingo_zmq.mesh.discovery.port import split_tcp
from dingo_zmq.mesh.reactor import Reactor

__all__ = ["Attempts"]


class Attempts:
    """
    Tries to connect, and hangs up at once.

    Args:
        reactor: watches the attempts.
        ended: called for each with its number and error code, 0 where somebody answers.

    Attributes:
        waiting: the attempts under way, by number.
    """

    def __init__(self, reactor: Reactor, ended: Callable[[int, int], None]) -> None:
        self._reactor, self._ended = reactor, ended
        self.waiting: dict[int, socket.socket] = {}

    def begin(self, number: int, endpoint: str) -> None:
        """
        Try an endpoint, ``tcp://host:port``; `ended` may be called before this returns.

        A name is not tried, since asking for its address may take long; it ends with EHOSTUNREACH.
        """
        host, port = split_tcp(endpoint)
        if not host.startswith("[") and not host.replace(".", "").isdigit():
            self._ended(number, errno.EHOSTUNREACH)
            return
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        try:
            attempt = socket.socket(family, socket.SOCK_STREAM)
        except OSError as exc:  # no descriptor is left
            self._ended(number, exc.errno or errno.EMFILE)
            return
        attempt.setblocking(False)
        try:
            code = attempt.connect_ex(_sockaddr(host, port))
        except OSError as exc:
            code = exc.errno or errno.EIO
        if code == errno.EINPROGRESS:
            self.waiting[number] = attempt
            self._reactor.watch_fd(attempt.fileno(), partial(self._ready, number), writable=True)
        else:
            attempt.close()
            self._ended(number, code)

    def stop(self) -> None:
        """Give up; `ended` is not called any more."""
        while self.waiting:
            self._take(next(iter(self.waiting))).close()

    def _ready(self, number: int) -> None:
        attempt = self._take(number)
        code = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        attempt.close()
        self._ended(number, code)

    def _take(self, number: int) -> socket.socket:
        attempt = self.waiting.pop(number)
        self._reactor.unwatch_fd(attempt.fileno())
        return attempt


def _sockaddr(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """
    Return an address as a socket takes it.

    Raises:
        OSError: for the scope of an interface that is not there.
    """
    if not host.startswith("["):
        return host, port
    ip, _, scope = host.strip("[]").partition("%")
    return ip, port, 0, socket.if_nametoindex(scope) if scope else 0
