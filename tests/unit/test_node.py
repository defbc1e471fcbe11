"""What a node makes of what callers send: scripts, with the time in the first column."""

from __future__ import annotations

from typing import Any

import pytest

from dingo_zmq.errors import UsageError
from dingo_zmq.events import EventCode, Level
from dingo_zmq.model import Status
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.intake import Function
from dingo_zmq.protocol.node import FORGET_SECONDS, Identity, Interrupt, Node, Note, Overrun, Publish, Start
from dingo_zmq.protocol.refusals import TOLD_MOST

LINK, OTHER, ME, ELSE = b"link0001", b"link0002", b"incarnat", b"anotherr"
SUCCESS = int(Status.SUCCESS)
ONCE = m.TaskOptions(at_most_once=True)
WATCHED = m.TaskOptions(monitor_progress=True)


def node(slots: int = 2) -> Node:
    identity = Identity(node="id1", incarnation=ME, name="bench", mesh="mesh")
    return Node(identity, [Function("add", "shared", slots)], {"shared": slots}, 0.0)


def hello(
    number: int = 1, link: bytes = LINK, believed: bytes = b"", mesh: str = "mesh", caller: str = "me"
) -> m.Hello:
    return m.Hello(link, caller, number, believed, mesh, [m.VERSION])


def tasks(*numbers: int, attempt: int = 1, options: m.TaskOptions | None = None, heard: int = 0) -> m.Tasks:
    return m.Tasks(LINK, "me", heard, {}, [("add", n, f"t{n}", attempt, options, b"") for n in numbers])


def beat(
    last: int = 0, covered: int = 0, opens: m.Refs | None = None, *, heard: int = 0, number: int = 9
) -> m.Beat:
    return m.Beat(LINK, "me", number, heard, {"add": (last, covered, 0)}, opens or {}, ME)


def brief(action: Any) -> Any:
    """Return in short what is to be done: kind and what matters of it; None where nothing does."""
    if isinstance(action, Start):
        return ("start", *[held.number for held in action.bundle.all])
    if isinstance(action, Note):
        return "note"
    if isinstance(action, Interrupt | Overrun):
        return (type(action).__name__.lower(), action.held.number)
    match action.message:
        case m.Pulse():
            short: Any = None
        case m.Welcome(echo=echo, credit=credit):
            short = ("welcome", echo, credit)
        case m.Credit(echo=echo, lanes=lanes, running=running):
            short = ("credit", echo, lanes["add"][0], running)
        case m.Reports(items=items):
            short = ("reports", *[(item[0], item[2], item[4]) for item in items])
        case m.Refused(reason=reason):
            short = ("refused", reason)
        case m.Recalled(refs=refs, reason=reason):
            short = ("recalled", refs, reason)
        case message:
            short = (type(message).__name__.lower(), message.refs)
    return short


def did(machine: Node) -> list[Any]:
    return [short for action in machine.take() if (short := brief(action)) is not None]


def play(machine: Node, *script: tuple[float, m.Message, list[Any]]) -> None:
    for when, message, expected in script:
        machine.received(message, (), when)
        assert did(machine) == expected, (when, message)


def linked(slots: int = 2) -> Node:
    """Return a node to which a caller has a link."""
    machine = node(slots)
    play(machine, (0.0, hello(), [("welcome", 1, {"add": slots})]))
    return machine


def finish(machine: Node, now: float, status: int = SUCCESS) -> list[Any]:
    """Have every worker finish what it has; return what is done then."""
    for bundle in list(machine.starter.active):
        answers = [(held, status, b"done", ()) for held in bundle.all]
        bundle.todo.clear()
        machine.finished(bundle, answers, 0.5, True, now)
    machine.flush(now)
    return did(machine)


@pytest.mark.parametrize(
    ("name", "tags"), [("", ()), ("a/b", ()), ("a\n", ()), ("bench", ("a/b",)), ("bench", ("",))]
)
def test_names_and_tags_that_cannot_be(name: str, tags: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="must be 1 to 200 printable characters"):
        Identity(node="id1", incarnation=ME, name=name, mesh="mesh", tags=tags)


def test_a_signature_that_is_too_long_to_be_told_is_left_out() -> None:
    assert Function("add", "shared", 1, "x" * 4096).told[1] == "x" * 4096
    assert Function("add", "shared", 1, "x" * 4097).told[1] == ""


def test_a_link_is_opened_once_and_asked_for_often() -> None:
    play(
        node(),
        (0, hello(1), [("welcome", 1, {"add": 2})]),
        (1, hello(2), [("welcome", 2, {"add": 2})]),
        (2, hello(3, believed=ME), [("welcome", 3, {"add": 2})]),
        (3, hello(4, believed=ELSE), [("refused", m.REFUSED_UNKNOWN), "note"]),
    )


def test_who_is_not_let_in() -> None:
    old = m.Hello(LINK, "me", 1, b"", "mesh", [99])
    play(
        node(),
        (0, hello(mesh="their"), [("refused", m.REFUSED_MESH), "note"]),
        (0, old, [("refused", m.REFUSED_VERSION), "note"]),
        (0, hello(caller="a/b"), ["note"]),
        (0, hello(believed=ME), [("refused", m.REFUSED_UNKNOWN), "note"]),  # it names a link that is not
        (0, tasks(1), [("refused", m.REFUSED_UNKNOWN)]),
        (0, m.Tasks(LINK, "me/add/1", 0, {}, []), []),  # not on a topic of somebody else
        (0, m.Beat(LINK, "me\0X", 9, 0, {}, {}), []),
        (0, beat(), [("refused", m.REFUSED_UNKNOWN)]),
        (0, m.Cancel(LINK, {"add": [1]}), []),
        (0, m.Bye(LINK), []),
    )


def test_the_newer_link_of_a_caller_supersedes_the_older() -> None:
    machine = linked()
    play(
        machine,
        (1, tasks(1, options=ONCE), [("claim", {"add": [1]})]),
        (2, hello(5, OTHER), [("welcome", 5, {"add": 2})]),
        (3, hello(4, LINK), [("refused", m.REFUSED_UNKNOWN), "note"]),  # late
        (3, hello(4, b"link0003"), []),  # late, too: it supersedes nobody
        (3, hello(6, LINK), [("refused", m.REFUSED_UNKNOWN)]),  # the numbers of its lanes must not begin anew
        (4, m.Go(LINK, {"add": [1]}), []),
        (5, beat(), [("refused", m.REFUSED_UNKNOWN)]),
    )
    assert machine.held == 0


def test_a_link_made_by_a_late_hello_does_not_speak_for_another_incarnation() -> None:
    """It would say MISSING of what the other one may have started."""
    stale = m.Beat(LINK, "me", 9, 0, {"add": (3, 3, 0)}, {"add": [3]}, ELSE)
    play(linked(), (1, stale, [("refused", m.REFUSED_UNKNOWN)]))


def test_a_task_from_arrival_to_answer() -> None:
    machine = linked()
    play(
        machine,
        (1, tasks(1, 2), [("start", 1), ("start", 2)]),
        (1, tasks(1, 2), ["note"]),
        (1, tasks(3), [("recalled", {"add": [3]}, m.BUSY)]),
    )
    assert finish(machine, 2.0) == [("reports", (1, 1, SUCCESS), (2, 2, SUCCESS))]
    play(machine, (3, beat(3, 3, {"add": [1]}, heard=2), [("missing", {"add": [1]}), ("credit", 9, 5, {})]))
    assert machine.drained


def test_answers_not_heard_are_published_at_the_second_beat() -> None:
    machine = linked()
    play(machine, (1.0, tasks(1), [("start", 1)]))
    assert finish(machine, 1.5) == [("reports", (1, 1, SUCCESS))]
    play(
        machine,
        (1.9, beat(1, 1, {"add": [1]}), [("credit", 9, 3, {})]),
        (2.9, beat(1, 1, {"add": [1]}), [("reports", (1, 1, SUCCESS)), ("credit", 9, 3, {})]),
        (3.9, beat(1, 1, {}, heard=1), [("credit", 9, 3, {})]),
    )


def test_an_answer_refused_by_the_socket_is_published_at_the_next_beat() -> None:
    machine = linked()
    play(machine, (1.0, tasks(1), [("start", 1)]))
    (bundle,) = machine.starter.active
    machine.finished(bundle, [(bundle.all[0], SUCCESS, b"", ())], 0.5, True, 1.5)
    machine.flush(1.5)
    (publish,) = machine.take()
    assert isinstance(publish, Publish)
    machine.unpublished(publish)
    play(machine, (1.9, beat(1, 1, {"add": [1]}), [("reports", (1, 1, SUCCESS)), ("credit", 9, 3, {})]))


def test_what_must_not_start_twice_asks_first() -> None:
    machine = linked(slots=1)
    play(
        machine,
        (1.0, tasks(1, attempt=2), [("claim", {"add": [1]})]),
        (1.5, beat(1, 1, {"add": [1]}), [("credit", 9, 1, {})]),
        (2.1, beat(1, 1, {"add": [1]}), [("credit", 9, 1, {}), ("claim", {"add": [1]})]),
        (2.2, m.Go(LINK, {"add": [1]}), [("start", 1)]),
        (2.3, m.Go(LINK, {"add": [1]}), []),
        (2.4, beat(1, 1, {"add": [1]}), [("credit", 9, 1, {"add": [1]})]),
    )


def test_no_task_is_taken_while_too_many_answers_are_kept() -> None:
    machine = linked()
    machine.bounds.kept = 1
    machine.received(tasks(1, 2), (), 1.0)
    for now in (1.1, 1.2):
        finish(machine, now)
    lane = machine.links[LINK].lanes["add"]
    granted = lane.granted
    machine.tick(2.0)
    assert "keeps 2 answers that callers have not heard" in notes(machine)[0].text
    machine.received(tasks(*range(3, granted + 1)), (), 2.1)
    for _ in range(3, granted + 1):
        finish(machine, 2.2)
    machine.received(beat(granted, granted, number=10), (), 2.3)
    assert (lane.seen, lane.granted) == (granted, granted)
    machine.received(beat(granted, granted, heard=granted, number=11), (), 2.4)
    machine.tick(3.2)
    machine.tick(3.3)
    assert lane.granted > granted


def test_nor_while_large_ones_take_too_many_bytes() -> None:
    machine = linked()
    bounds, link = machine.bounds, machine.links[LINK]
    bounds.kept_bytes = 100_000
    machine.received(tasks(1, 2), (), 1.0)
    (start,) = [action for action in machine.take() if isinstance(action, Start)][:1]
    machine.finished(start.bundle, [(start.bundle.all[0], SUCCESS, b"", (bytes(60_000),))], 0.1, True, 1.1)
    machine.flush(1.1)
    assert (bounds.taken, bounds.full) == (60_000, False)
    (other,) = link.all_held()
    link.answer(other, SUCCESS, bytes(70_000), ())
    assert (bounds.taken, bounds.full) == (130_000, True)
    assert link.credit(link.lanes["add"], 1.2) == link.lanes["add"].granted
    machine.received(beat(2, 2, heard=1, number=10), (), 2.1)
    assert (bounds.taken, bounds.full) == (70_000, False)
    machine.received(m.Bye(LINK), (), 2.2)
    assert bounds.taken == 0


def test_no_more_callers_are_let_in_than_may_be() -> None:
    """A further one gets in as soon as one has gone, or is silent and has nothing here."""
    machine = linked()
    machine.bounds.callers = 1
    machine.received(hello(1, OTHER, caller="other"), (), 1.0)
    assert list(machine.links) == [LINK]
    assert notes(machine)[0].text == "not let in: no more than 1 caller at a time; hint: max_callers"
    machine.received(tasks(1), (), 2.0)
    machine.received(hello(2, OTHER, caller="other"), (), 9.0)
    assert list(machine.links) == [LINK]
    machine.received(m.Bye(LINK), (), 9.1)
    machine.received(hello(3, OTHER, caller="other"), (), 9.2)
    assert list(machine.links) == [OTHER]
    machine.received(hello(1, b"link0003", caller="third"), (), 20.0)
    assert list(machine.links) == [b"link0003"]


def test_recall_takes_what_has_not_started() -> None:
    machine = linked(slots=1)
    machine.links[LINK].lanes["add"].granted = 9
    play(
        machine,
        (1, tasks(1, 2, 3), [("start", 1)]),
        (2, m.Recall(LINK, {"add": [1, 2, 7]}), [("recalled", {"add": [2]}, m.GIVEN_BACK)]),
        (3, m.Cancel(LINK, {"add": [1, 3]}), [("interrupt", 1)]),
    )
    assert machine.held == 1
    assert next(iter(machine.starter.active)).all[0].cancelled
    assert finish(machine, 4.0, int(Status.FAIL)) == []  # nobody waits for it
    assert machine.held == 0


def test_a_beat_cancels_what_its_caller_gave_up() -> None:
    machine = linked(slots=1)
    machine.links[LINK].lanes["add"].granted = 9
    play(
        machine,
        (1, tasks(1, 2, 3), [("start", 1)]),
        (2, beat(3, 2, {"add": [2]}), [("interrupt", 1), ("credit", 9, 9, {"add": [1]})]),
    )
    assert list(machine.links[LINK].lanes["add"].held) == [1, 2, 3]
    assert next(iter(machine.starter.active)).all[0].cancelled
    play(machine, (3, beat(3, 3, {"add": [3]}), [("credit", 9, 9, {"add": [1]})]))
    assert list(machine.links[LINK].lanes["add"].held) == [1, 3]


def test_credit_does_not_rise_while_it_drains() -> None:
    machine = linked()
    play(machine, (1, tasks(1, 2), [("start", 1), ("start", 2)]))
    for bundle in machine.starter.active:
        bundle.todo.clear()  # the workers have begun
    machine.drain(2.0)
    assert did(machine) == [("credit", 0, 2, {"add": [1, 2]})]
    assert finish(machine, 3.0) == [("reports", (1, 1, SUCCESS), (2, 2, SUCCESS))]
    play(machine, (4, beat(2, 2, {}, heard=2), [("credit", 9, 2, {})]))


def test_draining_gives_back_and_takes_no_more() -> None:
    machine = linked(slots=1)
    machine.links[LINK].lanes["add"].granted = 9
    play(machine, (1, tasks(1, 2), [("start", 1)]))
    next(iter(machine.starter.active)).todo.popleft()  # the worker has begun
    machine.drain(2.0)
    machine.drain(2.0)
    assert did(machine) == [("recalled", {"add": [2]}, m.DRAINING), ("credit", 0, 9, {"add": [1]})]
    play(machine, (3, tasks(3), [("recalled", {"add": [3]}, m.DRAINING)]))
    assert not machine.drained
    assert finish(machine, 4.0) == [("reports", (1, 1, SUCCESS))]
    assert not machine.drained  # it has not been heard
    play(machine, (5, beat(3, 3, {}, heard=1), [("credit", 9, 9, {})]))
    assert machine.drained


def test_silence_for_a_minute_and_bye_end_a_link() -> None:
    machine = linked()
    play(machine, (1, tasks(1, 2), [("start", 1), ("start", 2)]))
    machine.tick(1 + FORGET_SECONDS)
    assert did(machine) == []
    machine.tick(3 + FORGET_SECONDS)
    assert did(machine) == ["note"]
    assert machine.held == 0
    assert finish(machine, 70.0) == []
    play(
        machine,
        (71, hello(2, OTHER), [("welcome", 2, {"add": 2})]),
        (72, m.Bye(OTHER), []),
        (73, beat(), [("refused", m.REFUSED_UNKNOWN)]),
    )
    assert not machine.links


def test_a_subscription_that_comes_late_is_answered_until_the_link_is_proved() -> None:
    machine = linked()
    machine.subscribed("me", 1.0)
    machine.subscribed("nobody", 1.0)
    assert did(machine) == [("welcome", 1, {"add": 2})]
    play(machine, (2, beat(), [("credit", 9, 2, {})]))
    machine.subscribed("me", 3.0)
    assert did(machine) == []


def test_progress_is_told_to_who_asked() -> None:
    machine = linked()
    play(machine, (1, tasks(1, options=WATCHED), [("reports", (0, 1, 1)), ("start", 1), ("reports", (0, 1, 2))]))
    (bundle,) = machine.starter.active
    machine.progressed(bundle.all[0], b"half", 2.0)
    assert did(machine) == [("reports", (0, 1, 2))]
    play(machine, (3, tasks(2), [("start", 2)]))


def test_progress_is_told_once_where_a_task_is_taken_back_from_its_worker() -> None:
    machine = linked(1)
    machine.received(tasks(1), (), 1.0)
    (bundle,) = machine.starter.active
    bundle.todo.clear()
    machine.finished(bundle, [(bundle.all[0], SUCCESS, b"done", ())], 0.0001, True, 1.0)
    machine.flush(1.0)
    machine.received(beat(heard=1), (), 1.1)
    machine.received(tasks(2, 3, options=WATCHED), (), 1.2)
    (bundle,) = machine.starter.active
    first = bundle.todo.popleft()  # the worker has it
    assert [held.number for held in bundle.all] == [2, 3]
    did(machine)
    machine.tick(1.3)
    machine.finished(bundle, [(first, SUCCESS, b"done", ())], 0.1, True, 1.4)

    assert did(machine) == [("start", 3)]


def test_a_copy_that_a_watcher_is_too_slow_for_is_dropped_and_said() -> None:
    machine = linked()
    machine.watch(b"watch/me/add/", True)
    machine.received(tasks(1), (), 0.0)
    copies = [each for each in machine.take() if isinstance(each, Publish) and each.topic.startswith(b"watch/")]
    machine.unpublished(copies[0])
    (note,) = machine.take()
    assert isinstance(note, Note)
    assert (note.caller, note.level, note.code) == ("me", Level.DEBUG, EventCode.DROPPED)
    assert "a copy of a report was dropped" in note.text


def notes(machine: Node) -> list[Note]:
    return [action for action in machine.take() if isinstance(action, Note)]


def test_a_task_that_comes_twice_is_dropped_and_said() -> None:
    machine = linked(slots=3)
    machine.received(tasks(1, 2), (), 0.0)
    assert notes(machine) == []
    machine.received(tasks(1, 2, 3, 99), (), 0.1)  # 99 is over its credit, and refused in words
    (note,) = notes(machine)
    assert (note.caller, note.level, note.code) == ("me", Level.DEBUG, EventCode.REPEATED)
    assert note.text == "2 tasks came twice or too late: dropped"
    assert machine.held == 3


def test_a_hello_that_is_refused_is_said_once_a_minute() -> None:
    machine = node()
    for when, expected in [(0.0, 1), (1.0, 0), (59.0, 0), (60.0, 1)]:
        machine.received(hello(mesh="their\n"), (), when)
        said = notes(machine)
        assert len(said) == expected, when
        assert [(note.caller, note.level, note.code) for note in said] == [
            ("me", Level.WARNING, EventCode.REFUSED)
        ] * expected
        assert all(note.text == r"not let in: bench belongs to mesh 'mesh', not 'their\n'" for note in said)


def test_many_hellos_that_are_refused_are_counted() -> None:
    machine = node()
    for number in range(TOLD_MOST + 500):
        machine.received(hello(mesh="their", caller=f"me{number}"), (), 0.5)
    assert len(notes(machine)) == TOLD_MOST
    machine.tick(60.0)
    assert notes(machine) == []
    machine.tick(61.0)
    (note,) = notes(machine)
    assert note.text == "not let in: 500 more hellos in the last minute"
    machine.received(hello(mesh="their", caller="me1"), (), 61.0)
    assert len(notes(machine)) == 1


def test_copies_are_made_while_anybody_watches_however_many_there_are() -> None:
    machine = linked()
    prefixes = [b"watch/me/add/", b"watch/me/", b"watch/me/mul", *[b"watch/%06d/" % n for n in range(1000)]]
    for prefix in [*prefixes, prefixes[0], b"watch/" + b"x" * 3000]:
        machine.watch(prefix, True)
    machine.watch(b"watch/" + b"x" * 3000, False)
    for prefix in prefixes:
        machine.watch(prefix, False)
        machine.watch(prefix, False)  # as nobody does
        machine.watch(prefix, True)
        machine.watch(prefix, False)
    machine.watch(b"watch/me/add/", True)
    assert [type(each.message) for each in copies(machine, 1)] == [m.Reports, m.Reports]
    machine.watch(b"watch/me/add/", False)
    assert copies(machine, 2) == []


def copies(machine: Node, number: int) -> list[Publish]:
    machine.received(tasks(number), (), number)
    return [each for each in machine.take() if isinstance(each, Publish) and each.topic.startswith(b"watch/")]


def test_watchers_get_copies_of_their_own_task_only() -> None:
    machine = linked()
    machine.watch(b"watch/me/add/t1/", True)
    machine.received(tasks(1, 2), (), 1.0)
    topics = [action.topic for action in machine.take() if isinstance(action, Publish)]
    assert topics == [b"watch/me/add/t1/"] * 2
    machine.watch(b"watch/me/add/t1/", False)
    for bundle in list(machine.starter.active):
        machine.finished(bundle, [(bundle.all[0], SUCCESS, b"", ())], 0.1, True, 2.0)
    machine.flush(2.0)
    topics = [action.topic for action in machine.take() if isinstance(action, Publish)]
    assert topics == [b"me/add/"]


def test_a_frame_is_bounded_and_a_large_body_goes_alone() -> None:
    machine = linked(slots=1)
    machine.links[LINK].lanes["add"].granted = 1000
    machine.received(tasks(*range(1, 101)), (), 1.0)
    link = machine.links[LINK]
    for number, held in list(link.lanes["add"].held.items()):
        held.link.running += 1
        link.answer(held, SUCCESS, b"", (b"large",) if number == 70 else ())
    machine._dirty[link] = None
    machine.flush(2.0)
    sizes = [
        len(a.message.items) for a in machine.take() if isinstance(a, Publish) and isinstance(a.message, m.Reports)
    ]
    assert sizes == [64, 5, 1, 30]


# ---------------------------------------------------------------------- credit given back at once


def crowded() -> Node:
    """Return a node of one worker: task 2 runs, 3 to 5 wait, and no credit is left."""
    machine = linked(slots=1)
    play(machine, (1.0, tasks(1), [("start", 1)]))
    one_done(machine, 1.01)  # 10 ms: three more tasks may wait
    play(machine, (1.01, tasks(2, 3, 4, heard=1), [("start", 2)]), (1.01, tasks(5), []))
    next(iter(machine.starter.active)).todo.popleft()
    assert machine.links[LINK].lanes["add"].granted == 5
    return machine


def one_done(machine: Node, now: float, status: int = SUCCESS) -> list[Any]:
    """Have the worker finish what it runs, in 10 ms."""
    bundle = next(iter(machine.starter.active))
    bundle.todo.clear()
    machine.finished(bundle, [(held, status, b"", ()) for held in bundle.all], 0.01, True, now)
    machine.flush(now)
    return did(machine)


def test_cancelled_tasks_give_their_credit_back_at_once_and_together() -> None:
    machine = crowded()
    play(machine, (1.01, m.Cancel(LINK, {"add": [3]}), []), (1.01, m.Cancel(LINK, {"add": [4]}), []))
    assert machine.wakeup <= 1.01
    machine.tick(1.01)
    assert did(machine) == [("credit", 0, 7, {"add": [2]})]
    assert machine.wakeup > 1.01
    machine.tick(1.012)
    assert did(machine) == []


def test_tasks_given_back_give_their_credit_back_too() -> None:
    machine = crowded()
    play(machine, (1.01, m.Recall(LINK, {"add": [4, 5]}), [("recalled", {"add": [4, 5]}, m.GIVEN_BACK)]))
    machine.tick(1.01)
    assert did(machine) == [("credit", 0, 7, {"add": [2]})]


def test_a_task_that_its_worker_refuses_goes_back_with_the_reason() -> None:
    machine = linked(slots=1)
    play(machine, (1, tasks(1), [("start", 1)]))
    (held,) = next(iter(machine.starter.active)).all
    machine.refused(held, "no hand is free", 1.1)
    machine.refused(held, "no hand is free", 1.1)
    assert did(machine) == [("recalled", {"add": [1]}, "no hand is free")]
    assert finish(machine, 1.2, int(Status.FAIL)) == []  # its answer is not kept
    machine.tick(1.2)
    assert did(machine) == [("credit", 0, 2, {})]
    play(machine, (2, beat(1, 1, {"add": [1]}), [("missing", {"add": [1]}), ("credit", 9, 2, {})]))


def test_what_was_refused_does_not_fail_though_its_caller_stops_it_meanwhile() -> None:
    machine = linked(slots=1)
    play(machine, (1, tasks(1), [("start", 1)]))
    machine.refused(next(iter(machine.starter.active)).all[0], "no hand is free", 1.1)
    did(machine)
    play(machine, (1.2, m.Cancel(LINK, {"add": [1]}, tell=True), []))
    assert finish(machine, 1.3, FAIL) == []


def test_a_long_reason_is_cut() -> None:
    machine = linked(slots=1)
    play(machine, (1, tasks(1), [("start", 1)]))
    machine.refused(next(iter(machine.starter.active)).all[0], "x" * 5000, 1.1)
    (action,) = machine.take()
    assert isinstance(action, Publish)
    assert isinstance(action.message, m.Recalled)
    assert len(action.message.reason) == m.TEXT_MOST


def test_nothing_is_given_back_to_who_has_left_or_of_what_is_done() -> None:
    machine = linked(slots=1)
    play(machine, (1, tasks(1), [("start", 1)]))
    (held,) = next(iter(machine.starter.active)).all
    finish(machine, 1.1)
    machine.refused(held, "too late", 1.2)
    play(machine, (1.3, m.Bye(LINK), []))
    machine.refused(held, "too late", 1.4)
    assert did(machine) == []


def test_a_cancelled_task_that_ran_gives_its_credit_back_when_it_ends() -> None:
    machine = crowded()
    play(machine, (1.01, m.Cancel(LINK, {"add": [2]}), [("interrupt", 2)]))
    machine.tick(1.01)
    assert did(machine) == []  # it runs on
    assert one_done(machine, 1.02, int(Status.FAIL)) == [("start", 3)]
    machine.tick(1.02)
    assert did(machine) == [("credit", 0, 6, {"add": [3]})]


def test_nothing_is_said_where_a_beat_or_a_report_has_told_already() -> None:
    machine = crowded()
    play(machine, (1.01, m.Cancel(LINK, {"add": [5]}), []))
    assert one_done(machine, 1.02) == [("start", 3), ("reports", (2, 2, SUCCESS))]
    machine.tick(1.02)
    assert did(machine) == []
    play(machine, (1.02, m.Cancel(LINK, {"add": [4]}), []))
    play(machine, (1.02, beat(5, 5, {"add": [3]}, heard=2), [("credit", 9, 8, {"add": [3]})]))
    machine.tick(1.02)
    assert did(machine) == []


def test_nothing_is_said_to_who_has_left_nor_by_who_drains() -> None:
    machine = crowded()
    play(machine, (1.01, m.Cancel(LINK, {"add": [4]}), []), (1.01, m.Bye(LINK), [("interrupt", 2)]))
    machine.tick(1.01)
    assert did(machine) == []
    machine = crowded()
    machine.received(m.Cancel(LINK, {"add": [4]}), (), 1.01)
    machine.drain(1.01)
    did(machine)
    machine.tick(1.01)
    assert did(machine) == []


# ---------------------------------------------------------------------- limits, stopping, resizing

FAIL = int(Status.FAIL)


def limited(seconds: float, *, once: bool = False) -> m.TaskOptions:
    return m.TaskOptions(at_most_once=once, time_limit=seconds)


def overran(machine: Node, now: float, *, restart: bool) -> list[Any]:
    """Let time pass until a task is over its limit, and answer that; return what is done then."""
    machine.tick(now)
    actions = machine.take()
    (over,) = [action for action in actions if isinstance(action, Overrun)]
    machine.overran(over.bundle, over.held, b"too long", now, restart=restart)
    return did(machine)


def test_a_task_over_its_limit_is_noticed_once_and_loses_its_worker() -> None:
    machine = linked(slots=1)
    machine.links[LINK].lanes["add"].granted = 9
    play(machine, (1, tasks(1, options=limited(5.0)), [("start", 1)]), (1.5, tasks(2), []))
    (bundle,) = machine.starter.active
    bundle.todo.clear()
    assert machine.starter.wakeup == 6.0
    machine.tick(5.9)
    assert did(machine) == []
    assert overran(machine, 6.0, restart=False) == [("start", 2), ("reports", (1, 1, FAIL))]
    machine.tick(7.0)
    assert did(machine) == []
    machine.finished(bundle, [(held, SUCCESS, b"late", ()) for held in bundle.all], 9.0, True, 8.0)  # it came back
    machine.flush(8.0)
    assert did(machine) == []
    assert machine.starter.pools["shared"].free == 0
    assert finish(machine, 9.0) == [("reports", (2, 2, SUCCESS))]
    assert machine.starter.pools["shared"].free == 1


def test_one_that_ends_in_time_is_watched_no_more() -> None:
    machine = linked(slots=1)
    play(machine, (1, tasks(1, options=limited(5.0)), [("start", 1)]))
    assert finish(machine, 2.0) == [("reports", (1, 1, SUCCESS))]
    assert machine.starter.wakeup is None
    machine.tick(9.0)
    assert did(machine) == []


def test_tasks_with_a_limit_are_run_alone() -> None:
    machine = linked(slots=1)
    machine.links[LINK].lanes["add"].granted = 99
    machine.functions["add"].run_time.finished(1, 0.00001)
    play(
        machine,
        (1, tasks(1, 2), [("start", 1, 2)]),
        (1, tasks(3, options=limited(5.0)), []),
        (1, tasks(4, 5), []),
    )
    for expected in ([1, 2], [3], [4, 5]):
        (bundle,) = machine.starter.active
        assert [held.number for held in bundle.all] == expected
        bundle.todo.clear()
        machine.finished(bundle, [(held, SUCCESS, b"", ()) for held in bundle.all], 0.00001, True, 2.0)


def test_the_limit_of_the_function_holds_where_the_task_has_none() -> None:
    identity = Identity(node="id1", incarnation=ME, name="bench", mesh="mesh")
    machine = Node(identity, [Function("add", "shared", 2, limits=(5.0, 0.0))], {"shared": 2}, 0.0)
    play(machine, (0.0, hello(), [("welcome", 1, {"add": 2})]))
    machine.received(tasks(1), (), 1.0)
    machine.received(tasks(2, options=limited(2.0)), (), 1.0)
    assert sorted(machine.starter.timed.values()) == [3.0, 6.0]


def test_where_the_process_has_to_end_the_rest_is_given_back() -> None:
    """What has not started, unharmed; what runs, given up."""
    machine = linked(slots=2)
    machine.links[LINK].lanes["add"].granted = 9
    play(
        machine,
        (1, tasks(1, options=limited(5.0)), [("start", 1)]),
        (1, tasks(2), [("start", 2)]),
        (1, tasks(3, options=ONCE), []),
        (1, tasks(4), []),
    )
    for bundle in machine.starter.active:
        bundle.todo.clear()
    assert overran(machine, 6.0, restart=True) == [
        ("recalled", {"add": [3, 4]}, m.DRAINING),
        ("credit", 0, 9, {"add": [2]}),
        ("recalled", {"add": [2]}, m.RESTARTING),
        ("reports", (1, 1, FAIL)),
    ]
    assert machine.restarting
    assert machine.draining
    assert machine.held == 0
    assert not machine.over  # nobody has heard that yet
    play(machine, (6.1, tasks(5), [("recalled", {"add": [5]}, m.DRAINING)]))


def test_it_never_says_that_what_it_gave_up_did_not_start() -> None:
    """The first RECALLED may be lost; MISSING would have an at-most-once task started a second time."""
    test = linked(slots=2)
    test.links[LINK].lanes["add"].granted = 9
    play(test, (1, tasks(1, options=limited(5.0)), [("start", 1)]), (1, tasks(2), [("start", 2)]))
    for bundle in test.starter.active:
        bundle.todo.clear()
    overran(test, 6.0, restart=True)
    play(
        test,
        (
            7.0,
            beat(3, 3, {"add": [2, 3]}, heard=1),
            [
                ("missing", {"add": [3]}),
                ("recalled", {"add": [2]}, m.RESTARTING),
                ("credit", 9, 9, {}),
            ],
        ),
    )
    test.tick(7.0)
    assert test.over  # all is heard


def test_the_end_of_the_process_does_not_wait_for_ever() -> None:
    machine = linked(slots=1)
    play(machine, (1, tasks(1, options=limited(5.0)), [("start", 1)]))
    next(iter(machine.starter.active)).todo.clear()
    overran(machine, 6.0, restart=True)
    play(machine, (7.0, m.Recall(LINK, {}), []))
    assert machine.wakeup <= 8.0
    machine.tick(7.9)
    assert not machine.over
    machine.tick(8.0)
    assert machine.over


def test_a_caller_that_waits_for_it_hears_what_became_of_a_cancelled_task() -> None:
    machine = linked(slots=1)
    machine.links[LINK].lanes["add"].granted = 9
    play(
        machine,
        (1, tasks(1, 2), [("start", 1)]),
        (
            2,
            m.Cancel(LINK, {"add": [1, 2, 7]}, tell=True),
            [("recalled", {"add": [2]}, m.CANCELLED), ("interrupt", 1)],
        ),
        (3, m.Cancel(LINK, {"add": [1, 2]}, tell=True), []),
    )
    assert finish(machine, 4.0, FAIL) == [("reports", (1, 1, FAIL))]


def test_who_has_settled_it_hears_nothing_of_a_failure() -> None:
    machine = linked(slots=1)
    play(
        machine,
        (1, tasks(1), [("start", 1)]),
        (2, m.Cancel(LINK, {"add": [1]}), [("interrupt", 1)]),
    )
    assert finish(machine, 4.0, FAIL) == []


def test_a_pool_grows_and_shrinks_while_it_works() -> None:
    machine = linked(slots=1)
    machine.links[LINK].lanes["add"].granted = 9
    play(machine, (1, tasks(1, 2, 3, 4), [("start", 1)]))
    machine.resize("shared", 3, 2.0)
    assert did(machine) == [("welcome", 1, {"add": 9}), ("start", 2), ("start", 3)]
    assert machine.functions["add"].told[0] == 3
    machine.resize("shared", 1, 3.0)
    assert did(machine) == [("welcome", 1, {"add": 9})]
    assert machine.starter.pools["shared"].free == -2
    first, second, third = list(machine.starter.active)
    for bundle in (first, second):
        bundle.todo.clear()
        machine.finished(bundle, [(held, SUCCESS, b"", ()) for held in bundle.all], 0.1, True, 4.0)
    machine.flush(4.0)
    assert [short[0] for short in did(machine)] == ["reports"]
    third.todo.clear()
    machine.finished(third, [(held, SUCCESS, b"", ()) for held in third.all], 0.1, True, 5.0)
    assert did(machine) == [("start", 4)]


# ---------------------------------------------------------------------- expiry and priority


def begin(machine: Node) -> None:
    """Have every worker begin what it was given."""
    for bundle in machine.starter.active:
        bundle.todo.clear()


def test_what_has_not_started_in_time_is_given_back_as_expired() -> None:
    machine = linked(1)
    machine.received(tasks(1), (), 1.0)
    assert did(machine) == [("start", 1)]
    begin(machine)
    machine.links[LINK].lanes["add"].granted = 9
    machine.received(tasks(2, options=m.TaskOptions(expires=0.5)), (), 1.0)
    machine.received(tasks(3), (), 1.0)
    assert did(machine) == []
    machine.tick(1.4)
    did(machine)
    assert machine.wakeup == 1.5
    machine.tick(1.5)
    assert did(machine)[0] == ("recalled", {"add": [2]}, m.EXPIRED)
    assert ("start", 3) in finish(machine, 1.6)


def test_what_has_started_in_time_does_not_expire() -> None:
    machine = linked(1)
    machine.received(tasks(1, options=m.TaskOptions(expires=0.5)), (), 1.0)
    assert did(machine) == [("start", 1)]
    begin(machine)
    machine.tick(1.6)
    assert did(machine) == []
    assert ("reports", (1, 1, SUCCESS)) in finish(machine, 1.7)


def test_what_has_its_go_does_not_expire_and_what_only_asks_does() -> None:
    machine = linked(2)
    options = m.TaskOptions(at_most_once=True, expires=0.5)
    play(machine, (1.0, tasks(1, options=options), [("claim", {"add": [1]})]))
    machine.tick(1.6)
    assert ("recalled", {"add": [1]}, m.EXPIRED) in did(machine)
    play(machine, (2.0, tasks(2, options=options), [("claim", {"add": [2]})]))
    play(machine, (2.1, m.Go(LINK, {"add": [2]}), [("start", 2)]))
    begin(machine)
    machine.tick(2.6)
    assert did(machine) == []


def test_higher_priorities_start_first_and_ask_first() -> None:
    machine = linked(1)
    machine.links[LINK].lanes["add"].granted = 99
    machine.received(tasks(1), (), 1.0)
    for number, priority in ((2, 0), (3, -1), (4, 7), (5, 2), (6, 7), (7, 0)):
        machine.received(tasks(number, options=m.TaskOptions(priority=priority)), (), 1.0)
    once = m.TaskOptions(at_most_once=True)
    machine.received(tasks(8, options=once), (), 1.0)
    machine.received(tasks(9, options=m.TaskOptions(at_most_once=True, priority=1)), (), 1.0)
    done = [done for _ in range(7) for done in finish(machine, 2.0)]
    assert [short[1:] for short in done if short[0] == "start"] == [(n,) for n in (1, 4, 6, 5, 2, 7, 3)]
    assert [short for short in done if short[0] == "claim"] == [("claim", {"add": [9]})]
    assert machine.starter.pools["shared"].ranks == {}
