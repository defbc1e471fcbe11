"""What the nodes of a storm serve: work that is checked, and tasks that end their process."""

from __future__ import annotations

import ctypes
import os
import resource
import time
import zlib

from dingo_zmq import App, current_task
from tools.storming.records import BEGUN, ENDED, FOLDER, Writer

__all__ = ["app", "expected", "fatal", "work"]

SPARE_BYTES = 16 << 20
app = App("mesh")
_writer = Writer(os.environ[FOLDER]) if FOLDER in os.environ else None
"""None at callers"""


def _write(kind: int, number: int, attempt: int) -> None:
    assert _writer is not None
    _writer.write(kind, number, attempt)


def expected(number: int, junk: bytes) -> int:
    """Return what `work` has to return."""
    return zlib.crc32(junk, number)


@app.task
def work(number: int, seconds: float, junk: bytes) -> int:
    """Take some time, and return what only these arguments give."""
    attempt = current_task().attempt
    _write(BEGUN, number, attempt)
    time.sleep(seconds)
    _write(ENDED, number, attempt)
    return expected(number, junk)


@app.task
def fatal(number: int, kind: str, deaths: int) -> int:
    """End the process at the first `deaths` attempts; kind "memory" raises MemoryError at each instead."""
    attempt = current_task().attempt
    _write(BEGUN, number, attempt)
    if kind == "memory":
        _run_out_of_memory()
    if attempt <= deaths:
        if kind == "segfault":
            ctypes.string_at(0)
        os._exit(3)
    _write(ENDED, number, attempt)
    return expected(number, b"")


def _run_out_of_memory() -> None:
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + SPARE_BYTES, before[1]))
    try:
        bytearray(4 * SPARE_BYTES)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
