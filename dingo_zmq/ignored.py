"""Tasks whose reports are ignored: what goes wrong with them is logged, since nobody else hears of it."""

from __future__ import annotations

import logging

from dingo_zmq.model import Failure, counted, plain

__all__ = ["log_ignored", "log_left_undone"]

TEXT_MOST = 300
"""characters of a failure in the log"""
_log = logging.getLogger("dingo_zmq.caller")


def log_ignored(name: str, id: str, failure: Failure) -> None:
    """Log that a task failed."""
    text = plain(str(failure).partition("\n")[0], most=TEXT_MOST)
    _log.warning("task %s id %s, whose report is ignored, failed: %s", name, id, text)


def log_left_undone(number: int) -> None:
    """Log that so many tasks were not done before their App was closed."""
    if number:
        _log.warning("%s whose reports are ignored: not done before the App was closed", counted(number, "task"))
