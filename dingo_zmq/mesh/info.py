"""What is told to people about the nodes that a caller knows."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PeerInfo"]


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """
    One node, as `peers` shows it.

    Attributes:
        name, node: what people call it, and its unique id ("" before its WELCOME).
        address: endpoint of its tasks socket.
        state: "ready", "greeting", "apart", "draining", "silent", "refused us: ..." or "locked out".
        functions: name to signature text.
        slots: workers of its largest function.
        running, queued, done: from its last pulse, None before.
        pulse_age: seconds since then.
        round_trip: seconds that the last BEAT took to come back.
        version: protocol version, 0 before its WELCOME.
        sources: how it was found.
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
