"""What callers are told: the rules that it must keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dingo_zmq.model import Code, Status
from dingo_zmq.protocol.ledger import Entry
from dingo_zmq.testing.cast import Cast
from dingo_zmq.testing.checkers.common import deaths_under, latest, living, sleepy, soonest, tried_again
from dingo_zmq.testing.history import FAILED
from dingo_zmq.testing.plan import Job
from dingo_zmq.testing.workers import CANCELLED, OVER_LIMIT


def settled_once(cast: Cast) -> Iterator[str]:
    """Every accepted task gets exactly one final report, at the latest a minute after all has healed."""
    endings = cast.scene.history.endings
    for entry, _ in living(cast):
        found = endings.get(entry.id, [])
        if not found:
            where = f"held by {entry.lane.key}" if entry.lane else "queued"
            yield f"{entry.id} is not settled: {where}, attempt {entry.attempt}"
        elif len(found) > 1:
            yield f"{entry.id} was settled {len(found)} times: {found}"
    for id in endings:
        if id not in cast.scene.history.accepted:
            yield f"{id} was settled, and is unknown"


def success_means_executed(cast: Cast) -> Iterator[str]:
    """SUCCESS means that it ran, with the arguments as given; and the answer is the right one."""
    for entry, job in living(cast):
        for ending in cast.scene.history.endings.get(entry.id, []):
            if ending.status != Status.SUCCESS:
                continue
            runs = cast.scene.history.executions[entry.id]
            right = [run for run in runs if run.body == job.written(run.fingerprint)]
            if not any(run.buffers == job.buffers for run in right):
                yield f"{entry.id} succeeded without being executed as called"
            empty = job.ignore_report or job.stream
            answers = [b""] if empty else [b"answer to " + run.body for run in right]
            if ending.body not in answers or ending.buffers != (() if empty else job.buffers):
                yield f"{entry.id} has the wrong answer {ending}"


def failures_have_a_cause(cast: Cast) -> Iterator[str]:
    """A task fails only for a cause that there was."""
    for entry, job in living(cast):
        for ending in cast.scene.history.endings.get(entry.id, []):
            if ending.status == Status.FAIL and (why := _without_cause(cast, entry, job, ending)):
                yield f"{entry.id} {why}"


def _without_cause(cast: Cast, entry: Entry, job: Job, ending: Any) -> str:
    code, history = ending.code, cast.scene.history
    if code is None:
        return _without_cause_at_node(cast, entry, job, ending)
    if code is Code.POISON:
        return _innocent(cast, entry, ending.at)
    refused, called = job.options.tries.refused, history.called[entry.id]
    causes = {
        Code.CANCELLED: entry.id in history.cancelled or entry.id in history.stopped,
        Code.UNKNOWN: _bounded_losses(cast, job) and _may_be_unknown(cast),
        Code.EXPIRED: job.expires is not None and ending.at >= called + soonest(cast, job.expires),
        Code.REFUSED: refused is not None and len(history.refusals.get(entry.id, ())) > refused,
    }
    return "" if causes.get(code) else f"ended as {code.name} without a cause"


def _without_cause_at_node(cast: Cast, entry: Entry, job: Job, ending: Any) -> str:
    """Only three kinds of failure are reported by nodes of this world."""
    history = cast.scene.history
    if ending.body == CANCELLED:
        asked = entry.id in history.stopped or history.carried_over[entry.id]  # by an earlier life
        return "" if asked else "was reported as cancelled, unasked"
    if ending.body == FAILED:
        again = 0 if cast.scene.plan.at_most_once(job) or entry.id in history.stopped else job.options.tries.raised
        return "" if history.failed[entry.id] > again else f"failed {history.failed[entry.id]} times only"
    if ending.body != OVER_LIMIT:
        return f"was reported to have failed with {ending.body!r}"
    if job.time_limit is None or (job.seconds < soonest(cast, job.time_limit) and not sleepy(cast)):
        return f"ended as over its limit of {job.time_limit}, and takes {job.seconds}"
    return ""


def _bounded_losses(cast: Cast, job: Job) -> bool:
    return cast.scene.plan.at_most_once(job) or job.options.tries.lost is not None


def _may_be_unknown(cast: Cast) -> bool:
    return bool(cast.scene.history.deaths or cast.scene.plan.faults)


def _innocent(cast: Cast, entry: Entry, at: float) -> str:
    """A task is poison only where enough nodes died on which it may have been running."""
    died = deaths_under(cast, entry.id, at)
    if died < entry.options.max_losses:
        return f"ended POISON though only {died} nodes died under it"
    return ""


def limits_hold(cast: Cast) -> Iterator[str]:
    """What runs for longer than it may does not succeed."""
    for entry, job in living(cast):
        if job.time_limit is None or job.seconds < latest(cast, job.time_limit + 0.01) or sleepy(cast):
            continue
        if any(ending.status == Status.SUCCESS for ending in cast.scene.history.endings.get(entry.id, [])):
            yield f"{entry.id} succeeded after {job.seconds} s, with {job.time_limit} s allowed"


def told_in_order(cast: Cast) -> Iterator[str]:
    """SENT comes before PROGRESS, for each attempt, and both before the final report."""
    for id, tellings in cast.scene.history.tellings.items():
        order = [(attempt, status) for status, attempt, _ in tellings]
        if order != sorted(order):
            yield f"{id} was told {order}"
        endings = cast.scene.history.endings.get(id)
        if endings and tellings[-1][2] > endings[0].at:
            yield f"{id} was told something after its end"


def streams_are_whole(cast: Cast) -> Iterator[str]:
    """The values of a stream come in order, each once, and all of them before it succeeds."""
    history = cast.scene.history
    for id, job in cast.scene.jobs.items():
        came = history.values.get(id, [])
        if came != [job.value(number) for number in range(len(came))]:
            yield f"{id} has the values {came[:5]} ... {came[-5:]}"
        succeeded = any(ending.status == Status.SUCCESS for ending in history.endings.get(id, ()))
        if len(came) > job.values or (succeeded and len(came) < job.values):
            yield f"{id} has {len(came)} values, not {job.values}"


def told_when_asked(cast: Cast) -> Iterator[str]:
    """Only who asked is told of progress."""
    for id in cast.scene.history.tellings:
        if not cast.scene.jobs[id].monitor_progress or cast.scene.jobs[id].ignore_report:
            yield f"{id} was told of, unasked"


def noted_when_sent_again(cast: Cast) -> Iterator[str]:
    """Whenever a task is sent again that did not fail that was said, and never of one that was not sent."""
    history = cast.scene.history
    for entry in history.accepted.values():
        again, sends = history.again[entry.id], history.sends[entry.id]
        if not entry.attempt - 1 - tried_again(cast, entry.id) <= again <= sends + history.carried_over[entry.id]:
            yield f"{entry.id} has attempt {entry.attempt}, was sent {sends} times, and noted {again} times"


def watchers_see_it(cast: Cast) -> Iterator[str]:
    """Who watches sees each task that a node settled."""
    history = cast.scene.history
    for id, endings in history.endings.items():
        if cast.scene.plan.watched and endings[0].node and not history.copies[id]:
            yield f"nobody who watches saw {id}"


def noted_when_found(cast: Cast) -> Iterator[str]:
    """A node settles tasks only of callers that said that they have found it."""
    for entry, job in living(cast):
        caller = cast.callers[job.caller].name
        for ending in cast.scene.history.endings.get(entry.id, []):
            if ending.node and (caller, ending.node) not in cast.scene.history.found:
                yield f"{entry.id} was settled by {ending.node}, which {caller} never found"


def told_of_retries(cast: Cast) -> Iterator[str]:
    """A caller is told of no more tries than there may be, and only if it asked."""
    for id, number in cast.scene.history.retried.items():
        job = cast.scene.jobs[id]
        tries = job.options.tries
        most = tries.raised + (tries.lost or 0) + (tries.refused or 0) + cast.scene.history.carried_over[id]
        if not job.monitor_progress or number > most:
            yield f"{id} was told of {number} times that it will be tried again: {tries}"
