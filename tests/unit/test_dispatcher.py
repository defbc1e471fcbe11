"""Which node gets a task, and which tasks come back."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dingo_zmq.model import Options
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.dispatcher import Dispatcher
from dingo_zmq.protocol.ledger import Entry, Lane, Route
from dingo_zmq.protocol.roster import Peer

DISPATCHER = Dispatcher(Random(1))


def entry(route: Route = Route("add")) -> Entry:  # noqa: B008 - a tuple
    return Entry(route, "1", b"", (), Options(), None, None)


def peer(
    key: str,
    *,
    slots: int = 2,
    held: int = 0,
    run_time: float | None = 0.01,
    told_at: float = 0.0,
    limit: int = 100,
    pace: int = 1000,
    tags: tuple[str, ...] = (),
    held_for: Route = Route("add"),  # noqa: B008 - a tuple
) -> Peer:
    made = Peer(key, 0)
    made.welcomed(
        m.Welcome(b"12345678", 1, key, b"abcdefgh", key, "mesh", list(tags), 2**20, {}, m.VERSION, pace, {}, False)
    )
    lane = made.lanes["add"] = Lane(key, "add", slots, "", "")
    lane.run_time, lane.told_at, lane.limit = run_time, told_at, limit
    for _ in range(held):
        lane.sent += 1
        lane.open[lane.sent] = entry(held_for)
    return made


def chosen(*peers: Peer, now: float = 0.0) -> tuple[str, int]:
    (lane, _), most = DISPATCHER.choose([(peer.lanes["add"], peer) for peer in peers], list(peers), now)
    return lane.key, most


def test_the_one_that_will_be_done_first() -> None:
    assert chosen(peer("a", held=2), peer("b", held=1))[0] == "b"
    assert chosen(peer("a", held=3, slots=4), peer("b", held=1, slots=1))[0] == "a"
    assert chosen(peer("a", run_time=0.5), peer("b", held=8))[0] == "b"


def test_own_work_in_other_functions_counts() -> None:
    busy = peer("a")
    other = busy.lanes["mul"] = Lane("a", "mul", 1, "", "")
    other.run_time, other.open = 1.0, {1: entry()}
    assert chosen(busy, peer("b", held=3))[0] == "b"


def test_equal_ones_share() -> None:
    assert {chosen(peer("a"), peer("b"))[0] for _ in range(50)} == {"a", "b"}


@pytest.mark.parametrize(("run_time", "most"), [(0.01, 1), (0.0001, 10), (0.000001, 64), (None, 1)])
def test_one_choice_places_a_millisecond_of_work(run_time: float | None, most: int) -> None:
    assert chosen(peer("a", run_time=run_time)) == ("a", most)


def test_never_more_than_the_credit() -> None:
    assert chosen(peer("a", run_time=0.00001, limit=5, held=2)) == ("a", 3)


def test_what_is_not_known_is_guessed_from_others_and_the_pace() -> None:
    known, fresh = peer("a", run_time=0.02, pace=1000), peer("b", run_time=None, pace=500)
    assert DISPATCHER.run_time(fresh.lanes["add"], fresh, [known, fresh], 0.0) == pytest.approx(0.04)


def test_a_pace_that_differs_a_little_may_have_been_measured_in_a_busy_moment() -> None:
    known, fresh = peer("a", run_time=0.02, pace=1000), peer("b", run_time=None, pace=600)
    assert DISPATCHER.run_time(fresh.lanes["add"], fresh, [known, fresh], 0.0) == pytest.approx(0.02)
    full, free = peer("a", slots=1, held=2, run_time=5.0), peer("b", slots=1, run_time=None, pace=600)
    assert recalled(full, free) == [2]


def test_what_is_old_is_never_believed_to_be_quicker() -> None:
    old, quick = peer("a", run_time=0.5), peer("b", run_time=0.001, told_at=10.0)
    slow = peer("c", run_time=9.0, told_at=10.0)
    lane = old.lanes["add"]
    assert DISPATCHER.run_time(lane, old, [old, quick], 1.0) == 0.5
    assert DISPATCHER.run_time(lane, old, [quick], 10.0) == 0.5
    assert DISPATCHER.run_time(lane, old, [slow], 10.0) == 9.0
    lane.open[1] = entry()
    assert DISPATCHER.run_time(lane, old, [slow], 10.0) == 0.5


def recalled(*peers: Peer, now: float = 10.0, queued: tuple[Route, ...] = ()) -> list[int]:
    found = DISPATCHER.recall("add", list(peers), now, queued)
    if found is None:
        return []
    peer, entries = found
    numbers = {entry: number for number, entry in peer.lanes["add"].open.items()}
    return [numbers[entry] for entry in entries]


def test_free_workers_get_the_newest_of_who_has_too_much() -> None:
    assert recalled(peer("a", held=9, run_time=1.0, told_at=9.0), peer("b", run_time=1.0, told_at=9.0)) == [8, 9]


def test_nothing_is_recalled_for_a_small_gain() -> None:
    assert recalled(peer("a", held=9, run_time=0.05), peer("b", run_time=0.05)) == []


def test_nothing_is_recalled_for_workers_that_others_keep_busy() -> None:
    busy = peer("b", run_time=1.0)
    busy.load = 2
    assert recalled(peer("a", held=9, run_time=1.0), busy) == []


def test_nothing_is_recalled_twice_in_two_seconds() -> None:
    full, free = peer("a", held=9, run_time=1.0), peer("b", run_time=1.0)
    full.recalled_at = 8.5
    assert recalled(full, free, now=10.0) == []
    assert len(recalled(full, free, now=10.5)) == 2


def test_what_runs_or_went_to_and_fro_stays() -> None:
    full, free = peer("a", held=6, run_time=1.0, told_at=10.0), peer("b", run_time=1.0, told_at=10.0, slots=8)
    entries = list(full.lanes["add"].open.values())
    entries[5].started = True
    entries[4].recalls = 2
    assert recalled(full, free) == [1, 2, 3, 4]


def late(*, key: str = "a", held: int = 9, **more: Any) -> Peer:
    """Return a node that has far too much."""
    return peer(key, held=held, run_time=1.0, told_at=9.0, **more)


def test_only_tasks_that_fit_the_free_worker_come_back() -> None:
    bound, free = Route("add", node="a"), peer("b", run_time=1.0, told_at=9.0)
    assert recalled(late(held_for=bound), free) == []
    mixed = late(held_for=bound)
    for number in (2, 4, 6):
        mixed.lanes["add"].open[number] = entry()
    assert recalled(mixed, free) == [4, 6]


def test_tasks_that_need_a_tag_come_back_for_who_has_it() -> None:
    needy = Route("add", needs=("psu",))
    plain, tagged = (peer(key, run_time=1.0, told_at=9.0, tags=tags) for key, tags in (("b", ()), ("c", ("psu",))))
    assert recalled(late(held_for=needy), plain) == []
    assert recalled(late(held_for=needy), plain, tagged) == [8, 9]
    mixed = late(held_for=needy)
    mixed.lanes["add"].open[3] = entry()
    assert recalled(mixed, plain, tagged) == [3, 8, 9]


def test_where_the_latest_has_nothing_that_fits_the_next_gives() -> None:
    bound, free = Route("add", node="a"), peer("b", run_time=1.0, told_at=9.0)
    latest, other = late(held_for=bound), late(key="c", held=7)
    assert recalled(latest, other, free) == [6, 7]


def test_workers_for_whom_something_waits_are_not_free() -> None:
    full, free = late(), peer("b", run_time=1.0, told_at=9.0)
    assert recalled(full, free, queued=(Route("add"),)) == []
    assert recalled(full, free, queued=(Route("add", node="nowhere"),)) == [8, 9]


# ---------------------------------------------------------------------- waiting for a quicker node


def waits(slow: Peer, *full: Peer, waiting: int = 10, now: float = 1.0, finished: int = 20) -> bool:
    """Whether tasks rather wait for full nodes than go to a slow one."""
    lane = slow.lanes["add"]
    lane.sent, lane.limit = finished + len(lane.open), finished + 100
    bids = [(peer.lanes["add"], peer) for peer in full]
    return DISPATCHER.rather_waits((lane, slow), bids, waiting, [slow, *full], now)


def test_few_tasks_wait_for_a_quick_node_and_many_do_not() -> None:
    quick = peer("a", held=2, run_time=0.1)  # 20 tasks a second
    for waiting, expected in ((1, True), (31, True), (33, False), (1000, False)):
        assert waits(peer("b", run_time=1.0), quick, waiting=waiting) is expected


def test_all_quick_nodes_together_are_waited_for() -> None:
    quick = [peer(key, held=2, run_time=0.1) for key in "acde"]
    assert waits(peer("b", run_time=1.0), *quick, waiting=120)


@pytest.mark.parametrize("run_time", [0.5, 0.6, 1.0, 5.0])
def test_nobody_waits_for_a_node_that_is_not_twice_as_quick(run_time: float) -> None:
    assert not waits(peer("b", run_time=1.0), peer("a", held=2, run_time=run_time), waiting=1)


def test_a_first_long_task_does_not_make_a_node_slow() -> None:
    quick = peer("a", held=2, run_time=0.1)
    assert not waits(peer("b", run_time=9.0), quick, finished=3)
    assert waits(peer("b", run_time=9.0), quick, finished=4)


def test_nobody_waits_for_workers_that_others_keep_busy() -> None:
    quick = peer("a", held=2, run_time=0.1)
    quick.load = 20  # a tenth of it is ours
    assert waits(peer("b", run_time=1.0), quick, waiting=3)
    assert not waits(peer("b", run_time=1.0), quick, waiting=4)
    assert not waits(peer("b", run_time=1.0), peer("a", held=0, run_time=0.1), waiting=1)


def test_who_was_passed_over_for_long_gets_a_task() -> None:
    quick, slow = peer("a", held=2, run_time=0.1), peer("b", run_time=1.0)
    assert [waits(slow, quick, now=1 + tenth / 10) for tenth in range(20)] == [True] * 20
    assert not waits(slow, quick, now=3.0)
    assert waits(slow, quick, now=9.0)  # another time
