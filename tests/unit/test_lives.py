"""Lives of a caller with a journal: scripts of a node and callers, without sockets."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dingo_zmq.model import Code, Options, Status
from dingo_zmq.protocol import caller as calling
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import node as serving
from dingo_zmq.protocol.caller import Caller
from dingo_zmq.protocol.former import Holder
from dingo_zmq.protocol.intake import Bounds, Function
from dingo_zmq.protocol.ledger import Entry, Route, wire_options
from dingo_zmq.protocol.node import Identity, Node
from dingo_zmq.protocol.recording import holds
from dingo_zmq.protocol.roster import Side

SUCCESS = int(Status.SUCCESS)


class Life:
    """One life of the caller "me", at the same node as the others; `now` is shared by all."""

    def __init__(self, stage: Stage, life: int, seed: int) -> None:
        self.stage = stage
        self.caller = Caller("me", "mesh", Random(seed), life=life)
        self.settled: list[Entry] = []
        self.fenced: list[str] = []
        self.held: dict[str, Holder] = {}
        self.sent: list[Any] = []
        self.asleep = False

    def find(self) -> None:
        """The node is found, and both connections to it are up."""
        self.caller.found("n1", self.stage.now)
        for side in Side:
            self.caller.connected("n1", side, self.stage.now)
        self.stage.settle()

    def call(self, *ids: str, **options: Any) -> list[Entry]:
        entries = [entry(number, **options) for number in ids]
        self.caller.submit(entries, self.stage.now)
        self.stage.settle()
        return entries

    def record(self) -> None:
        """All that was settled is in the journal."""
        self.caller.recorded(self.caller.marks(), self.stage.now)

    def act(self) -> bool:
        actions = self.caller.take()
        for action in actions:
            if isinstance(action, calling.Send):
                self.held.update((entry.id, hold) for entry, hold in holds(self.caller, action))
                self.sent.append(action.message)
                self.stage.node.received(action.message, action.buffers, self.stage.now)
            elif isinstance(action, calling.Settled):
                self.settled += action.entries
            elif isinstance(action, calling.Fenced):
                self.fenced.append(action.text)
        return bool(actions)


class Stage:
    """A node with three workers, whose tasks end when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lives: list[Life] = []
        self.running: dict[str, tuple[Any, Any]] = {}
        self.began: list[str] = []
        self.published: list[Any] = []
        function = Function("add", "shared", 3)
        identity = Identity("id-n1", b"incarnat", "n1", "mesh")
        self.node = Node(identity, [function], {"shared": 3}, self.now)

    def life(self, number: int) -> Life:
        """A life begins."""
        life = Life(self, number, len(self.lives))
        self.lives.append(life)
        return life

    def settle(self) -> None:
        """Let everybody act until nothing is left to be done."""
        busy = True
        while busy:
            busy = any([life.act() for life in self.lives if not life.asleep])
            self.node.flush(self.now)
            for action in self.node.take():
                busy = True
                if isinstance(action, serving.Publish) and not action.topic.startswith(b"pulse"):
                    self.published.append(action.message)
                    for life in self.lives:
                        if not life.asleep:
                            life.caller.received(action.message, action.buffers, self.now)
                elif isinstance(action, serving.Start):
                    action.bundle.todo.clear()  # its worker has them
                    for held in action.bundle.all:
                        self.running[held.id] = action.bundle, held
                        self.began.append(held.id)

    def end(self, *ids: str) -> None:
        """Tasks end well."""
        for number in ids:
            bundle, held = self.running.pop(number)
            last = not any(other is bundle for other, _ in self.running.values())
            self.node.finished(bundle, [(held, SUCCESS, b"answer " + number.encode(), ())], 0.1, last, self.now)
        self.settle()

    def wait(self, seconds: float) -> None:
        """Time passes."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.1
            for life in self.lives:
                if not life.asleep:
                    life.caller.tick(self.now)
            self.node.tick(self.now)
            self.settle()


@pytest.fixture
def stage() -> Stage:
    return Stage()


def entry(number: str, **options: Any) -> Entry:
    told = Options(**options)
    made = Entry(Route("add"), number, b"arguments", (), told, wire_options(told), None)
    made.record = int(number)
    return made


def dies(life: Life) -> None:
    """Its process is killed."""
    life.asleep = True


def resume(life: Life, before: Life, ids: list[str], **options: Any) -> list[Entry]:
    """Begin a life with tasks that the one before had sent, by its journal."""
    entries = []
    for number in ids:
        made = entry(number, **options)
        made.attempt = 1
        made.started = bool(options)
        entries.append(made)
    held = [(made, before.held[made.id]) for made in entries]
    life.caller.resume([], held, life.stage.now)
    return entries


def test_a_new_life_takes_over_what_is_held_and_kept(stage: Stage) -> None:
    first = stage.life(1)
    first.find()
    first.call("1", "2", "3")
    assert stage.began == ["1", "2", "3"]
    dies(first)
    stage.end("2")
    second = stage.life(2)
    resume(second, first, ["1", "2", "3"])
    stage.wait(0.5)
    second.find()
    stage.wait(0.2)
    assert [(made.id, made.body) for made in second.settled] == [("2", b"answer 2")]
    stage.end("1", "3")
    assert sorted(made.id for made in second.settled) == ["1", "2", "3"]
    assert stage.began == ["1", "2", "3"]
    assert len(stage.node.links) == 1


def test_what_never_arrived_is_sent_again(stage: Stage) -> None:
    first = stage.life(1)
    first.find()
    first.call("1")
    lost = Holder(*first.held["1"][:3], number=2)
    dies(first)
    second = stage.life(2)
    made = entry("7")
    made.attempt = 1
    second.caller.resume([], [(made, lost)], stage.now)
    second.find()
    stage.wait(2)
    assert stage.began == ["1", "7"]
    assert made.attempt == 2
    stage.end("7")
    assert [made.id for made in second.settled] == ["7"]


def test_what_the_new_life_does_not_know_is_stopped(stage: Stage) -> None:
    first = stage.life(1)
    first.find()
    first.call("1")
    dies(first)
    second = stage.life(2)
    second.find()
    stage.wait(2)
    (link,) = stage.node.links.values()
    assert [held.cancelled for held in link.all_held()] == [True]


def test_task_numbers_are_never_used_twice(stage: Stage) -> None:
    first = stage.life(1)
    first.find()
    first.call("1", "2")
    dies(first)
    second = stage.life(2)
    second.find()
    stage.wait(2)
    second.call("3")
    assert second.held["3"].number == 3
    assert second.held["3"].base == first.held["1"].base
    stage.end("1", "2")
    assert second.settled == []
    stage.end("3")
    assert [made.id for made in second.settled] == ["3"]


def test_the_old_life_is_refused_and_told_so(stage: Stage) -> None:
    first = stage.life(1)
    first.find()
    first.call("1")
    first.asleep = True
    second = stage.life(2)
    resume(second, first, ["1"])
    second.find()
    first.asleep = False
    first.call("2")
    stage.wait(3)
    assert "another program has opened the journal" in first.fenced[0]
    assert second.fenced == []
    assert stage.began == ["1"]
    stage.end("1")
    assert [made.id for made in second.settled] == ["1"]


def test_the_old_life_is_refused_even_where_the_new_one_has_left(stage: Stage) -> None:
    first, second = stage.life(1), stage.life(2)
    second.find()
    assert second.caller.close(stage.now)
    second.caller.good_bye()
    stage.settle()
    assert stage.node.links == {}
    dies(second)
    first.find()
    assert first.fenced
    assert stage.node.links == {}


def test_nodes_hear_nothing_that_is_not_recorded(stage: Stage) -> None:
    life = stage.life(1)
    life.find()
    life.call("1")
    stage.end("1")
    stage.wait(3)
    (link,) = stage.node.links.values()
    assert len(link.kept) == 1
    assert {message.heard for message in life.sent if isinstance(message, m.Beat | m.Tasks)} == {0}
    life.record()
    stage.wait(2)
    assert link.kept == {}


def test_a_node_that_is_not_back_is_given_up(stage: Stage) -> None:
    first = stage.life(1)
    first.find()
    first.call("1")
    first.call("2", at_most_once=True)
    dies(first)
    second = stage.life(2)
    resume(second, first, ["1"])
    (once,) = resume(second, first, ["2"], at_most_once=True)
    stage.wait(4)
    assert second.settled == []
    stage.wait(2)
    assert second.settled == [once]
    assert once.failure is not None
    assert once.failure.code is Code.UNKNOWN
    second.find()  # it is back after all, and still has the other one
    stage.wait(1)
    stage.end("1")
    assert [made.id for made in second.settled] == ["2", "1"]


def test_a_caller_with_a_journal_is_kept_longer(stage: Stage) -> None:
    life = stage.life(1)
    life.find()
    life.call("1")
    dies(life)
    stage.wait(100)
    assert len(stage.node.links) == 1
    stage.wait(510)
    assert stage.node.links == {}


def test_answers_of_callers_that_are_away_are_bounded_in_bytes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "KEEP_BYTES", 10)
    life = stage.life(1)
    life.find()
    life.call("1", "2")
    dies(life)
    stage.end("1")
    stage.wait(70)
    assert len(stage.node.links) == 1
    stage.end("2")
    stage.wait(2)
    assert stage.node.links == {}


@pytest.mark.parametrize("bounds", [Bounds(kept=3), Bounds(kept_bytes=3 * 100_000)])
def test_callers_that_are_away_leave_room_for_others(stage: Stage, bounds: Bounds) -> None:
    """Else one that has died would keep a node from taking tasks of anybody for ten minutes."""
    stage.node.bounds = bounds
    first = stage.life(1)
    first.find()
    first.call("1", "2")
    dies(first)
    large = b"x" * 100_000
    for number in ("1", "2"):
        bundle, held = stage.running.pop(number)
        stage.node.finished(bundle, [(held, SUCCESS, large, ())], 0.1, number == "2", stage.now)
    stage.settle()
    stage.wait(50)
    assert len(stage.node.links) == 1
    stage.wait(20)
    assert stage.node.links == {}
    assert (bounds.taken, bounds.full) == (0, False)


def test_a_caller_without_a_journal_is_superseded(stage: Stage) -> None:
    first = stage.life(0)
    first.find()
    first.call("1")
    dies(first)
    second = stage.life(0)
    second.caller._contacts._hellos = 50
    second.find()
    (link,) = stage.node.links.values()
    assert not any(lane.held for lane in link.lanes.values())


def test_closing_leaves_recorded_tasks_to_the_nodes(stage: Stage) -> None:
    life = stage.life(1)
    life.find()
    life.call("1")
    assert not life.caller.close(stage.now)
    stage.settle()
    assert [made.failure.code for made in life.settled if made.failure] == [Code.SHUTDOWN]
    (link,) = stage.node.links.values()
    assert [held.cancelled for held in link.all_held()] == [False]


def test_two_nodes_that_were_greeted_with_one_token_are_two(stage: Stage) -> None:
    """An address came to lead to another node: the tasks of both have the same numbers on links of one token."""
    life = stage.life(2)
    first, second = entry("1"), entry("2")
    base, nodes = b"a token!", {"n1": b"incarnat", "n2": b"another!"}
    held = [(made, Holder(base, nodes[name], name, 6)) for made, name in zip((first, second), nodes, strict=True)]
    life.caller.resume([], held, 0.0)
    for name, incarnation in nodes.items():
        life.caller.found(name, 0.0)
        for side in Side:
            life.caller.connected(name, side, 0.0)
        token, number = life.caller.peers[name].token, life.caller.peers[name].number
        node = (f"id-{name}", incarnation, name, "mesh", [], 2**20, {"add": (2, "", "", False)})
        life.caller.received(m.Welcome(token, number, *node, 1, 1, {"add": 9}, False, base), (), 0.0)
    token = life.caller.peers["n2"].token
    life.caller.received(m.Reports(token, {}, (0, 0), [(1, "add", 6, 1, SUCCESS, b"two")]), (), 0.0)
    assert (first.settled, second.settled) == (False, True)
