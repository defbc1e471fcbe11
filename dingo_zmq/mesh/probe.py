"""Asking the kernel of the other side whether a process still listens."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from dingo_zmq.mesh.attempts import Attempts
from dingo_zmq.mesh.reactor import Reactor

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
        self._done = done
        self._endpoints, self._left = endpoints, len(endpoints)
        self._refused = True
        self._attempts = Attempts(reactor, self._ended)

    def start(self) -> None:
        """Try; `done` may be called before this returns."""
        for number, endpoint in enumerate(self._endpoints):
            self._attempts.begin(number, endpoint)

    def stop(self) -> None:
        """Give up; `done` is not called any more."""
        self._attempts.stop()

    def _ended(self, number: int, code: int) -> None:
        self._left -= 1
        self._refused &= code == errno.ECONNREFUSED
        if not self._left:
            self._done(self._refused)
