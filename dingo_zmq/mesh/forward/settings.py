"""What a forwarder is told."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SideSettings"]


@dataclass(frozen=True, slots=True)
class SideSettings:
    """
    What a forwarder is told of one side.

    Attributes:
        name: "left" or "right".
        words: interfaces and addresses of this machine there, and addresses of nodes as ``tcp://host:port``.
        key: file of a mesh key; None for the one in its usual place or, where there is none, this user's own.
        advertise: where others of this side are told that the forwarder is, instead of its addresses.
        insecure_lan: use no key there.
        limit: largest body, bytes.
    """

    name: str
    words: tuple[str, ...]
    key: str | None
    advertise: tuple[str, ...]
    insecure_lan: bool
    limit: int

    @property
    def peers(self) -> tuple[str, ...]:
        """The nodes that are named."""
        return tuple(word for word in self.words if "://" in word)

    @property
    def bind(self) -> tuple[str, ...]:
        """The interfaces and addresses to listen on."""
        return tuple(word for word in self.words if "://" not in word)
