"""What ZeroMQ makes of subscriptions that are granted by hand, and what the guard makes of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from dingo_zmq.mesh import keys, sockets
from dingo_zmq.mesh.guard import Guard
from dingo_zmq.protocol.guests import Guest
from dingo_zmq.protocol.node import Identity, Node
from tests.support import Context, wait_until

LIMIT = 1 << 20


class Front:
    """The sockets of a node with a guest and their guard, read when a test says so."""

    def __init__(self, folder: Path, context: Context) -> None:
        self.key = keys.save_key(folder / "mesh.key", keys.new_key("mesh"))
        self.guest = keys.new_key("guest", self.key.public)
        self.own = keys.callers_of(self.guest).encode()
        self._context, self._clients = sockets.new_context(), context
        self._gate = keys.Gatekeeper(self._context, [self.key.public])
        self.xpub, self.pull = (sockets.make(self._context, kind, LIMIT) for kind in (zmq.XPUB, zmq.PULL))
        self.node = Node(Identity("id1", b"incarnat", "bench", "mesh"), [], {}, 0.0)
        self.ended: list[bytes] = []
        self.guard = Guard(self.node, self.key, self._gate, self.pull, self.xpub, self.ended.append)
        for socket in (self.xpub, self.pull):
            keys.secure_server(socket, self.key)
            socket.bind("tcp://127.0.0.1:*")
        self._push = self._client(zmq.PUSH, self.key, self.pull)

    def close(self) -> None:
        for socket in (self.xpub, self.pull):
            socket.close(0)
        self._gate.close()
        self._context.term()

    def admit(self, *guests: Guest) -> None:
        self.guard.admit(guests, monotonic(), self._without_guard)

    def _without_guard(self, now: float) -> None:
        while sockets.next_message(self.xpub) is not None:
            pass

    def until(self, true: Callable[[], Any], what: str) -> None:
        """Wait, and let in who may come."""

        def looked() -> Any:
            self._gate.answer()
            return true()

        wait_until(looked, what)

    def _client(self, kind: int, key: keys.Key, server: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
        socket = self._clients.socket(kind)
        keys.secure_client(socket, key, self.key.public)
        socket.setsockopt(zmq.RECONNECT_IVL, 10)
        socket.connect(server.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0"))
        return socket

    def reader(self, key: keys.Key) -> zmq.Socket[bytes]:
        """Return an XSUB whose connection stands."""
        socket = self._client(zmq.XSUB, key, self.xpub)
        monitor = self._clients.monitor(socket)
        self.until(
            lambda: monitor.poll(0) and recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED,
            "the connection",
        )
        socket.disable_monitor()
        self.arrived()
        self.xpub.get(zmq.EVENTS)  # else the new connections would be read in the order in which they were made
        return socket

    def arrived(self) -> None:
        """Wait until all that clients have sent waits at the sockets: ZeroMQ has gone round twice since."""
        for _ in range(3):
            self._push.send(b"")
            self.until(lambda: self.pull.poll(0), "a message")
            self.pull.recv()

    def read(self) -> None:
        while self.guard.read_subscriptions(monotonic()):
            pass

    def heard(self, socket: zmq.Socket[bytes], topic: bytes) -> list[bytes]:
        """Publish a topic again and again until somebody hears it, and return all that it has heard."""
        found: list[bytes] = []

        def hears() -> bool:
            self.read()
            self.xpub.send(topic)
            while socket.poll(1):
                found.append(socket.recv())
            return topic in found

        self.until(hears, f"{topic!r} heard")
        return found


@pytest.fixture
def front(tmp_path: Path, context: Context) -> Iterator[Front]:
    tmp_path.chmod(0o700)
    front = Front(tmp_path, context)
    yield front
    front.close()


@pytest.fixture
def ann(front: Front) -> Guest:
    guest = Guest("ann", front.guest.public, frozenset({"add"}))
    front.admit(guest)
    return guest


def test_zeromq_takes_one_connection_for_another(front: Front) -> None:
    """What the guard is for: should a newer ZeroMQ not do so, its care is needed no more."""
    front.xpub.setsockopt(zmq.XPUB_MANUAL, 1)
    front.guard._gate.admit([front.key.public, front.guest.public])
    one, two, holder = front.reader(front.guest), front.reader(front.guest), front.reader(front.key)
    one.send(b"rubbish")
    front.arrived()
    holder.send(b"\x01secret/")
    front.arrived()
    two.send(b"\x01mine/")
    front.arrived()
    assert [front.xpub.recv() for _ in range(2)] == [b"rubbish", b"\x01secret/"]
    front.xpub.setsockopt(zmq.SUBSCRIBE, b"secret/")
    front.xpub.send(b"secret/")
    front.until(lambda: two.poll(0), "what was not asked for")
    assert two.recv() == b"secret/"


def test_the_guard_does_not(front: Front, ann: Guest) -> None:
    one, two, holder = front.reader(front.guest), front.reader(front.guest), front.reader(front.key)
    one.send(b"rubbish")
    front.arrived()
    holder.send(b"\x01secret/")
    front.arrived()
    two.send(b"\x01" + front.own + b"2/")
    front.arrived()
    front.read()
    assert set(front.heard(holder, b"secret/")) == {b"secret/"}
    assert set(front.heard(two, front.own + b"2/")) == {front.own + b"2/"}


@pytest.mark.parametrize("prefix", [b"", b"secret/", b"pulse", b"watch/"])
def test_what_is_not_the_guests_is_not_granted(front: Front, ann: Guest, prefix: bytes) -> None:
    guest, holder = front.reader(front.guest), front.reader(front.key)
    guest.send(b"\x01" + prefix)
    guest.send(b"\x01" + front.own + b"1/")
    holder.send(b"\x01secret/")
    front.heard(holder, b"secret/")
    front.xpub.send(b"watch/secret/")
    assert set(front.heard(guest, front.own + b"1/")) == {front.own + b"1/"}


def test_a_revoked_guest_is_cut_off_and_nobody_else(front: Front, ann: Guest) -> None:
    guest, holder = front.reader(front.guest), front.reader(front.key)
    guest.send(b"\x01pulse/")
    holder.send(b"\x01secret/")
    front.heard(guest, b"pulse/")
    front.heard(holder, b"secret/")
    monitors = [front._clients.monitor(each) for each in (guest, holder)]
    front.admit()
    front.until(
        lambda: (
            monitors[0].poll(0) and recv_monitor_message(monitors[0])["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        ),
        "it is not let in",
    )
    front.heard(holder, b"secret/")
    front.xpub.send(b"pulse/")
    front.arrived()
    assert (monitors[1].poll(0), guest.poll(0)) == (0, 0)


def test_a_subscription_that_a_revoked_guest_still_sends_is_not_granted(front: Front, ann: Guest) -> None:
    """It came by a connection that had not subscribed to anything by then, and so was not known."""
    guest = front.reader(front.guest)
    front.admit()
    guest.send(b"\x01pulse/")
    front.arrived()
    front.read()
    front.xpub.send(b"pulse/")
    front.arrived()
    assert guest.poll(0) == 0


def test_others_keep_what_they_had_before_the_first_guest(front: Front) -> None:
    holder = front.reader(front.key)
    holder.send(b"\x01early/")
    front.arrived()
    front._without_guard(0.0)
    holder.send(b"\x01waiting/")
    front.arrived()
    front.admit(Guest("ann", front.guest.public, frozenset({"add"})))
    assert front.guard.on
    front.heard(holder, b"early/")
    front.heard(holder, b"waiting/")
    holder.send(b"\x00early/")
    holder.send(b"\x01later/")
    front.heard(holder, b"later/")
    front.xpub.send(b"early/")
    front.arrived()
    assert holder.poll(0) == 0


def test_a_second_subscription_of_a_connection_that_is_gone_is_nobodys(front: Front, ann: Guest) -> None:
    """Descriptors are used again: the connection that has it now is not cut for the one that had it."""
    guest = front.reader(front.guest)
    guest.send(b"\x01" + front.own + b"1/")
    front.heard(guest, front.own + b"1/")
    guest.close(0)
    front.until(lambda: front.read() or not front.xpub.poll(0), "its end")
    holders = [front.reader(front.key) for _ in range(3)]
    for holder in holders:
        holder.send(b"\x01secret/")
        front.heard(holder, b"secret/")
    monitors = [front._clients.monitor(each) for each in holders]
    front.admit()
    front.arrived()
    assert [monitor.poll(0) for monitor in monitors] == [0, 0, 0]


def test_each_of_those_who_watch_counts(front: Front, ann: Guest) -> None:
    """One prefix, until the last of them has gone."""
    topic = b"watch/secret/"
    watchers = [front.reader(front.key) for _ in range(2)]
    for watcher in watchers:
        watcher.send(b"\x01" + topic)
        front.heard(watcher, topic)
    refused = front.reader(front.guest)
    refused.send(b"\x01" + topic)
    front.arrived()
    front.read()
    watches = front.node._watches
    assert watches == {topic: 2}

    def left(number: int) -> bool:
        front.read()
        return watches.get(topic, 0) == number and not front.guard._ungranted

    watchers.pop().close(0)
    refused.close(0)
    front.until(lambda: left(1), "one is left")
    watchers.append(front.reader(front.key))
    watchers[-1].send(b"\x01" + topic)
    front.until(lambda: left(2), "another one has come")
    front.heard(watchers[-1], topic)
    while watchers:
        watchers.pop().close(0)
    front.until(lambda: left(0), "nobody is left")


def test_what_was_granted_and_ends_is_told(front: Front, ann: Guest) -> None:
    """Else a forwarder would keep the subscriptions of all callers that there ever were."""
    own = front.own + b"1/"
    holder, guest = front.reader(front.key), front.reader(front.guest)
    for reader, topic in ((holder, b"secret/"), (guest, own)):
        reader.send(b"\x01" + topic)
        front.heard(reader, topic)
    guest.send(b"\x01secret/")
    front.arrived()
    front.read()
    guest.send(b"\x00" + own)
    front.arrived()
    front.read()
    assert front.ended == [own]

    def told(*prefixes: bytes) -> bool:
        front.read()
        return front.ended == list(prefixes)

    guest.close(0)
    front.until(lambda: told(own) and not front.guard._ungranted, "the end of what was refused")
    holder.close(0)
    front.until(lambda: told(own, b"secret/"), "the holder's end")


def test_a_connection_that_breaks_is_back_with_its_subscriptions(front: Front, ann: Guest) -> None:
    guest, holder = front.reader(front.guest), front.reader(front.key)
    own = front.own + b"1/"
    for reader, topic in ((guest, own), (holder, b"secret/")):
        reader.send(b"\x01" + topic)
        front.heard(reader, topic)
    monitor = front._clients.monitor(guest)
    for fd in front.guard._heard_by:
        front.guard._cut(fd)
    front.until(
        lambda: monitor.poll(0) and recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED,
        "it is back",
    )
    front.heard(guest, own)
    front.heard(holder, b"secret/")
