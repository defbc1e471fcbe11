"""What a caller knows of each node."""

from __future__ import annotations

from random import Random

import pytest

from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.ledger import Lane, Route
from dingo_zmq.protocol.roster import Heard, Peer, Side, Stage, refs

TOKEN = b"12345678"


def peer(*numbers: int) -> Peer:
    """Return a node that is READY, to which BEATs of these numbers went out, one each second."""
    made = Peer("n1", 0)
    made.open_link(TOKEN, 0, 0.0)
    made.stage = Stage.READY
    made.up = set(Side)
    for number in numbers:
        assert made.numbered(float(number)) == number
    return made


def test_heard_is_the_highest_with_none_missing_below() -> None:
    heard = Heard()
    for number, total in [(1, 1), (3, 1), (4, 1), (1, 1), (3, 1), (2, 4), (6, 4), (5, 6)]:
        heard.add(number)
        assert heard.total == total
    assert heard.ahead == set()


def test_heard_in_any_order() -> None:
    numbers = [n for n in range(1, 200) for _ in range(2)]
    Random(1).shuffle(numbers)
    heard = Heard()
    for number in numbers:
        heard.add(number)
    assert (heard.total, heard.ahead) == (199, set())


def test_silence_counts_from_the_sending_of_what_was_echoed() -> None:
    made = peer(1, 2, 3)
    assert made.echoed(2, 3.2)
    assert made.silence(3.2) == pytest.approx(1.2)
    assert made.round_trip == pytest.approx(1.2)
    assert not made.echoed(2, 9.0)  # once
    assert not made.echoed(1, 9.0)  # overtaken
    assert not made.echoed(77, 9.0)  # never sent
    assert made.silence(9.0) == 7.0


def test_after_a_break_only_a_later_number_proves_the_link() -> None:
    made = peer(1, 2)
    made.broke, made.valid_from = True, 3
    assert not made.echoed(2, 2.5)
    assert made.proof == 2.0
    assert not made.usable(2.6)
    made.numbered(3.0)
    assert made.echoed(3, 3.1)
    assert made.usable(3.2)


@pytest.mark.parametrize(("broke", "limit"), [(False, 30.0), (True, 5.0)])
def test_when_silence_is_loss(broke: bool, limit: float) -> None:
    made = peer()
    made.broke = broke
    assert not made.silent_too_long(limit)
    assert made.silent_too_long(limit + 0.1)
    made.broke = False
    made.up.discard(Side.TASKS)
    assert made.silent_too_long(5.1)


def test_when_tasks_may_be_sent() -> None:
    made = peer()
    assert made.usable(2.4)
    assert not made.usable(2.5)  # suspect
    made.draining = True
    assert not made.usable(0.0)
    made.draining, made.stage = False, Stage.GREETING
    assert not made.usable(0.0)


def test_a_beat_lists_what_was_open_at_the_beat_before() -> None:
    made = peer()
    lane = made.lanes["add"] = Lane("n1", "add", 2, "", "")
    made.incarnation = b"abcdefgh"
    lane.sent, lane.open = 2, {1: None, 2: None}  # type: ignore[dict-item]
    first = made.beat("me", {"add": 7}, 1.0)
    assert (first.lanes, first.open, first.number) == ({"add": (2, 0, 7)}, {}, 1)
    assert first.incarnation == b"abcdefgh"
    made.beaten()
    lane.sent, lane.open = 4, {2: None, 4: None}  # type: ignore[dict-item]
    assert made.beat("me", {}, 2.0).open == {"add": [2]}
    made.resync = True
    everything = made.beat("me", {}, 3.0)
    assert (everything.lanes, everything.open) == ({"add": (4, 4, 0)}, {"add": [2, 4]})


def test_numbers_never_echoed_are_forgotten_in_the_end() -> None:
    made = peer(*range(1, 200))
    assert len(made.sent_at) == 64
    assert not made.echoed(1, 200.0)
    assert made.echoed(199, 200.0)


def welcomed(name: str, *tags: str, fingerprint: str = "") -> Peer:
    """Return a node of that name that has a function "add"."""
    made = peer()
    functions = {"add": (2, "", fingerprint, False)}
    told = m.Welcome(TOKEN, 1, f"id-{name}", TOKEN, name, "mesh", list(tags), 999, functions, 1, 1, {}, False)
    made.welcomed(told)
    made.lanes["add"] = Lane("n1", "add", 2, "", fingerprint)
    return made


@pytest.mark.parametrize(
    ("route", "name", "takes"),
    [
        (Route("add"), "bench", True),
        (Route("mul"), "bench", False),
        (Route("add", "ours"), "bench", True),  # the node does not tell
        (Route("add", size=999), "bench", True),
        (Route("add", size=1000), "bench", False),
        (Route("add", node="bench"), "bench", True),
        (Route("add", node="bench"), "bench/2", True),
        (Route("add", node="bench/2"), "bench/2", True),
        (Route("add", node="bench/2"), "bench", False),
        (Route("add", node="bench/2"), "bench/22", False),
        (Route("add", node="bench"), "bench-3", False),
        (Route("add", node="bench"), "bench/x", False),
        (Route("add", node="id-bench/2"), "bench/2", True),
        (Route("add", node="id-bench"), "bench/2", False),
        (Route("add", needs=("psu",)), "bench", True),
        (Route("add", needs=("cam", "psu")), "bench", True),
        (Route("add", needs=("cam", "laser")), "bench", False),
        (Route("add", node="bench", needs=("laser",)), "bench", False),
    ],
)
def test_which_node_takes_a_task(route: Route, name: str, takes: bool) -> None:
    made = welcomed(name, "psu", "cam")
    assert made.takes(route) is (made.lanes["add"] if takes else None)


def test_a_function_that_differs_gets_no_task_but_by_name() -> None:
    made = welcomed("bench", fingerprint="abc@2")
    for fingerprint, takes in (("", True), ("abc@2", True), ("abc@1", False), ("abc", False)):
        assert (made.takes(Route("add", fingerprint)) is not None) is takes


def test_what_a_node_lacks() -> None:
    made = welcomed("bench", "psu")
    assert made.lacks(("cam", "psu", "laser")) == ["cam", "laser"]
    made.welcomed(made.welcome)  # type: ignore[arg-type]
    assert made.is_called("bench")
    assert not made.is_called("n1")


def test_who_is_hopeless() -> None:
    made = peer()
    assert not made.hopeless
    made.up.clear()
    assert not made.hopeless  # it may come back
    made.lost = True
    assert made.hopeless
    made.up = set(Side)
    assert not made.hopeless
    made.open_link(b"", 0, 0.0)
    assert made.hopeless


def test_refs() -> None:
    add, mul = (Lane("n1", name, 1, "", "") for name in ("add", "mul"))
    assert refs([(add, 1), (mul, 1), (add, 3)]) == {"add": [1, 3], "mul": [1]}
