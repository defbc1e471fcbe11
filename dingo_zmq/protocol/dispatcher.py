"""Which node gets a task, and which tasks are better taken back."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dingo_zmq.protocol.ledger import Entry, Lane, Route
from dingo_zmq.protocol.roster import Dice, Peer

CHOICE_SECONDS = 0.001
"""work placed by one choice"""
CHOICE_MOST = 64
STALE_SECONDS = 2.0
PACE_DOUBT = 2.0
"""paces that differ by less than this are taken for equal: each was measured in a moment, perhaps a busy one"""
UNKNOWN_RUN_TIME = 0.001
"""seconds a task is thought to take where no node has told yet"""
PATIENCE = 2.0
"""run times of a slow node for which tasks wait for quicker ones, where they will be taken within that time"""
TRUSTED = 2
"""tasks per slot that a node must have finished before it is thought to be slow"""
WAITING_MOST = 2000
"""length of a queue from which on nothing in it waits for a quicker node"""
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
        known = [
            (there.run_time, other.pace)
            for other in peers
            if (there := other.lanes.get(lane.name)) is not None and there.run_time is not None
        ]
        if not known:
            return told or UNKNOWN_RUN_TIME
        mean = sum([seconds for seconds, _ in known]) / len(known)
        guess = sum([seconds * pace for seconds, pace in known]) / len(known) / peer.pace
        if mean / PACE_DOUBT < guess < mean * PACE_DOUBT:
            guess = mean
        return max(told or 0.0, guess)

    def finish(self, lane: Lane, peer: Peer, run_time: float) -> float:
        """Return in how many seconds one more task of ours would be done there, by our own load alone."""
        seconds = (len(lane.open) + 1) / max(1, lane.slots) * run_time
        for other in peer.lanes.values():
            if other is not lane and other.open:
                seconds += len(other.open) / max(1, other.slots) * (other.run_time or UNKNOWN_RUN_TIME)
        return seconds

    def choose(
        self, candidates: list[tuple[Lane, Peer]], peers: Iterable[Peer], now: float
    ) -> tuple[tuple[Lane, Peer], int]:
        """
        Return which of the candidates should have the next tasks, and how many at most.

        Args:
            candidates: lanes with credit left, and their nodes; at least one.
            peers: all nodes, for what is known of run times.
            now: monotonic seconds.
        """
        best = None
        for candidate in candidates:
            lane, peer = candidate
            run_time = self.run_time(lane, peer, peers, now)
            if len(candidates) == 1:
                best = (0.0, 0.0, candidate, run_time)
                break
            bid = (self.finish(lane, peer, run_time), self._dice.random(), candidate, run_time)
            if best is None or bid[:2] < best[:2]:
                best = bid
        assert best is not None
        _, _, candidate, run_time = best
        batch = max(1, min(CHOICE_MOST, int(CHOICE_SECONDS / max(run_time, 1e-9))))
        return candidate, min(batch, candidate[0].limit - candidate[0].sent)

    def rather_waits(
        self,
        bid: tuple[Lane, Peer],
        full: list[tuple[Lane, Peer]],
        waiting: int,
        peers: Collection[Peer],
        now: float,
    ) -> bool:
        """
        Return whether tasks should wait for quicker nodes that are full, rather than go to a slow one that is not.

        So it is near the end of the queue: the quicker nodes will have taken all of it long before the slow one
        would be done with one more.  They must be more than twice as quick, and the slow one's run time must come
        from more than a first few tasks; and it is passed over for a while only, then gets another task.

        Args:
            bid: the best lane with credit left, and its node.
            full: lanes without credit left, and their nodes.
            waiting: length of the queue.
            peers: all nodes, for what is known of run times.
            now: monotonic seconds.
        """
        lane, peer = bid
        slow = self.run_time(lane, peer, peers, now)
        if lane.finished < TRUSTED * lane.slots:
            return False
        speed = quick = 0.0
        for other, there in full:
            ours = there.in_flight()
            run_time = self.run_time(other, there, peers, now)
            if ours and 2 * run_time < slow:
                share = ours / max(ours, there.load)
                speed += share * other.slots / run_time
                quick = max(quick, run_time)
        if not speed or waiting / speed >= PATIENCE * (slow - 2 * quick):
            return False
        return lane.pass_over(now) < PATIENCE * slow

    def recall(
        self, name: str, peers: list[Peer], now: float, queued: Collection[Route] = ()
    ) -> tuple[Peer, list[Entry]] | None:
        """
        Return a node and the tasks of one function to take back from it, for workers free elsewhere.

        Only tasks not known to run, the newest first, as many as there are free workers that can take them, from
        the node that would finish last, if that is later by 0.5 s than twice the run time at the free one.

        Args:
            name: the function.
            peers: nodes that may have tasks now.
            now: monotonic seconds.
            queued: what waits at the caller; free workers that can take it are not free for others.
        """
        lanes = [(peer.lanes[name], peer) for peer in peers if name in peer.lanes]
        free = [
            _Place(workers, self.run_time(lane, peer, peers, now), peer)
            for lane, peer in lanes
            if (workers := _free(lane, peer)) > 0 and not any(peer.takes(route) for route in queued)
        ]
        full = [(lane, peer) for lane, peer in lanes if len(lane.open) > lane.slots]
        full = [(lane, peer) for lane, peer in full if now - peer.recalled_at >= RECALL_SECONDS]
        if not free or not full:
            return None
        free.sort(key=lambda place: place.run_time)
        bids = [
            (self.finish(lane, peer, self.run_time(lane, peer, peers, now)), lane, peer) for lane, peer in full
        ]
        for late, lane, peer in sorted(bids, key=lambda bid: bid[0], reverse=True):
            entries = _newest(lane, [place for place in free if late > RECALL_GAIN + 2 * place.run_time])
            if entries:
                return peer, entries
        return None


class _Place:
    """Workers that stand free at a node."""

    __slots__ = ("peer", "run_time", "workers")

    def __init__(self, workers: int, run_time: float, peer: Peer) -> None:
        self.workers, self.run_time, self.peer = workers, run_time, peer


def _newest(lane: Lane, free: list[_Place]) -> list[Entry]:
    """Return the newest tasks of a lane that may be taken back and fit free workers, oldest first."""
    found: list[Entry] = []
    fits: dict[Route, list[_Place]] = {}
    left = sum(place.workers for place in free)
    for entry in reversed(lane.open.values()):
        if len(found) >= left:
            break
        if entry.started or entry.recalls >= RECALLS_MOST:
            continue
        if entry.route not in fits:
            fits[entry.route] = [place for place in free if place.peer.takes(entry.route)]
        for place in fits[entry.route]:
            if place.workers:
                place.workers -= 1
                found.append(entry)
                break
    return found[::-1]


def _free(lane: Lane, peer: Peer) -> int:
    """Return how many workers stand free for a lane, within its credit."""
    held = max(peer.load, peer.in_flight())
    return min(lane.slots - held, lane.limit - lane.sent)
