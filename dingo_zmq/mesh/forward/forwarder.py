"""A forwarder at work: two sides, what finds the nodes there, and the loop that passes messages on."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial

from dingo_zmq.errors import Closed
from dingo_zmq.mesh import sockets
from dingo_zmq.mesh.discovery.port import Event, Source
from dingo_zmq.mesh.forward.named import told_as
from dingo_zmq.mesh.forward.relays import Relays
from dingo_zmq.mesh.forward.settings import SideSettings
from dingo_zmq.mesh.forward.side import Side, check_apart
from dingo_zmq.mesh.reactor import Reactor
from dingo_zmq.model import check_part

__all__ = ["Forwarder"]

STOP_SECONDS = 3.0


class Forwarder:
    """
    Joins two networks, from this object's making until `close`.

    Args:
        left, right: what it is told of each side.
        mesh: the mesh that is joined.
        name: of the forwarder, for people.
        told: called by the I/O thread with a line for people, when what is joined has changed.
        crashed: called when the I/O thread has died.

    Raises:
        ConfigError: for a side that cannot be used, or where both are one network.
    """

    def __init__(
        self,
        left: SideSettings,
        right: SideSettings,
        mesh: str,
        name: str,
        told: Callable[[str], object] = lambda line: None,
        crashed: Callable[[], None] = lambda: None,
    ) -> None:
        check_part("the name of a mesh", mesh)
        check_part("the name of a forwarder", name)
        sockets.check_descriptors()
        self._sides = Side(left, mesh), Side(right, mesh)
        check_apart(*self._sides)
        self._sources: list[list[Source]] = [side.sources() for side in self._sides]
        self._reactor = Reactor(sockets.new_context(), "dingo-forward", crashed)
        id = secrets.token_hex(4)  # noqa: A001
        self._relays = Relays(self._reactor, self._sides, mesh, id, told_as(name, id), told)
        try:
            for side in self._sides:
                side.start(self._reactor, self._relays.admit)
        except BaseException:
            for side in self._sides:
                side.fall_silent()
                side.close(self._reactor)
            self._reactor.abandon()
            raise
        self._reactor.parts.append(self._relays)
        self._reactor.start()
        try:
            for number, sources in enumerate(self._sources):
                for source in sources:
                    source.start(partial(self._heard, number))
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        """Return what it joins, in words."""
        return " and ".join(map(str, self._sides))

    def _heard(self, side: int, event: Event) -> None:
        """Something is announced on a side; called by the threads of sources."""
        try:
            self._reactor.call(partial(self._relays.heard, side, event))
        except Closed:
            return

    def close(self) -> None:
        """Withdraw all stand-ins, and end."""
        for source in (*self._sources[0], *self._sources[1]):
            source.stop()
        for side in self._sides:
            side.fall_silent()
        self._reactor.stop(STOP_SECONDS)
