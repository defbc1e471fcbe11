"""
What a caller holds of a task: `Result`, a `concurrent.futures.Future` that costs little until somebody waits.

Nearly every result is settled before anybody looks at it, or is looked at by one thread once.  So a fresh
`Result` is a row of slots and no more.  The condition and the lists that make a `Future` waitable live in a
*door*, which is opened by the first one who wants to wait or be called.

Why nobody is missed.  The steps below each touch one slot in one bytecode; the GIL makes them atomic and lets
all threads see them in the same order.

======================================  ==========================================================
the one who settles                     one who wants to be told
======================================  ==========================================================
S1  ``del self._open``: the first wins  W1  put a door there, or find one
S2  store the outcome                   W2  look at ``_end``; where it has ended: announce
S3  ``self._end = FINISHED``            W3  with the door's lock: look at ``door.state``;
S4  look for a door                         where it is open, register
S5  where there is one: announce
======================================  ==========================================================

*Announce* takes the door's lock, does nothing if ``door.state`` tells of the end already, and otherwise
sets it and tells whoever is registered.  If S4 finds no door, W1 comes after S4, hence W2 after S3: every
comer sees the end, and ``door.state`` tells of it before he looks at W3.  If S4 finds a door, S5 announces:
whoever has registered is told, whoever takes the lock later sees the end.  Announcing twice is harmless, so
it does not matter that S5 and W2 may both do it.  S1 raises `AttributeError` in all threads but one, since
deleting a slot tests and clears it in one step.

``door.state`` changes only under the door's lock, and it is what the standard library sees as ``_state``:
`concurrent.futures.wait` and `as_completed` hold the locks of all their futures while they read states and
install waiters, and would count wrongly if a state moved under them.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, TypeVar, cast, overload

from dingo_zmq import errors
from dingo_zmq.invoke import Handler
from dingo_zmq.model import Code, Failure, Options, Report, Status, error_for
from dingo_zmq.waiting import Condition

if TYPE_CHECKING:
    import asyncio

__all__ = ["KEPT_REPORTS", "Door", "Following", "Owner", "Reports", "Result"]

R = TypeVar("R")
T = TypeVar("T")

KEPT_REPORTS = 1000
"""How many reports a `Result` keeps besides the final one; the oldest go first."""

_ENDED = frozenset((FINISHED, CANCELLED_AND_NOTIFIED))
# A lock on Windows cannot be interrupted while it waits, so Ctrl-C is looked for between slices.
_SLICE = 0.5 if os.name == "nt" else threading.TIMEOUT_MAX
_log = logging.getLogger(__name__)


class Owner(Protocol):
    """
    What a `Result` asks of the App that made it.  All of it may be called from any thread.

    Attributes:
        options: how the task is treated.
    """

    options: Options

    def cancel(self, result: Result[Any], /) -> bool:
        """
        Ask that the task be stopped, without blocking; an event loop may be the caller.

        Returns:
            True if the result is now cancelled or is sure to become so.
        """

    def stop(self, result: Result[Any], /) -> bool:
        """
        Ask that the task be stopped even where it runs, without blocking; the final report tells what came of it.

        Returns:
            True if it was asked, False if it has ended.
        """

    def why(self, result: Result[Any], /) -> str:
        """Return one sentence for people: why the task is not done yet."""

    def call_soon(self, fn: Callable[..., object], /, *args: Any) -> None:
        """
        Run ``fn(*args)`` on the App's callback thread, in the order of these calls.

        It must neither block nor raise, and never run `fn` in the calling thread: that may be the one that
        does all I/O, and `fn` is the user's, who may call and wait in it.
        """

    def handler_failed(self, result: Result[Any], error: Exception, /) -> None:
        """Log that a callback raised, and tell whoever listens."""


class Door:
    """The waitable half of a `Result`.  Everything here is read and changed under `condition`."""

    __slots__ = ("arrived", "bells", "callbacks", "condition", "followers", "handled", "kept", "state", "waiters")

    def __init__(self) -> None:
        self.condition = Condition()
        self.state = PENDING
        self.waiters: list[Any] = []  # told of the end, under the lock; the standard library adds its own
        self.bells: list[_Bell | _Relay] = []  # told of each report
        self.callbacks: list[Callable[[Any], object]] = []
        self.followers: list[Callable[[Any], object]] = []  # told of the end, by whoever announces it
        self.handled = False  # whether on_ok or on_nok was used
        self.kept: Sequence[Report] = ()
        self.arrived = 0  # reports in all; kept[-1] is number `arrived`

    @property
    def ended(self) -> bool:
        """Whether the result has ended."""
        return self.state in _ENDED

    def ring(self) -> None:
        """Wake those who iterate."""
        for bell in self.bells:
            bell.ring()
        self.condition.notify_all()

    def keep(self, report: Report) -> None:
        """Add a report that is not final, and wake those who iterate."""
        if not isinstance(self.kept, deque):
            self.kept = deque(maxlen=KEPT_REPORTS)
        self.kept.append(report)
        self.arrived += 1
        if report.status is Status.PROGRESS:
            self.state = RUNNING
        self.ring()


_making = threading.RLock()  # held while a door is put in place; nothing is called under it


class Result(Future[R]):
    """
    The outcome of one call, now or later.

    It is a `concurrent.futures.Future`: `concurrent.futures.wait`, `as_completed`, `asyncio.wrap_future` and
    others take it.  In an event loop it can be awaited, and its reports can be iterated over.  Any thread may
    use it.

    Attributes:
        name: the function.
        id: the task; (name, id) is its identity.  "" while a call waits for results among its arguments.
        node: name of the node that settled it; "" before the end, or where the caller itself decided.
        attempt: how often the task had been sent by the end, counted from 1; 0 where unknown.
    """

    __slots__ = ("_door", "_end", "_exception", "_open", "_owner", "_result", "attempt", "id", "name", "node")

    if TYPE_CHECKING:
        _result: R
        _exception: errors.TaskError | None

    def __init__(self, name: str, id: str, owner: Owner) -> None:
        """Make a pending result.  Only an App does; `owner` is the App, as far as a result knows it."""
        # Not super().__init__(), which makes a condition and two lists.  `_result` is unset until the end.
        self.name = name
        self.id = id
        self._owner = owner
        self._end = PENDING
        self._door: Door | None = None
        self._open = None
        self._exception = None
        self.node = ""
        self.attempt = 0

    # ---- the outcome

    def result(self, timeout: float | None = None) -> R:
        """
        Return what the function returned, waiting for it if need be.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes.  Zero or less only looks.

        Raises:
            TimeoutError: it is not done yet; the text tells why.  It may be tried again.
            TaskError: the task failed; see `dingo_zmq.errors` for the kinds.
            TaskCancelled: it was cancelled (also a `concurrent.futures.CancelledError`).
        """
        if self._end is PENDING:
            self._sleep(timeout)
        error = self._exception
        if error is None:
            return self._result
        raise _fresh(error)

    def exception(self, timeout: float | None = None) -> errors.TaskError | None:
        """
        Return the error that `result` would raise, or None after a success, waiting for the end if need be.

        Args:
            timeout: as for `result`.

        Raises:
            TimeoutError: it is not done yet.
            TaskCancelled: it was cancelled.
        """
        if self._end is PENDING:
            self._sleep(timeout)
        error = self._exception
        if error is not None and self._end is CANCELLED_AND_NOTIFIED:
            raise _fresh(error)
        return error

    def wait(self, timeout: float | None = None) -> Report:
        """
        Return the final report, waiting for it if need be.  A failure is returned, not raised.

        Args:
            timeout: as for `result`.

        Raises:
            TimeoutError: it is not done yet.  It may be tried again.
        """
        if self._end is PENDING:
            self._sleep(timeout)
        return self._final()

    def __await__(self) -> Generator[Any, None, R]:
        """
        Wait in the running asyncio loop, and return or raise what `result` does.

        Cancelling the asyncio task that waits here also cancels this result, as `asyncio.wrap_future` has it.
        A result that was cancelled by somebody else raises `TaskCancelled`: the asyncio task goes on.
        """
        if self._end is PENDING:
            yield from self._sleep_in_loop()
        return self.result()

    # ---- the state

    @property
    def ok(self) -> bool:
        """Whether it ended well.  Before the end both `ok` and `nok` are False."""
        return self._end is not PENDING and self._exception is None

    @property
    def nok(self) -> bool:
        """Whether it ended badly: failed or cancelled."""
        return self._end is not PENDING and self._exception is not None

    @property
    def failure(self) -> Failure | None:
        """Why it failed, or None."""
        if self._end is PENDING or self._exception is None:
            return None
        return _failure_of(self._exception)

    @property
    def last(self) -> Report | None:
        """The most recent report: the final one after the end, None where none has come yet."""
        if self._end is not PENDING:
            return self._final()
        if self._door is None:
            return None
        with self._door.condition:
            return self._door.kept[-1] if self._door.kept else None

    def done(self) -> bool:
        """Whether it has ended: well, badly or cancelled."""
        return self._end is not PENDING

    def cancelled(self) -> bool:
        """Whether it was cancelled, before it started or while it ran; the failure's message tells which."""
        return self._end is CANCELLED_AND_NOTIFIED

    def running(self) -> bool:
        """
        Whether it is known to run: a report told so and it has not ended.

        Such reports come only with the option `monitor_progress`; without it this is always False.
        """
        door = self._door
        return self._end is PENDING and door is not None and door.state is RUNNING

    def cancel(self, *, running: bool = False) -> bool:
        """
        Ask that the task be stopped.

        Without `running` it is the standard library's: what is known to run is left alone, and all else is
        cancelled at once.  In mesh mode a task that is already at a node may still start, for a moment, although
        its result is cancelled.  In remote mode what can be taken back, and what is told to stop, is up to what is
        attached.

        Args:
            running: stop it even where it runs.  A coroutine is cancelled at its await; a thread finds
                ``current_task().cancelled`` to be True, and ``current_task().check()`` raises.  A function need
                not give in, so the result stays pending until the final report, which tells what happened:
                cancelled before it started, cancelled while it ran, or done before it noticed.

        Returns:
            True if the result is cancelled, now or for sure soon, or with `running` was asked to; False where it
            ended otherwise or has to be left to run.
        """
        if self._end is not PENDING:
            return self.cancelled()
        return self._owner.stop(self) if running else self._owner.cancel(self)

    def why(self) -> str:
        """Return one sentence for people: why it is not done, or how it ended."""
        where = f" on {self.node}" if self.node else ""
        if self._end is PENDING:
            return self._owner.why(self)
        if self._exception is None:
            return f"done: success{where}"
        return f"done: {_failure_of(self._exception).code.name.lower()}: {self._exception}"

    # ---- reports and handlers

    def reports(self, timeout: float | None = None) -> Reports:
        """
        Iterate over the reports in the order of their arrival, ending with the final one.

        For both ``for`` and ``async for``.  Each call begins with the oldest report kept (`KEPT_REPORTS`),
        whether the task has ended or not; what was no longer kept is counted in `Reports.dropped`.

        Args:
            timeout: seconds to wait at most for each next report; None waits as long as it takes.
        """
        return Reports(self, timeout)

    @overload
    def on_ok(self, fn: Callable[[R], object]) -> Result[R]: ...

    @overload
    def on_ok(self, fn: Callable[..., object]) -> Result[R]: ...

    def on_ok(self, fn: Callable[..., object]) -> Result[R]:
        """
        Call ``fn(value)`` once if the task ends well, or has; returns this result, for chaining.

        A function that needs several arguments gets the items of a returned tuple, one that takes none is called
        without.  Its parameters are corrected by their annotations as the returns of a function are: a handler
        ``fn(point: Point)`` gets a ``Point`` even if the task was called by name and its return arrived as a
        dict.  It runs on the App's callback thread; what it raises is logged, as is a value that does not fit.

        Raises:
            UsageError: `fn` cannot be called like that at all, or has an annotation that is not supported.
        """
        handler = Handler(fn, f"{self._label()}: on_ok")
        return self._handle(partial(_if_ok, handler))

    def on_nok(self, fn: Callable[[Failure], object] | Callable[[], object]) -> Result[R]:
        """
        Call ``fn(failure)`` once if the task ends badly, or has; returns this result, for chaining.

        A function that takes no argument is called without.  It runs on the App's callback thread; what it
        raises is logged.

        Raises:
            UsageError: `fn` cannot be called like that.
        """
        handler = Handler(fn, f"{self._label()}: on_nok", correct=False)
        if handler.least > 1:
            raise errors.UsageError(
                f"{self._label()}: on_nok: a handler gets one argument, the failure; "
                f"{getattr(fn, '__name__', fn)} needs {handler.least}"
            )
        return self._handle(partial(_if_nok, handler))

    def then(self) -> Result[R]:
        """
        Return this result, which may be awaited, after a check that some handler will hear of its end.

        Nothing has to be started: handlers are called whether anybody waits or not.

        Raises:
            UsageError: neither `on_ok` nor `on_nok` was used.
        """
        if self._door is None or not self._door.handled:
            raise errors.UsageError(f"{self._label()}: then() without on_ok() or on_nok() before it")
        return self

    def add_done_callback(self, fn: Callable[[Result[R]], object]) -> None:
        """
        Call ``fn(self)`` at the end, on the App's callback thread, in the order of adding.

        If the end has been reached, it is called at once in this thread, as in the standard library.  What it
        raises is logged.
        """
        door = self._reach()
        with door.condition:
            if door.state not in _ENDED:
                door.callbacks.append(fn)
                return
        _call_all((fn,), self)

    # ---- settling, for the App alone

    def _succeed(self, value: R, node: str = "", attempt: int = 0) -> bool:
        """Settle with a value.  Returns False, and changes nothing, if it is settled already."""
        try:
            del self._open
        except AttributeError:
            return False
        self._result = value
        if node:
            self.node = node
            self.attempt = attempt
        self._end = FINISHED
        if self._door is not None:
            self._announce(self._door)
        return True

    def _fail(self, failure: Failure) -> bool:
        """Settle with a failure.  Returns False, and changes nothing, if it is settled already."""
        error = error_for(failure)
        try:
            del self._open
        except AttributeError:
            return False
        # Some versions of asyncio read both of these slots for any outcome.
        self._result = None  # type: ignore[assignment]
        self._exception = error
        self.node = failure.node
        self.attempt = failure.attempt
        self._end = CANCELLED_AND_NOTIFIED if failure.code is Code.CANCELLED else FINISHED
        if self._door is not None:
            self._announce(self._door)
        return True

    def _report(self, report: Report) -> bool:
        """Take a report; a final one settles.  Returns False, and keeps nothing, if it is settled already."""
        if report.status is Status.SUCCESS:
            return self._succeed(report.value, report.node, report.attempt)
        if report.status is Status.FAIL:
            unknown = Failure(Code.GENERIC, node=report.node, attempt=report.attempt)
            return self._fail(report.failure or unknown)
        door = self._reach()
        with door.condition:
            if door.state in _ENDED:
                return False
            door.keep(report)
            return True

    # ---- for results that are made of others

    def _follow(self, tell: Callable[[Result[R]], object]) -> None:
        """
        Call ``tell(self)`` once, at the end or now.

        It runs in the thread that settles, which may be the one that does all I/O: it must not block, raise, or
        run anything of the user's.
        """
        door = self._reach()
        with door.condition:
            if door.state not in _ENDED:
                door.followers.append(tell)
                return
        tell(self)

    def _take_over(self, other: Result[R], soon: Callable[..., object]) -> None:
        """
        Become `other`: have its id, its reports and its end.

        Args:
            other: a result that is nobody else's.
            soon: runs functions one by one, in the order in which it is given them, in the thread of this call.
                So no thread holds the locks of both, and whoever waits for both is safe.
        """
        self.id = other.id
        door = other._reach()
        with door.condition:
            kept = list(door.kept)
            door.bells.append(_Relay(door, partial(soon, self._report)))
        for report in kept:
            self._report(report)
        other._follow(partial(soon, self._settle_as))

    def _settle_as(self, other: Result[R]) -> None:
        """Settle as a result that has ended."""
        if other._exception is None:
            self._succeed(other._result, other.node, other.attempt)
        else:
            self._fail(_failure_of(other._exception))

    # ---- inside

    def _reach(self) -> Door:
        """Return the door, told of the end if there was one (W1 and W2)."""
        door = self._make_door()
        if self._end is not PENDING and door.state not in _ENDED:
            self._announce(door)
        return door

    def _make_door(self) -> Door:
        """Return the door, made if need be (W1)."""
        door = self._door
        if door is None:
            fresh = Door()
            with _making:
                door = self._door
                if door is None:
                    self._door = door = fresh
        return door

    def _announce(self, door: Door) -> None:
        """Tell everybody registered at the door of the end, once."""
        with door.condition:
            if door.state in _ENDED:
                return
            door.state = self._end
            for waiter in door.waiters:
                self._tell(waiter)
            door.condition.notify_all()
            callbacks, door.callbacks = door.callbacks, []
            followers, door.followers = door.followers, []
        for tell in followers:
            tell(self)
        if callbacks:
            self._owner.call_soon(_call_all, callbacks, self)

    def _tell(self, waiter: Any) -> None:
        if self._end is CANCELLED_AND_NOTIFIED:
            waiter.add_cancelled(self)
        elif self._exception is not None:
            waiter.add_exception(self)
        else:
            waiter.add_result(self)

    def _sleep(self, timeout: float | None) -> None:
        door = self._reach()
        with door.condition:
            if _wait_for(door.condition, lambda: door.state in _ENDED, timeout):
                return
        raise self._late(timeout)

    def _sleep_in_loop(self) -> Generator[Any, None, None]:
        import asyncio  # not everybody has a loop

        bell = _Bell()
        door = self._reach()
        with door.condition:
            if door.state in _ENDED:
                return
            door.waiters.append(bell)
        try:
            yield from bell.future
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            with door.condition:
                door.waiters.remove(bell)

    def _handle(self, handler: Callable[[Result[Any]], object]) -> Result[R]:
        door = self._reach()
        with door.condition:
            door.handled = True
            if door.state not in _ENDED:
                door.callbacks.append(handler)
                return self
        self._owner.call_soon(_call_all, (handler,), self)
        return self

    def _final(self) -> Report:
        error, options = self._exception, self._owner.options
        if error is None:
            return Report(self.name, self.id, Status.SUCCESS, self._result, None, self.node, self.attempt, options)
        return Report(self.name, self.id, Status.FAIL, None, _failure_of(error), self.node, self.attempt, options)

    def _late(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"{self._label()} is not done after {timeout:g} s: {self.why()}")

    def _label(self) -> str:
        return f"{self.name}/{self.id}" if self.id else self.name

    def __repr__(self) -> str:
        """Return the task and how far it is."""
        if self._end is PENDING:
            state = "running" if self.running() else "pending"
        elif self._exception is None:
            state = "success"
        else:
            state = f"fail {_failure_of(self._exception).code.name}"
        return f"<{type(self).__name__} {self._label()} {state}>"

    # ---- what the rest of a Future would do

    if not TYPE_CHECKING:
        # The names under which the standard library reaches into a Future.  Whoever reads `_condition` is
        # about to take the lock, so the end is announced first.  Whoever reads the others holds the lock:
        # there the state has to stay as it is, or a waiter installed right after would not be told.

        @property
        def _condition(self):
            return self._reach().condition

        @property
        def _waiters(self):
            return self._make_door().waiters

        @property
        def _done_callbacks(self):
            return self._make_door().callbacks

        @property
        def _state(self):
            door = self._door
            return self._end if door is None else door.state

    def set_result(self, result: R) -> NoReturn:
        """
        Refuse: only the App that made a result settles it.

        Raises:
            UsageError: always.
        """
        raise self._not_yours("set_result")

    def set_exception(self, exception: BaseException | None) -> NoReturn:
        """
        Refuse: only the App that made a result settles it.

        Raises:
            UsageError: always.
        """
        raise self._not_yours("set_exception")

    def set_running_or_notify_cancel(self) -> NoReturn:
        """
        Refuse: only the App that made a result settles it.

        Raises:
            UsageError: always.
        """
        raise self._not_yours("set_running_or_notify_cancel")

    def _not_yours(self, method: str) -> errors.UsageError:
        return errors.UsageError(f"{self._label()}: {method}() is not for callers; the App settles a result")

    def __reduce__(self) -> NoReturn:
        """
        Refuse to be pickled or copied: a result belongs to the process that called.

        Raises:
            UsageError: always.
        """
        raise errors.UsageError(f"{self._label()}: a Result cannot be pickled or copied; pass on its value")


class Following(Iterator[T], AsyncIterator[T]):
    """
    What comes of one result, for ``for`` or ``async for``.

    Args:
        result: what is followed.
        timeout: seconds to wait at most for each next thing; None waits as long as it takes.
    """

    __slots__ = ("_over", "_result", "_timeout")

    def __init__(self, result: Result[Any], timeout: float | None) -> None:
        self._result = result
        self._timeout = timeout
        self._over = False

    def _ready(self, door: Door) -> bool:
        """Whether `_take` would not give None; the caller holds the door's lock."""
        raise NotImplementedError

    def _take(self, door: Door) -> tuple[T, ...] | None:
        """Return the next thing, nothing at the end, and None where it is to come; with the door's lock."""
        raise NotImplementedError

    def _taken(self, found: tuple[T, ...] | None, stop: type[Exception]) -> T:
        """Return what was taken, or raise what says that there is nothing."""
        if found is None:
            raise self._result._late(self._timeout)
        if not found:
            self._over = True
            raise stop
        return found[0]

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> T:
        """
        Return the next of them, waiting for it if need be.

        Raises:
            TimeoutError: none came in time.
        """
        if self._over:
            raise StopIteration
        door = self._result._reach()
        with door.condition:
            _wait_for(door.condition, lambda: self._ready(door), self._timeout)
            found = self._take(door)
        return self._taken(found, StopIteration)

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> T:
        """
        Return the next of them, waiting for it in the running asyncio loop if need be.

        Raises:
            TimeoutError: none came in time.
        """
        import asyncio  # not everybody has a loop

        if self._over:
            raise StopAsyncIteration
        door = self._result._reach()
        limit = asyncio.timeout(self._timeout)
        found = None
        try:
            async with limit:
                found = await self._take_in_loop(door)
        except TimeoutError:
            if not limit.expired():
                raise
        return self._taken(found, StopAsyncIteration)

    async def _take_in_loop(self, door: Door) -> tuple[T, ...]:
        bell = None
        while True:
            with door.condition:
                found = self._take(door)
                if found is not None:
                    return found
                bell = _Bell()
                door.bells.append(bell)
                door.waiters.append(bell)
            try:
                await bell.future
            finally:
                with door.condition:
                    door.bells.remove(bell)
                    door.waiters.remove(bell)


class Reports(Following[Report]):
    """
    The reports of one result, for ``for`` or ``async for``, made by `Result.reports`.

    Not for several threads at once; each should call `Result.reports` for its own.  After a `TimeoutError`
    the iteration may go on.  Leaving an ``async for`` early, or being cancelled in it, leaves the task alone.

    Attributes:
        dropped: how many reports this iterator missed, because they were no longer kept.
    """

    __slots__ = ("_final_told", "_next", "dropped")

    def __init__(self, result: Result[Any], timeout: float | None) -> None:
        """See `Result.reports`."""
        super().__init__(result, timeout)
        self._next = 0  # reports passed so far
        self._final_told = False
        self.dropped = 0

    def _ready(self, door: Door) -> bool:
        return door.arrived > self._next or door.ended

    def _take(self, door: Door) -> tuple[Report, ...] | None:
        oldest = door.arrived - len(door.kept)
        if self._next < oldest:
            self.dropped += oldest - self._next
            self._next = oldest
        if self._next < door.arrived:
            self._next += 1
            return (door.kept[self._next - 1 - oldest],)
        if not door.ended:
            return None
        if self._final_told:
            return ()
        self._final_told = True
        return (self._result._final(),)


class _Bell:
    """Wakes one coroutine of the loop it was made in; rung under the door's lock, by any thread."""

    __slots__ = ("future", "wakeups")

    def __init__(self) -> None:
        self.wakeups = _Wakeups.here()
        self.future: asyncio.Future[None] = self.wakeups.loop.create_future()

    def ring(self, _: object = None) -> None:
        self.wakeups.add(self.future)

    add_result = add_exception = add_cancelled = ring  # what the end calls


class _Relay:
    """Passes each report on; rung under the door's lock, by any thread."""

    __slots__ = ("_door", "_pass_on")

    def __init__(self, door: Door, pass_on: Callable[[Report], object]) -> None:
        self._door, self._pass_on = door, pass_on

    def ring(self) -> None:
        self._pass_on(self._door.kept[-1])


class _Wakeups:
    """
    Hands futures that are due to one loop, many at a time.

    Waking a loop costs a system call, so it is done only when no wake-up is under way: `add` appends first
    and then looks at `due`; `run` clears `due` first and then empties.  A future appended before `run` counts
    is taken by it; one appended later finds `due` cleared, or set by somebody who has called another `run`.
    """

    __slots__ = ("__weakref__", "due", "loop", "ready")

    _here = threading.local()  # a weak reference to the last one of each thread

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ready: deque[asyncio.Future[None]] = deque()
        self.due = False

    @classmethod
    def here(cls) -> _Wakeups:
        """Return the one of the loop that runs in this thread."""
        import asyncio  # not everybody has a loop

        loop = asyncio.get_running_loop()
        known: weakref.ref[_Wakeups] | None = getattr(cls._here, "known", None)
        wakeups = known() if known is not None else None
        if wakeups is None or wakeups.loop is not loop:
            wakeups = cls(loop)
            cls._here.known = weakref.ref(wakeups)
        return wakeups

    def add(self, future: asyncio.Future[None]) -> None:
        self.ready.append(future)
        if self.due:
            return
        self.due = True
        try:
            self.loop.call_soon_threadsafe(self.run)
        except RuntimeError:  # the loop was closed: nobody waits any more
            _log.debug("a result was settled after the event loop that waited for it had been closed")

    def run(self) -> None:
        self.due = False
        for _ in range(len(self.ready)):
            future = self.ready.popleft()
            if not future.done():
                future.set_result(None)


def _wait_for(condition: Condition, true: Callable[[], bool], timeout: float | None) -> bool:
    """Wait, holding the condition, until `true` says so; returns False if `timeout` seconds pass before."""
    deadline = None if timeout is None else monotonic() + timeout
    while not true():
        left = _SLICE if deadline is None else min(_SLICE, deadline - monotonic())
        if left <= 0:
            return False
        condition.wait(left)
    return True


def leave_behind(results: Iterable[Result[Any]], failure: Failure) -> None:
    """In a forked child: settle results that nobody will settle there, whichever thread had their locks."""
    global _making  # noqa: PLW0603
    _making = threading.RLock()
    for result in results:
        result._door = None
        result._fail(failure)


def _call_all(callbacks: Sequence[Callable[[Any], object]], result: Result[Any]) -> None:
    for callback in callbacks:
        try:
            callback(result)
        except Exception as exc:
            result._owner.handler_failed(result, exc)


def _if_ok(handler: Handler, result: Result[Any]) -> None:
    if result.ok:
        handler(result._result)


def _if_nok(handler: Handler, result: Result[Any]) -> None:
    if result.failure is not None:
        handler(result.failure)


def _failure_of(error: errors.TaskError) -> Failure:
    return cast("Failure", error.failure)


def _fresh(error: errors.TaskError) -> errors.TaskError:
    """Return an error to raise: a new one each time, since raising adds a traceback to the object."""
    return error_for(_failure_of(error))
