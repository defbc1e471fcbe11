"""Groups, chains, and results as arguments, on the threads of this process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dingo_zmq import App, Call, Code, Failure, GroupResult, Result, Status, chain, current_task, group
from dingo_zmq.errors import (
    ArgumentError,
    BodyTooLarge,
    Busy,
    Closed,
    EncodeError,
    TaskCancelled,
    TaskFailed,
    TaskShutdown,
    UnknownFunction,
    UsageError,
)
from dingo_zmq.flow.keeper import placed
from dingo_zmq.flow.later import later
from tests.support import wait_until

PATIENCE = 10.0


class Held:
    """A function that waits to be let go, and tells that it has begun."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.free = threading.Event()
        self.ran: list[int] = []

    def __call__(self, number: int = 0) -> int:
        self.ran.append(number)
        self.began.release()
        assert self.free.wait(PATIENCE)
        return number


@pytest.fixture
def app() -> Iterator[App]:
    app = App("local", threads=2)
    app.register("add", add)
    app.register("double", double)
    app.register("total", total)
    app.register("echo", lambda value: value)
    app.register("boom", boom)
    yield app
    app.close(wait=False)


@pytest.fixture
def held(app: App) -> Iterator[Held]:
    held = Held()
    app.register("held", held)
    yield held
    held.free.set()


def add(a: int, b: int = 5) -> int:
    return a + b


def double(a: int) -> int:
    return 2 * a


def total(values: list[int]) -> int:
    return sum(values)


def boom(a: int = 0) -> int:
    raise ValueError(f"no {a}")


def failure_of(result: Result[Any]) -> str:
    report = result.wait(PATIENCE)
    assert report.failure is not None
    return str(report.failure)


# ---- calls kept for later


def test_a_call_is_sent_as_often_as_one_likes(app: App) -> None:
    call = app.bind("add", 2, b=3)
    assert isinstance(call, Call)
    assert [call.call().result(PATIENCE) for _ in range(3)] == [5, 5, 5]
    assert app.bind("add", 3).call(2).result(PATIENCE) == 5
    assert asyncio.run(app.bind("add", 2).acall(1)) == 3
    assert repr(call) == "<call add(2, b=3)>"


def test_a_call_has_the_options_of_its_function(app: App) -> None:
    assert app.options(max_losses=7).bind("add", 1).options.max_losses == 7
    seen = app.options(monitor_progress=True).bind("add", 1).call().reports(PATIENCE)
    assert [report.status for report in seen] == [Status.SENT, Status.PROGRESS, Status.SUCCESS]


def test_what_a_call_needs_is_checked_when_it_is_sent(app: App) -> None:
    call = app.bind("add", "2")
    with pytest.raises(ArgumentError, match="parameter 'a': expected int, got str '2'"):
        call.call()
    with pytest.raises(UsageError, match="unfed"):
        call.unfed().call(1)
    with pytest.raises(UnknownFunction):
        app.bind("ad", 1)


# ---- results as arguments


def test_results_are_arguments_by_position_and_by_name(app: App) -> None:
    one, two = app.call("add", 1), app.call("add", 2)
    assert app.call("add", one, b=two).result(PATIENCE) == 13
    assert app.call("add", one, 1).result(PATIENCE) == 7
    assert app.call("add", one, one).result(PATIENCE) == 12
    assert asyncio.run(app.acall("add", one, two)) == 13
    assert list(app.map("add", [one, two, 3], [0, 0, 0])) == [6, 7, 3]


def test_a_parameter_that_takes_anything_gets_the_value_not_the_result(app: App) -> None:
    app.register("words", lambda *args, **kwargs: [args, kwargs])
    one = app.call("add", 1)
    assert app.call("echo", one).result(PATIENCE) == 6
    assert app.call("words", one, 2, word=one, more=3).result(PATIENCE) == [(6, 2), {"word": 6, "more": 3}]


def test_a_result_of_another_app_is_an_argument_too(app: App) -> None:
    with App("local", threads=1) as other:
        other.register("add", add)
        assert app.call("add", other.call("add", 1), 1).result(PATIENCE) == 7


def test_a_call_with_results_returns_at_once_and_tells_what_it_waits_for(app: App, held: Held) -> None:
    first = app.call("held", 3)
    assert held.began.acquire(timeout=PATIENCE)
    second = app.call("add", first, 1)
    third = app.call("add", 2, b=second)

    assert second.id == ""
    assert repr(second) == "<Result add pending>"
    assert second.why() == f"it waits for its argument 'a', {first.name}/{first.id}: it is running in this process"
    assert third.why().startswith(
        f"it waits for its argument 'b', add, which waits for held/{first.id}: it is run"
    )
    held.free.set()
    assert third.result(PATIENCE) == 6
    assert second.id.isdigit()
    assert second.why() == "done: success"


def test_reports_and_handlers_are_those_of_the_task(app: App, held: Held) -> None:
    @app.task
    def tell(a: int) -> tuple[str, int]:
        current_task().progress(0.5, "half")
        return current_task().id, a

    heard: list[Any] = []
    done = threading.Event()
    result: Result[Any] = app.options(monitor_progress=True).call("tell", app.call("held", 3))
    result.on_ok(lambda id, a: heard.extend([id, a]) or done.set())  # noqa: A006
    held.free.set()
    reports = list(result.reports(PATIENCE))

    assert done.wait(PATIENCE)
    assert heard == [result.id, 3]
    assert [report.status for report in reports] == [*[Status.SENT], *[Status.PROGRESS] * 2, Status.SUCCESS]
    assert reports[2].value == (0.5, "half")
    assert {report.id for report in reports} == {result.id}


def test_a_call_fails_as_its_argument_has(app: App) -> None:
    result = app.call("add", 1, b=app.call("boom", 7))

    with pytest.raises(TaskFailed, match="ValueError: argument 'b' of add failed: no 7") as caught:
        result.result(PATIENCE)
    assert caught.value.failure.type == "ValueError"  # type: ignore[attr-defined]
    assert "raise ValueError" in caught.value.failure.traceback  # type: ignore[attr-defined]


def test_one_failed_argument_is_enough(app: App, held: Held) -> None:
    result = app.call("add", app.call("held", 1), app.call("boom", 7))
    assert failure_of(result) == "ValueError: argument 'b' of add failed: no 7"
    assert not held.free.is_set()


def test_a_call_whose_argument_is_cancelled_is_cancelled(app: App, held: Held) -> None:
    running = [app.call("held", n) for n in (1, 2)]
    argument = app.call("add", 1)
    result = app.call("add", argument)
    assert argument.cancel()
    with pytest.raises(TaskCancelled, match="argument 'a' of add failed: cancelled before it started"):
        result.result(PATIENCE)
    assert result.cancelled()
    held.free.set()
    assert [each.result(PATIENCE) for each in running] == [1, 2]


def test_a_value_that_does_not_fit_is_seen_when_it_is_there(app: App) -> None:
    app.register("text", lambda: "five")
    result = app.call("add", app.call("text"), 1)
    assert failure_of(result) == "ArgumentError: add(), parameter 'a': expected int, got str 'five'"
    assert result.failure is not None
    assert result.failure.code is Code.DECODE


def test_a_call_that_does_not_bind_is_an_error_at_once(app: App) -> None:
    one = app.call("add", 1)
    for args, kwargs in (((one, 2, 3), {}), ((), {"b": one}), ((one,), {"c": 2})):
        with pytest.raises(ArgumentError):
            app.call("add", *args, **kwargs)


@pytest.mark.parametrize("wrap", [lambda r: [r], lambda r: (r,), lambda r: {"a": r}, lambda r: {r}])
def test_a_result_inside_a_container_is_an_error_that_says_what_to_do(app: App, wrap: Any) -> None:
    with pytest.raises(EncodeError, match=r"total\(\): a Result can be an argument itself.*hint: group"):
        app.call("total", wrap(app.call("add", 1)))


def test_a_waiting_call_can_be_cancelled(app: App, held: Held) -> None:
    first = app.call("held", 3)
    second = app.call("held", first)
    third = app.call("add", second)
    assert second.cancel()
    assert second.cancelled()
    with pytest.raises(TaskCancelled):
        third.result(PATIENCE)
    held.free.set()
    assert first.result(PATIENCE) == 3
    assert app.call("add", app.call("add", 1)).result(PATIENCE) == 11  # what was to be sent has been by now
    assert held.ran == [3]


def test_cancel_after_it_was_sent_is_that_of_the_task(app: App, held: Held) -> None:
    running = app.call("held", app.call("add", 1))
    assert held.began.acquire(timeout=PATIENCE)
    wait_until(lambda: running.id, "the call knows of its task")
    assert not running.cancel()
    assert running.why() == "it is running in this process"
    held.free.set()
    assert running.result(PATIENCE) == 6


def test_thousands_of_calls_in_a_row(app: App) -> None:
    result = app.call("add", 0, 0)
    for _ in range(3000):
        result = app.call("add", result, 1)
    assert result.why()
    assert result.result(PATIENCE) == 3000


def test_waiting_calls_are_bounded(held: Held, app: App) -> None:
    with App("local", threads=1, max_open=2) as small:
        small.register("add", add)
        first = app.call("held", 1)
        waiting = [small.call("add", first) for _ in range(2)]

        async def one_more() -> None:
            small.call("add", first)

        with pytest.raises(Busy, match="2 tasks are open"):
            asyncio.run(one_more())
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            third = pool.submit(small.call, "add", first)
            held.free.set()
            assert third.result(PATIENCE).result(PATIENCE) == 6
        assert [each.result(PATIENCE) for each in waiting] == [6, 6]


def test_whoever_waits_for_all_results_at_once_is_not_caught_between_locks(app: App) -> None:
    first = [app.call("add", n) for n in range(300)]
    second = [app.call("add", each, 1) for each in first]
    third = [app.call("add", each, 1) for each in second]
    ended, still = concurrent.futures.wait([*third, *second, *first], PATIENCE)
    assert not still
    assert [each.result(0) for each in third] == [n + 7 for n in range(300)]


def test_a_handler_may_wait_for_a_flow(app: App) -> None:
    seen: list[int] = []
    done = threading.Event()

    def use(value: int) -> None:
        seen.append(chain(app.bind("add", value), app.bind("add")).call().result(PATIENCE))
        seen.append(app.call("add", app.call("add", value)).result(PATIENCE))
        done.set()

    app.call("add", 0, 0).on_ok(use)
    assert done.wait(PATIENCE)
    assert seen == [10, 10]


# ---- groups


def test_a_group_gives_a_list_in_its_order(app: App) -> None:
    calls = [app.bind("add", n, n) for n in range(100)]
    result = group(calls).call()
    assert isinstance(result, GroupResult)
    assert result.result(PATIENCE) == [2 * n for n in range(100)]
    assert (result.completed, len(result.results), result.name) == (100, 100, "group")
    assert group(iter(calls)).call().result(PATIENCE) == [2 * n for n in range(100)]
    assert group([app.bind("add"), app.bind("add", 7)]).call(1).result(PATIENCE) == [6, 8]
    assert asyncio.run(group(calls[:2]).acall()) == [0, 2]


def test_a_group_counts_and_iterates_as_its_members_end(app: App, held: Held) -> None:
    result = group([app.bind("held", 1), app.bind("add", 2)]).call()
    ended = iter(result)

    assert next(ended).result(0) == 7
    assert result.completed == 1
    assert result.why() == "it waits for member 1 of 2 (held): it is running in this process"
    held.free.set()
    assert next(ended).result(0) == 1
    assert list(ended) == []
    assert result.result(PATIENCE) == [1, 7]


def test_a_loop_iterates_over_a_group_as_its_members_end(app: App, held: Held) -> None:
    async def values() -> list[int]:
        seen = []
        async for ended in group([app.bind("held", 1), app.bind("add", 2), app.bind("boom", 3)]).call():
            seen.append(ended.result(0) if ended.ok else -1)
            if len(seen) == 2:
                held.free.set()
        return seen

    first, second, last = asyncio.run(values())
    assert ({first, second}, last) == ({7, -1}, 1)


def test_a_group_fails_at_once_and_lets_the_others_go_on(app: App, held: Held) -> None:
    result = group([app.bind("held", 1), app.bind("boom", 2)]).call()
    assert failure_of(result) == "ValueError: member 2 of 2, boom: no 2"
    assert not held.free.is_set()
    held.free.set()
    assert result.results[0].result(PATIENCE) == 1


def test_a_group_cancels_the_others_where_it_is_told_to(app: App, held: Held) -> None:
    calls = [app.bind("held", 1), app.bind("boom", 2), app.bind("held", 3), app.bind("add", 4)]
    app.call("held", 0)  # with member 1 it keeps both workers busy; then `boom` fails at once
    free = App("local", threads=1)
    free.register("boom", boom)
    calls[1] = free.bind("boom", 2)
    result = group(calls, errors="cancel").call()

    assert failure_of(result) == "ValueError: member 2 of 4, boom: no 2"
    for member in result.results[2:]:
        with pytest.raises(TaskCancelled):
            member.result(PATIENCE)
    held.free.set()
    assert result.results[0].result(PATIENCE) == 1
    assert sorted(held.ran) == [0, 1]
    free.close()


def test_whoever_waits_for_a_group_goes_on_once_the_others_are_cancelled(
    app: App, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they might start yet, by what that does next."""
    cancelled: list[list[bool]] = []
    fails = GroupResult._fail

    def fail(result: GroupResult[object], failure: Failure) -> bool:
        cancelled.append([member.cancelled() for member in result.results[2:]])
        return fails(result, failure)

    monkeypatch.setattr(GroupResult, "_fail", fail)
    for number in (0, 1):
        app.call("held", number)
    free = App("local", threads=1)
    free.register("boom", boom)
    members = [free.bind("boom", 2), free.bind("boom", 3), app.bind("held", 3), app.bind("add", 4)]
    result = group(members, errors="cancel").call()
    assert result.wait(PATIENCE).fail
    assert cancelled[0] == [True, True]
    held.free.set()
    free.close()


def test_a_group_collects_errors_where_it_is_told_to(app: App) -> None:
    calls = [app.bind("boom", 1), app.bind("add", 2), app.bind("boom", 3)]
    first, second, third = group(calls, errors="collect").call().result(PATIENCE)
    assert (type(first), second, type(third)) == (TaskFailed, 7, TaskFailed)
    assert str(third) == "ValueError: no 3"


def test_a_group_of_which_one_cannot_be_sent_cancels_the_rest(app: App, held: Held) -> None:
    busy = [app.call("held", n) for n in (1, 2)]
    calls = [app.bind("held", 3), app.bind("add", "x")]
    with pytest.raises(ArgumentError, match="parameter 'a'"):
        group(calls).call()
    held.free.set()
    assert [each.result(PATIENCE) for each in busy] == [1, 2]
    app.close()
    assert sorted(held.ran) == [1, 2]


def test_a_group_can_be_cancelled(app: App, held: Held) -> None:
    busy = [app.call("held", n) for n in (1, 2)]
    result = group([app.bind("held", 3), app.bind("held", 4)]).call()
    assert result.cancel()
    with pytest.raises(TaskCancelled):
        result.result(0)
    assert [member.cancelled() for member in result.results] == [True, True]
    held.free.set()
    assert [each.result(PATIENCE) for each in busy] == [1, 2]


def test_what_is_no_group_is_an_error(app: App) -> None:
    call = app.bind("add", 1)
    for made, text in (
        (lambda: group([]), "a group needs at least one call"),
        (lambda: group(call), r"a group is made of a list of calls, such as group\(\["),
        (lambda: group([call, 5]), r"not 5; hint: add\.bind\(1, 2\) is a call"),  # type: ignore[list-item]
        (lambda: group([call.call()]), "a group is made of calls"),  # type: ignore[list-item]
        (lambda: group([call], errors="stop"), "errors must be one of raise, cancel, collect, not 'stop'"),
    ):
        with pytest.raises(UsageError, match=text):
            made()  # type: ignore[no-untyped-call]


# ---- chains


def test_a_chain_feeds_each_return_to_the_next(app: App) -> None:
    line = chain(app.bind("add", 2), app.bind("double"), app.bind("add", b=1))
    assert line.call().result(PATIENCE) == 15
    assert [line.call(n).result(PATIENCE) for n in (1, 2)] == [7, 9]
    assert repr(line) == "<chain add, double, add>"
    assert asyncio.run(line.acall()) == 15


def test_a_link_can_take_nothing(app: App) -> None:
    assert chain(app.bind("add", 2), app.bind("add", 1).unfed()).call().result(PATIENCE) == 6


def test_groups_in_chains_and_chains_in_groups(app: App) -> None:
    spread = group([app.bind("add", 1), app.bind("add", 2), app.bind("add", 7).unfed()])
    assert chain(app.bind("add", 5), spread, app.bind("total")).call().result(PATIENCE) == 11 + 12 + 12
    twice = chain(app.bind("add", 1), app.bind("double"))
    assert group([twice, chain(twice, twice)]).call(1).result(PATIENCE) == [4, 10]


def test_a_result_can_be_an_argument_of_a_link(app: App) -> None:
    assert chain(app.bind("add", 1), app.bind("add", app.call("add", 2))).call().result(PATIENCE) == 13


def test_long_chains_and_many_of_them(app: App) -> None:
    long = chain(app.bind("add", 0, 0), *[app.bind("add", 1)] * 2000)
    many = [chain(app.bind("add", n), app.bind("double")).call() for n in range(500)]
    assert long.call().result(PATIENCE) == 2000
    assert [each.result(PATIENCE) for each in many] == [2 * (n + 5) for n in range(500)]


def test_a_failure_deep_inside_tells_the_whole_way(app: App) -> None:
    result = chain(app.bind("add", 2), group([app.bind("add"), chain(app.bind("boom"))])).call()
    assert failure_of(result) == "ValueError: link 2 of 2, group: member 2 of 2, chain: link 1 of 1, boom: no 7"


def test_a_return_that_does_not_fit_the_next_link_fails_there(app: App) -> None:
    result = chain(app.bind("add", 1), app.bind("total"), app.bind("double")).call()
    expected = "ArgumentError: link 2 of 3, total: total(), parameter 'values': expected list[int], got int 6"
    assert failure_of(result) == expected


def test_the_first_link_is_checked_at_once(app: App, held: Held) -> None:
    line = chain(app.bind("add", "x"), app.bind("held"), on_error=app.bind("held").unfed())
    with pytest.raises(ArgumentError, match="parameter 'a'"):
        line.call()
    app.close()
    assert held.ran == []


def test_on_error_hears_of_the_failure_before_the_chain_ends(app: App, held: Held) -> None:
    told: list[str] = []
    app.register("clean", lambda text: told.append(text) or held(1))
    result = chain(app.bind("boom", 1), app.bind("add"), on_error=app.bind("clean")).call()

    assert held.began.acquire(timeout=PATIENCE)
    assert told == ["ValueError: link 1 of 2, boom: no 1"]
    wait_until(lambda: "it waits for clean" in result.why(), "the chain knows what it has sent")
    assert result.why() == "it waits for clean, since link 1 of 2 (boom) failed: it is running in this process"
    assert not result.done()
    held.free.set()
    assert failure_of(result) == "ValueError: link 1 of 2, boom: no 1"


def test_on_error_that_fails_is_logged_and_changes_nothing(app: App, caplog: pytest.LogCaptureFixture) -> None:
    app.register("far", boom)
    for clean in (app.bind("boom", 3).unfed(), app.bind("total")):
        with caplog.at_level(logging.WARNING, "dingo_zmq.flow"):
            assert failure_of(chain(app.bind("boom", 1), on_error=clean).call()).endswith(
                "link 1 of 1, boom: no 1"
            )
    raised, unsent = [record.getMessage() for record in caplog.records]
    assert raised.endswith("and its on_error failed: ValueError: no 3")
    assert "parameter 'values': expected list[int], got str" in unsent


def test_a_chain_tells_where_it_is(app: App, held: Held) -> None:
    result = chain(app.bind("add", 1), app.bind("held"), app.bind("add")).call()
    assert held.began.acquire(timeout=PATIENCE)
    wait_until(lambda: result.why().startswith("it waits"), "the chain knows of its link")
    assert result.why() == "it waits for link 2 of 3 (held): it is running in this process"
    with pytest.raises(TimeoutError, match=r"chain/\d+ is not done after 0 s: it waits for link 2 of 3"):
        result.result(0)
    held.free.set()
    assert result.result(PATIENCE) == 11


def test_a_cancelled_chain_sends_nothing_more(app: App, held: Held) -> None:
    ran: list[int] = []
    app.register("note", ran.append)
    result = chain(app.bind("held", 1), app.bind("note"), on_error=app.bind("note", 0).unfed()).call()
    assert held.began.acquire(timeout=PATIENCE)

    assert result.cancel()
    assert result.cancelled()
    held.free.set()
    app.close()
    assert ran == []


def test_cancelling_a_chain_cancels_its_open_link(app: App, held: Held) -> None:
    busy = [app.call("held", n) for n in (1, 2)]
    result = chain(group([app.bind("held", 3), app.bind("held", 4)]), app.bind("total")).call()
    assert result.cancel()
    held.free.set()
    assert [each.result(PATIENCE) for each in busy] == [1, 2]
    app.close()
    assert sorted(held.ran) == [1, 2]


def test_what_is_no_chain_is_an_error(app: App) -> None:
    call = app.bind("add", 1)
    with pytest.raises(UsageError, match="a chain needs at least one call"):
        chain()
    with pytest.raises(UsageError, match="a chain is made of calls, groups and chains, not 5; hint"):
        chain(call, 5)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="a chain is made of calls, groups and chains, not <class 'int'>"):
        chain(call, on_error=int)  # type: ignore[call-overload]


def test_a_link_that_could_not_take_what_it_is_fed_is_an_error_at_once(app: App) -> None:
    call, full = app.bind("add", 1), app.bind("add", 1, 2)
    for bad in (full, group([call, full]), chain(full, call), app.bind("add", a=1)):
        with pytest.raises(ArgumentError):
            chain(call, bad)
    with pytest.raises(ArgumentError):
        chain(call, on_error=full)
    assert chain(full, call, full.unfed()).call().result(PATIENCE) == 3


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (ArgumentError("add", "a", "int", "str 'x'"), Code.DECODE),
        (EncodeError("a value of type object cannot travel"), Code.ENCODE),
        (BodyTooLarge("over the limit"), Code.ENCODE),
        (Closed("this App is closed"), Code.SHUTDOWN),
        (OSError("broken"), Code.GENERIC),
    ],
)
def test_what_cannot_be_sent_fails_with_its_reason(app: App, exc: Exception, code: Code) -> None:
    def send(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result[Any]:
        raise exc

    function = app.registry["add"]
    result = later(app._flows, function, send, (app.call("add", 1),), {})
    failure = result.wait(PATIENCE).failure
    assert failure == Failure(code, str(exc), type(exc).__name__)


def test_a_place_is_told_even_where_there_is_no_message() -> None:
    assert str(placed("link 1 of 2, add", Failure(Code.UNKNOWN))) == "link 1 of 2, add: unknown"
    assert (
        str(placed("link 1 of 2, add", Failure(Code.RAISED, "", "ValueError"))) == "ValueError: link 1 of 2, add"
    )


# ---- the end of the App


def test_a_clean_end_waits_for_all_that_follows() -> None:
    with App("local", threads=1) as app:
        app.register("add", add)
        results: list[Result[Any]] = [
            chain(app.bind("add", 1), *[app.bind("add", 1)] * 20).call(),
            group([app.bind("add", 1), chain(app.bind("add", 1), app.bind("add"))]).call(),
            app.call("add", app.call("add", 1)),
        ]
    assert [each.result(0) for each in results] == [26, [6, 11], 11]


def test_an_early_end_settles_all_that_follows(app: App, held: Held) -> None:
    first = app.call("held", 1)
    assert held.began.acquire(timeout=PATIENCE)
    results: list[Result[Any]] = [
        chain(app.bind("held", 1), app.bind("add")).call(),
        chain(app.bind("add", first), group([app.bind("add")]), app.bind("total")).call(),
        group([app.bind("held", 1)]).call(),
        app.call("add", app.call("add", first)),
    ]
    heard: list[Any] = []
    for result in results:
        result.on_nok(heard.append)
    app.close(wait=False)

    for result in [first, *results]:
        with pytest.raises(TaskShutdown):
            result.result(0)
    assert [failure.code for failure in heard] == [Code.SHUTDOWN] * 4
    for send in (app.bind("add", first).call, group([app.bind("add", 1)]).call, chain(app.bind("add", 1)).call):
        with pytest.raises(Closed):
            send()


def test_a_link_of_an_app_that_is_closed_meanwhile_fails_there(app: App, held: Held) -> None:
    other = App("local", threads=1)
    other.register("add", add)
    result = chain(app.bind("held", 1), other.bind("add")).call()
    other.close()
    held.free.set()
    with pytest.raises(TaskShutdown, match="link 2 of 2, add: this App is closed"):
        result.result(PATIENCE)
