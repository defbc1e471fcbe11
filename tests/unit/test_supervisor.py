"""What a supervisor says and does as time passes, told to it."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from dingo_zmq.mesh.discovery.port import Announcement, to_fields
from dingo_zmq.mesh.reach import Reach
from dingo_zmq.mesh.supervisor import Child, Supervisor


@pytest.fixture
def child() -> Iterator[Child]:
    """A process that serves, by all it says."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Child(1, process, ours, 0.0, 0)
    process.wait()


def supervisor_of(child: Child, key: str) -> Supervisor:
    """Return one whose only process has told of itself, and that announces it to nobody."""
    supervisor = Supervisor(lambda number: [], 1, 1.0, lambda children: None)
    supervisor._children[1] = child
    endpoints = ("tcp://127.0.0.1:47100",), ("tcp://127.0.0.1:47101",)
    told = {
        "announcement": to_fields(Announcement("n1", "one", "lab", "00", 1, *endpoints, key=key)),
        "functions": {"add": "(a, b)"},
        "discovery": [],
        "reach": asdict(Reach(open=False)),
        "files": [],
    }
    supervisor._ready(child, json.dumps(told).encode())
    return supervisor


def warned_at(supervisor: Supervisor, caplog: pytest.LogCaptureFixture, seconds: range) -> list[int]:
    """Let time pass, second by second; return when it warned."""
    times = []
    for now in seconds:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            supervisor._keep_time(float(now))
        times += [now] * caplog.text.count(
            "NO KEY: anybody on the network can run tasks here; hint: dingo-zmq keygen"
        )
    return times


def test_without_a_key_it_warns_at_once_and_every_minute(child: Child, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = supervisor_of(child, "none")
    assert warned_at(supervisor, caplog, range(1000, 1200)) == [1000, 1060, 1120, 1180]
    supervisor._signals = 1  # it drains
    assert warned_at(supervisor, caplog, range(1200, 1400)) == []
    supervisor._end()


def test_with_a_key_it_does_not_warn(child: Child, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = supervisor_of(child, "0123abcd")
    assert warned_at(supervisor, caplog, range(1000, 1200)) == []
    supervisor._end()
