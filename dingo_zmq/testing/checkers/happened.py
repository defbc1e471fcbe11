"""What came to pass in a story, and whether that is what was planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from dingo_zmq.model import Status
from dingo_zmq.testing.cast import Cast
from dingo_zmq.testing.checkers.common import living


def figures(cast: Cast) -> Counter[str]:
    """Return what came to pass, in numbers."""
    counted: Counter[str] = Counter()
    for endings in cast.scene.history.endings.values():
        for ending in endings:
            counted[ending.code.name if ending.code is not None else Status(ending.status).name] += 1
    executions = [len(found) for found in cast.scene.history.executions.values()]
    counted["tasks"] = len(cast.scene.history.accepted)
    counted["executions"] = sum(executions)
    counted["executed again"] = sum(1 for number in executions if number > 1)
    counted["refused"] = sum(map(len, cast.scene.history.refusals.values()))
    counted["values"] = sum(map(len, cast.scene.history.values.values()))
    counted["tried again"] = sum(cast.scene.history.retried.values())
    counted["lost on the way"] = cast.scene.network.lost
    counted["repeated"] = cast.scene.network.repeated
    return counted


def faults_happened(cast: Cast) -> Iterator[str]:
    """A story in which the planned faults did not happen proves nothing."""
    for kind, planned in cast.faults.planned.items():
        if cast.faults.happened[kind] != planned:
            yield f"{kind}: {planned} planned, {cast.faults.happened[kind]} happened"
    if cast.scene.plan.harsh:
        if cast.scene.plan.loss > 0.02 and not cast.scene.network.lost:  # noqa: PLR2004
            yield "no message was lost"
        if cast.scene.plan.repeats > 0.02 and not cast.scene.network.repeated:  # noqa: PLR2004
            yield "no message was repeated"
    for entry, job in living(cast):
        amo = cast.scene.plan.at_most_once(job)  # ends UNKNOWN, if the node dies before
        if job.killer and not amo and not cast.scene.history.executions.get(entry.id):
            yield f"the killer {entry.id} never ran"
        history = cast.scene.history
        told = entry.id in history.cancelled or entry.id in history.stopped or history.carried_over[entry.id]
        if job.cancel_after == 0 and not told:
            yield f"{entry.id} was not cancelled"
