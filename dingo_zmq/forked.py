"""What is said in a process that was forked from one with an App."""

from __future__ import annotations

__all__ = ["FORKED"]

FORKED = (
    "this process was forked from one that uses an App, whose threads and sockets are not here; "
    'hint: start processes with multiprocessing.get_context("spawn"), or make a new App in the child'
)
