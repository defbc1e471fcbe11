"""What `tools/storm.py` makes of what was told and written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools.storming.caller import Outcome
from tools.storming.figures import Runs, Storm
from tools.storming.nemesis import Fault
from tools.storming.records import BEGUN, ENDED, Writer, read
from tools.storming.watch import Sample, slope

LOST = "the node was lost"


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(str(tmp_path))


def storm(folder: Path, outcome: Outcome | None, faults: list[Fault], **planned: int) -> Storm:
    return Storm([outcome], faults, planned, Runs(folder))


def ran(writer: Writer, *numbers: int) -> None:
    for number in numbers:
        writer.write(BEGUN, number, 1)
        writer.write(ENDED, number, 1)


def test_all_is_well(tmp_path: Path, writer: Writer) -> None:
    ran(writer, 0, 1)
    done = storm(tmp_path, Outcome(called=2, ok=2), [Fault("kill node", "n1", 1.0, 1.0)], kill=1)

    assert done.wrongs() == []
    assert "| tasks | 2 by 1 caller in 0 s" in done.table()
    assert "| executed twice | 0 (0.00%) |" in done.table()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lost": {1: "no node"}}, "task 1 is lost: no node"),
        ({"wrong": {1: "7, not 5"}}, "task 1 ended wrongly: 7, not 5"),
        ({"ok": 2, "twice": [1]}, "task 1 was settled twice"),
        ({}, "a caller's tasks do not add up: 1 of 2 are missing"),
        ({"ok": 2, "once": [0]}, "task 0 is at-most-once and was begun twice"),
    ],
)
def test_what_must_not_be(tmp_path: Path, writer: Writer, changes: dict[str, Any], said: str) -> None:
    ran(writer, 0, 0, 1)
    assert storm(tmp_path, Outcome(**{"called": 2, "ok": 1, **changes}), []).wrongs() == [said]


def test_a_result_that_nobody_ran(tmp_path: Path, writer: Writer) -> None:
    ran(writer, 0)
    assert storm(tmp_path, Outcome(called=2, ok=2), []).wrongs() == ["1 tasks ended well and were not run"]


def test_a_caller_that_told_nothing(tmp_path: Path) -> None:
    assert storm(tmp_path, None, []).wrongs() == ["1 callers ended without telling what became of their tasks"]


def test_faults_that_did_not_happen(tmp_path: Path) -> None:
    faults = [Fault("kill node", "n1", 0.0, 0.0), Fault("stop caller long", "caller 0", 0.0, 7.0)]
    assert storm(tmp_path, Outcome(), faults, kill=5, stop=4, caller=1, proxy=1).wrongs() == [
        "1 of 5 planned faults of the kind kill happened",
        "0 of 4 planned faults of the kind stop happened",
        "0 of 1 planned faults of the kind proxy happened",
    ]


def test_recovery_is_counted_from_the_last_fault_of_that_node(tmp_path: Path) -> None:
    faults = [
        Fault("kill node", "n1", 10.0, 10.0),
        Fault("kill process", "n1", 20.0, 20.0),
        Fault("stop long", "n2", 20.0, 27.0),
        Fault("kill node", "n3", 30.0, 30.0),
        Fault("stop caller long", "caller 0", 29.0, 36.0),
    ]
    again = [(20.5, "n1", LOST, 0), (25.0, "n2", LOST, 1), (36.25, "n3", LOST, 2), (21.0, "n1", "given back", 3)]
    seen = storm(tmp_path, Outcome(again=again), faults)

    assert seen.recoveries("kill") == ([0.5, 0.25], [])  # the caller could not know before it went on
    assert seen.recoveries("stop") == ([5.0], [])


def test_what_is_half_written_is_no_record(tmp_path: Path, writer: Writer) -> None:
    ran(writer, 7)
    (path,) = tmp_path.glob("*.records")
    path.write_bytes(path.read_bytes()[:-1])

    assert [(each.kind, each.number) for each in read(tmp_path)] == [(BEGUN, 7)]


def test_the_slope_of_memory() -> None:
    assert slope([Sample(at, 40 + at / 60, 5, 20) for at in range(400)]) == pytest.approx(10)
    assert slope([Sample(at, 40, 5, 20) for at in range(299)]) is None
