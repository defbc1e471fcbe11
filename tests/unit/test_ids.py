"""Who makes the ids of tasks, and what becomes of bad ones; identity is (name, id)."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dingo_zmq import App, IDMaker, SequenceIDs, UUIDs, current_task
from dingo_zmq.errors import Busy, UsageError
from dingo_zmq.ids import SPARE, OpenIDs

PATIENCE = 10.0


class Fixed:
    """Always returns the same, whatever that is."""

    def __init__(self, id: Any) -> None:
        self.id = id
        self.names: list[str] = []

    def new_id(self, name: str, /) -> str:
        self.names.append(name)
        return self.id  # type: ignore[no-any-return]


@pytest.fixture
def free() -> Iterator[threading.Event]:
    """Lets go the tasks that wait for it."""
    free = threading.Event()
    yield free
    free.set()


def register(app: App, name: str, free: threading.Event, **words: Any) -> Any:
    """Register a function that waits and returns its name and id."""

    def wait() -> list[str]:
        free.wait(PATIENCE)
        return [current_task().name, current_task().id]

    return app.register(name, wait, **words)


def test_a_sequence_counts() -> None:
    ids = SequenceIDs()
    assert [ids.new_id("a"), ids.new_id("b"), ids.new_id("a")] == ["1", "2", "3"]
    assert SequenceIDs(start=7).new_id("a") == "7"


def test_a_sequence_gives_each_thread_other_numbers() -> None:
    ids = SequenceIDs()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ids.new_id, ["a"] * 1000))
    assert sorted(map(int, found)) == list(range(1, 1001))


def test_uuids_are_uuids() -> None:
    first, second = UUIDs().new_id("a"), UUIDs().new_id("a")
    assert first != second
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", first)


def test_local_mode_counts_unless_told(free: threading.Event) -> None:
    free.set()
    with App("local") as app:
        plain, other = register(app, "plain", free), register(app, "other", free)
        assert [plain.call().id, other.call().id, plain.call().id] == ["1", "2", "3"]


def test_a_maker_for_all_functions_and_one_for_some(free: threading.Event) -> None:
    free.set()
    with App("local", id_maker=UUIDs()) as app:
        plain = register(app, "plain", free)
        own = register(app, "own", free, id_maker=SequenceIDs(10))

        @app.task(id_maker=SequenceIDs(20))
        def decorated() -> str:
            return current_task().id

        assert len(plain.call().id) == 36
        assert [own.call().id, own.options(monitor_progress=True).call().id] == ["10", "11"]
        assert decorated.call().result(PATIENCE) == "20"


def test_a_maker_is_told_the_name(free: threading.Event) -> None:
    free.set()
    maker = Fixed("x")
    with App("local", id_maker=maker) as app:
        for name in ("one", "two"):
            assert register(app, name, free).call().result(PATIENCE) == [name, "x"]
    assert maker.names == ["one", "two"]


def test_equal_ids_under_different_names_do_not_mix(free: threading.Event) -> None:
    with App("local", threads=4, id_maker=Fixed("same")) as app:
        results = [register(app, f"f{n}", free, monitor_progress=True).call() for n in range(10)]
        free.set()
        for n, result in enumerate(results):
            assert result.result(PATIENCE) == [f"f{n}", "same"]
            assert {(report.name, report.id) for report in result.reports()} == {(f"f{n}", "same")}


def test_the_same_id_is_refused_while_that_task_is_open(free: threading.Event) -> None:
    with App("local", id_maker=Fixed("same")) as app:
        wait = register(app, "wait", free)
        first = wait.call()
        with pytest.raises(UsageError, match="a task of wait with the id 'same' is open already, so nothing was"):
            wait.options(monitor_progress=True).call()
        free.set()
        assert first.result(PATIENCE) == ["wait", "same"]
        again = wait.call()
        assert again.result(PATIENCE) == ["wait", "same"]


def test_a_task_whose_result_nobody_keeps_is_open_all_the_same(free: threading.Event) -> None:
    with App("local", id_maker=Fixed("same")) as app:
        wait = register(app, "wait", free)
        wait.call()
        gc.collect()
        with pytest.raises(UsageError, match="is open already"):
            wait.call()
        free.set()


def test_settled_tasks_leave_nothing_behind() -> None:
    with App("local", threads=1, id_maker=UUIDs()) as app:
        double = app.register("double", lambda number: 2 * number)
        assert list(double.map(range(1000), ahead=10)) == list(range(0, 2000, 2))
        engine: Any = app._engine
        gc.collect()
        kept = engine._open_ids._results
        assert sum(each() is not None for each in kept.values()) <= 1  # of the task that the worker had last
        assert len(kept) <= 2 * SPARE


@pytest.mark.parametrize("bad", ["", "a/b", "x" * 201, "a\n", 7, None, b"x"])
def test_an_id_that_cannot_be_one_is_refused(bad: Any, free: threading.Event) -> None:
    ran = []
    with App("local", id_maker=Fixed(bad)) as app:
        task = app.register("add", lambda: ran.append(1))
        words = r"an id of add, made by its id_maker, must be 1 to 200 printable characters without '/', not "
        with pytest.raises(UsageError, match=words + re.escape(repr(bad)[:50])):
            task.call()
    assert ran == []


def test_what_a_maker_raises_is_raised_by_the_call() -> None:
    class Broken:
        def new_id(self, name: str, /) -> str:
            raise LookupError(f"no ids for {name}")

    with App("local", id_maker=Broken()) as app, pytest.raises(LookupError, match="no ids for add"):
        app.register("add", lambda: 1).call()


def test_calls_that_are_refused_take_no_room(free: threading.Event) -> None:
    with App("local", max_open=2, id_maker=Fixed("same")) as app:
        wait = register(app, "wait", free)
        wait.call()
        for _ in range(5):
            with pytest.raises(UsageError, match="is open already"):
                wait.call()
        free.set()


@pytest.mark.parametrize(
    ("maker", "hint"),
    [
        (UUIDs, r"hint: id_maker=UUIDs\(\)"),
        ("uuid", r"not 'uuid'; hint: UUIDs\(\)"),
        (lambda name: "1", r"hint: UUIDs\(\)"),
        (dict, r"hint: id_maker=dict\(\)"),
    ],
)
def test_what_is_no_maker(maker: Any, hint: str) -> None:
    app = App("local")
    uses: list[Callable[[], object]] = [
        lambda: App("local", id_maker=maker),
        lambda: app.register("one", len, id_maker=maker),
        lambda: app.task(id_maker=maker)(len),
        lambda: app.declare("two", id_maker=maker),
    ]
    for use in uses:
        with pytest.raises(UsageError, match=f"id_maker must be an object with a method new_id.*{hint}"):
            use()
    assert len(app.registry) == 0


def test_makers_are_known_by_what_they_do() -> None:
    assert isinstance(Fixed("x"), IDMaker)
    assert isinstance(UUIDs(), IDMaker)
    assert not isinstance("x", IDMaker)


class Task:
    """As much of a result as is looked at."""

    def __init__(self, name: str, id: str) -> None:
        self.name, self.id, self.over = name, id, False

    def done(self) -> bool:
        return self.over


def test_one_of_many_threads_gets_an_id() -> None:
    open_ids, refused = OpenIDs(), []
    tasks = [Task("add", "same") for _ in range(8)]
    barrier = threading.Barrier(8)

    def keep(task: Task) -> None:
        barrier.wait(PATIENCE)
        try:
            open_ids.keep(task)
        except UsageError:
            refused.append(task)

    threads = [threading.Thread(target=keep, args=[task]) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(refused) == 7
    (kept,) = set(tasks) - set(refused)
    kept.over = True
    open_ids.keep(refused[0])
    open_ids.keep(Task("other", "same"))


def test_busy_is_still_said_at_the_bound(free: threading.Event) -> None:
    import asyncio

    with App("local", max_open=1, id_maker=UUIDs()) as app:
        wait = register(app, "wait", free)

        async def use() -> None:
            wait.call()
            with pytest.raises(Busy):
                wait.call()

        asyncio.run(use())
        free.set()
