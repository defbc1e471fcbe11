"""A result is settled once, and nobody who waits for it in any way is missed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import gc
import itertools
import logging
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import _base
from types import FrameType
from typing import Any

import pytest

from dingo_zmq import errors
from dingo_zmq.listening import Events
from dingo_zmq.model import Code, Failure, Options, Report, Status
from dingo_zmq.result import KEPT_REPORTS, Result, _Wakeups

DEADLINE = 10.0  # seconds; reached only where something is broken
BOOM = Failure(Code.RAISED, "no", "ValueError", "Traceback ...", "bench-1", 2)
CANCELLED = Failure(Code.CANCELLED, "cancelled by the caller")


class FakeOwner:
    """An App as far as a result knows it, with a real callback thread."""

    options = Options()

    def __init__(self) -> None:
        self.asked: list[Result[Any]] = []
        self.obeys = True
        self._work: queue.SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="dingo-callbacks", daemon=True)
        self.thread.start()

    def cancel(self, result: Result[Any], /) -> bool:
        self.asked.append(result)
        return self.obeys and result._fail(CANCELLED)

    def why(self, result: Result[Any], /) -> str:
        return f"no node knows {result.name}"

    def call_soon(self, fn: Callable[..., object], /, *args: Any) -> None:
        self._work.put((fn, args))

    def handler_failed(self, result: Result[Any], error: Exception, /) -> None:
        Events().handler_failed(error, result.name, result.id, repr(result))

    def drain(self) -> None:
        """Wait until all callbacks given so far have run."""
        done = threading.Event()
        self.call_soon(done.set)
        assert done.wait(DEADLINE)

    def close(self) -> None:
        self._work.put(None)
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            fn, args = item
            fn(*args)


@pytest.fixture
def owner() -> Iterator[FakeOwner]:
    owner = FakeOwner()
    yield owner
    owner.close()


@pytest.fixture
def result(owner: FakeOwner) -> Result[Any]:
    return Result("add", "1f", owner)


@pytest.fixture
def hasty() -> Iterator[None]:
    """Let threads take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def many(owner: FakeOwner, count: int) -> list[Result[int]]:
    return [Result("add", str(i), owner) for i in range(count)]


def settle_all(results: list[Result[int]]) -> None:
    """Settle each: most well, every seventh badly, every eleventh cancelled."""
    for i, result in enumerate(results):
        if i % 7 == 6:
            result._fail(BOOM)
        elif i % 11 == 10:
            result._fail(CANCELLED)
        else:
            result._succeed(i)


def outcome(i: int) -> object:
    """Return what `settle_all` does to number `i`, as `seen` tells it."""
    return errors.TaskFailed if i % 7 == 6 else errors.TaskCancelled if i % 11 == 10 else i


def seen(result: Result[int]) -> object:
    try:
        return result.result(0)
    except errors.TaskError as exc:
        return type(exc)


class Background:
    """Runs one function in a thread, and fails the test if it fails or does not end."""

    def __init__(self, fn: Callable[..., object], *args: Any) -> None:
        self._fn, self._args = fn, args
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._fn(*self._args)
        except BaseException as exc:
            self._error = exc

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        assert self._error is None, self._error


def report(status: Status, value: Any = None) -> Report:
    return Report("add", "1f", status, value, None, "bench-1", 1)


def sleepers(result: Result[Any]) -> int:
    """Return how many threads sleep at a result."""
    with result._condition:
        return len(result._condition._waiters)  # type: ignore[attr-defined]


def until_asleep(result: Result[Any], count: int = 1) -> None:
    deadline = time.monotonic() + DEADLINE
    while sleepers(result) < count:
        assert time.monotonic() < deadline


# ---- settling


def test_a_value_is_returned_with_its_node_and_attempt(result: Result[int]) -> None:
    assert result._succeed(5, "bench-1", 2)

    assert result.result() == 5
    assert result.exception() is None
    assert (result.name, result.id, result.node, result.attempt) == ("add", "1f", "bench-1", 2)
    assert (result.done(), result.cancelled(), result.running()) == (True, False, False)
    assert (result.ok, result.nok, result.failure) == (True, False, None)
    assert result.wait() == Report("add", "1f", Status.SUCCESS, 5, None, "bench-1", 2) == result.last
    assert result.why() == "done: success on bench-1"


def test_a_failure_is_raised_as_its_error(result: Result[int]) -> None:
    assert result._fail(BOOM)

    with pytest.raises(errors.TaskFailed, match="ValueError: no") as caught:
        result.result()
    error = result.exception()
    assert isinstance(error, errors.TaskFailed)
    assert error.failure is caught.value.failure is result.failure is BOOM
    assert (result.done(), result.cancelled(), result.ok, result.nok) == (True, False, False, True)
    assert (result.node, result.attempt) == ("bench-1", 2)
    assert result.wait() == Report("add", "1f", Status.FAIL, None, BOOM, "bench-1", 2) == result.last
    assert result.why() == "done: raised: ValueError: no (on bench-1)"


def test_an_error_raised_twice_keeps_no_traceback_of_before(result: Result[int]) -> None:
    result._fail(BOOM)
    raised = []
    for _ in range(2):
        with pytest.raises(errors.TaskFailed) as caught:
            result.result()
        raised.append(caught.value)

    assert raised[0] is not raised[1]
    error = result.exception()
    assert error is not None
    assert error.__traceback__ is None
    assert error is result.exception()


def test_a_cancelled_result_raises_a_cancelled_error(result: Result[int]) -> None:
    assert result.cancel()

    for get in (result.result, result.exception):
        with pytest.raises(concurrent.futures.CancelledError) as caught:
            get()
        assert isinstance(caught.value, errors.TaskCancelled)
    assert result.cancelled()
    assert result.done()
    assert result.cancel()


def test_cancel_asks_the_owner_and_only_before_the_end(owner: FakeOwner, result: Result[int]) -> None:
    owner.obeys = False
    assert not result.cancel()
    result._succeed(1)
    assert not result.cancel()

    assert owner.asked == [result]
    assert result.result() == 1


def test_the_first_one_to_settle_wins(owner: FakeOwner) -> None:
    for waited_for in (False, True):
        for first in ("_succeed", "_fail"):
            result: Result[Any] = Result("add", "1f", owner)
            if waited_for:
                assert not concurrent.futures.wait([result], 0).done
            argument = {"_succeed": 1, "_fail": BOOM}
            assert getattr(result, first)(argument[first])
            before = result.wait()

            assert not result._succeed(2, "other", 9)
            assert not result._fail(CANCELLED)
            assert not result._report(report(Status.PROGRESS))
            assert result.wait() == before


def test_one_of_many_threads_wins(owner: FakeOwner, hasty: None) -> None:
    results = many(owner, 4000)
    wins: list[list[int]] = [[], []]

    def race(me: int) -> None:
        wins[me] += [i for i, result in enumerate(results) if result._succeed(me)]

    with Background(race, 0), Background(race, 1):
        pass

    assert sorted(wins[0] + wins[1]) == list(range(len(results)))
    assert all(results[i].result() == me for me in (0, 1) for i in wins[me])


def test_users_cannot_settle(result: Result[int]) -> None:
    with pytest.raises(errors.UsageError, match="the App"):
        result.set_result(1)
    with pytest.raises(errors.UsageError):
        result.set_exception(ValueError())
    with pytest.raises(errors.UsageError):
        result.set_running_or_notify_cancel()
    assert not result.done()


def test_a_result_is_neither_pickled_nor_copied(result: Result[int]) -> None:
    with pytest.raises(errors.UsageError, match="add/1f.*pickled"):
        pickle.dumps(result)
    with pytest.raises(errors.UsageError):
        copy.copy(result)


def test_repr_tells_name_id_and_state(owner: FakeOwner, result: Result[int]) -> None:
    assert repr(result) == "<Result add/1f pending>"
    result._report(report(Status.PROGRESS))
    assert repr(result) == "<Result add/1f running>"
    result._succeed(1)
    assert repr(result) == "<Result add/1f success>"
    failed = Result[int]("add", "1f", owner)
    failed._fail(BOOM)
    assert repr(failed) == "<Result add/1f fail RAISED>"


def test_nothing_is_made_before_somebody_waits(result: Result[int]) -> None:
    result._succeed(1)
    result.result()
    result.wait()
    assert result._door is None
    assert not result.__dict__


# ---- waiting in a thread


def test_a_timeout_tells_what_how_long_and_why(result: Result[int]) -> None:
    def first_report(timeout: float) -> Report:
        return next(result.reports(timeout))

    waits: list[Callable[[float], object]] = [result.result, result.exception, result.wait, first_report]
    for get in waits:
        with pytest.raises(TimeoutError, match=r"^add/1f is not done after 0.01 s: no node knows add$"):
            get(0.01)
    for never in (0, -1):
        with pytest.raises(concurrent.futures.TimeoutError):
            result.result(never)

    result._succeed(7)
    assert result.result(0.01) == 7


@pytest.mark.parametrize("timeout", [None, DEADLINE, 1e300, float("inf")])
def test_a_sleeping_thread_is_woken(result: Result[int], timeout: float | None) -> None:
    with Background(lambda: result.result(timeout)), Background(lambda: result.wait(timeout)):
        until_asleep(result, 2)
        result._succeed(1)


def test_reports_do_not_end_a_wait(result: Result[int]) -> None:
    with Background(lambda: result.result(DEADLINE)):
        until_asleep(result)
        for _ in range(3):
            result._report(report(Status.PROGRESS))
            until_asleep(result)
        assert not result.done()
        result._succeed(1)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs a signal to this thread")
def test_ctrl_c_ends_a_wait(result: Result[int]) -> None:
    main = threading.main_thread().ident
    assert main is not None
    woken = threading.Event()

    def interrupt() -> None:
        # A signal that arrives just before the thread falls asleep does not wake it; hence more than one.
        until_asleep(result)
        while not woken.is_set():
            signal.pthread_kill(main, signal.SIGINT)
            woken.wait(0.05)

    def once(*_: object) -> None:
        if not woken.is_set():
            woken.set()
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, once)
    try:
        with Background(interrupt), pytest.raises(KeyboardInterrupt):
            result.result(DEADLINE)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sleepers(result) == 0
    result._succeed(1)
    assert result.result() == 1


def test_threads_waiting_one_by_one_miss_none(owner: FakeOwner, hasty: None) -> None:
    results = many(owner, 20000)

    def get() -> None:
        for i, result in enumerate(results):
            result.wait(DEADLINE)
            assert seen(result) == outcome(i)

    with Background(get), Background(get), Background(settle_all, results):
        pass


# ---- concurrent.futures


@pytest.mark.parametrize("when", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
def test_wait_misses_none(owner: FakeOwner, hasty: None, when: str) -> None:
    results = many(owner, 4000)

    def get() -> None:
        for start in range(0, len(results), 3):
            some = results[start : start + 3]
            while True:
                done, open_ = concurrent.futures.wait(some, DEADLINE, when)
                assert done
                assert all(result.done() for result in done)
                if not open_:
                    break
                assert when != "ALL_COMPLETED"
                some = [result for result in some if result in open_]

    with Background(get), Background(settle_all, results):
        pass
    assert [seen(result) for result in results] == [outcome(i) for i in range(len(results))]


@pytest.mark.parametrize("size", [1, 10, 4000])
def test_as_completed_gives_each_once(owner: FakeOwner, hasty: None, size: int) -> None:
    results = many(owner, 4000)

    def get() -> None:
        for start in range(0, len(results), size):
            some = results[start : start + size]
            got = list(concurrent.futures.as_completed(some, DEADLINE))
            assert len(got) == len(some)
            assert set(got) == set(some)
            assert all(result.done() for result in got)

    with Background(get), Background(settle_all, results):
        pass


def test_as_completed_tells_of_a_timeout(owner: FakeOwner) -> None:
    results = many(owner, 3)
    results[1]._succeed(1)
    got: list[object] = []
    with pytest.raises(TimeoutError):
        got.extend(concurrent.futures.as_completed(results, 0))
    assert not any(result._waiters for result in results)


def preempted(
    at: int, first: Callable[[], object], second: Callable[[], object], locked: Callable[[], bool] = bool
) -> bool:
    """
    Run `first`, and all of `second` in another thread before bytecode number `at` of it, or at its end.

    Where `first` is in a `locked` section, `second` is run right after it.
    Returns False if `first` has fewer bytecodes than that.
    """
    other = Background(second)
    count, started = 0, False

    def trace(frame: FrameType, _event: str, _: object) -> Callable[..., Any]:
        nonlocal count, started
        frame.f_trace_opcodes = True
        count += 1  # lines as well: some versions tell no bytecodes of the first frame traced
        if count > at and not started and not locked():
            started = True
            with other:
                pass
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        first()
    finally:
        sys.settrace(before)
    if not started:
        with other:
            pass
    return started


def locked(result: Result[Any]) -> bool:
    """Return whether this thread holds the lock of a result."""
    return result._door is not None and result._door.condition._is_owned()  # type: ignore[attr-defined]


def by_callback(owner: FakeOwner, result: Result[Any]) -> Callable[[], int]:
    heard: list[object] = []
    result.add_done_callback(heard.append)
    return lambda: len(heard)


def by_handler(owner: FakeOwner, result: Result[Any]) -> Callable[[], int]:
    heard: list[object] = []
    result.on_ok(heard.append)
    return lambda: len(heard)


def by_waiter(owner: FakeOwner, result: Result[Any]) -> Callable[[], int]:
    """Do what `as_completed` does before it sleeps; what was told then has to be told once, in one way."""
    with _base._AcquireFutures({result}):
        ended = result._state in ("FINISHED", "CANCELLED_AND_NOTIFIED")
        waiter = _base._create_and_install_waiters({result}, "_AS_COMPLETED")  # type: ignore[attr-defined]
    return lambda: ended + len(waiter.finished_futures)


@pytest.mark.parametrize("register", [by_callback, by_handler, by_waiter])
@pytest.mark.parametrize("door", ["no door", "a door"])
@pytest.mark.parametrize("who", ["the settling one", "the registering one"])
def test_whoever_is_preempted_wherever_all_are_told_once(
    owner: FakeOwner, register: Callable[..., Callable[[], int]], door: str, who: str
) -> None:
    for at in itertools.count():
        result: Result[int] = Result("add", "1f", owner)
        told = [by_callback(owner, result), by_waiter(owner, result)] if door == "a door" else []

        def settle(result: Result[int] = result) -> None:
            result._succeed(1)

        def join(result: Result[int] = result, told: list[Callable[[], int]] = told) -> None:
            told.append(register(owner, result))

        pair = (settle, join) if who == "the settling one" else (join, settle)
        more = preempted(at, *pair, locked=lambda result=result: locked(result))  # type: ignore[misc]
        owner.drain()
        assert [count() for count in told] == [1] * len(told), at
        assert concurrent.futures.wait([result], 0).done
        if not more:
            break
    assert at > 20


def test_an_end_not_yet_announced_is_announced_by_whoever_comes(owner: FakeOwner, result: Result[int]) -> None:
    told = [by_callback(owner, result), by_waiter(owner, result)]
    # The settling thread stands between S4 and S5.
    del result._open
    result._result = 5
    result._end = _base.FINISHED

    assert result.done()
    assert result._state == _base.PENDING
    assert concurrent.futures.wait([result], 0).done == {result}
    owner.drain()
    assert [count() for count in told] == [1, 1]

    assert result._door is not None
    result._announce(result._door)
    owner.drain()
    assert [count() for count in told] == [1, 1]


def test_the_state_stays_while_somebody_holds_the_lock(owner: FakeOwner, result: Result[int]) -> None:
    with result._condition:
        del result._open
        result._result = 5
        result._end = _base.FINISHED
        assert result._state == _base.PENDING
        assert result._waiters == []
        assert result._state == _base.PENDING
    assert result._condition
    assert result._state == _base.FINISHED


def test_all_waiters_open_one_door(owner: FakeOwner, hasty: None) -> None:
    results = many(owner, 4000)
    doors: list[list[object]] = [[], []]

    def race(me: int) -> None:
        doors[me] += [result._condition for result in results]

    with Background(race, 0), Background(race, 1):
        pass

    assert all(a is b for a, b in zip(*doors, strict=True))


# ---- callbacks


def test_callbacks_run_in_order_on_the_callback_thread(owner: FakeOwner, result: Result[int]) -> None:
    heard: list[object] = []
    for i in range(3):
        result.add_done_callback(lambda r, i=i: heard.append((i, r, threading.current_thread())))  # type: ignore[misc]
    result._succeed(1)
    owner.drain()

    assert heard == [(i, result, owner.thread) for i in range(3)]


def test_a_callback_added_after_the_end_runs_here_and_now(result: Result[int]) -> None:
    result._succeed(1)
    heard = []
    result.add_done_callback(lambda _: heard.append(threading.current_thread()))
    assert heard == [threading.current_thread()]


def test_a_callback_may_wait_for_another_result(owner: FakeOwner, result: Result[int]) -> None:
    other: Result[int] = Result("add", "2f", owner)
    heard: list[int] = []
    result.add_done_callback(lambda _: heard.append(other.result(DEADLINE)))
    result._succeed(1)
    other._succeed(2)
    owner.drain()
    assert heard == [2]


def test_an_error_in_a_callback_is_logged(
    owner: FakeOwner, result: Result[int], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[object] = []

    def bad(_: object) -> None:
        raise ValueError("mine")

    result.add_done_callback(bad)
    result.on_ok(bad)
    result.add_done_callback(heard.append)
    with caplog.at_level(logging.ERROR, "dingo_zmq.result"):
        result._succeed(1)
        owner.drain()
        result.add_done_callback(bad)
        result.on_ok(bad)
        owner.drain()

    assert heard == [result]
    assert [str(r.exc_info[1]) for r in caplog.records if r.exc_info] == ["mine"] * 4


def test_callbacks_added_while_settling_run_once_each(owner: FakeOwner, hasty: None) -> None:
    results = many(owner, 8000)
    counts = [0] * len(results)

    def add() -> None:
        for i, result in enumerate(results):
            result.add_done_callback(lambda _, i=i: counts.__setitem__(i, counts[i] + 1))  # type: ignore[misc]

    with Background(add), Background(settle_all, results):
        pass
    owner.drain()

    assert counts == [1] * len(results)


# ---- dingo's handlers


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("good", [False, True])
def test_handlers_hear_their_end_once_in_any_order(owner: FakeOwner, good: bool, late: bool) -> None:
    result: Result[int] = Result("add", "1f", owner)
    heard: list[object] = []

    def settle() -> None:
        assert result._succeed(5) if good else result._fail(BOOM)

    if late:
        settle()
    assert result.on_ok(lambda value: heard.append((value, threading.current_thread()))) is result
    assert result.on_nok(lambda failure: heard.append((failure, threading.current_thread()))) is result
    assert result.then() is result
    if not late:
        assert not result.ok
        assert not result.nok
        assert result.failure is None
        settle()
    owner.drain()

    assert heard == [(5 if good else BOOM, owner.thread)]


def test_then_without_a_handler_is_an_error(result: Result[int]) -> None:
    with pytest.raises(errors.UsageError, match="on_ok"):
        result.then()
    result.add_done_callback(print)
    with pytest.raises(errors.UsageError, match="on_ok"):
        result.then()


def test_a_handler_that_cannot_be_called_is_an_error(result: Result[int]) -> None:
    for register in (result.on_ok, result.on_nok):
        with pytest.raises(errors.UsageError, match="callable"):
            register(5)  # type: ignore[arg-type]
    with pytest.raises(errors.UsageError):
        result.then()


def test_handlers_get_what_they_take(owner: FakeOwner, result: Result[Any]) -> None:
    heard: list[object] = []

    def on_both(a: float, b: str) -> None:
        heard.append((a, b))

    result.on_ok(on_both)
    result.on_ok(lambda: heard.append("called"))
    result.on_ok(heard.append)
    result._succeed((1, "x"))
    owner.drain()
    failed: Result[int] = Result("add", "2f", owner)
    failed.on_nok(lambda: heard.append("failed"))
    failed._fail(BOOM)
    owner.drain()

    assert heard == [(1.0, "x"), "called", (1, "x"), "failed"]


def test_a_value_that_does_not_fit_its_handler_is_logged_once_and_hurts_nobody(
    owner: FakeOwner, result: Result[Any], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[object] = []

    def on_text(text: str) -> None:
        heard.append(text)

    result.on_ok(on_text).on_ok(lambda a, b: heard.append(a)).on_ok(heard.append)
    with caplog.at_level(logging.ERROR, "dingo_zmq.result"):
        result._succeed(5)
        owner.drain()

    assert heard == [5]
    texts = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert texts == [
        "on_text(), parameter 'text': expected str, got int 5",
        "<lambda>(): expected a tuple of 2 values, got int 5",
    ]


def test_a_handler_that_can_never_be_called_is_an_error_at_once(result: Result[int]) -> None:
    def by_name(value: int, *, word: str) -> None: ...

    for register in (result.on_ok, result.on_nok):
        with pytest.raises(errors.UsageError, match="needs 'word' by name"):
            register(by_name)  # type: ignore[arg-type]
    with pytest.raises(errors.UsageError, match="gets one argument, the failure; .* needs 2"):
        result.on_nok(lambda a, b: None)  # type: ignore[arg-type, misc]
    with pytest.raises(errors.UsageError, match="then"):
        result.then()


def test_then_may_be_awaited(owner: FakeOwner, result: Result[int]) -> None:
    async def main() -> int:
        owner.call_soon(result._succeed, 3)
        return await result.on_ok(print).then()

    assert asyncio.run(main()) == 3


# ---- results made of others


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("failure", [None, BOOM, CANCELLED])
def test_a_result_takes_over_another(owner: FakeOwner, late: bool, failure: Failure | None) -> None:
    outer: Result[Any] = Result("add", "", owner)
    inner: Result[Any] = Result("add", "1f", owner)
    assert repr(outer) == "<Result add pending>"

    def settle() -> None:
        inner._report(Report("add", "1f", Status.PROGRESS, value=2))
        assert inner._succeed(5, "bench-1", 3) if failure is None else inner._fail(failure)

    inner._report(Report("add", "1f", Status.PROGRESS, value=1))
    if late:
        settle()
    owner.call_soon(outer._take_over, inner, owner.call_soon)
    if not late:
        settle()
    seen = list(outer.reports(DEADLINE))

    assert [report.value for report in seen[:-1]] == [1, 2]
    assert seen[-1] == inner.wait(0)
    assert (outer.id, outer.node, outer.attempt) == ("1f", inner.node, inner.attempt)
    assert outer.cancelled() is (failure is CANCELLED)


def test_a_follower_is_told_once_whether_it_comes_early_or_late(owner: FakeOwner, hasty: None) -> None:
    results = many(owner, 2000)
    heard: queue.SimpleQueue[Result[int]] = queue.SimpleQueue()

    def follow() -> None:
        for result in results:
            result._follow(heard.put)

    with Background(follow), Background(settle_all, results):
        pass

    told = [heard.get_nowait() for _ in range(heard.qsize())]
    assert sorted(told, key=id) == sorted(results, key=id)


# ---- reports


def test_reports_end_with_the_final_one_however_late_one_looks(result: Result[int]) -> None:
    early = result.reports(DEADLINE)
    some = [report(Status.SENT), report(Status.PROGRESS), report(Status.PARTIAL, 1)]
    assert result.last is None
    for one in some:
        assert result._report(one)
        assert result.last is one
    assert next(early) is some[0]
    result._succeed(5, "bench-1", 1)

    final = report(Status.SUCCESS, 5)
    assert list(early) == [*some[1:], final]
    assert list(early) == []
    assert list(result.reports()) == [*some, final]
    assert result.last == final


def test_progress_means_running_until_the_end(result: Result[int]) -> None:
    result._report(report(Status.SENT))
    assert not result.running()
    result._report(report(Status.PROGRESS, (0.5, "half")))
    assert result.running()
    assert result._state == "RUNNING"
    assert not concurrent.futures.wait([result], 0).done
    result._succeed(1)
    assert not result.running()


def test_a_final_report_settles(owner: FakeOwner) -> None:
    results = many(owner, 3)
    fail = Report("add", "1f", Status.FAIL, None, BOOM, "bench-1", 2)
    assert results[0]._report(report(Status.SUCCESS, 5))
    assert results[1]._report(fail)
    assert results[2]._report(report(Status.FAIL))

    assert results[0].result() == 5
    assert results[1].failure is BOOM
    assert results[2].failure == Failure(Code.GENERIC, node="bench-1", attempt=1)
    assert not results[0]._report(fail)


def test_only_the_last_reports_are_kept_and_the_others_counted(result: Result[int]) -> None:
    early = result.reports()
    for i in range(KEPT_REPORTS + 5):
        result._report(report(Status.PARTIAL, i))
        if i < 2:
            assert next(early).value == i
    result._succeed(-1)

    late = result.reports()
    assert [one.value for one in late] == [*range(5, KEPT_REPORTS + 5), -1]
    assert late.dropped == 5
    assert [one.value for one in early] == [*range(5, KEPT_REPORTS + 5), -1]
    assert early.dropped == 3


def test_a_timeout_of_reports_may_be_tried_again(result: Result[int]) -> None:
    reports = result.reports(0)
    with pytest.raises(TimeoutError):
        next(reports)
    result._report(report(Status.SENT))
    assert next(reports).status is Status.SENT

    async def again() -> list[Report]:
        with pytest.raises(TimeoutError, match="no node knows add"):
            await anext(reports)
        result._succeed(1)
        return [one async for one in reports]

    assert [one.status for one in asyncio.run(again())] == [Status.SUCCESS]


def report_all(results: list[Result[int]], count: int) -> None:
    for result in results:
        for i in range(count):
            result._report(report(Status.PARTIAL, i))
        result._succeed(count)


def test_iterating_while_reports_arrive_misses_none(owner: FakeOwner, hasty: None) -> None:
    results = many(owner, 200)

    def read() -> None:
        for result in results:
            assert [one.value for one in result.reports(DEADLINE)] == list(range(11))

    with Background(read), Background(read), Background(report_all, results, 10):
        pass


def test_async_iterating_while_reports_arrive_misses_none(owner: FakeOwner, hasty: None) -> None:
    results = many(owner, 200)

    async def read(result: Result[int]) -> list[int]:
        return [one.value async for one in result.reports(DEADLINE)]

    async def main() -> list[list[int]]:
        return await asyncio.gather(*map(read, results))

    with Background(report_all, results, 10):
        assert asyncio.run(main()) == [list(range(11))] * len(results)


# ---- asyncio


def test_await_returns_or_raises_the_outcome(owner: FakeOwner, hasty: None) -> None:
    results = many(owner, 8000)

    async def main() -> list[object]:
        with Background(settle_all, results):
            return await asyncio.wait_for(asyncio.gather(*results, return_exceptions=True), DEADLINE)

    got = asyncio.run(main())
    kinds = [type(one) if isinstance(one, Exception) else one for one in got]
    assert kinds == [outcome(i) for i in range(len(results))]


def test_awaiting_one_by_one_misses_none(owner: FakeOwner, hasty: None) -> None:
    results = many(owner, 8000)

    async def get() -> None:
        for i, result in enumerate(results):
            if isinstance(outcome(i), int):
                assert await result == i
            else:
                with pytest.raises(errors.TaskError):
                    await result

    async def main() -> None:
        await asyncio.wait_for(get(), DEADLINE)

    with Background(settle_all, results):
        asyncio.run(main())


def test_wrap_future_misses_none(owner: FakeOwner, hasty: None) -> None:
    results = many(owner, 4000)

    async def main() -> list[object]:
        with Background(settle_all, results):
            wrapped = map(asyncio.wrap_future, results)
            return await asyncio.wait_for(asyncio.gather(*wrapped, return_exceptions=True), DEADLINE)

    kinds = [type(one) if isinstance(one, BaseException) else one for one in asyncio.run(main())]
    cancelled = [errors.TaskCancelled, asyncio.CancelledError]
    assert all(kind in (outcome(i), cancelled[outcome(i) is cancelled[0]]) for i, kind in enumerate(kinds))


@pytest.mark.parametrize("wrap", [asyncio.wrap_future, lambda r: r])
def test_wait_for_gives_up_and_cancels(owner: FakeOwner, result: Result[int], wrap: Callable[..., Any]) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wrap(result), 0.01)

    asyncio.run(main())
    owner.drain()
    assert owner.asked == [result]
    assert result.cancelled()
    assert result._waiters == []


def test_a_result_cancelled_by_others_does_not_cancel_who_awaits(result: Result[int]) -> None:
    async def main() -> str:
        asyncio.get_running_loop().call_soon(result.cancel)
        try:
            await result
        except errors.TaskCancelled:
            return "goes on"
        return "?"

    assert asyncio.run(main()) == "goes on"


def test_leaving_the_reports_does_not_cancel(owner: FakeOwner, result: Result[int]) -> None:
    async def read() -> None:
        async for _ in result.reports():
            pass

    async def main() -> None:
        task = asyncio.create_task(read())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert owner.asked == []
    assert result._waiters == []


def test_a_loop_closed_meanwhile_disturbs_nobody(result: Result[int]) -> None:
    loop = asyncio.new_event_loop()

    async def get() -> int:
        return await result

    task = loop.create_task(get())
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert result._succeed(1)
    assert result.result() == 1
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    gc.collect()


def test_await_needs_a_loop_only_before_the_end(result: Result[int]) -> None:
    with pytest.raises(RuntimeError, match="loop"):
        next(result.__await__())
    result._succeed(1)
    with pytest.raises(StopIteration) as caught:
        next(result.__await__())
    assert caught.value.value == 1


class FakeLoop:
    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def call_soon_threadsafe(self, fn: Callable[[], object]) -> None:
        self.calls.append(fn)

    def turn(self) -> None:
        while self.calls:
            self.calls.pop(0)()


class FakeFuture:
    def __init__(self) -> None:
        self.woken = 0

    def done(self) -> bool:
        return self.woken > 0

    def set_result(self, _: None) -> None:
        self.woken += 1


@pytest.mark.parametrize("who", ["the ringing thread", "the loop"])
def test_whoever_is_preempted_wherever_no_wakeup_is_lost(who: str) -> None:
    for at in itertools.count():
        loop = FakeLoop()
        wakeups = _Wakeups(loop)  # type: ignore[arg-type]
        futures = [FakeFuture(), FakeFuture()]
        wakeups.add(futures[0])  # type: ignore[arg-type]

        def ring(wakeups: _Wakeups = wakeups, future: Any = futures[1]) -> None:
            wakeups.add(future)

        more = preempted(at, *((ring, loop.turn) if who == "the ringing thread" else (loop.turn, ring)))
        loop.turn()
        assert [future.woken for future in futures] == [1, 1], at
        if not more:
            break
    assert at > 20


def test_a_burst_wakes_the_loop_once() -> None:
    loop = FakeLoop()
    wakeups = _Wakeups(loop)  # type: ignore[arg-type]
    for _ in range(100):
        wakeups.add(FakeFuture())  # type: ignore[arg-type]
    assert len(loop.calls) == 1
