"""Ids of tasks in the mesh: identity is (name, id), in results, reports and what is watched."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dingo_zmq import SequenceIDs, Status, UUIDs
from dingo_zmq.errors import ArgumentError, UsageError
from dingo_zmq.protocol import messages as m
from tests import served
from tests.support import PATIENCE, Gate, Mesh, Program, wait_until


@pytest.fixture(scope="module", autouse=True)
def node(module_mesh: Mesh) -> Program:
    return module_mesh.node("one", "--threads", "2")


class PerName:
    """Counts for each function from 1, so that functions have equal ids."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def new_id(self, name: str, /) -> str:
        self._counts[name] += 1
        return str(self._counts[name])


class Fixed:
    def __init__(self, id: Any) -> None:
        self.id = id

    def new_id(self, name: str, /) -> str:
        return self.id  # type: ignore[no-any-return]


def test_each_maker_makes_the_ids_of_its_functions(shared: Mesh) -> None:
    app = shared.app(id_maker=UUIDs())
    who = app.register("who", served.who.__wrapped__, id_maker=SequenceIDs(10))
    pid, id, _ = who.call().result(PATIENCE)
    assert (id, who.call().id) == ("10", "11")
    by_name = app.call("add", 2, 3)
    assert len(by_name.id) == 36
    assert by_name.result(PATIENCE) == 5
    assert pid
    declared = app.declare("later", served.later.__wrapped__, id_maker=SequenceIDs())
    assert [declared.call(n).id for n in range(2)] == ["1", "2"]


def test_equal_ids_under_different_names_do_not_mix(shared: Mesh, gate: Gate) -> None:
    """At one time, with reports of progress, and seen by somebody who watches."""
    app, watcher = shared.app(id_maker=PerName()), shared.app()
    here = app.engine().id
    seen: list[tuple[str, int]] = []

    def watched(topic: bytes, message: m.Reports, buffers: tuple[Any, ...]) -> None:
        seen.extend((topic.decode(), item[4]) for item in message.items)

    watcher.engine().caller.watcher = watched
    watcher.engine().subscribe(f"watch/{here}/steps/1/")
    watcher.engine().subscribe(f"watch/{watcher.engine().id}/")

    def known() -> bool:
        """Whether the node knows the later subscription, and so both."""
        watcher.call("echo", "is anybody watching?").result(PATIENCE)
        return bool(seen)

    wait_until(known, "a copy of a report")
    calls = app.options(monitor_progress=True)
    results = [
        (calls.call("wait_at", gate.port, "a word"), "a word"),
        (calls.call("steps", 2), 2),
        (calls.call("add", 2, 3), 5),
        (calls.call("later", 2), 3),
        (calls.call("echo", "an echo"), "an echo"),
    ]
    assert {result.id for result, _ in results} == {"1"}
    gate.next().go()
    for result, value in results:
        assert result.result(PATIENCE) == value
        reports = list(result.reports())
        assert {(report.name, report.id) for report in reports} == {(result.name, "1")}
        assert [r.status for r in reports[:2]] == [Status.SENT, Status.PROGRESS]
        notes = [r.value for r in reports if r.status is Status.PROGRESS and r.value]
        assert notes == ([(0.5, "step 1"), (1.0, "step 2")] if result.name == "steps" else [])
    watcher.call("echo", "the last").result(PATIENCE)
    assert {topic for topic, _ in seen if here in topic} == {f"watch/{here}/steps/1/"}
    assert [status for topic, status in seen if here in topic] == [
        Status.SENT,
        Status.PROGRESS,
        Status.PROGRESS,
        Status.PROGRESS,
        Status.SUCCESS,
    ]


def test_ten_names_and_ten_equal_ids_of_two_callers(shared: Mesh) -> None:
    apps = [shared.app(id_maker=PerName()) for _ in range(2)]
    names = ("add", "echo", "later", "length", "reverse")
    args = {"length": lambda n: b"x" * n, "reverse": lambda n: b"ab" * n}
    values = {
        "add": lambda n: n + 5,
        "echo": lambda n: n,
        "later": lambda n: n + 1,
        "length": lambda n: n,
        "reverse": lambda n: b"ba" * n,
    }
    results = [
        (app.call(name, args.get(name, lambda n: n)(n)), name, n)
        for n in range(1, 11)
        for name in names
        for app in apps
    ]
    for result, name, n in results:
        assert (result.name, result.id) == (name, str(n))
        assert result.result(PATIENCE) == values[name](n)


def test_the_same_id_is_refused_while_that_task_is_open(shared: Mesh, gate: Gate) -> None:
    app = shared.app(id_maker=Fixed("same"))
    first = app.call("wait_at", gate.port, "first")
    visitor = gate.next()
    with pytest.raises(
        UsageError, match="a task of wait_at with the id 'same' is open already, so nothing was sent"
    ):
        app.options(monitor_progress=True).call("wait_at", gate.port, "second")
    assert app.call("add", 1).result(PATIENCE) == 6
    visitor.go()
    assert first.result(PATIENCE) == "first"
    gate.open()
    assert app.call("wait_at", gate.port, "third").result(PATIENCE) == "third"


@pytest.mark.parametrize("bad", ["", "a/b", "x" * 201, 7])
def test_a_bad_id_is_refused_and_nothing_is_sent(shared: Mesh, bad: Any) -> None:
    maker = Fixed(bad)
    app = shared.app(id_maker=maker, max_open=3)
    add = app.register("add", served.add.__wrapped__)
    for _ in range(10):  # takes no room either
        with pytest.raises(UsageError, match="an id of add, made by its id_maker, must be 1 to 200"):
            add.call(1)
    assert app.engine().open == 0
    maker.id = "good"
    assert add.call(1).result(PATIENCE) == 6


def test_refused_calls_take_no_room(shared: Mesh, gate: Gate) -> None:
    app = shared.app(id_maker=Fixed("same"), max_open=2)
    add = app.register("add", served.add.__wrapped__)
    held = app.call("wait_at", gate.port)
    visitor = gate.next()
    for _ in range(10):
        with pytest.raises(UsageError, match="is open already"):
            app.call("wait_at", gate.port)
        with pytest.raises(ArgumentError):
            add.call("x")
    assert add.call(1).result(PATIENCE) == 6
    visitor.go()
    held.result(PATIENCE)


def test_without_a_maker_the_caller_counts(shared: Mesh) -> None:
    app = shared.app()
    assert [app.call("add", 1).id, app.call("echo", 1).id] == ["1", "2"]
