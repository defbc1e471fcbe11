"""
Run a mesh of real processes through a storm, and account for every task.

Node processes are killed, stopped and continued, callers stopped, and connections broken, while callers call
tasks whose results are checked.  It prints a table, and ends with 1 where a task is lost, settled twice or
wrong, or where the faults that were planned did not happen.

    python tools/storm.py --seconds 60
    python tools/storm.py --tasks 1000000
    python tools/storm.py --tasks 50000 --faults kill,stop,caller,proxy --fatal 2000
    python tools/storm.py --seconds 1200 --spare 2        a soak: memory, threads and descriptors
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.storming.caller import Outcome, Wanted  # noqa: E402
from tools.storming.figures import Runs, Storm  # noqa: E402
from tools.storming.mesh import Mesh  # noqa: E402
from tools.storming.nemesis import KINDS, Nemesis  # noqa: E402
from tools.storming.watch import Sample, sample  # noqa: E402

ENDLESS = 100_000_000
"""tasks of a caller that ends by the clock"""
SAMPLE_SECONDS = 1.0
LAST_SECONDS = 120.0
"""that callers have for ending, once they were told to or should have"""


class Callers:
    """The calling processes of a storm."""

    def __init__(self, mesh: Mesh, told: argparse.Namespace) -> None:
        self._files = [mesh.folder / f"caller-{number}.json" for number in range(told.callers)]
        self._processes = []
        dice = random.Random(told.seed + 1)
        share = -(-told.tasks // told.callers) if told.tasks else ENDLESS
        peers = [node.proxy.address for node in mesh.nodes if node.proxy is not None]
        for number, file in enumerate(self._files):
            wanted = Wanted(
                str(file), number * share, share, told.ahead, told.mean, dice.randrange(1 << 30), peers,
                told.once, told.fatal,
            )  # fmt: skip
            words = [sys.executable, "-m", "tools.storming.caller", json.dumps(asdict(wanted))]
            with (mesh.folder / f"caller-{number}.log").open("ab") as log:
                self._processes.append(
                    subprocess.Popen(words, stdin=subprocess.PIPE, stdout=log, stderr=log, env=mesh.env)
                )

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [process.pid for process in self._processes]

    @property
    def done(self) -> bool:
        """Whether all have ended."""
        return all(process.poll() is not None for process in self._processes)

    def stop(self) -> None:
        """Have them call no more."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()

    def kill(self) -> None:
        """End them, whatever they do."""
        for process in self._processes:
            process.kill()
            process.wait()

    def outcomes(self) -> list[Outcome | None]:
        """Return what they say became of their tasks."""
        found: list[Outcome | None] = []
        for file in self._files:
            found.append(_outcome(file) if file.exists() else None)
        return found


def _outcome(file: Path) -> Outcome:
    told = json.loads(file.read_text())
    for name in ("lost", "wrong"):
        told[name] = {int(number): how for number, how in told[name].items()}
    return Outcome(**told)


def run(told: argparse.Namespace, folder: Path) -> Storm:
    """Start all of it, wait until it is over, and return what it came to."""
    mesh = Mesh(folder, proxied="proxy" in told.faults, seed=told.seed)
    callers = None
    try:
        for _ in range(told.nodes):
            mesh.add(told.threads)
        for node in mesh.nodes:
            node.wait()
        callers = Callers(mesh, told)
        every = {"kill": told.kill_every, "stop": told.stop_every, "caller": told.stop_every * 2}
        every["proxy"] = told.break_every
        nemesis = Nemesis(mesh, callers.pids, told.faults, every, told.spare, told.seed)
        samples = _last_until_done(told, mesh, callers, nemesis)
        nemesis.rest()
        _wait(callers)
    finally:
        if callers is not None:
            callers.kill()
        mesh.close()
    (folder / "faults.json").write_text(json.dumps(nemesis.faults))
    return Storm(callers.outcomes(), nemesis.faults, nemesis.planned, Runs(mesh.records), samples)


def _last_until_done(
    told: argparse.Namespace, mesh: Mesh, callers: Callers, nemesis: Nemesis
) -> dict[str, dict[int, list[Sample]]]:
    """Let the nemesis work until the callers or the seconds are done."""
    samples: dict[str, dict[int, list[Sample]]] = {}
    end = time.monotonic() + told.seconds if told.seconds else float("inf")
    look = time.monotonic()
    while not callers.done and (now := time.monotonic()) < end:
        again = nemesis.work()
        if now >= look:
            look = now + SAMPLE_SECONDS
            who = {f"caller {number}": pid for number, pid in enumerate(callers.pids)}
            who |= {f"node {node.name}": node.pid or 0 for node in mesh.nodes[: max(1, told.spare)]}
            for name, pid in who.items():
                if (seen := sample(pid, now)) is not None:
                    samples.setdefault(name, {}).setdefault(pid, []).append(seen)
        time.sleep(max(0.0, min(again, look, end) - time.monotonic()))
    callers.stop()
    return samples


def _wait(callers: Callers) -> None:
    deadline = time.monotonic() + LAST_SECONDS
    while not callers.done and time.monotonic() < deadline:
        time.sleep(0.05)


def options() -> argparse.ArgumentParser:
    """Return what can be told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--tasks", type=int, default=0, help="all callers together; 0 for as many as --seconds has time for")
    add("--seconds", type=float, default=0.0, help="after which no more are called; 0 for no end")
    add("--nodes", type=int, default=8)
    add("--threads", type=int, default=2, help="workers of each node")
    add("--callers", type=int, default=2)
    add("--ahead", type=int, default=300, help="tasks that each caller has open")
    add("--mean", type=float, default=0.005, help="run time, seconds")
    add("--once", type=float, default=0.02, help="share of the tasks that are at-most-once")
    add("--fatal", type=int, default=0, help="one of so many tasks ends its process or its memory; 0 for none")
    add("--faults", type=_faults, default={"kill", "stop", "caller"}, help=f"of {','.join(KINDS)}, or none")
    add("--kill-every", type=float, default=1.0, help="seconds between two SIGKILLs")
    add("--stop-every", type=float, default=5.0, help="seconds between two SIGSTOPs; of callers twice that")
    add("--break-every", type=float, default=0.5, help="seconds between two broken connections")
    add("--spare", type=int, default=0, help="so many nodes are not killed, for a look at their memory")
    add("--seed", type=int, default=None, help="of the dice; chosen and printed unless told")
    add("--keep", action="store_true", help="leave the records and logs, as is done where something is wrong")
    return parser


def _faults(text: str) -> set[str]:
    kinds = {word for word in text.split(",") if word not in ("", "none")}
    if unknown := kinds - set(KINDS):
        raise argparse.ArgumentTypeError(
            f"there is no {', '.join(sorted(unknown))}; there are: {', '.join(KINDS)}"
        )
    return kinds


def main(words: list[str] | None = None) -> int:
    """Run, print, and return the exit code."""
    parser = options()
    told = parser.parse_args(words)
    if not told.tasks and not told.seconds:
        parser.error("tell how long: --tasks or --seconds")
    if told.seed is None:
        told.seed = random.randrange(1 << 30)
    print(f"seed {told.seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # after all that was started is ended
    folder = Path(tempfile.mkdtemp(prefix="storm-"))
    keep = True
    try:
        storm = run(told, folder)
        print(storm.table())
        wrongs = storm.wrongs()
        keep = told.keep or bool(wrongs)
    finally:
        if keep:
            print(f"records and logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    for each in wrongs:
        print(f"WRONG: {each}")
    return 1 if wrongs else 0


if __name__ == "__main__":
    sys.exit(main())
