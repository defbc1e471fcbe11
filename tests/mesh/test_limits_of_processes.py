"""Time limits of tasks in processes of ``dingo-zmq node``: the process ends, and costs its neighbours nothing."""

from __future__ import annotations

import pytest

from dingo_zmq import App, Code, Result
from tests import served
from tests.support import PATIENCE, Gate, Mesh, Program, Visitor


@pytest.fixture
def app(mesh: Mesh) -> App:
    return mesh.app()


@pytest.fixture
def node(mesh: Mesh) -> Program:
    return mesh.node("bench", "--threads", "3")


def by_word(gate: Gate, *words: str) -> dict[str, Visitor]:
    """Wait for as many tasks as there are words, and return them by word."""
    found = {visitor.word: visitor for visitor in [gate.next() for _ in words]}
    assert set(found) == set(words)
    return found


def ended(result: Result[str]) -> tuple[Code, str]:
    """Wait for a failure; return its code and message."""
    failure = result.wait(PATIENCE).failure
    assert failure is not None
    return failure.code, failure.message


def test_a_stuck_thread_ends_its_process_and_no_neighbour(app: App, node: Program, gate: Gate) -> None:
    """A neighbour runs again, without a loss that counts; an at-most-once neighbour ends UNKNOWN."""
    wait_at = app.declare("wait_at", served.wait_at)
    neighbour = wait_at.options(max_losses=1).call(gate.port, "neighbour")
    once = wait_at.options(at_most_once=True).call(gate.port, "once")
    first = by_word(gate, "neighbour", "once")
    stuck = wait_at.options(time_limit=0.2).call(gate.port, "stuck")
    queued = wait_at.options(at_most_once=True, max_losses=1).call(gate.port, "queued")
    visitor = gate.next()
    assert visitor.word == "stuck"

    assert ended(stuck) == (Code.TIMEOUT, "it ran longer than its time_limit of 0.2 s")
    code, message = ended(once)
    assert code is Code.UNKNOWN
    assert message == "bench ended another task that ran for too long, while this one may have been running"
    for gone in (visitor, *first.values()):
        gone.gone()
    again = by_word(gate, "neighbour", "queued")
    assert again["neighbour"].attempt == 2
    assert again["neighbour"].pid != first["neighbour"].pid
    for each in again.values():
        each.go()
    assert neighbour.result(PATIENCE) == "neighbour"
    assert queued.result(PATIENCE) == "queued"

    node.line(f"task wait_at id {stuck.id} was ended after 0.2 s (time_limit)", "err")
    node.line("process 1 ended with a task over its time limit, and is started again", "err")
    assert node.stop() == 0


def test_a_process_that_ends_for_a_limit_does_not_pause(app: App, node: Program, gate: Gate) -> None:
    """However often it happens: no growing pause, as after a crash."""
    wait_at = app.declare("wait_at", served.wait_at)
    for number in range(3):
        result = wait_at.options(time_limit=0.05).call(gate.port, str(number))
        visitor = gate.next()
        assert ended(result)[0] is Code.TIMEOUT
        visitor.gone()
    assert app.call("add", 1, 2).result(PATIENCE) == 3
    assert "it is started again in" not in node.err
    assert node.stop() == 0


def test_a_coroutine_over_its_limit_ends_alone(app: App, node: Program, gate: Gate) -> None:
    other = app.call("wait_at", gate.port, "other")
    visitor = gate.next()
    assert ended(app.options(time_limit=0.05).call("doze"))[0] is Code.TIMEOUT
    visitor.go()
    assert other.result(PATIENCE) == "other"
    assert other.attempt == 1
    node.line("task doze id ", "err")
    assert "started again" not in node.err


def test_a_coroutine_that_blocks_its_loop_ends_its_process(app: App, node: Program) -> None:
    doze = app.declare("doze", served.doze)
    stuck = app.options(time_limit=0.1).call("block_loop")
    assert ended(stuck)[0] is Code.TIMEOUT
    behind = doze.options(max_losses=1).call(0.0)
    assert behind.result(PATIENCE) is None
    node.line(f"task block_loop id {stuck.id} does not give in to its time_limit", "err")
    node.line("process 1 ended with a task over its time limit, and is started again", "err")


def test_a_task_over_its_limit_in_a_draining_node(app: App, node: Program, gate: Gate) -> None:
    """It ends in the end, and the rest has its grace time."""
    wait_at = app.declare("wait_at", served.wait_at)
    other = wait_at.call(gate.port, "other")
    gate.next()
    stuck = wait_at.options(time_limit=0.5).call(gate.port, "stuck")
    gate.next()
    node.signal(15)
    assert ended(stuck)[0] is Code.TIMEOUT
    gate.open()
    assert other.result(PATIENCE) == "other"
    assert node.wait() == 0


def test_the_limit_of_the_nodes_own_function_holds_for_calls_by_name(mesh: Mesh, app: App) -> None:
    mesh.node("bench", "--threads", "1")
    assert ended(app.call("limited"))[0] is Code.TIMEOUT
    assert app.options(time_limit=60).call("limited", 0).result(PATIENCE) == "in time"
