"""Guests, whose keys are admitted with less: what they may say to a node, and hear of it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dingo_zmq.events import EventCode, Level
from dingo_zmq.model import counted, plain
from dingo_zmq.protocol.intake import Link
from dingo_zmq.protocol.publisher import Note

__all__ = ["GUEST", "MAX_OPEN", "Guest", "Guests", "guest_name", "is_guest"]

GUEST = "guest-"
"""what the names of guests' callers begin with, and of no others"""
MAX_OPEN = 1000
"""tasks that a guest may have open at a node, unless its entry says otherwise"""
TOLD_SECONDS = 60.0
"""what is refused of a guest is told once in this time, and then how much more it was"""
_HASH_DIGITS = 32
_TEXT_MOST = 300


def guest_name(public: bytes) -> str:
    """Return what the callers of a guest are called, up to the dot behind which each process has its own part."""
    return GUEST + hashlib.sha256(b"dingo-zmq guest " + public).hexdigest()[:_HASH_DIGITS]


def is_guest(caller: str) -> bool:
    """Return whether a caller's name is that of a guest: then it may only do what an entry allows."""
    return caller.startswith(GUEST)


@dataclass(frozen=True, slots=True)
class Guest:
    """
    One entry: what the owner of a key may do.

    Attributes:
        name: what people call it.
        public: its public key, 40 bytes of z85 text.
        functions: the names of those that it may run.
        max_open: tasks that it may have open at a node.
        rate: tasks that a node takes of it in a second, None for any number.
    """

    name: str
    public: bytes
    functions: frozenset[str]
    max_open: int = MAX_OPEN
    rate: float | None = None

    @property
    def caller(self) -> str:
        """What its callers are called, see `guest_name`."""
        return guest_name(self.public)


class Guests:
    """
    The guests of a node, as its entries have them at the time.

    They are known by their keys where they connect, and by the names of their callers everywhere: behind a
    forwarder the connection is the forwarder's.
    """

    def __init__(self) -> None:
        self._by_key: dict[bytes, Guest] = {}
        self._by_caller: dict[str, Guest] = {}
        self._told: dict[str, float] = {}  # until when nothing more is told of a guest
        self._untold: dict[str, int] = {}

    def replace(self, guests: Iterable[Guest]) -> None:
        """These are the guests from now on."""
        self._by_key = {guest.public: guest for guest in guests}
        self._by_caller = {guest.caller: guest for guest in self._by_key.values()}

    @property
    def keys(self) -> Collection[bytes]:
        """The public keys of all of them."""
        return self._by_key.keys()

    def of_key(self, public: bytes) -> Guest | None:
        """Return the guest who has a key."""
        return self._by_key.get(public)

    def of_caller(self, caller: str) -> Guest | None:
        """Return the guest whose caller this is; None for a holder's, and for one that is a guest no more."""
        return self._by_caller.get(caller.partition(".")[0])

    def is_stranger(self, caller: str) -> bool:
        """Return whether a caller has the name of a guest that there is not: nothing is said to it."""
        return is_guest(caller) and self.of_caller(caller) is None

    # ------------------------------------------------------------------ where a guest connects

    def objection(self, guest: Guest, message: Any, links: Mapping[bytes, Link]) -> str:
        """
        Return why a guest may not say this, or "".

        Args:
            guest: whose connection it came by.
            message: as `wire.decode_caller` returns it.
            links: those of the node, by token.
        """
        kind = type(message).__name__.lower()
        caller = getattr(message, "caller", None)
        if caller is not None and not _is_of(guest, caller):
            return f"{kind} as {plain(caller)!r:.60}, which is not its name"
        link = links.get(message.link)
        if link is not None and not _is_of(guest, link.caller):
            return f"{kind} for a link of another caller"
        return ""

    def may_hear(self, guest: Guest, prefix: bytes) -> bool:
        """Return whether a guest may subscribe to a prefix: its own topics, copies of them, and pulses."""
        own = f"{guest.caller}.".encode()
        return prefix.startswith((own, b"watch/" + own, b"pulse/"))

    # ------------------------------------------------------------------ for people

    def refused(self, who: str, what: str, now: float) -> list[Note]:
        """
        Return what is to be told of something that was refused.

        Args:
            who: name of the guest, "" for somebody who is none any more.
            what: was refused.
            now: monotonic seconds.
        """
        notes = self.tick(now)
        if who in self._told:
            self._untold[who] = self._untold.get(who, 0) + 1
            return notes
        self._told[who] = now + TOLD_SECONDS
        text = f"{_whose(who)}: refused: {plain(what, most=_TEXT_MOST)}"
        return [*notes, Note(text, "", Level.WARNING, EventCode.REFUSED)]

    def tick(self, now: float) -> list[Note]:
        """Time has passed: return what is to be told of that which was only counted."""
        over = [who for who, until in self._told.items() if now >= until] if self._told else []
        notes = []
        for who in over:
            del self._told[who]
            untold = self._untold.pop(who, 0)
            if untold:
                text = f"{_whose(who)}: refused {counted(untold, 'more message')} in the last minute"
                notes.append(Note(text, "", Level.WARNING, EventCode.REFUSED))
        return notes


def _is_of(guest: Guest, caller: str) -> bool:
    return caller.startswith(f"{guest.caller}.")


def _whose(who: str) -> str:
    return f"guest {who}" if who else "somebody who is no guest any more"
