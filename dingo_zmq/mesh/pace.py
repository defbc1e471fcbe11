"""How fast this machine is."""

from __future__ import annotations

import time

__all__ = ["pace"]

_LOOPS = 20_000
_TRIES = 3


def pace() -> int:
    """
    Return how fast this machine runs Python, in loops per millisecond of a fixed piece of work.

    Takes a few milliseconds; callers compare nodes by it until they know a function's run time there.
    """
    best = float("inf")
    for _ in range(_TRIES):
        began = time.perf_counter()
        total = 0
        for number in range(_LOOPS):
            total += number & 7
        best = min(best, time.perf_counter() - began)
    return max(1, int(_LOOPS / 1000 / best))
