"""What is told to people about the nodes that a caller knows, and about its own tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Load", "PeerInfo", "shared_slots"]


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """
    One node, as `peers` shows it.

    Attributes:
        name, node: what people call it, and its unique id ("" before its WELCOME).
        address: endpoint of its tasks socket that is in use.
        state: "ready", "greeting", "apart", "draining", "silent", "refused us: ..." or "locked out".
        functions: name to signature text.
        slots: workers that most of its functions have; those share them.
        running, queued, done: from its last pulse, None before.
        pulse_age: seconds since then.
        round_trip: seconds that the last BEAT took to come back.
        version: protocol version, 0 before its WELCOME.
        sources: how it was found.
        tags: the words that callers can ask for, sorted.
        cause: why it does not let us in, or "".
        function_slots: name to workers, for each function; of a coroutine function, how many may run at a time.
        clock: seconds that the clock of its machine is ahead of ours, None before its pulse.
        via: the forwarders before it, the nearest to the node first, each as "name.id".
        announced: ids under which it is announced; of a node that somebody named, the address that was given.
    """

    name: str
    node: str
    address: str
    state: str
    functions: dict[str, str]
    slots: int
    running: int | None
    queued: int | None
    done: int | None
    pulse_age: float | None
    round_trip: float | None
    version: int
    sources: tuple[str, ...]
    tags: tuple[str, ...] = ()
    cause: str = ""
    function_slots: dict[str, int] = field(default_factory=dict)
    clock: float | None = None
    announced: tuple[str, ...] = ()
    via: tuple[str, ...] = ()


def shared_slots(slots: Iterable[int]) -> int:
    """Return the number of workers that most functions have, the smallest of several; 0 where there is none."""
    return min(Counter(slots).items(), key=lambda item: (-item[1], item[0]), default=(0, 0))[0]


@dataclass(frozen=True, slots=True)
class Load:
    """
    A glance at a mesh.

    Attributes:
        nodes: those that can be used now.
        workers: of these, see `PeerInfo.slots`.
        running: our tasks that are known to have started.
        queued: the other ones that are not done, here or at nodes.
    """

    nodes: int
    workers: int
    running: int
    queued: int
