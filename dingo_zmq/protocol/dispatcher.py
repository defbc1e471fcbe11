"""Which node gets a task, and which tasks are better taken back."""

from __future__ import annotations

from collections.abc import Iterable

from dingo_zmq.protocol.ledger import Entry, Lane
from dingo_zmq.protocol.roster import Dice, Peer

CHOICE_SECONDS = 0.001
"""work placed by one choice"""
CHOICE_MOST = 64
STALE_SECONDS = 2.0
UNKNOWN_RUN_TIME = 0.001
"""seconds a task is thought to take where no node has told yet"""
RECALL_GAIN = 0.5
RECALL_SECONDS = 2.0
RECALLS_MOST = 2


class Dispatcher:
    """Chooses among the lanes of one function; `dice` breaks ties."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice

    def run_time(self, lane: Lane, peer: Peer, peers: Iterable[Peer], now: float) -> float:
        """Return how long a task of this lane will take, in seconds, as far as anybody knows."""
        told = lane.run_time
        if told is not None and (lane.open or now - lane.told_at <= STALE_SECONDS):
            return told
        works = [
            known.run_time * other.pace
            for other in peers
            if (known := other.lanes.get(lane.name)) is not None and known.run_time is not None
        ]
        if not works:
            return told or UNKNOWN_RUN_TIME
        return max(told or 0.0, sum(works) / len(works) / peer.pace)

    def finish(self, lane: Lane, peer: Peer, run_time: float) -> float:
        """Return in how many seconds one more task of ours would be done there, by our own load alone."""
        seconds = (len(lane.open) + 1) / max(1, lane.slots) * run_time
        for other in peer.lanes.values():
            if other is not lane and other.open:
                seconds += len(other.open) / max(1, other.slots) * (other.run_time or UNKNOWN_RUN_TIME)
        return seconds

    def choose(self, candidates: list[tuple[Lane, Peer]], peers: Iterable[Peer], now: float) -> tuple[Lane, int]:
        """
        Return the lane that should have the next tasks, and how many at most.

        Args:
            candidates: lanes with credit left, and their nodes; at least one.
            peers: all nodes, for what is known of run times.
            now: monotonic seconds.
        """
        best = None
        for lane, peer in candidates:
            run_time = self.run_time(lane, peer, peers, now)
            if len(candidates) == 1:
                best = (0.0, 0.0, lane, run_time)
                break
            bid = (self.finish(lane, peer, run_time), self._dice.random(), lane, run_time)
            if best is None or bid[:2] < best[:2]:
                best = bid
        assert best is not None
        _, _, lane, run_time = best
        batch = max(1, min(CHOICE_MOST, int(CHOICE_SECONDS / max(run_time, 1e-9))))
        return lane, min(batch, lane.limit - lane.sent)

    def recall(self, name: str, peers: list[Peer], now: float) -> tuple[Peer, list[Entry]] | None:
        """
        Return a node and the tasks of one function to take back from it, for workers free elsewhere.

        Only tasks not known to run, the newest first, as many as there are free workers with credit, from the
        node that would finish last, if that is later by 0.5 s than twice the run time at a free one.
        """
        lanes = [(peer.lanes[name], peer) for peer in peers if name in peer.lanes]
        free = [(lane, peer, _free(lane, peer)) for lane, peer in lanes if _free(lane, peer) > 0]
        full = [(lane, peer) for lane, peer in lanes if len(lane.open) > lane.slots]
        full = [(lane, peer) for lane, peer in full if now - peer.recalled_at >= RECALL_SECONDS]
        if not free or not full:
            return None
        quick = min(self.run_time(lane, peer, peers, now) for lane, peer, _ in free)
        late, lane, peer = max(
            ((self.finish(lane, peer, self.run_time(lane, peer, peers, now)), lane, peer) for lane, peer in full),
            key=lambda bid: bid[0],
        )
        if late <= RECALL_GAIN + 2 * quick:
            return None
        entries = [e for e in lane.open.values() if not e.started and e.recalls < RECALLS_MOST]
        return peer, entries[-sum(workers for _, _, workers in free) :]


def _free(lane: Lane, peer: Peer) -> int:
    """Return how many workers stand free for a lane, within its credit."""
    held = max(peer.load, peer.in_flight())
    return min(lane.slots - held, lane.limit - lane.sent)
