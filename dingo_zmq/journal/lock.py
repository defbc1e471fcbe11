"""One process at a time: a lock file beside the journal."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from dingo_zmq.errors import JournalError
from dingo_zmq.living import Living

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Lock"]

_locks: Living[Lock] = Living()


class Lock:
    """
    Holds a file that only one process can hold; it is free again when that ends, however it ends.

    Args:
        path: of the file; it is made, and stays.

    Raises:
        JournalError: somebody else holds it, or it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        name = path.name.removesuffix("-lock")
        try:
            self._fd = os.open(path, flags, 0o600)
        except OSError as exc:
            raise JournalError(f"journal {name}: its lock {path} cannot be made: {exc.strerror}") from exc
        try:
            _take(self._fd)
        except OSError:
            owner = _owner(self._fd)
            os.close(self._fd)
            by = f" by process {owner}" if owner.isdigit() else ""
            raise JournalError(
                f"journal {name}: it is in use{by}; hint: one program at a time, each with a journal of its own"
            ) from None
        with contextlib.suppress(OSError):  # a full disk; it is for people only
            os.ftruncate(self._fd, 0)
            os.write(self._fd, str(os.getpid()).encode())
        _locks.add(self)

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _owner(fd: int) -> str:
    """Return what whoever holds the file has written into it."""
    try:
        return os.read(fd, 100).decode("ascii", "replace").strip()
    except OSError:  # Windows locks it for reading, too
        return ""


def _let_go() -> None:
    """A forked child has the file open, too, and would hold it for its parent: it is not the child's."""
    for lock in _locks:
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _take(fd: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
