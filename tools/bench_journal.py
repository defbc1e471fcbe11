"""
What a journal costs, and how soon a caller is back: ``python tools/bench_journal.py``.

Starts a node of its own on this machine, in a mesh of its own.  The journal is in a temporary folder unless told
where, since its disk matters: each figure waits for what is on it (``synchronous=FULL``).
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dingo_zmq import App

TASKS = textwrap.dedent(
    """
    from dingo_zmq import App

    app = App("mesh")


    @app.task
    def add(a: int, b: int) -> int:
        return a + b
    """
)


def add(a: int, b: int) -> int:
    """Add, as the node does."""
    return a + b


@contextmanager
def node(folder: Path, mesh: str) -> Iterator[None]:
    """Have a node of one process while the block runs."""
    file = folder / "tasks.py"
    file.write_text(TASKS)
    words = [sys.executable, "-m", "dingo_zmq", "node", str(file), "--mesh", mesh, "--discovery", "directory"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.wait()


def caller(mesh: str, journal: Path | None, *, alone: bool = False) -> App:
    """Return a caller that knows `add`; `alone`: one that finds nobody."""
    app = App("mesh", mesh=mesh, journal=journal, discovery=[] if alone else ["directory"], max_open=1_000_000)
    app.register("add", add)
    return app


def rate(app: App, tasks: int) -> float:
    """Return tasks a second through `map`."""
    assert app.call("add", 1, 1).result(30) == 2
    began = time.perf_counter()
    assert sum(app.map("add", range(tasks), range(tasks))) == tasks * (tasks - 1)
    return tasks / (time.perf_counter() - began)


def one_by_one(app: App, tasks: int) -> float:
    """Return seconds for one call and its result."""
    began = time.perf_counter()
    for number in range(tasks):
        assert app.call("add", number, 1).result(30) == number + 1
    return (time.perf_counter() - began) / tasks


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=50_000, help="of the runs through map")
    parser.add_argument("--open", type=int, default=100_000, help="tasks open when the caller comes back")
    parser.add_argument("--folder", help="where the journal is to be")
    parser.add_argument("--leave", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.leave:
        leave(Path(given.leave[0]), given.leave[1], given.open)
    mesh = f"bench-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(dir=given.folder) as name, node(Path(name), mesh):
        folder = Path(name)
        with caller(mesh, None) as plain, caller(mesh, folder / "map.db") as kept:
            rates = rate(plain, given.tasks), rate(kept, given.tasks)
            each = one_by_one(plain, 1000), one_by_one(kept, 1000)
        print(f"map, {given.tasks:,} tasks   without {rates[0]:9,.0f}/s   with a journal {rates[1]:9,.0f}/s")
        print(f"one at a time         without {each[0] * 1e6:9,.0f} us   with a journal {each[1] * 1e6:9,.0f} us")
        back(folder / "open.db", mesh, given.open)


def leave(path: Path, mesh: str, tasks: int) -> None:
    """Record tasks that nobody runs, and die."""
    app = caller(mesh, path, alone=True)
    together = app._by_name("add")._together()
    assert together is not None
    began = time.perf_counter()
    for start in range(0, tasks, 1000):
        together([(number, 1) for number in range(start, min(tasks, start + 1000))])
    print(f"{tasks:,} open tasks recorded in {time.perf_counter() - began:.1f} s", flush=True)
    os._exit(0)


def back(path: Path, mesh: str, tasks: int) -> None:
    """Go on with what a program has left."""
    words = [sys.executable, __file__, "--leave", str(path), mesh, "--open", str(tasks)]
    subprocess.run(words, check=True)
    began = time.perf_counter()
    app = caller(mesh, path)
    results = app.recover()
    here = time.perf_counter() - began
    results[0].result(60)
    first = time.perf_counter() - began
    for number, result in enumerate(results):
        assert result.result(600) == number + 1
    done = time.perf_counter() - began
    assert len(results) == tasks
    print(f"back after {here:.2f} s, the first result after {first:.2f} s, all of them after {done:.1f} s")
    app.close()


if __name__ == "__main__":
    main()
