"""
Measure how soon two machines of a LAN that nobody has told of each other get to their first result.

The machines are network namespaces joined by a pair of virtual interfaces, so this needs root on Linux and
ip(8); they are removed at the end.

    python tools/bench_lan.py
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

TASKS = """
from dingo_zmq import App

app = App("mesh")


@app.task
def add(a: int, b: int) -> int:
    return a + b
"""
CALLER = """
import time
import dingo_zmq.mesh.engine
from tasks import app, add

began = time.perf_counter()
app.engine()
print("up", flush=True)
assert add.call(2, 3).result(30) == 5
print(time.perf_counter() - began, flush=True)
app.close()
"""
RUNS = 3


def obstacle() -> str:
    """Return why this machine cannot have namespaces, or ""."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    made = subprocess.run(["unshare", "--net", "ip", "link"], capture_output=True, check=False)
    return "" if made.returncode == 0 else "no namespaces here"


def ip(*words: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[str, str]]:
    """Give two namespaces on one link."""
    names = f"dingo-bench-{os.getpid()}-a", f"dingo-bench-{os.getpid()}-b"
    try:
        for name in names:
            ip("netns", "add", name)
        ip("-n", names[0], "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "address", "add", f"10.77.1.{number}/24", "dev", "lan0")
            ip("-n", name, "link", "set", "lan0", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


class Host:
    """A namespace with a folder for run-time files of its own, and the mesh key of all."""

    def __init__(self, name: str, folder: Path, home: Path) -> None:
        self._name, self._folder = name, folder
        self._env = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
            "DINGO_ZMQ_CONFIG_DIR": str(home),
            "DINGO_ZMQ_RUNTIME_DIR": str(folder / name),
        }

    @contextlib.contextmanager
    def run(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run Python with these words."""
        command = ["ip", "netns", "exec", self._name, sys.executable, *words]
        process = subprocess.Popen(command, cwd=self._folder, env=self._env, stdout=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=10)


def line(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline()


def node_first(a: Host, b: Host) -> float:
    """Return the seconds from the start of a caller, but for its imports, to its result from a node that waits."""
    with b.run("-m", "dingo_zmq", "node", "tasks.py", "--log-level", "error") as node:
        line(node)
        with a.run("caller.py") as caller:
            line(caller)
            return float(line(caller))


def caller_first(a: Host, b: Host) -> float:
    """Return the seconds from a node that says that it serves to the result of a caller that waits for it."""
    with a.run("caller.py") as caller:
        line(caller)
        with b.run("-m", "dingo_zmq", "node", "tasks.py", "--log-level", "error") as node:
            line(node)
            began = time.perf_counter()
            line(caller)
            return time.perf_counter() - began


def measure() -> tuple[float, float]:
    """Return the medians of `node_first` and `caller_first`."""
    with tempfile.TemporaryDirectory(prefix="dingo-bench-") as name, two_hosts() as names:
        folder, home = Path(name), Path(name, "config")
        (folder / "tasks.py").write_text(TASKS)
        (folder / "caller.py").write_text(CALLER)
        a, b = (Host(each, folder, home) for each in names)
        with a.run("-m", "dingo_zmq", "keygen") as keygen:
            keygen.wait(10)
        return (
            statistics.median(node_first(a, b) for _ in range(RUNS)),
            statistics.median(caller_first(a, b) for _ in range(RUNS)),
        )


def main() -> None:
    """Measure and print."""
    if why := obstacle():
        sys.exit(f"{sys.argv[0]}: {why}")
    waiting_node, waiting_caller = measure()
    print(f"node up first, caller's start to first result: {waiting_node:.2f} s")
    print(f"caller up first, node's start to first result: {waiting_caller:.2f} s")


if __name__ == "__main__":
    main()
