"""What a caller knows of the links of its earlier life, by its journal."""

from __future__ import annotations

from typing import NamedTuple

from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.ledger import Entry, Lane, Ledger
from dingo_zmq.protocol.roster import LOST_SECONDS, Peer

FORMER_SECONDS = 600.0
"""so long a node may come back with what it has of the life before"""


class Holder(NamedTuple):
    """
    Who held a task when an earlier life of its caller ended.

    Attributes:
        base: the first token of the link.
        incarnation: of the node.
        node: its name.
        number: of the task in the lane of its function.
    """

    base: bytes
    incarnation: bytes
    node: str
    number: int


class Former(NamedTuple):
    """
    A link of an earlier life.

    A token alone does not tell which: where an address came to lead to another node, both were greeted with it.
    """

    base: bytes
    incarnation: bytes


class FormerPeer(Peer):
    """
    A node that held tasks of an earlier life; its link is not found again yet.

    It is lost if it is not back within a few seconds: its tasks are sent elsewhere then, and what it still says
    of them counts if it comes back after all.
    """

    former = True

    def __init__(self, which: Former, node: str, now: float) -> None:
        super().__init__(f"former {which.base.hex()} {which.incarnation.hex()}", 0, journal=True)
        self.which, self.name = which, node
        self.base, self.incarnation = which
        self.proof = self.silent_since = now

    def holds(self, ledger: Ledger, entry: Entry, number: int, now: float) -> None:
        """A task was there."""
        name = entry.route.name
        lane = self.lanes.get(name)
        if lane is None:
            lane = self.lanes[name] = Lane(self.key, name, 0, "", "")
        ledger.resume(entry, lane, number, now)

    def overdue(self, now: float) -> bool:
        """Whether it counts as lost from now on."""
        return not self.lost and self.silence(now) > LOST_SECONDS

    def forgettable(self, now: float) -> bool:
        """Whether nothing is to be expected of it any more."""
        waited_for = any(lane.open or lane.strays for lane in self.lanes.values())
        return not waited_for or (self.lost and self.silence(now) > FORMER_SECONDS)

    def move(self, peer: Peer, welcome: m.Welcome) -> None:
        """It is back, and is `peer` from now on: what it has is asked for by the next BEAT."""
        for lane in self.lanes.values():
            lane.key = peer.key
            peer.lanes[lane.name] = lane
        peer.blamed += self.blamed


def resumed(peer: Peer, welcome: m.Welcome) -> None:
    """A link was taken over from an earlier life: nothing is sent on it before a BEAT was echoed."""
    peer.base = welcome.base
    peer.broke = peer.resync = True
    peer.valid_from = peer.number + 1
