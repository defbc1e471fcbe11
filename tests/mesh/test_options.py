"""Options at the caller, in local mode and with a node in the mesh: the same program, the same outcome."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from dingo_zmq import App, Code, Options, Retries, Status, current_task
from dingo_zmq.errors import TaskCancelled, TaskExpired, TaskFailed
from tests.support import PATIENCE, Mesh


class Bench:
    """An app of one worker whose functions tell what happens in them."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.ran: list[Any] = []
        self.began, self.free = threading.Semaphore(0), threading.Event()

        @app.task
        def hold() -> None:
            self.began.release()
            self.free.wait(PATIENCE)

        @app.task
        def spoil() -> None:
            self.ran.append(current_task().attempt)
            self.began.release()
            self.free.wait(PATIENCE)
            raise ValueError("no")

        @app.task
        def note(what: int) -> int:
            self.ran.append(what)
            return what

        @app.task
        def flaky(fails: int, text: str = "no") -> int:
            self.ran.append(current_task().attempt)
            if len(self.ran) <= fails:
                raise ValueError(text)
            return len(self.ran)

        self.hold, self.spoil, self.note, self.flaky = hold, spoil, note, flaky

    def busy(self) -> Any:
        """Occupy the worker."""
        result = self.hold.call()
        assert self.began.acquire(timeout=PATIENCE)
        return result


@pytest.fixture(params=["local", "wire", "mesh"])
def bench(request: pytest.FixtureRequest, mesh: Mesh) -> Iterator[Bench]:
    local = request.param in ("local", "wire")
    app = App("local", threads=1, wire=request.param == "wire") if local else mesh.app(threads=1)
    bench = Bench(app)
    app.serve()
    assert list(bench.note.map(range(50))) == list(range(50))  # it is quick, so a node takes several of them
    bench.ran.clear()
    yield bench
    bench.free.set()
    app.close(wait=False)


def test_nothing_comes_back_of_what_is_ignored_and_it_is_done_all_the_same(bench: Bench) -> None:
    result = bench.note.options(ignore_report=True, monitor_progress=True).call(7)
    assert (result.done(), result.result(0), [report.status for report in result.reports()]) == (
        True,
        None,
        [Status.SUCCESS],
    )
    assert not result.cancel()
    bench.app.close(timeout=PATIENCE)  # waits for it
    assert bench.ran == [7]


def test_a_failure_that_is_ignored_is_in_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dingo_zmq.caller"):
        result = bench.flaky.options(ignore_report=True).call(1, "spoiled\nmilk")
        bench.app.close(timeout=PATIENCE)
    assert (result.ok, result.failure) == (True, None)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "dingo_zmq.caller"]
    assert line.startswith(f"task flaky id {result.id}, whose report is ignored, failed: ValueError: spoiled")


def test_what_is_ignored_and_left_undone_is_in_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dingo_zmq.caller"):
        for _ in range(3):
            bench.note.options(ignore_report=True, delay=600).call(1)
        bench.app.close(wait=False)
    assert "3 tasks whose reports are ignored: not done before the App was closed" in caplog.text
    assert bench.ran == []


def test_a_delayed_task_starts_when_its_time_has_come(bench: Bench) -> None:
    began = time.monotonic()
    delayed = bench.note.options(delay=0.3).call(2)
    assert bench.note.call(1).result(PATIENCE) == 1
    assert delayed.result(PATIENCE) == 2
    assert time.monotonic() - began >= 0.3
    assert bench.ran == [1, 2]


def test_a_delayed_task_says_so_and_can_be_cancelled(bench: Bench) -> None:
    delayed = bench.note.options(delay=600).call(1)
    assert delayed.why() in (
        "it is not to start for another 600.0 s (delay)",
        "it is not to start for another 599.9 s (delay)",
    )
    assert delayed.cancel()
    with pytest.raises(TaskCancelled):
        delayed.result(PATIENCE)
    bench.app.close(timeout=PATIENCE)  # does not wait for it


def test_what_does_not_start_in_time_expires_and_never_does(bench: Bench) -> None:
    bench.busy()
    late = bench.note.options(expires=0.1).call(1)
    with pytest.raises(TaskExpired, match=r"it was not started within 0\.1 s of the call"):
        late.result(PATIENCE)
    assert late.failure is not None
    assert late.failure.code is Code.EXPIRED
    bench.free.set()
    assert bench.note.call(2).result(PATIENCE) == 2
    assert bench.ran == [2]


def test_what_has_started_in_time_does_not_expire(bench: Bench) -> None:
    held = bench.hold.options(expires=0.2).call()
    assert bench.began.acquire(timeout=PATIENCE)
    later: Future[None] = Future()
    timer = threading.Timer(0.4, lambda: later.set_result(None))
    timer.start()
    later.result(PATIENCE)
    timer.join()
    bench.free.set()
    assert held.wait(PATIENCE).ok


def test_what_raises_is_tried_again(bench: Bench) -> None:
    retries = Retries(3, backoff=0.01)
    result = bench.flaky.options(retries=retries, monitor_progress=True).call(2)
    reports = list(result.reports(PATIENCE))
    told = [(report.value[1], report.failure.type) for report in reports if report.value and report.failure]
    assert [(text.split(" in ")[0], text.split(" after ")[1], kind) for text, kind in told] == [
        ("attempt 2 of 4", "ValueError: no", "ValueError"),
        ("attempt 3 of 4", "ValueError: no", "ValueError"),
    ]
    assert (reports[-1].status, reports[-1].value) == (Status.SUCCESS, 3)
    assert bench.ran == [1, 2, 3]  # attempts, as the function sees them
    assert {report.options for report in reports} == {Options(retries=retries, monitor_progress=True)}


def test_the_last_failure_tells_how_many_there_were(bench: Bench) -> None:
    result = bench.flaky.options(retries=Retries(2, backoff=0.01, on=["ValueError"])).call(9, "so {sad}")
    with pytest.raises(TaskFailed, match=r"^ValueError: so \{sad\} \(the last of 3 attempts\)"):
        result.result(PATIENCE)
    assert result.failure is not None
    assert (result.failure.attempt, len(bench.ran)) == (3, 3)


def test_only_after_the_exceptions_that_are_named(bench: Bench) -> None:
    result = bench.flaky.options(retries=Retries(2, backoff=0.01, on=["KeyError"])).call(9)
    with pytest.raises(TaskFailed, match=r"^ValueError: no( \(on .*\))?\n"):
        result.result(PATIENCE)
    assert bench.ran == [1]


def test_at_most_once_is_never_tried_again(bench: Bench) -> None:
    result = bench.flaky.options(retries=5, at_most_once=True).call(9)
    assert result.wait(PATIENCE).fail
    assert bench.ran == [1]


def test_what_is_to_be_stopped_is_not_tried_again(bench: Bench) -> None:
    result = bench.spoil.options(retries=Retries(5, backoff=0)).call()
    assert bench.began.acquire(timeout=PATIENCE)
    assert result.cancel(running=True)
    assert "running" in result.why()  # and by now everybody knows that it is to be stopped
    bench.free.set()
    report = result.wait(PATIENCE)
    assert report.failure is not None
    assert (report.failure.code, report.failure.type, bench.ran) == (Code.RAISED, "ValueError", [1])


def test_each_try_has_the_whole_time_limit(bench: Bench) -> None:
    result = bench.flaky.options(retries=Retries(3, backoff=0), time_limit=PATIENCE).call(2)
    assert (result.result(PATIENCE), bench.ran) == (3, [1, 2, 3])
    assert bench.note.options(time_limit=PATIENCE).call(4).result(PATIENCE) == 4  # its worker is still there


def test_what_takes_too_long_is_not_tried_again(bench: Bench) -> None:
    report = bench.spoil.options(retries=Retries(5, backoff=0), time_limit=0.05).call().wait(PATIENCE)
    bench.free.set()
    assert report.failure is not None
    assert report.failure.code is Code.TIMEOUT
    assert bench.note.call(4).result(PATIENCE) == 4
    assert bench.ran == [1, 4]


def test_between_two_tries_it_says_why_and_can_be_cancelled(bench: Bench) -> None:
    result = bench.flaky.options(retries=Retries(1, backoff=600, most=600, jitter=0), monitor_progress=True).call(
        9
    )
    reports = result.reports(PATIENCE)
    assert any(report.failure for report in reports)  # stops there
    assert result.why().startswith(("attempt 2 of 2 in 600.0 s after", "attempt 2 of 2 in 599.9 s after"))
    assert result.cancel()
    assert [report.failure.code for report in reports if report.done and report.failure] == [Code.CANCELLED]
    assert bench.ran == [1]


def test_higher_priorities_come_first(bench: Bench) -> None:
    bench.busy()
    priorities = (0, -1, 5, 2, 5, 0)
    note = bench.note.options(monitor_progress=True)
    results = [note.options(priority=p).call(10 * p + n) for n, p in enumerate(priorities)]
    for result in results:  # all of them are held
        assert next(result.reports(PATIENCE)).status is Status.SENT
    bench.free.set()
    for result in results:
        result.result(PATIENCE)
    assert bench.ran == [52, 54, 23, 0, 5, -9]


def test_options_come_back_in_the_reports(bench: Bench) -> None:
    result = bench.note.options(priority=3, monitor_progress=True).call(1)
    statuses = [report.status for report in result.reports(PATIENCE)]
    assert statuses == [Status.SENT, Status.PROGRESS, Status.SUCCESS]
    assert {report.options.priority for report in result.reports()} == {3}
    assert bench.note.call(1).wait(PATIENCE).options == Options()
