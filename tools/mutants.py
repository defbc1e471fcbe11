"""
Faults planted in the deciders, one at a time: does the simulated world find each of them?

Each is a method (or a number) replaced at run time.  Seeds are played from 0 on until one breaks a rule.  The
deciders as they are must keep all rules in all seeds.

    python tools/mutants.py                     the whole table
    python tools/mutants.py --seeds 200         fewer seeds
    python tools/mutants.py settled_twice ...   only some faults, and not the deciders as they are
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import structs

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dingo_zmq.mesh import recorder  # noqa: E402
from dingo_zmq.model import Failure  # noqa: E402
from dingo_zmq.protocol import (  # noqa: E402
    actions,
    caller,
    contacts,
    credit,
    intake,
    ledger,
    messages,
    publisher,
    roster,
    starter,
    streams,
    tasks,
    terms,
    tries,
)
from dingo_zmq.protocol import node as serving  # noqa: E402
from dingo_zmq.testing import hosts, play_seed  # noqa: E402
from dingo_zmq.testing.many import CHUNK, workers  # noqa: E402

SEEDS = 1000


class Patch:
    """Replaces attributes, until it is undone."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Replace an attribute that there is."""
        self._before.append((owner, name, vars(owner)[name]))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Put everything back."""
        while self._before:
            setattr(*self._before.pop())


@dataclass(frozen=True)
class Mutant:
    """
    A planted fault: `plant` makes it; `seed` found it once, and is to be tried first where time is short.
    """

    plant: Callable[[Patch], None]
    seed: int = 0

    @property
    def name(self) -> str:
        """What it is called."""
        return self.plant.__name__

    @property
    def text(self) -> str:
        """What it is, in some words."""
        return (self.plant.__doc__ or "").strip().rstrip(".")

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Plant it for a while."""
        patch = Patch()
        try:
            self.plant(patch)
            yield
        finally:
            patch.undo()


MUTANTS: list[Mutant] = []


def mutant(seed: int = 0) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Add a planted fault to the list."""

    def add(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS.append(Mutant(plant, seed))
        return plant

    return add


# ---------------------------------------------------------------------- journals


@mutant(seed=28)
def sent_before_written(patch: Patch) -> None:
    """Send before what is sent is in the journal."""
    wait = recorder.Recorder.must_wait

    def at_once(self: Any, send: Any) -> bool:
        if wait(self, send):
            self._waiting.pop()
        return False

    patch.set(recorder.Recorder, "must_wait", at_once)


@mutant(seed=249)
def a_slow_journal_is_not_waited_for(patch: Patch) -> None:
    """Send what waits for the journal where that is behind."""
    look = recorder.Recorder.look

    def at_once(self: Any, now: float) -> Any:
        waiting = list(self._waiting) if now >= self.wakeup else []
        self._waiting.clear() if waiting else None
        return waiting + look(self, now)

    patch.set(recorder.Recorder, "look", at_once)


@mutant(seed=6)
def a_forwarder_that_refuses_is_proof(patch: Patch) -> None:
    """Take a node for dead when the ports of the forwarder before it are closed."""
    patch.set(roster.Peer, "refusal_is_proof", True)


@mutant(seed=1)
def settled_before_written(patch: Patch) -> None:
    """Settle a task before its end is in the journal."""
    settled = recorder.Recorder.settled

    def at_once(self: Any, action: Any) -> Any:
        settled(self, action)
        self._settled.clear()
        return action

    patch.set(recorder.Recorder, "settled", at_once)


@mutant(seed=33)
def heard_before_written(patch: Patch) -> None:
    """Tell nodes of answers as heard that are not in the journal."""
    patch.set(roster.RecordedHeard, "told", property(lambda self: self.total))


@mutant(seed=6)
def old_numbers_used_again(patch: Patch) -> None:
    """Number tasks anew on a link that was taken over."""
    welcome = contacts.Contacts.welcome

    def anew(self: Any, peer: Any, message: Any, now: float) -> None:
        message.seen = {}
        welcome(self, peer, message, now)

    patch.set(contacts.Contacts, "welcome", anew)


@mutant(seed=22)
def goes_are_not_written(patch: Patch) -> None:
    """Forget at a restart which tasks were told that they may start."""
    patch.set(
        recorder,
        "_row",
        lambda entry, *where, row=recorder._row: structs.replace(row(entry, *where), started=False),
    )


@mutant(seed=22)
def links_end_with_a_life(patch: Patch) -> None:
    """Forget the link of the life before, and the answers kept there."""
    new_link = serving.Node._new_link

    def open_anew(self: Any, hello: Any, now: float) -> Any:
        older = self.by_caller.get(hello.caller)
        if older is not None and hello.life > older.life > 0:
            self._forget(older)
        return new_link(self, hello, now)

    patch.set(serving.Node, "_new_link", open_anew)


# ---------------------------------------------------------------------- records


@mutant()
def sent_before_recorded(patch: Patch) -> None:
    """Send before recording: a task is recorded with the next tick."""
    held, tick = ledger.Ledger.held, caller.Caller.tick
    late: dict[int, list[Any]] = {}

    def later(self: Any, entry: Any, lane: Any, number: int) -> None:
        entry.attempt += 1
        late.setdefault(id(self), []).append((entry, lane, number))

    def ticked(self: Any, now: float) -> None:
        for entry, lane, number in late.pop(id(self.ledger), []):
            if not entry.settled:
                entry.attempt -= 1
                held(self.ledger, entry, lane, number)
        tick(self, now)

    patch.set(ledger.Ledger, "held", later)
    patch.set(caller.Caller, "tick", ticked)


@mutant()
def settled_twice(patch: Patch) -> None:
    """Settle twice: a settled task is settled again by a repeated report."""
    settle, reports = ledger.Ledger.settle, tasks.OpenTasks.reports
    settled: dict[tuple[Any, int], Any] = {}

    def remember(self: Any, entry: Any) -> Any:
        if entry.lane is not None:
            settled[entry.lane, entry.number] = entry
        return settle(self, entry)

    def again(self: Any, peer: Any, message: Any, buffers: Any, now: float) -> None:
        final = [(peer.lanes.get(item[1]), item[2]) for item in message.items if item[4] in tasks._FINAL]
        repeated = [settled[ref] for ref in final if ref in settled]
        reports(self, peer, message, buffers, now)
        if repeated:
            self.out.append(actions.Settled(repeated, peer.name))

    patch.set(ledger.Ledger, "settle", remember)
    patch.set(tasks.OpenTasks, "reports", again)


@mutant(seed=29)
def reports_under_any_token(patch: Patch) -> None:
    """Accept a report under a token that its task was never sent under."""
    close, received = contacts.Contacts._close_link, caller.Caller.received
    closed: dict[bytes, Any] = {}

    def remember(self: Any, peer: Any) -> None:
        closed[peer.token] = peer
        close(self, peer)

    def accept(self: Any, message: Any, buffers: Any, now: float) -> None:
        peer = closed.get(message.link)
        if type(message) is messages.Reports and peer is not None and self.links.get(peer.token) is peer:
            message.link = peer.token
        received(self, message, buffers, now)

    patch.set(contacts.Contacts, "_close_link", remember)
    patch.set(caller.Caller, "received", accept)


@mutant(seed=2)
def answers_forgotten_once_published(patch: Patch) -> None:
    """Forget an answer once it is published, before it is heard."""
    publish = publisher.Publisher.publish

    def forget(self: Any, link: Any, group: Any, now: float) -> None:
        publish(self, link, group, now)
        for answer in group:
            if answer.item[4] != intake._PARTIAL:
                link.kept.pop(answer.item[0], None)

    patch.set(publisher.Publisher, "publish", forget)


@mutant()
def drain_counts_as_loss(patch: Patch) -> None:
    """Count a drain as a loss."""
    recalled = tasks.OpenTasks.recalled

    def counted(self: Any, peer: Any, message: Any, now: float) -> None:
        back = self._open(peer, message.refs) if message.reason == messages.DRAINING else []
        recalled(self, peer, message, now)
        for _, entry in back:
            failure = None if entry.settled else self.ledger.counted(entry)
            if failure is not None:
                self._end(entry, failure, now)

    patch.set(tasks.OpenTasks, "recalled", counted)


@mutant(seed=4)
def stopped_is_sent_again(patch: Patch) -> None:
    """What is to be stopped is sent again after a loss."""
    lost = ledger.Ledger.lost

    def anyhow(self: Any, entry: Any, *, proved: bool) -> Failure | None:
        stopping, entry.stopping = entry.stopping, False
        try:
            return lost(self, entry, proved=proved)
        finally:
            entry.stopping = stopping

    patch.set(ledger.Ledger, "lost", anyhow)


@mutant(seed=2)
def given_up_tasks_may_fail(patch: Patch) -> None:
    """The failure of a task that was given up settles it."""
    answer = intake.Link.answer

    def kept(self: Any, held: Any, *rest: Any) -> None:
        held.awaited = True
        answer(self, held, *rest)

    patch.set(intake.Link, "answer", kept)


@mutant(seed=20)
def kept_answers_are_missing(patch: Patch) -> None:
    """What is kept is called MISSING."""
    compare = intake.Link.lost_and_left

    def blind(self: Any, lanes: Any, refs: Any) -> Any:
        kept, self.kept = self.kept, {}
        try:
            return compare(self, lanes, refs)
        finally:
            self.kept = kept

    patch.set(intake.Link, "lost_and_left", blind)


# ---------------------------------------------------------------------- links


@mutant(seed=5)
def hello_again_begins_anew(patch: Patch) -> None:
    """A repeated HELLO begins its link anew."""
    hello = serving.Node._hello

    def anew(self: Any, message: Any, now: float) -> None:
        link = self.links.get(message.link)
        if link is not None:
            self._forget(link)
            self._buried.clear()
        hello(self, message, now)

    patch.set(serving.Node, "_hello", anew)


@mutant()
def refusals_are_ignored(patch: Patch) -> None:
    """REFUSED is not listened to."""
    patch.set(contacts.Contacts, "turned_away", lambda self, peer, refused, now: None)


@mutant(seed=57)
def breaks_do_not_matter(patch: Patch) -> None:
    """Tasks are sent after a break before a BEAT is echoed."""

    def usable(self: Any, now: float) -> bool:
        return self.stage is roster.READY and not self.draining and self.silence(now) < roster.SUSPECT_SECONDS

    patch.set(roster.Peer, "usable", usable)


@mutant(seed=147)
def sleep_is_not_noticed(patch: Patch) -> None:
    """A caller that was asleep blames the nodes for it."""
    patch.set(contacts, "GAP_SECONDS", float("inf"))


@mutant(seed=5)
def dead_callers_are_remembered(patch: Patch) -> None:
    """A node never forgets a caller."""
    patch.set(serving, "FORGET_SECONDS", float("inf"))


@mutant(seed=3)
def clocks_agree(patch: Patch) -> None:
    """Clocks are thought to agree: an expiry is told as a time, not as seconds."""
    special = starter.Starter._add_special

    def dated(self: Any, pool: Any, held: Any, now: float) -> None:
        special(self, pool, held, now)
        if held.options.expires:
            held.expires_at = held.options.expires
            self.agenda.add(held.expires_at, held)

    patch.set(terms.Terms, "left", lambda self, now: self.expires_at if self.may_expire else 0.0)
    patch.set(starter.Starter, "_add_special", dated)


# ---------------------------------------------------------------------- bounds


@mutant(seed=180)
def numbers_pile_up(patch: Patch) -> None:
    """Numbers that are not echoed pile up."""
    patch.set(roster, "NUMBERS_MOST", 10**9)


@mutant(seed=4)
def beats_without_measure(patch: Patch) -> None:
    """Ten BEATs a second."""
    patch.set(contacts, "BEAT_SECONDS", 0.1)


@mutant(seed=2)
def everything_is_published_again(patch: Patch) -> None:
    """A BEAT is answered by everything that is kept."""
    patch.set(
        intake.Link, "stale_answers", lambda self: [a for a in self.kept.values() if a.at > 0 for _ in range(20)]
    )


# ---------------------------------------------------------------------- and what is sent, started and told


@mutant(seed=2)
def no_filter_for_repeats(patch: Patch) -> None:
    """No dedup: a task that comes twice is started twice."""

    def accept(self: Any, items: Any, buffers: Any) -> Any:
        taken = []
        for item in items:
            lane = self.lanes[item[0]]
            lane.seen = max(lane.seen, item[1])
            lane.held[item[1]] = held = intake.Held(self, lane, item, buffers)
            lane.function.held += 1
            taken.append(held)
        return taken, {}

    patch.set(intake.Link, "accept", accept)


@mutant(seed=2)
def beats_without_open_tasks(patch: Patch) -> None:
    """BEAT has no list of open tasks."""
    whole = roster.Peer.beat

    def beat(self: Any, name: Any, wanted: Any, now: Any) -> Any:
        found = whole(self, name, wanted, now)
        found.open = {}
        found.lanes = {name: (last, 0, more) for name, (last, _, more) in found.lanes.items()}
        return found

    patch.set(roster.Peer, "beat", beat)


@mutant(seed=2)
def beats_without_last_numbers(patch: Patch) -> None:
    """BEAT does not say what was sent last."""
    whole = roster.Peer.beat

    def beat(self: Any, name: Any, wanted: Any, now: Any) -> Any:
        found = whole(self, name, wanted, now)
        found.lanes = {name: (0, covered, more) for name, (_, covered, more) in found.lanes.items()}
        return found

    patch.set(roster.Peer, "beat", beat)


@mutant()
def credit_as_difference(patch: Patch) -> None:
    """Credit is one more with each answer, not a total."""
    answer = intake.Link.answer

    def granted(self: Any, held: Any, *rest: Any) -> Any:
        held.lane.granted += 1
        answer(self, held, *rest)

    patch.set(intake.Link, "answer", granted)
    patch.set(intake.Link, "credit", lambda self, lane, now: lane.granted)


@mutant(seed=2)
def heard_means_the_highest(patch: Patch) -> None:
    """Heard is the highest number, whatever is missing below."""

    def add(self: Any, number: Any) -> Any:
        self.total = max(self.total, number)

    patch.set(roster.Heard, "add", add)


@mutant(seed=2)
def nothing_is_published_again(patch: Patch) -> None:
    """An answer is published once only."""
    patch.set(intake.Link, "stale_answers", lambda self: [])


@mutant()
def nothing_asks_before_it_starts(patch: Patch) -> None:
    """No CLAIM: tasks sent again start at once."""

    def add(self: Any, tasks: Any, now: Any) -> Any:
        for held in tasks:
            self.pools[held.lane.function.pool].ready.append(held)

    patch.set(starter.Starter, "add", add)


@mutant()
def at_most_once_means_nothing_at_a_loss(patch: Patch) -> None:
    """At_most_once is sent again after a loss."""
    patch.set(ledger.Ledger, "lost", lambda self, entry, proved: None)


@mutant(seed=4)
def silence_counts_as_death(patch: Patch) -> None:
    """A node silent for long counts as dead."""
    lost = ledger.Ledger.lost
    patch.set(ledger.Ledger, "lost", lambda self, entry, proved: lost(self, entry, proved=True))


@mutant(seed=2)
def settled_tasks_stay_astray(patch: Patch) -> None:
    """What was settled stays astray, and may be settled again."""
    settle = ledger.Ledger.settle

    def forgetful(self: Any, entry: Any) -> Any:
        entry.strays = None
        return settle(self, entry)

    patch.set(ledger.Ledger, "settle", forgetful)


@mutant(seed=8)
def two_links_to_one_node(patch: Patch) -> None:
    """A node under two keys has two links."""
    patch.set(contacts.Contacts, "_close_doubles", lambda self, peer, welcome, now: [])


@mutant()
def no_bound_for_credit(patch: Patch) -> None:
    """Credit takes no heed of what is held or kept."""
    patch.set(credit, "grant", lambda seen, held, kept, allowed: seen + allowed)


@mutant(seed=2)
def a_refusal_is_an_answer(patch: Patch) -> None:
    """A task that a worker refused fails."""
    patch.set(serving.Node, "refused", lambda self, held, reason, now: None)


@mutant(seed=3)
def marshallers_do_not_matter(patch: Patch) -> None:
    """A task goes where its marshaller is unknown."""

    def fits(ours: str, theirs: str) -> bool:
        here, there = ours.partition("/")[0], theirs.partition("/")[0]
        return here == there or not here or not there

    patch.set(roster, "fits", fits)


@mutant(seed=5)
def nothing_is_written_anew(patch: Patch) -> None:
    """Arguments are not written anew for another marshaller."""
    patch.set(hosts, "misread", lambda caller, known: [])


@mutant()
def delays_are_forgotten(patch: Patch) -> None:
    """A task with a delay is sent at once."""
    patch.set(ledger.Ledger, "_parked", lambda self, entry, terms: False)


@mutant()
def what_may_have_started_expires(patch: Patch) -> None:
    """What may have started expires."""
    patch.set(terms.Terms, "expired", lambda self, now: now >= self.expires_at)


@mutant()
def a_node_says_expired_of_what_runs(patch: Patch) -> None:
    """A node calls expired what it runs."""

    def give_back(self: Any, link: Any, tasks: Any, reason: Any) -> Any:
        if tasks:
            refs = publisher.refs_of(tasks)
            self._publisher.tell(link, messages.Recalled(link.token, refs, reason))

    patch.set(starter.Starter, "expired", lambda self, now: self.agenda.due(now))
    patch.set(serving.Node, "_give_back", give_back)


@mutant()
def tried_again_for_ever(patch: Patch) -> None:
    """Retries have no end."""
    failed = tries.Tries.failed

    def endless(self: Any, entry: Any, *rest: Any) -> Any:
        if entry.terms is not None and entry.terms.raised > 1:
            entry.terms.raised = 1
        return failed(self, entry, *rest)

    patch.set(tries.Tries, "failed", endless)


@mutant(seed=3)
def at_most_once_is_tried_again(patch: Patch) -> None:
    """At_most_once is tried again when it fails."""
    failed = tries.Tries.failed

    def anyhow(self: Any, entry: Any, *rest: Any) -> Any:
        options, entry.options = entry.options, entry.options.replace(at_most_once=False)
        try:
            return failed(self, entry, *rest)
        finally:
            entry.options = options

    patch.set(tries.Tries, "failed", anyhow)


@mutant(seed=7)
def first_come_first_served(patch: Patch) -> None:
    """Priorities mean nothing at a node."""
    patch.set(starter.Pool, "first", lambda self: next((q for q in self.ranks.values() if q), self.ready))


@mutant(seed=2)
def all_values_are_news(patch: Patch) -> None:
    """Values that a second node yields are taken again."""
    patch.set(streams.Reading, "came", lambda self, sender, size: True)


@mutant(seed=2)
def values_may_overtake_each_other(patch: Patch) -> None:
    """Values of a stream are taken as they come."""
    patch.set(tasks.OpenTasks, "_of_stream", lambda self, lane, number: False)


@mutant(seed=2)
def nobody_hears_how_far_readers_are(patch: Patch) -> None:
    """A stream never hears how far its reader is."""
    patch.set(serving.Node, "_resume", lambda self, link, taken: None)


@mutant(seed=2)
def readers_are_not_waited_for(patch: Patch) -> None:
    """A stream does not wait for its reader."""
    patch.set(streams.Window, "full", False)


@mutant(seed=2)
def values_are_forgotten_at_once(patch: Patch) -> None:
    """A value is forgotten once it is published."""
    value = intake.Link.value

    def told(self: Any, held: Any, body: Any, buffers: Any) -> Any:
        value(self, held, body, buffers)
        del self.kept[self.report_number]
        self.partial -= 1

    patch.set(intake.Link, "value", told)


# ---------------------------------------------------------------------- the table


@dataclass
class Found:
    """The first seed that finds a fault, None for none, and the rules that it breaks there."""

    seed: int | None = None
    rules: list[str] = field(default_factory=list)
    played: int = 0


def findings(seed: int) -> list[str]:
    """
    Play a seed; return the rules that it breaks.

    Where something raises an exception that may be the planted fault itself, and the story ends there: it finds
    nothing.
    """
    failures = play_seed(seed).failures
    return [] if any(failure.startswith("exception:") for failure in failures) else failures


def search(number: int, seeds: range) -> Found:
    """Play seeds with one of the faults, until one finds it."""
    found = Found()
    with MUTANTS[number].planted():
        for seed in seeds:
            failures = findings(seed)
            found.played += 1
            if failures:
                found.seed = seed
                found.rules = list(dict.fromkeys(failure.partition(":")[0] for failure in failures))
                break
    return found


def broken(seeds: range) -> list[str]:
    """Play seeds with the deciders as they are; return those that break a rule."""
    return [f"seed {seed}: {failures[0]}" for seed in seeds if (failures := play_seed(seed).failures)]


def main() -> int:
    """Print the table; return 1 where a fault is missed, or one is found where there is none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="faults to plant; all unless given")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds to play at most")
    told = parser.parse_args()
    known = {one.name: number for number, one in enumerate(MUTANTS)}
    if unknown := set(told.names) - set(known):
        parser.error(f"no such faults: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    chosen = [known[name] for name in told.names] or list(known.values())
    began, missed, wrong = time.monotonic(), 0, []
    with workers() as pool:
        searches = [pool.submit(search, number, range(told.seeds)) for number in chosen]
        starts = [] if told.names else range(0, told.seeds, CHUNK)
        unmodified = [pool.submit(broken, range(at, min(at + CHUNK, told.seeds))) for at in starts]
        print(f"{'planted fault':38}{'seed':>5}{'played':>8}  {'found by':28}what it is")
        for number, searching in zip(chosen, searches, strict=True):
            one, found = MUTANTS[number], searching.result()
            missed += found.seed is None
            seed, rule = ("-", "MISSED") if found.seed is None else (str(found.seed), found.rules[0])
            print(f"{one.name:38}{seed:>5}{found.played:8}  {rule:28}{one.text}", flush=True)
        for playing in unmodified:
            wrong += playing.result()
    for what in wrong:
        print(what)
    line = f"{len(chosen) - missed} of {len(chosen)} found"
    if not told.names:
        line += f"; unmodified: {len(wrong)} of {told.seeds} seeds failed"
    print(f"{line} ({time.monotonic() - began:.0f} s)")
    return 1 if missed or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
