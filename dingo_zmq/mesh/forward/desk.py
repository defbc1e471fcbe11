"""What a `Guard` asks of a node, for a stand-in: it knows the guests, and nothing of links and tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dingo_zmq.protocol.guests import Guest, Guests
from dingo_zmq.protocol.publisher import Note

__all__ = ["Desk"]

_log = logging.getLogger("dingo_zmq.forward")


class Desk:
    """
    Stands where a guard has the decider of a node.

    What guests run, and how much of it, is the node's business: it knows them by the names of their callers.  That
    these are theirs is seen to here.  Links are named by tokens that nobody can guess.

    Args:
        subscribe: has the node told of a subscription that was granted.
    """

    links: Mapping[bytes, Any] = {}

    def __init__(self, subscribe: Callable[[bytes], object]) -> None:
        self.guests = Guests()
        self.out: list[Any] = []
        self._subscribe = subscribe

    def admit(self, guests: Iterable[Guest], now: float) -> None:
        """These are the guests from now on."""
        self.guests.replace(guests)

    def watch(self, prefix: bytes, wanted: bool) -> None:
        """Somebody watches, or does so no more; then the node goes on to publish, and nobody gets it."""
        if wanted:
            self._subscribe(prefix)

    def subscribed(self, caller: str, now: float) -> None:
        """Somebody has subscribed to what is published to a caller."""
        self._subscribe(f"{caller}/".encode())

    def tell(self) -> None:
        """Log what was refused."""
        notes, self.out = self.out, []
        for note in notes:
            if isinstance(note, Note):
                _log.warning("%s", note.text)
