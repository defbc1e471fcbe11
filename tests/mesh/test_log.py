"""The log: one line for each node that is found or lost, and for each task that failed."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import pytest

from dingo_zmq import App
from tests.support import PATIENCE, Mesh, Program, wait_until


def told(node: Program, text: str) -> list[str]:
    """Return what the node's log says with this text in it, without the time."""
    return [line.split(" ", 2)[2] for line in node.err.splitlines() if text in line]


def fail(app: App) -> None:
    """Let tasks fail in each way there is, one after the other, and one succeed."""
    for name, args in (
        ("spoil", ["rotten\nand worse"]),
        ("spoil", ["\x1b[31m" + "x" * 300]),
        ("leave_later", [3]),
        ("add", ["two"]),
        ("thing", []),
    ):
        assert app.call(name, *args).exception(PATIENCE) is not None
    assert app.call("later", 1).result(PATIENCE) == 2
    assert app.call("add", 1).result(PATIENCE) == 6


def test_a_line_for_each_task_that_failed(mesh: Mesh) -> None:
    node = mesh.node("one", "--log-level", "info")
    fail(mesh.app())
    assert node.stop() == 0
    spoilt, long, left, wrong, thing = told(node, " failed: ")
    assert spoilt == "INFO dingo_zmq.node: task spoil id 1 failed: served.Spoiled: it was rotten"
    assert long.startswith("INFO dingo_zmq.node: task spoil id 2 failed: served.Spoiled: it was \\x1b[31mxxx")
    assert long.endswith("xxx...")
    assert len(long) < 260
    assert left == "INFO dingo_zmq.node: task leave_later id 3 failed: SystemExit: 3"
    assert "task add id 4 failed: dingo_zmq.errors.ArgumentError: add(), parameter 'a': expected int" in wrong
    assert "task thing id 5 failed: dingo_zmq.errors.EncodeError: thing(), return" in thing
    assert told(node, " started, ") == []


def test_nothing_of_that_unless_wanted(mesh: Mesh) -> None:
    node = mesh.node("one")
    fail(mesh.app())
    assert node.stop() == 0
    assert node.err == ""


def test_a_line_for_each_task_that_starts(mesh: Mesh, tmp_path: Path) -> None:
    """Only where everything is logged."""
    node = mesh.node("one", "--log-level", "debug")
    app = mesh.app()
    assert app.call("later", 1).result(PATIENCE) == 2
    assert app.call("kill_once", str(tmp_path / "once")).result(PATIENCE) == 2
    assert node.stop() == 0
    assert told(node, " started, ") == [
        f"DEBUG dingo_zmq.node: task {words}"
        for words in (
            "later id 1 started, attempt 1",
            "kill_once id 2 started, attempt 1",
            "kill_once id 2 started, attempt 2",
        )
    ]


def test_a_line_for_each_node_that_comes_and_goes(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    first, second = mesh.node("one"), mesh.node("two")

    def lines(text: str) -> list[str]:
        return [line for line in (record.getMessage() for record in caplog.records) if text in line]

    with caplog.at_level(logging.INFO, "dingo_zmq"):
        app = mesh.app()
        wait_until(lambda: len([peer for peer in app.peers() if peer.state == "ready"]) == 2, "both nodes")
        os.kill(first.children()[0], signal.SIGKILL)
        wait_until(lambda: len(lines("one: found")) == 2 and lines("one: lost"), "lost, and started again")
        assert second.stop() == 0
        wait_until(lambda: lines("two: gone"), "its end")
        app.close()
    assert sorted(lines("")) == [
        "one: found",
        "one: found",
        "one: lost: its ports are closed; none of our tasks was there",
        "two: found",
        "two: gone: it has ended",
    ]
