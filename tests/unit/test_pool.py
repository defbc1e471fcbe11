"""Workers: threads, an event loop, and what is told of failures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from dingo_zmq.model import Code
from dingo_zmq.pool import CallbackThread, LoopPool, ThreadPool, failure_of

PATIENCE = 10.0


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def raised(exc: BaseException) -> BaseException:
    def inner() -> None:
        raise exc

    try:
        inner()
    except BaseException as caught:
        return caught
    raise AssertionError


def test_a_failure_has_type_text_and_the_functions_own_traceback() -> None:
    failure = failure_of(raised(ValueError("bad")))
    assert (failure.code, failure.type, failure.message) == (Code.RAISED, "ValueError", "bad")
    assert "in inner" in failure.traceback
    assert failure_of(raised(Unprintable())).type.endswith("test_pool.Unprintable")


def test_a_failure_of_an_exception_that_cannot_be_printed() -> None:
    failure = failure_of(raised(Unprintable()))
    assert failure.message == "<RuntimeError while it was printed>"


def test_a_failure_of_an_exception_that_was_never_raised() -> None:
    assert failure_of(KeyError("k")).message == "'k'"


def test_a_failure_tells_its_causes() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as exc:
            raise ValueError("second") from exc
    except ValueError as exc:
        assert "first" in failure_of(exc).traceback


# ---------------------------------------------------------------------- threads


@pytest.fixture
def ran() -> SimpleQueue[Any]:
    return SimpleQueue()


def test_jobs_run_on_as_many_threads_as_told(ran: SimpleQueue[Any]) -> None:
    together = threading.Barrier(3, timeout=PATIENCE)

    def run(job: int) -> None:
        together.wait()
        ran.put(threading.current_thread().name)

    pool = ThreadPool("some", 3, run)
    for job in range(6):
        pool.submit(job)
    names = {ran.get(timeout=PATIENCE) for _ in range(6)}
    assert names == {f"dingo-some-{n}" for n in range(3)}
    assert pool.close(PATIENCE)


def test_no_thread_before_the_first_job() -> None:
    before = threading.active_count()
    pool = ThreadPool("idle", 3, lambda job: None)
    assert threading.active_count() == before
    assert pool.close(PATIENCE)


def test_what_is_queued_runs_before_the_end(ran: SimpleQueue[Any]) -> None:
    pool = ThreadPool("one", 1, ran.put)
    for job in range(100):
        pool.submit(job)
    assert pool.close(PATIENCE)
    assert [ran.get(timeout=PATIENCE) for _ in range(100)] == list(range(100))


def test_a_worker_that_stumbles_goes_on(ran: SimpleQueue[Any], caplog: pytest.LogCaptureFixture) -> None:
    def run(job: int) -> None:
        if job == 0:
            raise SystemExit
        ran.put(job)

    pool = ThreadPool("one", 1, run)
    pool.submit(0)
    pool.submit(1)
    assert ran.get(timeout=PATIENCE) == 1
    assert "a worker of pool one stumbled" in caplog.text
    assert pool.close(PATIENCE)


def test_a_busy_thread_is_not_waited_for_longer_than_told() -> None:
    free = threading.Event()
    pool = ThreadPool("busy", 1, lambda job: free.wait(PATIENCE))
    pool.submit(None)  # type: ignore[arg-type]
    pool.submit(1)
    assert pool.close(0.0) in (True, False)
    free.set()
    pool.close(PATIENCE)


def test_a_pool_is_closed_by_one_of_its_own(ran: SimpleQueue[Any]) -> None:
    pool: ThreadPool[int] = ThreadPool("self", 1, lambda job: ran.put(pool.close(PATIENCE)))
    pool.submit(1)
    assert ran.get(timeout=PATIENCE) is False
    assert pool.close(PATIENCE)


def test_callbacks_run_in_order_and_one_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    callbacks, got = CallbackThread(), SimpleQueue[int]()
    callbacks.call_soon(lambda: 1 / 0)
    for number in range(10):
        callbacks.call_soon(got.put, number)
    assert [got.get(timeout=PATIENCE) for _ in range(10)] == list(range(10))
    assert "ZeroDivisionError" in caplog.text
    callbacks.close()


def test_closing_waits_for_the_callbacks_that_are_due() -> None:
    callbacks, got = CallbackThread(), list[int]()
    for number in range(1000):
        callbacks.call_soon(got.append, number)
    callbacks.close(PATIENCE)
    assert got == list(range(1000))


def test_a_callback_that_closes_does_not_wait_for_itself() -> None:
    callbacks, done = CallbackThread(), threading.Event()
    callbacks.call_soon(lambda: (callbacks.close(PATIENCE), done.set()))
    assert done.wait(PATIENCE)


def test_a_callback_that_hangs_is_not_waited_for_longer_than_told() -> None:
    callbacks, free = CallbackThread(), threading.Event()
    callbacks.call_soon(free.wait, PATIENCE)
    callbacks.close(0.01)
    free.set()


# ---------------------------------------------------------------------- the loop


@pytest.fixture
def loop(ran: SimpleQueue[Any]) -> Iterator[LoopPool[Any]]:
    async def run(job: Any) -> None:
        try:
            ran.put(await job())
        except asyncio.CancelledError:
            ran.put("cancelled")
            raise

    pool: LoopPool[Any] = LoopPool("test", run)
    yield pool
    assert pool.close(PATIENCE)


def test_jobs_of_a_loop_run_at_once(loop: LoopPool[Any], ran: SimpleQueue[Any]) -> None:
    async def meet(count: list[int], all_there: list[asyncio.Event]) -> str:
        if not all_there:
            all_there.append(asyncio.Event())
        count.append(1)
        if len(count) == 50:
            all_there[0].set()
        await all_there[0].wait()
        return "met"

    count: list[int] = []
    event: list[asyncio.Event] = []
    for _ in range(50):
        loop.submit(lambda: meet(count, event))
    assert {ran.get(timeout=PATIENCE) for _ in range(50)} == {"met"}


def test_closing_a_loop_cancels_what_runs(loop: LoopPool[Any], ran: SimpleQueue[Any]) -> None:
    async def forever() -> None:
        ran.put("began")
        await asyncio.Event().wait()

    loop.submit(forever)
    assert ran.get(timeout=PATIENCE) == "began"
    assert loop.close(PATIENCE)
    assert ran.get(timeout=PATIENCE) == "cancelled"


def test_a_closed_loop_takes_nothing_and_may_be_closed_again(loop: LoopPool[Any], ran: SimpleQueue[Any]) -> None:
    assert loop.close(PATIENCE)
    loop.submit(lambda: None)
    assert loop.close(PATIENCE)
    assert ran.empty()
