"""What every mesh must stand, one by one: crashes at every point, lost kinds of messages, storms, cuts."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

import pytest

from dingo_zmq.model import Status
from dingo_zmq.testing import Fault, Job, Kind, NodePlan, Plan, World, draw
from dingo_zmq.testing.plan import MESSAGES, SKEW
from tests.sim.test_scenarios import EVERYTHING, endings, jobs, runs, succeeded, told


@pytest.mark.parametrize("more", [{}, {"at_most_once": True}, {"stream": True, "values": 3}], ids=str)
def test_a_node_may_die_at_any_point_of_a_task(more: dict[str, Any]) -> None:
    """Before each single thing that it does in the life of one task, until it does no more of them."""
    for effect in count(1):
        plan = Plan(
            seed=7,
            nodes=[NodePlan({"shared": 1}, EVERYTHING, dies_at=at) for at in (effect, 0)],
            callers=[0.5],
            jobs=[Job("t", 0, "steady", 1.0, 0.02, node="n0", **more)],
            heal_at=4.0,
        )
        world = World(plan)
        assert world.run().failures == [], effect
        assert more.get("at_most_once") or succeeded(world), effect
        if world.nodes[0].effects < effect:
            break
    assert effect > 20


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize(("share", "seconds"), [(1.0, 8.0), (0.25, 14.0)], ids=["all", "a quarter"])
def test_any_kind_of_message_may_be_lost(message: str, share: float, seconds: float) -> None:
    """In a story in which each kind is sent: tasks are lost, given back, sent again, asked for, streamed."""
    plan = draw(37, faults=False)
    faults = [
        Fault(Kind.HOLE_UP, at=3.2, seconds=1.0),
        Fault(Kind.BREAK_TASKS, at=4.0),
        Fault(Kind.POWER, at=5.0, seconds=0.5, node=1),
        Fault(Kind.DRAIN, at=6.0),
        Fault(Kind.CALLER_LEAVES, at=9.0, caller=1),
    ]
    world = World(plan.replace(faults=faults))
    losing = world.scene.network.losing
    world.scene.after(3.0, losing.update, {message: share})
    world.scene.after(3.0 + seconds, losing.clear)
    assert world.run().failures == []
    assert share < 1 or world.scene.network.hits["lose", message]


@pytest.mark.parametrize("kind", [Kind.CUT_UP, Kind.CUT_DOWN])
@pytest.mark.parametrize("seconds", [5.0, 10.0, 50.0])
def test_a_one_way_cut_costs_ten_seconds_at_most(kind: Kind, seconds: float) -> None:
    world = told(jobs(20, seconds=0.1), [Fault(kind, at=2.01, seconds=seconds)], heal_at=seconds + 8)
    assert succeeded(world)
    assert max(runs(world)) <= 2
    assert max(ending.at for ending in endings(world)) < 12


def test_an_answer_that_comes_after_that_of_the_next_attempt_is_dropped() -> None:
    """The reports of a node are held up; what it ran runs elsewhere, and then both answer."""
    faults = [
        Fault(Kind.CLOG, at=2.01, seconds=0.2, node=1),
        Fault(Kind.CUT_DOWN, at=2.5, seconds=40.0, breaks=False),
    ]
    plan = Plan(7, [NodePlan({"shared": 1}, EVERYTHING)] * 2, [0.5], jobs(2, seconds=1.0), faults, heal_at=50.0)
    world = World(plan)
    assert world.run().failures == []
    assert sorted(runs(world)) == [1, 2]
    assert world.callers[0].caller.late > 0
    assert succeeded(world)


@pytest.mark.parametrize("kind", [Kind.PARTITION, Kind.PARTITION_ONE_WAY])
def test_groups_of_hosts_that_do_not_reach_each_other(kind: Kind) -> None:
    work = [replace(job, caller=n % 2) for n, job in enumerate(jobs(60, seconds=0.2))]
    faults = [Fault(kind, at=2.1 + 3 * n, seconds=8.0, node=n, caller=n) for n in range(4)]
    world = told(work, faults, nodes=4, callers=2, heal_at=30.0)
    assert succeeded(world)
    assert max(runs(world)) <= 5


def test_clogs_that_come_and_go_in_another_order_cost_nothing_but_time() -> None:
    work = [replace(job, caller=n % 2) for n, job in enumerate(jobs(200, seconds=0.1))]
    faults = [Fault(Kind.SWIZZLE, at=2.0 + n, seconds=5.0) for n in range(4)]
    world = told(work, faults, nodes=3, callers=2, heal_at=20.0)
    assert succeeded(world)
    assert runs(world) == [1] * 200


def test_a_storm_of_repeats() -> None:
    """Each message comes fifty times, in any order."""
    world = told(jobs(10), [], harsh=True, repeats=1.0, copies=50, heal_at=3.0, nodes=1)
    assert succeeded(world)
    assert world.scene.network.repeated > 100


@pytest.mark.parametrize("kind", [Kind.HOG_NODE, Kind.HOG_CALLER])
def test_somebody_keeps_the_gil_for_a_minute(kind: Kind) -> None:
    """Even a caller whose nodes have forgotten it by then comes back."""
    work = [*jobs(6, function="slow", seconds=5.0), *jobs(20, at=70.0)]
    world = told(work, [Fault(kind, at=4.0, seconds=62.0)], heal_at=80.0)
    assert succeeded(world)
    assert max(ending.at for ending in endings(world)) < 85


def test_clocks_that_run_apart_lose_nobody() -> None:
    """A tenth too fast at the caller, a tenth too slow at the nodes, and nothing goes wrong: all runs once."""
    rates = {"c0": 1 + SKEW, "n0": 1 - SKEW, "n1": 1 - SKEW}
    work = jobs(8, function="slow", seconds=9.0, delay=1.0, expires=60.0)
    world = told(work, [Fault(Kind.BREAK_BOTH, at=5.0), Fault(Kind.HOG_NODE, at=8.0, seconds=4.0)], rates=rates)
    assert succeeded(world)
    assert runs(world) == [1] * 8


def test_an_address_that_leads_to_another_node_for_a_while() -> None:
    """What the first node runs is sent again, and whoever is found in its place takes tasks too."""
    faults = [Fault(Kind.REUSED, at=2.5, seconds=4.0), Fault(Kind.REUSED, at=3.0, seconds=4.0, node=1)]
    world = told(jobs(30, function="slow", seconds=0.5), faults, nodes=3, heal_at=20.0)
    assert succeeded(world)


def test_a_node_that_is_started_anew_a_thousand_times() -> None:
    """Nothing of its lives stays behind at a caller."""
    work = [job for n in range(500) for job in jobs(1, at=1.0 + n / 2)]
    world = World(Plan(7, [NodePlan({"shared": 2}, EVERYTHING)] * 2, [0.5], work, heal_at=255.0))
    node = world.nodes[0]
    for n in range(1000):
        world.scene.after(1.0 + n / 4, node.crash)
        world.scene.after(1.2 + n / 4, node.boot)
    assert world.run().failures == []
    caller = world.callers[0].caller
    assert node.life > 900
    assert len(caller.links) == len(caller.peers) == 2
    assert not any(peer.blamed for peer in caller.peers.values())
    assert sum(ending.status == Status.SUCCESS for ending in endings(world)) > 490


def test_two_hundred_nodes_come_and_go() -> None:
    """Found in time, late, or again; announced where nothing is, and where somebody else is."""
    dice = Random("churn")
    work = [job for n in range(100) for job in jobs(3, at=2.0 + n / 4, seconds=0.1)]
    kinds = (Kind.STALE, Kind.STRANGER, Kind.GOODBYE, Kind.ALIAS, Kind.REUSED)
    faults = [Fault(dice.choice(kinds), at=3.0 + n, seconds=2.0, node=n) for n in range(20)]
    world = World(Plan(7, [NodePlan({"shared": 1}, EVERYTHING)] * 20, [0.5], work, faults, heal_at=40.0))
    for n in range(200):
        node = world.nodes[n % 20]
        at = dice.uniform(1, 30)
        world.scene.after(at, node.crash)
        world.scene.after(at + dice.uniform(0.1, 2), node.boot)
        world.scene.after(at + dice.uniform(0.1, 4), world.callers[0].found, node.name)
    outcome = world.run()
    assert outcome.failures == []
    assert len(world.scene.history.deaths) > 150
    assert len(world.callers[0].caller.peers) <= 22
