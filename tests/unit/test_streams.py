"""Streams: how far they may be ahead, and what callers and nodes make of their values, as scripts."""

from __future__ import annotations

from typing import Any

import pytest

from dingo_zmq.model import Code, Options, Status
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.caller import Caller, Send, Settled, Told
from dingo_zmq.protocol.ledger import Entry, Route, wire_options
from dingo_zmq.protocol.node import Interrupt, Node, Publish, Resume, Start
from dingo_zmq.protocol.streams import WINDOW, WINDOW_BYTES, Reading, Window
from tests.unit.test_caller import Play
from tests.unit.test_node import LINK, beat, hello, node

PARTIAL, SUCCESS, FAIL = int(Status.PARTIAL), int(Status.SUCCESS), int(Status.FAIL)
HALF = WINDOW // 2
STREAM = m.TaskOptions(stream=True)


# ---------------------------------------------------------------------- how far


def test_a_window_is_full_by_number_and_opens_as_values_are_taken() -> None:
    window = Window()
    for _ in range(WINDOW):
        assert not window.full
        window.put(10)
    assert window.full
    window.take(1)
    assert not window.full
    window.put(10)
    window.take(1)  # told once more
    assert window.full
    window.take(10**9)  # by whoever tells nonsense
    assert not window.full


def test_a_window_is_full_by_bytes_once_it_holds_too_many() -> None:
    window = Window()
    window.put(WINDOW_BYTES - 1)
    assert not window.full
    window.put(5 * WINDOW_BYTES)
    assert window.full
    window.take(1)
    assert window.full
    window.take(2)
    assert not window.full


def test_a_reader_tells_at_half_a_window() -> None:
    reading = Reading()
    for _ in range(WINDOW):
        assert reading.came("n1", 1)
    told = []
    for _ in range(WINDOW):
        if reading.took(1) and reading.due("n1"):
            told.append(reading.tell("n1"))
    assert told == [HALF, WINDOW]


def test_a_reader_tells_of_large_values_at_once() -> None:
    reading = Reading()
    for _ in range(3):
        reading.came("n1", WINDOW_BYTES // 2)
    assert reading.took(WINDOW_BYTES // 2)
    assert reading.tell("n1") == 1
    assert not reading.due("n1")


def test_values_that_come_once_more_are_passed_over_which_counts_as_taken() -> None:
    reading = Reading()
    assert [reading.came("n1", 1) for _ in range(40)] == [True] * 40
    for _ in range(40):
        reading.took(1)
    assert reading.tell("n1") == 40
    assert [reading.came("n2", 1) for _ in range(HALF - 1)] == [False] * (HALF - 1)
    assert not reading.due("n2")
    reading.came("n2", 1)
    assert reading.due("n2")
    assert reading.tell("n2") == HALF
    assert [reading.came("n2", 1) for _ in range(10)] == [False] * 8 + [True] * 2
    assert reading.came("n1", 1) is False  # the 41st of the first, who is late
    assert (reading.had, reading.taken) == (42, 40)


# ---------------------------------------------------------------------- at the caller


class Reader(Play):
    """A caller with one stream open at n1."""

    def __init__(self) -> None:
        super().__init__()
        self.ready("n1")
        options = Options(max_losses=3)
        wired = wire_options(options, stream=True)
        self.entry = Entry(Route("add"), "t1", b"body", (), options, wired, None)
        self.reading = Reading()
        self.caller.stream(self.entry, self.reading, 1.0)
        assert self.sent() == [("tasks", 1, STREAM)]

    def sent(self) -> list[Any]:
        found: list[Any] = []
        for action in self.caller.take():
            match action:
                case Send(message=m.Tasks() as tasks):
                    found += [("tasks", item[1], item[4]) for item in tasks.items]
                case Send(message=m.Taken() as taken):
                    found.append(("taken", taken.heard, taken.taken))
                case Send(message=m.Beat() as sent):
                    found.append(("beat", sent.taken))
                case Told(status=status, body=body):
                    found.append(("told", status, body))
                case Settled(entries=entries):
                    found.append(("settled", entries[0].status, entries[0].failure and entries[0].failure.code))
        return found

    def hears(
        self, *items: tuple[int, int, bytes], number: int = 1, key: str = "n1", now: float = 1.1
    ) -> list[Any]:
        """Hear reports: number, status, body."""
        told: list[Any] = [(report, "add", number, 1, status, body) for report, status, body in items]
        self.caller.received(m.Reports(self.token(key), {"add": (4, 0)}, (0, 0), told), (), now)
        return self.sent()


def test_values_are_told_in_order_and_once() -> None:
    play = Reader()
    assert play.hears((1, PARTIAL, b"a"), (2, PARTIAL, b"b")) == [("told", PARTIAL, b"a"), ("told", PARTIAL, b"b")]
    assert play.hears((2, PARTIAL, b"b"), (1, PARTIAL, b"a")) == []
    assert play.hears((3, SUCCESS, b"")) == [("settled", SUCCESS, None)]
    assert not play.caller.streams


def test_what_comes_after_a_gap_waits_for_what_was_before() -> None:
    play = Reader()
    assert play.hears((2, PARTIAL, b"b"), (4, SUCCESS, b"")) == []
    assert play.hears((2, PARTIAL, b"b")) == []
    assert play.hears((1, PARTIAL, b"a")) == [("told", PARTIAL, b"a"), ("told", PARTIAL, b"b")]
    assert play.hears((3, PARTIAL, b"c")) == [("told", PARTIAL, b"c"), ("settled", SUCCESS, None)]
    assert (play.caller.peers["n1"].heard.total, play.caller.peers["n1"].early) == (4, {})


def test_values_that_follow_in_one_message_do_not_overtake_those_that_wait() -> None:
    play = Reader()
    play.hears((2, PARTIAL, b"b"))
    came = play.hears((1, PARTIAL, b"a"), (3, PARTIAL, b"c"), (4, SUCCESS, b""))
    assert came == [*[("told", PARTIAL, body) for body in (b"a", b"b", b"c")], ("settled", SUCCESS, None)]


def test_a_gap_of_somebody_else_keeps_them_waiting_too() -> None:
    play = Reader()
    assert play.hears((2, PARTIAL, b"a")) == []
    assert play.hears((1, SUCCESS, b""), number=7) == [("told", PARTIAL, b"a")]


def test_a_failure_does_not_overtake_values_either() -> None:
    play = Reader()
    assert play.hears((2, FAIL, b"")) == []
    assert play.hears((1, PARTIAL, b"a")) == [("told", PARTIAL, b"a"), ("settled", FAIL, None)]


def test_what_waits_is_forgotten_with_its_link() -> None:
    play = Reader()
    play.hears((2, PARTIAL, b"b"))
    play.caller.refused("n1", 1.4)
    play.welcome("n1", 1.5)
    play.did()
    assert play.hears((1, PARTIAL, b"a"), now=1.6) == [("told", PARTIAL, b"a")]


def test_how_far_the_reader_is_goes_out_at_half_a_window_and_in_each_beat() -> None:
    play = Reader()
    play.hears(*[(n, PARTIAL, b"x") for n in range(1, WINDOW + 1)])
    for _ in range(HALF - 1):
        play.reading.took(1)
    play.caller.took(play.entry, 1.2)
    assert play.sent() == []
    play.reading.took(1)
    play.caller.took(play.entry, 1.2)
    assert play.sent() == [("taken", WINDOW, {"add": [(1, HALF)]})]
    play.reading.took(1)
    play.caller.tick(2.5)
    assert play.sent() == [("beat", {"add": [(1, HALF + 1)]})]


def test_a_stream_that_is_sent_again_goes_on_where_it_was() -> None:
    play = Reader()
    play.hears((1, PARTIAL, b"a"), (2, PARTIAL, b"b"))
    play.connect("n2", 1.2)
    play.welcome("n2", 1.3)
    play.did()
    play.caller.refused("n1", 1.4)
    assert play.sent() == [("tasks", 1, STREAM)]
    assert play.entry.attempt == 2
    again = [(n, PARTIAL, body) for n, body in enumerate((b"a", b"b", b"c"), 1)]
    assert play.hears(*again, key="n2", now=1.5) == [("told", PARTIAL, b"c")]


def test_whoever_begins_anew_hears_of_values_passed_over() -> None:
    play = Reader()
    play.hears(*[(n, PARTIAL, b"x") for n in range(1, WINDOW + 1)])
    for _ in range(WINDOW):
        play.reading.took(1)
    play.connect("n2", 1.2)
    play.welcome("n2", 1.3)
    play.caller.refused("n1", 1.4)
    play.sent()
    again = play.hears(*[(n, PARTIAL, b"x") for n in range(1, HALF + 1)], key="n2", now=1.5)
    assert again == [("taken", HALF, {"add": [(1, HALF)]})]


def test_the_trial_of_a_stream_is_over_with_its_first_value() -> None:
    play = Reader()
    other = Entry(Route("add"), "t2", b"body", (), Options(), wire_options(Options(), stream=True), None)
    play.caller.stream(other, Reading(), 1.0)
    play.entry.losses = other.losses = 1
    play.entry.attempt = other.attempt = 2
    play.sent()

    def claims(number: int, now: float) -> list[Any]:
        play.caller.received(m.Claim(play.token(), {"add": [number]}), (), now)
        return [a.message.refs for a in play.caller.take() if isinstance(a, Send) and isinstance(a.message, m.Go)]

    assert claims(1, 1.1) == [{"add": [1]}]
    assert claims(2, 1.2) == []
    play.hears((1, PARTIAL, b"a"))
    assert claims(2, 1.3) == [{"add": [2]}]


def test_values_of_a_task_that_is_settled_are_late() -> None:
    play = Reader()
    play.caller.cancel(play.entry, 1.2)
    assert play.sent() == [("settled", FAIL, Code.CANCELLED)]
    assert play.hears((1, PARTIAL, b"a")) == []
    assert (play.caller.late, play.caller.peers["n1"].heard.total) == (1, 1)


def test_a_stream_ends_with_its_caller() -> None:
    play = Reader()
    caller: Caller = play.caller
    caller.close(2.0)
    assert ("settled", FAIL, Code.SHUTDOWN) in play.sent()
    assert not caller.streams


# ---------------------------------------------------------------------- at the node


def streaming() -> tuple[Node, Any]:
    """Return a node that runs a stream, and the task."""
    machine = node()
    machine.received(hello(), (), 0.0)
    machine.received(m.Tasks(LINK, "me", 0, {}, [("add", 1, "t1", 1, STREAM, b"")]), (), 0.1)
    start = next(action for action in machine.take() if isinstance(action, Start))
    return machine, start.bundle.all[0]


def published(machine: Node) -> list[Any]:
    return [
        [(item[0], item[2], item[4], item[5]) for item in action.message.items]
        for action in machine.take()
        if isinstance(action, Publish) and isinstance(action.message, m.Reports)
    ]


def test_values_are_numbered_kept_and_published_again() -> None:
    machine, held = streaming()
    machine.yielded(held, b"a", (), 0.2)
    machine.yielded(held, b"b", (), 0.2)
    machine.flush(0.2)
    assert published(machine) == [[(1, 1, PARTIAL, b"a"), (2, 1, PARTIAL, b"b")]]
    machine.received(beat(1, 0, number=2), (), 1.0)
    machine.received(beat(1, 1, {"add": [1]}, number=3, heard=1), (), 2.0)
    assert published(machine) == [[(2, 1, PARTIAL, b"b")]]
    assert machine.links[LINK].partial == 1
    machine.received(m.Taken(LINK, 2, {}), (), 2.1)
    assert (machine.links[LINK].partial, machine.links[LINK].kept) == (0, {})


def test_values_eat_no_credit() -> None:
    machine, held = streaming()
    link = machine.links[LINK]
    before = link.credit(link.lanes["add"], 0.2)
    for _ in range(WINDOW):
        machine.yielded(held, b"a", (), 0.2)
    assert link.credit(link.lanes["add"], 0.2) == before


def test_whoever_runs_a_stream_hears_how_far_its_reader_is() -> None:
    machine, held = streaming()
    machine.received(m.Taken(LINK, 0, {"add": [(1, 32), (7, 1)], "mul": [(1, 1)]}), (), 0.3)
    resumed = [(action.held, action.taken) for action in machine.take() if isinstance(action, Resume)]
    assert resumed == [(held, 32)]
    message = beat(1, 1, {"add": [1]})
    message.taken = {"add": [(1, 33)]}
    machine.received(message, (), 1.0)
    assert [action.taken for action in machine.take() if isinstance(action, Resume)] == [33]


def test_a_task_that_is_gone_is_missing_though_values_of_it_are_kept() -> None:
    machine, held = streaming()
    machine.yielded(held, b"a", (), 0.2)
    machine.flush(0.2)
    held.link.drop(held)
    machine.take()
    machine.received(beat(1, 1, {"add": [1]}), (), 1.0)
    missing = [
        a.message.refs for a in machine.take() if isinstance(a, Publish) and isinstance(a.message, m.Missing)
    ]
    assert missing == [{"add": [1]}]


@pytest.mark.parametrize("cancelled", [True, False])
def test_nothing_is_kept_of_what_nobody_wants(cancelled: bool) -> None:
    machine, held = streaming()
    machine.received(m.Cancel(LINK, {"add": [1]}) if cancelled else m.Bye(LINK), (), 0.2)
    assert [action.held for action in machine.take() if isinstance(action, Interrupt)] == [held]
    machine.yielded(held, b"a", (), 0.3)
    machine.flush(0.3)
    assert published(machine) == []
