"""What a function knows of its task."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dingo_zmq import current_task
from dingo_zmq.current import CurrentTask
from dingo_zmq.errors import UsageError


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
