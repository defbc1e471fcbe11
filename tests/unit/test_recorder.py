"""What a caller with a journal has recorded, as scripts without sockets or files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

import pytest

from dingo_zmq.journal import End, Hold
from dingo_zmq.mesh.recorder import BEHIND_SECONDS, Recorder
from dingo_zmq.model import Code, Options
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.caller import Caller, Send, Settled
from dingo_zmq.protocol.ledger import Entry, Route
from dingo_zmq.protocol.roster import Side


class Page:
    """A journal that writes when it is told to."""

    def __init__(self) -> None:
        self.trouble = "full"
        self.holds: list[Hold] = []
        self.waiting: list[Callable[[], object]] = []

    def note(
        self, *, holds: Iterable[Hold] = (), ends: Iterable[End] = (), then: Callable[[], object] | None = None
    ) -> None:
        self.holds += holds
        if then is not None:
            self.waiting.append(then)

    def write(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class Stage:
    """A caller with a journal that knows one node."""

    def __init__(self) -> None:
        self.caller, self.page = Caller("me", "mesh", Random(1), life=1), Page()
        self.recorder = Recorder(self.caller, self.page, lambda: None)  # type: ignore[arg-type]
        self.caller.found("n1", 0.0)
        for side in Side:
            self.caller.connected("n1", side, 0.0)
        self.peer = self.caller.peers["n1"]
        node = ("id-n1", b"incarnat", "n1", "mesh", [], 2**20, {"add": (2, "", "", False)})
        self.caller.received(m.Welcome(self.peer.token, 1, *node, 1, 1, {"add": 4}, False), (), 0.0)
        self.caller.take()

    def submit(self, record: int, now: float, **options: object) -> Entry:
        entry = Entry(Route("add"), str(record), b"", (), Options(**options), None, None)  # type: ignore[arg-type]
        entry.record = record
        self.caller.submit([entry], now)
        return entry

    def sends(self) -> list[Send]:
        """Return what leaves of what is to be sent; the rest waits."""
        sends = [action for action in self.caller.take() if isinstance(action, Send)]
        return [send for send in sends if not self.recorder.must_wait(send)]

    def beat(self, now: float, left: Iterable[Send] = ()) -> list[str]:
        """Let time pass, and the node answer; return the kinds of what leaves, `left` included."""
        self.caller.tick(now)
        left = [*left, *self.recorder.look(now), *self.sends()]
        for send in left:
            if isinstance(send.message, m.Beat):
                credit = m.Credit(self.peer.token, send.message.number, {"add": (4, 0)}, (0, 0), {}, False)
                self.caller.received(credit, (), now)
        self.recorder.flush(now)
        return [type(send.message).__name__ for send in left]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_what_never_left_is_recorded_as_nowhere(stage: Stage) -> None:
    """Else the next life would wait for a node that never had it, and count a try that never was."""
    caller, page, recorder, peer = stage.caller, stage.page, stage.recorder, stage.peer
    stage.submit(7, 0.0)
    (send,) = [action for action in caller.take() if isinstance(action, Send)]

    assert recorder.must_wait(send)
    recorder.flush(0.0)
    page.write()
    assert recorder.take(0.1)[0] == [send]
    recorder.unsent(caller.unsent(send, 0.1))
    recorder.flush(0.1)

    before, after = page.holds
    assert (before.record, before.base, before.number, before.attempt) == (7, peer.token, 1, 1)
    assert (after.record, after.base, after.number, after.attempt) == (7, b"", 0, 0)


def test_a_journal_that_cannot_be_written_keeps_tasks_back_and_nothing_else(stage: Stage) -> None:
    caller, page, recorder = stage.caller, stage.page, stage.recorder
    entries = [stage.submit(7, 0.0), stage.submit(8, 0.0)]
    assert stage.sends() == []
    recorder.flush(0.0)
    assert recorder.wakeup == BEHIND_SECONDS
    seen = [kind for step in range(1, 40) for kind in stage.beat(step * 1.0)]
    assert set(seen) == {"Beat"}
    assert len(seen) > 25
    assert caller.peers["n1"].usable(39.0)
    assert [entry.lane for entry in entries] == [None, None]
    assert recorder.why(entries[0]) == "the journal cannot be written: full; nothing is sent until it is"
    assert [hold.base for hold in page.holds][-2:] == [b"", b""]

    page.write()
    sends, _ = recorder.take(39.0)
    assert sends == []
    assert stage.sends() == []  # they wait to be recorded as sent
    recorder.flush(39.0)
    page.write()
    (send,) = recorder.take(39.1)[0]
    assert [item[2] for item in send.message.items] == ["7", "8"]
    assert recorder.why(entries[0]) == ""


@pytest.mark.parametrize("seconds", [0.4, 0.9, 1.3])
def test_a_journal_that_is_always_slow_lets_tasks_out(stage: Stage, seconds: float) -> None:
    page, recorder, written = stage.page, stage.recorder, 0.0
    at_work: list[Callable[[], object]] = []
    for step in range(200):
        if step % 50 == 0:
            stage.submit(7 + step, step / 10)
        if step / 10 >= written + seconds:
            written = step / 10
            for then in at_work:
                then()
            at_work, page.waiting = page.waiting, []
        sends = recorder.take(step / 10)[0] if recorder.pending else []
        kinds = stage.beat(step / 10, sends)
        if "Tasks" in kinds:
            return
    pytest.fail("no task has left")


def test_what_asks_to_start_gets_no_answer_while_that_cannot_be_recorded(stage: Stage) -> None:
    caller, page, recorder, peer = stage.caller, stage.page, stage.recorder, stage.peer
    entry = stage.submit(7, 0.0, at_most_once=True)
    stage.sends()
    recorder.flush(0.0)
    page.write()
    recorder.take(0.0)
    claim = m.Claim(peer.token, {"add": [1]})
    caller.received(claim, (), 0.1)
    assert stage.sends() == []
    recorder.flush(0.1)
    assert "Go" not in stage.beat(1.5)
    caller.received(claim, (), 1.6)
    assert stage.sends() == []
    page.write()
    recorder.take(1.7)
    caller.received(claim, (), 1.8)
    assert stage.sends() == []
    recorder.flush(1.8)
    page.write()
    (send,) = recorder.take(1.9)[0]
    assert send.message == m.Go(peer.token, {"add": [1]})
    assert entry.started


def test_what_is_heard_is_ordered_to_be_recorded_once(stage: Stage) -> None:
    """A journal that cannot be written must not be told the same again in each round."""
    caller, page, recorder, peer = stage.caller, stage.page, stage.recorder, stage.peer

    def hears(report: int) -> None:
        caller.received(m.Reports(peer.token, {}, (0, 0), [(report, "add", 9, "9", 4, b"")]), (), 0.1)

    hears(1)
    for step in range(100):
        recorder.flush(0.1 + step)
    assert len(page.waiting) == 1
    page.write()
    recorder.take(101.0)
    assert peer.heard.told == 1
    hears(2)
    recorder.flush(101.0)
    assert len(page.waiting) == 1


def test_what_was_not_recorded_at_the_end_is_settled_as_left_open(stage: Stage) -> None:
    caller, page, recorder, peer = stage.caller, stage.page, stage.recorder, stage.peer
    entry = stage.submit(7, 0.0)
    stage.sends()
    recorder.flush(0.0)
    page.write()
    recorder.take(0.0)
    caller.received(m.Reports(peer.token, {}, (0, 0), [(1, "add", 1, "7", 3, b"done")]), (), 0.1)
    (settled,) = [action for action in caller.take() if isinstance(action, Settled)]
    assert recorder.settled(settled) is None
    recorder.flush(0.1)
    assert recorder.unfinished() == [entry]
    (left,) = recorder.give_up()
    assert left.entries == [entry]
    assert entry.failure is not None
    assert (entry.failure.code, entry.body) == (Code.SHUTDOWN, b"")
