"""What we need of ZeroMQ's sockets, beyond what its manual promises."""

from __future__ import annotations

import contextlib

import zmq

from dingo_zmq.mesh import sockets
from tests.support import PATIENCE

LIMIT = 1 << 20
NUMBER = 200


def test_what_came_before_a_connection_broke_can_still_be_read() -> None:
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(sockets.new_context())
        reports, ours = (sockets.make(context, kind, LIMIT) for kind in (zmq.XPUB, zmq.SUB))
        stack.callback(ours.close, 0)
        stack.callback(reports.close, 0)
        port = reports.bind_to_random_port("tcp://127.0.0.1")
        monitor = stack.enter_context(ours.get_monitor_socket(zmq.EVENT_DISCONNECTED))
        stack.callback(ours.disable_monitor)
        ours.subscribe(b"us/")
        sockets.connect(ours, f"tcp://127.0.0.1:{port}")
        assert reports.poll(PATIENCE * 1000), "the subscription"
        assert reports.recv() == b"\x01us/"
        for number in range(NUMBER):
            reports.send(b"us/%d" % number)
        reports.close()
        assert monitor.poll(PATIENCE * 1000), "the connection breaks"

        def read() -> bytes:
            assert ours.poll(PATIENCE * 1000), "more to be read"
            return ours.recv()

        assert [read() for _ in range(NUMBER)] == [b"us/%d" % number for number in range(NUMBER)]
