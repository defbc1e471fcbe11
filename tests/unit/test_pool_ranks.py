"""Priorities in the pools of local mode."""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue

from dingo_zmq.pool import LoopPool, ThreadPool

PATIENCE = 10.0


def test_higher_ones_come_first_also_before_what_waited_when_there_were_none() -> None:
    began, free, ran = threading.Event(), threading.Event(), SimpleQueue[str]()

    def run(job: str) -> None:
        if job == "first":
            began.set()
            free.wait(PATIENCE)
        ran.put(job)

    pool = ThreadPool("test", 1, run)
    pool.submit("first")
    assert began.wait(PATIENCE)
    early = pool.submit  # of somebody who looked it up before there were priorities
    early("a")
    pool.submit("b")
    pool.submit_ranked("low", -1)
    pool.submit_ranked("high", 5)
    pool.submit_ranked("higher", 6)
    early("c")
    pool.submit("d")
    pool.submit_ranked("high too", 5)
    free.set()
    order = [ran.get(timeout=PATIENCE) for _ in range(9)]
    assert order == ["first", "higher", "high", "high too", "a", "b", "c", "d", "low"]
    assert pool.close(PATIENCE)


def test_each_job_runs_once_whoever_submits_it() -> None:
    ran = SimpleQueue[int]()
    pool = ThreadPool("test", 3, ran.put)
    start = threading.Barrier(4)

    def submit(begin: int) -> None:
        start.wait(PATIENCE)
        for number in range(begin, begin + 1000):
            if number % 3:
                pool.submit(number)
            else:
                pool.submit_ranked(number, number % 5 - 2)

    threads = [threading.Thread(target=submit, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    assert sorted(ran.get(timeout=PATIENCE) for _ in range(4000)) == list(range(4000))
    for thread in threads:
        thread.join(PATIENCE)
    assert pool.close(PATIENCE)
    assert ran.empty()


def test_coroutines_wait_for_a_slot_in_the_order_of_their_priorities() -> None:
    began, free, ran = threading.Event(), threading.Event(), SimpleQueue[str]()

    async def run(job: str) -> None:
        if job == "first":
            began.set()
            await asyncio.to_thread(free.wait, PATIENCE)
        ran.put(job)

    pool = LoopPool("test", run, slots=1)
    pool.submit("first")
    assert began.wait(PATIENCE)
    pool.submit("a")
    pool.submit_ranked("low", -1)
    pool.submit_ranked("high", 1)
    pool.submit("b")
    free.set()
    assert [ran.get(timeout=PATIENCE) for _ in range(5)] == ["first", "high", "a", "b", "low"]
    assert pool.close(PATIENCE)
