"""Seeds of the simulated world: SEEDS of them (40 unless set), on all cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dingo_zmq.protocol import node
from dingo_zmq.testing import Fault, Kind, Outcome, draw, play, play_seed
from dingo_zmq.testing.many import play_seeds
from tools.mutants import MUTANTS, Mutant, Patch, findings

SEEDS = int(os.environ.get("SEEDS", "40"))
ENOUGH = 300  # seeds after which every kind of fault has happened
ROOT = Path(__file__).parent.parent.parent


def told(outcome: Outcome) -> str:
    """Return what went wrong, and how to see it again."""
    lines = [f"seed {outcome.seed}: python -m dingo_zmq.testing {outcome.seed}"]
    return "\n    ".join([*lines, *outcome.failures[:5]])


@pytest.mark.timeout(300)  # many stories, and a machine may be slow
def test_every_story_keeps_the_rules() -> None:
    happened: Counter[str] = Counter()
    figures: Counter[str] = Counter()
    wrong = []
    for outcome in play_seeds(range(SEEDS)):
        happened += outcome.happened
        figures += outcome.figures
        if outcome.failures:
            wrong.append(told(outcome))
    if wrong:
        pytest.fail("\n".join([f"{len(wrong)} of {SEEDS} seeds", *wrong[:5]]), pytrace=False)
    if SEEDS >= ENOUGH:
        assert set(happened) == {kind.value for kind in Kind}
        assert figures["EXPIRED"] > SEEDS
        assert figures["tried again"] > SEEDS / 10


@pytest.mark.parametrize("seed", [3, 5, 8])
def test_a_seed_is_always_the_same_story(seed: int) -> None:
    digest = f"digest {play_seed(seed).digest:08x}"
    for hashes in ("1", "2"):
        command = [sys.executable, "-m", "dingo_zmq.testing", "--quiet", str(seed)]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        )
        assert digest in done.stdout


def test_a_fault_that_did_not_happen_is_told() -> None:
    plan = draw(1, faults=False).replace(faults=[Fault(Kind.STUCK, at=1000.0)])
    assert any("stuck: 1 planned, 0 happened" in failure for failure in play(plan).failures)


# ---------------------------------------------------------------------- a world without a fault finds none


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_planted_fault_is_found(mutant: Mutant) -> None:
    """Tried first is a seed that found it once (`make mutants` tells the first that does)."""
    with mutant.planted():
        assert any(findings(seed) for seed in (mutant.seed, *range(60)))


def test_a_planted_fault_that_only_raises_is_not_found() -> None:
    def raises(patch: Patch) -> None:
        patch.set(node.Node, "_beat", lambda self: None)

    with Mutant(raises).planted():
        assert play_seed(0).failures[0].startswith("exception: ")
        assert findings(0) == []
