"""Many calls of one function, with few of them open at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from queue import SimpleQueue
from typing import Any, TypeAlias

from dingo_zmq.errors import UsageError
from dingo_zmq.result import Result

__all__ = ["mapped"]


TOGETHER_MOST = 128

Send: TypeAlias = Callable[[list[Sequence[Any]]], list[Result[Any]]]
"""sends a task for each of these arguments"""


def mapped(
    call: Callable[..., Result[Any]],
    tuples: Iterable[Sequence[Any]],
    ahead: int,
    ordered: bool,
    together: Callable[[], Send | None] = lambda: None,
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
        together: returns what sends several tasks at once, None where there is no such way; asked at the first
            task.

    Raises:
        UsageError: for `ahead` below 1.
    """
    if ahead < 1:
        raise UsageError(f"ahead must be at least 1, not {ahead}")
    return _mapped(call, together, iter(tuples), ahead, ordered=ordered)


def _mapped(
    call: Callable[..., Result[Any]],
    together: Callable[[], Send | None],
    tuples: Iterator[Sequence[Any]],
    ahead: int,
    *,
    ordered: bool,
) -> Iterator[Any]:
    many = together()
    if many is None:
        send, step = _one_by_one(call), 1
    else:
        send, step = many, max(1, min(TOGETHER_MOST, ahead // 4))
    yield from (_in_order if ordered else _as_done)(send, tuples, ahead, step)


def _one_by_one(call: Callable[..., Result[Any]]) -> Send:
    return lambda tuples: [call(*args) for args in tuples]


def _in_order(send: Send, tuples: Iterator[Sequence[Any]], ahead: int, step: int) -> Iterator[Any]:
    results: deque[Result[Any]] = deque()
    try:
        while len(results) < ahead and (some := list(islice(tuples, min(step, ahead - len(results))))):
            results += send(some)
        while results:
            value = results.popleft().result()
            if ahead - len(results) >= step:
                results += send(list(islice(tuples, step)))
            yield value
    finally:
        _cancel(results)


def _as_done(send: Send, tuples: Iterator[Sequence[Any]], ahead: int, step: int) -> Iterator[Any]:
    done: SimpleQueue[Result[Any]] = SimpleQueue()
    pending: set[Result[Any]] = set()

    def fill(most: int) -> None:
        while most > 0 and (some := list(islice(tuples, min(step, most)))):
            most -= len(some)
            for result in send(some):
                pending.add(result)
                result.add_done_callback(done.put)

    try:
        fill(ahead)
        while pending:
            result = done.get()
            pending.discard(result)
            if ahead - len(pending) >= step:
                fill(step)
            yield result.result()
    finally:
        _cancel(pending)


def _cancel(results: Iterable[Result[Any]]) -> None:
    for result in list(results):
        result.cancel()
