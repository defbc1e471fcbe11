"""What runs, where, when and how often: the rules that it must keep."""

from __future__ import annotations

from collections.abc import Iterator

from dingo_zmq.events import EventCode
from dingo_zmq.model import Code
from dingo_zmq.protocol.node import FORGET_SECONDS
from dingo_zmq.testing.cast import Cast
from dingo_zmq.testing.checkers.common import deaths_under, living, soonest, tried_again
from dingo_zmq.testing.history import Return
from dingo_zmq.testing.plan import GENTLE, Kind
from dingo_zmq.testing.workers import REFUSED


def stopped_is_not_sent_again(cast: Cast) -> Iterator[str]:
    """A task that is to be stopped goes to no other node."""
    for id, attempt in cast.scene.history.stopped.items():
        sent = cast.scene.history.accepted[id].attempt
        if sent > attempt:
            yield f"{id} was sent {sent} times, {attempt} of them before it was stopped"


def limits_cost_neighbours_nothing(cast: Cast) -> Iterator[str]:
    """Where nothing else goes wrong, no loss counts, and only what failed or was given up runs again."""
    plan, history = cast.scene.plan, cast.scene.history
    if plan.faults or plan.harsh or plan.deadly:
        return
    for entry, _ in living(cast):
        if entry.losses:
            yield f"{entry.id} has {entry.losses} losses"
        runs = history.executions.get(entry.id, [])
        again = [run for run in runs[:-1] if (run.node, run.life) not in history.restarts]
        if len(again) > tried_again(cast, entry.id):
            yield f"{entry.id} ran again after {again}"
        code = history.endings[entry.id][0].code if history.endings.get(entry.id) else None
        if code is Code.UNKNOWN and not any((run.node, run.life) in history.restarts for run in runs):
            yield f"{entry.id} ended UNKNOWN"


def starts_in_its_time(cast: Cast) -> Iterator[str]:
    """No task starts before its delay is over, and what has expired never started, nor ever does."""
    history = cast.scene.history
    for id, runs in history.executions.items():
        job = cast.scene.jobs[id]
        if runs and runs[0].at < history.called[id] + soonest(cast, job.delay):
            yield f"{id} ran {runs[0].at - history.called[id]:.4f} s after the call, with a delay of {job.delay} s"
        if runs and any(ending.code is Code.EXPIRED for ending in history.endings[id]):
            yield f"{id} expired, and ran {len(runs)} times"


def tried_as_often_as_said(cast: Cast) -> Iterator[str]:
    """Where no node is lost a task runs once, and once more for each retry that it needs, if nothing ends it."""
    plan, history = cast.scene.plan, cast.scene.history
    if plan.harsh or plan.faults or plan.deadly:
        return
    for id, runs in history.executions.items():
        job = cast.scene.jobs[id]
        most = 1 if plan.at_most_once(job) else 1 + min(job.fails, job.options.tries.raised)
        given_up = sum((run.node, run.life) in history.restarts for run in runs)
        ends = {ending.code for ending in history.endings[id]}
        cut_short = id in history.cancelled or id in history.stopped or job.time_limit is not None
        cut_short = cut_short or Code.REFUSED in ends or (given_up > 0 and Code.UNKNOWN in ends)
        if len(runs) > most + given_up or (len(runs) < most and not cut_short):
            yield f"{id} ran {len(runs)} times, not {most}"


def at_most_once(cast: Cast) -> Iterator[str]:
    """A task with at_most_once starts at most once, also where its caller has died."""
    for id, runs in cast.scene.history.executions.items():
        if cast.scene.plan.at_most_once(cast.scene.jobs[id]) and len(runs) > 1:
            yield f"{id} ran {len(runs)} times: {[(round(r.at, 3), r.node, r.life) for r in runs]}"


def started_once(cast: Cast) -> Iterator[str]:
    """What was sent once is started at most once; whatever else runs was sent again."""
    for id, runs in cast.scene.history.executions.items():
        if len(runs) > 1 and len({(run.node, run.life, run.link, run.number) for run in runs}) < len(runs):
            yield f"{id} was started twice: {[(run.node, run.life, run.number) for run in runs]}"


def done_is_not_started_again(cast: Cast) -> Iterator[str]:
    """What a node had done when its caller was started again, and found that node in time, is done."""
    history, happened = cast.scene.history, cast.faults.happened
    if happened[Kind.ALIAS.value] or happened[Kind.REUSED.value]:  # the link by a second key ends the first
        return
    for caller, returns in history.returns.items():
        ends = [later.at for later in returns[1:]] + [cast.scene.now]
        for back, end in zip(returns, ends, strict=True):
            for id, where in back.answered.items():
                again = [run for run in history.executions[id] if back.at < run.at < end]
                if again and _was_found(cast, back, where, again[0].at):
                    places = [(round(run.at, 3), run.node, run.life) for run in again]
                    yield f"{id} was done on {where} when {caller} came back at {back.at:.3f}, and ran at {places}"


def _was_found(cast: Cast, back: Return, where: tuple[str, int], until: float) -> bool:
    """Whether a caller that came back found an incarnation before it gave that up, and did not lose it again."""
    if cast.scene.history.deaths.get(where, until) < until:
        return False
    notes = [note for at, note in back.notes if note.node == where[0] and at < until]
    if not notes or notes[0].code is not EventCode.FOUND:
        return False
    gone = [note for note in notes if note.code in (EventCode.LOST, EventCode.GONE)]
    return all("not back" in note.text for note in gone)  # which is a link of an earlier life


def refused_means_not_started(cast: Cast) -> Iterator[str]:
    """A task that a worker refused does not run there, goes elsewhere, and is not settled by that."""
    history = cast.scene.history
    for id, refusals in history.refusals.items():
        runs = {(run.node, run.life, run.link, run.number) for run in history.executions.get(id, ())}
        for refused in refusals:
            if refused in runs:
                yield f"{id} ran where it had been refused: {refused}"
        for ending in history.endings.get(id, ()):
            if ending.body == REFUSED:
                yield f"{id} was settled by its refusal: {ending}"


def gentle_faults_cost_nothing(cast: Cast) -> Iterator[str]:
    """Where no node is silent for long nor dies, no task runs again; and where nothing fails, none is missing."""
    plan, history = cast.scene.plan, cast.scene.history
    kinds = {fault.kind for fault in plan.faults}
    impatient = Kind.DRAIN in kinds and kinds & {Kind.PAUSE_CALLER, Kind.HOG_CALLER}  # nobody hears the answers
    asleep = [fault.seconds for fault in plan.faults if fault.kind in (Kind.PAUSE_CALLER, Kind.HOG_CALLER)]
    forgotten = max(asleep, default=0.0) >= soonest(cast, FORGET_SECONDS)
    if plan.harsh or impatient or forgotten or kinds - set(GENTLE) or plan.deadly:
        return
    given_up = {(run.node, run.life) for runs in history.executions.values() for run in runs} & history.restarts
    for id, runs in history.executions.items():
        if len(runs) > 1 + len(given_up) + tried_again(cast, id):
            yield f"{id} ran {len(runs)} times"
    if history.silent:
        yield f"nodes were given up for being silent: {history.silent}"
    for id, endings in history.endings.items():
        if endings[0].code is Code.POISON or (endings[0].code is Code.UNKNOWN and not given_up):
            yield f"{id} ended {endings[0]}"
    if not plan.faults and not history.restarts and history.kinds["Missing"]:
        yield f"{history.kinds['Missing']} times tasks were missing"


def runs_where_it_fits(cast: Cast) -> Iterator[str]:
    """No node whose function differs executes a task, nor one that it did not ask for."""
    tags = {node.name: node.plan.tags for node in cast.nodes}
    for id, runs in cast.scene.history.executions.items():
        job = cast.scene.jobs[id]
        if not all(job.fits(run.fingerprint) for run in runs):
            yield f"{id} ran where the function differs"
        if any(run.body != job.written(run.fingerprint) for run in runs):
            yield f"{id} ran where another marshaller reads: {[(run.body, run.fingerprint) for run in runs]}"
        if job.node and any(job.node not in (run.node, f"id-{run.node}") for run in runs):
            yield f"{id} ran elsewhere than on {job.node}: {[run.node for run in runs]}"
        if any(not set(job.needs) <= set(tags[run.node]) for run in runs):
            yield f"{id} ran on a node without {job.needs}: {[run.node for run in runs]}"


def killers_end(cast: Cast) -> Iterator[str]:
    """A task that kills its node is not sent out for ever."""
    for id, job in cast.scene.jobs.items():
        runs = len(cast.scene.history.executions.get(id, ()))
        allowed = 4 + len(cast.nodes)  # three that count, the first, and one at each node not seen since
        if job.killer and runs > allowed:
            yield f"{id} killed {runs} nodes"


def losses_have_a_cause(cast: Cast) -> Iterator[str]:
    """No more losses are counted of a task than processes died in which it may have started."""
    history = cast.scene.history
    for id, entry in history.accepted.items():
        died = deaths_under(cast, id, cast.scene.now)
        if entry.losses > died:
            yield f"{id} has {entry.losses} losses, though {died} nodes died under it"
