"""A fast node and one ten times slower: 2,000 tasks take hardly longer than all work over all speed."""

from __future__ import annotations

from statistics import median

import pytest

from tools.uneven import MIXES, simulated

MIX = "5 to 500 ms, log-uniform"


@pytest.mark.parametrize("seed", range(4))
def test_the_makespan_is_within_a_tenth_of_the_bound(seed: int) -> None:
    run = simulated(MIX, seed)
    assert run.ratio <= 1.10
    assert run.slow_tasks > 100  # it has its share


@pytest.mark.parametrize("mix", MIXES)
def test_no_central_queue_would_be_much_better(mix: str) -> None:
    runs = [simulated(mix, seed) for seed in range(5)]
    assert median(run.makespan for run in runs) <= 1.1 * median(run.greedy for run in runs)
