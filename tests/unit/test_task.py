"""What an App hands out for its functions: options, and calls by name with them."""

from __future__ import annotations

from typing import Any

import pytest

from dingo_zmq import App
from dingo_zmq.errors import UsageError

PATIENCE = 10.0


@pytest.fixture
def app() -> Any:
    app = App("local", threads=1)
    yield app
    app.close(wait=False)


def add(a: int, b: int = 5) -> int:
    return a + b


def test_where_a_task_is_to_run_means_nothing_in_local_mode(app: App) -> None:
    task = app.register("add", add, needs=["psu"], version="2")
    assert task.function.options.needs == ("psu",)
    assert task.options(node="bench-9").call(1).result(PATIENCE) == 6
    assert app.options(node="bench/2", needs=(tag for tag in ("cam",))).call("add", 1).result(PATIENCE) == 6


def test_options_by_name_are_checked_before_anything_is_called(app: App) -> None:
    for changes in ({"needs": "psu"}, {"node": "a/b"}, {"unknown": 1}):
        with pytest.raises(UsageError):
            app.options(**changes)


def test_options_by_name_can_be_used_twice(app: App) -> None:
    app.register("add", add)
    chosen = app.options(needs=iter(["cam"]))
    assert [chosen.call("add", n).result(PATIENCE) for n in (1, 2)] == [6, 7]


def test_a_version_is_said_at_registration(app: App) -> None:
    @app.task(version="2", at_most_once=True)
    def scan(x: float) -> float:
        return x

    assert scan.function.signature.fingerprint.endswith("@2")
    assert scan.function.options.at_most_once
    assert app.declare("far", scan, version="3").function.signature.fingerprint.endswith("@3")
    with pytest.raises(UsageError, match="unknown option"):
        scan.options(version="3")
