"""Memory, threads and descriptors of processes while a storm goes on, Linux only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["Sample", "sample", "slope"]

MIB = 1 << 20
LEAST_SECONDS = 300.0


class Sample(NamedTuple):
    """How a process was at `at` (monotonic seconds): resident MiB, threads and open descriptors."""

    at: float
    memory: float
    threads: int
    descriptors: int


def sample(pid: int, at: float) -> Sample | None:
    """Return how a process is, None where it has ended."""
    folder = Path(f"/proc/{pid}")
    try:
        pages = int((folder / "statm").read_text().split()[1])
        if not pages:  # nobody has waited for it yet
            return None
        return Sample(
            at,
            pages * os.sysconf("SC_PAGE_SIZE") / MIB,
            len(list((folder / "task").iterdir())),
            len(list((folder / "fd").iterdir())),
        )
    except OSError:
        return None


def slope(samples: list[Sample]) -> float | None:
    """Return the MiB by which memory grows in 10 minutes (least squares), None for less than 5 minutes."""
    if not samples or samples[-1].at - samples[0].at < LEAST_SECONDS:
        return None
    times, sizes = [each.at for each in samples], [each.memory for each in samples]
    middle, mean = sum(times) / len(times), sum(sizes) / len(sizes)
    spread = sum((at - middle) ** 2 for at in times)
    rise = sum((at - middle) * (size - mean) for at, size in zip(times, sizes, strict=True))
    return 600 * rise / spread if spread else None
