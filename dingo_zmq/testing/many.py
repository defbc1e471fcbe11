"""Many seeds of the simulated world, on all cores."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from dingo_zmq.testing.world import Outcome, play_seed

CHUNK = 5


def _prepare() -> None:
    """A world makes many objects and little garbage: looking for it ten times as seldom saves a seventh."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def workers() -> ProcessPoolExecutor:
    """Return processes that are good at playing seeds, one for each core."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(os.cpu_count(), mp_context=spawn, initializer=_prepare)


def play_seeds(seeds: Iterable[int]) -> Iterator[Outcome]:
    """Play seeds on all cores; yield what came of each, in order."""
    with workers() as pool:
        yield from pool.map(play_seed, seeds, chunksize=CHUNK)
