"""
Stands at the two sockets of a node that has guests: sees by whose connection everything comes, and cuts some.

ZeroMQ tells the key of the sender with each frame (``User-Id``), and the descriptor that it came by.  With
``XPUB_MANUAL`` a subscription counts once we say so, at the connection whose message was read last.  ZeroMQ 4.3.5
loses count of that when somebody sends what is no subscription: until its queue is empty it takes the connections
of later ones for earlier ones.  None is granted then; such a connection is cut, and subscribes anew.

A subscription cannot be taken back but at that moment.  So the connections of a guest that was revoked are cut as
well: its descriptor is shut down, which ZeroMQ takes for a connection that broke.  Others feel nothing of that.
"""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import zmq

from dingo_zmq.mesh import sockets as mesh_sockets
from dingo_zmq.mesh.keys import Gatekeeper, Key
from dingo_zmq.protocol.guests import Guest, Guests

__all__ = ["Guard", "Guarded"]

SUBSCRIPTIONS_A_ROUND = 64
_WATCH = b"watch/"


@dataclass(frozen=True, slots=True)
class _Connection:
    """One that a guest has subscribed by: whose it is, and its other end, since descriptors are used again."""

    public: bytes
    end: Any


class Guarded(Protocol):
    """What a guard needs of whatever it guards: a node's decider, or what stands in for it."""

    guests: Guests
    out: list[Any]

    @property
    def links(self) -> Mapping[bytes, Any]:
        """The links there are, by token."""

    def admit(self, guests: Iterable[Guest], now: float) -> None:
        """These are the guests from now on."""

    def watch(self, prefix: bytes, wanted: bool) -> None:
        """Somebody watches what is published under a prefix, or does so no more."""

    def subscribed(self, caller: str, now: float) -> None:
        """Somebody has subscribed to what is published to a caller."""


class Guard:
    """
    Holds guests to what they may do where they connect; for the I/O thread.

    Args:
        node: the decider; it knows the guests.
        key: the mesh key, whose holders may do everything.
        gate: admits keys.
        pull, xpub: the node's sockets.
        ended: called with the prefix of a subscription that was granted and has ended.

    Attributes:
        on: whether there is a guest, or was: before that the node reads its sockets by itself.
    """

    def __init__(
        self,
        node: Guarded,
        key: Key,
        gate: Gatekeeper,
        pull: zmq.Socket[bytes],
        xpub: zmq.Socket[bytes],
        ended: Callable[[bytes], object] = lambda prefix: None,
    ) -> None:
        self.on = False
        self._told_of_end = ended
        self._node, self._key, self._gate = node, key, gate
        self._pull, self._xpub = pull, xpub
        self._holder = key.public.decode()
        self._heard_by: dict[int, _Connection] = {}  # by descriptor: what guests have subscribed by
        self._muddled = False  # whether ZeroMQ may be wrong about whose subscription it is
        self._ungranted: Counter[bytes] = Counter()  # prefixes, the end of which ZeroMQ will tell

    def admit(self, guests: Iterable[Guest], now: float, subscriptions: Callable[[float], object]) -> None:
        """
        These are the guests from now on.

        Args:
            guests: all of them.
            now: monotonic seconds.
            subscriptions: reads all subscriptions that wait, as long as this is not `on`.
        """
        self._node.admit(guests, now)
        known = self._node.guests.keys
        self._gate.admit([self._key.public, *known])
        if known and not self.on:
            subscriptions(now)  # ZeroMQ would not know whose these are
            self._xpub.setsockopt(zmq.XPUB_MANUAL, 1)
            self.on = True
        for fd, connection in list(self._heard_by.items()):
            if connection.public not in known:
                del self._heard_by[fd]
                self._cut(fd, connection.end)

    # ------------------------------------------------------------------ tasks

    def read(self, most: int, received: Callable[[list[Any], Guest | None], object], now: float) -> bool:
        """
        Read what callers sent; what is by nobody who may send anything is dropped.

        Args:
            most: messages at a time.
            received: is given each message, and the guest whose it is, None for a holder of the key.
            now: monotonic seconds.

        Returns:
            Whether there may be more.
        """
        for _ in range(most):
            found = mesh_sockets.next_with_sender(self._pull)
            if found is None:
                return False
            first, frames = found
            sender = _told(first, "User-Id")
            if sender == self._holder:
                received(frames, None)
                continue
            guest = self._node.guests.of_key(sender.encode())
            if guest is not None:
                received(frames, guest)
            else:
                self._cut(_descriptor(first))
                self._tell(None, "a message by a connection that still stood", now)
        return True

    def lets_pass(self, guest: Guest, message: Any, now: float) -> bool:
        """Return whether a guest may say this; tell of it where it may not."""
        why = self._node.guests.objection(guest, message, self._node.links)
        if why:
            self._tell(guest, why, now)
        return not why

    # ------------------------------------------------------------------ subscriptions

    def read_subscriptions(self, now: float) -> bool:
        """Grant and refuse subscriptions that wait; return whether there may be more."""
        for _ in range(SUBSCRIPTIONS_A_ROUND):
            frame = mesh_sockets.next_frame(self._xpub)
            if frame is None:
                self._muddled = False
                return False
            self._judge(frame, now)
        return True

    def _judge(self, frame: zmq.Frame, now: float) -> None:
        data, sender, guests = frame.bytes, _told(frame, "User-Id"), self._node.guests
        kind, prefix = data[:1], data[1:]
        guest = guests.of_key(sender.encode())
        may = sender == self._holder or (guest is not None and guests.may_hear(guest, prefix))
        if kind == mesh_sockets.SUBSCRIBE:
            self._asked_for(prefix, guest, _descriptor(frame), now, may=may)
        elif kind == mesh_sockets.UNSUBSCRIBE:
            if may and not self._muddled:
                self._xpub.setsockopt(zmq.UNSUBSCRIBE, prefix)
            if may or not sender:  # without a sender its connection has ended, and ZeroMQ itself has dropped it
                self._ended(prefix)
        else:
            self._muddled = True
            if sender != self._holder:
                self._cut(_descriptor(frame))
                self._tell(guest, "what is no subscription", now)

    def _asked_for(self, prefix: bytes, guest: Guest | None, fd: int, now: float, *, may: bool) -> None:
        if may and not self._muddled:
            self._xpub.setsockopt(zmq.SUBSCRIBE, prefix)
            if guest is not None:
                self._remember(guest, fd)
            self._begun(prefix, now)
            return
        self._ungranted[prefix] += 1
        if self._muddled or guest is None:
            self._cut(fd)
        if not may:
            self._tell(guest, f"a subscription to {prefix.decode(errors='replace')!r:.80}", now)

    def _begun(self, prefix: bytes, now: float) -> None:
        if prefix.startswith(_WATCH):
            self._node.watch(prefix, wanted=True)
        elif prefix.endswith(b"/"):
            self._node.subscribed(prefix[:-1].decode(errors="replace"), now)

    def _ended(self, prefix: bytes) -> None:
        """
        Somebody has a subscription no more, perhaps one that was not granted.

        Where that cannot be known it is taken for the latter: to copy reports for nobody does less harm than not
        to copy them for somebody.
        """
        if prefix in self._ungranted:
            self._ungranted[prefix] -= 1
            if not self._ungranted[prefix]:
                del self._ungranted[prefix]
        elif prefix.startswith(_WATCH):
            self._node.watch(prefix, wanted=False)
        else:
            self._told_of_end(prefix)

    # ------------------------------------------------------------------ connections

    def _remember(self, guest: Guest, fd: int) -> None:
        connection = _borrowed(fd)
        if connection is not None:
            with contextlib.suppress(OSError):
                self._heard_by[fd] = _Connection(guest.public, connection.getpeername())
            connection.detach()

    def _cut(self, fd: int, end: Any = None) -> None:
        """End a connection that was made to us; `end` is its other end where that is known."""
        connection = _borrowed(fd)
        if connection is None:
            return
        with contextlib.suppress(OSError):
            other = connection.getpeername()  # none where it is a socket that listens
            if connection.getsockname()[1] in self._ports() and end in (None, other):
                connection.shutdown(socket.SHUT_RDWR)
        connection.detach()

    def _ports(self) -> list[int]:
        ends = [each.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0") for each in (self._pull, self._xpub)]
        return [int(port) for end in ends if (port := end.rpartition(":")[2]).isdigit()]

    def _tell(self, guest: Guest | None, what: str, now: float) -> None:
        self._node.out += self._node.guests.refused("" if guest is None else guest.name, what, now)


def _borrowed(fd: int) -> socket.socket | None:
    """Return the network socket with a descriptor that is ZeroMQ's, to be detached; None where there is none."""
    try:
        found = socket.socket(fileno=fd)
    except (OSError, ValueError):
        return None
    if found.family in (socket.AF_INET, socket.AF_INET6):
        return found
    found.detach()
    return None


def _told(frame: zmq.Frame, name: str) -> str:
    """Return what ZeroMQ tells of the connection that a frame came by, "" for nothing."""
    try:
        return str(frame.get(name))
    except zmq.ZMQError:
        return ""


def _descriptor(frame: zmq.Frame) -> int:
    """Return the descriptor of that connection; it may be another's by now, or nobody's."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1
