"""What a caller makes of what nodes say and connections do: scripts, with the time in the first column."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dingo_zmq.events import EventCode, Level
from dingo_zmq.model import Code, Options, Status
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.caller import Caller, Drop, Note, Reached, Send, Settled, Told
from dingo_zmq.protocol.ledger import Entry, Route, wire_options
from dingo_zmq.protocol.roster import Side, Stage

ME, NEXT = b"incarnat", b"nextlife"
SENT, PROGRESS, SUCCESS, FAIL = (int(s) for s in (Status.SENT, Status.PROGRESS, Status.SUCCESS, Status.FAIL))

MARKS = {Level.DEBUG: "- ", Level.INFO: "", Level.WARNING: "! "}


class Steady:
    """Dice that always fall in the middle: a BEAT each second."""

    def __init__(self) -> None:
        self._bytes = Random(1)

    def random(self) -> float:
        return 0.5

    def randbytes(self, n: int, /) -> bytes:
        return self._bytes.randbytes(n)


class Play:
    """A caller, and a hand for everybody it deals with."""

    def __init__(self) -> None:
        self.caller = Caller("me", "mesh", Steady())
        self._notes: list[str] = []
        self._codes: list[EventCode] = []
        self._again: list[tuple[str, str, Level, list[str]]] = []

    def did(self) -> list[Any]:
        """Return in short what is to be done."""
        return [short for action in self.caller.take() if (short := self._brief(action)) is not None]

    def noted(self) -> list[str]:
        """Return what was to be logged since this was last asked, warnings and details with a mark."""
        self.did()
        notes, self._notes = self._notes, []
        return notes

    def again(self) -> list[tuple[str, str, Level, list[str]]]:
        """Return what was said of tasks to be sent again since this was last asked: node, why, level, ids."""
        self.did()
        again, self._again = self._again, []
        return again

    def codes(self) -> list[EventCode]:
        """Return the codes of all that was to be logged so far."""
        self.did()
        return self._codes

    def _brief(self, action: Any) -> Any:
        match action:
            case Send(key=key, message=m.Hello() as hello):
                short: Any = ("hello", key, hello.number)
            case Send(key=key, message=m.Tasks() as tasks):
                short = ("tasks", key, *[(item[1], item[3]) for item in tasks.items])
            case Send(key=key, message=m.Beat() as beat):
                short = ("beat", key, beat.heard, beat.open)
            case Send(key=key, message=m.Bye()):
                short = ("bye", key)
            case Send(key=key, message=message):
                short = (type(message).__name__.lower(), key, message.refs)
            case Settled(entries=entries):
                short = ("settled", *[entry.failure.code if entry.failure else entry.status for entry in entries])
            case Told(status=status):
                short = ("told", status)
            case Drop() | Reached():
                dropped = [action.key] if isinstance(action, Drop) else action.doubles
                short = ("drop", *dropped) if dropped else None
            case Note():
                self._take_note(action)
                short = None
        return short

    def _take_note(self, note: Note) -> None:
        if note.code is EventCode.REDELIVERED:
            self._again.append((note.node, note.text, note.level, [entry.id for entry in note.entries]))
        else:
            self._notes.append(f"{MARKS[note.level]}{note.node}: {note.text}")
            self._codes.append(note.code)

    def connect(self, key: str, now: float) -> None:
        self.caller.found(key, now)
        for side in Side:
            self.caller.connected(key, side, now)

    def token(self, key: str = "n1") -> bytes:
        return self.caller.peers[key].token

    def welcome(
        self,
        key: str,
        now: float,
        *,
        credit: int = 4,
        incarnation: bytes = ME,
        echo: int | None = None,
        node: str = "",
        name: str = "",
        tags: tuple[str, ...] = (),
        draining: bool = False,
        via: tuple[str, ...] = (),
    ) -> list[Any]:
        message = m.Welcome(
            link=self.token(key),
            echo=self.caller.peers[key].number if echo is None else echo,
            node=node or key,
            incarnation=incarnation,
            name=name or key,
            mesh="mesh",
            tags=list(tags),
            limit=2**20,
            functions={"add": (2, "", "", False)},
            version=m.VERSION,
            pace=1000,
            credit={"add": credit},
            draining=draining,
            via=list(via),
        )
        return self.hear(message, now)

    def hear(self, message: m.Message, now: float) -> list[Any]:
        self.caller.received(message, (), now)
        return self.did()

    def report(
        self, number: int, status: int, now: float, *, kept: int = 0, key: str = "n1", credit: int = 4
    ) -> list[Any]:
        item = (kept, "add", number, 1, status, b"")
        return self.hear(m.Reports(self.token(key), {"add": (credit, 1000)}, (0, 0), [item]), now)

    def echo(self, now: float, key: str = "n1", **running: list[int]) -> list[Any]:
        """A node answers the newest BEAT."""
        number = self.caller.peers[key].number
        return self.hear(m.Credit(self.token(key), number, {"add": (4, 1000)}, (0, 0), running, False), now)

    def ready(self, *keys: str, credit: int = 4) -> Play:
        """Make nodes that are READY, at time 0."""
        for key in keys or ("n1",):
            self.connect(key, 0.0)
            self.welcome(key, 0.0, credit=credit)
        self.did()
        return self

    def submit(self, number: int, now: float, **options: Any) -> list[Entry]:
        chosen = Options(**options)
        route = Route("add", node=chosen.node, needs=chosen.needs)
        entries = [Entry(route, f"t{n}", b"", (), chosen, wire_options(chosen), None) for n in range(number)]
        self.caller.submit(entries, now)
        return entries

    def tick(self, now: float) -> list[Any]:
        self.caller.tick(now)
        return self.did()

    def ticks(self, begin: float, end: float) -> list[Any]:
        """Let time pass; return what is done, without the BEATs."""
        done: list[Any] = []
        for tenth in range(round(begin * 10), round(end * 10) + 1):
            done += [short for short in self.tick(tenth / 10) if short[0] != "beat"]
        return done


def test_hello_goes_out_when_both_connections_are_up_and_again_until_welcome() -> None:
    play = Play()
    play.caller.found("n1", 0.0)
    play.caller.connected("n1", Side.TASKS, 0.0)
    assert play.did() == []
    play.caller.connected("n1", Side.REPORTS, 1.0)
    assert play.did() == [("hello", "n1", 1)]
    assert [play.tick(now) for now in (1.05, 1.11, 1.2, 1.32)] == [
        [],
        [("hello", "n1", 2)],
        [],
        [("hello", "n1", 3)],
    ]
    assert play.welcome("n1", 1.4) == []
    assert play.tick(2.3) == []
    assert play.tick(2.41) == [("beat", "n1", 0, {})]


def test_a_welcome_to_what_was_said_before_a_break_proves_nothing() -> None:
    play = Play()
    play.connect("n1", 0.0)
    assert play.did() == [("hello", "n1", 1)]
    play.caller.disconnected("n1", Side.REPORTS, 0.1)
    play.caller.connected("n1", Side.REPORTS, 0.2)
    play.submit(1, 0.2)
    assert play.did() == [("hello", "n1", 2)]
    assert play.welcome("n1", 0.3, echo=1) == []
    assert play.welcome("n1", 0.4, echo=2) == [("tasks", "n1", (1, 1))]


def test_after_a_break_all_that_is_open_is_asked_for() -> None:
    play = Play().ready()
    play.submit(1, 0.0)
    play.did()
    assert play.tick(1.3) == [("beat", "n1", 0, {})]
    play.submit(1, 1.4)
    play.did()
    for side in Side:
        play.caller.disconnected("n1", side, 1.5)
    for side in Side:
        play.caller.connected("n1", side, 1.6)
    assert play.did() == [("beat", "n1", 0, {"add": [1, 2]})]


def test_a_task_waits_for_credit() -> None:
    play = Play()
    play.submit(3, 0.0)
    assert play.did() == []
    play.connect("n1", 1.0)
    play.did()
    assert play.welcome("n1", 1.1, credit=2) == [("tasks", "n1", (1, 1), (2, 1))]
    assert play.caller.ledger.wanted(bool) == {"add": 1}
    assert play.report(1, SUCCESS, 1.2, kept=1, credit=3) == [("settled", SUCCESS), ("tasks", "n1", (3, 1))]


def test_the_first_final_report_settles_and_a_repeat_is_late() -> None:
    play = Play().ready()
    play.submit(1, 0.0)
    play.did()
    assert play.report(1, SUCCESS, 0.1, kept=1) == [("settled", SUCCESS)]
    assert play.report(1, FAIL, 0.2, kept=2) == []
    assert play.caller.late == 1
    assert play.caller.ledger.open == 0
    assert play.caller.peers["n1"].heard.total == 2


def test_reports_are_told_in_order() -> None:
    play = Play().ready()
    play.submit(1, 0.0, monitor_progress=True)
    play.did()
    assert play.report(1, SENT, 0.1) == [("told", SENT)]
    assert play.report(1, PROGRESS, 0.2) == [("told", PROGRESS)]
    assert play.report(1, SENT, 0.3) == []  # overtaken on its way
    assert play.report(1, PROGRESS, 0.4) == [("told", PROGRESS)]


def test_what_is_told_of_an_earlier_try_on_the_same_lane_is_not_of_this_one() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0, monitor_progress=True, at_most_once=True)
    play.did()
    assert play.hear(m.Recalled(play.token(), {"add": [1]}, "no hand is free"), 0.1) == [("tasks", "n1", (2, 2))]
    assert play.report(1, PROGRESS, 0.2) == []  # overtaken on its way
    assert not entry.started
    assert play.report(2, PROGRESS, 0.3) == [("told", PROGRESS)]


def test_missing_and_recalled_put_a_task_back_without_a_loss() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    play.did()
    assert play.hear(m.Missing(play.token(), {"add": [1]}), 1.0) == [("tasks", "n1", (2, 2))]
    assert play.hear(m.Missing(play.token(), {"add": [1]}), 1.0) == []
    assert play.hear(m.Recalled(play.token(), {"add": [2]}, m.GIVEN_BACK), 2.0) == [("tasks", "n1", (3, 3))]
    assert (entry.losses, entry.recalls) == (0, 1)


def test_a_draining_node_gets_nothing_even_where_it_was_found_again() -> None:
    play = Play().ready()
    play.submit(1, 0.0)
    play.did()
    play.caller.found("n1", 0.5)
    assert play.hear(m.Recalled(play.token(), {"add": [1]}, m.DRAINING), 1.0) == []
    assert play.caller.ledger.wanted(bool) == {"add": 1}


def test_a_late_answer_of_a_node_that_was_given_up_counts_and_the_other_is_stopped() -> None:
    play = Play().ready("n1", "n2")
    (entry,) = play.submit(1, 0.0)
    ((_, first, _),) = play.did()
    other = "n2" if first == "n1" else "n1"
    play.caller.disconnected(first, Side.REPORTS, 0.1)
    for now in range(1, 6):
        play.tick(float(now))
        play.echo(now + 0.01, other)
    done = play.tick(5.2) + play.tick(5.3)
    assert ("tasks", other, (1, 2)) in done
    assert entry.losses == 0
    assert play.report(1, SUCCESS, 6.0, kept=1, key=first) == [
        ("cancel", other, {"add": [1]}),
        ("settled", SUCCESS),
    ]


def test_silence_is_loss_after_half_a_minute_or_five_seconds_after_a_break() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    play.did()
    assert play.ticks(0.1, 30.0) == []
    assert entry.lane is not None
    play.ticks(30.1, 30.1)
    assert entry.lane is None
    broken = Play().ready()
    (entry,) = broken.submit(1, 0.0)
    broken.caller.disconnected("n1", Side.TASKS, 0.0)
    broken.ticks(0.1, 5.0)
    assert entry.lane is not None
    broken.ticks(5.1, 5.1)
    assert entry.lane is None


def test_who_was_asleep_itself_waits_before_it_judges() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    play.caller.disconnected("n1", Side.TASKS, 0.0)
    play.caller.connected("n1", Side.TASKS, 59.0)
    play.tick(60.0)
    assert entry.lane is not None
    play.ticks(60.1, 63.9)
    assert entry.lane is not None
    play.ticks(64.0, 64.2)
    assert entry.lane is None


def test_after_a_break_a_beat_goes_first_and_tasks_wait_for_its_echo() -> None:
    play = Play().ready()
    play.submit(1, 0.0)
    play.did()
    play.caller.disconnected("n1", Side.TASKS, 0.2)
    play.submit(1, 0.3)
    play.caller.connected("n1", Side.TASKS, 0.4)
    assert play.did() == [("beat", "n1", 0, {"add": [1]})]  # also what is younger than the BEAT before
    assert play.tick(0.5) == []
    assert play.echo(0.6) == [("tasks", "n1", (2, 1))]


def test_what_the_socket_refuses_was_never_sent() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    (send,) = play.caller.take()
    assert isinstance(send, Send)
    assert play.caller.unsent(send, 0.1) == [entry]
    assert play.caller.unsent(send, 0.1) == []
    assert (entry.attempt, entry.lane) == (0, None)
    assert play.tick(1.0) == [("beat", "n1", 0, {})]
    assert play.echo(1.1) == [("tasks", "n1", (2, 1))]


def test_what_the_socket_refuses_may_be_for_a_function_that_is_gone() -> None:
    """With a journal a message waits before it is sent."""
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    (send,) = play.caller.take()
    assert isinstance(send, Send)
    play.hear(m.Recalled(play.token(), {"add": [1]}, m.UNKNOWN_FUNCTION), 0.1)
    assert play.caller.unsent(send, 0.2) == []
    assert entry.lane is None


def test_go_means_it_may_have_started() -> None:
    for begun, code in ((True, Code.UNKNOWN), (False, None)):
        play = Play().ready()
        (entry,) = play.submit(1, 0.0, at_most_once=True)
        play.did()
        if begun:
            assert play.hear(m.Claim(play.token(), {"add": [1]}), 0.1) == [("go", "n1", {"add": [1]})]
        play.caller.refused("n1", 1.0)
        assert (entry.failure.code if entry.failure else None) is code


def test_one_suspect_at_a_time_and_a_go_that_was_lost_is_given_again() -> None:
    play = Play().ready()
    first, second = play.submit(2, 0.0)
    play.did()
    first.losses = second.losses = 1
    both = m.Claim(play.token(), {"add": [1, 2]})
    assert play.hear(both, 0.1) == [("go", "n1", {"add": [1]})]
    assert play.hear(both, 1.1) == [("go", "n1", {"add": [1]})]
    second.started = True  # as where the losses were counted after both had their GO
    assert play.hear(both, 2.1) == [("go", "n1", {"add": [1, 2]})]


def test_a_killer_is_poison_after_three_deaths_that_count() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    for life in range(3):
        play.echo(life + 0.1, add=[life + 1] if life == 0 else [1])
        assert entry.started
        play.caller.refused("n1", life + 0.2)
        assert entry.losses == life + 1
        play.did()
        play.welcome("n1", life + 0.3, incarnation=bytes([life] * 8))
    assert entry.failure is not None
    assert entry.failure.code is Code.POISON


def test_silence_counts_only_once_another_incarnation_shows() -> None:
    for incarnation, losses in ((NEXT, 1), (ME, 0)):
        play = Play().ready()
        (entry,) = play.submit(1, 0.0)
        play.echo(0.1, add=[1])
        for side in Side:
            play.caller.disconnected("n1", side, 0.2)
        play.ticks(0.3, 6.0)
        assert (entry.lane, entry.losses) == (None, 0)
        for side in Side:
            play.caller.connected("n1", side, 6.1)
        play.hear(m.Refused(play.token(), m.REFUSED_UNKNOWN, "", [1]), 6.2)
        play.welcome("n1", 6.3, incarnation=incarnation)
        assert entry.losses == losses


def test_one_death_counts_once_for_a_task_that_was_there_twice() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    play.echo(0.1, add=[1])
    play.caller.disconnected("n1", Side.REPORTS, 0.2)
    play.ticks(0.3, 5.4)  # given up, in silence
    play.caller.connected("n1", Side.REPORTS, 5.5)
    play.echo(5.6)
    assert (entry.number, entry.attempt) == (2, 2)
    play.hear(m.Claim(play.token(), {"add": [2]}), 5.7)
    play.caller.refused("n1", 6.0)
    play.welcome("n1", 6.1, incarnation=NEXT)
    assert entry.losses == 1


def test_a_restart_is_somebody_else() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    play.did()
    before = play.token()
    play.echo(0.1, add=[1])
    play.caller.peers["n1"].sent_at[99] = 0.5
    assert play.welcome("n1", 0.6, incarnation=NEXT, echo=99) == [("hello", "n1", 2)]
    assert play.token() != before
    assert (entry.lane, entry.losses) == (None, 1)
    assert play.welcome("n1", 0.7, incarnation=NEXT) == [("tasks", "n1", (1, 2))]
    play.caller.received(m.Reports(before, {}, (0, 0), [(1, "add", 1, 1, FAIL, b"")]), (), 0.8)
    assert play.did() == []  # no token of that life counts any more


def test_a_good_bye_is_a_hint_and_a_node_gone_for_good_is_dropped() -> None:
    play = Play().ready()
    play.caller.gone("n1", 0.1)
    play.submit(1, 0.2)
    assert play.did() == []
    play.tick(1.0)
    assert play.echo(1.1) == [("tasks", "n1", (1, 1))]  # it says itself that it is not draining
    for side in Side:
        play.caller.disconnected("n1", side, 2.0)
    assert ("drop", "n1") in play.ticks(2.1, 8.0)
    assert play.caller.peers == {}
    assert play.caller.ledger.wanted(bool) == {"add": 1}


def test_a_token_that_the_node_has_buried_is_not_offered_again() -> None:
    play = Play()
    play.connect("n1", 0.0)
    play.did()
    before = play.token()
    assert play.hear(m.Refused(before, m.REFUSED_UNKNOWN, "", [1]), 0.1) == [("hello", "n1", 2)]
    assert play.token() != before


def test_tasks_of_a_node_that_refuses_us_for_good_are_sent_elsewhere() -> None:
    """No node of ours does that while it has tasks; one that does must not make them vanish."""
    play = Play().ready("n1", "n2", credit=1)
    entries = play.submit(2, 0.0)
    play.did()
    (held,) = [entry for entry in entries if entry.lane is not None and entry.lane.key == "n1"]
    play.hear(m.Refused(play.token(), m.REFUSED_MESH, "no", [m.VERSION]), 0.1)
    assert held.lane is None
    play.caller.gone("n1", 0.2)
    for side in Side:
        play.caller.disconnected("n1", side, 0.3)
    play.tick(7.0)
    assert held in play.caller.everything()
    assert play.echo(7.1, "n2") == [("tasks", "n2", (2, 2))]


def test_another_mesh_is_barred_until_it_is_reached_anew() -> None:
    play = Play()
    play.connect("n1", 0.0)
    play.did()
    play.hear(m.Refused(play.token(), m.REFUSED_MESH, "theirs", [1]), 0.1)
    assert play.caller.peers["n1"].stage is Stage.BARRED
    assert play.ticks(0.2, 10.0) == []
    play.caller.disconnected("n1", Side.TASKS, 10.0)
    play.caller.connected("n1", Side.TASKS, 11.0)
    assert play.did() == [("hello", "n1", 2)]


def test_a_node_reached_at_two_addresses_has_one_link() -> None:
    play = Play().ready()
    play.submit(1, 0.0)
    play.did()
    play.connect("tcp://there", 1.0)
    play.did()
    assert play.welcome("tcp://there", 1.1, node="n1") == [("drop", "n1"), ("tasks", "tcp://there", (1, 2))]
    assert list(play.caller.peers) == ["tcp://there"]


def test_cancel_reaches_what_has_not_started() -> None:
    play = Play().ready(credit=2)
    first, second, third = play.submit(3, 0.0)
    play.did()
    play.echo(0.1, add=[1])
    assert not play.caller.cancel(first, 0.2)
    assert play.caller.cancel(second, 0.2)
    assert play.caller.cancel(third, 0.2)
    assert not play.caller.cancel(third, 0.2)
    assert ("cancel", "n1", {"add": [2]}) in play.did()
    assert play.caller.ledger.open == 1


def test_close_settles_everything_and_says_good_bye() -> None:
    play = Play().ready(credit=1)
    play.submit(2, 0.0)
    play.did()
    assert play.caller.close(1.0)
    play.caller.good_bye()
    done = play.did()
    assert done.count(("settled", Code.SHUTDOWN)) == 2
    assert done[-1] == ("bye", "n1")
    assert play.caller.ledger.open == 0
    assert play.tick(5.0) == []


def test_bodies_with_buffers_keep_the_order_of_numbers() -> None:
    play = Play().ready(credit=9)
    options = Options()
    bodies: list[tuple[bytes, ...]] = [(), (), (b"large",), ()]
    entries = [Entry(Route("add"), f"t{n}", b"", buffers, options, None, None) for n, buffers in enumerate(bodies)]
    play.caller.peers["n1"].lanes["add"].run_time = 1e-6  # so that all are placed at once
    play.caller.peers["n1"].lanes["add"].told_at = 0.0
    play.caller.submit(entries, 0.0)
    assert play.did() == [("tasks", "n1", (1, 1), (2, 1)), ("tasks", "n1", (3, 1)), ("tasks", "n1", (4, 1))]


def test_a_lane_that_is_not_there_gives_everything_back() -> None:
    play = Play().ready()
    play.submit(2, 0.0)
    play.did()
    play.hear(m.Recalled(play.token(), {"add": [1]}, m.UNKNOWN_FUNCTION), 1.0)
    assert "add" not in play.caller.peers["n1"].lanes
    assert play.caller.ledger.wanted(bool) == {"add": 2}


def test_free_workers_are_used() -> None:
    play = Play().ready("n1", "n2", credit=9)
    for peer in play.caller.peers.values():
        peer.lanes["add"].run_time, peer.lanes["add"].told_at = 2.0, 0.0
    entries = play.submit(8, 0.0)
    play.did()
    for entry in entries:
        if entry.lane is not None and entry.lane.key == "n2":
            play.report(entry.number, SUCCESS, 0.1, kept=entry.number, key="n2", credit=20)
    play.caller.peers["n2"].lanes["add"].run_time = 0.01
    assert ("recall", "n1", {"add": [3, 4]}) in play.tick(0.2)
    assert ("recall", "n1", {"add": [3, 4]}) not in play.tick(0.3)


def test_a_task_goes_to_the_node_it_is_for_and_to_no_other() -> None:
    play = Play().ready("n1", "n2")
    play.submit(5, 0.0, node="n2")
    assert play.did() == [("tasks", "n2", (1, 1), (2, 1), (3, 1), (4, 1))]
    play.submit(1, 0.1, node="n3")
    assert play.did() == []
    play.submit(1, 0.2)
    assert play.did() == [("tasks", "n1", (1, 1))]


def test_a_node_is_told_only_of_what_waits_for_it() -> None:
    play = Play().ready("n1", "n2")
    play.submit(6, 0.0, node="n2")
    play.submit(3, 0.0, node="n3")
    play.did()
    play.caller.tick(1.1)
    beats = [send.message for send in play.caller.take() if isinstance(send, Send)]
    assert [beat.lanes["add"][2] for beat in beats if isinstance(beat, m.Beat)] == [0, 2]


def test_a_lone_task_is_kept_a_place_only_at_a_node_that_takes_it() -> None:
    play = Play().ready("n1", "n2")
    for node, there in (("n1", "n1"), ("n2", "n2"), ("id", None)):
        place = play.caller.express(Route("add", node=node), 0.1)
        assert (place.lane.key if place else None) == there
    assert play.caller.express(Route("add", needs=("psu",)), 0.1) is None


def test_a_task_waits_for_a_node_with_the_tags_it_needs() -> None:
    play = Play().ready("n1")
    play.submit(1, 0.0, needs=["psu", "cam"])
    play.connect("n2", 1.0)
    play.welcome("n2", 1.0, tags=("psu",))
    assert play.caller.ledger.open == 1
    play.connect("n3", 2.0)
    play.did()
    assert play.welcome("n3", 2.0, tags=("cam", "psu", "laser")) == [("tasks", "n3", (1, 1))]


# ---------------------------------------------------------------------- what is logged


def cut_off(play: Play, begin: float, end: float, key: str = "n1") -> None:
    """A node is out of reach for a while."""
    for side in Side:
        play.caller.disconnected(key, side, begin)
    play.ticks(begin, end)


def back(play: Play, now: float, key: str = "n1") -> None:
    """The connections to a node are up again."""
    for side in Side:
        play.caller.connected(key, side, now)
    play.did()


def test_a_node_is_noted_once_when_found_and_once_when_lost() -> None:
    play = Play().ready()
    assert play.noted() == ["n1: found"]
    play.submit(2, 0.0)
    cut_off(play, 0.1, 40.0)
    assert play.noted() == ["! n1: lost: silent for 5 s; 2 of our tasks were there"]
    play.caller.refused("n1", 40.1)  # it is dead after all
    assert play.noted() == []


@pytest.mark.parametrize(("tasks", "text"), [(0, "none of our tasks was"), (1, "1 of our tasks was")])
def test_a_loss_is_only_bad_where_tasks_were_there(tasks: int, text: str) -> None:
    play = Play().ready()
    play.submit(tasks, 0.0)
    play.noted()
    play.caller.refused("n1", 1.0)
    play.caller.refused("n1", 2.0)
    assert play.noted() == [f"{'! ' if tasks else ''}n1: lost: its ports are closed; {text} there"]


def test_a_node_given_up_in_silence_is_noted_when_it_is_back() -> None:
    play = Play().ready()
    cut_off(play, 0.1, 40.0)
    back(play, 40.1)
    play.noted()
    play.echo(40.2)
    play.echo(41.2)
    assert play.noted() == ["n1: found again"]


def test_a_node_cut_off_time_and_again_leaves_nothing_behind() -> None:
    play = Play().ready(credit=100)
    for n in range(20):
        now = 30.0 * n
        play.tick(now)
        play.echo(now)
        play.submit(1, now)
        play.echo(now + 0.1, add=[2 * n + 1])
        cut_off(play, now + 0.2, now + 20)
        back(play, now + 20.1)
        assert play.echo(now + 20.2) == [("tasks", "n1", (2 * n + 2, 2))]
        assert play.report(2 * n + 2, SUCCESS, now + 20.3) == [("settled", SUCCESS)]
    assert len(play.caller.peers["n1"].blamed) == 1


def test_a_node_started_anew_is_lost_and_found() -> None:
    play = Play().ready()
    play.noted()
    play.caller.refused("n1", 1.0)
    back(play, 1.1)
    play.welcome("n1", 1.2, incarnation=NEXT)
    assert play.noted() == ["n1: lost: its ports are closed; none of our tasks was there", "n1: found"]


def drained(play: Play, now: float) -> None:
    """A node says that it takes no more tasks."""
    play.hear(m.Credit(play.token(), 0, {"add": (4, 1000)}, (0, 0), {}, True), now)


def test_a_node_that_ends_in_order_is_gone_and_not_lost() -> None:
    play = Play().ready()
    play.submit(1, 0.0)
    play.noted()
    drained(play, 1.0)
    play.report(1, SUCCESS, 1.1, kept=1)
    play.caller.gone("n1", 1.2)
    cut_off(play, 1.3, 1.4)
    play.caller.refused("n1", 1.5)
    assert play.noted() == ["n1: gone: it has ended"]
    assert play.ticks(1.6, 2.0) == [("drop", "n1")]
    assert play.noted() == []


def test_a_node_that_drained_and_died_with_a_task_is_lost() -> None:
    play = Play().ready()
    play.submit(1, 0.0)
    play.noted()
    drained(play, 1.0)
    play.caller.refused("n1", 1.5)
    assert play.noted() == ["! n1: lost: its ports are closed; 1 of our tasks was there"]


def test_a_good_bye_alone_is_no_end_in_order() -> None:
    play = Play().ready()
    play.noted()
    play.caller.gone("n1", 1.0)
    play.caller.refused("n1", 1.5)
    assert play.noted() == ["n1: lost: its ports are closed; none of our tasks was there"]


def test_a_node_that_is_reached_elsewhere_is_neither_lost_nor_found() -> None:
    play = Play().ready()
    play.noted()
    play.connect("tcp://there", 1.0)
    play.welcome("tcp://there", 1.1, node="n1", name="n1")
    assert play.noted() == ["n1: now reached at tcp://there"]


def test_a_refusal_is_noted_once_and_again_where_it_changes() -> None:
    play = Play()
    play.connect("n1", 0.0)
    for now, text in enumerate(["mesh a", "mesh a", "mesh \x1b[31m"]):
        play.hear(m.Refused(play.token(), m.REFUSED_MESH, text, [1]), now)
        cut_off(play, now + 0.1, now + 0.2)
        back(play, now + 0.3)
    assert play.noted() == ["! n1: refused us: mesh a", "! n1: refused us: mesh \\x1b[31m"]


# ---------------------------------------------------------------------- locked out


def test_being_locked_out_is_noted_once_and_mends_itself() -> None:
    play = Play()
    play.caller.found("n1", 0.0, "bench-7")
    for now in (1.0, 2.0):
        play.caller.locked_out("n1", now)
    assert play.noted() == ["! bench-7: locked out: it does not accept our key"]
    assert play.caller.peers["n1"].state(2.0) == "locked out"
    play.caller.connected("n1", Side.TASKS, 3.0)
    play.caller.locked_out("n1", 3.5)
    assert play.noted() == []
    assert play.caller.peers["n1"].state(3.5) == "locked out"
    play.caller.connected("n1", Side.REPORTS, 4.0)
    play.welcome("n1", 4.1, name="bench-7")
    assert play.noted() == ["bench-7: found"]
    assert play.caller.peers["n1"].state(4.2) == "ready"
    play.caller.locked_out("n1", 5.0)
    assert play.noted() == ["! bench-7: locked out: it does not accept our key"]


def test_the_cause_of_being_locked_out_may_change() -> None:
    play = Play()
    play.caller.found("n1", 0.0, "bench-7")
    play.caller.locked_out("n1", 1.0, "it has another key")
    play.caller.locked_out("n1", 2.0, "it has another key")
    play.caller.locked_out("n1", 3.0)
    assert play.noted() == [
        "! bench-7: locked out: it has another key",
        "! bench-7: locked out: it does not accept our key",
    ]


def test_who_lets_us_in_again_before_it_was_lost_is_noted_too() -> None:
    play = Play().ready()
    cut_off(play, 0.1, 0.2)
    play.caller.locked_out("n1", 0.3)
    back(play, 1.0)
    assert play.noted() == ["n1: found", "! n1: locked out: it does not accept our key", "n1: locked out no more"]


def test_a_thousand_nodes_that_lock_us_out_do_not_fill_the_log() -> None:
    play = Play()
    for number in range(1000):
        play.caller.found(f"n{number}", 0.0)
        play.caller.locked_out(f"n{number}", 1.0, "it has another key")
    notes = play.noted()
    assert len(notes) == 10
    assert notes[0] == "! n0: locked out: it has another key"
    assert notes[-1] == ("! n9: locked out: it has another key; more of them in the next 60 s are not named here")
    play.caller.locked_out("n5", 60.9)
    assert play.noted() == []
    play.caller.locked_out("n6", 61.0)
    assert play.noted() == ["! n6: locked out: it does not accept our key"]


def test_the_doer_may_say_that_it_is_let_in() -> None:
    play = Play()
    play.caller.found("n1", 0.0)
    play.caller.locked_out("n1", 1.0)
    play.caller.let_in("n1", 2.0)
    play.caller.let_in("nobody", 2.0)
    assert play.caller.peers["n1"].state(2.0) == "apart"


# ---------------------------------------------------------------------- two nodes of one name


def named(play: Play, key: str, now: float, name: str = "bench-3") -> None:
    """A node of that name answers at an address."""
    play.connect(key, now)
    play.welcome(key, now, name=name, node=f"id-{key}")


def test_two_nodes_of_one_name_are_noted_once_and_both_used() -> None:
    play = Play()
    named(play, "n1", 0.0)
    named(play, "n2", 0.0)
    play.noted()
    play.ticks(0.1, 1.5)
    assert play.noted() == [
        "! bench-3: two nodes are called bench-3 (node ids id-n1, id-n2); "
        "options(node=...) means either; give one another --name"
    ]
    named(play, "n3", 1.6)
    play.noted()
    play.ticks(1.7, 2.3)
    play.submit(12, 2.4, node="bench-3")
    assert {key for _, key, *_ in play.did()} == {"n1", "n2", "n3"}
    assert play.noted() == []


def test_a_node_started_again_under_its_name_is_one_node() -> None:
    play = Play()
    named(play, "n1", 0.0)
    cut_off(play, 0.1, 0.3)  # killed; that its ports are closed is found out later
    named(play, "n2", 0.4)
    play.noted()
    play.ticks(0.5, 1.5)
    play.caller.refused("n1", 1.6)
    for second in range(2, 9):
        play.ticks(second - 0.3, second)
        play.echo(second, "n2")
    assert play.noted() == ["bench-3: lost: its ports are closed; none of our tasks was there"]


def test_a_node_is_noted_once_when_busy_and_once_when_it_answers() -> None:
    """It holds the GIL, say: its connections stand, and nothing comes."""
    play = Play().ready()
    play.submit(2, 0.0)
    play.noted()
    play.ticks(0.1, 20.0)
    assert play.noted() == ["n1: silent for 2.5 s; it gets no new tasks until it answers"]
    play.echo(20.1)
    assert play.noted() == ["n1: answers again"]
    play.ticks(20.2, 60.0)
    busy, lost = play.noted()
    assert busy == "n1: silent for 2.5 s; it gets no new tasks until it answers"
    assert lost == "! n1: lost: silent for 30 s; 2 of our tasks were there"
    play.echo(60.1)
    assert play.noted() == ["n1: found again"]
    codes = [EventCode.FOUND, EventCode.BUSY, EventCode.FOUND, EventCode.BUSY, EventCode.LOST, EventCode.FOUND]
    assert play.codes() == codes


def test_a_node_that_is_cut_off_is_not_called_busy() -> None:
    play = Play().ready()
    cut_off(play, 0.1, 40.0)
    assert EventCode.BUSY not in play.codes()


def test_what_is_noted_has_a_code() -> None:
    play = Play().ready()
    play.caller.locked_out("n1", 0.1)
    play.caller.let_in("n1", 0.2)
    play.hear(m.Credit(play.token(), 0, {}, (0, 0), {}, True), 0.3)
    play.caller.refused("n1", 0.4)
    play.connect("n2", 0.5)
    play.hear(m.Refused(play.token("n2"), m.REFUSED_MESH, "another mesh", [1]), 0.6)
    refused, found = EventCode.REFUSED, EventCode.FOUND
    assert play.codes() == [found, refused, found, EventCode.GONE, refused]


def test_what_is_sent_again_after_a_loss_is_said() -> None:
    play = Play().ready()
    play.submit(2, 0.0)
    play.submit(1, 0.0, at_most_once=True)
    play.hear(m.Credit(play.token(), 0, {}, (0, 0), {"add": [3]}, False), 0.1)
    play.caller.refused("n1", 0.2)
    assert play.again() == [("n1", "the node was lost", Level.INFO, ["t0", "t1"])]  # the other one ends UNKNOWN


def test_what_is_missing_or_given_back_is_said() -> None:
    play = Play().ready()
    play.submit(4, 0.0)
    play.hear(m.Missing(play.token(), {"add": [1]}), 0.1)
    play.hear(m.Recalled(play.token(), {"add": [2]}, m.GIVEN_BACK), 0.2)
    play.hear(m.Recalled(play.token(), {"add": [3]}, "busy\n\x1b"), 0.3)
    play.hear(m.Missing(play.token(), {"add": [1], "other": [4]}), 0.4)  # nothing of it is there
    assert play.again() == [
        ("n1", "it never arrived there", Level.INFO, ["t0"]),
        ("n1", "the node gave it back: given back", Level.DEBUG, ["t1"]),
        ("n1", r"the node gave it back: busy\n\x1b", Level.INFO, ["t2"]),
    ]


def test_reports_that_come_twice_or_too_late_are_said() -> None:
    play = Play().ready()
    play.submit(1, 0.0)
    play.report(1, SUCCESS, 0.1, kept=1)
    assert play.noted() == ["n1: found"]
    play.report(1, SUCCESS, 0.2, kept=1)
    play.hear(m.Missing(b"strange!", {}), 0.3)
    assert play.noted() == ["- n1: 1 report came twice or too late", "- : a message of a link that is closed"]
    assert play.codes()[1:] == [EventCode.REPEATED, EventCode.REPEATED]
    assert play.caller.late == 2


def test_the_processes_of_a_node_have_names_of_their_own() -> None:
    play = Play()
    named(play, "n1", 0.0, "bench/1")
    named(play, "n2", 0.0, "bench/2")
    play.noted()
    play.ticks(0.1, 2.0)
    assert play.noted() == []


# ---------------------------------------------------------------------- near the end of the queue


def uneven(waiting: int) -> tuple[Play, list[Any]]:
    """A quick node that is full and a slow one that is not; return what is done with some tasks then."""
    play = Play().ready("n1", "n2", credit=2)
    for key, run_time in (("n1", 0.1), ("n2", 1.0)):
        lane = play.caller.peers[key].lanes["add"]
        lane.run_time, lane.told_at, lane.sent, lane.limit = run_time, 0.0, 20, 22
    play.submit(2 + waiting, 0.0)
    return play, play.did()


def test_the_last_tasks_wait_for_the_quick_node() -> None:
    play, done = uneven(5)
    assert done == [("tasks", "n1", (21, 1), (22, 1))]
    assert play.report(21, SUCCESS, 0.1, kept=1, credit=23) == [("settled", SUCCESS), ("tasks", "n1", (23, 1))]


def test_while_there_are_many_the_slow_node_has_its_share() -> None:
    _, done = uneven(50)
    assert done == [("tasks", "n1", (21, 1), (22, 1)), ("tasks", "n2", (21, 1), (22, 1))]


def test_where_the_quick_node_is_lost_the_slow_one_gets_them() -> None:
    play, _ = uneven(1)
    play.caller.refused("n1", 0.5)
    assert [done for done in play.did() if done[0] == "tasks"] == [("tasks", "n2", (21, 2), (22, 2))]


# ---------------------------------------------------------------------- stopping what runs, and nodes that restart


def recalled(play: Play, reason: str, now: float, *numbers: int) -> list[Any]:
    return play.hear(m.Recalled(play.token(), {"add": list(numbers)}, reason), now)


def test_what_still_waits_here_is_cancelled_at_once() -> None:
    play = Play()
    (entry,) = play.submit(1, 0.0)
    play.caller.stop(entry, 1.0)
    assert play.did() == [("settled", Code.CANCELLED)]
    assert entry.failure is not None
    assert entry.failure.message == "cancelled before it started"
    play.caller.stop(entry, 2.0)
    assert play.did() == []


def test_a_node_is_asked_to_stop_a_task_and_its_report_settles_it() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    play.did()
    play.caller.stop(entry, 0.5)
    play.caller.stop(entry, 0.6)
    assert play.did() == [("cancel", "n1", {"add": [1]})]
    assert play.report(1, FAIL, 0.7, kept=1) == [("settled", FAIL)]
    assert [short for short in play.tick(1.1) if short[0] == "cancel"] == []


def test_the_node_is_asked_again_with_each_beat() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    play.did()
    play.caller.stop(entry, 0.5)
    play.did()
    assert play.tick(1.01) == [("beat", "n1", 0, {}), ("cancel", "n1", {"add": [1]})]
    assert play.report(1, SUCCESS, 1.2, kept=1) == [("settled", SUCCESS)]  # it did not notice
    assert play.tick(2.1) == [("beat", "n1", 1, {})]


@pytest.mark.parametrize("reason", [m.CANCELLED, m.DRAINING, m.RESTARTING])
def test_what_is_given_back_and_was_to_stop_goes_nowhere(reason: str) -> None:
    play = Play().ready("n1", "n2")
    (entry,) = play.submit(1, 0.0)
    ((_, key, _),) = play.did()
    play.caller.stop(entry, 0.5)
    play.did()
    said = play.hear(m.Recalled(play.token(key), {"add": [1]}, reason), 0.6)
    assert said[-1] == ("settled", Code.CANCELLED)
    assert not any(short[0] == "tasks" for short in said)


def test_what_is_missing_and_was_to_stop_goes_nowhere() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    play.did()
    play.caller.stop(entry, 0.5)
    play.did()
    assert ("settled", Code.CANCELLED) in play.hear(m.Missing(play.token(), {"add": [1]}), 0.6)


def test_what_was_to_stop_and_is_lost_ends_so() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    play.did()
    play.caller.stop(entry, 0.5)
    play.did()
    play.caller.refused("n1", 1.0)
    assert ("settled", Code.CANCELLED) in play.did()
    assert entry.failure is not None
    assert entry.failure.message == "cancelled; the node was lost where it may have been running"


def test_a_node_that_restarts_costs_no_loss() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0, max_losses=1)
    play.did()
    play.hear(m.Credit(play.token(), 0, {"add": (4, 0)}, (1, 1), {"add": [1]}, True), 1.0)
    assert entry.started
    assert recalled(play, m.RESTARTING, 1.0, 1) == []
    assert (entry.losses, entry.started, entry.lane) == (0, False, None)
    play.caller.refused("n1", 1.1)
    assert ("settled", Code.POISON) not in play.did()
    assert entry.losses == 0


def test_what_may_have_started_and_must_not_twice_ends_unknown_where_the_node_restarts() -> None:
    play = Play().ready()
    entries = play.submit(2, 0.0, at_most_once=True)
    play.did()
    play.hear(m.Claim(play.token(), {"add": [1]}), 0.5)
    assert recalled(play, m.RESTARTING, 1.0, 1)[-1] == ("settled", Code.UNKNOWN)
    assert recalled(play, m.DRAINING, 1.0, 2) == []  # it did not start, and waits for another node
    assert [entry.settled for entry in entries] == [True, False]
    assert play.caller.ledger.wanted(bool) == {"add": 1}


def test_welcome_tells_of_more_workers() -> None:
    play = Play().ready()
    assert play.caller.peers["n1"].lanes["add"].slots == 2
    message = play.caller.peers["n1"].welcome
    assert message is not None
    message.functions = {"add": (5, "", "", False)}
    play.hear(message, 1.0)
    assert play.caller.peers["n1"].lanes["add"].slots == 5


# ---------------------------------------------------------------------- behind forwarders


def behind(*via: str) -> Play:
    """A node that is behind forwarders, with one task that has started there."""
    play = Play()
    play.connect("n1", 0.0)
    play.welcome("n1", 0.0, via=via)
    play.submit(1, 0.0)
    play.report(1, PROGRESS, 0.1)
    play.did()
    return play


def breaks(play: Play, now: float) -> None:
    for side in Side:
        play.caller.disconnected("n1", side, now)


def test_ports_that_a_forwarder_closes_prove_nothing() -> None:
    play = behind("gate")
    breaks(play, 1.0)
    play.caller.refused("n1", 1.0)
    assert play.ticks(1.0, 4.8) == []
    (entry,) = play.caller.everything()
    assert entry.losses == 0
    play.caller.moved("n1", 4.8)
    play.connect("n1", 4.8)
    play.tick(4.8)
    play.echo(4.8)
    assert play.caller.peers["n1"].usable(4.8)
    assert play.caller.peers["n1"].via == ()  # the node is reached without one, this time


def test_at_another_address_nobody_knows_whether_there_is_a_forwarder() -> None:
    play = behind()
    breaks(play, 1.0)
    play.caller.moved("n1", 1.2)
    play.connect("n1", 1.5)
    assert play.caller.peers["n1"].via is None
    breaks(play, 1.6)
    play.caller.refused("n1", 1.6)
    play.tick(1.6)
    (entry,) = play.caller.everything()
    assert (entry.lane is not None, entry.losses) == (True, 0)


def test_a_node_that_nothing_leads_to_any_more_is_lost_after_5_s() -> None:
    play = behind("gate", "other gate")
    breaks(play, 1.0)
    play.caller.gone("n1", 1.0)
    play.caller.refused("n1", 1.0)
    play.ticks(1.0, 4.9)
    (entry,) = play.caller.everything()
    assert entry.lane is not None
    assert ("drop", "n1") in play.ticks(5.0, 5.4)
    assert (entry.lane, entry.losses) == (None, 0)
    assert "! n1: lost: silent for 5 s; 1 of our tasks was there" in play.noted()


def test_a_death_behind_a_forwarder_counts_once_the_node_is_there_again() -> None:
    """What is started in place of a process has its name; nothing else tells that it had died."""
    play = behind("gate")
    (entry,) = play.caller.everything()
    breaks(play, 1.0)
    play.caller.gone("n1", 1.0)
    play.caller.refused("n1", 1.0)
    assert ("drop", "n1") in play.ticks(1.1, 5.5)
    play.connect("n2", 6.2)
    play.welcome("n2", 6.2, name="n2", incarnation=b"another.", via=("gate",))
    assert entry.losses == 0
    play.connect("n3", 6.3)
    play.welcome("n3", 6.3, name="n1", incarnation=b"a third.", via=("gate",))
    assert entry.losses == 1
