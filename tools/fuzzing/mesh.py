"""What comes over the wire, and what a node and a caller make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random
from typing import Any

from dingo_zmq.errors import PeerError
from dingo_zmq.model import Options, Status
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire
from dingo_zmq.protocol.caller import Caller, Send
from dingo_zmq.protocol.guests import Guest
from dingo_zmq.protocol.intake import Bounds, Function
from dingo_zmq.protocol.ledger import Entry, Route, wire_options
from dingo_zmq.protocol.node import Action, Identity, Node, Publish, Start
from dingo_zmq.protocol.relay import relayed
from dingo_zmq.protocol.roster import Side
from dingo_zmq.protocol.starter import Bundle
from dingo_zmq.protocol.why import waiting, why
from tools.fuzzing.mutate import BETWEEN

__all__ = ["caller_seeds", "check_caller", "check_node", "node_seeds"]

INCARNATION = b"incarnat"
LINK = b"link0001"
STEPS = (0.0, 0.0, 0.0, 0.01, 0.3, 1.1, 6.0, 70.0)
"""seconds that pass before a message: the lower bits of its first byte say which"""
BY_BOB, BUFFER, DONE = 0x20, 0x40, 0x80
"""bits of it: whether a guest sends it, a buffer comes behind it, and workers are done with something before"""
BOB = Guest("bob", b"b" * 40, frozenset(("mul", "nope")), max_open=2, rate=5.0)
MESSAGES_MOST = 40
_FROM_NODE = m.Welcome | m.Reports | m.Credit | m.Missing | m.Claim | m.Recalled | m.Refused


def _messages(data: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the messages of an input: the byte before each, and its frames."""
    for part in data.split(BETWEEN)[:MESSAGES_MOST]:
        how = part[0] if part else 0
        yield how, [part[1:], b"a buffer"] if how & BUFFER else [part[1:]]


def _joined(messages: list[bytes], how: int = 0) -> bytes:
    return BETWEEN.join(bytes((how + 1 + number % 4,)) + message for number, message in enumerate(messages))


def _read(decode: Callable[[wire.Frames], Any], frames: list[bytes], topic: bytes | None) -> Any:
    """Return a message that has come, None where it is none; what was read is written and read as the same."""
    try:
        message = decode(frames)
    except PeerError:
        return None
    again = decode([wire.encode(message, topic)])
    assert again == message, f"{message} is read back as {again}"
    return message


# ------------------------------------------------------------------------------ a node


class _Node:
    """A node that workers and time come to as an input says."""

    def __init__(self) -> None:
        functions = [Function("add", "shared", 2), Function("mul", "shared", 2, limits=(1.0, 0.5))]
        self.node = Node(Identity("id1", INCARNATION, "bench", "mesh"), functions, {"shared": 2}, 0.0)
        self.node.bounds = Bounds(kept=64, callers=8)
        self.node.admit([BOB], 0.0)
        self.active: list[Bundle] = []

    def objects_to(self, message: Any) -> bool:
        """Whether the guest may not say this."""
        return bool(self.node.guests.objection(BOB, message, self.node.links))

    def work_off(self, now: float) -> None:
        """A worker is done with what it has."""
        if self.active:
            bundle = self.active.pop(0)
            todo = [bundle.todo.popleft() for _ in range(len(bundle.todo))]
            if todo:
                self.node.yielded(todo[0], b"value", (), now)
            self.node.finished(bundle, [(held, int(Status.SUCCESS), b"", ()) for held in todo], 0.1, True, now)

    def act(self) -> None:
        for action in self.node.take():
            self._one(action)
        node = self.node
        assert node.held == sum(len(list(link.all_held())) for link in node.links.values())
        assert node.starter.pools["shared"].free >= 0
        assert len(node.links) <= node.bounds.callers

    def _one(self, action: Action) -> None:
        if isinstance(action, Start):
            self.active.append(action.bundle)
        elif isinstance(action, Publish):
            if b"\0" in action.topic:  # of an id: whoever chose that hears nothing of its task, nor does anybody
                assert isinstance(action.message, m.Reports), action
                return
            message = wire.decode_node([wire.encode(action.message, action.topic)])
            assert message == action.message, f"{action.message} is heard as {message}"


def check_node(data: bytes) -> None:
    """What callers send is refused or is a message, and a node stands it, whatever it means."""
    world, now = _Node(), 0.0
    for how, frames in _messages(data):
        now += STEPS[how & 7]
        if how & DONE:
            world.work_off(now)
        message = _read(wire.decode_caller, frames, None)
        if message is not None and not (how & BY_BOB and world.objects_to(message)):
            world.node.received(message, tuple(frames[1:]), now)
        world.node.tick(now)
        world.node.flush(now)
        world.act()


def caller_seeds() -> list[bytes]:
    """Return what callers may well send."""
    refs = {"add": [1, 2], "mul": [1]}
    hello = m.Hello(LINK, "me", 1, b"", "mesh", [1])
    options = m.TaskOptions(at_most_once=True, time_limit=1.0, soft_time_limit=0.5, priority=3, expires=2.0)
    tasks: list[m.TaskItem] = [
        ("add", 1, "1", 1, None, b"\x92\x01\x02"),
        ("add", 2, "2", 2, options, b"\x92\x01\x02"),
        ("mul", 1, "3", 1, m.TaskOptions(monitor_progress=True, stream=True), b"\x90"),
        ("nope", 1, "4", 1, None, b""),
    ]
    beat = m.Beat(LINK, "me", 2, 1, {"add": (2, 2, 5), "mul": (1, 0, 0)}, refs, INCARNATION, {"mul": [(1, 3)]})
    messages: list[m.Message] = [
        hello,
        m.Tasks(LINK, "me", 0, {"add": 3}, tasks),
        beat,
        m.Taken(LINK, 2, {"mul": [(1, 33)]}),
        m.Go(LINK, refs),
        m.Cancel(LINK, refs, True),
        m.Recall(LINK, refs),
        m.Hello(LINK, "me", 3, INCARNATION, "mesh", [1, 2]),
        m.Bye(LINK),
    ]
    frames = [wire.encode(message) for message in messages]
    lives = [m.Hello(bytes((life,)) * 8, "me", life, b"", "mesh", [1], life) for life in (1, 2, 1)]
    mine = f"{BOB.caller}.1"
    of_guest: list[m.Message] = [
        m.Hello(LINK, mine, 1, b"", "mesh", [1]),
        m.Tasks(LINK, mine, 0, {"mul": 3}, [("mul", n, str(n), 1, None, b"") for n in (1, 2, 3)]),
        m.Tasks(LINK, mine, 0, {"add": 3}, tasks[:1]),
        m.Beat(LINK, mine, 2, 1, {"mul": (3, 3, 5)}, {"mul": [1, 2, 3]}, INCARNATION),
    ]
    strange = [m.Hello(LINK, "a/b", 1, b"", "mesh", [1]), m.Hello(LINK, "me", 1, b"", "other", [7])]
    return [
        _joined(frames),
        *map(_joined, map(list, pairwise(frames))),
        _joined([wire.encode(message) for message in (*lives, *strange)]),
        _joined([wire.encode(message) for message in of_guest], BY_BOB),
        _joined([wire.encode(hello), wire.encode(m.Tasks(LINK, "me", 0, {}, tasks[:1])), *frames[2:5] * 3]),
    ]


# ------------------------------------------------------------------------------ a caller


class _Caller:
    """A caller with two nodes, of which one has answered, and with tasks of every kind."""

    def __init__(self) -> None:
        self.caller = Caller("me", "mesh", Random(1))
        for key in ("n1", "n2"):
            self.caller.found(key, 0.0, key)
            for side in Side:
                self.caller.connected(key, side, 0.0)
        self.entries: list[Entry] = []
        self.act()
        self.hear(self.welcome(), 0.0)
        kinds = [{}, {"at_most_once": True}, {"monitor_progress": True}, {"max_losses": 1}, {"expires": 5.0}]
        for number, kind in enumerate([*kinds, *kinds]):
            options = Options(**kind)  # type: ignore[arg-type]
            name = "mul" if number % 3 == 2 else "add"
            self.entries.append(Entry(Route(name), str(number), b"", (), options, wire_options(options), None))
        self.caller.submit(self.entries, 0.0)
        self.act()

    @property
    def token(self) -> bytes:
        """Of the link to the node that has answered."""
        return self.caller.peers["n1"].token

    def welcome(self) -> m.Welcome:
        peer = self.caller.peers["n1"]
        functions = {"add": (2, "(a)", "", False), "mul": (1, "", "", True)}
        told: Any = [], 2**20, functions, 1, 1, {"add": 4, "mul": 2}, False
        return m.Welcome(peer.token, peer.number, "id-n1", INCARNATION, "n1", "mesh", *told)

    def hear(self, message: m.Message, now: float) -> None:
        self.caller.received(message, (), now)
        self.act()

    def act(self) -> None:
        for action in self.caller.take():
            if isinstance(action, Send):
                message = wire.decode_caller([wire.encode(action.message)])
                assert message == action.message, f"{action.message} is heard as {message}"

    def check(self, now: float) -> None:
        known = self.caller.everything()
        lost = [entry.id for entry in self.entries if not entry.settled and entry not in known]
        assert not lost, f"neither settled nor known: {lost}"
        waiting(self.caller, now)
        for entry in known:
            why(self.caller, entry, now)


def check_caller(data: bytes) -> None:
    """What nodes publish is refused or is a message, and a caller stands it and knows of each of its tasks."""
    world, now = _Caller(), 0.0
    for how, frames in _messages(data):
        now += STEPS[how & 7]
        message = _read(wire.decode_node, frames, b"me/")
        if len(frames) == 1:
            _check_relayed(frames[0], message)
        if isinstance(message, _FROM_NODE):
            world.caller.received(message, tuple(frames[1:]), now)
        world.caller.tick(now)
        world.act()
    world.check(now)


def _check_relayed(frame: bytes, message: Any) -> None:
    """A forwarder passes a message on as it is, or with its name in it, or not at all."""
    passed = relayed(frame, "forwarder")
    if passed is None:
        assert message is None or len(message.via) == m.VIA_MOST
    elif isinstance(message, m.Welcome | m.Credit):
        message.via.append("forwarder")
        assert wire.decode_node([passed]) == message
        del message.via[-1]
    else:
        assert passed == frame


def node_seeds() -> list[bytes]:
    """Return what nodes may well publish."""
    world = _Caller()
    token = world.token
    success, fail, partial = (int(status) for status in (Status.SUCCESS, Status.FAIL, Status.PARTIAL))
    reports = m.Reports(
        token,
        {"add": (5, 1000), "mul": (3, 0)},
        (3, 1),
        [(1, "add", 1, 1, success, b"\x03"), (2, "add", 2, 1, fail, b""), (0, "mul", 1, 1, partial, b"\x01")],
    )
    refs = {"add": [1, 3], "mul": [1]}
    messages: list[m.Message] = [
        world.welcome(),
        reports,
        m.Claim(token, refs),
        m.Credit(token, 1, {"add": (6, 1000)}, (2, 1), refs, False),
        m.Recalled(token, refs, m.BUSY),
        m.Missing(token, {"add": [2, 4]}),
        m.Recalled(token, {"mul": [1]}, m.RESTARTING),
        m.Credit(token, 2, {}, (0, 0), {}, True, ["one", "two", "three"]),
        m.Refused(token, m.REFUSED_UNKNOWN, "no such link", [1]),
        m.Pulse("n1", 1, 2, 3, 4, 5),
    ]
    frames = [wire.encode(message, b"me/") for message in messages]
    return [_joined(frames), *map(_joined, map(list, pairwise(frames))), _joined(frames[1:4] * 4)]
