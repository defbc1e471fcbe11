"""How much is sent and kept at most."""

from __future__ import annotations

from collections.abc import Iterator

from dingo_zmq.protocol.node import FORGET_SECONDS
from dingo_zmq.testing.cast import Cast
from dingo_zmq.testing.plan import Job

MANY = 100
"""tasks whose mean says something"""


def bounded_effort(cast: Cast) -> Iterator[str]:
    """How often a task is sent is bounded by what goes wrong."""
    wrong = _wrong(cast)
    for entry in cast.scene.history.accepted.values():
        tries = entry.options.tries.raised
        if cast.scene.history.sends[entry.id] > 6 + 2 * wrong + tries + cast.scene.jobs[entry.id].refusals:
            yield f"{entry.id} was sent {cast.scene.history.sends[entry.id]} times, {wrong} faults"


def bounded_messages(cast: Cast) -> Iterator[str]:
    """
    Few messages name a task: 12, 3 for each fault, and one a second while a fault lasts.

    In the mean of many tasks it is 12, and one for each fault.

    (A CLAIM is said again each second until there is a GO, and an answer every two until it is heard.)  A stream
    may have as many for each of its values; where all that comes is repeated all the more is answered.
    """
    plan, history, wrong = cast.scene.plan, cast.scene.history, _wrong(cast)
    lasted = sum(fault.seconds for fault in plan.faults) + (plan.heal_at if plan.harsh else 0.0)
    often = max(1, plan.copies / 2 if plan.repeats else 1)
    named = []
    for entry in history.accepted.values():
        job: Job = entry.result
        own = entry.options.tries.raised + job.refusals
        number = history.traffic[entry.id] / (1 + job.values)
        if cast.callers[job.caller].dead:  # nodes ask it for a GO until they forget it
            number -= 1.25 * FORGET_SECONDS
        if number > (12 + 3 * (wrong + own) + lasted + job.seconds) * often:
            yield f"{entry.id} was named in {history.traffic[entry.id]} messages, {wrong} faults, {lasted:.0f} s"
        named.append(number)
    if len(named) >= MANY and sum(named) / len(named) > (12 + wrong) * often:
        yield f"tasks were named in {sum(named) / len(named):.1f} messages in the mean"


def bounded_control(cast: Cast) -> Iterator[str]:
    """What keeps links alive is a BEAT and its CREDIT a second, and some more messages where something happens."""
    plan, kinds = cast.scene.plan, cast.scene.history.kinds
    links = len(cast.callers) * 2 * (len(cast.nodes) + 1)
    each = cast.scene.now * 1.25 * max(plan.rates.values(), default=1.0) + 10 * (1 + _wrong(cast))
    if kinds["Beat"] + kinds["Hello"] > links * each:
        yield f"{kinds['Beat']} BEATs and {kinds['Hello']} HELLOs in {cast.scene.now:.0f} s on {links} links"
    asked = (kinds["Beat"] + kinds["Hello"]) * (plan.copies if plan.repeats else 1)
    more = len(cast.scene.history.traffic) * (2 + _wrong(cast)) + links * (1 + _wrong(cast))
    if kinds["Credit"] + kinds["Welcome"] + kinds["Refused"] > asked + more:
        yield f"{kinds['Credit']} CREDITs, {kinds['Welcome']} WELCOMEs, {asked} BEATs and HELLOs"


def bounded_memory(cast: Cast) -> Iterator[str]:
    """Nothing piles up, and what is counted is there."""
    for what, (number, bound, who, at) in cast.scene.history.peaks.items():
        if number > bound:
            yield f"{who} had {number} {what} at {at:.1f}, at most {bound} are allowed"


def _wrong(cast: Cast) -> int:
    """Return how many things went wrong."""
    return sum(cast.faults.happened.values()) + len(cast.scene.history.deaths)
