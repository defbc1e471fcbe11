"""
A stream: a node measures, and whoever reads gets each value as it comes.

    dingo-zmq node examples/stream.py
    python examples/stream.py
    dingo-zmq call measure 20

The reader here takes its time, so the function waits for it; where it stops reading the function ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from dingo_zmq import App

app = App("mesh")


@app.task
def measure(points: int) -> Iterator[float]:
    """Yield so many values, one after the other."""
    try:
        for point in range(points):
            yield math.sin(point / 10)
    finally:
        print("measure() has ended", flush=True)


def main() -> None:
    """Read until the values fall."""
    with app, measure.stream(1_000_000) as values:
        before = -1.0
        for value in values:
            if value < before:
                break
            before = value
        node = values.last.node if values.last else ""
        print(f"the largest of {node} is {before:.3f}")


if __name__ == "__main__":
    main()
