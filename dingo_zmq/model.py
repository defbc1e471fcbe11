"""The values that everybody speaks of: status, failure code, options, failure, report."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from dingo_zmq import errors

__all__ = [
    "BODY_LIMIT",
    "LIMIT_MOST",
    "MAX_OPEN",
    "Code",
    "Failure",
    "Options",
    "Report",
    "Status",
    "check_node_name",
    "check_part",
    "counted",
    "error_for",
    "plain",
]

BODY_LIMIT = 256 * 1024 * 1024
"""Largest body of a task or report, in bytes, unless the App says otherwise."""

MAX_OPEN = 200_000
"""Tasks of an App that may be open at a time, unless it says otherwise."""

LIMIT_MOST = 1e9
"""longest time limit, in seconds"""

_PART_LIMIT = 200
_LINES = "\n\t"


class Status(IntEnum):
    """What a report says of its task.  SUCCESS and FAIL are final, and a task has exactly one of them."""

    NONE = 0
    SENT = 1  # taken in by a node
    PROGRESS = 2  # about to call the function, or told by it
    SUCCESS = 3
    FAIL = 4
    PARTIAL = 5  # one value of a stream


class Code(IntEnum):
    """Why a task ended with FAIL."""

    GENERIC = 0
    RAISED = 1
    SHUTDOWN = 2
    CANCELLED = 3
    EXPIRED = 4
    POISON = 5
    UNKNOWN = 6
    TIMEOUT = 7
    ENCODE = 8  # the return cannot travel, or an argument that came late
    DECODE = 9  # arguments or return do not fit the signature


@dataclass(frozen=True, slots=True)
class Options:
    """
    How one task is to be treated.

    Args:
        at_most_once: never start it twice; a task whose node is lost while it may have been running
            ends with FAIL/UNKNOWN instead of being sent elsewhere.
        max_losses: after this many nodes died while the task may have been running, it ends with
            FAIL/POISON.  At least 1.
        monitor_progress: also send the reports SENT and PROGRESS, not the final one alone.
        node: name or id of the node that is to run it, "" for any.  "bench" also means each of the processes
            "bench/1", "bench/2" ... of one node.  In local mode it means nothing.
        needs: tags that the node must have, all of them; given as any iterable of texts.  In local mode they
            mean nothing.
        time_limit: seconds that it may run; then it ends with FAIL/TIMEOUT.  A coroutine is cancelled.  A thread
            cannot be ended alone: a process of ``dingo-zmq node`` gives back what else it has, ends, and is
            started anew; elsewhere (`App.serve`, local mode) the task ends at once for its caller, while its
            thread goes on as long as it likes, and another takes its place.  While a function keeps the GIL to
            itself nobody notices.
        soft_time_limit: seconds after which `SoftTimeLimit` is raised in the function, once: in a coroutine at its
            await, in a thread when it next calls ``current_task().check()`` or ``progress()``.  (Never between any
            two instructions of a thread: it may hold a lock there, or be cleaning up.)  Where the function catches
            it and returns, that is a success; else the task ends with FAIL/TIMEOUT.
            A node keeps to the limits that its own function has where the task names none.

    Raises:
        UsageError: for a value that makes no sense.
    """

    at_most_once: bool = False
    max_losses: int = 3
    monitor_progress: bool = False
    node: str = ""
    needs: tuple[str, ...] = ()
    time_limit: float | None = None
    soft_time_limit: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.max_losses, int) or self.max_losses < 1:
            raise errors.UsageError(f"max_losses must be a whole number of at least 1, not {self.max_losses!r}")
        for name in ("at_most_once", "monitor_progress"):
            if not isinstance(getattr(self, name), bool):
                raise errors.UsageError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if self.node != "":
            check_node_name("node", self.node)
        object.__setattr__(self, "needs", _checked_tags(self.needs))
        if self.time_limit is not None or self.soft_time_limit is not None:
            self._check_limits()

    def _check_limits(self) -> None:
        for name in ("time_limit", "soft_time_limit"):
            limit = getattr(self, name)
            number = isinstance(limit, int | float) and not isinstance(limit, bool)
            if limit is not None and not (number and 0 < limit <= LIMIT_MOST):
                raise errors.UsageError(f"{name} must be a number of seconds above 0, or None, not {limit!r}")
        if self.time_limit and self.soft_time_limit and self.soft_time_limit >= self.time_limit:
            raise errors.UsageError(
                f"soft_time_limit ({self.soft_time_limit:g} s) must be below time_limit ({self.time_limit:g} s)"
            )

    def replace(self, **changes: Any) -> Options:
        """
        Return a copy with some fields changed.

        Raises:
            UsageError: for a field that does not exist, or a value that makes no sense.
        """
        try:
            return replace(self, **changes)
        except TypeError as exc:
            known = ", ".join(self.__dataclass_fields__)
            raise errors.UsageError(f"unknown option in {sorted(changes)}; there are: {known}") from exc


def _checked_tags(needs: Iterable[str]) -> tuple[str, ...]:
    if isinstance(needs, str | bytes) or not isinstance(needs, Iterable):
        hint = f', such as ["{needs}"]' if isinstance(needs, str) and needs else ""
        raise errors.UsageError(f"needs must be a list of tags{hint}, not {needs!r}")
    return tuple(dict.fromkeys([check_part("a tag in needs", tag) for tag in needs]))


@dataclass(frozen=True, slots=True)
class Failure:
    """
    Why a task failed.  Everything that came from the node is plain text: nothing is rebuilt by name.

    As text, control characters of what the node said are escaped.

    Attributes:
        code: the kind of failure.
        message: one sentence for people.
        type: qualified name of the exception's class on the node, or "".
        traceback: the formatted traceback on the node, or "".
        node: name of the node that reported, or "".
        attempt: how often the task had been sent by then, counted from 1; 0 where unknown.
    """

    code: Code
    message: str = ""
    type: str = ""
    traceback: str = ""
    node: str = ""
    attempt: int = 0

    def __str__(self) -> str:
        head = f"{self.type}: {self.message}" if self.type else self.message or self.code.name.lower()
        where = f" (on {self.node})" if self.node else ""
        return plain(f"{head}{where}", keep=_LINES)


@dataclass(frozen=True, slots=True)
class Report:
    """
    What a caller hears about a task.

    Attributes:
        name: the function.
        id: the task; (name, id) is its identity.
        status: see `Status`.
        value: the return (SUCCESS), a yielded value (PARTIAL), or what `progress` was given (PROGRESS: a
            pair (fraction, note), or None when the function is about to be called).
        failure: set with FAIL.
        node: name of the node that reported, or "" where the caller itself decided.
        attempt: how often the task had been sent, counted from 1.
    """

    name: str
    id: str
    status: Status
    value: Any = None
    failure: Failure | None = None
    node: str = ""
    attempt: int = 0

    @property
    def returns(self) -> tuple[Any, ...]:
        """
        What the function returned, one by one: a tuple as it is, anything else as a tuple of one.

        Empty where nothing was returned or yielded: with FAIL, PROGRESS and SENT.
        """
        if self.status not in (Status.SUCCESS, Status.PARTIAL):
            return ()
        return self.value if type(self.value) is tuple else (self.value,)

    @property
    def error(self) -> errors.TaskError | None:
        """The exception that stands for the failure, made anew each time; None where there is none."""
        return None if self.failure is None else error_for(self.failure)

    @property
    def done(self) -> bool:
        """Whether this is the final report."""
        return self.status in (Status.SUCCESS, Status.FAIL)

    @property
    def ok(self) -> bool:
        """Whether this is a final report of success."""
        return self.status == Status.SUCCESS

    @property
    def fail(self) -> bool:
        """Whether this is a final report of failure."""
        return self.status == Status.FAIL


_ERRORS: dict[Code, type[errors.TaskError]] = {
    Code.RAISED: errors.TaskFailed,
    Code.ENCODE: errors.TaskFailed,
    Code.DECODE: errors.TaskFailed,
    Code.SHUTDOWN: errors.TaskShutdown,
    Code.CANCELLED: errors.TaskCancelled,
    Code.EXPIRED: errors.TaskExpired,
    Code.POISON: errors.TaskPoisoned,
    Code.UNKNOWN: errors.TaskUnknown,
    Code.TIMEOUT: errors.TaskTimeout,
}


def error_for(failure: Failure) -> errors.TaskError:
    """Return the exception that stands for a failure; the node's traceback is added as a note."""
    error = _ERRORS.get(failure.code, errors.TaskError)(failure)
    if failure.traceback:
        where = plain(failure.node) or "the worker"
        error.add_note(f"The traceback on {where}:\n{plain(failure.traceback.rstrip(), keep=_LINES)}")
    return error


def check_part(kind: str, text: str) -> str:
    """
    Return `text` if it can be part of a topic: 1 to 200 characters, no slash, no control character.

    Raises:
        UsageError: if it cannot.
    """
    if not isinstance(text, str) or not 0 < len(text) <= _PART_LIMIT or "/" in text or not text.isprintable():
        raise errors.UsageError(
            f"{kind} must be 1 to {_PART_LIMIT} printable characters without '/', not {text!r}"
        )
    return text


def check_node_name(kind: str, text: str) -> str:
    """
    Return `text` if a node can be called so: as for `check_part`, perhaps with a slash and a number behind it.

    Raises:
        UsageError: if it cannot.
    """
    name, slash, number = text.rpartition("/") if isinstance(text, str) else ("", "", "")
    if slash and number.isascii() and number.isdigit():
        check_part(kind, name)
        if len(text) <= _PART_LIMIT:
            return text
    return check_part(kind, text)


def counted(number: int, noun: str) -> str:
    """Return a number of things in words: "1 node", "2 nodes"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def plain(text: str, *, keep: str = "", most: int = 0) -> str:
    """
    Return a text that came from elsewhere so that it can be shown to people: it can move no cursor.

    Control characters, marks of writing direction and the like are escaped as in a Python literal.

    Args:
        text: what is to be shown.
        keep: characters that stay as they are.
        most: longest text returned, in characters; what is longer is cut, and ends with "..."; 0 for any.
    """
    if not text.isprintable():
        text = "".join([char if char in keep or _is_plain(char) else _escaped(char) for char in text])
    if most and len(text) > most:
        return f"{text[: most - 3]}..."
    return text


def _is_plain(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()
