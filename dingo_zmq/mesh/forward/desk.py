"""What a `Guard` asks of a node, for a stand-in: it knows the guests, and nothing of links and tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dingo_zmq.protocol.guests import Guest, Guests
from dingo_zmq.protocol.publisher import Note

__all__ = ["Desk"]

_PULSE = b"pulse/"
_log = logging.getLogger("dingo_zmq.forward")


class Desk:
    """
    Stands where a guard has the decider of a node.

    What guests run, and how much of it, is the node's business: it knows them by the names of their callers.  That
    these are theirs is seen to here.  Links are named by tokens that nobody can guess.

    Args:
        subscribe: has the node told of a subscription that was granted.
        unsubscribe: has it told of the end of one.
    """

    links: Mapping[bytes, Any] = {}

    def __init__(self, subscribe: Callable[[bytes], object], unsubscribe: Callable[[bytes], object]) -> None:
        self.guests = Guests()
        self.out: list[Any] = []
        self._subscribe, self._unsubscribe = subscribe, unsubscribe

    def admit(self, guests: Iterable[Guest], now: float) -> None:
        """These are the guests from now on."""
        self.guests.replace(guests)

    def watch(self, prefix: bytes, wanted: bool) -> None:
        """Somebody watches, or does so no more."""
        (self._subscribe if wanted else self._unsubscribe)(prefix)

    def subscribed(self, caller: str, now: float) -> None:
        """Somebody has subscribed to what is published to a caller, or to pulses: then to those of all nodes."""
        prefix = f"{caller}/".encode()
        self._subscribe(_PULSE if prefix.startswith(_PULSE) else prefix)

    def ended(self, prefix: bytes) -> None:
        """
        Such a subscription has ended.

        Pulses go on, and nobody gets them: a guest may tell of more ends than there were, and others want them.
        """
        if not prefix.startswith(_PULSE):
            self._unsubscribe(prefix)

    def tell(self) -> None:
        """Log what was refused."""
        notes, self.out = self.out, []
        for note in notes:
            if isinstance(note, Note):
                _log.warning("%s", note.text)
