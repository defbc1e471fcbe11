"""A node's look at itself before it serves: whoever has no key, or a wrong one, must not get in."""

from __future__ import annotations

import logging
from time import monotonic

import zmq
from zmq.utils.monitor import parse_monitor_message

from dingo_zmq.errors import ConfigError
from dingo_zmq.mesh.keys import Key, new_key, secure_client
from dingo_zmq.mesh.sockets import LOCK_DESCRIPTORS, check_descriptors

__all__ = ["check_lock"]

CHECK_SECONDS = 2.0
_IN = zmq.EVENT_HANDSHAKE_SUCCEEDED
_OUT = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)
_log = logging.getLogger("dingo_zmq.node")


def check_lock(tasks: str, reports: str, key: Key, seconds: float = CHECK_SECONDS) -> None:
    """
    Try to get in, on both ports, with a key made for this alone and with none at all.

    Args:
        tasks, reports: the endpoints of the node.
        key: what it serves with.
        seconds: to wait for its answers.

    Raises:
        ConfigError: if any of that is let in, or this process cannot open what it takes to see; the node must not
            serve then.
    """
    check_descriptors(LOCK_DESCRIPTORS, "a node needs to see who is let in")  # else it would get no answer
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    tries = [
        _Try(context, kind, endpoint, what, secured)
        for kind, endpoint in ((zmq.PUSH, tasks), (zmq.SUB, reports))
        for what, secured in (("a key that nobody gave leave", key.public), ("no key", None))
    ]
    try:
        end = monotonic() + seconds
        poller = zmq.Poller()
        for each in tries:
            poller.register(each.monitor, zmq.POLLIN)
        while waiting := [each for each in tries if each.let_in is None]:
            left = end - monotonic()
            if left <= 0:
                _log.info("the check of who is let in got no answer at %s", waiting[0].endpoint)
                break
            poller.poll(int(left * 1000) + 1)
            for each in waiting:
                each.look()
        for each in tries:
            if each.let_in:
                raise ConfigError(
                    f"{each.endpoint} lets in a client with {each.what}, so this node does not serve; "
                    "hint: reinstall pyzmq, whose libzmq does not keep to its security options"
                )
    finally:
        for each in tries:
            each.close()
        context.term()


class _Try:
    """One attempt to get in."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], kind: int, endpoint: str, what: str, server: bytes | None
    ) -> None:
        self.endpoint, self.what = endpoint, what
        self.let_in: bool | None = None
        self._socket = context.socket(kind)
        self._socket.linger = 0
        self._socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        if server is not None:
            secure_client(self._socket, new_key("mesh"), server)
        self.monitor: zmq.Socket[bytes] = self._socket.get_monitor_socket(_IN | _OUT)
        self._socket.connect(endpoint)

    def look(self) -> None:
        """Take in what the monitor says."""
        while self.let_in is None:
            try:
                event = parse_monitor_message(self.monitor.recv_multipart(zmq.NOBLOCK))["event"]
            except zmq.Again:
                return
            self.let_in = event == _IN

    def close(self) -> None:
        """Close its sockets."""
        self._socket.disable_monitor()
        self.monitor.close(0)
        self._socket.close(0)
