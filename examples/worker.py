"""
A worker: it serves a function until Ctrl-C.  `examples/caller.py` calls it, from as many terminals as you like.

    python examples/worker.py
"""

from __future__ import annotations

from dingo_zmq import App, current_task

app = App("mesh")


@app.task
def greet(name: str, times: int = 1) -> list[str]:
    """Return so many greetings, and tell of each."""
    greetings = []
    for number in range(1, times + 1):
        greetings.append(f"hello {name}")
        current_task().progress(number / times, f"greeting {number}")
    return greetings


if __name__ == "__main__":
    print("serving greet(); Ctrl-C ends it", flush=True)
    app.serve(block=True)
