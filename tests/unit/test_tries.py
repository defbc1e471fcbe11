"""Delays, expiries, retries and priorities at a caller: scripts, with the time in the second column."""

from __future__ import annotations

from typing import Any

import pytest

from dingo_zmq.model import Code, Failure, Options, Retries, Status
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.actions import Retried, Send, Settled
from dingo_zmq.protocol.caller import Caller
from dingo_zmq.protocol.ledger import Entry, Route, wire_options
from dingo_zmq.protocol.roster import Side
from dingo_zmq.protocol.terms import Agenda, Terms
from dingo_zmq.protocol.why import why

ME, NEXT = b"incarnat", b"nextlife"
PROGRESS, SUCCESS, FAIL = (int(status) for status in (Status.PROGRESS, Status.SUCCESS, Status.FAIL))


class Middle:
    """Dice that always fall in the middle."""

    def random(self) -> float:
        return 0.5

    def randbytes(self, n: int, /) -> bytes:
        return b"12345678"[:n]


class Play:
    """A caller of one node; what a FAIL says is the name of the exception's type."""

    def __init__(self) -> None:
        self.caller = Caller("me", "mesh", Middle(), lambda body, _: Failure(Code.RAISED, "no", body.decode()))
        self.names = 0

    def ready(self, now: float = 0.0, incarnation: bytes = ME, credit: int = 9) -> Play:
        self.caller.found("n1", now)
        for side in Side:
            self.caller.connected("n1", side, now)
        number = self.caller.peers["n1"].number
        functions: Any = {"add": (2, "", "", False)}
        hello = (
            self.token,
            number,
            "n1",
            incarnation,
            "n1",
            "mesh",
            [],
            2**20,
            functions,
            1,
            1000,
            {"add": credit},
        )
        self.caller.received(m.Welcome(*hello, False), (), now)
        self.did()
        return self

    @property
    def token(self) -> bytes:
        return self.caller.peers["n1"].token

    def did(self) -> list[Any]:
        """Return in short what is to be done: tasks sent (number, attempt, seconds left), ends, what is told."""
        done: list[Any] = []
        for action in self.caller.take():
            match action:
                case Send(message=m.Tasks(items=items)):
                    for _, number, id, attempt, options, _ in items:
                        done.append((id, number, attempt, round(options.expires, 3) if options else 0.0))
                case Send(message=m.Beat() | m.Hello() | m.Bye()):
                    pass
                case Send(message=message):
                    done.append((type(message).__name__.lower(), message.refs))
                case Settled(entries=entries):
                    done += [entry.failure.code if entry.failure else Status(entry.status) for entry in entries]
                case Retried(text=text, failure=failure):
                    done.append((text, failure.type if failure else None))
        return done

    def submit(self, now: float, **options: Any) -> Entry:
        chosen = Options(**options)
        self.names += 1
        route = Route("add", priority=chosen.priority)
        entry = Entry(route, f"t{self.names}", b"", (), chosen, wire_options(chosen), None)
        entry.terms = Terms(chosen) if chosen.on_terms else None
        self.caller.submit([entry], now)
        return entry

    def hear(self, message: m.Message, now: float) -> list[Any]:
        self.caller.received(message, (), now)
        return self.did()

    def report(self, number: int, status: int, now: float, body: bytes = b"") -> list[Any]:
        item = (number, "add", number, 1, status, body)
        return self.hear(m.Reports(self.token, {"add": (9, 1000)}, (0, 0), [item]), now)

    def recalled(self, number: int, reason: str, now: float) -> list[Any]:
        return self.hear(m.Recalled(self.token, {"add": [number]}, reason), now)

    def claim(self, number: int, now: float) -> list[Any]:
        return self.hear(m.Claim(self.token, {"add": [number]}), now)

    def tick(self, now: float) -> list[Any]:
        self.caller.tick(now)
        return self.did()


@pytest.fixture
def play() -> Play:
    return Play().ready()


def plain(raised: int = 2, **more: Any) -> Retries:
    return Retries(raised, jitter=0, **more)


# ---------------------------------------------------------------------- delay


def test_a_delayed_task_is_sent_when_its_time_has_come_and_asks_to_be_woken_then(play: Play) -> None:
    entry = play.submit(1.0, delay=0.07)
    assert play.did() == []
    assert play.caller.wakeup <= 1.07
    assert why(play.caller, entry, 1.02) == "it is not to start for another 0.1 s (delay)"
    assert play.tick(1.06) == []
    assert play.tick(1.07) == [("t1", 1, 1, 0.0)]


def test_without_any_node_it_still_wakes_up() -> None:
    lonely = Play()
    lonely.submit(1.0, expires=5.0)
    assert lonely.caller.wakeup == 6.0
    assert lonely.tick(6.0) == [Code.EXPIRED]
    assert lonely.caller.wakeup == float("inf")


def test_a_delayed_task_can_be_cancelled_and_is_settled_at_the_end(play: Play) -> None:
    first, second = play.submit(1.0, delay=5.0), play.submit(1.0, delay=5.0)
    assert play.caller.everything() == [first, second]
    assert play.caller.cancel(first, 2.0)
    assert play.did() == [Code.CANCELLED]
    play.caller.close(3.0)
    assert play.did() == [Code.SHUTDOWN]
    assert (play.caller.ledger.parked, play.caller.ledger.agenda.items) == ({}, [])


def test_a_delayed_task_takes_no_lone_one_its_place(play: Play) -> None:
    play.submit(1.0, delay=5.0)
    assert play.caller.express(Route("add"), 1.0) is not None


# ---------------------------------------------------------------------- expires


def test_the_seconds_left_travel_with_it(play: Play) -> None:
    play.submit(1.0, expires=3.0, delay=1.0)
    assert play.tick(2.5) == [("t1", 1, 1, 1.5)]


def test_what_a_node_holds_is_left_to_the_node(play: Play) -> None:
    play.submit(1.0, expires=1.0)
    play.did()
    assert play.tick(2.5) == []
    assert play.recalled(1, m.EXPIRED, 2.6) == [Code.EXPIRED]


def test_a_recall_that_says_expired_and_is_lost_heals_as_missing(play: Play) -> None:
    play.submit(1.0, expires=1.0)
    play.did()
    assert play.hear(m.Missing(play.token, {"add": [1]}), 2.5)[-1] == Code.EXPIRED


def test_given_back_in_time_it_is_sent_again_with_what_is_left(play: Play) -> None:
    play.submit(1.0, expires=2.0)
    play.did()
    assert play.recalled(1, m.GIVEN_BACK, 2.25) == [("t1", 2, 2, 0.75)]


def test_one_that_asks_too_late_gets_no_go(play: Play) -> None:
    play.submit(1.0, expires=1.0, at_most_once=True)
    play.did()
    assert play.claim(1, 2.5) == [("cancel", {"add": [1]}), Code.EXPIRED]


def test_one_that_has_its_go_does_not_expire_however_often_it_asks(play: Play) -> None:
    play.submit(1.0, expires=1.0, at_most_once=True)
    play.did()
    assert play.claim(1, 1.9) == [("go", {"add": [1]})]
    assert play.claim(1, 2.9) == [("go", {"add": [1]})]
    assert play.report(1, SUCCESS, 3.0) == [Status.SUCCESS]


def test_what_may_have_started_on_a_lost_node_does_not_expire(play: Play) -> None:
    entry = play.submit(1.0, expires=1.0)
    play.did()
    play.caller.refused("n1", 1.5)
    assert play.did() == []
    assert play.tick(2.5) == []
    assert not entry.settled
    play.ready(3.0, NEXT)
    assert entry.lane is not None
    assert entry.wire_options is None


def test_what_has_only_asked_on_a_lost_node_expires(play: Play) -> None:
    play.submit(1.0, expires=1.0, at_most_once=True)
    play.did()
    play.caller.refused("n1", 1.5)
    assert play.did() == []
    assert play.tick(2.0) == [Code.EXPIRED]


# ---------------------------------------------------------------------- retries


def test_a_function_that_raises_is_tried_again_with_longer_pauses(play: Play) -> None:
    entry = play.submit(1.0, retries=plain(2, backoff=0.5), monitor_progress=True)
    play.did()
    assert play.report(1, FAIL, 2.0, b"ValueError") == [
        ("attempt 2 of 3 in 0.5 s after ValueError: no", "ValueError")
    ]
    assert why(play.caller, entry, 2.2) == "attempt 2 of 3 in 0.3 s after ValueError: no"
    assert play.tick(2.4) == []
    assert play.tick(2.5) == [("t1", 2, 2, 0.0)]
    assert play.claim(2, 2.6) == [("go", {"add": [2]})]
    assert play.report(2, FAIL, 3.0, b"KeyError") == [("attempt 3 of 3 in 1.0 s after KeyError: no", "KeyError")]
    assert play.tick(4.0) == [("t1", 3, 3, 0.0)]
    assert play.report(3, FAIL, 5.0, b"OSError") == [Status.FAIL]
    assert (entry.terms.raised, play.caller.ledger.open) == (2, 0)  # type: ignore[union-attr]


def test_only_who_monitors_is_told(play: Play) -> None:
    play.submit(1.0, retries=plain(1, backoff=0.0))
    play.did()
    assert play.report(1, FAIL, 2.0, b"ValueError") == [("t1", 2, 2, 0.0)]


def test_the_same_report_twice_counts_once(play: Play) -> None:
    play.submit(1.0, retries=plain(1))
    play.did()
    play.report(1, FAIL, 2.0, b"ValueError")
    assert play.report(1, FAIL, 2.1, b"ValueError") == []
    assert play.caller.late == 1
    assert play.tick(3.0) == [("t1", 2, 2, 0.0)]


@pytest.mark.parametrize(
    ("kind", "again"), [(b"ValueError", True), (b"lib.errors.Busy", True), (b"KeyError", False), (b"Error", False)]
)
def test_only_after_what_is_named(play: Play, kind: bytes, again: bool) -> None:
    play.submit(1.0, retries=plain(1, backoff=0.0, on=["ValueError", "Busy"]))
    play.did()
    assert play.report(1, FAIL, 2.0, kind) == ([("t1", 2, 2, 0.0)] if again else [Status.FAIL])


def test_at_most_once_is_not_tried_again(play: Play) -> None:
    play.submit(1.0, retries=3, at_most_once=True)
    play.did()
    play.claim(1, 1.1)
    assert play.report(1, FAIL, 2.0, b"ValueError") == [Status.FAIL]


def test_between_tries_it_can_be_cancelled(play: Play) -> None:
    entry = play.submit(1.0, retries=1)
    play.did()
    play.report(1, PROGRESS, 1.5)
    play.report(1, FAIL, 2.0, b"ValueError")
    assert play.caller.cancel(entry, 2.1)
    assert play.did() == [Code.CANCELLED]


def test_a_failure_from_where_it_was_given_up_does_not_end_it(play: Play) -> None:
    """Its node was silent, the task waits for another; then the first one says that it has failed."""
    entry = play.submit(1.0, retries=plain(1))
    play.did()
    play.caller.disconnected("n1", Side.TASKS, 1.5)
    for tenth in range(16, 80):
        play.tick(tenth / 10)
    assert entry.lane is None
    assert play.report(1, FAIL, 8.0, b"ValueError") == []
    assert not entry.settled
    assert play.report(1, FAIL, 8.1, b"ValueError") == []  # published again, and counted once
    assert entry.terms.raised == 1  # type: ignore[union-attr]


def test_a_failure_of_an_earlier_try_on_the_same_lane_does_not_touch_the_present_one(play: Play) -> None:
    """Given up and sent to the same node again, which then tells of the first try, and once more."""
    entry = play.submit(1.0, retries=plain(2))
    play.did()
    assert play.hear(m.Missing(play.token, {"add": [1]}), 1.5) == [("t1", 2, 2, 0.0)]
    assert play.report(1, FAIL, 2.0, b"ValueError") == []
    assert play.report(1, FAIL, 2.1, b"ValueError") == []
    assert entry.terms.raised == 1  # type: ignore[union-attr]
    assert play.report(2, SUCCESS, 3.0) == [Status.SUCCESS]


def test_after_a_loss_it_is_sent_again_so_often_and_then_unknown(play: Play) -> None:
    play.submit(1.0, retries=Retries(lost=1, backoff=2.0, jitter=0), monitor_progress=True)
    play.did()
    play.caller.refused("n1", 2.0)
    assert play.did() == [("attempt 2 of 2 in 2.0 s after the loss of n1", None)]
    play.ready(2.5, NEXT)
    assert play.tick(4.0) == [("t1", 1, 2, 0.0)]
    play.claim(1, 4.1)
    play.caller.refused("n1", 4.2)
    assert play.did()[-1] == Code.UNKNOWN


def test_a_loss_before_it_may_have_started_counts_as_none(play: Play) -> None:
    entry = play.submit(1.0, retries=Retries(lost=0), at_most_once=True)
    play.did()
    play.caller.refused("n1", 2.0)
    assert play.did() == []
    assert not entry.settled


def test_refused_more_often_than_it_may_be_it_ends(play: Play) -> None:
    entry = play.submit(1.0, retries=Retries(refused=1, backoff=0.0))
    play.did()
    assert play.recalled(1, m.BUSY, 2.0) == [("t1", 2, 2, 0.0)]
    assert play.recalled(2, m.BUSY, 3.0)[-1] == Code.REFUSED
    assert entry.failure is not None
    assert entry.failure.message == "n1 refused it: busy (the last of 2 attempts)"


def test_what_is_given_back_because_we_asked_is_not_refused(play: Play) -> None:
    play.submit(1.0, retries=Retries(refused=0))
    play.did()
    assert play.recalled(1, m.GIVEN_BACK, 2.0) == [("t1", 2, 2, 0.0)]


def test_pauses_grow_up_to_the_longest_and_are_shortened_by_chance() -> None:
    retries = Retries(9, backoff=1.0, factor=3.0, most=10.0, jitter=0.5)
    assert [retries.pause(number, 0.0) for number in (1, 2, 3, 4, 9999)] == [1.0, 3.0, 9.0, 10.0, 10.0]
    assert retries.pause(1, 0.999) == pytest.approx(0.5, abs=0.001)


# ---------------------------------------------------------------------- priority


def test_higher_ones_are_sent_first_and_equals_in_their_order() -> None:
    play = Play()
    for priority in (0, -1, 5, 0, 5):
        play.submit(1.0, priority=priority)
    play.ready(2.0, credit=0)
    message = m.Credit(play.token, 0, {"add": (3, 1000)}, (0, 0), {}, False)
    assert [id for id, *_ in play.hear(message, 2.0)] == ["t3", "t5", "t1"]
    message = m.Credit(play.token, 0, {"add": (9, 1000)}, (0, 0), {}, False)
    assert [id for id, *_ in play.hear(message, 2.0)] == ["t4", "t2"]


# ---------------------------------------------------------------------- an agenda


def test_an_agenda_forgets_what_does_not_matter_any_more() -> None:
    alive = set(range(1000))
    agenda: Agenda[int] = Agenda(alive.__contains__)
    for number in range(1000):
        agenda.add(1000.0 + number, number)
    alive.clear()
    alive.add(1001)
    agenda.add(5.0, 1001)
    for number in range(2000, 3100):
        agenda.add(6.0, number)
    assert len(agenda.items) < 300
    assert agenda.due(7.0) == [1001]
    assert agenda.due(1e9) == []
    assert agenda.wakeup == float("inf")


# ---------------------------------------------------------------------- with what ends tasks for other causes


def test_what_is_to_be_stopped_is_tried_no_more(play: Play) -> None:
    entry = play.submit(1.0, retries=plain(2))
    play.did()
    play.caller.stop(entry, 1.5)
    assert play.did() == [("cancel", {"add": [1]})]
    assert play.report(1, FAIL, 2.0, b"ValueError") == [Status.FAIL]


def test_what_is_given_back_since_it_is_to_be_stopped_was_not_refused(play: Play) -> None:
    entry = play.submit(1.0, retries=plain(2, refused=1))
    play.did()
    play.caller.stop(entry, 1.5)
    play.did()
    assert play.recalled(1, m.CANCELLED, 2.0)[-1] == Code.CANCELLED
    assert play.caller.ledger.open == 0
    assert not play.caller.ledger.parked


def test_a_node_that_ends_for_the_limit_of_another_task_counts_as_lost_here(play: Play) -> None:
    play.submit(1.0, retries=plain(0, lost=0))
    play.submit(1.0, retries=plain(0, lost=1, backoff=3.0), expires=2.0)
    play.did()
    recalled = m.Recalled(play.token, {"add": [1, 2]}, m.RESTARTING)
    assert play.hear(recalled, 1.5)[-1] == Code.UNKNOWN
    assert play.tick(4.4) == []
    assert play.tick(4.5) == [("t2", 3, 2, 0.0)]  # it may have started, and so does not expire any more
