"""What a node lets a guest say, hear and have open: scripts, with the time in the first column."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dingo_zmq.events import Level
from dingo_zmq.model import Status
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.guest_link import CALLERS_MOST
from dingo_zmq.protocol.guests import TOLD_SECONDS, Guest, Guests, guest_name, is_guest
from dingo_zmq.protocol.intake import Function, Link
from dingo_zmq.protocol.node import Identity, Interrupt, Node, Note, Publish, Start

PUBLIC, OTHER_PUBLIC = b"a" * 40, b"b" * 40
ANN = Guest("ann", PUBLIC, frozenset({"add"}), max_open=3)
BOB = Guest("bob", OTHER_PUBLIC, frozenset({"add"}))
ME, ELSE = f"{ANN.caller}.1", "0123456789abcdef"
LINK, OTHER = b"link0001", b"link0002"
HERE = b"incarnat"
SUCCESS = int(Status.SUCCESS)


def node(*guests: Guest, slots: int = 8) -> Node:
    identity = Identity(node="id1", incarnation=HERE, name="bench", mesh="mesh")
    functions = [Function(name, "shared", slots) for name in ("add", "scan", "wipe")]
    machine = Node(identity, functions, {"shared": slots}, 0.0)
    machine.admit(guests, 0.0)
    return machine


def hello(caller: str = ME, link: bytes = LINK, number: int = 1) -> m.Hello:
    return m.Hello(link, caller, number, b"", "mesh", [m.VERSION])


def tasks(*numbers: int, name: str = "add", caller: str = ME, link: bytes = LINK) -> m.Tasks:
    return m.Tasks(link, caller, 0, {name: 9}, [(name, n, f"t{n}", 1, None, b"") for n in numbers])


def beat(caller: str = ME, link: bytes = LINK, number: int = 9, heard: int = 0) -> m.Beat:
    return m.Beat(link, caller, number, heard, {}, {}, HERE)


def messages(machine: Node) -> list[Any]:
    """Return what was published, and to whom, leaving pulses out."""
    published = [action for action in machine.take() if isinstance(action, Publish)]
    return [
        (p.topic.decode().split("/", maxsplit=1)[0], p.message)
        for p in published
        if not isinstance(p.message, m.Pulse)
    ]


def notes(machine: Node) -> list[str]:
    return [action.text for action in machine.take() if isinstance(action, Note)]


def linked(guest: Guest = ANN, slots: int = 8) -> Node:
    machine = node(guest, slots=slots)
    machine.received(hello(), (), 0.0)
    machine.take()
    return machine


def recalled(machine: Node) -> list[tuple[str, m.Refs]]:
    return [(each.reason, each.refs) for _, each in messages(machine) if isinstance(each, m.Recalled)]


def credit(machine: Node, now: float, number: int = 9, heard: int = 0) -> int:
    """Return how many tasks of "add" were granted by now, in answer to a BEAT."""
    machine.take()
    machine.received(beat(number=number, heard=heard), (), now)
    (answer,) = [each for _, each in messages(machine) if isinstance(each, m.Credit)]
    return answer.lanes["add"][0]


# ---------------------------------------------------------------------- who says what


def test_the_name_of_a_guest_comes_from_its_key() -> None:
    assert ANN.caller == guest_name(PUBLIC) != BOB.caller
    assert is_guest(ANN.caller)
    assert len(ANN.caller) == len("guest-") + 32
    assert not is_guest(ELSE)


def door(*guests: Guest) -> Guests:
    found = Guests()
    found.replace(guests)
    return found


LINKS = {
    LINK: Link(LINK, ME, [], 0.0),
    OTHER: Link(OTHER, ELSE, [], 0.0),
    b"bobs....": Link(b"bobs....", f"{BOB.caller}.1", [], 0.0),
}
REFS: m.Refs = {"add": [1]}


@pytest.mark.parametrize(
    "message",
    [
        hello(),
        hello(link=b"new....."),
        tasks(1),
        beat(),
        m.Taken(LINK, 0, {}),
        m.Cancel(LINK, REFS),
        m.Recall(LINK, REFS),
        m.Go(LINK, REFS),
        m.Bye(LINK),
        m.Bye(b"nobody.."),
    ],
)
def test_a_guest_speaks_for_itself(message: Any) -> None:
    assert door(ANN, BOB).objection(ANN, message, LINKS) == ""


@pytest.mark.parametrize(
    "caller", [ELSE, f"{BOB.caller}.1", ANN.caller, ANN.caller + "x", ANN.caller[:-1] + ".", ""]
)
@pytest.mark.parametrize("say", [hello, tasks, beat])
def test_a_guest_cannot_take_another_name(say: Any, caller: str) -> None:
    message = say(caller=caller, link=b"new.....")
    assert "which is not its name" in door(ANN, BOB).objection(ANN, message, LINKS)


@pytest.mark.parametrize("link", [OTHER, b"bobs...."])
@pytest.mark.parametrize(
    "say",
    [
        lambda link: hello(link=link),
        lambda link: tasks(1, link=link),
        lambda link: beat(link=link),
        lambda link: m.Taken(link, 0, {}),
        lambda link: m.Cancel(link, REFS),
        lambda link: m.Recall(link, REFS),
        lambda link: m.Go(link, REFS),
        m.Bye,
    ],
)
def test_a_guest_cannot_touch_the_link_of_another(say: Any, link: bytes) -> None:
    assert "of another caller" in door(ANN, BOB).objection(ANN, say(link), LINKS)


@pytest.mark.parametrize(
    ("prefix", "may"),
    [
        (f"{ANN.caller}.1/", True),
        (f"{ANN.caller}.", True),
        (f"watch/{ANN.caller}.1/add/", True),
        ("pulse/", True),
        ("pulse/id1/", True),
        ("", False),
        ("g", False),
        (ANN.caller, False),
        (f"{BOB.caller}.", False),
        (f"{ELSE}/", False),
        ("watch/", False),
        (f"watch/{ELSE}/", False),
        (f"watch/{ANN.caller}", False),
        ("pulse", False),
        ("p", False),
    ],
)
def test_what_a_guest_may_hear(prefix: str, may: bool) -> None:
    assert door(ANN, BOB).may_hear(ANN, prefix.encode()) == may


def test_what_is_refused_is_told_once_a_minute() -> None:
    guests = door(ANN)
    (note,) = guests.refused("ann", "a\nb", 0.0)
    assert (note.text, note.level) == (r"guest ann: refused: a\nb", Level.WARNING)
    assert guests.refused("ann", "c", 1.0) == guests.refused("ann", "d", TOLD_SECONDS - 0.1) == []
    assert [each.text for each in guests.refused("", "e", 2.0)] == [
        "somebody who is no guest any more: refused: e"
    ]
    told = guests.refused("ann", "f", TOLD_SECONDS)
    assert [each.text for each in told] == [
        "guest ann: refused 2 more messages in the last minute",
        "guest ann: refused: f",
    ]
    assert guests.tick(3 * TOLD_SECONDS) == guests.tick(9 * TOLD_SECONDS) == []


# ---------------------------------------------------------------------- functions


def test_welcome_shows_a_guest_its_functions() -> None:
    machine = node(ANN)
    machine.received(hello(), (), 0.0)
    machine.received(hello(ELSE, OTHER), (), 0.0)
    (me, mine), (other, theirs) = messages(machine)
    assert (me, other) == (ME, ELSE)
    assert (list(mine.functions), list(mine.credit)) == (["add"], ["add"])
    assert list(theirs.functions) == list(theirs.credit) == ["add", "scan", "wipe"]


@pytest.mark.parametrize("name", ["scan", "nothing"])
def test_a_function_that_is_not_the_guests(name: str) -> None:
    """It is not told whether there is one."""
    machine = linked()
    machine.received(tasks(1, name=name), (), 1.0)
    actions = machine.take()
    assert [action.message.reason for action in actions if isinstance(action, Publish)] == [
        "guest ann may not run it"
    ]
    assert [action.text for action in actions if isinstance(action, Note)] == [
        f"guest ann: refused: tasks of functions that it may not run ({name})"
    ]
    assert not any(isinstance(action, Start) for action in actions)
    machine.received(tasks(1), (), 1.0)
    assert any(isinstance(action, Start) for action in machine.take())


def test_a_guest_that_nobody_knows_is_not_answered() -> None:
    machine = node(BOB)
    machine.received(hello(), (), 0.0)
    assert notes(machine) == [f"somebody who is no guest any more: refused: hello as {ME}"]
    machine.received(tasks(1), (), 0.0)
    machine.received(beat(), (), 0.0)
    assert machine.take() == []
    machine.received(tasks(1, caller=ELSE, link=OTHER), (), 0.0)
    assert [type(message) for _, message in messages(machine)] == [m.Refused]


# ---------------------------------------------------------------------- quota


def test_no_more_is_granted_than_may_be_open() -> None:
    machine = linked()
    assert credit(machine, 0.1) == 3
    machine.received(tasks(1, 2), (), 0.2)
    assert credit(machine, 0.3) == 3
    machine.received(tasks(3), (), 0.4)
    assert recalled(machine) == []
    assert credit(machine, 0.5) == 3


def test_room_comes_back_with_the_answers() -> None:
    machine = linked(slots=1)
    credit(machine, 0.1)
    machine.received(tasks(1, 2, 3), (), 0.2)
    (bundle,) = [action.bundle for action in machine.take() if isinstance(action, Start)]
    machine.finished(bundle, [(bundle.all[0], SUCCESS, b"", ())], 0.001, ended=True, now=0.3)
    machine.flush(0.3)
    (reports,) = [each for _, each in messages(machine) if isinstance(each, m.Reports)]
    assert reports.lanes["add"][0] <= 4


def test_two_links_share_a_quota() -> None:
    machine = linked()
    second = f"{ANN.caller}.2"
    machine.received(hello(second, OTHER), (), 0.0)
    machine.received(tasks(1, 2), (), 0.1)
    machine.take()
    machine.received(tasks(1, 2, caller=second, link=OTHER), (), 0.2)
    assert recalled(machine) == [("busy: guest ann may have 3 tasks open here", {"add": [2]})]
    machine.received(
        tasks(2, caller=second, link=OTHER), (), 0.3
    )  # once more: it was given back, and never starts
    assert messages(machine) == []
    machine.received(m.Bye(LINK), (), 0.4)
    machine.received(tasks(3, caller=second, link=OTHER), (), 0.5)
    assert recalled(machine) in ([], [(m.BUSY, {"add": [3]})])


def test_two_functions_share_a_quota() -> None:
    machine = linked(replace(ANN, functions=frozenset({"add", "scan"})))
    machine.received(tasks(1, 2, 3), (), 0.1)
    machine.take()
    machine.received(tasks(1, 2, name="scan"), (), 0.2)
    assert recalled(machine) == [("busy: guest ann may have 3 tasks open here", {"scan": [1, 2]})]


def test_others_do_not_feel_it() -> None:
    machine = linked()
    machine.received(hello(ELSE, OTHER), (), 0.0)
    machine.received(tasks(1, 2, 3), (), 0.1)
    machine.take()
    machine.received(tasks(1, 2, 3, 4, caller=ELSE, link=OTHER), (), 0.2)
    assert recalled(machine) == []


RATED = replace(ANN, max_open=1000, rate=4.0)


def test_a_rate_is_a_bucket_of_one_second() -> None:
    machine = linked(RATED, slots=50)
    assert credit(machine, 0.0) == 4
    machine.received(tasks(1, 2, 3, 4), (), 0.0)
    assert credit(machine, 0.2, 10) == 4
    assert credit(machine, 0.5, 11) == 6
    machine.received(tasks(5, 6, 7), (), 0.5)
    assert recalled(machine) == [(m.BUSY, {"add": [7]})]
    assert credit(machine, 100.0, 12) == 10


def test_what_comes_too_fast_is_given_back() -> None:
    """What was granted on two lanes together is more than the rate."""
    machine = linked(replace(RATED, functions=frozenset({"add", "scan"})))
    machine.received(tasks(1, 2, 3), (), 0.0)
    machine.take()
    machine.received(tasks(1, 2, 3, name="scan"), (), 0.1)
    assert recalled(machine) == [("busy: guest ann may have 1000 tasks open and 4 tasks/s here", {"scan": [2, 3]})]


def test_a_new_link_begins_no_new_second() -> None:
    machine = linked(RATED)
    machine.received(tasks(1, 2, 3, 4), (), 0.0)
    machine.received(m.Bye(LINK), (), 0.0)
    machine.take()
    machine.received(hello(f"{ANN.caller}.2", OTHER), (), 0.1)
    ((_, welcome),) = messages(machine)
    assert welcome.credit == {"add": 0}


def test_less_than_one_task_in_a_second() -> None:
    machine = linked(replace(RATED, rate=0.1))
    assert credit(machine, 0.0) == 1
    machine.received(tasks(1), (), 0.0)
    assert credit(machine, 9.9, 10) == 1
    assert credit(machine, 10.0, 11) == 2


def test_a_guest_cannot_take_the_places_of_all_callers() -> None:
    machine = node(ANN)
    for number in range(CALLERS_MOST):
        machine.received(hello(f"{ANN.caller}.{number}", b"link%04d" % number), (), 0.0)
    machine.take()
    machine.received(hello(f"{ANN.caller}.more", b"one more"), (), 1.0)
    (text,) = notes(machine)
    assert "a caller beyond the 64" in text
    machine.received(hello(f"{ANN.caller}.more", b"one more"), (), 6.0)  # those are silent, and have nothing here
    assert [type(message) for _, message in messages(machine)] == [m.Welcome]


# ---------------------------------------------------------------------- other entries


def test_of_a_revoked_guest_nothing_is_left() -> None:
    machine = linked(slots=1)
    machine.received(hello(ELSE, OTHER), (), 0.0)
    credit(machine, 0.1)
    machine.received(tasks(1, 2), (), 0.1)
    (start,) = [action for action in machine.take() if isinstance(action, Start)]
    machine.admit([], 1.0)
    actions = machine.take()
    assert [action.held for action in actions if isinstance(action, Interrupt)] == [start.bundle.all[0]]
    assert [action.text for action in actions if isinstance(action, Note)] == [
        "forgotten: guest ann is none any more"
    ]
    assert not any(isinstance(action, Publish) for action in actions)
    assert list(machine.links) == [OTHER]
    machine.finished(start.bundle, [(start.bundle.all[0], SUCCESS, b"", ())], 1.0, ended=True, now=2.0)
    machine.flush(2.0)
    for message in (beat(), tasks(3), hello(number=2)):
        machine.received(message, (), 2.0)
    machine.tick(3.0)
    assert [topic for topic, _ in messages(machine) if topic == ME] == []
    assert machine.held == 0

    machine.admit([ANN], 4.0)
    machine.received(beat(), (), 4.1)
    machine.received(hello(link=b"anew....", number=3), (), 4.2)
    assert [type(message) for _, message in messages(machine)] == [m.Refused, m.Welcome]


def test_another_quota_holds_from_then_on() -> None:
    machine = linked()
    machine.admit([replace(ANN, max_open=5)], 1.0)
    assert [type(message) for _, message in messages(machine)] == [m.Welcome]
    assert credit(machine, 1.1) == 5


def test_a_rate_holds_from_when_it_is_set() -> None:
    """Not for what came before."""
    machine = linked(replace(ANN, max_open=1000), slots=100)
    credit(machine, 0.0)
    machine.received(tasks(*range(1, 50)), (), 0.1)
    machine.admit([RATED], 1.0)
    machine.received(tasks(50, 51), (), 2.0)
    assert recalled(machine) == []


def test_other_functions_hold_from_then_on() -> None:
    machine = linked()
    machine.received(tasks(1), (), 0.2)
    machine.received(m.Tasks(LINK, ME, 0, {}, [("add", 2, "t2", 2, None, b"")]), (), 0.2)  # it waits for a GO
    machine.take()
    machine.admit([replace(ANN, functions=frozenset({"scan"}))], 1.0)
    back, welcome = [message for _, message in messages(machine)]
    assert (back.reason, back.refs) == ("guest ann may not run it", {"add": [2]})
    assert list(welcome.functions) == ["scan"]
    machine.received(tasks(3), (), 1.1)
    machine.received(tasks(1, name="scan"), (), 1.1)
    assert recalled(machine) == [("guest ann may not run it", {"add": [3]})]
    machine.admit([ANN], 2.0)
    assert list(messages(machine)[0][1].functions) == ["add"]


def test_nothing_changes_where_the_entry_is_the_same() -> None:
    machine = linked()
    machine.admit([replace(ANN), BOB], 1.0)
    assert machine.take() == []
