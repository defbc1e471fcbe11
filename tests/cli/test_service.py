"""A node under systemd: what it tells the service manager, and the example unit."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dingo_zmq.mesh.notify import Notifier
from tests.support import PATIENCE, SERVED, Gate, Mesh

UNIT = Path(__file__).parents[2] / "examples" / "dingo-zmq.service"


class Manager:
    """The end of the socket at which systemd would listen."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)
        self._socket.bind(address.replace("@", "\0", 1))

    def next(self) -> list[str]:
        return self._socket.recv(4096).decode().split("\n")

    def until(self, line: str) -> list[str]:
        """Wait for a message with this line."""
        while line not in (lines := self.next()):
            pass
        return lines

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, mesh: Mesh) -> Iterator[Manager]:
    address = str(mesh.folder / "n") if request.param == "file" else f"@dingo-{mesh.name}"
    manager = Manager(address)
    yield manager
    manager.close()


def test_a_node_tells_when_it_serves_and_when_it_drains(mesh: Mesh, manager: Manager, gate: Gate) -> None:
    node = mesh.program("node", str(SERVED), "--processes", "2", NOTIFY_SOCKET=manager.address)
    ready = manager.next()
    assert ready[0] == "READY=1"
    assert ready[1].startswith("STATUS=2 processes serve add, ")
    node.line("node ", "out")
    held = mesh.app().call("wait_at", gate.port)
    visitor = gate.next()
    node.signal(signal.SIGTERM)
    assert manager.next() == ["STOPPING=1", "STATUS=running tasks finish"]
    visitor.go()
    assert held.result(PATIENCE) == ""
    assert node.wait() == 0


def test_it_tells_when_it_is_loaded_anew(mesh: Mesh, manager: Manager, tmp_path: Path) -> None:
    file = tmp_path / "tasks.py"
    file.write_text(SERVED.read_text())
    node = mesh.program("node", str(file), "--reload", NOTIFY_SOCKET=manager.address)
    manager.until("READY=1")
    file.write_text(SERVED.read_text() + "\n# changed\n")
    reloading = manager.next()
    assert reloading[0] == "RELOADING=1"
    assert re.fullmatch(r"MONOTONIC_USEC=\d+", reloading[1])
    assert manager.next()[0] == "READY=1"
    assert node.stop() == 0


def test_signs_of_life_where_they_are_wanted(mesh: Mesh, manager: Manager) -> None:
    node = mesh.program("node", str(SERVED), NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="200000")
    manager.until("READY=1")
    for _ in range(3):
        manager.until("WATCHDOG=1")
    assert node.stop() == 0


def test_a_manager_that_is_not_there(mesh: Mesh) -> None:
    for address in ("/nowhere/notify", "@dingo-nobody-listens", "nonsense"):
        node = mesh.program("node", str(SERVED), NOTIFY_SOCKET=address, WATCHDOG_USEC="x")
        node.line("node ", "out")
        assert node.stop() == 0
        assert node.err == ""


def test_a_notifier_takes_the_variables_away(
    mesh: Mesh, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    notifier = Notifier()
    assert notifier.watchdog == 0  # it is for another process
    notifier.tell("STATUS=here")
    assert manager.next() == ["STATUS=here"]
    notifier.close()
    notifier.tell("STATUS=gone")
    second = Notifier()
    second.tell("STATUS=nowhere")
    second.alive()
    assert second.watchdog == 0


def test_the_example_unit(tmp_path: Path) -> None:
    text = UNIT.read_text()
    assert "Type=notify" in text
    grace, stop = re.search(r"--grace (\d+)", text), re.search(r"TimeoutStopSec=(\d+)", text)
    assert grace is not None
    assert stop is not None
    assert int(stop[1]) > int(grace[1]) + 3
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("no systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("/opt/dingo-zmq/bin/dingo-zmq", f"{sys.executable} -m dingo_zmq"))
    ran = subprocess.run([verify, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    said = [line for line in ran.stderr.splitlines() if UNIT.name in line]
    assert said == []
