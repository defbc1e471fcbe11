"""
Measure how soon a mesh recovers when its network is cut, and when that heals.

The machines are network namespaces on one bridge, so this needs root on Linux, ip(8) and nft(8): two machines
with two callers each and four with nodes, half of them in a mesh with a key and half in one without; the callers
keep hundreds of tasks open.
In turn half of the nodes are cut off, until what was there is done elsewhere; and all callers, for a time that is
drawn by lot.  At the end every task must have been settled exactly once, and every second execution explained.

    python tools/cuts.py                  at least 200 events of each kind; about five minutes
    python tools/cuts.py --events 50      fewer
    python tools/cuts.py --longest 60     callers are cut off for up to a minute
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dingo_zmq.events import EventCode  # noqa: E402
from tests.lan import Host, Net, obstacle, ready  # noqa: E402
from tests.net.office import all_go_on, start_nodes  # noqa: E402
from tests.net.work import Account, Work  # noqa: E402

OPEN = 100
SECONDS = 0.2
THREADS = 8
NODES = ("n1", "n2", "n3", "n4")
CALLERS = ("a1", "a2")
SHORTEST = 0.5


class Mesh:
    """
    All machines.

    Args:
        folder: of their own.
    """

    def __init__(self, folder: Path) -> None:
        net = Net(folder)
        self.net, self.lan = net, net.lan()
        self.nodes = [net.host(name, self.lan, ipv6=False) for name in NODES]
        self.callers = [net.host(name, self.lan, ipv6=False) for name in CALLERS]
        start_nodes(self.nodes, THREADS)
        self.works = list(self._works(folder))
        all_go_on(self.works, *NODES)

    def _works(self, folder: Path) -> Iterator[Work]:
        for host in self.callers:
            for number, settings in enumerate(({}, {"insecure_lan": True, "mesh": f"{host.mesh}-open"})):
                app = host.app(**settings)
                ready(app, len(NODES))
                yield Work(app, folder / f"{host.name}{number}", open=OPEN, seconds=SECONDS)

    def cut_nodes(self, hosts: list[Host]) -> list[float]:
        """Cut nodes off until their tasks are done elsewhere; return after how many seconds each began there."""
        known = [len(work.starts()) for work in self.works]
        before = [work.given_up() for work in self.works]
        losses = [[work.count(EventCode.LOST, host.name) for host in hosts] for work in self.works]
        self.lan.cut(*hosts)
        began = time.monotonic()
        found: list[float] = []
        for work, so_far, lost_so_far, skip in zip(self.works, before, losses, known, strict=True):
            for host, times in zip(hosts, lost_so_far, strict=True):
                work.told(EventCode.LOST, host.name, times + 1)
            again = work.given_up() - so_far
            work.settled(again)
            names = {host.name for host in hosts}
            late = [start for start in work.starts()[skip:] if start.attempt > 1 and start.host not in names]
            starts = {start.number: start.at for start in reversed(late)}
            found += [at - began for number, at in starts.items() if number in again]
        self._heal()
        return found

    def cut_callers(self, seconds: float) -> list[float]:
        """Cut callers off; return after how many seconds from the heal each had all that each node had begun."""
        self.lan.cut(*self.callers)
        began = time.monotonic()
        time.sleep(seconds)
        self.lan.heal()
        healed = time.monotonic()
        found: list[float] = []
        for work in self.works:
            open_then = {n for n in range(work.sent) if work.settled_at.get(n, healed) >= began}
            at: dict[str, set[int]] = {}
            for start in work.starts():
                if start.number in open_then and start.at < healed:
                    at.setdefault(start.host, set()).add(start.number)
            for numbers in at.values():
                work.settled(numbers)
                found.append(max(work.settled_at[number] for number in numbers) - healed)
        self._heal()
        return found

    def _heal(self) -> None:
        self.lan.heal()
        all_go_on(self.works, *NODES)

    def accounts(self) -> list[Account]:
        """Send no more, and return what has become of all tasks."""
        for work in self.works:
            work.stop()
        return [work.account() for work in self.works]


def shown(what: str, seconds: list[float], goal: float) -> str:
    """Return a line of the table."""
    percentiles = statistics.quantiles(seconds, n=100, method="inclusive")
    p50, p99 = percentiles[49], percentiles[98]
    return f"{what}: p50 {p50:.2f} s, p99 {p99:.2f} s, longest {max(seconds):.2f} s (goal: p99 <= {goal:g} s)"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="recovery of a mesh whose network is cut")
    parser.add_argument("--events", type=int, default=200, help="at least so many of each kind (default 200)")
    parser.add_argument("--longest", type=float, default=12.0, help="seconds that callers are cut off at most")
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    if why := obstacle():
        sys.exit(f"{sys.argv[0]}: {why}")
    dice, began = Random(told.seed), time.monotonic()
    elsewhere: list[float] = []
    back: list[float] = []
    cuts = 0
    with tempfile.TemporaryDirectory(prefix="dz-") as folder:
        mesh = Mesh(Path(folder))
        try:
            while min(len(elsewhere), len(back)) < told.events:
                cuts += 1
                if len(elsewhere) <= len(back):
                    elsewhere += mesh.cut_nodes(dice.sample(mesh.nodes, len(NODES) // 2))
                else:
                    back += mesh.cut_callers(dice.uniform(SHORTEST, told.longest))
            accounts = mesh.accounts()
        finally:
            mesh.net.close()
    sent, given_up, again, unknown = (sum(each) for each in zip(*accounts, strict=True))
    print(f"{cuts} cuts in {time.monotonic() - began:.0f} s; {sent} tasks: 0 lost, 0 settled twice")
    print(f"{given_up} sent again, {again} executed again, {unknown} at-most-once ones end as unknown")
    print(shown(f"cut to redelivery ({len(elsewhere)} tasks)", elsewhere, 6.0))
    print(shown(f"heal to all reports in ({len(back)} links)", back, 5.0))


if __name__ == "__main__":
    main()
