"""The rules that every story of the simulated world must keep; each yields what broke it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from dingo_zmq.events import EventCode
from dingo_zmq.model import Code, Status
from dingo_zmq.protocol.ledger import Entry
from dingo_zmq.protocol.node import FORGET_SECONDS
from dingo_zmq.protocol.roster import Peer, Stage
from dingo_zmq.protocol.starter import Starter
from dingo_zmq.testing.cast import Cast
from dingo_zmq.testing.history import FAILED, Return
from dingo_zmq.testing.hosts import CallerHost
from dingo_zmq.testing.node_host import NodeHost
from dingo_zmq.testing.plan import GENTLE, Job, Kind
from dingo_zmq.testing.workers import CANCELLED, OVER_LIMIT, REFUSED

MANY = 100
"""tasks whose mean says something"""

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


def _living(cast: Cast) -> Iterator[tuple[Entry, Job]]:
    for entry in cast.scene.history.accepted.values():
        job: Job = entry.result
        if not cast.callers[job.caller].dead:
            yield entry, job


# ---------------------------------------------------------------------- what callers are told


def settled_once(cast: Cast) -> Iterator[str]:
    """Every accepted task gets exactly one final report, at the latest a minute after all has healed."""
    endings = cast.scene.history.endings
    for entry, _ in _living(cast):
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
    for entry, job in _living(cast):
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
    for entry, job in _living(cast):
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
        Code.EXPIRED: job.expires is not None and ending.at >= called + _least(cast, job.expires),
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
    if job.time_limit is None or (job.seconds < _least(cast, job.time_limit) and not _sleepy(cast)):
        return f"ended as over its limit of {job.time_limit}, and takes {job.seconds}"
    return ""


def _sleepy(cast: Cast) -> bool:
    """Whether a node may have been asleep: then nothing is in time."""
    return any(fault.kind in (Kind.PAUSE_NODE, Kind.HOG_NODE) for fault in cast.scene.plan.faults)


def _least(cast: Cast, seconds: float) -> float:
    """Return how soon these seconds may be over by somebody's clock."""
    return seconds / max(_rates(cast)) - 1e-6


def _most(cast: Cast, seconds: float) -> float:
    """Return how late these seconds may be over by somebody's clock."""
    return seconds / min(_rates(cast))


def _rates(cast: Cast) -> list[float]:
    """Return how fast clocks run; a journal has the time of the world."""
    plan = cast.scene.plan
    return [*plan.rates.values(), *([1.0] if plan.journals or not plan.rates else [])]


def _tried_again(cast: Cast, id: str) -> int:  # noqa: A002
    """Return how often a task may have been tried again since its function failed."""
    return min(cast.scene.history.failed[id], cast.scene.jobs[id].options.tries.raised)


def limits_hold(cast: Cast) -> Iterator[str]:
    """What runs for longer than it may does not succeed."""
    for entry, job in _living(cast):
        if job.time_limit is None or job.seconds < _most(cast, job.time_limit + 0.01) or _sleepy(cast):
            continue
        if any(ending.status == Status.SUCCESS for ending in cast.scene.history.endings.get(entry.id, [])):
            yield f"{entry.id} succeeded after {job.seconds} s, with {job.time_limit} s allowed"


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
    for entry, _ in _living(cast):
        if entry.losses:
            yield f"{entry.id} has {entry.losses} losses"
        runs = history.executions.get(entry.id, [])
        again = [run for run in runs[:-1] if (run.node, run.life) not in history.restarts]
        if len(again) > _tried_again(cast, entry.id):
            yield f"{entry.id} ran again after {again}"
        code = history.endings[entry.id][0].code if history.endings.get(entry.id) else None
        if code is Code.UNKNOWN and not any((run.node, run.life) in history.restarts for run in runs):
            yield f"{entry.id} ended UNKNOWN"


def _bounded_losses(cast: Cast, job: Job) -> bool:
    return cast.scene.plan.at_most_once(job) or job.options.tries.lost is not None


def _may_be_unknown(cast: Cast) -> bool:
    return bool(cast.scene.history.deaths or cast.scene.plan.faults)


def _innocent(cast: Cast, entry: Entry, at: float) -> str:
    """A task is poison only where enough nodes died on which it may have been running."""
    died = _deaths_under(cast, entry.id, at)
    if died < entry.options.max_losses:
        return f"ended POISON though only {died} nodes died under it"
    return ""


def _deaths_under(cast: Cast, id: str, at: float) -> int:  # noqa: A002
    """
    Return how many processes died before a time in which a task may have started, as its caller must see it.

    An address that leads to another node says the same as a node that was started anew, there and back.
    """
    deaths = cast.scene.history.deaths
    return sum(deaths.get(life, at) < at for life in cast.scene.history.trials[id]) + (
        2 * cast.faults.happened[Kind.REUSED.value]
    )


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
        if not entry.attempt - 1 - _tried_again(cast, entry.id) <= again <= sends + history.carried_over[entry.id]:
            yield f"{entry.id} has attempt {entry.attempt}, was sent {sends} times, and noted {again} times"


def watchers_see_it(cast: Cast) -> Iterator[str]:
    """Who watches sees each task that a node settled."""
    history = cast.scene.history
    for id, endings in history.endings.items():
        if cast.scene.plan.watched and endings[0].node and not history.copies[id]:
            yield f"nobody who watches saw {id}"


def noted_when_found(cast: Cast) -> Iterator[str]:
    """A node settles tasks only of callers that said that they have found it."""
    for entry, job in _living(cast):
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


# ---------------------------------------------------------------------- what runs


def starts_in_its_time(cast: Cast) -> Iterator[str]:
    """No task starts before its delay is over, and what has expired never started, nor ever does."""
    history = cast.scene.history
    for id, runs in history.executions.items():
        job = cast.scene.jobs[id]
        if runs and runs[0].at < history.called[id] + _least(cast, job.delay):
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
    forgotten = max(asleep, default=0.0) >= _least(cast, FORGET_SECONDS)
    if plan.harsh or impatient or forgotten or kinds - set(GENTLE) or plan.deadly:
        return
    given_up = {(run.node, run.life) for runs in history.executions.values() for run in runs} & history.restarts
    for id, runs in history.executions.items():
        if len(runs) > 1 + len(given_up) + _tried_again(cast, id):
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


def _wrong(cast: Cast) -> int:
    """Return how many things went wrong."""
    return sum(cast.faults.happened.values()) + len(cast.scene.history.deaths)


def losses_have_a_cause(cast: Cast) -> Iterator[str]:
    """No more losses are counted of a task than processes died in which it may have started."""
    history = cast.scene.history
    for id, entry in history.accepted.items():
        died = _deaths_under(cast, id, cast.scene.now)
        if entry.losses > died:
            yield f"{id} has {entry.losses} losses, though {died} nodes died under it"


def bounded_memory(cast: Cast) -> Iterator[str]:
    """Nothing piles up, and what is counted is there."""
    for what, (number, bound, who, at) in cast.scene.history.peaks.items():
        if number > bound:
            yield f"{who} had {number} {what} at {at:.1f}, at most {bound} are allowed"


# ---------------------------------------------------------------------- at rest


def at_rest(cast: Cast) -> Iterator[str]:
    """In the end nothing is open, held or kept, all credit is back, and every node is READY."""
    yield from unrest(cast)


def unrest(cast: Cast) -> Iterator[str]:
    """Yield what is not at rest."""
    living = {caller.name for caller in cast.callers if not caller.dead}
    for caller in cast.callers:
        if not caller.dead:
            yield from _open_at(caller)
            yield from _restless_peers(cast, caller)
    for node in cast.nodes:
        yield from _busy(node, living)


def _open_at(caller: CallerHost) -> Iterator[str]:
    ledger = caller.caller.ledger
    if caller.caller.streams:
        yield f"{caller.name} still reads {[entry.id for entry in caller.caller.streams]}"
    if ledger.open or ledger.queues or ledger.parked:
        yield f"{caller.name} has {ledger.open} tasks open, queues {[len(q) for q in ledger.queues.values()]}"
    for peer in caller.caller.peers.values():
        for lane in peer.lanes.values():
            if lane.open or lane.strays:
                yield f"{caller.name} thinks {peer.key} has {list(lane.open)} open, {list(lane.strays)} astray"
        if any(not entry.settled for _, entry in peer.blamed):
            yield f"{caller.name} still blames {peer.key}"


def _busy(node: NodeHost, living: set[str]) -> Iterator[str]:
    if node.node is None:
        yield f"{node.name} is down"
        return
    if node.node.draining:
        yield f"{node.name} is draining"
    for link in node.node.links.values():
        if link.caller not in living:
            yield f"{node.name} remembers {link.caller}, who is dead"
        if link.kept or link.partial:
            yield f"{node.name} keeps {list(link.kept)} for {link.caller}"
        if link.running or any(lane.held for lane in link.lanes.values()):
            yield f"{node.name} holds {[list(lane.held) for lane in link.lanes.values()]} for {link.caller}"
    if node.node.held:
        yield f"{node.name} counts {node.node.held} tasks"
    yield from _workers(node.name, node.node.starter)


def _workers(name: str, starter: Starter) -> Iterator[str]:
    for pool in starter.pools.values():
        if pool.free != pool.slots or pool.asking or pool.ready or any(pool.ranks.values()):
            yield f"{name}: {pool.free} of {pool.slots} free, {len(pool.ready)} ready, {len(pool.asking)} ask"
    if starter.active:
        yield f"{name} has {len(starter.active)} bundles running"


def _restless_peers(cast: Cast, caller: CallerHost) -> Iterator[str]:
    for node in cast.nodes:
        keys = cast.scene.keys_of(node.name)
        peers = [caller.caller.peers[key] for key in keys if key in caller.caller.peers]
        ready = [peer for peer in peers if peer.usable(caller.now)]
        if len(ready) != 1 or len(peers) != 1:
            states = [(peer.key, peer.state(caller.now), peer.broke) for peer in peers]
            yield f"{caller.name} has for {node.name}: {states}"
        elif node.node is not None:
            yield from _leaks(cast, caller, ready[0], node)


def _leaks(cast: Cast, caller: CallerHost, peer: Peer, node: NodeHost) -> Iterator[str]:
    """A lane at rest has all of its credit, on both ends, and no more than it should."""
    assert node.node is not None
    link = node.node.links.get(peer.token)
    if link is None or peer.stage is not Stage.READY:
        yield f"{node.name} does not know the link of {caller.name}"
        return
    for name, lane in link.lanes.items():
        here = peer.lanes[name]
        ends = (here.sent, here.limit), (lane.seen, lane.granted)
        allowed = lane.function.allowance(node.now)
        if ends[0] != ends[1] or not allowed <= here.limit - here.sent <= _largest(lane.function):
            yield f"{caller.name} to {node.name}, {name}: {ends[0]}, at the node {ends[1]}, allowed {allowed}"


def _largest(function: Any) -> int:
    return int(function.largest)


# ---------------------------------------------------------------------- the world itself


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
    for entry, job in _living(cast):
        amo = cast.scene.plan.at_most_once(job)  # ends UNKNOWN, if the node dies before
        if job.killer and not amo and not cast.scene.history.executions.get(entry.id):
            yield f"the killer {entry.id} never ran"
        history = cast.scene.history
        told = entry.id in history.cancelled or entry.id in history.stopped or history.carried_over[entry.id]
        if job.cancel_after == 0 and not told:
            yield f"{entry.id} was not cancelled"


CHECKERS: list[Callable[[Cast], Iterator[str]]] = [
    settled_once,
    success_means_executed,
    failures_have_a_cause,
    limits_hold,
    limits_cost_neighbours_nothing,
    stopped_is_not_sent_again,
    told_in_order,
    streams_are_whole,
    told_when_asked,
    noted_when_sent_again,
    noted_when_found,
    watchers_see_it,
    told_of_retries,
    starts_in_its_time,
    tried_as_often_as_said,
    at_most_once,
    started_once,
    done_is_not_started_again,
    refused_means_not_started,
    gentle_faults_cost_nothing,
    runs_where_it_fits,
    killers_end,
    losses_have_a_cause,
    bounded_effort,
    bounded_messages,
    bounded_control,
    bounded_memory,
    at_rest,
    faults_happened,
]
