"""The rules that every story of the simulated world must keep; each yields what broke it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dingo_zmq.protocol.node import FORGET_SECONDS
from dingo_zmq.testing.cast import Cast
from dingo_zmq.testing.checkers import bounds, happened, ran, rest, told
from dingo_zmq.testing.checkers.happened import figures
from dingo_zmq.testing.checkers.rest import unrest

__all__ = ["CHECKERS", "FORGET_SECONDS", "figures", "problems", "unrest"]


def problems(cast: Cast) -> Iterator[tuple[str, str]]:
    """Yield the name of each rule broken, and what broke it (a few of each)."""
    for rule, found in cast.scene.history.faults.items():
        for what in found[:3]:
            yield rule, what
    for check in CHECKERS:
        for number, what in enumerate(check(cast)):
            if number < 3:  # noqa: PLR2004
                yield check.__name__, what


CHECKERS: list[Callable[[Cast], Iterator[str]]] = [
    told.settled_once,
    told.success_means_executed,
    told.failures_have_a_cause,
    told.limits_hold,
    ran.limits_cost_neighbours_nothing,
    ran.stopped_is_not_sent_again,
    told.told_in_order,
    told.streams_are_whole,
    told.told_when_asked,
    told.noted_when_sent_again,
    told.noted_when_found,
    told.watchers_see_it,
    told.told_of_retries,
    ran.starts_in_its_time,
    ran.tried_as_often_as_said,
    ran.at_most_once,
    ran.started_once,
    ran.done_is_not_started_again,
    ran.refused_means_not_started,
    ran.gentle_faults_cost_nothing,
    ran.runs_where_it_fits,
    ran.killers_end,
    ran.losses_have_a_cause,
    bounds.bounded_effort,
    bounds.bounded_messages,
    bounds.bounded_control,
    bounds.bounded_memory,
    rest.at_rest,
    happened.faults_happened,
]
