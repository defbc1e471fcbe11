"""The record of every task not yet settled."""

from __future__ import annotations

from dingo_zmq.model import Code, Options
from dingo_zmq.protocol.ledger import Entry, Lane, Ledger, Route, wire_options
from dingo_zmq.protocol.messages import TaskOptions

ADD = Route("add")


def entry(id: str = "1", **options: int) -> Entry:
    chosen = Options(**options)
    return Entry(ADD, id, b"body", (), chosen, wire_options(chosen), None)


def lane(key: str = "n1") -> Lane:
    return Lane(key, "add", 2, "", "")


def sent(ledger: Ledger, task: Entry, to: Lane) -> None:
    """Take the oldest task out of the queue, and send it."""
    queue = ledger.queues[ADD]
    assert queue.popleft() is task
    if not queue:
        del ledger.queues[ADD]
    to.sent += 1
    ledger.held(task, to, to.sent)


def test_only_what_a_node_must_know_travels() -> None:
    assert wire_options(Options(max_losses=5)) is None
    assert wire_options(Options(at_most_once=True)) == TaskOptions(at_most_once=True)
    assert wire_options(Options(monitor_progress=True)) == TaskOptions(monitor_progress=True)


def test_a_task_from_call_to_end() -> None:
    ledger, there, task = Ledger(), lane(), entry()
    ledger.add([task, entry("2")])
    assert (ledger.open, ledger.wanted(bool)) == (2, {"add": 2})
    sent(ledger, task, there)
    assert (task.lane, task.number, task.attempt) == (there, 1, 1)
    assert there.open == {1: task}
    assert ledger.settle(task) is there
    assert (ledger.open, there.open, task.settled) == (1, {}, True)


def test_a_queue_with_nothing_in_it_is_gone() -> None:
    ledger, task = Ledger(), entry()
    ledger.add([task])
    assert ledger.settle(task) is None
    assert (ledger.open, ledger.queues) == (0, {})


def test_what_was_given_up_is_known_by_its_old_number_until_it_is_settled() -> None:
    ledger, first, second, task = Ledger(), lane("n1"), lane("n2"), entry()
    ledger.add([task])
    sent(ledger, task, first)
    ledger.unhold(task)
    ledger.requeue([task])
    sent(ledger, task, second)
    assert task.attempt == 2
    assert (first.open, first.strays, task.strays) == ({}, {1: task}, [(first, 1)])
    ledger.settle(task)
    assert (first.strays, second.open) == ({}, {})


def test_what_never_left_was_not_sent() -> None:
    ledger, there, task = Ledger(), lane(), entry()
    ledger.add([task])
    sent(ledger, task, there)
    ledger.unsend(task)
    ledger.requeue([task])
    assert (task.attempt, there.open, there.strays) == (0, {}, {})
    assert there.sent == 1  # its number is never used again


def test_put_back_in_order_before_those_that_wait() -> None:
    ledger = Ledger()
    old, waiting = [entry("1"), entry("2")], entry("3")
    ledger.add([waiting])
    ledger.requeue(old)
    assert list(ledger.queues[ADD]) == [*old, waiting]


def test_losses() -> None:
    ledger = Ledger()
    plain, once = entry(max_losses=2), entry(at_most_once=True)
    assert ledger.lost(plain, proved=True) is None  # it had not started
    assert ledger.lost(once, proved=True) is None
    plain.started = once.started = True
    assert ledger.lost(plain, proved=False) is None
    assert plain.losses == 0
    assert ledger.lost(plain, proved=True) is None
    assert plain.losses == 1
    poison, unknown = ledger.lost(plain, proved=True), ledger.lost(once, proved=False)
    assert poison is not None
    assert poison.code is Code.POISON
    assert unknown is not None
    assert unknown.code is Code.UNKNOWN


def test_a_lane_believes_the_highest_credit_and_the_last_run_time() -> None:
    there = lane()
    there.told(5, 2_000_000, 1.0)
    there.told(3, 0, 2.0)
    assert (there.limit, there.run_time, there.told_at) == (5, 0.002, 1.0)


def test_everything_is_what_waits_and_what_is_held() -> None:
    ledger, there, held, waiting = Ledger(), lane(), entry("1"), entry("2")
    ledger.add([held, waiting])
    sent(ledger, held, there)
    assert set(ledger.everything([there])) == {held, waiting}


def test_a_function_may_forbid_a_second_start() -> None:
    task = entry()
    task.forbid_twice()
    assert task.options.at_most_once
    assert task.wire_options == TaskOptions(at_most_once=True)
