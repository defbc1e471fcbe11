"""A node that is bound to an interface stays with it when the addresses of the interface change."""

from __future__ import annotations

from dingo_zmq.errors import ConfigError
from dingo_zmq.mesh.node import MeshNode
from dingo_zmq.mesh.reach import Reach
from dingo_zmq.mesh.reactor import Reactor

__all__ = ["Follower"]

LOOK_SECONDS = 2.0


class Follower:
    """
    Has a node listen on the addresses that its interfaces have at the time.

    Args:
        reach: gives the addresses.
        node: listens there.
    """

    def __init__(self, reach: Reach, node: MeshNode) -> None:
        self.wakeup = 0.0
        self._reach, self._node = reach, node

    # ------------------------------------------------------------------ as a part of the reactor

    def open(self, reactor: Reactor) -> None:
        """Nothing here."""

    def pending(self) -> bool:
        """Nothing here."""
        return False

    def work(self, now: float) -> bool:
        """Look at the addresses, now and then."""
        if now < self.wakeup:
            return False
        self.wakeup = now + LOOK_SECONDS
        try:
            hosts = self._reach.hosts()
        except ConfigError:
            return False  # an interface has no address at the moment: the old one may come back
        self._node.listen_on(hosts)
        return False

    def hand_out(self) -> None:
        """Nothing here."""

    def close(self, now: float) -> None:
        """Nothing here."""
