"""
Measure what a forwarder costs: the same tasks with it and without it, on loopback, CURVE on.

What it adds to a task that is alone is set beside what a bare ZeroMQ hop adds: a loop of pyzmq in the same place,
with the same key, that passes on PULL to PUSH and XSUB to XPUB and does nothing else.  `bench.py` has the rows in
its table; alone this prints what it measures::

    python tools/bench_forward.py
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import zmq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dingo_zmq import App  # noqa: E402
from dingo_zmq.mesh import keys, sockets  # noqa: E402

ROUND_TRIPS, RUNS = 200, 40
"""short runs by turns, of which the quicker half counts: on a shared machine the others measure who shares it"""

Call: TypeAlias = Callable[..., Any]
Measured: TypeAlias = tuple[float, float, float]
"""medians of theirs and ours, and the median of the ratios"""


class Figures(NamedTuple):
    """
    What it comes to.

    Attributes:
        throughput: tasks per second, without the forwarder and with it.
        added: seconds that a bare hop and the forwarder add to a task that is alone, and their ratio.
    """

    throughput: Measured
    added: Measured


@contextlib.contextmanager
def started(*words: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python with these words."""
    process = subprocess.Popen(
        [sys.executable, *words],
        env={**os.environ, **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)


def line(process: subprocess.Popen[str], text: str = "") -> str:
    """Return the next line that a process prints with this text in it."""
    assert process.stdout is not None
    while text not in (line := process.stdout.readline()) or not line:
        if not line:
            raise RuntimeError(f"{process.args!r} did not start")
    return line


@contextlib.contextmanager
def caller(folder: Path, *peers: str) -> Iterator[App]:
    """Give a caller that finds what is announced in a folder, and no other nodes of this machine."""
    with environment("DINGO_ZMQ_RUNTIME_DIR", str(folder)):
        app = App("mesh", discovery=["directory"], peers=list(peers))
        app.engine()
    try:
        yield app
    finally:
        app.close(wait=False)


@contextlib.contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """Have a variable of the environment for a moment."""
    before = os.environ[name]
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ[name] = before


@contextlib.contextmanager
def through(address: str, folder: Path) -> Iterator[tuple[App, App]]:
    """Give a caller that reaches the node at an address through a bare hop, and one through a forwarder."""
    for name in ("hop", "beyond"):
        (folder / name).mkdir(mode=0o700)
    beyond = str(folder / "beyond")
    forward = ("-m", "dingo_zmq", "forward", "--left", address, "--right", "127.0.0.1")
    with (
        started(str(Path(__file__).resolve()), "--hop", address) as hop,
        started(*forward, DINGO_ZMQ_RUNTIME_DIR=beyond) as forwarder,
    ):
        line(forwarder, "1 of 1 node passed on")
        with caller(folder / "hop", line(hop).strip()) as one, caller(folder / "beyond") as other:
            yield one, other


def measure(
    address: str,
    folder: Path,
    direct: Call,
    function: Call,
    throughput: Callable[[Call, int], float],
    round_trips: Callable[[Call, int], float],
    tasks: int,
    count: int,
) -> Figures:
    """
    Measure, by turns.

    Args:
        address: of a node.
        folder: for this alone.
        direct: calls it without anything between.
        function: that it has as "add".
        throughput, round_trips: measure a call, as those of bench.py.
        tasks, count: for the throughput, and how often.
    """
    rates: list[tuple[float, float]] = []
    with through(address, folder) as apps:
        hop, forwarder = (app.register("add", function).call for app in apps)
        for call in (direct, hop, forwarder):
            throughput(call, tasks // 8)
        for _ in range(count):
            rates.append((throughput(direct, tasks), throughput(forwarder, tasks)))
        times = [[round_trips(call, ROUND_TRIPS) for call in (direct, hop, forwarder)] for _ in range(RUNS)]
    alone, bare, ours = (statistics.median(sorted(each)[: RUNS // 2]) for each in zip(*times, strict=True))
    ratio = statistics.median(with_it / without for without, with_it in rates)
    without, with_it = (statistics.median(each) for each in zip(*rates, strict=True))
    return Figures((without, with_it, ratio), (bare - alone, ours - alone, (ours - alone) / (bare - alone)))


def hop(address: str) -> None:
    """Be the bare hop before a node, until standard input ends; its address is told on standard output."""
    host, _, port = address.rpartition(":")
    key, context = keys.find_key(None), sockets.new_context()
    pull, push, xpub, xsub = (context.socket(kind) for kind in (zmq.PULL, zmq.PUSH, zmq.XPUB, zmq.XSUB))
    gate = keys.Gatekeeper(context, [key.public])
    threading.Thread(target=_admit, args=(gate,), daemon=True).start()
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    for front in (pull, xpub):
        keys.secure_server(front, key)
    for back, number in ((push, int(port)), (xsub, int(port) + 1)):
        keys.secure_client(back, key)
        back.connect(f"{host}:{number}")
    print(f"tcp://127.0.0.1:{sockets.bind_pair(pull, xpub, ['127.0.0.1'], None)}", flush=True)
    ways, poller = {pull: push, xsub: xpub, xpub: xsub}, zmq.Poller()
    for socket in ways:
        poller.register(socket, zmq.POLLIN)
    while True:
        for socket, _ in poller.poll():
            ways[socket].send_multipart(socket.recv_multipart())


def _admit(gate: keys.Gatekeeper) -> None:
    while True:
        select.select([int(gate.socket.getsockopt(zmq.FD))], [], [], 0.1)
        gate.answer()


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Measure and print, or be the hop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hop", metavar="ADDRESS", help=argparse.SUPPRESS)
    parser.add_argument("--tasks", type=int, default=40_000)
    parser.add_argument("--pairs", type=int, default=5)
    told = parser.parse_args()
    if told.hop:
        hop(told.hop)
    from tools import bench

    with bench.private_mesh() as folder, bench.Node(folder) as node:
        node.wait()
        app = App("mesh")
        ways = app.register("add", bench.add).call, bench.add, bench.mesh_throughput, bench.mesh_round_trips
        try:
            figures = measure(node.address, folder, *ways, told.tasks, told.pairs)
        finally:
            app.close(wait=False)
    for name, (theirs, ours, ratio) in figures._asdict().items():
        print(f"{name}: {theirs:.6g} and {ours:.6g}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
