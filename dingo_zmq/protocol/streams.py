"""How far the values of a stream may be ahead of their reader, as both sides count it."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

WINDOW = 64
"""values of one task that may be on their way or unread"""
WINDOW_BYTES = 16 * 1024 * 1024
"""bytes of them from which on the next value has to wait; one large value may go over that"""


class Window:
    """What a function has yielded and its reader has not taken, where the function runs."""

    __slots__ = ("_bytes", "_sizes", "_taken")

    def __init__(self) -> None:
        self._taken = self._bytes = 0
        self._sizes: deque[int] = deque()  # of those that are not taken

    def put(self, size: int) -> None:
        """A value of so many bytes is on its way."""
        self._sizes.append(size)
        self._bytes += size

    def take(self, total: int) -> None:
        """The reader has taken so many values in all."""
        for _ in range(min(total - self._taken, len(self._sizes))):
            self._bytes -= self._sizes.popleft()
            self._taken += 1

    @property
    def full(self) -> bool:
        """Whether the next value has to wait."""
        return len(self._sizes) >= WINDOW or self._bytes >= WINDOW_BYTES


class Reading:
    """
    How far the values of one task have come at its caller, from whichever node they came.

    A node that begins anew yields again what there was before: those values are passed over, which to that node is
    the same as taken.  `took` is for the reader's thread, all else for the I/O thread.

    Attributes:
        had: values that have come.
        taken: how many of these the program has taken.
    """

    __slots__ = ("_came", "_passed_bytes", "_taken_bytes", "_told", "_told_bytes", "_told_to", "had", "taken")

    def __init__(self) -> None:
        self.had = self.taken = 0
        self._taken_bytes = self._passed_bytes = 0
        self._came: dict[Hashable, int] = {}
        self._told = self._told_bytes = 0
        self._told_to: Hashable = None

    def came(self, sender: Hashable, size: int) -> bool:
        """The next value of a sender has come, of so many bytes; return whether the reader has not had it."""
        number = self._came[sender] = self._came.get(sender, 0) + 1
        if number <= self.had:
            self._passed_bytes += size
            return False
        self.had = number
        return True

    @property
    def unread(self) -> int:
        """How many values the program has not taken, where there are so many that their sender waits; else 0."""
        return self.had - self.taken if self.had - self._told >= WINDOW else 0

    def has_come_from(self, sender: Hashable) -> bool:
        """Return whether a value of a sender has come."""
        return sender in self._came

    def took(self, size: int) -> bool:
        """The program has taken a value of so many bytes; return whether its sender may have to be told."""
        self._taken_bytes += size
        self.taken += 1
        return self._worth_telling(self.taken)

    def _worth_telling(self, total: int) -> bool:
        size = self._taken_bytes + self._passed_bytes - self._told_bytes
        return total - self._told >= WINDOW // 2 or size >= WINDOW_BYTES // 2

    def _total(self, sender: Hashable) -> int:
        return min(self.taken, self._came.get(sender, 0))

    def due(self, sender: Hashable) -> bool:
        """Return whether a sender is to be told at once how many of its values were taken."""
        if sender != self._told_to:
            return self._total(sender) >= WINDOW // 2
        return self._worth_telling(self._total(sender))

    def tell(self, sender: Hashable) -> int:
        """Return how many of its values were taken, to be told to a sender."""
        self._told_to = sender
        self._told_bytes = self._taken_bytes + self._passed_bytes
        self._told = self._total(sender)
        return self._told
