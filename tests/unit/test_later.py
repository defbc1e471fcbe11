"""What is to be done later is done in the order of the times, by one thread."""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue

import pytest

from dingo_zmq.later import Later

PATIENCE = 10.0


def test_in_the_order_of_the_times_by_one_thread_that_starts_with_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 0.0
    monkeypatch.setattr("dingo_zmq.later.monotonic", lambda: clock)
    later, done = Later("test"), SimpleQueue[tuple[int, str]]()
    assert "dingo-test" not in [thread.name for thread in threading.enumerate()]
    gate = threading.Event()
    later.after(0.0, lambda: gate.wait(PATIENCE))
    for number, seconds in ((3, 300.0), (1, 100.0), (2, 200.0)):
        later.after(seconds, lambda n=number: done.put((n, threading.current_thread().name)))  # type: ignore[misc]
    clock = 1000.0
    gate.set()
    assert [done.get(timeout=PATIENCE) for _ in range(3)] == [(n, "dingo-test") for n in (1, 2, 3)]
    later.close(PATIENCE)


def test_what_raises_is_logged_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    later, done = Later("test"), threading.Event()
    with caplog.at_level(logging.ERROR):
        later.after(0.0, lambda: 1 / 0)
        later.after(0.0, done.set)
        assert done.wait(PATIENCE)
    assert "ZeroDivisionError" in caplog.text
    later.close(PATIENCE)


def test_after_the_end_nothing_is_done_and_no_thread_is_left() -> None:
    later, done = Later("test"), threading.Event()
    later.after(3600.0, done.set)
    later.close(PATIENCE)
    later.after(0.0, done.set)
    assert not done.is_set()
    assert "dingo-test" not in [thread.name for thread in threading.enumerate()]
