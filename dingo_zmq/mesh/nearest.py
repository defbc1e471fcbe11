"""The addresses of a node in the order in which to try them from this machine."""

from __future__ import annotations

from time import monotonic

from dingo_zmq.errors import UsageError
from dingo_zmq.mesh.discovery.port import Announcement, split_tcp
from dingo_zmq.mesh.interfaces import NEVER, Networks, addresses, is_link_local

__all__ = ["Nearest", "Pair", "ways"]

Pair = tuple[str, str]
"""a candidate: the endpoint for tasks and the one for reports"""

FRESH_SECONDS = 2.0
"""for which this machine's own addresses are not looked up again"""


class Nearest:
    """Knows the networks that this machine is in."""

    def __init__(self) -> None:
        self._networks: tuple[float, Networks] | None = None

    def ways(self, said: Announcement) -> dict[Pair, int]:
        """Return the candidates of a node, nearest first, with the number of forwarders before each."""
        if len(said.candidates) == 1 and "[" not in said.tasks[0]:
            return {said.candidates[0]: said.distances[0]}
        now = monotonic()
        if self._networks is None or now - self._networks[0] > FRESH_SECONDS:
            self._networks = now, Networks(addresses())
        return ways(said, self._networks[1])

    def first(self, said: Announcement) -> list[Pair]:
        """Return the candidates of a node, nearest first."""
        return list(self.ways(said))


def ways(said: Announcement, networks: Networks) -> dict[Pair, int]:
    """
    Return the candidates of a node that can be reached from here, in the order in which to try them.

    Those come first before which the fewest forwarders stand; how many these are is told of each.  A link-local
    IPv6 address comes without its scope, and is tried on each interface of ours that has one.
    """
    ranked: list[tuple[int, int, Pair]] = []
    for (tasks, reports), hops in zip(said.candidates, said.distances, strict=True):
        for pair in _with_scopes(tasks, reports, networks):
            try:
                host, _ = split_tcp(pair[0])
                rank = networks.rank(host)
            except UsageError:
                rank = 0  # ipc
            if rank < NEVER:
                ranked.append((hops, rank, pair))
    ranked.sort(key=lambda item: item[:2])
    found: dict[Pair, int] = {}
    for hops, _, pair in ranked:
        found.setdefault(pair, hops)
    return found


def _with_scopes(tasks: str, reports: str, networks: Networks) -> list[Pair]:
    if "%" in tasks or not is_link_local(tasks.removeprefix("tcp://").rpartition(":")[0]):
        return [(tasks, reports)]
    return [(tasks.replace("]", f"%{link}]"), reports.replace("]", f"%{link}]")) for link in networks.links()]
