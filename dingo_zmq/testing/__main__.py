"""Print what happens in one seed of the simulated world."""

from __future__ import annotations

import argparse
import sys

from dingo_zmq.testing.plan import draw
from dingo_zmq.testing.world import play


def main() -> int:
    """Run it; return 1 where a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m dingo_zmq.testing", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--quiet", action="store_true", help="only what came of it")
    parser.add_argument("--harsh", action=argparse.BooleanOptionalAction, help="lose and repeat messages")
    parser.add_argument("--faults", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args()
    outcome = play(draw(given.seed, faults=given.faults, harsh=given.harsh), None if given.quiet else print)
    print(f"seed {outcome.seed}: digest {outcome.digest:08x}, at rest after {outcome.rested_at:.0f} s")
    print(
        "happened:",
        dict(outcome.happened),
        "\nmessages:",
        dict(outcome.kinds),
        "\nfigures:",
        dict(outcome.figures),
    )
    for failure in outcome.failures:
        print("BROKEN", failure)
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
