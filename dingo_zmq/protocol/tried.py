"""What became of the tries of a task that came to nothing, for whoever is told that it failed."""

from __future__ import annotations

from dingo_zmq.model import Try
from dingo_zmq.protocol.ledger import Entry

HISTORY_MOST = 12
"""tries of one task that are kept"""
DIED, SILENT = "died", "fell silent"


def note(entry: Entry, node: str, end: str) -> None:
    """Keep what became of the last try of a task, on a node of this name."""
    history = [*entry.history, Try(node, entry.attempt, end)]
    if len(history) > HISTORY_MOST:  # deaths are what people look for
        del history[next((n for n, one in enumerate(history) if one.end != DIED), 0)]
    entry.history = tuple(history)


def note_lost(entry: Entry, node: str, *, proved: bool) -> None:
    """The node of a task was lost: it died, as was proved, or is just silent."""
    end = DIED if proved else SILENT
    if not entry.started:
        end += ", perhaps before it started" if entry.may_run else " before it started"
    note(entry, node, end)


def note_died(entry: Entry, node: str) -> None:
    """A node that fell silent with a task has died, as is known by now."""
    history = list(entry.history)
    for n in reversed(range(len(history))):
        if history[n].node == node and history[n].end == SILENT:
            history[n] = history[n]._replace(end=DIED)
            break
    entry.history = tuple(history)
