"""Whose task is next: lanes take turns by the time that they have had."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush, heapreplace

from dingo_zmq.protocol.intake import QUEUED, Held, Lane


class Line:
    """
    Tasks of one priority that wait for the workers of a pool and need not ask.

    Those of a lane keep their order.  Among lanes that one is next whose tasks have taken the least time, by
    estimate; one that had nothing to do for a while begins where the others are.  So a caller with thousands of
    long tasks here delays those of others by no more than one of its own.

    It is true while it may have tasks, and yields them where it is iterated over, perhaps with some that are held
    no more.
    """

    __slots__ = ("_clock", "_first", "_lanes", "_number", "_turns", "priority")

    def __init__(self, priority: int = 0) -> None:
        self.priority = priority
        self._lanes: dict[Lane, deque[Held]] = {}
        self._turns: list[tuple[float, int, Lane]] = []  # a heap; each lane in `_lanes` once
        self._first: deque[Held] = deque()
        self._clock = 0.0  # time that the lane had had whose turn was last
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._lanes or self._first)

    def __iter__(self) -> Iterator[Held]:
        yield from self._first
        for queue in self._lanes.values():
            yield from queue

    def __len__(self) -> int:
        return len(self._first) + sum(map(len, self._lanes.values()))

    def of(self, lane: Lane) -> deque[Held]:
        """Return where the tasks of a lane wait; at least one has to be put there at once."""
        queue = self._lanes.get(lane)
        if queue is None:
            queue = self._lanes[lane] = deque()
            self.joins(lane)
            self._number += 1
            heappush(self._turns, (lane.used, self._number, lane))
        return queue

    def joins(self, lane: Lane) -> None:
        """A lane has tasks again: what it has not used until now does not count."""
        lane.used = max(lane.used, self._clock)

    def put_first(self, held: Held) -> None:
        """A task has been told that it may start: it comes before all others."""
        self._first.appendleft(held)

    def put_back(self, held: Held) -> None:
        """A task was taken, and not begun."""
        if held.go:
            self._first.appendleft(held)
        else:
            self.of(held.lane).appendleft(held)

    def next(self) -> deque[Held] | None:
        """Return the queue whose turn it is, with a task at its head that can start; None where there is none."""
        first, turns = self._first, self._turns
        while first:
            if first[0].state is QUEUED:
                return first
            first.popleft()
        while turns:
            used, _, lane = turns[0]
            queue = self._lanes[lane]
            while queue and queue[0].state is not QUEUED:
                queue.popleft()
            if not queue:
                heappop(turns)
                del self._lanes[lane]
            elif used < lane.used:
                self._number += 1
                heapreplace(turns, (lane.used, self._number, lane))
            else:
                return queue
        return None

    def has_before(self, lane: Lane) -> bool:
        """Whether a task here is to have a worker before one of `lane` that has yet to ask."""
        queue = self.next()
        return queue is not None and (queue is self._first or queue[0].lane.used < lane.used)

    def took(self, lane: Lane, seconds: float) -> None:
        """Tasks of a lane are started that should take so long together."""
        self._clock = max(self._clock, lane.used)
        lane.used += seconds
