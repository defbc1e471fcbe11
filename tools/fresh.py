"""
Start fresh callers that each call at once, and count first reports that are lost.

A subscriber that is new misses what is published before its subscription has arrived; with bare ZeroMQ that is
what becomes of most first reports.  Each caller here is an App of its own that calls one monitored task as the
first thing it does.  The first thing that a node says of a task is PROGRESS, which is sent once and not kept: a
caller that never sees it has lost it.  Ends with 1 where one is lost.

    python tools/fresh.py --callers 2000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dingo_zmq import App, Status  # noqa: E402
from tools.storming import served  # noqa: E402
from tools.storming.mesh import Mesh  # noqa: E402

PATIENCE_SECONDS = 60.0
AT_ONCE = 20
"""callers of a process that are there at the same time"""
Seen = tuple[bool, bool, float]


def fresh(number: int) -> Seen:
    """Be a caller; return whether the first report came, whether the result was right, and after how long."""
    app = App("mesh")
    try:
        work = app.declare("work", served.work).options(monitor_progress=True)
        began = time.perf_counter()
        result = work.call(number, 0.0, b"")
        right = result.result(PATIENCE_SECONDS) == served.expected(number, b"")
        seconds = time.perf_counter() - began
        first = any(report.status is Status.PROGRESS for report in result.reports(PATIENCE_SECONDS))
        return first, right, seconds
    finally:
        app.close(wait=False)


def part(count: int) -> None:
    """Be the callers of one process, and print what they saw."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        print(json.dumps(list(pool.map(fresh, range(count)))))


def run(callers: int, processes: int, folder: Path) -> list[Seen]:
    """Start two nodes and all callers, and return what these saw."""
    mesh = Mesh(folder, proxied=False, seed=0)
    try:
        for _ in range(2):
            mesh.add(4)
        for node in mesh.nodes:
            node.wait()
        words = [sys.executable, __file__, "--part", str(-(-callers // processes))]
        parts = [subprocess.Popen(words, stdout=subprocess.PIPE, env=mesh.env) for _ in range(processes)]
        return [tuple(seen) for each in parts for seen in json.loads(each.communicate()[0])]
    finally:
        mesh.close()


def main() -> int:
    """Run, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callers", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--part", type=int, default=0, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.part:
        part(told.part)
        return 0
    with tempfile.TemporaryDirectory(prefix="fresh-") as folder:
        seen = run(told.callers, told.processes, Path(folder))
    lost, wrong = sum(not first for first, _, _ in seen), sum(not right for _, right, _ in seen)
    times = sorted(seconds for _, _, seconds in seen)
    print(f"{len(seen):,} fresh callers: {lost} first reports lost, {wrong} wrong results")
    print(f"call to result: p50 {times[len(times) // 2]:.2f} s, p99 {times[int(len(times) * 0.99)]:.2f} s")
    return 1 if lost or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
