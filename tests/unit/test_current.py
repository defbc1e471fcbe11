"""What a function knows of its task."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from dingo_zmq import current_task
from dingo_zmq.current import CurrentTask
from dingo_zmq.errors import SoftTimeLimit, TaskCancelled, UsageError
from dingo_zmq.limits import Limits, stopped
from dingo_zmq.model import Code, Failure


@pytest.fixture
def told() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def task(told: list[tuple[Any, ...]]) -> CurrentTask:
    held = SimpleNamespace(id="7", attempt=2, cancelled=False)
    return CurrentTask("add", held, lambda *said: told.append(said[1:]))


def test_outside_a_task_there_is_none() -> None:
    with pytest.raises(UsageError, match="outside a task"):
        current_task()


def test_it_tells_who_it_is(task: CurrentTask) -> None:
    assert (task.name, task.id, task.attempt, task.deadline, task.cancelled) == ("add", "7", 2, None, False)


def test_cancelled_is_what_it_is_now() -> None:
    held = SimpleNamespace(id="7", attempt=1, cancelled=False)
    task = CurrentTask("add", held, lambda *_: None)
    held.cancelled = True
    assert task.cancelled


def test_progress(task: CurrentTask, told: list[tuple[Any, ...]]) -> None:
    task.progress(0)
    task.progress(1.0, "done")
    task.progress(note="a note")
    task.progress()
    assert told == [(0, None), (1.0, "done"), (None, "a note"), (None, None)]


@pytest.mark.parametrize("fraction", [-0.1, 1.1, 2, float("nan"), "half", True, [0.5]])
def test_a_fraction_that_is_none(task: CurrentTask, told: list[tuple[Any, ...]], fraction: Any) -> None:
    with pytest.raises(UsageError, match="fraction must be 0.0 to 1.0, not"):
        task.progress(fraction)
    assert told == []


@pytest.mark.parametrize("note", [1, b"text", ["a"]])
def test_a_note_that_is_no_text(task: CurrentTask, told: list[tuple[Any, ...]], note: Any) -> None:
    with pytest.raises(UsageError, match="note must be text"):
        task.progress(0.5, note)
    assert told == []


def test_check_lets_a_task_go_on_until_it_is_cancelled() -> None:
    held = SimpleNamespace(id="7", attempt=1, cancelled=False)
    task = CurrentTask("add", held, lambda *_: None)
    task.check()
    held.cancelled = True
    for _ in range(2):
        with pytest.raises(TaskCancelled, match="cancelled while it ran"):
            task.check()
    task.progress()


@pytest.mark.parametrize("tell", [CurrentTask.check, CurrentTask.progress])
def test_the_soft_limit_is_told_once(monkeypatch: pytest.MonkeyPatch, tell: Callable[[CurrentTask], None]) -> None:
    now = 100.0
    monkeypatch.setattr("dingo_zmq.limits.monotonic", lambda: now)
    held = SimpleNamespace(id="7", attempt=1, cancelled=False)
    task = CurrentTask("add", held, lambda *_: None, Limits(10.0, 5.0))
    assert task.deadline == 105.0
    now = 104.9
    tell(task)
    now = 105.0
    with pytest.raises(SoftTimeLimit, match="soft_time_limit of 5 s"):
        tell(task)
    task.check()
    task.progress()


@pytest.mark.parametrize(
    ("hard", "soft", "deadline"), [(3.0, None, 103.0), (None, 2.0, 102.0), (0.0, 0.0, None), (1.0, 2.0, 101.0)]
)
def test_the_deadline_is_that_of_the_first_limit(
    monkeypatch: pytest.MonkeyPatch, hard: float | None, soft: float | None, deadline: float | None
) -> None:
    monkeypatch.setattr("dingo_zmq.limits.monotonic", lambda: 100.0)
    assert Limits(hard, soft).deadline == deadline


def test_only_what_was_to_stop_counts_as_stopped() -> None:
    """A function may let pass the cancellation of another task, for which it waited."""
    other = TaskCancelled(Failure(Code.CANCELLED, "another"))
    assert stopped(other, None, cancelled=False) is None
    assert stopped(ValueError(), None, cancelled=True) is None
    assert stopped(SoftTimeLimit(), Limits(5.0, None), cancelled=False) is None
    mine = stopped(other, None, cancelled=True)
    assert mine is not None
    assert (mine.code, mine.message) == (Code.CANCELLED, "cancelled while it ran")
