"""What a caller with a journal has recorded, as scripts without sockets or files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from dingo_zmq.journal import End, Hold
from dingo_zmq.mesh.recorder import Recorder
from dingo_zmq.model import Options
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.caller import Caller, Send
from dingo_zmq.protocol.ledger import Entry, Route
from dingo_zmq.protocol.roster import Side


class Page:
    """A journal that writes when it is told to."""

    def __init__(self) -> None:
        self.holds: list[Hold] = []
        self._then: list[Callable[[], object]] = []

    def note(
        self, *, holds: Iterable[Hold] = (), ends: Iterable[End] = (), then: Callable[[], object] | None = None
    ) -> None:
        self.holds += holds
        if then is not None:
            self._then.append(then)

    def write(self) -> None:
        while self._then:
            self._then.pop(0)()


def test_what_never_left_is_recorded_as_nowhere() -> None:
    """Else the next life would wait for a node that never had it, and count a try that never was."""
    caller, page = Caller("me", "mesh", Random(1), life=1), Page()
    recorder = Recorder(caller, page, lambda: None)  # type: ignore[arg-type]
    caller.found("n1", 0.0)
    for side in Side:
        caller.connected("n1", side, 0.0)
    peer = caller.peers["n1"]
    node = ("id-n1", b"incarnat", "n1", "mesh", [], 2**20, {"add": (2, "", "", False)})
    caller.received(m.Welcome(peer.token, 1, *node, 1, 1, {"add": 4}, False), (), 0.0)
    caller.take()
    entry = Entry(Route("add"), "1", b"", (), Options(), None, None)
    entry.record = 7
    caller.submit([entry], 0.0)
    (send,) = [action for action in caller.take() if isinstance(action, Send)]

    assert recorder.must_wait(send)
    recorder.flush(0.0)
    page.write()
    assert recorder.take(0.1)[0] == [send]
    recorder.unsent(caller.unsent(send, 0.1))
    recorder.flush(0.0)

    before, after = page.holds
    assert (before.record, before.base, before.number, before.attempt) == (7, peer.token, 1, 1)
    assert (after.record, after.base, after.number, after.attempt) == (7, b"", 0, 0)
