"""Which of the files that a node process serves have changed since it loaded them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = ["FileWatch", "changed_at", "changes", "loaded_at"]

_log = logging.getLogger("dingo_zmq.supervisor")


class FileWatch:
    """Tells which files have changed, once all of those compile."""

    def __init__(self) -> None:
        self._faulty: dict[str, int] = {}

    def changed(self, before: Mapping[str, int]) -> list[str]:
        """Return the files that were changed since, see `changes`; none while one of those does not compile."""
        now = changes(before)
        good = [self._compiles(file, at) for file, at in now.items()]
        return list(now) if all(good) else []

    def _compiles(self, file: str, at: int) -> bool:
        if self._faulty.get(file) == at:
            return False
        try:
            compile(Path(file).read_bytes(), file, "exec", dont_inherit=True)
        except (OSError, SyntaxError, ValueError) as exc:
            self._faulty[file] = at
            _log.warning("%s changed, but the old one goes on: %s: %s", file, type(exc).__name__, exc)
            return False
        self._faulty.pop(file, None)
        return True


def changes(before: Mapping[str, int]) -> dict[str, int]:
    """
    Return the files that were changed since, and when.

    A file that is gone does not count: an editor may be about to put it back, or nobody needs it any more.
    """
    return {file: at for file in before if (at := changed_at(file)) not in (0, before[file])}


def changed_at(file: str) -> int:
    """Return when a file was last changed, 0 where it is not there."""
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return 0


def loaded_at(file: str, born: int) -> int:
    """Return when it was changed, -1 where that was after the birth of the process that has loaded it."""
    at = changed_at(file)
    return -1 if born <= at <= time.time_ns() else at
