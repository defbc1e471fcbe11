"""
Every exception that dingo-zmq raises on purpose.

::

    DingoError
    +-- UsageError            you called us wrongly; fix the calling code
    |   +-- UnknownFunction   no function of that name is registered or declared (also a KeyError)
    |   +-- ArgumentError     an argument does not fit the signature (also a TypeError)
    |   +-- EncodeError       a value that cannot travel (also a TypeError)
    |   +-- BodyTooLarge      arguments over the body limit (also a ValueError)
    |   +-- Busy              the bound on open tasks is reached and waiting is not allowed
    |   +-- Closed            the App was closed, or the process was forked after its start
    +-- SoftTimeLimit         raised in a function whose soft_time_limit is over
    +-- ConfigError           a key file, port, address or option that cannot be used
    +-- JournalError          a journal that cannot be opened, read or written
    +-- PeerError             a peer sent something that we cannot accept   (.frames)
    +-- TaskError             the task itself ended badly                   (.failure)
        +-- TaskFailed        the function raised, or its arguments or return did not fit
        +-- TaskCancelled     cancelled before it started, or while it ran (also a CancelledError)
        +-- TaskExpired       it was not started in time
        +-- TaskTimeout       it ran longer than its time limit
        +-- TaskPoisoned      too many nodes died while it may have been running
        +-- TaskUnknown       at_most_once, and the node was lost while it may have been running
        +-- TaskShutdown      the App was closed before the task was done
        +-- TaskRefused       nodes gave it back more often than its retries allow

Waiting too long for a result raises the builtin ``TimeoutError``: the task has not failed.
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ArgumentError",
    "BodyTooLarge",
    "Busy",
    "Closed",
    "ConfigError",
    "DingoError",
    "EncodeError",
    "JournalError",
    "PeerError",
    "SoftTimeLimit",
    "TaskCancelled",
    "TaskError",
    "TaskExpired",
    "TaskFailed",
    "TaskPoisoned",
    "TaskRefused",
    "TaskShutdown",
    "TaskTimeout",
    "TaskUnknown",
    "UnknownFunction",
    "UsageError",
]


class DingoError(Exception):
    """Root of all errors of this package."""


class UsageError(DingoError):
    """The calling code asked for something that makes no sense; nothing was sent."""


class UnknownFunction(UsageError, KeyError):
    """No function of that name is known here."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ArgumentError(UsageError, TypeError):
    """
    An argument does not fit the function's signature.

    Attributes:
        function: name of the function.
        parameter: name of the parameter, or "" where the call as a whole does not bind.
        expected: the annotation, or what binding asked for, as text.
        got: what was given, as text.
    """

    def __init__(self, function: str, parameter: str, expected: str, got: str) -> None:
        self.function, self.parameter, self.expected, self.got = function, parameter, expected, got
        where = f"{function}(), parameter {parameter!r}" if parameter else f"{function}()"
        super().__init__(f"{where}: expected {expected}, got {got}")


class EncodeError(UsageError, TypeError):
    """A value that the marshaller cannot put into bytes."""


class BodyTooLarge(UsageError, ValueError):
    """The encoded arguments are larger than the body limit; nothing was sent."""


class Busy(UsageError):
    """The bound on open tasks is reached, and this caller may not wait."""


class Closed(UsageError):
    """The App is closed, or this process was forked after the App had started."""


class SoftTimeLimit(DingoError):
    """
    The soft time limit of the task is over: clean up, and return what there is or let this pass.

    It is raised in the function that runs, once; see `Options.soft_time_limit`.  In a coroutine it also is an
    ``asyncio.CancelledError``.
    """


class ConfigError(DingoError):
    """A key file, port, address or option that cannot be used; the text says how to repair it."""


class JournalError(DingoError):
    """A journal that cannot be opened, read or written; what was recorded earlier is still there."""


class PeerError(DingoError):
    """
    A peer sent something that we cannot accept.

    Attributes:
        frames: what was received.
    """

    def __init__(self, message: str, frames: Sequence[bytes] = ()) -> None:
        super().__init__(message)
        self.frames = tuple(frames)


class TaskError(DingoError):
    """
    A task ended with FAIL.  The base class itself is raised for codes this version does not know.

    Attributes:
        failure: a `dingo_zmq.model.Failure` with code, message, type, traceback, node, attempt and history.
        history: that of the failure, a tuple of `dingo_zmq.model.Try`.
    """

    def __init__(self, failure: object) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.history: tuple[Any, ...] = getattr(failure, "history", ())


class TaskFailed(TaskError):
    """The function raised, or its arguments or its return did not fit the signature."""


class TaskCancelled(TaskError, CancelledError):
    """The task was cancelled, before it started or while it ran; the text tells which."""


class TaskExpired(TaskError):
    """The task was not started in time."""


class TaskTimeout(TaskError):
    """The task ran longer than its time limit."""


class TaskPoisoned(TaskError):
    """Too many nodes died while the task may have been running on them."""


class TaskUnknown(TaskError):
    """An at-most-once task whose node was lost while the task may have been running."""


class TaskShutdown(TaskError):
    """The App was closed before the task was done."""


class TaskRefused(TaskError):
    """Nodes gave the task back more often than its `Retries.refused` allows."""
