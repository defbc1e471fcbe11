"""Security checks that need a network of their own; which there are says `tests/test_security_checks.py`."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from dingo_zmq.mesh.keys import key_id
from tests.lan import Host, Net, ready
from tests.net.strangers import announce, record
from tests.net.test_access import ARGUMENT, SECRET, TOLD, pair_of_hosts
from tests.support import PATIENCE, wait_until

FLOOD = int(os.environ.get("FLOOD", "5"))
"""times a thousand records; 60 for a minute's worth of the flood that the check asks for"""
GROWTH = 64 * 1024 * 1024
CALLER = """
import re, sys
from pathlib import Path
from dingo_zmq import App

def most():
    return int(re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024

app = App("mesh")
assert app.call("add", 2, 3).result(30) == 5
before = most()
print("ready", flush=True)
for line in sys.stdin:
    assert app.call("add", 2, 3).result(30) == 5
    print("grown by", most() - before, flush=True)
"""


# ---------------------------------------------------------------------- S19, S20: records


def test_a_flood_of_false_instances_costs_little_and_no_node(net: Net) -> None:
    """S19."""
    lan = net.lan()
    a, b, c = net.host("a", lan), net.host("b", lan), net.host("c", lan)
    b.node()
    caller = Caller(a)
    for turn in range(FLOOD):
        texts = {}
        for number in range(1000):
            address = f"10.77.1.{100 + number % 100}"
            texts[f"f{turn}x{number}"] = record(
                "f", net.mesh, address, key=key_id(net.key), port=30_000 + 2 * turn
            )
        announce(c, texts)
        grown = caller.works()
    assert grown < GROWTH
    caller.end()


class Caller:
    """A program on a host that calls a task whenever it is told to."""

    def __init__(self, host: Host) -> None:
        self._read, self._write = os.pipe()
        command = [sys.executable, "-c", CALLER]
        self._program = host.program(
            command=["sh", "-c", f'exec "$@" </proc/{os.getpid()}/fd/{self._read}', "sh", *command]
        )
        self._program.line("ready")
        self._asked = 0

    def works(self) -> int:
        """Have it call a task; return how many bytes it has grown by."""
        self._asked += 1
        os.write(self._write, b"\n")
        lines: list[str] = wait_until(self._said, "its task is done")
        return int(lines[-1].split()[-1])

    def _said(self) -> list[str]:
        lines = [line for line in self._program.out.splitlines() if line.startswith("grown by")]
        return lines if len(lines) >= self._asked else []

    def end(self) -> None:
        """Let it end."""
        os.close(self._write)
        assert self._program.wait() == 0
        os.close(self._read)


def test_a_false_good_bye_loses_no_node(net: Net) -> None:
    """S20: whoever says that a node has gone is asked no more than the node itself."""
    lan = net.lan()
    a, b, c = net.host("a", lan), net.host("b", lan), net.host("c", lan)
    b.node()
    app = a.app()
    found = ready(app)["b"]
    gate = b.gate()
    result = app.call("wait_at", gate.port, "still there")
    visitor = gate.next()
    text = record(found.node, net.mesh, b.address, key=key_id(net.key))
    seen = a.capture()
    for _ in range(3):
        announce(c, {found.node: text}, ttl=0)
    seen.wait_for(lambda frame: frame.source == c.address and frame.ports[1] == 5353, "the lie")

    assert [app.call("add", number).result(PATIENCE) for number in range(100)] == list(range(5, 105))
    visitor.go()
    assert result.result(PATIENCE) == "still there"
    assert list(ready(app)) == ["b"]


# ---------------------------------------------------------------------- S39: a wiretap


class Wiretap:
    """What tcpdump sees on the interface of a host."""

    def __init__(self, host: Host, file: Path) -> None:
        words = [
            "tcpdump",
            "-i",
            "lan0",
            "-U",
            "-s",
            "0",
            "--immediate-mode",
            "-B",
            "32768",
            "-Z",
            "root",
            "-w",
            str(file),
        ]
        self._file, self._program = file, host.program(command=words)
        self._program.line("listening on lan0")

    def wait_for(self, words: bytes) -> None:
        """Wait until something has passed; all before it has been written by then."""
        wait_until(lambda: words in self._file.read_bytes(), f"{words!r} is in the capture")

    def seen(self) -> bytes:
        """End it, and return all that it has written."""
        self._program.signal(signal.SIGINT)
        self._program.wait()
        return self._file.read_bytes()


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="there is no tcpdump on this machine")
@pytest.mark.parametrize("keyed", [True, False], ids=["with a key", "without one"])
def test_a_wiretap_reads_nothing_of_a_session(net: Net, tmp_path: Path, keyed: bool) -> None:
    """S39: no name of a function, argument or return; without a key it sees them all."""
    a, b = pair_of_hosts(net, key=keyed)
    file = tmp_path / "tasks.py"
    file.write_text(SECRET)
    words = () if keyed else ("--insecure-lan",)
    tap = Wiretap(b, tmp_path / "wire.pcap")
    b.node(*words, target=file)
    call = a.run("call", *words, "a_name_to_be_found", ARGUMENT)
    assert call.out == f"{ARGUMENT[::-1]}\n"
    tap.wait_for(b"CURVE" if keyed else ARGUMENT[::-1].encode())

    told = [*TOLD, *(word[:12] for word in TOLD), net.key.secret, net.key.public]
    found = [word for word in told if word in tap.seen()]
    assert found == ([] if keyed else told[:6])
