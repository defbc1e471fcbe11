"""
A caller: it knows only the signature of what `examples/worker.py` serves, and hears how the task goes.

    python examples/caller.py ann 3
"""

from __future__ import annotations

import sys

from dingo_zmq import App

app = App("mesh")


def greet(name: str, times: int = 1) -> list[str]:
    """Stand for the function of the worker."""
    raise NotImplementedError("it is only called there")


def main(name: str = "world", times: str = "1") -> None:
    """Call it, and print each report."""
    task = app.declare("greet", greet).options(monitor_progress=True)
    with app:
        result = task.call(name, int(times))
        for report in result.reports(timeout=30):
            print(report.status.name, report.value or "")


if __name__ == "__main__":
    main(*sys.argv[1:])
