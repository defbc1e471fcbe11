"""What a program sees of calls that go well: one node process serves all tests here."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dingo_zmq import App, Status
from dingo_zmq.errors import Busy, TaskCancelled
from tests import served
from tests.support import PATIENCE, Gate, Mesh, Program

ORDER = served.Order(
    number=7,
    colour=served.Colour.BLUE,
    when=datetime(2026, 2, 28, 23, 59, 59, 999999, UTC),
    day=date(2026, 3, 1),
    wait=timedelta(days=1, microseconds=3),
    id=UUID(int=5),
    price=Decimal("10.50"),
    tags={"a", "ä"},
    pair=(1, "one"),
    frozen=frozenset([3, 4]),
    path=Path("/tmp/x y"),
    point=served.Point(1),
    rows=[{"key": "k", "values": [1, 2]}],
)


@pytest.fixture(scope="module", autouse=True)
def node(module_mesh: Mesh) -> Program:
    return module_mesh.node("one", "--threads", "2")


@pytest.fixture
def app(shared: Mesh) -> App:
    return shared.app()


def all_is_said(app: App) -> None:
    """Wait until the node has read what was sent before; the workers of coroutines are always free here."""
    app.call("later", 1).result(PATIENCE)


# ---------------------------------------------------------------------- arguments and returns


def test_positional_and_keyword_arguments_and_defaults(app: App) -> None:
    add = app.declare("add", served.add)
    results = [add.call(2), add.call(2, 3), add.call(2, b=4), add.call(b=1, a=1), add.options().call(0)]
    assert [result.result(PATIENCE) for result in results] == [7, 5, 6, 2, 5]


def test_rest_arguments_and_words(app: App) -> None:
    gather = app.declare("gather", served.gather)
    whole = gather.call(1, 2, 3, word="w", name="n", call="c", self="s").result(PATIENCE)
    assert whole == {"first": 1, "rest": [2, 3], "word": "w", "words": {"name": "n", "call": "c", "self": "s"}}
    assert gather.call(1).result(PATIENCE) == {"first": 1, "rest": [], "word": "none", "words": {}}


def test_a_call_by_name_is_not_checked_here_but_fits_there(app: App) -> None:
    assert app.call("add", 2, b=3).result(PATIENCE) == 5
    assert app.options(max_losses=2).call("add", 2).result(PATIENCE) == 7
    assert app.call("gather", 1, 2, self="s", name="n").result(PATIENCE)["words"] == {"self": "s", "name": "n"}


def test_types_arrive_as_they_were_sent(app: App) -> None:
    same = app.declare("same", served.same)
    nested = replace(ORDER, parts={"inner": [replace(ORDER, note="it has a note")]})
    back = same.call(nested).result(PATIENCE)
    assert back == nested
    assert type(back.parts["inner"][0].price) is Decimal
    assert type(back.point) is served.Point
    assert type(back.frozen) is frozenset


def test_the_node_sees_the_types_of_its_own_signature(app: App) -> None:
    """By name the caller sends plain values; what the function gets is what its annotations say."""
    raw = app.call("same", ORDER).result(PATIENCE)
    assert raw["colour"] == "blue"
    assert raw["pair"] == [1, "one"]


def test_coroutine_functions(app: App) -> None:
    later = app.declare("later", served.later)
    assert list(later.map(range(200))) == list(range(1, 201))


def test_many_small_tasks(app: App) -> None:
    add = app.declare("add", served.add)
    results = [add.call(number, number) for number in range(5000)]
    assert [result.result(PATIENCE) for result in results] == [2 * number for number in range(5000)]
    assert {result.node for result in results} == {"one"}


@pytest.mark.parametrize("size", [0, 1, 64 * 1024 - 1, 64 * 1024, 3_000_000])
def test_bytes_in_and_out(app: App, size: int) -> None:
    data = random.Random(size).randbytes(size)
    reverse = app.declare("reverse", served.reverse)
    assert reverse.call(data).result(PATIENCE) == data[::-1]
    assert reverse.call(data=data).result(PATIENCE) == data[::-1]
    assert app.call("echo", [data, {"more": data}]).result(PATIENCE) == [data, {"more": data}]


def test_large_and_small_tasks_at_once(app: App) -> None:
    reverse, add = app.declare("reverse", served.reverse), app.declare("add", served.add)
    blocks = [random.Random(n).randbytes(70_000 * n) for n in range(30)]
    results = [(reverse.call(block), add.call(n), block, n) for n, block in enumerate(blocks)]
    for reversed_, added, block, n in results:
        assert reversed_.result(PATIENCE) == block[::-1]
        assert added.result(PATIENCE) == n + 5


def test_an_argument_of_200_megabytes(app: App) -> None:
    data = bytes(200_000_000)
    assert app.declare("length", served.length).call(data).result(PATIENCE) == len(data)
    assert app.call("add", 1, 2).result(PATIENCE) == 3


def test_a_return_of_200_megabytes(app: App) -> None:
    assert len(app.declare("zeros", served.zeros).call(200_000_000).result(PATIENCE)) == 200_000_000
    assert app.call("add", 1, 2).result(PATIENCE) == 3


# ---------------------------------------------------------------------- map


def test_map_in_order(app: App) -> None:
    add = app.declare("add", served.add)
    assert list(add.map(range(3000), range(3000))) == [2 * n for n in range(3000)]
    assert list(app.map("add", [1, 2, 3], [1, 1, 1], ahead=1)) == [2, 3, 4]
    assert list(add.starmap([(1,), (2, 3)])) == [6, 5]
    assert list(app.starmap("add", [(1, 2)])) == [3]


def test_map_as_completed(app: App, gate: Gate) -> None:
    wait_at = app.declare("wait_at", served.wait_at)
    answers = wait_at.map(itertools.repeat(gate.port), ["a", "b"], ordered=False)
    got: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        first = reader.submit(next, answers)
        visitors = {visitor.word: visitor for visitor in (gate.next(), gate.next())}
        visitors["b"].go()
        got.append(first.result(PATIENCE))
        visitors["a"].go()
        got += answers
    assert got == ["b", "a"]


def test_map_reads_no_further_than_it_must(app: App) -> None:
    numbers = itertools.count()
    answers = app.declare("add", served.add).map(numbers, ahead=10)
    assert [next(answers) for _ in range(3)] == [5, 6, 7]
    answers.close()
    assert next(numbers) <= 14


def test_closing_a_map_cancels_what_has_not_started(app: App, gate: Gate) -> None:
    wait_at = app.declare("wait_at", served.wait_at)
    answers = wait_at.map(itertools.repeat(gate.port), map(str, range(20)), ahead=20)
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        first = reader.submit(next, answers)
        visitors = {visitor.word: visitor for visitor in (gate.next(), gate.next())}
        visitors["0"].go()
        assert first.result(PATIENCE) == "0"
    third = gate.next()
    answers.close()
    all_is_said(app)
    third.go()
    visitors["1"].go()
    assert app.call("add", 1, 1).result(PATIENCE) == 2
    assert gate.nobody()


# ---------------------------------------------------------------------- asyncio


def test_acall_and_await(app: App) -> None:
    add = app.declare("add", served.add)

    async def main() -> list[Any]:
        result = add.call(1, 1)
        return [
            await add.acall(2, 3),
            await result,
            await app.acall("add", 4),
            await app.options().acall("add", 0, 0),
        ]

    assert asyncio.run(main()) == [5, 2, 9, 0]


def test_many_acalls_at_once(app: App) -> None:
    add = app.declare("add", served.add)

    async def main() -> list[int]:
        return await asyncio.gather(*(add.acall(n, n) for n in range(2000)))

    assert asyncio.run(main()) == [2 * n for n in range(2000)]


def test_an_app_serves_several_loops_one_after_the_other(app: App) -> None:
    add = app.declare("add", served.add)
    assert [asyncio.run(add.acall(n)) for n in range(3)] == [5, 6, 7]


def test_reports_in_a_loop(app: App) -> None:
    steps = app.declare("steps", served.steps).options(monitor_progress=True)

    async def main() -> list[Status]:
        return [report.status async for report in steps.call(2).reports(PATIENCE)]

    assert asyncio.run(main()) == [Status.SENT, *[Status.PROGRESS] * 3, Status.SUCCESS]


# ---------------------------------------------------------------------- reports and what a function knows


def test_reports_come_in_order(app: App) -> None:
    result = app.declare("steps", served.steps).options(monitor_progress=True).call(4)
    reports = list(result.reports(PATIENCE))
    assert [report.status for report in reports] == [Status.SENT, *[Status.PROGRESS] * 5, Status.SUCCESS]
    assert [report.value for report in reports[1:-1]] == [None, *((n / 4, f"step {n}") for n in range(1, 5))]
    assert reports[-1].value == 4
    assert {(report.name, report.id, report.node, report.attempt) for report in reports} == {
        ("steps", result.id, "one", 1)
    }


def test_without_monitor_progress_only_the_end_is_told(app: App) -> None:
    reports = list(app.declare("steps", served.steps).call(4).reports(PATIENCE))
    assert [report.status for report in reports] == [Status.SUCCESS]


def test_a_function_knows_its_task(app: App, node: Program) -> None:
    result = app.declare("who", served.who).call()
    pid, id_, attempt = result.result(PATIENCE)
    assert (id_, attempt) == (result.id, 1)
    assert pid in node.children()


def test_ids_count_from_one(app: App) -> None:
    assert [app.call("add", 1).id, app.declare("who", served.who).call().result(PATIENCE)[1]] == ["1", "2"]


def test_at_most_once_runs_once(app: App, tmp_path: Path) -> None:
    mark = app.declare("mark", served.mark).options(at_most_once=True)
    results = [mark.call(tmp_path / "marks", str(number)) for number in range(50)]
    for result in results:
        result.result(PATIENCE)
    assert sorted(map(int, (tmp_path / "marks").read_text().split())) == list(range(50))


# ---------------------------------------------------------------------- cancelling


def test_a_queued_task_is_cancelled_and_does_not_run(app: App, gate: Gate, tmp_path: Path) -> None:
    wait_at, mark = app.declare("wait_at", served.wait_at), app.declare("mark", served.mark)
    blockers = [wait_at.call(gate.port) for _ in range(2)]
    visitors = [gate.next(), gate.next()]
    queued = [mark.call(tmp_path / "marks", str(number)) for number in range(20)]

    assert [result.cancel() for result in queued[:19]] == [True] * 19
    all_is_said(app)
    assert queued[0].cancelled()
    with pytest.raises(TaskCancelled):
        queued[0].result(0)
    for visitor in visitors:
        visitor.go()

    assert [blocker.result(PATIENCE) for blocker in blockers] == ["", ""]
    queued[19].result(PATIENCE)
    assert (tmp_path / "marks").read_text() == "19\n"


def test_a_running_task_is_not_cancelled(app: App, gate: Gate) -> None:
    result = app.declare("wait_at", served.wait_at).options(monitor_progress=True).call(gate.port, "done")
    visitor = gate.next()
    next(report for report in result.reports(PATIENCE) if report.status is Status.PROGRESS)
    assert result.running()
    assert result.cancel() is False
    visitor.go()
    assert result.result(PATIENCE) == "done"


# ---------------------------------------------------------------------- several Apps, bounds


def test_one_app_serves_and_calls(shared: Mesh) -> None:
    app = shared.app(mesh=f"{shared.name}-2")

    @app.task
    def double(a: int) -> int:
        return 2 * a

    @app.task
    async def triple(a: int) -> int:
        return 3 * a

    app.serve(name="both")
    assert double.call(4).result(PATIENCE) == 8
    assert list(triple.map(range(10))) == [3 * n for n in range(10)]
    assert [peer.name for peer in app.peers()] == ["both"]


def test_two_apps_in_two_meshes_do_not_meet(shared: Mesh) -> None:
    names = "left", "right"
    apps = {name: shared.app(mesh=f"{shared.name}-{name}") for name in names}
    for name, app in apps.items():
        app.register("where", lambda name=name: name)
        app.serve(name=name)
    for name, app in apps.items():
        assert {app.call("where").result(PATIENCE) for _ in range(50)} == {name}
        assert [peer.name for peer in app.peers()] == [name]


def test_two_apps_call_the_same_node(shared: Mesh) -> None:
    one, two = shared.app(), shared.app()
    results = [(app.call("add", n), n) for n in range(100) for app in (one, two)]
    assert all(result.result(PATIENCE) == n + 5 for result, n in results)


def test_an_allocated_function_has_workers_of_its_own(shared: Mesh, gate: Gate) -> None:
    app = shared.app(mesh=f"{shared.name}-own", threads=1)
    app.register("slow", served.wait_at.function.callable)
    app.register("quick", served.add.function.callable)
    app.allocate("slow", 2)
    app.serve(name="own")
    slow = [app.call("slow", gate.port, str(n)) for n in range(3)]
    visitors = [gate.next(), gate.next()]
    assert app.call("quick", 1).result(PATIENCE) == 6
    assert gate.nobody()
    for visitor in visitors:
        visitor.go()
    gate.next().go()
    assert [result.result(PATIENCE) for result in slow] == ["0", "1", "2"]


def test_an_allocated_coroutine_function_works(shared: Mesh) -> None:
    app = shared.app(mesh=f"{shared.name}-own2")

    @app.task
    async def triple(a: int) -> int:
        return 3 * a

    app.allocate("triple", 2)
    app.serve(name="own")
    assert triple.call(5).result(PATIENCE) == 15


def test_at_the_bound_a_call_waits_for_room(shared: Mesh, gate: Gate) -> None:
    app = shared.app(max_open=2)
    wait_at = app.declare("wait_at", served.wait_at)
    open_ = [wait_at.call(gate.port, word) for word in "ab"]
    visitors = [gate.next(), gate.next()]
    with concurrent.futures.ThreadPoolExecutor(1) as other:
        third = other.submit(wait_at.call, gate.port, "c")
        assert gate.nobody()
        assert not third.done()
        visitors[0].go()
        last = gate.next()
        assert third.result(PATIENCE).name == "wait_at"
    for visitor in (visitors[1], last):
        visitor.go()
    assert [result.result(PATIENCE) for result in (*open_, third.result())] == ["a", "b", "c"]


def test_at_the_bound_a_call_in_a_loop_raises_and_takes_no_room(shared: Mesh, gate: Gate) -> None:
    app = shared.app(max_open=2)
    wait_at = app.declare("wait_at", served.wait_at)

    async def main() -> list[str]:
        results = [wait_at.call(gate.port, word) for word in "ab"]
        for _ in range(5):
            with pytest.raises(Busy, match="max_open"):
                wait_at.call(gate.port, "c")
        for _ in range(2):
            gate.next().go()
        return [*[await result for result in results], *[await app.acall("echo", n) for n in range(5)]]

    assert asyncio.run(main()) == ["a", "b", *range(5)]
