"""
A fast node and one ten times slower: how long many tasks of mixed length take, beside the best there could be.

The caller is told nothing: neither how long a task is, nor how fast a node is (both say the same pace).  The
makespan is the time from the first call to the last result; the bound is all work over all speed, which no
order of the tasks could beat.  `greedy` is what a queue without any latency would take, from which whoever is
free takes the next task: nobody who does not know the lengths is sure to be better, for a long task that the
slow node begins last makes everybody wait.  Each run is cold: the nodes are connected, and have run nothing.

    python tools/uneven.py                 simulated (virtual time, real deciders), then real (two processes)
    python tools/uneven.py --simulated     only that
    python tools/uneven.py --seeds 50      more seeds of the simulated world
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dingo_zmq import App  # noqa: E402
from dingo_zmq.testing import Job, NodePlan, Plan, World  # noqa: E402

TASKS = 2000
THREADS = 4
SLOWER = 10
CALLED_AT = 2.0
LATEST = 3600.0
"""virtual seconds after which a run of the simulated world is given up"""

SERVED = """
import os
import time

from dingo_zmq import App

app = App("mesh")
FACTOR = float(os.environ["UNEVEN_FACTOR"])


@app.task
def work(seconds: float) -> None:
    time.sleep(seconds * FACTOR)
"""


def work(seconds: float) -> None:
    """Wait; the node knows how long it takes there."""


# ---------------------------------------------------------------------- lengths of tasks


def log_uniform(dice: Random) -> float:
    """Return a length from 5 to 500 ms, each order of size as likely as the other."""
    return 0.005 * math.pow(100, dice.random())


def two_kinds(dice: Random) -> float:
    """Return 10 ms mostly, and 0.5 s for one task in twenty."""
    return 0.5 if dice.random() < 0.05 else 0.01


def exponential(dice: Random) -> float:
    """Return a length whose mean is 50 ms."""
    return dice.expovariate(20.0)


MIXES: dict[str, Callable[[Random], float]] = {
    "5 to 500 ms, log-uniform": log_uniform,
    "10 ms, one in 20 0.5 s": two_kinds,
    "exponential, mean 50 ms": exponential,
}


def lengths(mix: str, seed: int, tasks: int = TASKS) -> list[float]:
    """Return the lengths of the tasks of a run, in seconds at the fast node."""
    dice = Random(f"{mix} {seed}")
    return [MIXES[mix](dice) for _ in range(tasks)]


@dataclass(frozen=True)
class Run:
    """What came of a run, in seconds; `slow_tasks` is how many tasks the slow node ran."""

    makespan: float
    best: float
    greedy: float
    slow_tasks: int

    @property
    def ratio(self) -> float:
        """How much longer it took than it must."""
        return self.makespan / self.best


def bound(tasks: list[float]) -> float:
    """Return all work over all speed, in seconds."""
    return sum(tasks) / (THREADS + THREADS / SLOWER)


def greedy(tasks: list[float]) -> float:
    """Return how long it takes where each worker takes the next task from one queue as soon as it is free."""
    workers = [(0.0, factor) for factor in (1, SLOWER) for _ in range(THREADS)]
    for seconds in tasks:
        at, factor = heapq.heappop(workers)
        heapq.heappush(workers, (at + seconds * factor, factor))
    return max(workers)[0]


def made(makespan: float, tasks: list[float], slow_tasks: int) -> Run:
    """Return a run with what it is to be compared with."""
    return Run(makespan, bound(tasks), greedy(tasks), slow_tasks)


# ---------------------------------------------------------------------- simulated


def simulated(mix: str, seed: int, tasks: int = TASKS) -> Run:
    """Run it in virtual time."""
    chosen = lengths(mix, seed, tasks)
    jobs = [Job(f"t{n}", 0, "work", CALLED_AT, seconds) for n, seconds in enumerate(chosen)]
    nodes = [NodePlan({"shared": THREADS}, {"work": ("shared", "")}, speed=speed) for speed in (1.0, 1.0 / SLOWER)]
    world = World(Plan(seed, nodes, [0.5], jobs, delay=0.0003, heal_at=2 * LATEST))
    endings = world.scene.history.endings
    while len(endings) < tasks and world.scene.now < LATEST:
        world.scene.until(world.scene.now + 1.0)
    last = max(found[0].at for found in endings.values()) if len(endings) == tasks else math.inf
    slow = sum(found[0].node == "n1" for found in world.scene.history.executions.values())
    return made(last - CALLED_AT, chosen, slow)


def simulated_table(seeds: int) -> None:
    """Print what many seeds give."""
    print(f"simulated: {seeds} seeds, {TASKS:,} tasks, {THREADS} workers on each node, one {SLOWER} times slower")
    print("the medians, and the worst ratio")
    print(f"{'lengths':26}{'bound':>8}{'greedy':>9}{'ours':>9}{'ratio':>8}{'worst':>8}{'slow ran':>10}")
    with ProcessPoolExecutor() as pool:
        for mix in MIXES:
            runs = list(pool.map(partial(simulated, mix), range(seeds)))
            middle = [statistics.median(column) for column in zip(*map(astuple, runs), strict=True)]
            ratios = [run.ratio for run in runs]
            print(
                f"{mix:26}{middle[1]:7.1f}s{middle[2]:8.1f}s{middle[0]:8.1f}s"
                f"{statistics.median(ratios):8.3f}{max(ratios):8.3f}{middle[3]:10.0f}"
            )


# ---------------------------------------------------------------------- real


@contextlib.contextmanager
def private_mesh() -> Iterator[Path]:
    """Give keys and files of this host a folder of their own, for as long as it lasts."""
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        names = {"DINGO_ZMQ_CONFIG_DIR": "config", "DINGO_ZMQ_RUNTIME_DIR": "run"}
        before = {name: os.environ.get(name) for name in names}
        os.environ.update({name: str(folder / sub) for name, sub in names.items()})
        try:
            yield folder
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


@contextlib.contextmanager
def node(folder: Path, name: str, factor: float) -> Iterator[None]:
    """Run a node that takes `factor` times as long for everything."""
    file = folder / "tasks.py"
    file.write_text(SERVED)
    command = [sys.executable, "-m", "dingo_zmq", "node", str(file), "--name", name, "--threads", str(THREADS)]
    command += ["--discovery", "directory", "--grace", "1", "--log-level", "error"]
    process = subprocess.Popen(
        command, env={**os.environ, "UNEVEN_FACTOR": str(factor)}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def real(mix: str, seed: int, tasks: int = TASKS) -> Run:
    """Run it with two node processes on loopback; tasks are waits, so two cores are enough."""
    chosen = lengths(mix, seed, tasks)
    with private_mesh() as folder, node(folder, "fast", 1.0), node(folder, "slow", SLOWER):
        app = App("mesh", discovery=["directory"])
        try:
            task = app.declare("work", work)
            app.engine().wait_for(lambda peers: [peer.state for peer in peers] == ["ready"] * 2, 30.0)
            began = time.perf_counter()
            results = [task.call(seconds) for seconds in chosen]
            for result in results:
                result.result(timeout=LATEST)
            makespan = time.perf_counter() - began
            return made(makespan, chosen, sum(result.node == "slow" for result in results))
        finally:
            app.close(wait=False)


def real_table(runs: int) -> None:
    """Print what this machine gives."""
    print(
        f"real: two node processes on loopback, {THREADS} threads each, tasks are waits; cold, nothing ran before"
    )
    print(f"{'lengths':26}{'seed':10}{'bound':>8}{'greedy':>9}{'ours':>9}{'ratio':>8}{'':8}{'slow ran':>10}")
    for mix in MIXES:
        for seed in range(runs):
            run = real(mix, seed)
            print(
                f"{mix:26}{seed:<10}{run.best:7.1f}s{run.greedy:8.1f}s{run.makespan:8.1f}s{run.ratio:8.3f}"
                f"{'':8}{run.slow_tasks:10}",
                flush=True,
            )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", action="store_true", help="only the simulated world")
    parser.add_argument("--real", action="store_true", help="only real processes")
    parser.add_argument("--seeds", type=int, default=20, help="seeds of the simulated world")
    parser.add_argument("--runs", type=int, default=1, help="real runs of each mix")
    told = parser.parse_args()
    if not told.real:
        simulated_table(told.seeds)
    if not told.simulated:
        real_table(told.runs)


if __name__ == "__main__":
    main()
