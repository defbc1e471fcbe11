"""Which task starts next."""

from __future__ import annotations

from dingo_zmq.protocol.intake import GONE, QUEUED, RUNNING, Function, Held, Link
from dingo_zmq.protocol.messages import TaskOptions
from dingo_zmq.protocol.starter import GONE_MOST, Bundle, Starter


class Bench:
    """A starter with one pool and two functions."""

    def __init__(self, slots: int = 2) -> None:
        self.functions = [Function(name, "shared", slots) for name in ("add", "mul")]
        self.link, self.other = (Link(b"1234567%d" % n, f"me{n}", self.functions, 0.0) for n in range(2))
        for lane in (*self.link.lanes.values(), *self.other.lanes.values()):
            lane.granted = 1000
        self.starter = Starter({"shared": slots})

    def add(
        self,
        number: int,
        name: str = "add",
        attempt: int = 1,
        options: TaskOptions | None = None,
        link: Link | None = None,
    ) -> Held:
        link = link or self.link
        mark = "" if link is self.link else "'"
        (held,), _ = link.accept([(name, number, f"{name}{number}{mark}", attempt, options, b"")], ())
        self.starter.add([held], 0.0)
        return held

    def many(self, number: int) -> list[Held]:
        return [self.add(n + 1) for n in range(number)]

    def takes(self, seconds: float) -> None:
        self.functions[0].run_time.finished(1, seconds)

    def start(self, now: float = 0.0) -> list[Bundle]:
        return self.starter.start(now)


def ids(bundles: list[Bundle]) -> list[list[str]]:
    return [[held.id for held in bundle.all] for bundle in bundles]


def test_one_by_one_while_nothing_is_known() -> None:
    bench = Bench(slots=2)
    bench.many(3)
    assert ids(bench.start()) == [["add1"], ["add2"]]
    assert bench.start() == []


def test_quick_ones_run_one_after_the_other() -> None:
    bench = Bench(slots=2)
    bench.takes(0.00001)
    bench.many(100)
    assert [len(bundle.all) for bundle in bench.start()] == [64, 36]


def test_a_bundle_is_a_millisecond_and_of_one_function() -> None:
    bench = Bench(slots=3)
    bench.takes(0.00009)
    bench.many(5)
    bench.add(1, "mul")
    bench.add(6)
    assert ids(bench.start()) == [["add1", "add2", "add3", "add4", "add5"], ["mul1"], ["add6"]]


def test_longer_ones_are_spread_over_the_workers() -> None:
    bench = Bench(slots=4)
    bench.takes(0.0003)
    bench.many(8)
    assert sum(len(bundle.all) for bundle in bench.start()) == 8
    assert len(bench.starter.active) == 4


def test_a_worker_that_is_done_is_free_once() -> None:
    bench = Bench(slots=1)
    bench.many(2)
    (bundle,) = bench.start()
    bundle.todo.clear()
    bench.starter.ended(bundle)
    bench.starter.ended(bundle)
    assert bench.starter.pools["shared"].free == 1
    assert ids(bench.start()) == [["add2"]]


def test_what_waits_behind_a_slow_one_goes_to_others() -> None:
    bench = Bench(slots=1)
    bench.takes(0.0001)
    bench.many(4)
    (bundle,) = bench.start(5.0)
    bundle.todo.popleft()  # the worker has it
    assert bench.starter.wakeup == 5.01
    bench.starter.reclaim(5.009)
    assert len(bundle.todo) == 3
    bench.starter.reclaim(bench.starter.wakeup)
    assert not bundle.todo
    assert bench.starter.wakeup is None
    ready = bench.starter.pools["shared"].ready
    assert [(held.id, held.state) for held in ready] == [(f"add{n}", QUEUED) for n in (2, 3, 4)]
    assert bench.link.running == 1


def test_who_has_asked_in_vain_is_in_nobodys_way() -> None:
    """A GO may be withheld for as long as another task runs: the free worker is for others meanwhile."""
    bench = Bench(slots=1)
    first, second, third = bench.add(1, attempt=2), bench.add(2, attempt=2), bench.add(1, "mul", attempt=2)
    asked = []
    for turn in range(5):
        bench.link.touched = now = turn * 1.1
        asked.append(bench.starter.claims(now))
        assert bench.starter.claims(now + 0.9) == []
    assert asked == [[first], [first, third], [first, second], [third], [first]]


def test_a_caller_that_is_silent_is_not_asked() -> None:
    bench = Bench(slots=1)
    silent, heard = bench.add(1, attempt=2), bench.add(1, attempt=2, link=bench.other)
    bench.link.touched, bench.other.touched = 10.0, 15.1
    assert bench.starter.claims(15.1) == [heard]
    bench.other.touched = bench.link.touched = 16.2
    assert bench.starter.claims(16.2) == [heard, silent]


def test_what_a_silent_caller_has_is_not_looked_at_one_by_one() -> None:
    """Else each task of the others would wait for a look at all of it."""
    bench = Bench(slots=1)
    for number in range(1, 100):
        bench.add(number, attempt=2)
    bench.link.touched, bench.other.touched = 0.0, 10.0
    assert list(bench.starter.pools["shared"].in_turn(10.0, ranked=False)) == []
    bench.link.touched = 10.0
    assert len(list(bench.starter.pools["shared"].in_turn(10.0, ranked=False))) == 99


def test_a_second_attempt_asks_first_and_then_is_next() -> None:
    bench = Bench(slots=1)
    asks = bench.add(1, attempt=2)
    once = bench.add(2, options=TaskOptions(at_most_once=True))
    bench.add(3)
    assert bench.starter.claims(0.0) == [asks]  # no more than there are workers
    assert bench.starter.claims(0.9) == []
    assert bench.starter.claims(1.1) == [asks, once]  # again, for it may be lost
    bench.starter.go(asks)
    bench.starter.go(asks)
    assert ids(bench.start(1.2)) == [["add1"]]
    assert asks.go
    assert bench.starter.claims(1.3) == []  # no worker is free
    assert once.state is QUEUED


def test_one_that_may_start_starts_alone() -> None:
    bench = Bench(slots=1)
    bench.takes(0.00001)
    held = bench.add(1, attempt=2)
    bench.many(0)
    bench.add(2)
    bench.starter.go(held)
    assert ids(bench.start()) == [["add1"]]


def test_a_task_held_no_more_is_passed_over() -> None:
    bench = Bench(slots=1)
    first, second = bench.add(1), bench.add(2, attempt=2)
    for held in (first, second):
        bench.starter.forget(held)
        bench.link.drop(held)
    bench.add(3)
    assert first.state is GONE
    assert bench.starter.claims(0.0) == []
    (bundle,) = bench.start()
    assert [held.state for held in bundle.all] == [RUNNING]
    assert ids([bundle]) == [["add3"]]


def in_turn(bench: Bench, number: int) -> list[str]:
    """One worker runs one after the other, and each is as long as was thought; return their ids."""
    order = []
    for _ in range(number):
        (bundle,) = bench.start()
        order += [held.id for held in bundle.all]
        bundle.todo.clear()
        bench.starter.ended(bundle)
    return order


def test_other_lanes_get_as_much_time_as_one_with_a_thousand_long_tasks() -> None:
    bench = Bench(slots=1)
    bench.takes(0.6)
    bench.functions[1].run_time.finished(1, 0.2)
    bench.many(1000)
    assert in_turn(bench, 3) == ["add1", "add2", "add3"]
    for number in range(1, 8):
        bench.add(number, "mul")
    bench.add(1, link=bench.other)
    order = ["mul1", "add1'", "mul2", "mul3", "mul4", "add4", "mul5", "mul6", "mul7", "add5", "add6", "add7"]
    assert in_turn(bench, 12) == order


def test_a_lane_saves_up_nothing_while_it_has_no_tasks() -> None:
    bench = Bench(slots=1)
    bench.takes(0.5)
    bench.many(100)
    in_turn(bench, 50)
    for number in range(1, 10):
        bench.add(number, link=bench.other)
    assert in_turn(bench, 6) == ["add1'", "add2'", "add51", "add52", "add3'", "add4'"]


def test_quick_ones_of_several_callers_share_a_bundle() -> None:
    bench = Bench(slots=1)
    bench.takes(0.00001)
    for number in (1, 2):
        bench.add(number)
        bench.add(number, link=bench.other)
    bench.add(1, "mul")
    assert ids(bench.start()) == [["add1", "add1'", "add2", "add2'"]]


def test_whose_turn_it_is_starts_nothing_that_is_held_no_more() -> None:
    bench = Bench(slots=1)
    bench.takes(0.5)
    bench.many(5)
    assert in_turn(bench, 2) == ["add1", "add2"]
    gone = bench.add(1, link=bench.other)
    bench.add(2, link=bench.other)
    bench.starter.forget(gone)
    bench.other.drop(gone)
    assert in_turn(bench, 2) == ["add2'", "add3"]
    assert gone.state is GONE


def test_short_tasks_are_taken_as_they_came() -> None:
    bench = Bench(slots=1)
    bench.takes(0.03)
    bench.many(3)
    bench.add(1, link=bench.other)
    assert in_turn(bench, 4) == ["add1", "add2", "add3", "add1'"]


def test_what_must_ask_does_so_lane_by_lane() -> None:
    bench = Bench(slots=3)
    tasks = [bench.add(number, attempt=2) for number in (1, 2, 3)]
    other = bench.add(1, attempt=2, link=bench.other)
    assert bench.starter.claims(0.0) == [tasks[0], other, tasks[1]]


def test_what_must_ask_lets_those_go_first_whose_turn_it_is() -> None:
    bench = Bench(slots=1)
    bench.takes(5.0)
    asks = [bench.add(number, attempt=2) for number in (1, 2)]
    assert bench.starter.claims(0.0) == asks[:1]
    bench.starter.go(asks[0])
    (bundle,) = bench.start()
    bench.add(1, "mul")
    bundle.todo.clear()
    bench.starter.ended(bundle)
    assert bench.starter.claims(0.1) == []
    assert bench.starter.passed
    assert in_turn(bench, 1) == ["mul1"]
    assert bench.starter.claims(0.1) == asks[1:]
    assert not bench.starter.passed


def test_what_is_held_no_more_does_not_pile_up() -> None:
    """One worker is busy for long; what waits behind it is taken back and sent again, a thousand times."""
    bench = Bench(slots=1)
    bench.add(1)
    bench.start()
    kept = [bench.add(2), bench.add(3, options=TaskOptions(priority=5))]
    pool = bench.starter.pools["shared"]
    for number in range(4, 1000):
        held = bench.add(number, options=TaskOptions(priority=number % 3))
        bench.starter.forget(held)
        bench.link.drop(held)
        assert sum(map(len, (pool.ready, *pool.ranks.values()))) <= len(kept) + GONE_MOST + 1
    pool.free = 1
    assert ids(bench.start()) == [["add3"]]
    pool.free = 1
    assert ids(bench.start()) == [["add2"]]
    pool.free = 1
    assert bench.start() == []
    assert pool.gone == 0
