"""Which nodes of one network a forwarder stands in for on the other; decided without doing anything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from dingo_zmq.mesh.discovery.port import MAX_CANDIDATES, MAX_HOPS, Announcement, Event, Gone
from dingo_zmq.protocol import messages as m

__all__ = ["Route", "Routes"]

FAR = MAX_HOPS + 1
_Tellers: TypeAlias = dict[tuple[str, str], Announcement]


@dataclass(frozen=True, slots=True)
class Route:
    """
    A node that is to be seen on the other side.

    Attributes:
        node: how it is reached, with all its candidates.
        path: of the stand-in: the forwarders before the node, this one last.
    """

    node: Announcement
    path: tuple[str, ...]


class Routes:
    """
    Hears what is announced on both sides, and says what each is to see of the other.

    A node is passed on where the other side has no way to it that is shorter than through us, and we are not on
    the way already.  So a node that is seen directly is not announced once more where it is, two forwarders
    between the same networks make two ways of the same length, and where networks lie in a ring nothing goes
    round.

    Args:
        id: of this forwarder, 8 hexadecimal digits.
        mesh: the only mesh that is passed on.
    """

    def __init__(self, id: str, mesh: str) -> None:  # noqa: A002
        self._id, self._mesh = id, mesh
        self._heard: tuple[dict[str, _Tellers], dict[str, _Tellers]] = ({}, {})

    def heard(self, side: int, event: Event) -> str:
        """Take in what is announced on a side, 0 or 1; return the id of the node that it is about."""
        if isinstance(event, Gone):
            node, via, said = event.node, event.via, None
        else:
            said = event.announcement
            node, via = said.node, said.via
        tellers = self._heard[side].setdefault(node, {})
        tellers.pop((event.source, via), None)
        if said is not None and said.mesh in ("", self._mesh) and self._id not in said.path:
            tellers[event.source, via] = said
        if not tellers:
            del self._heard[side][node]
        return node

    def route(self, side: int, node: str) -> Route | None:
        """Return how a node of a side is to be seen on the other one, None where it is not."""
        here, there = self._nearest(side, node), self._nearest(1 - side, node)
        hops = len(here[0].path) + 1 if here else FAR
        if hops > MAX_HOPS or hops > (len(there[0].path) if there else FAR):
            return None
        latest = here[-1]
        if not self.knows(latest.version):
            return None
        same = [one for one in here if one.incarnation == latest.incarnation]
        latest_first = [pair for one in reversed(same) for pair in one.candidates]
        pairs = list(dict.fromkeys(latest_first))[:MAX_CANDIDATES]
        merged = replace(
            latest, tasks=tuple(pair[0] for pair in pairs), reports=tuple(pair[1] for pair in pairs), hops=()
        )
        return Route(merged, (*latest.path, self._id))

    @staticmethod
    def knows(version: int) -> bool:
        """Whether the messages of a version of the protocol can be passed on; 0 is one that is not known yet."""
        return version in (0, m.VERSION)

    def _nearest(self, side: int, node: str) -> list[Announcement]:
        """Return what is announced of a node past the fewest forwarders, the latest last."""
        said = list(self._heard[side].get(node, {}).values())
        fewest = min((len(one.path) for one in said), default=0)
        return [one for one in said if len(one.path) == fewest]
