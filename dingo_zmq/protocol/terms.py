"""When a task may start and how often it is tried; and what is to be looked at when."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

from dingo_zmq.model import Code, Failure, Options, plain

T = TypeVar("T")
LATER = float("inf")
SPARE = 64
LEAST_SECONDS = 1e-6
"""what is left of a time that is over"""
CAUSE_MOST = 200
"""characters of a failure where the next try is told of"""


def cause_of(failure: Failure) -> str:
    """Return what is said of a failure where the next try is told of."""
    return plain(f"{failure.type}: {failure.message}".strip(": "), most=CAUSE_MOST)


class Agenda(Generic[T]):
    """
    Things to be looked at, each at its time.

    Args:
        alive: whether a thing still matters; what does not is dropped sooner or later.

    Attributes:
        items: empty where there is nothing; for a look that costs little.
    """

    def __init__(self, alive: Callable[[T], bool]) -> None:
        self.items: list[tuple[float, int, T]] = []
        self._alive = alive
        self._added = 0
        self._clean = 0  # length after the last cleaning

    def add(self, at: float, thing: T) -> None:
        """Have a thing looked at, once more if it is to be already."""
        if len(self.items) > 2 * self._clean + SPARE:
            self.items = [item for item in self.items if self._alive(item[2])]
            heapq.heapify(self.items)
            self._clean = len(self.items)
        self._added += 1
        heapq.heappush(self.items, (at, self._added, thing))

    def due(self, now: float) -> list[T]:
        """Return what is to be looked at now, in the order of the times, and forget it."""
        found = []
        items = self.items
        while items and items[0][0] <= now:
            thing = heapq.heappop(items)[2]
            if self._alive(thing):
                found.append(thing)
        return found

    @property
    def wakeup(self) -> float:
        """When there is something to be looked at next."""
        return self.items[0][0] if self.items else LATER


class Terms:
    """
    What holds of one task with a delay, an expiry or retries, at its caller; other tasks have none.

    Attributes:
        options: of the task, which was called `age` seconds before this is known.
        due: when it may be sent, monotonic seconds.
        expires_at: until when it must have started, LATER where it never expires.
        begun: whether it has started anywhere, or may have.
        pauses: whether it is to wait until `due` before it is queued.
        raised, lost, refused: how often it was tried again, by cause.
        attempt, cause: what is said of the next try, "attempt 2 of 4", "ValueError: no"; "" before the first.
    """

    __slots__ = (
        "_age",
        "attempt",
        "begun",
        "cause",
        "due",
        "expires_at",
        "lost",
        "options",
        "pauses",
        "raised",
        "refused",
        "retries",
    )

    def __init__(self, options: Options, age: float = 0.0) -> None:
        self.options, self.retries, self._age = options, options.tries, age
        self.due, self.expires_at = -LATER, LATER
        self.begun = self.pauses = False
        self.raised = self.lost = self.refused = 0
        self.attempt = self.cause = ""

    def called(self, now: float) -> None:
        """The task was called, `age` seconds ago."""
        options, at = self.options, now - self._age
        if options.delay > self._age:
            self.due, self.pauses = at + options.delay, True
        if options.expires is not None:
            self.expires_at = at + options.expires

    @property
    def may_expire(self) -> bool:
        """Whether the time may run out for it; not once it may have started."""
        return not self.begun and self.expires_at < LATER

    def expired(self, now: float) -> bool:
        """Whether the time has run out before it started."""
        return not self.begun and now >= self.expires_at

    def left(self, now: float) -> float:
        """Return the seconds in which it must start at a node, 0.0 for any."""
        return max(LEAST_SECONDS, self.expires_at - now) if self.may_expire else 0.0

    def again(self, number: int, most: int, cause: str, now: float, chance: float) -> str:
        """It is tried again, as retry `number` of `most` for that cause; return what is said of it."""
        pause = self.retries.pause(number, chance)
        self.due, self.pauses = now + pause, True
        self.attempt, self.cause = f"attempt {number + 1} of {most + 1}", cause
        return self.why(now)

    def why(self, now: float) -> str:
        """Return in words why it is not sent yet."""
        seconds = max(0.0, self.due - now)
        if not self.attempt:
            return f"it is not to start for another {seconds:.1f} s (delay)"
        return f"{self.attempt} in {seconds:.1f} s after {self.cause}"

    def failure(self) -> Failure:
        """Return how it ends where the time has run out."""
        return Failure(Code.EXPIRED, f"it was not started within {self.options.expires:g} s of the call")
