"""How many tasks a node will take."""

from __future__ import annotations

import pytest

from dingo_zmq.protocol.credit import FADE, RunTime, allowance, first_grant, grant


@pytest.mark.parametrize(
    ("slots", "run_time", "asking", "expected"),
    [
        (4, None, 1, 4),  # nothing is known: a task for each worker
        (4, None, 3, 2),
        (4, 10.0, 1, 4),  # slow: nobody waits behind them
        (4, 0.030, 1, 8),  # 30 ms of work ahead
        (4, 0.001, 1, 124),
        (4, 0.001, 4, 31),  # shared
        (4, 0.0, 1, 2003),  # as if it took 15 us
        (64, 1e-9, 1, 2063),
        (1, 10.0, 100, 1),  # and never less than one
        (1, 10.0, 0, 1),
    ],
)
def test_allowance(slots: int, run_time: float | None, asking: int, expected: int) -> None:
    assert allowance(slots, run_time, asking) == expected


@pytest.mark.parametrize(("slots", "links", "expected"), [(4, 0, 4), (4, 1, 4), (4, 3, 2), (1, 9, 1)])
def test_first_grant(slots: int, links: int, expected: int) -> None:
    assert first_grant(slots, links) == expected


@pytest.mark.parametrize(
    ("seen", "held", "kept", "expected"),
    [
        (0, 0, 0, 5),
        (5, 5, 0, 5),  # all taken
        (5, 2, 0, 8),  # three are done
        (9, 0, 0, 14),  # lost ones cost nothing for long
        (5, 0, 28, 10),  # answers that nobody has heard: four allowances and a few are free
        (5, 0, 31, 7),
        (2**53, 0, 0, 2**53),  # there is no higher number
        (5, 0, 99, -61),  # then they eat the credit (which never goes down, see Link.credit)
    ],
)
def test_grant(seen: int, held: int, kept: int, expected: int) -> None:
    assert grant(seen, held, kept, allowed=5) == expected


def test_nothing_is_known_before_a_first_task_has_finished() -> None:
    run_time = RunTime()
    assert run_time.estimate(0.0) is None
    run_time.started(1.0)
    assert run_time.estimate(100.0) is None
    run_time.finished(1, 2.0)
    run_time.stopped(1.0)
    assert run_time.estimate(100.0) == 2.0


def test_those_that_run_count_with_their_age() -> None:
    run_time = RunTime()
    run_time.finished(1, 0.5)
    run_time.started(10.0)
    run_time.started(10.0)
    assert run_time.estimate(10.0) == 0.5
    assert run_time.estimate(10.1) == pytest.approx(0.7)
    assert run_time.estimate(14.0) == pytest.approx(8.5)
    run_time.stopped(10.0)
    assert run_time.estimate(14.0) == pytest.approx(4.5)


def test_the_past_fades() -> None:
    run_time = RunTime()
    for _ in range(200):
        run_time.finished(1, 1.0)
    for _ in range(200):
        run_time.finished(1, 0.001)
    assert run_time.estimate(0.0) == pytest.approx(0.001, rel=0.01)


def test_many_at_once_weigh_as_one_after_the_other() -> None:
    together, apart = RunTime(), RunTime()
    for run_time in (together, apart):
        run_time.finished(1, 5.0)
    together.finished(64, 6.4)
    for _ in range(64):
        apart.finished(1, 0.1)
    assert together.estimate(0.0) == pytest.approx(apart.estimate(0.0))
    assert 0 < FADE < 1
