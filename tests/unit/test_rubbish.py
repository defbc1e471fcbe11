"""Well-formed messages that make no sense, in any order: deciders raise nothing, and no task gets lost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest

from dingo_zmq.errors import PeerError
from dingo_zmq.model import Options, Status
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire
from dingo_zmq.protocol.caller import Caller, Send
from dingo_zmq.protocol.intake import Function
from dingo_zmq.protocol.ledger import Entry, Route, wire_options
from dingo_zmq.protocol.node import Action, Identity, Node, Publish, Start
from dingo_zmq.protocol.recording import holds
from dingo_zmq.protocol.roster import Side
from dingo_zmq.protocol.starter import Bundle
from dingo_zmq.protocol.why import waiting, why

STEPS = 300
NAMES = ("add", "mul", "nope")
ME, ANOTHER = b"incarnat", b"anotherr"
SOME = (0, 1, 2, 3, 5, 8, 100, 2**53)
SUCCESS = int(Status.SUCCESS)


class Rubbish:
    """Dice that draw messages."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.random, self.choice, self.randrange = self.dice.random, self.dice.choice, self.dice.randrange

    def chance(self, share: float = 0.5) -> bool:
        return self.random() < share

    def number(self) -> int:
        return self.choice(SOME) if self.chance(0.7) else self.randrange(2**53 + 1)

    def name(self) -> str:
        return self.choice(NAMES)

    def numbers(self) -> list[int]:
        return [self.number() for _ in range(self.randrange(4))]

    def refs(self) -> dict[str, list[int]]:
        return {self.name(): self.numbers() for _ in range(self.randrange(3))}

    def pairs(self) -> dict[str, tuple[int, int]]:
        return {self.name(): (self.number(), self.number())}

    def seconds(self) -> float:
        return self.choice((0.0, 0.1, 1e9))

    def options(self) -> m.TaskOptions | None:
        if self.chance():
            return None
        return m.TaskOptions(
            at_most_once=self.chance(),
            monitor_progress=self.chance(),
            time_limit=self.seconds(),
            soft_time_limit=self.seconds(),
            priority=self.choice((0, 1, -1_000_000, 1_000_000)),
            expires=self.choice((0.0, 0.1, 1e300, float("inf"))),
            ignore_report=self.chance(),
            stream=self.chance(),
        )

    def of_caller(self) -> m.Message:
        """Return what a caller might send."""
        link, who = self.choice((b"link0001", b"link0002")), self.choice(("me", "you", "a/b"))
        kind = self.choice((m.Hello, m.Tasks, m.Tasks, m.Beat, m.Taken, m.Cancel, m.Recall, m.Go, m.Bye))
        number, refs = self.number(), self.refs()
        if kind is m.Hello:
            believed, mesh = self.choice((b"", b"", ME, b"x")), self.choice(("mesh", "mesh", "other"))
            return m.Hello(link, who, number, believed, mesh, [self.choice((1, 1, 2))], self.choice((0, 0, 1, 2)))
        if kind is m.Tasks:
            items = [
                (self.name(), self.number(), f"t{n}", self.number(), self.options(), b"")
                for n in range(self.randrange(5))
            ]
            return m.Tasks(link, who, number, {self.name(): self.number()}, items)
        if kind is m.Beat:
            lanes = {self.name(): (self.number(), self.number(), self.number()) for _ in range(2)}
            taken = {name: [pair] for name, pair in self.pairs().items()}
            return m.Beat(link, who, number, self.number(), lanes, refs, self.choice((ME, b"")), taken)
        if kind is m.Taken:
            return m.Taken(link, number, {name: [pair] for name, pair in self.pairs().items()})
        if kind is m.Bye:
            return m.Bye(link)
        return m.Cancel(link, refs, self.chance()) if kind is m.Cancel else kind(link, refs)

    def of_node(self, link: bytes) -> m.Message:
        """Return what a node might publish."""
        kind = self.choice((m.Welcome, m.Reports, m.Reports, m.Credit, m.Missing, m.Claim, m.Recalled, m.Refused))
        load = self.number(), self.number()
        if kind is m.Welcome:
            node = self.choice(("a", "b", "a/3")), self.choice((ME, ANOTHER)), self.choice(("a", "b/1")), "mesh"
            functions = {self.name(): (self.number(), "(a)", self.choice(("", "f", "/json")), self.chance())}
            told = ["psu"], self.number(), functions, 1, self.number(), {self.name(): self.number()}
            base, seen = self.choice((b"", b"", link)), {self.name(): self.number()}
            return m.Welcome(link, self.number(), *node, *told, self.chance(0.2), base, seen)
        if kind is m.Reports:
            items = [
                (self.number(), self.name(), self.number(), self.number(), self.randrange(1, 6), b"x")
                for _ in range(self.randrange(4))
            ]
            return m.Reports(link, self.pairs(), load, items)
        if kind is m.Credit:
            return m.Credit(link, self.number(), self.pairs(), load, self.refs(), self.chance(0.1))
        if kind is m.Recalled:
            return m.Recalled(link, self.refs(), self.choice((*sorted(m.REASONS), "no hand is free")))
        if kind is m.Refused:
            reasons = m.REFUSED_UNKNOWN, m.REFUSED_MESH, m.REFUSED_VERSION, m.REFUSED_LIFE
            return m.Refused(link, self.choice(reasons), "no", [1])
        return kind(link, self.refs())


def read(decode: Any, frame: bytes) -> Any:
    """Return a message as it comes in, None where it does not."""
    try:
        return decode([frame])
    except PeerError:
        return None


class NodeUnderFire:
    """A node, its workers, and who sends to it."""

    def __init__(self, seed: int) -> None:
        self.rubbish, self.now = Rubbish(seed), 0.0
        functions = [Function("add", "shared", 2, limits=(1.0, 0.0)), Function("mul", "shared", 2)]
        self.node = Node(Identity("id1", ME, "bench", "mesh"), functions, {"shared": 2}, self.now)
        self.active: list[Bundle] = []

    def step(self) -> None:
        rubbish = self.rubbish
        self.now += rubbish.choice((0.0, 0.0, 0.01, 0.5, 2.0, 7.0))
        what = rubbish.random()
        if what < 0.75:
            message = read(wire.decode_caller, wire.encode(rubbish.of_caller()))
            if message is not None:
                self.node.received(message, (), self.now)
        elif what < 0.88:
            self.node.tick(self.now)
        elif what < 0.9:
            self.node.subscribed("me", self.now)
        elif self.active:
            self.work_off(self.active.pop(rubbish.randrange(len(self.active))))
        self.node.flush(self.now)
        for action in self.node.take():
            self.act(action)

    def work_off(self, bundle: Bundle) -> None:
        todo = [bundle.todo.popleft() for _ in range(len(bundle.todo))]
        if todo and self.rubbish.chance():
            self.node.yielded(todo[0], b"value", (), self.now)
        self.node.finished(bundle, [(held, SUCCESS, b"", ()) for held in todo], 0.1, True, self.now)

    def act(self, action: Action) -> None:
        if isinstance(action, Start):
            self.active.append(action.bundle)
        elif isinstance(action, Publish):
            wire.encode(action.message, action.topic)
            if self.rubbish.chance(0.1):
                self.node.unpublished(action)


@pytest.mark.parametrize("seed", range(150))
def test_a_node_stands_it(seed: int) -> None:
    fire = NodeUnderFire(seed)
    for _ in range(STEPS):
        fire.step()
        assert fire.node.starter.pools["shared"].free >= 0
        assert fire.node.held == sum(len(list(link.all_held())) for link in fire.node.links.values())


class CallerUnderFire:
    """A caller with two nodes that sometimes say what they should."""

    def __init__(self, seed: int) -> None:
        self.rubbish, self.now = Rubbish(seed), 0.0
        self.caller = Caller("me", "mesh", Random(seed), life=seed % 2)
        self.entries: list[Entry] = []
        self.links = [b"nobody's"]

    def step(self) -> None:
        rubbish, caller = self.rubbish, self.caller
        self.now += rubbish.choice((0.0, 0.0, 0.01, 0.3, 1.5, 6.0))
        what = rubbish.random()
        if what < 0.14:
            self.connections_change(rubbish.choice(("n1", "n2")), rubbish.choice(tuple(Side)))
        elif what < 0.25:
            self.call()
        elif what < 0.4:
            caller.tick(self.now)
        else:
            self.hear(rubbish.of_node(rubbish.choice(self.links)))
        for action in caller.take():
            if isinstance(action, Send):
                self.send(action)

    def connections_change(self, key: str, side: Side) -> None:
        caller, now = self.caller, self.now
        changes: list[Callable[[], None]] = [
            *[partial(caller.found, key, now)] * 3,
            *[partial(caller.connected, key, side, now)] * 7,
            *[partial(caller.disconnected, key, side, now)] * 2,
            partial(caller.refused, key, now),
            partial(caller.gone, key, now),
        ]
        self.rubbish.choice(changes)()

    def call(self) -> None:
        options = Options(at_most_once=self.rubbish.chance(0.3), max_losses=2)
        route, number = Route(self.rubbish.name()), len(self.entries)
        entry = Entry(route, str(number), b"", (), options, wire_options(options), None)
        entry.record = number + 1
        self.entries.append(entry)
        self.caller.submit([entry], self.now)
        if self.rubbish.chance(0.2):
            self.rubbish.choice((self.caller.cancel, self.caller.stop))(entry, self.now)

    def hear(self, message: m.Message) -> None:
        heard = read(wire.decode_node, wire.encode(message, b"me/"))
        if heard is not None:
            self.caller.received(heard, (), self.now)

    def send(self, send: Send) -> None:
        list(holds(self.caller, send))
        wire.encode(send.message)
        if self.rubbish.chance(0.05):
            self.caller.unsent(send, self.now)
        elif isinstance(send.message, m.Hello):
            self.links = [*self.links[-2:], send.message.link]
            if self.rubbish.chance(0.7):
                functions = {"add": (2, "", "", False), "mul": (1, "", "", True)}
                who = f"id-{send.key}", ME, send.key, "mesh"
                told: Any = [], 2**20, functions, 1, 1, {"add": 4, "mul": 2}, False
                self.hear(m.Welcome(send.message.link, send.message.number, *who, *told))


@pytest.mark.parametrize("seed", range(150))
def test_a_caller_stands_it_and_knows_of_every_task(seed: int) -> None:
    fire = CallerUnderFire(seed)
    caller = fire.caller
    for _ in range(STEPS):
        fire.step()
        waiting(caller, fire.now)
        known = caller.everything()
        assert [entry.id for entry in fire.entries if not entry.settled and entry not in known] == []
        for entry in known:
            why(caller, entry, fire.now)
            assert entry.lane is None or caller.peers[entry.lane.key].lanes[entry.route.name] is entry.lane
