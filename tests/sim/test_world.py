"""Seeds of the simulated world: SEEDS of them (80 unless set), on all cores."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from dingo_zmq.protocol import (
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
from dingo_zmq.protocol import node as serving
from dingo_zmq.testing import Fault, Kind, Outcome, draw, hosts, play, play_seed

SEEDS = int(os.environ.get("SEEDS", "80"))
ENOUGH = 300  # seeds after which every kind of fault has happened
ROOT = Path(__file__).parent.parent.parent


def outcomes(seeds: range) -> Iterator[Outcome]:
    """Play seeds on all cores."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn) as pool:
        yield from pool.map(play_seed, seeds, chunksize=10)


def told(outcome: Outcome) -> str:
    """Return what went wrong, and how to see it again."""
    lines = [f"seed {outcome.seed}: python -m dingo_zmq.testing {outcome.seed}"]
    return "\n    ".join([*lines, *outcome.failures[:5]])


@pytest.mark.timeout(300)  # many stories, and a machine may be slow
def test_every_story_keeps_the_rules() -> None:
    happened: Counter[str] = Counter()
    figures: Counter[str] = Counter()
    wrong = []
    for outcome in outcomes(range(SEEDS)):
        happened += outcome.happened
        figures += outcome.figures
        if outcome.failures:
            wrong.append(told(outcome))
    if wrong:
        pytest.fail("\n".join([f"{len(wrong)} of {SEEDS} seeds", *wrong[:5]]), pytrace=False)
    if SEEDS >= ENOUGH:
        assert set(happened) == {kind.value for kind in Kind}
        assert figures["EXPIRED"] > SEEDS
        assert figures["tried again"] > SEEDS / 10


@pytest.mark.parametrize("seed", [3, 5, 8])
def test_a_seed_is_always_the_same_story(seed: int) -> None:
    digest = f"digest {play_seed(seed).digest:08x}"
    for hashes in ("1", "2"):
        command = [sys.executable, "-m", "dingo_zmq.testing", "--quiet", str(seed)]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        )
        assert digest in done.stdout


def test_a_fault_that_did_not_happen_is_told() -> None:
    plan = draw(1, faults=False).replace(faults=[Fault(Kind.STUCK, at=1000.0)])
    assert any("stuck: 1 planned, 0 happened" in failure for failure in play(plan).failures)


# ---------------------------------------------------------------------- a world without a fault finds none


def no_filter_for_repeats(patch: pytest.MonkeyPatch) -> None:
    def accept(self, items, buffers):  # type: ignore[no-untyped-def]
        taken = []
        for item in items:
            lane = self.lanes[item[0]]
            lane.seen = max(lane.seen, item[1])
            lane.held[item[1]] = held = intake.Held(self, lane, item, buffers)
            lane.function.held += 1
            taken.append(held)
        return taken, {}

    patch.setattr(intake.Link, "accept", accept)


def beats_without_open_tasks(patch: pytest.MonkeyPatch) -> None:
    whole = roster.Peer.beat

    def beat(self, name, wanted, now):  # type: ignore[no-untyped-def]
        found = whole(self, name, wanted, now)
        found.open = {}
        found.lanes = {name: (last, 0, more) for name, (last, _, more) in found.lanes.items()}
        return found

    patch.setattr(roster.Peer, "beat", beat)


def beats_without_last_numbers(patch: pytest.MonkeyPatch) -> None:
    whole = roster.Peer.beat

    def beat(self, name, wanted, now):  # type: ignore[no-untyped-def]
        found = whole(self, name, wanted, now)
        found.lanes = {name: (0, covered, more) for name, (_, covered, more) in found.lanes.items()}
        return found

    patch.setattr(roster.Peer, "beat", beat)


def credit_as_difference(patch: pytest.MonkeyPatch) -> None:
    """One more with each answer, and never again where that is lost."""
    answer = intake.Link.answer

    def granted(self, held, *rest):  # type: ignore[no-untyped-def]
        held.lane.granted += 1
        answer(self, held, *rest)

    patch.setattr(intake.Link, "answer", granted)
    patch.setattr(intake.Link, "credit", lambda self, lane, now: lane.granted)


def heard_means_the_highest(patch: pytest.MonkeyPatch) -> None:
    def add(self, number):  # type: ignore[no-untyped-def]
        self.total = max(self.total, number)

    patch.setattr(roster.Heard, "add", add)


def nothing_is_published_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(intake.Link, "stale_answers", lambda self: [])


def nothing_asks_before_it_starts(patch: pytest.MonkeyPatch) -> None:
    def add(self, tasks, now):  # type: ignore[no-untyped-def]
        for held in tasks:
            self.pools[held.lane.function.pool].ready.append(held)

    patch.setattr(starter.Starter, "add", add)


def at_most_once_means_nothing_at_a_loss(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger.Ledger, "lost", lambda self, entry, proved: None)


def silence_counts_as_death(patch: pytest.MonkeyPatch) -> None:
    lost = ledger.Ledger.lost
    patch.setattr(ledger.Ledger, "lost", lambda self, entry, proved: lost(self, entry, proved=True))


def settled_tasks_stay_astray(patch: pytest.MonkeyPatch) -> None:
    settle = ledger.Ledger.settle

    def forgetful(self, entry):  # type: ignore[no-untyped-def]
        entry.strays = None
        return settle(self, entry)

    patch.setattr(ledger.Ledger, "settle", forgetful)


def two_links_to_one_node(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(contacts.Contacts, "_close_doubles", lambda self, peer, welcome, now: [])


def no_bound_for_credit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(credit, "grant", lambda seen, held, kept, allowed: seen + allowed)


def a_refusal_is_an_answer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(serving.Node, "refused", lambda self, held, reason, now: None)


def marshallers_do_not_matter(patch: pytest.MonkeyPatch) -> None:
    def fits(ours: str, theirs: str) -> bool:
        here, there = ours.partition("/")[0], theirs.partition("/")[0]
        return here == there or not here or not there

    patch.setattr(roster, "fits", fits)


def nothing_is_written_anew(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hosts, "misread", lambda caller, known: [])


def delays_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger.Ledger, "_parked", lambda self, entry, terms: False)


def what_may_have_started_expires(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(terms.Terms, "expired", lambda self, now: now >= self.expires_at)


def a_node_says_expired_of_what_runs(patch: pytest.MonkeyPatch) -> None:
    def give_back(self, link, tasks, reason):  # type: ignore[no-untyped-def]
        if tasks:
            refs = publisher.refs_of(tasks)
            self._publisher.tell(link, messages.Recalled(link.token, refs, reason))

    patch.setattr(starter.Starter, "expired", lambda self, now: self.agenda.due(now))
    patch.setattr(serving.Node, "_give_back", give_back)


def tried_again_for_ever(patch: pytest.MonkeyPatch) -> None:
    failed = tries.Tries.failed

    def endless(self, entry, *rest):  # type: ignore[no-untyped-def]
        if entry.terms is not None and entry.terms.raised > 1:
            entry.terms.raised = 1
        return failed(self, entry, *rest)

    patch.setattr(tries.Tries, "failed", endless)


def at_most_once_is_tried_again(patch: pytest.MonkeyPatch) -> None:
    failed = tries.Tries.failed

    def anyhow(self, entry, *rest):  # type: ignore[no-untyped-def]
        options, entry.options = entry.options, entry.options.replace(at_most_once=False)
        try:
            return failed(self, entry, *rest)
        finally:
            entry.options = options

    patch.setattr(tries.Tries, "failed", anyhow)


def first_come_first_served(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(starter.Pool, "first", lambda self: next((q for q in self.ranks.values() if q), self.ready))


def all_values_are_news(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(streams.Reading, "came", lambda self, sender, size: True)


def values_may_overtake_each_other(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tasks.OpenTasks, "_of_stream", lambda self, lane, number: False)


def nobody_hears_how_far_readers_are(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(serving.Node, "_resume", lambda self, link, taken: None)


def readers_are_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(streams.Window, "full", False)


def values_are_forgotten_at_once(patch: pytest.MonkeyPatch) -> None:
    value = intake.Link.value

    def told(self, held, body, buffers):  # type: ignore[no-untyped-def]
        value(self, held, body, buffers)
        del self.kept[self.report_number]
        self.partial -= 1

    patch.setattr(intake.Link, "value", told)


PLANTED = [
    all_values_are_news,
    values_may_overtake_each_other,
    nobody_hears_how_far_readers_are,
    readers_are_not_waited_for,
    values_are_forgotten_at_once,
    no_filter_for_repeats,
    beats_without_open_tasks,
    beats_without_last_numbers,
    credit_as_difference,
    heard_means_the_highest,
    nothing_is_published_again,
    nothing_asks_before_it_starts,
    at_most_once_means_nothing_at_a_loss,
    silence_counts_as_death,
    settled_tasks_stay_astray,
    two_links_to_one_node,
    no_bound_for_credit,
    a_refusal_is_an_answer,
    marshallers_do_not_matter,
    nothing_is_written_anew,
    delays_are_forgotten,
    what_may_have_started_expires,
    a_node_says_expired_of_what_runs,
    tried_again_for_ever,
    at_most_once_is_tried_again,
    first_come_first_served,
]


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert any(play_seed(seed).failures for seed in range(150))
