"""Many calls of one function, with few of them open at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from queue import SimpleQueue
from typing import Any

from dingo_zmq.errors import UsageError
from dingo_zmq.result import Result

__all__ = ["mapped"]


def mapped(
    call: Callable[..., Result[Any]], tuples: Iterable[Sequence[Any]], ahead: int, ordered: bool
) -> Iterator[Any]:
    """
    Return an iterator over the returns of ``call(*args)`` for each args of `tuples`.

    The first tasks are sent when it is first asked.  Where a task fails, its error is raised in its place, and
    the iterator ends; closing it early cancels what has not started.

    Args:
        call: sends one task.
        tuples: read only as far as needed.
        ahead: tasks open at a time, at least 1.
        ordered: in the order of `tuples`, or as they are done.

    Raises:
        UsageError: for `ahead` below 1.
    """
    if ahead < 1:
        raise UsageError(f"ahead must be at least 1, not {ahead}")
    return (_in_order if ordered else _as_done)(call, iter(tuples), ahead)


def _in_order(call: Callable[..., Result[Any]], tuples: Iterator[Sequence[Any]], ahead: int) -> Iterator[Any]:
    results: deque[Result[Any]] = deque()
    try:
        for args in islice(tuples, ahead):
            results.append(call(*args))
        while results:
            value = results.popleft().result()
            for args in islice(tuples, 1):
                results.append(call(*args))
            yield value
    finally:
        _cancel(results)


def _as_done(call: Callable[..., Result[Any]], tuples: Iterator[Sequence[Any]], ahead: int) -> Iterator[Any]:
    done: SimpleQueue[Result[Any]] = SimpleQueue()
    pending: set[Result[Any]] = set()

    def send(count: int) -> None:
        for args in islice(tuples, count):
            result = call(*args)
            pending.add(result)
            result.add_done_callback(done.put)

    try:
        send(ahead)
        while pending:
            result = done.get()
            pending.discard(result)
            send(1)
            yield result.result()
    finally:
        _cancel(pending)


def _cancel(results: Iterable[Result[Any]]) -> None:
    for result in list(results):
        result.cancel()
