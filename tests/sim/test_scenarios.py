"""Stories told on purpose: most of them once went wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dingo_zmq.model import Code, Status
from dingo_zmq.testing import Fault, Job, Kind, NodePlan, Plan, World

EVERYTHING = {"quick": ("shared", ""), "steady": ("shared", ""), "slow": ("shared", "")}


def told(
    jobs: list[Job], faults: list[Fault], *, nodes: int = 2, callers: int = 1, slots: int = 2, **more: Any
) -> World:
    """Run a story, check the rules, and return the world at its end."""
    plan = Plan(
        seed=7,
        nodes=[NodePlan({"shared": slots}, EVERYTHING) for _ in range(nodes)],
        callers=[0.5] * callers,
        jobs=jobs,
        faults=faults,
        **more,
    )
    world = World(plan)
    assert world.run().failures == []
    return world


def jobs(
    number: int, *, function: str = "steady", at: float = 2.0, seconds: float = 0.02, **more: Any
) -> list[Job]:
    """Return some tasks that are alike."""
    return [Job(f"{function}{at}.{n}", 0, function, at, seconds, **more) for n in range(number)]


def endings(world: World) -> list[Any]:
    """Return how the tasks ended, in order of their acceptance."""
    return [world.scene.history.endings[id][0] for id in world.scene.history.accepted]


def succeeded(world: World) -> bool:
    """Return whether all tasks did."""
    return all(ending.status == Status.SUCCESS for ending in endings(world))


def runs(world: World) -> list[int]:
    """Return how often each task ran."""
    return [len(world.scene.history.executions[id]) for id in world.scene.history.accepted]


def test_a_task_stopped_because_it_was_given_up_does_not_fail() -> None:
    """Cut off, given up, found again: the node stops what it runs, and the task runs a second time."""
    world = told(
        jobs(1, function="slow", seconds=15.0), [Fault(Kind.CUT_BOTH, at=3.0, seconds=11.0)], nodes=1, slots=1
    )
    assert succeeded(world)
    assert runs(world) == [2]


def test_tasks_with_buffers_leave_in_order() -> None:
    plain, large = jobs(40, function="quick"), jobs(5, function="quick", buffers=(b"x",))
    mixed = [replace(job, id=f"t{n}", at=2.0) for n, job in enumerate([*plain[:20], *large, *plain[20:]])]
    world = told(mixed, [])
    assert world.scene.history.kinds["Missing"] == 0
    assert succeeded(world)


def test_found_again_while_it_drains_it_gets_no_task() -> None:
    faults = [Fault(Kind.DRAIN, at=3.0), Fault(Kind.STALE, at=3.0005)]
    world = told([*jobs(1, function="slow", seconds=4.0), *jobs(30, at=3.001)], faults, nodes=1, delay=0.0003)
    assert max(world.scene.history.sends.values()) <= 4
    assert succeeded(world)


@pytest.mark.parametrize("kind", [Kind.HOG_CALLER, Kind.PAUSE_CALLER])
def test_a_caller_that_was_asleep_blames_nobody(kind: Kind) -> None:
    world = told(jobs(4, function="slow", seconds=6.0), [Fault(kind, at=4.0, seconds=10.0)])
    assert runs(world) == [1, 1, 1, 1]
    assert succeeded(world)


def test_a_node_that_answers_no_more_is_given_up_while_it_stands() -> None:
    """A task keeps the GIL: pings are answered, nothing else ever is."""
    world = told(jobs(20), [Fault(Kind.HOG_NODE, at=2.001, seconds=90.0)], heal_at=100.0)
    assert succeeded(world)
    assert max(ending.at for ending in endings(world)) < 40


@pytest.mark.parametrize(
    "kind", [Kind.CRASH, Kind.POWER, Kind.PAUSE_NODE, Kind.CUT_BOTH, Kind.CUT_UP, Kind.CUT_DOWN]
)
def test_a_node_out_of_reach_is_given_up_within_ten_seconds(kind: Kind) -> None:
    world = told(jobs(20, seconds=0.1), [Fault(kind, at=2.01, seconds=40.0)], heal_at=45.0)
    assert succeeded(world)
    assert max(ending.at for ending in endings(world)) < 12


@pytest.mark.parametrize("kind", [Kind.HOLE_UP, Kind.HOLE_DOWN, Kind.STUCK])
def test_a_silent_hole_costs_half_a_minute(kind: Kind) -> None:
    world = told(jobs(20, seconds=0.1), [Fault(kind, at=2.01, seconds=40.0)], heal_at=45.0, nodes=3)
    assert succeeded(world)
    assert max(ending.at for ending in endings(world)) < (50 if kind is Kind.STUCK else 36)


def test_a_killer_is_poison_and_its_neighbours_are_not() -> None:
    killer = Job("killer", 0, "steady", 2.0, 0.01, killer=True)
    world = told([*jobs(10), killer, *jobs(10, at=2.1)], [], nodes=3)
    ended = dict(zip(world.scene.history.accepted, endings(world), strict=True))
    assert ended.pop("killer").code is Code.POISON
    assert all(ending.status == Status.SUCCESS for ending in ended.values())


def test_at_most_once_ends_unknown_where_it_may_have_started() -> None:
    world = told(
        jobs(6, function="slow", seconds=4.0, at_most_once=True), [Fault(Kind.CRASH, at=4.0, seconds=2.0)], nodes=2
    )
    codes = [ending.code for ending in endings(world)]
    assert codes.count(Code.UNKNOWN) == 2  # what ran
    assert codes.count(None) == 4  # what ran elsewhere, or had not begun
    assert runs(world) == [1] * 6


def test_a_node_gone_for_good_is_forgotten() -> None:
    """Its machine is off: nobody refuses, nobody answers; once it is announced no more nothing is left of it."""
    plan = Plan(7, [NodePlan({"shared": 1}, EVERYTHING)] * 2, [0.5], jobs(4), heal_at=60.0)
    world = World(plan)
    story: list[str] = []
    world.scene._trace = story.append
    world.scene.until(5.0)
    world.nodes[0].crash(powered=False)
    world.scene.until(40.0)
    assert sum("lost" in line for line in story) == 1
    assert "n0" in world.callers[0].caller.peers
    world.callers[0].gone("n0")
    world.scene.until(41.0)
    assert list(world.callers[0].caller.peers) == ["n1"]
    assert not any(key == "n0" for _, key, _ in world.scene.network.connections)


def test_a_node_known_by_two_addresses_is_one_node() -> None:
    world = told(jobs(20, at=5.0), [Fault(Kind.ALIAS, at=3.0), Fault(Kind.ALIAS, at=4.0, node=1)])
    assert len(world.callers[0].caller.peers) == 2
    assert succeeded(world)


def test_answers_kept_eat_credit() -> None:
    """A caller that cannot be told keeps sending for a while; what is kept for it has a bound."""
    world = told(
        [job for at in range(20) for job in jobs(300, function="quick", at=2 + at / 10, seconds=0.0001)],
        [Fault(Kind.STUCK, at=2.5, seconds=8.0)],
        nodes=1,
    )
    assert succeeded(world)
    assert runs(world) == [1] * 6000


def test_tasks_for_one_node_stay_there_while_others_go_round_them() -> None:
    """What waits for a node that is full does not keep the others from being given work."""
    bound = [replace(job, node="n0") for job in jobs(40, function="slow", seconds=0.5)]
    world = told([*bound, *jobs(40, at=2.1)], [])
    assert succeeded(world)
    history = world.scene.history
    assert {history.executions[job.id][0].node for job in bound} == {"n0"}
    assert max(ending.at for id, (ending,) in history.endings.items() if not history.accepted[id].options.node) < 4


def test_a_free_worker_gets_back_only_what_it_may_run() -> None:
    """The quick node is bound to take nothing of what the slow one was given for itself alone."""
    bound = [replace(job, node="n0") for job in jobs(12, function="slow", seconds=1.0)]
    world = told([*bound, *jobs(2, function="slow", at=2.5, seconds=3.0)], [])
    assert {run.node for job in bound for run in world.scene.history.executions[job.id]} == {"n0"}
    assert runs(world) == [1] * 14


def test_where_nobody_has_the_tag_tasks_wait_until_somebody_comes() -> None:
    plan = Plan(
        7,
        [NodePlan({"shared": 2}, EVERYTHING), NodePlan({"shared": 2}, EVERYTHING, tags=("psu",))],
        [0.5],
        jobs(6, needs=("psu",)),
    )
    world = World(plan)
    world.scene.until(1.0)
    world.nodes[1].crash()
    world.scene.until(5.0)
    assert world.callers[0].caller.ledger.open == 6
    world.nodes[1].boot()
    assert world.run().failures == []
    assert {run.node for id in world.scene.jobs for run in world.scene.history.executions[id]} == {"n1"}


# ---------------------------------------------------------------------- limits, stopping, resizing


def by_id(world: World) -> dict[str, Any]:
    """Return how each task ended."""
    return dict(zip(world.scene.history.accepted, endings(world), strict=True))


@pytest.mark.parametrize("mortal", [True, False])
def test_a_task_over_its_limit_costs_its_neighbours_nothing(mortal: bool) -> None:
    """Where its process ends for it, what ran beside it runs again, and ends well although no loss is allowed."""
    over = Job("over", 0, "slow", 2.0, 9.0, time_limit=1.0)
    plan = Plan(
        seed=7,
        nodes=[NodePlan({"shared": 3}, EVERYTHING, mortal=mortal)],
        callers=[0.5],
        jobs=[*jobs(2, function="slow", seconds=1.5), over, *jobs(20, at=2.1)],
        faults=[],
    )
    world = World(plan)
    assert world.run().failures == []
    ended = by_id(world)
    assert (ended["over"].status, ended["over"].body) == (Status.FAIL, b"over its time limit")
    assert ended.pop("over").at < 3.5
    assert all(ending.status == Status.SUCCESS for ending in ended.values())
    assert all(entry.losses == 0 for entry in world.scene.history.accepted.values())
    assert bool(world.scene.history.restarts) == mortal
    assert (2 in runs(world)) == mortal


def test_an_at_most_once_neighbour_ends_unknown() -> None:
    over = Job("over", 0, "slow", 2.0, 9.0, time_limit=1.0)
    world = told([over, *jobs(1, function="slow", seconds=3.0, at_most_once=True)], [], nodes=1)
    ended = by_id(world)
    assert ended.pop("over").status == Status.FAIL
    assert [ending.code for ending in ended.values()] == [Code.UNKNOWN]
    assert runs(world) == [1, 1]


@pytest.mark.parametrize(
    "faults", [[], [Fault(Kind.BREAK_TASKS, at=3.0)], [Fault(Kind.CUT_BOTH, at=3.0, seconds=4.0)]]
)
def test_running_tasks_are_stopped_and_say_so(faults: list[Fault]) -> None:
    world = told(jobs(4, function="slow", seconds=9.0, cancel_after=1.0, stop=True), faults, nodes=1)
    assert len(world.scene.history.stopped) == 4
    assert all(e.body == b"cancelled" or e.code is Code.CANCELLED for e in endings(world))
    assert any(e.body == b"cancelled" for e in endings(world)) or faults
    assert max(runs(world)) == 1


def test_workers_come_and_go() -> None:
    faults = [Fault(Kind.RESIZE, at=2.0 + n / 5, node=7 * n) for n in range(10)]
    world = told([*jobs(50, seconds=0.1), *jobs(20, function="slow", at=2.2)], faults)
    assert succeeded(world)
    assert runs(world) == [1] * 70


# ---------------------------------------------------------------------- one lane must not starve the rest


def turned_slow(*others: Job, nodes: int = 1, slow: int = 60, **more: Any) -> dict[str, float]:
    """
    A caller has many tasks of a quick function at the nodes, and from one on they take 10 s each.

    Return for how many seconds each of the others had to wait in all, which come two seconds later.
    """
    quick = jobs(400, function="quick", seconds=0.0002)
    stuck = jobs(slow, function="quick", at=2.2, seconds=10.0, **more)
    plan = Plan(
        seed=7,
        nodes=[NodePlan({"shared": 2}, EVERYTHING) for _ in range(nodes)],
        callers=[0.5, 0.5],
        jobs=[*quick, *stuck, *others],
        heal_at=10.0 + 10 * slow,
    )
    world = World(plan)
    world.scene.until(4.1)
    assert sum(node.node.held for node in world.nodes if node.node) == slow  # the harm is done
    assert world.run().failures == []
    assert succeeded(world)
    assert runs(world) == [1] * len(plan.jobs)
    return {job.id: world.scene.history.endings[job.id][0].at - job.at for job in others}


@pytest.mark.parametrize("once", [False, True])
def test_a_lane_that_turns_slow_leaves_workers_to_others(once: bool) -> None:
    """Not sooner than one of the slow ones is done, or two, but then it is their turn: whoever calls them."""
    waited = turned_slow(
        Job("own", 0, "steady", 4.2, 0.02),
        Job("own once", 0, "steady", 4.2, 0.02, at_most_once=True),
        Job("other", 1, "steady", 4.2, 0.02),
        Job("same function", 1, "quick", 4.2, 0.0002),
        Job("other once", 1, "steady", 4.2, 0.02, at_most_once=True),
        at_most_once=once,
    )
    assert max(waited.values()) < 20.0
    assert once or max(waited[id] for id in ("own", "other", "same function")) < 10.0


def test_a_lane_that_turns_slow_on_all_nodes_leaves_them_to_others() -> None:
    """As long as their caller has some there; what it may send only then waits for one more of the slow ones."""
    others = [Job(f"other{n}", 1, "steady", 4.2, 0.02) for n in range(40)]
    waited = turned_slow(*others, nodes=3, slow=120)
    assert max(waited.values()) < 20.0


def test_a_higher_priority_passes_a_lane_that_turned_slow() -> None:
    waited = turned_slow(
        Job("first", 0, "quick", 4.2, 0.0002, priority=1), Job("last", 1, "steady", 4.2, 0.02, priority=-1)
    )
    assert waited["first"] < 10.0
    assert waited["last"] > 200.0


def test_what_is_stopped_as_its_caller_dies_is_cancelled_in_the_next_life() -> None:
    """Its end was in the journal, and the program had not been told."""
    stopped = [
        Job(f"t{n}", 0, "steady", 2.0 + n / 100, 0.02, delay=1.0, cancel_after=0.01, stop=True) for n in range(200)
    ]
    faults = [Fault(Kind.HOG_CALLER, at=3.0), Fault(Kind.CALLER_RESTARTS, at=3.5, seconds=0.1)]
    world = told(stopped, faults, journals=frozenset((0,)), heal_at=8.0)
    history = world.scene.history
    ended = [history.endings[id][0] for id in history.accepted if history.carried_over[id]]
    assert any(ending.code is Code.CANCELLED for ending in ended)


def test_what_is_done_while_its_caller_is_down_is_not_done_again() -> None:
    faults = [Fault(Kind.CALLER_RESTARTS, at=2.8, seconds=2.0)]
    world = told(jobs(20, seconds=0.3), faults, slots=4, journals=frozenset((0,)), heal_at=12.0)
    (back,) = world.scene.history.returns["c0"]
    assert len(back.answered) == 8
    assert runs(world) == [1] * 20
    assert succeeded(world)


def test_a_disk_is_full_also_while_its_program_is_down() -> None:
    faults = [Fault(Kind.CALLER_RESTARTS, at=2.5, seconds=2.0), Fault(Kind.DISK_FULL, at=2.6, seconds=0.1)]
    nodes = [NodePlan({"shared": 1}, EVERYTHING)]
    world = World(Plan(7, nodes, [0.5], jobs(4, at=2.55), faults, journals=frozenset((0,))))
    story: list[str] = []
    world.scene._trace = story.append
    assert world.run().failures == []
    assert [line.split()[0] for line in story if "FAULT" in line] == ["2.5000", "2.6000"]
    assert succeeded(world)
