"""All stand-ins of a forwarder, as a part of its loop."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dingo_zmq.mesh.discovery.port import Event, Gone
from dingo_zmq.mesh.forward.routes import Routes
from dingo_zmq.mesh.forward.side import Side
from dingo_zmq.mesh.forward.stand_in import StandIn
from dingo_zmq.mesh.reactor import Reactor
from dingo_zmq.model import MAX_NODES, counted

__all__ = ["Relays"]

NEVER = float("inf")
LOOK_SECONDS = 2.0
"""between two looks at the addresses of this machine"""
TROUBLES_MOST = 3
"""nodes whose trouble is told in one line"""
_log = logging.getLogger("dingo_zmq.forward")


class Relays:
    """
    Keeps a stand-in for each node that the other side is to see.  But for its making only the I/O thread uses it.

    Args:
        reactor: the loop.
        sides: the two networks.
        mesh: the mesh that is joined.
        id: of the forwarder, in paths.
        entry: what it adds to messages that tell who is there.
        told: called with a line for people, when what is joined has changed.
    """

    def __init__(
        self,
        reactor: Reactor,
        sides: tuple[Side, Side],
        mesh: str,
        id: str,  # noqa: A002
        entry: str,
        told: Callable[[str], object],
    ) -> None:
        self.wakeup = self._look_at = 0.0
        self._reactor, self._sides, self._id, self._entry, self._told = reactor, sides, id, entry, told
        self._routes = Routes(id, mesh)
        self._stand_ins: tuple[dict[str, StandIn], dict[str, StandIn]] = ({}, {})  # by the side of the node
        self._changed: dict[StandIn, None] = {}
        self._line = ""
        self._full = False
        self._left_out: set[str] = set()

    # ------------------------------------------------------------------ what is announced

    def heard(self, side: int, event: Event) -> None:
        """Something is announced on a side."""
        node = self._routes.heard(side, event)
        if not isinstance(event, Gone):
            self._say_what_is_left_out(side, event)
        for each in (0, 1):
            self._see_to(each, node)

    def _say_what_is_left_out(self, side: int, event: Event) -> None:
        said = getattr(event, "announcement", None)
        if said is None or said.node in self._left_out or len(self._left_out) > MAX_NODES:
            return
        where = f"{self._sides[side].name}: {said.name or said.node} at {said.tasks[0]}"
        if self._id in said.path and event.source == "named":
            self._left_out.add(said.node)
            _log.error("%s is this forwarder itself; it is left out", where)
        elif not self._routes.knows(said.version):
            self._left_out.add(said.node)
            text = "%s speaks version %d of the protocol, which this forwarder does not know; it is left out"
            _log.warning(text, where, said.version)

    def _see_to(self, side: int, node: str) -> None:
        """Have a stand-in for a node of a side where there should be one."""
        route, front = self._routes.route(side, node), self._sides[1 - side]
        stand_in = self._stand_ins[side].get(node)
        if stand_in is not None:
            stand_in.follow(route)
            self._note_changed(stand_in)
        elif route is not None and front.is_open and self._has_room(side):
            back, entry, changed = self._sides[side], self._entry, self._note_changed
            stand_in = self._stand_ins[side][node] = StandIn(self._reactor, back, front, route, entry, changed)
            self._note_changed(stand_in)

    def admit(self) -> None:
        """A side has other guests than before."""
        for stand_ins in self._stand_ins:
            for stand_in in stand_ins.values():
                stand_in.admit()

    def _has_room(self, side: int) -> bool:
        if len(self._stand_ins[side]) < MAX_NODES:
            return True
        if not self._full:
            self._full = True
            _log.warning("more than %s; the rest is not passed on", counted(MAX_NODES, "node"))
        return False

    def _note_changed(self, stand_in: StandIn) -> None:
        self._changed[stand_in] = None
        self.wakeup = 0.0

    def _settle(self) -> None:
        """Announce what has changed, and let go of stand-ins that nobody needs."""
        changed, self._changed = self._changed, {}
        for side, stand_ins in enumerate(self._stand_ins):
            for node, stand_in in list(stand_ins.items()):
                if stand_in not in changed:
                    continue
                self._sides[1 - side].tell(node, stand_in.announcement)
                if stand_in.is_over:
                    stand_in.close()
                    del stand_ins[node]
        self._tell_people()

    def _tell_people(self) -> None:
        words = []
        for side, stand_ins in zip(self._sides, self._stand_ins, strict=True):
            passed = sum(stand_in.is_open for stand_in in stand_ins.values())
            words.append(f"{side.name}: {passed} of {counted(len(stand_ins), 'node')} passed on")
            troubles = [f"{each.name}: {each.trouble}" for each in stand_ins.values() if each.trouble]
            words += troubles[:TROUBLES_MOST]
        line = "; ".join(words)
        if line != self._line:
            self._line = line
            self._told(line)

    # ------------------------------------------------------------------ as a part of the reactor

    def open(self, reactor: Reactor) -> None:
        """Nothing here."""

    def pending(self) -> bool:
        """Nothing here."""
        return False

    def work(self, now: float) -> bool:
        """Pass on what has come."""
        if now >= self._look_at:
            self._look(now)
        busy, wakeup = False, self._look_at
        for stand_ins in self._stand_ins:
            for stand_in in stand_ins.values():
                if stand_in.ready or now >= stand_in.wakeup:
                    busy |= stand_in.work(now)
                wakeup = min(wakeup, stand_in.wakeup)
        if self._changed:
            self._settle()
        self.wakeup = wakeup
        return busy

    def _look(self, now: float) -> None:
        """Have stand-ins follow the addresses of their side."""
        self._look_at = now + LOOK_SECONDS
        for side, stand_ins in zip(reversed(self._sides), self._stand_ins, strict=True):
            side.look()
            for stand_in in stand_ins.values():
                stand_in.listen_on(side.hosts)

    def hand_out(self) -> None:
        """Nothing here."""

    def close(self, now: float) -> None:
        """Close all sockets."""
        for stand_ins in self._stand_ins:
            for stand_in in stand_ins.values():
                stand_in.close()
        for side in self._sides:
            side.close(self._reactor)
