"""Groups, chains, and results as arguments, with a node in a process of its own."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest

from dingo_zmq import App, Code, Status, chain, group
from dingo_zmq.errors import (
    ArgumentError,
    EncodeError,
    TaskCancelled,
    TaskFailed,
    TaskShutdown,
)
from tests import served
from tests.mesh.test_calls import ORDER
from tests.support import PATIENCE, Gate, Mesh, Program, wait_until


@pytest.fixture(scope="module", autouse=True)
def node(module_mesh: Mesh) -> Program:
    return module_mesh.node("one", "--threads", "2")


@pytest.fixture
def app(shared: Mesh) -> App:
    app = shared.app()
    for name in ("add", "length", "reverse", "spoil", "wait_at", "steps", "same", "later"):
        app.declare(name, getattr(served, name))
    return app


# ---------------------------------------------------------------------- results as arguments


def test_results_are_arguments_declared_or_not(app: App) -> None:
    five = app.call("add", 2, 3)
    assert app.call("add", five, b=app.call("later", 9)).result(PATIENCE) == 15
    assert app.call("echo", five).result(PATIENCE) == 5
    assert app.call("echo", value=app.call("echo", app.call("echo", [1]))).result(PATIENCE) == [1]
    assert asyncio.run(app.acall("add", five, five)) == 10
    assert app.call("same", app.call("same", ORDER)).result(PATIENCE) == ORDER


def test_a_large_value_goes_from_task_to_task(app: App) -> None:
    data = bytes(range(256)) * 1000
    assert app.call("reverse", app.call("reverse", data)).result(PATIENCE) == data
    assert app.call("length", app.call("zeros", 300_000)).result(PATIENCE) == 300_000


def test_reports_are_those_of_the_task(app: App) -> None:
    result = app.options(monitor_progress=True).call("steps", app.call("add", 1, 2))
    reports = list(result.reports(PATIENCE))

    assert {(report.name, report.id) for report in reports} == {("steps", result.id)}
    values = [report.value for report in reports if report.status is Status.PROGRESS]
    assert [value for value in values if value][-1] == [1.0, "step 3"] or values[-1] == (1.0, "step 3")
    assert reports[-1].value == 3
    assert (result.node, result.attempt) == ("one", 1)


def test_a_call_fails_as_its_argument_has(app: App) -> None:
    result = app.call("add", app.call("spoil", "bad"))
    with pytest.raises(TaskFailed, match="argument 'a' of add failed: it was bad") as caught:
        result.result(PATIENCE)
    failure: Any = caught.value.failure
    assert (failure.type, failure.node, failure.attempt) == ("served.Spoiled", "one", 1)
    assert "_deeper" in failure.traceback


def test_what_does_not_fit_is_seen_when_it_is_there(app: App) -> None:
    result = app.call("add", app.call("echo", "five"), 1)
    with pytest.raises(TaskFailed, match="parameter 'a': expected int, got str 'five'"):
        result.result(PATIENCE)
    assert result.failure is not None
    assert result.failure.code is Code.DECODE


def test_bad_arguments_are_errors_at_once(app: App) -> None:
    result = app.call("add", 1)
    with pytest.raises(
        EncodeError, match=r"echo\(\): a Result can be an argument itself, but not be inside a list"
    ):
        app.call("echo", [result])
    with pytest.raises(ArgumentError):
        app.call("add", result, 2, 3)
    with pytest.raises(ArgumentError, match="expected int, got str"):
        app.call("add", "x")


def test_a_waiting_call_can_be_cancelled_and_is_never_sent(app: App, gate: Gate) -> None:
    first = app.call("wait_at", gate.port, "first")
    second = app.call("wait_at", gate.port, first)
    visitor = gate.next()
    assert second.why().startswith(f"it waits for its argument 'word', wait_at/{first.id}: it ")
    assert second.cancel()
    with pytest.raises(TaskCancelled):
        second.result(0)
    visitor.go()
    assert first.result(PATIENCE) == "first"
    assert app.call("add", app.call("add", 1)).result(PATIENCE) == 11
    assert gate.nobody()


# ---------------------------------------------------------------------- groups and chains


def test_a_group_gives_a_list_in_its_order(app: App) -> None:
    result = group([app.bind("add", n, n) for n in range(1000)]).call()
    assert result.result(PATIENCE) == [2 * n for n in range(1000)]
    assert {member.result(0) for member in result} == {2 * n for n in range(1000)}


def test_a_group_that_fails_cancels_what_has_not_started(app: App, gate: Gate) -> None:
    bad = app.call("spoil", "bad")
    assert bad.wait(PATIENCE).fail
    members = [*[app.bind("wait_at", gate.port, "held")] * 6, app.bind("echo", bad)]
    result = group(members, errors="cancel").call()

    with pytest.raises(TaskFailed, match="member 7 of 7, echo: argument 1 of echo failed: it was bad"):
        result.result(PATIENCE)
    gate.open()
    ended = [member.wait(PATIENCE) for member in result.results[:6]]
    assert sum(report.fail for report in ended) >= 4  # there are two workers
    assert {report.failure.code for report in ended if report.failure} == {Code.CANCELLED}


def test_a_chain_goes_from_node_to_caller_to_node(app: App) -> None:
    line = chain(
        app.bind("add", 2),
        group([app.bind("later"), app.bind("add", 1), app.bind("echo")]),
        app.bind("echo"),
    )
    assert [line.call(n).result(PATIENCE) for n in (1, 2)] == [[4, 4, 3], [5, 5, 4]]
    assert chain(app.bind("add", 0, 0), *[app.bind("add", 1)] * 200).call().result(PATIENCE) == 200


def test_many_chains_at_once(app: App) -> None:
    lines = [chain(app.bind("add", n), app.bind("later"), app.bind("add", -n)).call() for n in range(300)]
    assert [line.result(PATIENCE) for line in lines] == [6] * 300


def test_a_chain_whose_middle_fails_stops_there(app: App, gate: Gate) -> None:
    told = app.bind("wait_at", gate.port).unfed()
    result = chain(app.bind("echo", "bad"), app.bind("spoil"), app.bind("add"), on_error=told).call()
    gate.next().go()  # `on_error` was sent
    with pytest.raises(TaskFailed, match=r"^served.Spoiled: link 2 of 3, spoil: it was bad \(on one\)"):
        result.result(PATIENCE)


def test_a_chain_ends_after_its_on_error(app: App, gate: Gate) -> None:
    result = chain(app.bind("spoil", "bad"), on_error=app.bind("wait_at", gate.port).unfed()).call()
    visitor = gate.next()
    assert not result.done()
    wait_until(lambda: "it waits for wait_at, since link 1 of 1 (spoil) failed" in result.why(), "it says so")
    visitor.go()
    assert result.wait(PATIENCE).fail


def test_a_chain_tells_where_it_is_and_why(app: App) -> None:
    result = chain(app.bind("add", 2), app.bind("scale_it", 10), app.bind("add", 1)).call()
    wait_until(lambda: result.why().startswith("it waits for link 2"), "link 2 is sent")
    assert result.why() == 'it waits for link 2 of 3 (scale_it): no node has "scale_it"'
    with pytest.raises(TimeoutError, match='link 2 of 3 .*no node has "scale_it"'):
        result.result(0)
    assert result.cancel()
    assert result.cancelled()


def test_an_early_end_settles_all_that_follows(shared: Mesh, app: App, gate: Gate) -> None:
    other = shared.app()
    first = other.call("wait_at", gate.port, "x")
    gate.next()
    results: list[Any] = [
        chain(other.bind("echo", first), other.bind("echo")).call(),
        group([other.bind("echo", first)]).call(),
        other.call("echo", first),
    ]
    other.close(wait=False)
    for result in results:
        with pytest.raises(TaskShutdown):
            result.result(0)


def test_a_clean_end_waits_for_all_that_follows(shared: Mesh) -> None:
    with shared.app() as app:
        results: list[Any] = [
            chain(*[app.bind("echo", 1)], *[app.bind("echo")] * 10).call(),
            app.call("echo", app.call("echo", 1)),
        ]
    assert [result.result(0) for result in results] == [1, 1]


def test_a_chain_over_a_mesh_and_this_process(app: App) -> None:
    with App("local", threads=1) as here:
        here.register("double", lambda value: 2 * value)
        assert chain(app.bind("add", 1), here.bind("double"), app.bind("add")).call().result(PATIENCE) == 17


# ---------------------------------------------------------------------- handlers


def test_a_handler_gives_types_to_what_was_called_by_name(shared: Mesh) -> None:
    app = shared.app()
    heard: list[Any] = []
    done = threading.Event()

    def on_order(order: served.Order) -> None:
        heard.append(order)

    def on_who(pid: int, id: str, attempt: int) -> None:  # noqa: A002
        heard.append([pid, id, attempt])

    order = app.call("same", replace(ORDER, parts={"a": [ORDER]})).on_ok(on_order)
    assert type(order.result(PATIENCE)) is dict
    who = app.declare("who", served.who).call().on_ok(on_who)
    assert type(who.result(PATIENCE)) is tuple
    app.call("later", 1).on_ok(done.set)
    assert done.wait(PATIENCE)
    assert heard == [replace(ORDER, parts={"a": [ORDER]}), [*who.result(0)]]
    assert who.wait(0).returns == who.result(0)
