"""
Measure dingo-zmq beside the bare means it is made of, in one run, as ratios.

Every comparison is five interleaved pairs (theirs, ours, theirs, ...) with the median ratio, since a shared
machine is never as fast twice.  Two processes on loopback, CURVE on and every guarantee on for ours; the bare
pyzmq loop has neither.  The rows of two hosts come from bench_lan.py, those of a forwarder from bench_forward.py.

    python tools/bench.py            a table
    python tools/bench.py --json     the same as JSON
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dingo_zmq import App  # noqa: E402
from tools import bench_forward, bench_lan  # noqa: E402
from tools.bench_bare import Bare  # noqa: E402

TASKS = """
from dingo_zmq import App

app = App("mesh")


@app.task
def add(a: int, b: int) -> int:
    return a + b
"""
IDLE_SECONDS = 5.0
OUTSTANDING = 1000


def add(a: int, b: int) -> int:
    """Return the sum: the smallest task there is."""
    return a + b


class Node:
    """A node of ours as a process of its own; `threads` workers."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        (folder / "tasks.py").write_text(TASKS)
        self._command = [sys.executable, "-m", "dingo_zmq", "node", str(folder / "tasks.py")]
        self._command += ["--threads", str(threads), "--name", "bench"]

    def __enter__(self) -> Node:
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        return self

    def wait(self) -> None:
        """Wait until it says that it is there."""
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().decode().split(" at ")[1].split(",")[0]

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def pids(self) -> list[int]:
        """Return supervisor and node process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]


def mesh_throughput(call: Callable[..., Any], tasks: int) -> float:
    """Submit one by one, one `Result` each, all of them open; return tasks per second."""
    began = time.perf_counter()
    results = [call(number, 1) for number in range(tasks)]
    total = sum(result.result(60) for result in results)
    seconds = time.perf_counter() - began
    assert total == tasks * (tasks + 1) // 2
    return tasks / seconds


def windowed_throughput(call: Callable[..., Any], tasks: int) -> float:
    """The same with 1,000 outstanding, as in the bare loop."""
    began = time.perf_counter()
    results = [call(number, 1) for number in range(OUTSTANDING)]
    total = 0
    for number in range(tasks):
        total += results[number % OUTSTANDING].result(60)
        if number + OUTSTANDING < tasks:
            results[number % OUTSTANDING] = call(number + OUTSTANDING, 1)
    seconds = time.perf_counter() - began
    assert total == tasks * (tasks + 1) // 2
    return tasks / seconds


def mesh_round_trips(call: Callable[..., Any], count: int) -> float:
    """Return the median seconds of calls made one at a time."""
    times = []
    for number in range(count):
        began = time.perf_counter()
        call(number, 1).result(60)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def pool_throughput(tasks: int) -> float:
    """`ThreadPoolExecutor.submit` with the same function."""
    with ThreadPoolExecutor(1) as pool:
        began = time.perf_counter()
        futures = [pool.submit(add, number, 1) for number in range(tasks)]
        total = sum(future.result() for future in futures)
        seconds = time.perf_counter() - began
    assert total == tasks * (tasks + 1) // 2
    return tasks / seconds


def local_throughput(tasks: int) -> float:
    """`App("local")` with as many threads."""
    app = App("local", threads=1)
    task = app.register("add", add)
    with app:
        task.call(1, 1).result()
        return mesh_throughput(task.call, tasks)


def pairs(theirs: Callable[[], float], ours: Callable[[], float], count: int) -> tuple[float, float, float]:
    """Return the medians of theirs and ours, and the median of the ratios ours / theirs."""
    measured = [(theirs(), ours()) for _ in range(count)]
    ratio = statistics.median(ours / theirs for theirs, ours in measured)
    return statistics.median(t for t, _ in measured), statistics.median(o for _, o in measured), ratio


def idle(node: Node) -> dict[str, float]:
    """Return CPU share and resident memory of an idle node process, and of its supervisor."""
    pids = node.pids()
    before = [_cpu(pid) for pid in pids]
    time.sleep(IDLE_SECONDS)
    shares = [(_cpu(pid) - was) / IDLE_SECONDS for pid, was in zip(pids, before, strict=True)]
    memory = [_rss(pid) for pid in pids]
    return {
        "node_cpu": shares[1],
        "node_mb": memory[1],
        "supervisor_cpu": shares[0],
        "supervisor_mb": memory[0],
    }


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def first_result(folder: Path) -> float:
    """Return the seconds from starting a node to the first result at a caller that waits for it."""
    app = App("mesh")
    task = app.declare("add", add)
    try:
        app.engine()
        began = time.perf_counter()
        with Node(folder):
            task.call(2, 3).result(30)
            return time.perf_counter() - began
    finally:
        app.close(wait=False)


@contextlib.contextmanager
def private_mesh() -> Iterator[Path]:
    """Give the benchmark folders and a mesh of its own, so that it meets nobody."""
    with tempfile.TemporaryDirectory(prefix="dingo-bench-") as folder:
        os.environ["DINGO_ZMQ_CONFIG_DIR"] = f"{folder}/config"
        os.environ["DINGO_ZMQ_RUNTIME_DIR"] = f"{folder}/run"
        os.environ["DINGO_ZMQ_MESH"] = f"bench-{os.getpid()}"
        yield Path(folder)


def measure(tasks: int, count: int) -> dict[str, Any]:
    """Run everything and return the figures."""
    figures: dict[str, Any] = {"machine": machine(), "tasks": tasks, "pairs": count}
    with private_mesh() as folder:
        figures["first_result"] = statistics.median(first_result(folder) for _ in range(3))
        with Node(folder) as node, Bare() as bare:
            node.wait()
            app = App("mesh")
            call = app.register("add", add).call
            try:
                windowed_throughput(call, 5000), bare.throughput(5000)
                figures["idle"] = idle(node)
                figures["throughput"] = pairs(
                    lambda: bare.throughput(tasks), lambda: mesh_throughput(call, tasks), count
                )
                figures["windowed"] = pairs(
                    lambda: bare.throughput(tasks), lambda: windowed_throughput(call, tasks), count
                )
                figures["round_trip"] = pairs(
                    lambda: statistics.median(bare.round_trip(2000)),
                    lambda: mesh_round_trips(call, 2000),
                    count,
                )
                figures["forwarder"] = bench_forward.measure(
                    node.address, folder, call, add, mesh_throughput, mesh_round_trips, tasks, count
                )
            finally:
                app.close(wait=False)
        figures["lan"] = bench_lan.obstacle() or bench_lan.measure()
        figures["local"] = pairs(lambda: pool_throughput(tasks), lambda: local_throughput(tasks), count)
    return figures


def machine() -> str:
    """Return what this machine is, in a line."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{os.cpu_count()} cores, {model}, Python {platform.python_version()}"


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    rows = [("", "theirs", "ours", "ratio")]
    for name, key in (
        ("no-op tasks/s, all open at once; bare pyzmq loop", "throughput"),
        ("no-op tasks/s, 1,000 outstanding; bare pyzmq loop", "windowed"),
        ("local mode, tasks/s; ThreadPoolExecutor", "local"),
    ):
        theirs, ours, ratio = figures[key]
        rows.append((name, f"{theirs:,.0f}", f"{ours:,.0f}", f"{ratio:.2f}"))
    theirs, ours, ratio = figures["round_trip"]
    rows.append(
        (
            "one at a time, p50; bare pyzmq loop",
            f"{theirs * 1e6:.0f} us",
            f"{ours * 1e6:.0f} us",
            f"{ratio:.2f}",
        )
    )
    (theirs, ours, ratio), added = figures["forwarder"]
    rows.append(
        ("no-op tasks/s through a forwarder; without it", f"{theirs:,.0f}", f"{ours:,.0f}", f"{ratio:.2f}")
    )
    theirs, ours, ratio = added
    text = "one at a time, added by a forwarder; by a bare pyzmq hop, CURVE on"
    rows.append((text, f"{theirs * 1e6:.0f} us", f"{ours * 1e6:.0f} us", f"{ratio:.2f}"))
    quiet = figures["idle"]
    rows.append(("idle node process: CPU", "", f"{quiet['node_cpu']:.2%}", ""))
    rows.append(("idle node process: resident", "", f"{quiet['node_mb']:.0f} MB", ""))
    rows.append(("its supervisor: CPU", "", f"{quiet['supervisor_cpu']:.2%}", ""))
    rows.append(("its supervisor: resident", "", f"{quiet['supervisor_mb']:.0f} MB", ""))
    rows.append(("one host, node process started to first result", "", f"{figures['first_result']:.2f} s", ""))
    lan = figures["lan"]
    told = [lan, lan] if isinstance(lan, str) else [f"{seconds:.2f} s" for seconds in lan]
    rows.append(("two hosts, node up: caller's start to first result", "", told[0], ""))
    rows.append(("two hosts, caller up: node's start to first result", "", told[1], ""))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|---|---|---|")
    return "\n".join(
        [f"{figures['machine']}; {figures['pairs']} pairs, {figures['tasks']:,} tasks each", "", *lines]
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tasks", type=int, default=40_000)
    parser.add_argument("--pairs", type=int, default=5)
    told = parser.parse_args()
    figures = measure(told.tasks, told.pairs)
    print(json.dumps(figures, indent=2) if told.json else table(figures))


if __name__ == "__main__":
    main()
