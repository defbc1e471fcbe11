"""What several of the checkers ask of a story."""

from __future__ import annotations

from collections.abc import Iterator

from dingo_zmq.protocol.ledger import Entry
from dingo_zmq.testing.cast import Cast
from dingo_zmq.testing.plan import Job, Kind


def living(cast: Cast) -> Iterator[tuple[Entry, Job]]:
    """Yield the tasks of callers that live, and what those are like."""
    for entry in cast.scene.history.accepted.values():
        job: Job = entry.result
        if not cast.callers[job.caller].dead:
            yield entry, job


def sleepy(cast: Cast) -> bool:
    """Whether a node may have been asleep: then nothing is in time."""
    return any(fault.kind in (Kind.PAUSE_NODE, Kind.HOG_NODE) for fault in cast.scene.plan.faults)


def soonest(cast: Cast, seconds: float) -> float:
    """Return how soon these seconds may be over by somebody's clock."""
    return seconds / max(_rates(cast)) - 1e-6


def latest(cast: Cast, seconds: float) -> float:
    """Return how late these seconds may be over by somebody's clock."""
    return seconds / min(_rates(cast))


def _rates(cast: Cast) -> list[float]:
    """Return how fast clocks run; a journal has the time of the world."""
    plan = cast.scene.plan
    return [*plan.rates.values(), *([1.0] if plan.journals or not plan.rates else [])]


def tried_again(cast: Cast, id: str) -> int:  # noqa: A002
    """Return how often a task may have been tried again since its function failed."""
    return min(cast.scene.history.failed[id], cast.scene.jobs[id].options.tries.raised)


def deaths_under(cast: Cast, id: str, at: float) -> int:  # noqa: A002
    """
    Return how many processes died before a time in which a task may have started, as its caller must see it.

    An address that leads to another node says the same as a node that was started anew, there and back.
    """
    deaths = cast.scene.history.deaths
    return sum(deaths.get(life, at) < at for life in cast.scene.history.trials[id]) + (
        2 * cast.faults.happened[Kind.REUSED.value]
    )
