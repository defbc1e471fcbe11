"""Functions that the nodes of tests serve; callers import them for their signatures."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

from dingo_zmq import App, current_task

app = App("mesh")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Row(TypedDict):
    key: str
    values: list[int]


@dataclass
class Order:
    number: int
    colour: Colour
    when: datetime
    day: date
    wait: timedelta
    id: UUID
    price: Decimal
    tags: set[str]
    pair: tuple[int, str]
    frozen: frozenset[int]
    path: Path
    point: Point
    rows: list[Row]
    note: str | None = None
    parts: dict[str, list[Order]] = field(default_factory=dict)


class Spoiled(Exception):
    """An exception of our own, which no caller has to know."""


@app.task
def add(a: int, b: int = 5) -> int:
    return a + b


@app.task
def echo(value):
    return value


@app.task
def same(order: Order) -> Order:
    assert type(order) is Order
    assert type(order.tags) is set
    return order


@app.task
def gather(first: int, /, *rest: int, word: str = "none", **words: str) -> dict[str, Any]:
    return {"first": first, "rest": list(rest), "word": word, "words": words}


@app.task
async def later(a: int) -> int:
    await asyncio.sleep(0)
    return a + 1


@app.task
def length(data: bytes) -> int:
    return len(data)


@app.task
def reverse(data: bytes) -> bytes:
    return data[::-1]


@app.task
def zeros(count: int) -> bytes:
    return bytes(count)


@app.task
def chunks(count: int, each: int) -> list[bytes]:
    return [bytes(each) for _ in range(count)]


@app.task
def spoil(word: str) -> int:
    return _deeper(word)


def _deeper(word: str) -> int:
    raise Spoiled(f"it was {word}")


@app.task
def leave(code: int) -> int:
    raise SystemExit(code)


@app.task
def interrupt() -> int:
    raise KeyboardInterrupt


@app.task
async def leave_later(code: int) -> int:
    raise SystemExit(code)


@app.task(max_losses=1)
def die() -> int:
    os._exit(3)


@app.task(max_losses=1)
def segfault() -> bytes:
    return ctypes.string_at(0)


@app.task
def kill_once(path: Path) -> int:
    """Kill the process at the first attempt, and work at the next."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return current_task().attempt


@app.task
def fall(port: int, ends: list[str]) -> None:
    """Wait at a gate, and then have the process die, at each attempt in another way."""
    wait_at.__wrapped__(port, "fall")
    end = ends[current_task().attempt - 1]
    if end == "abort":
        os.abort()
    elif end == "segfault":
        ctypes.string_at(0)
    else:  # as where there is no memory left on the machine
        os.kill(os.getpid(), signal.SIGKILL)


@app.task
def hoard(spare: int) -> int:
    """Take memory until there is no more, in a process that may have so much more of it."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + spare, hard))
    taken = []
    try:
        while True:
            taken.append(bytearray(spare // 4))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@app.task
def lie() -> int:
    return "three"  # type: ignore[return-value]


@app.task
def thing() -> Any:
    return object()


@app.task
def wait_at(port: int, word: str = "") -> str:
    """Wait at a `support.Gate` and return the word; a gate that is open lets everybody pass."""
    task = current_task()
    try:
        with socket.create_connection(("127.0.0.1", port)) as visit:
            visit.sendall(f"{word}\t{os.getpid()}\t{task.attempt}\n".encode())
            visit.recv(1)
    except ConnectionError:
        pass
    return word


@app.task
def at_gate(port: int) -> bool:
    """Wait at a gate where a port is given, and return at once where that is 0."""
    if port:
        wait_at.__wrapped__(port)
    return True


@app.task
def until_cancelled(port: int) -> bool:
    """Wait at a gate, and tell whether the task was cancelled by then."""
    wait_at.__wrapped__(port)
    return current_task().cancelled


@app.task
def steps(count: int) -> int:
    for number in range(1, count + 1):
        current_task().progress(number / count, f"step {number}")
    return count


@app.task
def steps_until(path: Path) -> int:
    """Tell of progress, again and again, until a file is there."""
    number = 0
    while not path.exists():
        current_task().progress(None, "not yet")
        number += 1
    return number


@app.task
def who() -> tuple[int, str, int]:
    task = current_task()
    return os.getpid(), task.id, task.attempt


@app.task
def mark(path: Path, line: str) -> int:
    """Write a line into a file, at once, and return the process."""
    with path.open("a") as file:
        file.write(f"{line}\n")
    return os.getpid()


@app.task
async def doze(seconds: float = 3600.0) -> None:
    await asyncio.sleep(seconds)


@app.task(time_limit=0.1)
def limited(seconds: float = 3600.0) -> str:
    """Stay in a thread that nothing can end alone."""
    Event().wait(seconds)
    return "in time"


@app.task
async def block_loop(seconds: float = 3600.0) -> None:
    """Keep the event loop from all other coroutines."""
    Event().wait(seconds)


@app.task
def count(most: int) -> Iterator[int]:
    """Yield the numbers below `most`."""
    yield from range(most)
