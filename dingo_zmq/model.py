"""The values that everybody speaks of: status, failure code, options, failure, report."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, NamedTuple

from dingo_zmq import errors

__all__ = [
    "BODY_LIMIT",
    "MAX_CALLERS",
    "MAX_KEPT",
    "MAX_KEPT_BYTES",
    "MAX_NODES",
    "MAX_OPEN",
    "MAX_OPEN_BYTES",
    "LARGE",
    "Code",
    "Failure",
    "Options",
    "Report",
    "Retries",
    "Status",
    "Try",
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

LARGE = 64 * 1024
"""Bytes above which a body counts as large; it is sent and received without copying."""

MAX_OPEN_BYTES = 4 * 1024**3
"""Bytes of large arguments of an App that may be open at a time, unless it says otherwise."""

MAX_KEPT = 200_000
"""Answers that a node keeps for its callers, unless it says otherwise."""

MAX_KEPT_BYTES = 4 * 1024**3
"""Bytes of large answers that a node keeps, unless it says otherwise."""

MAX_CALLERS = 4096
"""Callers that a node knows at a time, unless it says otherwise."""

MAX_NODES = 4096
"""Nodes that a caller knows at a time, unless it says otherwise."""

PRIORITY_MOST = 1_000_000
"""highest priority, and with a minus the lowest"""

NUMBER_MOST = 1e9
"""largest number of seconds (and factor) in an option"""

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
    REFUSED = 10  # nodes gave it back, more often than `Retries.refused` allows


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -NUMBER_MOST <= value <= NUMBER_MOST


@dataclass(frozen=True, slots=True)
class Retries:
    """
    How often a task is tried again, by the cause of its failure, and how long it pauses before that.

    Args:
        raised: times that it is tried again after the function raised.
        lost: times that it is sent again after its node was lost while it may have been running; then it ends
            with FAIL/UNKNOWN.  None: at once, and as often as `max_losses` allows.  Local mode loses nothing.
        refused: times that it is sent again after a node refused it; then it ends with FAIL/REFUSED.  None: at
            once, and as often as needed.  Local mode refuses nothing.
        backoff: seconds of the first pause.
        factor: by which each pause is longer than the one before; at least 1.
        most: seconds of the longest pause.
        jitter: share of a pause that is left to chance, 0.0 to 1.0; with 0.5 a pause of 4 s lasts 2 to 4 s.
        on: names of exception types after which it is tried again, such as "ConnectionError", as reports have
            them or without their module; given as any iterable of texts.  Subclasses do not count.  None named
            means any.

    A task with `at_most_once` is never tried again once it has started.  In remote mode `lost` and `refused` mean
    something only where what is attached notices such things, as the mesh does.

    Raises:
        UsageError: for a value that makes no sense.
    """

    raised: int = 0
    lost: int | None = None
    refused: int | None = None
    backoff: float = 1.0
    factor: float = 2.0
    most: float = 60.0
    jitter: float = 0.5
    on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("raised", "lost", "refused"):
            value = getattr(self, name)
            if (value is not None or name == "raised") and not (_is_whole(value) and value >= 0):
                raise errors.UsageError(f"retries: {name} must be a whole number of at least 0, not {value!r}")
        for name, least, most in (("backoff", 0, None), ("factor", 1, None), ("most", 0, None), ("jitter", 0, 1)):
            value = getattr(self, name)
            if not _is_number(value) or value < least or (most is not None and value > most):
                bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
                raise errors.UsageError(f"retries: {name} must be a number {bounds}, not {value!r}")
        on: Any = self.on
        if isinstance(on, str | bytes) or not isinstance(on, Iterable):
            hint = f', such as ["{on}"]' if isinstance(on, str) and on else ""
            raise errors.UsageError(f"retries: on must be a list of names of exceptions{hint}, not {on!r}")
        object.__setattr__(self, "on", tuple(on))
        for name in self.on:
            if not isinstance(name, str):
                raise errors.UsageError(f"retries: on must be a list of names of exceptions, and {name!r} is none")

    def covers(self, failure: Failure) -> bool:
        """Return whether a task that failed so is tried again, once more at least."""
        if failure.code is not Code.RAISED or not self.raised:
            return False
        return not self.on or failure.type in self.on or failure.type.rpartition(".")[2] in self.on

    def pause(self, number: int, chance: float) -> float:
        """Return for how many seconds to pause before retry `number`, from 1; `chance` is from 0 up to 1."""
        try:
            longest = min(self.most, self.backoff * self.factor ** (number - 1))
        except OverflowError:
            longest = self.most
        return longest * (1 - self.jitter * chance)


_NO_RETRIES = Retries()


@dataclass(frozen=True, slots=True)
class Options:
    """
    How one task is to be treated.

    Args:
        at_most_once: never start it twice; a task whose node is lost while it may have been running
            ends with FAIL/UNKNOWN instead of being sent elsewhere.
        max_losses: after this many nodes died while the task may have been running, it ends with
            FAIL/POISON.  At least 1.  The first node that it was sent to counts only if the caller knew by then
            that it had started there, so one more may die; on all others it starts only once the caller knows.
        monitor_progress: also send the reports SENT and PROGRESS, not the final one alone.
        ignore_report: nothing comes back, and `call` returns a `Result` already settled with None.  The task is
            seen to all the same; where it fails, there is a line in the log.
        delay: seconds after the call before which it is not sent, nor started.
        expires: seconds after the call by which it must have started, else it ends with FAIL/EXPIRED; None for
            never.  Once it has started, or may have, it does not expire any more, not even where it is tried or
            sent again.  The time that it takes to a node is not counted.
        retries: how often it is tried again where the function raises, or a `Retries` for more than that.
        priority: a whole number, higher first; it orders what waits at the caller and at each node.  Those of one
            priority are taken in the order of their arrival, unless they take long: then functions and callers
            take turns at a node.
        node: name or id of the node that is to run it, "" for any.  "bench" also means each of the processes
            "bench/1", "bench/2" ... of one node.  In local mode it means nothing.
        needs: tags that the node must have, all of them; given as any iterable of texts.  In local mode they
            mean nothing.
        time_limit: seconds that it may run; then it ends with FAIL/TIMEOUT.  A coroutine is cancelled.  A thread
            cannot be ended alone: a process of ``dingo-zmq node`` gives back what else it has, ends, and is
            started anew; elsewhere (`App.serve`, local mode) the task ends at once for its caller, while its
            thread goes on as long as it likes, and another takes its place.  While a function keeps the GIL to
            itself nobody notices.  The time for which a function that yields waits for its reader counts, too.
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
    ignore_report: bool = False
    delay: float = 0.0
    expires: float | None = None
    retries: int | Retries = 0
    priority: int = 0
    time_limit: float | None = None
    soft_time_limit: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.max_losses, int) or self.max_losses < 1:
            raise errors.UsageError(f"max_losses must be a whole number of at least 1, not {self.max_losses!r}")
        for name in ("at_most_once", "monitor_progress", "ignore_report"):
            if not isinstance(getattr(self, name), bool):
                raise errors.UsageError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if self.node != "":
            check_node_name("node", self.node)
        object.__setattr__(self, "needs", _checked_tags(self.needs))
        _check_times(self.delay, self.expires)
        if not isinstance(self.retries, Retries) and not (_is_whole(self.retries) and self.retries >= 0):
            raise errors.UsageError(
                f"retries must be a whole number of at least 0, or a Retries, not {self.retries!r}"
            )
        if not _is_whole(self.priority) or abs(self.priority) > PRIORITY_MOST:
            raise errors.UsageError(
                f"priority must be a whole number from -{PRIORITY_MOST} to {PRIORITY_MOST}, not {self.priority!r}"
            )
        if self.time_limit is not None or self.soft_time_limit is not None:
            _check_limits(self.time_limit, self.soft_time_limit)

    @property
    def tries(self) -> Retries:
        """What `retries` stands for."""
        if isinstance(self.retries, Retries):
            return self.retries
        return Retries(self.retries) if self.retries else _NO_RETRIES

    @property
    def on_terms(self) -> bool:
        """Whether they say anything of when the task may start, or how often it is tried."""
        return bool(self.delay or self.expires or self.retries)

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


def _check_times(delay: Any, expires: Any) -> None:
    if not _is_number(delay) or delay < 0:
        raise errors.UsageError(f"delay must be seconds, from 0 to {NUMBER_MOST:g}, not {delay!r}")
    if expires is not None and not (_is_number(expires) and expires > 0):
        raise errors.UsageError(
            f"expires must be seconds, more than 0 to {NUMBER_MOST:g}, or None, not {expires!r}"
        )
    if expires is not None and expires <= delay:
        raise errors.UsageError(
            f"expires ({expires!r} s) must be more than delay ({delay!r} s), or the task would never start; "
            "hint: both count from the call"
        )


def _check_limits(hard: Any, soft: Any) -> None:
    for name, limit in (("time_limit", hard), ("soft_time_limit", soft)):
        if limit is not None and not (_is_number(limit) and limit > 0):
            raise errors.UsageError(f"{name} must be a number of seconds above 0, or None, not {limit!r}")
    if hard and soft and soft >= hard:
        raise errors.UsageError(f"soft_time_limit ({soft:g} s) must be below time_limit ({hard:g} s)")


class Try(NamedTuple):
    """
    One time that a task was sent to a node and did not come to its end there.

    Attributes:
        node: name of the node.
        attempt: how often the task had been sent by then, counted from 1.
        end: what became of it, in words that follow the name of the node, such as "died".
    """

    node: str
    attempt: int
    end: str

    def __str__(self) -> str:
        return plain(f"{self.node} ({self.end})")


GAVE_BACK = "gave it back"
"""end of a try about which nothing is wrong: others were free, or the node was about to leave"""


def in_words(history: tuple[Try, ...]) -> str:
    """Return what became of tries with which something was wrong: "bench-3/1 (died), bench-4 (died)"."""
    return ", ".join([str(one) for one in history if one.end != GAVE_BACK])


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
        history: what became of its other tries, oldest first; the twelve of most interest where there are more.
            Empty in local and remote mode.
    """

    code: Code
    message: str = ""
    type: str = ""
    traceback: str = ""
    node: str = ""
    attempt: int = 0
    history: tuple[Try, ...] = ()

    def __str__(self) -> str:
        head = ": ".join(filter(None, [self.type, self.message])) or self.code.name.lower()
        where = f" (on {self.node})" if self.node else ""
        tried = in_words(self.history)
        more = f"; tried {'before ' if self.node else ''}on {tried}" if tried else ""
        return plain(f"{head}{where}{more}", keep=_LINES)

    def after(self, attempts: int) -> Failure:
        """Return the same, telling that it is what came of the last of several attempts."""
        if attempts <= 1:
            return self
        return replace(self, message=f"{self.message} (the last of {attempts} attempts)".lstrip())

    def with_history(self, history: tuple[Try, ...]) -> Failure:
        """Return the same, telling what became of the other tries."""
        others = tuple([one for one in history if one[:2] != (self.node, self.attempt)])
        return replace(self, history=others) if others else self


_DEFAULTS = Options()


@dataclass(frozen=True, slots=True)
class Report:
    """
    What a caller hears about a task.

    Attributes:
        name: the function.
        id: the task; (name, id) is its identity.
        status: see `Status`.
        value: the return (SUCCESS; of a stream, how many values it yielded), a yielded value (PARTIAL), or what
            `progress` was given (PROGRESS: a pair (fraction, note), or None when the function is about to be
            called).
        failure: set with FAIL, and with a PROGRESS that tells of another try: why the one before failed, if the
            function raised.
        node: name of the node that reported, or "" where the caller itself decided.
        attempt: how often the task had been sent, counted from 1.
        options: how the task is treated.
    """

    name: str
    id: str
    status: Status
    value: Any = None
    failure: Failure | None = None
    node: str = ""
    attempt: int = 0
    options: Options = _DEFAULTS

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
    Code.REFUSED: errors.TaskRefused,
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
