"""
One program, unchanged but for its mode: what every App must do, as tests for pytest.

Subclass `AppSuite`, say how many callers and nodes there are, and give a fixture `make_app`, which returns Apps
that meet::

    class TestOverMyBroker(AppSuite):
        callers, nodes = 2, 3

        @pytest.fixture
        def make_app(self):
            queue = MyQueue()

            def make(**settings):
                app = App("remote", **settings)
                app.use(MyBroker(queue))
                return app

            return make

The suite closes the Apps.  Nothing here needs pytest by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import threading
import unittest
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from datetime import date
from time import monotonic
from typing import Any

from dingo_zmq.app import App
from dingo_zmq.current import current_task
from dingo_zmq.errors import (
    ArgumentError,
    BodyTooLarge,
    Closed,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TaskShutdown,
    TaskTimeout,
    UsageError,
)
from dingo_zmq.model import Code, Options, Retries, Status
from dingo_zmq.protocol.streams import WINDOW

__all__ = ["AppSuite", "Program"]

FOREVER = 3600.0
SHORT = 0.05


@dataclass
class Row:
    """What an argument may be."""

    number: int
    day: date
    more: list[str] = field(default_factory=list)


class Program:
    """
    The functions that callers and nodes register, and the Apps that are used.

    Attributes:
        callers: Apps that call.
        nodes: Apps that serve; the callers themselves where there are none.
        allocations: for each node, the workers that `crowd` has to itself.
        noted: what `note` and `step` were given, in order.
    """

    def __init__(self, callers: list[App], nodes: list[App], threads: int) -> None:
        self.callers, self.nodes = callers, nodes
        self.threads = threads
        self.began, self.free = threading.Semaphore(0), threading.Event()
        self.counted, self.left = 0, threading.Semaphore(0)
        self.noted: list[int] = []
        self.stepped, self.turn = threading.Semaphore(0), threading.Semaphore(0)
        for app in dict.fromkeys([*callers, *nodes]):
            for function in (
                self.add,
                self.join,
                self.row,
                self.double,
                self.size,
                self.tell,
                self.fail,
                self.hold,
                self.count,
                self.note,
                self.step,
                self.flaky,
                self.look,
                self.sleep,
            ):
                app.register(function.__name__, function)
            app.register("crowd", self.hold)
        self.allocations = [app.allocate("crowd", 1) for app in nodes]
        for number, app in enumerate(nodes):
            app.serve(name=f"node{number}")

    def count(self, first: int, end: int) -> Iterator[int]:
        """Yield the numbers from the first up to the end."""
        try:
            for number in range(first, end):
                self.counted = number - first + 1
                yield number
        finally:
            self.left.release()

    def add(self, a: int, b: int = 10) -> int:
        """Return the sum."""
        return a + b

    def join(self, a: str, b: str) -> str:
        """Return both texts in one."""
        return f"{a}-{b}"

    def row(self, row: Row) -> Row:
        """Return the row, one day later in a way."""
        return Row(row.number + 1, row.day, [*row.more, "seen"])

    async def double(self, a: float) -> float:
        """Return twice the number."""
        return 2 * a

    def size(self, data: bytes) -> tuple[int, bytes]:
        """Return the length of binary data, and the data."""
        return len(data), data

    def tell(self, steps: int) -> str:
        """Tell of some progress, and return the id of the task."""
        task = current_task()
        for step in range(steps):
            task.progress(step / steps, f"step {step}")
        return task.id

    def fail(self, word: str) -> None:
        """Raise."""
        raise LookupError(word)

    def hold(self, number: int) -> int:
        """Wait until `free` is set."""
        self.began.release()
        self.free.wait(AppSuite.patience)
        return number

    def note(self, number: int) -> float:
        """Note a number, and return when that was."""
        self.noted.append(number)
        return monotonic()

    def step(self, number: int) -> None:
        """Note a number, and wait for one's turn."""
        self.noted.append(number)
        self.stepped.release()
        self.turn.acquire(timeout=AppSuite.patience)

    def flaky(self, times: int) -> int:
        """Raise in so many attempts; then return the number of the attempt."""
        attempt = current_task().attempt
        if attempt <= times:
            raise ConnectionError(f"attempt {attempt}")
        return attempt

    def look(self) -> None:
        """Go on until told to stop."""
        self.began.release()
        while not self.free.wait(0.001):
            current_task().check()

    async def sleep(self) -> None:
        """The same for a coroutine."""
        self.began.release()
        await asyncio.sleep(FOREVER)

    def busy(self, caller: App) -> list[Any]:
        """Have all threads of the nodes hold a task, and twice as many wait; return the results."""
        threads = self.threads * len(self.nodes)
        results = [caller.call("hold", number) for number in range(3 * threads)]
        for _ in range(threads):
            assert self.began.acquire(timeout=AppSuite.patience)
        return results


class AppSuite:
    """
    What callers and nodes do together, in any mode.

    Attributes:
        callers: how many Apps call.
        nodes: how many other Apps serve; with 0 each caller serves itself, as in local mode.
        threads: workers of each App.
        patience: seconds after which a wait has failed.
        has_bodies: whether arguments and returns are encoded.
        can_stop: whether what runs can be told to stop, see `ports.Stops`.
    """

    callers = 1
    nodes = 0
    threads = 2
    patience = 30.0
    has_bodies = True
    can_stop = True

    @contextlib.contextmanager
    def program(self, make_app: Callable[..., App], **settings: Any) -> Iterator[Program]:
        """Start the program, and close it in the end."""
        settings["threads"] = self.threads
        callers = [make_app(**settings) for _ in range(self.callers)]
        nodes = [make_app(**settings) for _ in range(self.nodes)]
        apps = [*callers, *nodes]
        try:
            yield (program := Program(callers, nodes or callers, self.threads))
            program.free.set()
        finally:
            for app in apps:
                app.close(wait=False)
        for app in apps:
            ledger = app.ledger()
            assert ledger.called == ledger.ok + ledger.failed + ledger.cancelled + ledger.expired, ledger
            assert not ledger.open, ledger

    # ------------------------------------------------------------------ the tests

    def test_every_caller_gets_its_returns(self, make_app: Callable[..., App]) -> None:
        """All callers at once, 100 tasks of each of several functions: nothing is mixed up."""
        with self.program(make_app) as program:
            open_tasks = [
                (caller.call(name, *args), expected)
                for number in range(100)
                for place, caller in enumerate(program.callers)
                for name, args, expected in (
                    ("add", (number, place), number + place),
                    ("join", (str(number), str(place)), f"{number}-{place}"),
                    ("double", (number + 0.5,), 2 * number + 1.0),
                )
            ]
            for result, expected in open_tasks:
                assert result.result(self.patience) == expected

    def test_map_keeps_the_order(self, make_app: Callable[..., App]) -> None:
        """`map` gives the returns in the order of the arguments."""
        with self.program(make_app) as program:
            for caller in program.callers:
                assert list(caller.map("add", range(200), range(200))) == list(range(0, 400, 2))

    def test_arguments_and_returns_are_typed(self, make_app: Callable[..., App]) -> None:
        """Defaults, keywords, dataclasses and large binary data come as the annotations say."""
        large = bytes(range(256)) * 1024
        with self.program(make_app) as program:
            caller = program.callers[0]
            assert caller.call("add", 1).result(self.patience) == 11
            assert caller.call("add", b=2, a=1).result(self.patience) == 3
            row = caller.call("row", Row(1, date(2026, 3, 1), ["x"])).result(self.patience)
            assert row == Row(2, date(2026, 3, 1), ["x", "seen"])
            assert caller.call("size", large).result(self.patience) == (len(large), large)

    def test_values_come_as_they_are_yielded(self, make_app: Callable[..., App]) -> None:
        """All callers read streams at once: each gets its own values, in order, and then the end."""
        with self.program(make_app) as program:
            got: dict[tuple[int, int], list[int]] = {}

            def read(place: int, first: int) -> None:
                stream = program.callers[place].stream("count", first, first + 300)
                stream.timeout = self.patience
                got[place, first] = list(stream)
                assert stream.result.result(self.patience) == 300  # noqa: PLR2004

            cases = [(place, first) for place in range(len(program.callers)) for first in (0, 1000)]
            readers = [threading.Thread(target=read, args=case, daemon=True) for case in cases]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join(self.patience)
            assert got == {(place, first): list(range(first, first + 300)) for place, first in cases}

    def test_a_function_waits_for_its_reader_and_ends_with_it(self, make_app: Callable[..., App]) -> None:
        """Whoever reads no more keeps back the function, and ends it by leaving; others go on."""
        with self.program(make_app) as program:
            caller = program.callers[0]
            with caller.stream("count", 0, 10**9) as stream:
                stream.timeout = self.patience
                assert [next(stream), next(stream)] == [0, 1]
                assert caller.call("add", 2, 3).result(self.patience) == 5  # noqa: PLR2004
                assert program.counted <= WINDOW + 2
            assert program.left.acquire(timeout=self.patience)
            assert stream.result.wait(self.patience).status is Status.FAIL

    def test_wrong_arguments_are_refused_at_once(self, make_app: Callable[..., App]) -> None:
        """Nothing is sent that does not fit."""
        with self.program(make_app) as program:
            for args in (("1", 2), (1, 2, 3), ()):
                try:
                    program.callers[0].call("add", *args)
                except ArgumentError:
                    continue
                raise AssertionError(f"add{args} was sent")

    def test_a_failure_is_told(self, make_app: Callable[..., App]) -> None:
        """What a function raises comes as a `TaskFailed` with type, text and traceback."""
        with self.program(make_app) as program:
            for place, caller in enumerate(program.callers):
                error = caller.call("fail", f"word {place}").exception(self.patience)
                assert isinstance(error, TaskFailed)
                failure: Any = error.failure
                assert (failure.code, failure.type) == (Code.RAISED, "LookupError")
                assert f"word {place}" in failure.message
                assert f"LookupError: word {place}" in failure.traceback

    def test_reports_come_in_order(self, make_app: Callable[..., App]) -> None:
        """SENT, then PROGRESS, then the final report, for many tasks; who did not ask hears the last alone."""
        with self.program(make_app) as program:
            asked = [
                caller.options(monitor_progress=True).call("tell", 3)
                for caller in program.callers
                for _ in range(20)
            ]
            plain = [caller.call("tell", 3) for caller in program.callers]
            for result in asked:
                reports = list(result.reports(self.patience))
                order = [report.status for report in reports]
                assert order == [Status.SENT, *[Status.PROGRESS] * 4, Status.SUCCESS]
                told = [report.value for report in reports if report.status is Status.PROGRESS]
                assert told == [None, *[(step / 3, f"step {step}") for step in range(3)]]
                assert {(report.name, report.id) for report in reports} == {("tell", result.id)}
            for result in plain:
                assert [report.status for report in result.reports(self.patience)] == [Status.SUCCESS]

    def test_a_function_knows_its_task(self, make_app: Callable[..., App]) -> None:
        """The id that the caller has is the one that the function sees."""
        with self.program(make_app) as program:
            results = [caller.call("tell", 1) for caller in program.callers for _ in range(20)]
            assert [result.result(self.patience) for result in results] == [result.id for result in results]

    def test_equal_ids_under_different_names_do_not_mix(self, make_app: Callable[..., App]) -> None:
        """(name, id) is the identity of a task: ids that each function counts for itself will do."""
        if "id_maker" not in inspect.signature(App).parameters:
            raise unittest.SkipTest("this version has no makers of ids")
        with self.program(make_app, id_maker=_CountedByName()) as program:
            caller = program.callers[0]
            tasks = [(name, number) for number in range(50) for name in ("add", "join", "double", "tell")]
            arguments = {"add": (1, 1), "join": ("a", "b"), "double": (1.5,), "tell": (1,)}
            results = [caller.call(name, *arguments[name]) for name, _ in tasks]
            assert len({result.id for result in results}) == len(tasks) // len(arguments)
            returns = {"add": 2, "join": "a-b", "double": 3.0}
            for result in results:
                assert result.result(self.patience) == returns.get(result.name, result.id)

    def test_handlers_are_called_once(self, make_app: Callable[..., App]) -> None:
        """`on_ok` and `on_nok`, set before the end or after it."""
        with self.program(make_app) as program:
            heard: list[Any] = []
            done = threading.Semaphore(0)

            def hear(what: Any) -> None:
                heard.append(what)
                done.release()

            good, bad = program.callers[0].call("add", 2, 3), program.callers[0].call("fail", "w")
            for result in (good, bad):
                result.on_ok(hear).on_nok(lambda failure: hear(failure.type))
            for _ in range(2):
                assert done.acquire(timeout=self.patience)
            assert sorted(map(str, heard)) == ["5", "LookupError"]

    def test_ignored_reports(self, make_app: Callable[..., App]) -> None:
        """A task whose reports nobody wants has no value, and runs all the same."""
        if "ignore_report" not in {each.name for each in fields(Options)}:
            raise unittest.SkipTest("this version has no option ignore_report")
        with self.program(make_app) as program:
            result = program.callers[0].options(ignore_report=True).call("hold", 1)
            assert result.result(self.patience) is None
            assert program.began.acquire(timeout=self.patience)

    def test_a_failure_whose_report_is_ignored_is_an_event(self, make_app: Callable[..., App]) -> None:
        """Nobody else would hear of it; retries are made all the same."""
        with self.program(make_app) as program:
            caller = program.callers[0]
            with caller.listen(["caller"]) as events:
                tries = Retries(1, backoff=0.0)
                result = caller.options(ignore_report=True, retries=tries).call("flaky", 9)
                assert result.result(0) is None
                texts = iter(lambda: events.get(self.patience).text, "")
                text = next(text for text in texts if "flaky" in text)
            said = "whose report is ignored, failed: ConnectionError: attempt 2 (the last of 2 attempts)"
            assert said in text

    def test_a_task_with_a_delay_starts_later(self, make_app: Callable[..., App]) -> None:
        """Until then it can be cancelled."""
        with self.program(make_app) as program:
            caller = program.callers[0]
            never = caller.options(delay=FOREVER).call("note", 1)
            called = monotonic()
            result = caller.options(delay=SHORT).call("note", 2)
            assert result.result(self.patience) >= called + SHORT
            assert "(delay)" in never.why()
            assert never.cancel()
            assert never.cancelled()
            assert program.noted == [2]

    def test_a_task_that_does_not_start_in_time_expires(self, make_app: Callable[..., App]) -> None:
        """While all threads are busy its time runs out; it never starts."""
        with self.program(make_app) as program:
            caller = program.callers[0]
            busy = program.busy(caller)
            late = caller.options(expires=SHORT).call("note", 1)
            in_time = caller.options(expires=FOREVER).call("note", 2)
            error = late.exception(self.patience)
            assert isinstance(error, TaskExpired)
            assert "it was not started within 0.05 s of the call" in str(error)
            program.free.set()
            in_time.result(self.patience)
            for result in busy:
                result.result(self.patience)
            assert caller.call("add", 1).result(self.patience) == 11
            assert program.noted == [2]

    def test_a_function_that_raises_is_tried_again(self, make_app: Callable[..., App]) -> None:
        """As often as told; who monitors its progress hears of each further try."""
        with self.program(make_app) as program:
            caller = program.callers[0]
            tries = Retries(2, backoff=0.0, on=("ConnectionError",))
            result = caller.options(retries=tries, monitor_progress=True).call("flaky", 2)
            assert result.result(self.patience) == 3
            again = [report for report in result.reports(self.patience) if report.failure is not None]
            assert [report.value[1].split(" in ")[0] for report in again] == ["attempt 2 of 3", "attempt 3 of 3"]
            assert [report.failure.message for report in again if report.failure] == ["attempt 1", "attempt 2"]
            failure = caller.options(retries=tries).call("flaky", 9).wait(self.patience).failure
            assert failure is not None
            assert (failure.code, failure.attempt) == (Code.RAISED, 3)
            assert failure.message == "attempt 3 (the last of 3 attempts)"
            for options in ({"retries": Retries(2, on=("KeyError",))}, {"retries": 2, "at_most_once": True}):
                failure = caller.options(**options).call("flaky", 1).wait(self.patience).failure
                assert failure is not None
                assert failure.message == "attempt 1"

    def test_a_task_that_pauses_before_its_next_try(self, make_app: Callable[..., App]) -> None:
        """It says so, and can be cancelled."""
        with self.program(make_app) as program:
            tries = Retries(1, backoff=FOREVER, most=FOREVER)
            result = program.callers[0].options(retries=tries, monitor_progress=True).call("flaky", 1)
            for report in result.reports(self.patience):
                if report.failure is not None:
                    break
            why = result.why()
            assert why.startswith("attempt 2 of 2 in ")
            assert why.endswith(" s after ConnectionError: attempt 1")
            assert result.cancel()
            assert result.cancelled()

    def test_what_waits_starts_by_its_priority(self, make_app: Callable[..., App]) -> None:
        """Those of high priority overtake those that came before."""
        with self.program(make_app) as program:
            caller = program.callers[0]
            program.busy(caller)
            low = [caller.call("step", number) for number in range(60)]
            high = [caller.options(priority=5).call("step", 100 + number) for number in range(4)]
            assert high[-1].why()  # whoever says so knows of all of them
            program.free.set()
            for _ in range(self.threads * len(program.nodes)):
                assert program.stepped.acquire(timeout=self.patience)
            for _ in range(len(low) // 2):  # one thread after the other takes its next task
                program.turn.release()
                assert program.stepped.acquire(timeout=self.patience)
            assert {100, 101, 102, 103} <= set(program.noted)
            program.turn.release(len(low))
            for result in (*low, *high):
                result.result(self.patience)

    def test_time_limits(self, make_app: Callable[..., App]) -> None:
        """A thread that does not end, one that looks, and a coroutine; the soft limit and the hard one."""
        with self.program(make_app) as program:
            caller = program.callers[0]
            hard, soft = {"time_limit": SHORT}, {"soft_time_limit": SHORT}
            tasks = [("hold", (1,), hard), ("look", (), soft), ("sleep", (), hard), ("sleep", (), soft)]
            results = [(caller.options(**limit).call(name, *args), limit) for name, args, limit in tasks]
            for result, limit in results:
                error = result.exception(self.patience)
                assert isinstance(error, TaskTimeout)
                assert f"it ran longer than its {next(iter(limit))} of 0.05 s" in str(error)
            program.free.set()
            assert caller.options(time_limit=FOREVER).call("add", 1).result(self.patience) == 11

    def test_a_task_that_runs_can_be_cancelled(self, make_app: Callable[..., App]) -> None:
        """A coroutine, and a thread that looks; one that does not look is done before it notices."""
        if not self.can_stop:
            raise unittest.SkipTest("nobody can be told to stop a task")
        with self.program(make_app) as program:
            caller = program.callers[0]
            for name in ("look", "sleep"):
                result = caller.call(name)
                assert program.began.acquire(timeout=self.patience)
                assert result.cancel(running=True)
                failure = result.wait(self.patience).failure
                assert failure is not None
                assert (failure.code, failure.message) == (Code.CANCELLED, "cancelled while it ran")
                assert result.cancelled()
            result = caller.call("hold", 7)
            assert program.began.acquire(timeout=self.patience)
            assert result.cancel(running=True)
            program.free.set()
            assert result.result(self.patience) == 7

    def test_a_held_task_that_is_to_be_stopped_never_starts(self, make_app: Callable[..., App]) -> None:
        """Wherever it waits, at its caller, on the way or at a node."""
        if not self.can_stop:
            raise unittest.SkipTest("nobody can be told to stop a task")
        with self.program(make_app) as program:
            caller = program.callers[0]
            busy = program.busy(caller)
            waiting = [caller.call("note", number) for number in range(10)]
            for result in waiting:
                assert result.cancel(running=True)
            for result in waiting:
                failure = result.wait(self.patience).failure
                assert failure is not None
                assert (failure.code, failure.message) == (Code.CANCELLED, "cancelled before it started")
            program.free.set()
            assert [result.result(self.patience) for result in busy] == list(range(len(busy)))
            assert program.noted == []

    def test_a_function_gets_more_workers(self, make_app: Callable[..., App]) -> None:
        """While it runs; so more of its tasks run at a time."""
        with self.program(make_app) as program:
            nodes = len(program.nodes)
            results = [program.callers[0].call("crowd", number) for number in range(10 * nodes)]
            for _ in range(nodes):
                assert program.began.acquire(timeout=self.patience)
            for allocation in program.allocations:
                allocation.resize(3)
            for _ in range(2 * nodes):
                assert program.began.acquire(timeout=self.patience)
            for allocation in program.allocations:
                allocation.resize(1)
            program.free.set()
            assert [result.result(self.patience) for result in results] == list(range(10 * nodes))

    def test_a_task_that_waits_can_be_cancelled(self, make_app: Callable[..., App]) -> None:
        """While all workers are busy, what was sent last has not started."""
        with self.program(make_app) as program:
            caller = program.callers[0]
            busy = program.busy(caller)
            last = caller.call("hold", -1)
            assert last.cancel()
            program.free.set()
            assert last.cancelled()
            assert isinstance(_error(last), TaskCancelled)
            assert [result.result(self.patience) for result in busy] == list(range(len(busy)))

    def test_final_reports_at_shutdown(self, make_app: Callable[..., App]) -> None:
        """What is open when a caller is closed ends with FAIL/SHUTDOWN; it calls no more."""
        with self.program(make_app) as program:
            caller = program.callers[0]
            running = caller.options(monitor_progress=True).call("hold", 1)
            assert program.began.acquire(timeout=self.patience)
            waiting = [caller.call("hold", 2) for _ in range(10)]
            caller.close(wait=False)
            for result in (running, *waiting):
                assert isinstance(result.exception(self.patience), TaskShutdown)
                assert [report.status for report in result.reports(self.patience)][-1] is Status.FAIL
            try:
                caller.call("add", 1)
            except Closed:
                pass
            else:
                raise AssertionError("a closed App took a task")
            program.free.set()
            for other in program.callers[1:]:
                assert other.call("add", 1).result(self.patience) == 11

    def test_a_clean_end_waits(self, make_app: Callable[..., App]) -> None:
        """`close` waits for what is open."""
        with self.program(make_app) as program:
            caller = program.callers[0]
            result = caller.call("hold", 1)
            assert program.began.acquire(timeout=self.patience)
            closing = threading.Thread(target=caller.close)
            closing.start()
            program.free.set()
            closing.join(self.patience)
            assert result.result(0) == 1

    def test_a_body_over_the_limit(self, make_app: Callable[..., App]) -> None:
        """It is refused where it is called, in modes that have bodies."""
        if not self.has_bodies:
            raise unittest.SkipTest("nothing is encoded in this mode")
        app = make_app(limit=100_000)
        app.register("size", len)
        try:
            app.call("size", bytes(200_000))
        except BodyTooLarge as exc:
            said = str(exc)
        else:
            raise AssertionError("it was sent")
        finally:
            app.close(wait=False)
        assert "over the body limit of 100,000" in said

    def test_a_name_is_registered_once(self, make_app: Callable[..., App]) -> None:
        """In every mode, whoever tries."""
        app = make_app()
        app.register("add", lambda: 1)
        try:
            app.register("add", lambda: 2)
        except UsageError:
            return
        finally:
            app.close(wait=False)
        raise AssertionError("a name was registered twice")


class _CountedByName:
    """Makes ids: "1", "2", "3" ... for each function."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))

    def new_id(self, name: str) -> str:
        """Return the next id for a task of a function."""
        return str(next(self._numbers[name]))


def _error(result: Any) -> BaseException | None:
    try:
        result.result(0)
    except BaseException as exc:
        return exc
    return None
