"""
A pool in this process: the smallest program, in local mode.

    python examples/pool.py
"""

from __future__ import annotations

from dingo_zmq import App, current_task

app = App("local")


@app.task
def multiply(a: int, b: int) -> int:
    """Return the product, and tell how far it is."""
    product = 0
    for step in range(b):
        product += a
        current_task().progress((step + 1) / b)
    return product


app.allocate("multiply", 3)  # three workers of its own

with app:
    task = multiply.options(monitor_progress=True).call(111, 4)
    for report in task.reports(timeout=10):
        print(report.status.name, report.value)
    print(list(multiply.map(range(5), range(5))))
