"""What is kept of the tries of a task that came to nothing."""

from __future__ import annotations

import pickle
from random import Random

from dingo_zmq.model import Code, Failure, Options, Try, error_for
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.ledger import Entry, Route, wire_options
from dingo_zmq.protocol.tried import DIED, HISTORY_MOST, SILENT, note, note_died, note_lost
from dingo_zmq.protocol.why import why
from tests.unit.test_caller import ME, NEXT, Play, Side


def task(**options: int) -> Entry:
    chosen = Options(**options)
    return Entry(Route("add"), "1", b"", (), chosen, wire_options(chosen), None)


def ends(entry: Entry) -> list[str]:
    return [str(one) for one in entry.history]


def lives(play: Play, *, node: str = "n1", number: int = 3) -> None:
    """The node that has the one task is seen to run it, and dies, so often."""
    for life in range(number):
        (running,) = play.caller.peers[node].lanes["add"].open
        play.echo(life + 0.1, node, add=[running])
        play.caller.refused(node, life + 0.2)
        play.welcome(node, life + 0.3, incarnation=bytes([life] * 8))
    play.did()


def test_a_killer_carries_the_nodes_that_died_with_it() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    lives(play)
    assert entry.failure is not None
    assert entry.failure.code is Code.POISON
    assert entry.failure.history == tuple(Try("n1", number, "died") for number in (1, 2, 3))
    assert str(error_for(entry.failure)) == (
        "3 nodes died while it may have been running on them; tried on n1 (died), n1 (died), n1 (died)"
    )
    assert error_for(entry.failure).history == entry.failure.history


def test_what_is_open_tells_why() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    lives(play, number=2)
    assert why(play.caller, entry, 2.0).endswith(
        "(sent 3 times, 2 nodes died with it; tried on n1 (died), n1 (died))"
    )


def test_of_a_death_it_is_told_whether_it_may_have_been_running() -> None:
    first, second, once = task(), task(), task(at_most_once=True)
    first.attempt = once.attempt = 1
    second.attempt = 2
    for entry in (first, second, once):
        note_lost(entry, "n1", proved=True)
        note_lost(entry, "n1", proved=False)
        entry.started = True
        note_lost(entry, "n1", proved=False)
    early = ["n1 (died before it started)", "n1 (fell silent before it started)", "n1 (fell silent)"]
    assert ends(first) == [
        "n1 (died, perhaps before it started)", "n1 (fell silent, perhaps before it started)", "n1 (fell silent)"
    ]  # fmt: skip
    assert ends(second) == ends(once) == early


def test_silence_becomes_a_death_once_another_incarnation_shows() -> None:
    for incarnation, end in ((NEXT, "died"), (ME, "fell silent")):
        play = Play().ready()
        (entry,) = play.submit(1, 0.0)
        play.echo(0.1, add=[1])
        for side in Side:
            play.caller.disconnected("n1", side, 0.2)
        play.ticks(0.3, 6.0)
        assert ends(entry) == ["n1 (fell silent)"]
        for side in Side:
            play.caller.connected("n1", side, 6.1)
        play.hear(m.Refused(play.token(), m.REFUSED_UNKNOWN, "", [1]), 6.2)
        play.welcome("n1", 6.3, incarnation=incarnation)
        assert ends(entry) == [f"n1 ({end})"]


def test_the_newest_silence_of_that_node_is_the_death() -> None:
    entry = task()
    for node in ("n1", "n2", "n1", "n3"):
        note(entry, node, SILENT)
    note_died(entry, "n1")
    assert ends(entry) == ["n1 (fell silent)", "n2 (fell silent)", "n1 (died)", "n3 (fell silent)"]


def test_what_was_given_back_and_why() -> None:
    play = Play().ready()
    (entry,) = play.submit(1, 0.0)
    play.did()
    for number, reason in enumerate((m.BUSY, m.GIVEN_BACK), 1):
        play.hear(m.Recalled(play.token(), {"add": [number]}, reason), number)
    play.hear(m.Missing(play.token(), {"add": [3]}), 3.0)
    assert [one.end for one in entry.history] == ["gave it back: busy", "gave it back", "does not have it"]
    failure = Failure(Code.RAISED, "no", "ValueError", "", "n2", 4).with_history(entry.history)
    assert str(failure) == (
        "ValueError: no (on n2); tried before on n1 (gave it back: busy), n1 (does not have it)"
    )


def test_a_failure_does_not_repeat_its_own_try() -> None:
    tries = (Try("n1", 1, "died"), Try("n2", 2, "gave it back: node restarts"))
    assert Failure(Code.UNKNOWN, "", node="n2", attempt=2).with_history(tries).history == tries[:1]
    assert Failure(Code.UNKNOWN).with_history(()) == Failure(Code.UNKNOWN)


def test_of_very_many_tries_the_deaths_and_the_newest_are_kept() -> None:
    entry, dice = task(), Random(1)
    for number in range(500):
        entry.attempt += 1
        note(entry, "n1", DIED if number in (3, 5) else dice.choice(("gave it back", "gave it back: busy")))
    assert len(entry.history) == HISTORY_MOST
    numbers = [one.attempt for one in entry.history]
    assert numbers == [4, 6, *range(491, 501)]
    for _ in range(HISTORY_MOST):
        entry.attempt += 1
        note(entry, "n2", DIED)
    assert {one.node for one in entry.history} == {"n2"}


def test_it_is_plain_data_and_harmless_as_text() -> None:
    failure = Failure(Code.POISON, "dead", history=(Try("n\x1b1", 1, "died"),))
    assert pickle.loads(pickle.dumps(failure)) == failure
    assert str(failure) == "dead; tried on n\\x1b1 (died)"
