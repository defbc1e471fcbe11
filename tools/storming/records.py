"""What workers write down of every execution, so that it survives a SIGKILL a moment later."""

from __future__ import annotations

import os
import secrets
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["BEGUN", "ENDED", "FOLDER", "Record", "Writer", "read"]

FOLDER = "STORM_RECORDS"
"""environment variable with the folder of the files"""
BEGUN, ENDED = 1, 2
_RECORD = struct.Struct("<BxHId")


class Record(NamedTuple):
    """One line: `kind` is BEGUN or ENDED, `number` the task's, `at` seconds since 1970."""

    kind: int
    attempt: int
    number: int
    at: float


class Writer:
    """Appends records of this process to a file of its own; one system call each, nothing is kept back."""

    def __init__(self, folder: str) -> None:
        path = Path(folder) / f"{os.getpid()}-{secrets.token_hex(4)}.records"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, kind: int, number: int, attempt: int) -> None:
        """Append one; any thread may."""
        os.write(self._fd, _RECORD.pack(kind, attempt, number, time.time()))


def read(folder: Path) -> Iterator[Record]:
    """Read the records of all processes; what a process did not get to write is not there."""
    for path in folder.glob("*.records"):
        data = path.read_bytes()
        whole = len(data) - len(data) % _RECORD.size
        for fields in _RECORD.iter_unpack(data[:whole]):
            yield Record(*fields)
