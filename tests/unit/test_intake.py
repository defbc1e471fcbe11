"""What a node remembers of one caller."""

from __future__ import annotations

from dingo_zmq.model import Status
from dingo_zmq.protocol.intake import NEVER, RUNNING, Function, Held, Link
from dingo_zmq.protocol.messages import BUSY, UNKNOWN_FUNCTION, TaskItem, TaskOptions

SUCCESS, FAIL = int(Status.SUCCESS), int(Status.FAIL)


def item(number: int, attempt: int = 1, options: TaskOptions | None = None, name: str = "add") -> TaskItem:
    return (name, number, f"t{number}", attempt, options, b"body")


def link(granted: int = 10) -> Link:
    made = Link(b"12345678", "me", [Function("add", "shared", 2)], 0.0)
    made.lanes["add"].granted = granted
    return made


def take(made: Link, *numbers: int) -> list[Held]:
    taken, refused = made.accept([item(number) for number in numbers], ())
    assert not refused
    return taken


def finish(made: Link, held: Held, status: int = SUCCESS) -> None:
    held.state = RUNNING
    made.running += 1
    made.answer(held, status, b"done", ())


def test_a_repeat_is_dropped() -> None:
    made = link()
    assert [held.number for held in take(made, 1, 2, 2, 1)] == [1, 2]
    assert take(made, 1, 2) == []
    assert made.lanes["add"].function.held == 2


def test_what_is_late_is_dropped_for_it_was_declared_missing() -> None:
    made = link()
    assert [held.number for held in take(made, 3, 1)] == [3]
    made.lanes["add"].seen = 8  # a BEAT said so
    assert take(made, 7, 8) == []
    assert len(take(made, 9)) == 1


def test_what_is_over_the_credit_goes_back() -> None:
    taken, refused = link(granted=2).accept([item(1), item(2), item(3), item(1, name="mul")], ())
    assert [held.number for held in taken] == [1, 2]
    assert refused == {BUSY: {"add": [3]}, UNKNOWN_FUNCTION: {"mul": [1]}}


def test_answers_are_kept_until_they_are_heard() -> None:
    made = link()
    for held in take(made, 1, 2, 3):
        finish(made, held)
    assert list(made.kept) == [1, 2, 3]
    assert len(made.pending) == 3
    assert made.running == made.lanes["add"].function.held == 0
    made.heard(2)
    made.heard(1)
    assert list(made.kept) == [3]


def test_credit_is_a_total_that_never_goes_down() -> None:
    made = link(granted=0)
    lane = made.lanes["add"]
    assert made.credit(lane, 0.0) == 2
    held = take(made, 1, 2)
    assert made.credit(lane, 1.0) == 2
    finish(made, held[0])
    assert made.credit(lane, 2.0) == 3
    for number in range(100):
        made.kept[number] = made.kept.get(1)  # type: ignore[assignment]
    assert made.credit(lane, 3.0) == 3


def test_a_beat_shows_what_is_missing_and_what_was_given_up() -> None:
    made = link()
    held = take(made, 1, 2, 5, 6)
    finish(made, held[0])
    missing, left = made.lost_and_left({"add": (6, 5, 0)}, {"add": [1, 3, 4, 5], "mul": [1]})
    assert missing == {"add": [3, 4], "mul": [1]}
    assert [held.number for held in left] == [2]  # 6 is not covered, 1 is kept, 5 is listed


def test_what_fails_because_it_was_cancelled_is_not_told() -> None:
    made = link()
    stopped, finished = take(made, 1, 2)
    stopped.cancelled = finished.cancelled = True
    finish(made, stopped, FAIL)
    finish(made, finished, SUCCESS)
    assert [answer.id for answer in made.kept.values()] == ["t2"]
    assert made.lanes["add"].held == {}


def test_answers_published_before_the_previous_beat_are_stale() -> None:
    made = link()
    for held, at in zip(take(made, 1, 2, 3), (NEVER, 1.0, 2.5), strict=True):
        finish(made, held)
        made.kept[held.number].at = at
    made.previous_beat = 2.0
    assert [answer.id for answer in made.stale_answers()] == ["t1", "t2"]


def test_a_dead_link_holds_and_keeps_nothing() -> None:
    made = link()
    function = made.lanes["add"].function
    held = take(made, 1, 2)
    finish(made, held[0])
    assert made.bury() == [held[1]]
    finish(made, held[1])
    assert not made.kept
    assert not made.pending
    assert function.lanes == []
    assert function.held == 0


def test_who_asks_shares_the_allowance() -> None:
    function = Function("add", "shared", 4)
    first, second = (Link(bytes([n] * 8), f"c{n}", [function], 0.0) for n in (1, 2))
    assert function.allowance(0.0) == 4
    first.lanes["add"].wants_until = second.lanes["add"].wants_until = 1.5
    assert function.allowance(1.0) == 2
    assert function.allowance(2.0) == 4
