"""How far the values of a stream may be ahead of their reader, as both sides count it."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

WINDOW = 64
"""values of one task that may be on their way or unread"""
WINDOW_BYTES = 16 * 1024 * 1024
"""bytes of them from which on the next value has to wait; one large value may go over that"""


class Window:
    """
    What a function has yielded and its reader has not taken, where the function runs.

    A task that is sent again begins anew, while its reader has taken what it has: then `taken` is above `sent`.
    """

    __slots__ = ("_bytes", "_sizes", "sent", "taken")

    def __init__(self) -> None:
        self.sent = self.taken = self._bytes = 0
        self._sizes: deque[int] = deque()  # of those that are not taken

    def put(self, size: int) -> None:
        """A value of so many bytes is on its way."""
        self.sent += 1
        if self.sent > self.taken:
            self._sizes.append(size)
            self._bytes += size

    def take(self, total: int) -> None:
        """The reader has taken so many values in all."""
        for _ in range(min(total - self.taken, len(self._sizes))):
            self._bytes -= self._sizes.popleft()
        self.taken = max(self.taken, total)

    @property
    def full(self) -> bool:
        """Whether the next value has to wait."""
        return self.sent - self.taken >= WINDOW or self._bytes >= WINDOW_BYTES


class Reading:
    """
    How far the values of one task have come at its caller, from whichever node they came.

    A node that begins anew yields again what there was before: those values are passed over.  `took` is for the
    reader's thread, all else for the I/O thread.

    Attributes:
        had: values that have come.
        taken: how many of these the program has taken.
    """

    __slots__ = ("_bytes", "_came", "_told", "_told_bytes", "_told_to", "had", "taken")

    def __init__(self) -> None:
        self.had = self.taken = self._bytes = 0
        self._came: dict[Hashable, int] = {}
        self._told = self._told_bytes = 0
        self._told_to: Hashable = None

    def came(self, sender: Hashable) -> bool:
        """The next value of a sender has come; return whether it is one that the reader has not had."""
        number = self._came[sender] = self._came.get(sender, 0) + 1
        if number <= self.had:
            return False
        self.had = number
        return True

    def took(self, size: int) -> bool:
        """The program has taken a value of so many bytes; return whether the sender is to be told at once."""
        self._bytes += size
        self.taken += 1
        return self._due

    @property
    def _due(self) -> bool:
        return self.taken - self._told >= WINDOW // 2 or self._bytes - self._told_bytes >= WINDOW_BYTES // 2

    def due(self, sender: Hashable) -> bool:
        """Return whether a sender is to be told at once how many were taken."""
        return self.taken >= WINDOW // 2 if sender != self._told_to else self._due

    def tell(self, sender: Hashable) -> int:
        """Return how many values were taken, to be told to a sender."""
        self._told_to = sender
        self._told_bytes = self._bytes
        self._told = self.taken
        return self._told
