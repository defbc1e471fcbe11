"""What a storm came to: the table for people, and whatever must not be."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.storming.caller import Outcome
from tools.storming.nemesis import Fault
from tools.storming.records import BEGUN, ENDED, read
from tools.storming.watch import Sample, slope

__all__ = ["Runs", "Storm"]

LOST = "the node was lost"
WARM = 0.25
"""share of a storm after which memory, threads and descriptors are judged"""
LEAST = 5
"""faults of a kind that have to happen, or a quarter of those planned: nobody is killed who is not back yet"""
LAST = 2
"""samples at the end that may be of a process that ends"""
GOALS = {"kill": 1.0, "stop": 6.0, "cut": 6.0}


class Runs:
    """
    All executions, as workers wrote them down.

    Args:
        folder: of the records.
    """

    def __init__(self, folder: Path) -> None:
        begun: dict[int, list[float]] = defaultdict(list)
        self.ended: set[int] = set()
        for kind, _, number, at in read(folder):
            if kind == BEGUN:
                begun[number].append(at)
            elif kind == ENDED:
                self.ended.add(number)
        for times in begun.values():
            times.sort()
        self.begun = dict(begun)

    def more_than_once(self, numbers: Iterable[int]) -> list[int]:
        """Return those of the tasks that were begun more than once."""
        return [number for number in numbers if len(self.begun.get(number, ())) > 1]

    def next(self, number: int, at: float) -> float | None:
        """Return when a task was begun for the first time from a moment on."""
        times = self.begun.get(number, [])
        place = bisect_left(times, at)
        return times[place] if place < len(times) else None


@dataclass
class Storm:
    """
    All that is known in the end.

    Attributes:
        outcomes: of each caller, in order; None where it ended without telling.
        faults, planned: see `Nemesis`.
        runs: see `Runs`.
        samples: of callers and node processes, by what they are called; one node may have had several.
    """

    outcomes: list[Outcome | None]
    faults: list[Fault]
    planned: Mapping[str, int]
    runs: Runs
    samples: dict[str, dict[int, list[Sample]]] = field(default_factory=dict)

    # ------------------------------------------------------------------ counting

    def told(self) -> list[Outcome]:
        """Return the outcomes that there are."""
        return [each for each in self.outcomes if each is not None]

    def count(self, name: str) -> int:
        """Return the sum of a number, or of the lengths of a list, over all callers."""
        found = [getattr(each, name) for each in self.told()]
        return sum(each if isinstance(each, int) else len(each) for each in found)

    def second_runs(self) -> list[int]:
        """Return the tasks that were begun twice and need not have been: none of the fatal ones."""
        fatal = {number for each in self.told() for number in each.fatal}
        return self.runs.more_than_once(set(self.runs.begun) - fatal)

    def once_twice(self) -> list[int]:
        """Return the at-most-once tasks that were begun twice."""
        return self.runs.more_than_once(number for each in self.told() for number in each.once)

    def not_run(self) -> int:
        """Return how many more tasks ended well than were run."""
        fatal = {number for each in self.told() for number in each.fatal}
        return max(0, self.count("ok") - len(self.runs.ended - fatal))

    def recoveries(self, word: str) -> tuple[list[float], list[float]]:
        """Return the seconds from faults to when each task was sent again, and to when it ran again."""
        sent: list[float] = []
        ran: list[float] = []
        for number, outcome in enumerate(self.outcomes):
            asleep = [fault for fault in self.faults if fault.whom == f"caller {number}"]
            for at, node, why, task in outcome.again if outcome else ():
                fault = next((f for f in reversed(self.faults) if f.whom == node and f.begun <= at), None)
                if why != LOST or fault is None or not fault.kind.startswith(word):
                    continue
                # a caller that is stopped itself cannot know
                begun = max([fault.begun, *(f.ended for f in asleep if f.begun < at and f.ended > fault.begun)])
                sent.append(max(0.0, at - begun))
                again = self.runs.next(task, at)
                if again is not None:
                    ran.append(again - begun)
        return sent, ran

    # ------------------------------------------------------------------ judging

    def wrongs(self) -> list[str]:
        """Return what must not be, a line for each."""
        found = []
        if None in self.outcomes:
            found.append(f"{self.outcomes.count(None)} callers ended without telling what became of their tasks")
        for each in self.told():
            found += [f"task {number} is lost: {why}" for number, why in list(each.lost.items())[:5]]
            found += [f"task {number} was settled twice" for number in each.twice[:5]]
            found += [f"task {number} ended wrongly: {how}" for number, how in list(each.wrong.items())[:5]]
            open_ = each.called - each.ok - each.unknown - each.ended - len(each.wrong) - len(each.lost)
            if open_:
                found.append(f"a caller's tasks do not add up: {open_} of {each.called} are missing")
            found += _unbalanced(each)
        found += [f"task {number} is at-most-once and was begun twice" for number in self.once_twice()[:5]]
        if self.not_run():
            found.append(f"{self.not_run()} tasks ended well and were not run")
        return found + self.missed()

    def missed(self) -> list[str]:
        """Return the kinds of faults of which too few happened of what was planned."""
        first = {"stop": "stop ", "caller": "stop caller", "kill": "kill"}
        found = []
        for kind, planned in self.planned.items():
            done = sum(self._is_of(fault.kind, kind, first) for fault in self.faults)
            if done < min(LEAST, -(-planned // 4)):
                found.append(f"{done} of {planned} planned faults of the kind {kind} happened")
        return found

    @staticmethod
    def _is_of(name: str, kind: str, first: dict[str, str]) -> bool:
        if kind == "stop" and name.startswith(first["caller"]):
            return False
        if kind == "proxy":
            return not name.startswith(tuple(first.values()))
        return name.startswith(first[kind])

    # ------------------------------------------------------------------ telling

    def table(self) -> str:
        """Return it all as a Markdown table."""
        called = self.count("called")
        seconds = max((each.seconds for each in self.told()), default=0.0)
        second = len(self.second_runs())
        rate = (
            f"{called:,} by {_callers(len(self.outcomes))} in {seconds:,.0f} s: {called / (seconds or 1):,.0f}/s"
        )
        rows = [("tasks", rate), ("faults", self._faults())]
        rows += [("lost", f"{self.count('lost')}"), ("settled twice", f"{self.count('twice')}")]
        rows += [("wrong results", f"{self.count('wrong')}")]
        rows += [("executed twice", f"{second} ({second / (called or 1):.2%})")]
        bad, unknown = len(self.once_twice()), self.count("unknown")
        once = f"{self.count('once'):,}, {bad} of them begun twice; {unknown} unknown"
        rows += [("at-most-once tasks", once)]
        if self.count("fatal"):
            rows += [("tasks that end their process or memory", f"{self.count('fatal')}")]
        for word, what in (("kill", "SIGKILL"), ("stop", "SIGSTOP"), ("cut", "a cut")):
            rows += self._recovery(word, what)
        for who, processes in self.samples.items():
            rows += _memory(who, processes)
        rows += [("ledger", self._ledger())]
        return "\n".join(["| storm |  |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])

    def _faults(self) -> str:
        counted = Counter(fault.kind for fault in self.faults)
        return ", ".join(f"{kind} {number}" for kind, number in sorted(counted.items())) or "none"

    def _recovery(self, word: str, what: str) -> list[tuple[str, str]]:
        sent, ran = self.recoveries(word)
        if not sent:
            return []
        told = f"p50 {_share(sent, 0.5):.2f} s, p99 {_share(sent, 0.99):.2f} s, of {len(sent)}"
        again = f"p50 {_share(ran, 0.5):.2f} s, p99 {_share(ran, 0.99):.2f} s" if ran else "none"
        return [
            (f"from {what} to sent again (p99 at most {GOALS[word]:g} s)", told),
            (f"from {what} to run again", again),
        ]

    def _ledger(self) -> str:
        sums = {name: self.count(name) for name in ("called", "ok", "ended", "unknown", "wrong", "lost")}
        parts = " + ".join(f"{value:,} {name}" for name, value in sums.items() if name != "called")
        return f"{sums['called']:,} called = {parts}"


def _unbalanced(outcome: Outcome) -> list[str]:
    """Compare what `app.ledger()` says with what was counted here."""
    told = outcome.ledger
    if not told:
        return []
    ended = told["ok"] + told["failed"] + told["cancelled"] + told["expired"]
    well = outcome.called == told["called"] == ended + told["open"]
    return [] if well and told["open"] == len(outcome.lost) else [f"the ledger does not balance: {told}"]


def _memory(who: str, processes: dict[int, list[Sample]]) -> list[tuple[str, str]]:
    """Return rows of the process of `who` that lived longest."""
    longest = max(processes.values(), key=len)
    warm = longest[int(len(longest) * WARM) : -LAST]
    if not warm:
        return []
    grows = slope(warm)
    told = f"{warm[0].memory:.1f} to {warm[-1].memory:.1f} MiB"
    if grows is not None:
        told += f" in {warm[-1].at - warm[0].at:,.0f} s ({grows:+.2f} MiB in 10 minutes)"
    threads = sorted({each.threads for each in warm})
    descriptors = [each.descriptors for each in warm]
    span = f"{min(descriptors)} to {max(descriptors)} (median {statistics.median(descriptors):.0f})"
    told += f"; threads {threads[0]} to {threads[-1]}; descriptors {span}"
    return [(f"memory of {who}", told)]


def _share(values: list[float], share: float) -> float:
    """Return the value below which so many are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _callers(count: int) -> str:
    return f"{count} caller" + "s" * (count != 1)
