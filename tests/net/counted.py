"""What the nodes under load serve: a task that leaves a line behind each time it is executed."""

from __future__ import annotations

import socket
from pathlib import Path
from threading import Event
from time import monotonic

from dingo_zmq import App, current_task

app = App("mesh")


@app.task
def counted(log: Path, number: int, seconds: float) -> tuple[int, str]:
    """Work for some seconds; return the number, and on which host that was."""
    host = socket.gethostname()
    with log.open("a") as file:
        file.write(f"{number} {current_task().attempt} {host} {monotonic():.6f}\n")
    Event().wait(seconds)
    return number, host
