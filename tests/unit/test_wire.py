"""Bytes on the wire: what is encoded comes back, and nothing else is let in."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingo_zmq.errors import PeerError
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire
from dingo_zmq.protocol.relay import relayed

LINK, NODE = b"12345678", b"abcdefgh"
REFS = {"add": [1, 2], "mul": [2**53]}
TASK = ("add", 1, "7", 2, m.TaskOptions(at_most_once=True), b"body")
REPORT = (3, "add", 1, 2, 4, b"body")

LATER = m.TaskOptions(priority=-3, expires=1.5, ignore_report=True, time_limit=2.5, soft_time_limit=0.5)
FROM_CALLER = [
    m.Hello(LINK, "me", 1, b"", "mesh", [1, 2]),
    m.Hello(LINK, "me", 1, NODE, "mesh", [1]),
    m.Tasks(LINK, "me", 5, {"add": 9}, [TASK, ("mul", 1, "8", 1, None, b"")]),
    m.Tasks(LINK, "me", 5, {}, [("add", 2, "9", 1, LATER, b"")]),
    m.Beat(LINK, "me", 6, 5, {"add": (3, 2, 1)}, REFS, NODE),
    m.Beat(LINK, "me", 6, 5, {}, {}, NODE, {"add": [(1, 2**53)]}),
    m.Taken(LINK, 7, {"add": [(1, 33), (2, 0)], "mul": []}),
    m.Tasks(LINK, "me", 5, {}, [("add", 2, "9", 1, m.TaskOptions(stream=True), b"")]),
    m.Cancel(LINK, REFS),
    m.Recall(LINK, REFS),
    m.Go(LINK, REFS),
    m.Bye(LINK),
]
FROM_NODE = [
    m.Welcome(
        link=LINK,
        echo=1,
        node="n1",
        incarnation=NODE,
        name="bench",
        mesh="mesh",
        tags=["gpu"],
        limit=2**28,
        functions={"add": (4, "(a: int) -> int", "f1", False)},
        version=1,
        pace=1000,
        credit={"add": 4},
        draining=False,
    ),
    m.Reports(LINK, {"add": (4, 1000)}, (3, 1), [REPORT, (0, "add", 2, 1, 2, b"")]),
    m.Credit(LINK, 6, {"add": (4, 0)}, (0, 0), {}, True),
    m.Missing(LINK, REFS),
    m.Claim(LINK, REFS),
    m.Recalled(LINK, REFS, m.GIVEN_BACK),
    m.Refused(LINK, m.REFUSED_UNKNOWN, "no such link", [1]),
    m.Pulse("bench", 1, 2, 3, 4),
]


@pytest.mark.parametrize("message", FROM_CALLER, ids=lambda message: type(message).__name__)
def test_what_a_caller_sends_comes_back(message: m.Message) -> None:
    assert wire.decode_caller([wire.encode(message)]) == message


@pytest.mark.parametrize("message", FROM_NODE, ids=lambda message: type(message).__name__)
def test_what_a_node_publishes_comes_back(message: m.Message) -> None:
    frame = wire.encode(message, b"me/add/7/")
    assert frame.startswith(b"me/add/7/\0")
    assert wire.topic_of(frame) == b"me/add/7/"
    assert wire.decode_node([frame]) == message


def test_kinds_differ_and_none_is_forgotten() -> None:
    assert len({wire.encode(message)[0] for message in FROM_CALLER}) == 8
    assert len({wire.encode(message, b"")[1] for message in FROM_NODE}) == 8
    everything = {type(message) for message in [*FROM_CALLER, *FROM_NODE]}
    assert everything == set(m.Message.__subclasses__())


def test_bytes_stay_as_they_are() -> None:
    """Somebody may have written this in another language."""
    assert wire.encode(m.Go(LINK, {"add": [1]})).hex() == "4792c408313233343536373881a361646491" + "01"
    assert wire.encode(m.Bye(LINK)) == b"Y\x91\xc4\x08" + LINK


def test_a_large_body_travels_behind_one_task() -> None:
    one = wire.encode(m.Tasks(LINK, "me", 0, {}, [TASK]))
    two = wire.encode(m.Tasks(LINK, "me", 0, {}, [TASK, TASK]))
    assert wire.decode_caller([one, b"x" * 100_000]).items == [TASK]
    for frames in ([two, b"x"], [wire.encode(m.Bye(LINK)), b"x"], [one, *[b"x"] * 2000]):
        with pytest.raises(PeerError):
            wire.decode_caller(frames)


BAD: list[list[bytes]] = [
    [],
    [b""],
    [b"Z\x90"],
    [b"Y"],
    [b"Y\x91\xc4\x07" + LINK[:7]],  # a token is 8 bytes
    [b"Y\x91\xc4\x08" + LINK + b"\0"],  # something behind
    [wire.encode(m.Go(LINK, {"": [1]}))],
    [wire.encode(m.Go(LINK, {"a": [-1]}))],
    [wire.encode(m.Go(LINK, {"a": [2**53 + 1]}))],
    [wire.encode(m.Recalled(LINK, {}, "x" * 5000))],
    [wire.encode(m.Missing(LINK, {}))],  # a node's, not a caller's
    [b"G" + b"\x91" * 10_000],
]


@pytest.mark.parametrize("frames", BAD)
def test_what_cannot_be_is_an_error_of_the_peer(frames: list[bytes]) -> None:
    with pytest.raises(PeerError):
        wire.decode_caller(frames)
    with pytest.raises(PeerError):
        wire.decode_node(frames)


def accepted(decode: Any, frames: list[bytes]) -> bool:
    """Return whether it is a message; nothing but PeerError may come of anything."""
    try:
        decode(frames)
    except PeerError:
        return False
    return True


def welcome(**changes: Any) -> bytes:
    message = FROM_NODE[0]
    assert isinstance(message, m.Welcome)
    for name, value in changes.items():
        message = msgspec.structs.replace(message, **{name: value})
    return wire.encode(message, b"me/")


@pytest.mark.parametrize("name", ["bench", "bench/2", "Prüfstand 4", "x" * 200])
def test_what_a_node_can_say_it_is_called(name: str) -> None:
    assert wire.decode_node([welcome(name=name, tags=[name], functions={name: (1, "", "", False)})]).name == name


@pytest.mark.parametrize("name", ["", "x" * 201, "a\n", "\x1b[2J", "a\x9bb", "\u202eab", "\u2028", "a\x7f", "\0"])
def test_names_that_would_move_the_cursor_are_refused(name: str) -> None:
    for changes in (
        {"name": name},
        {"node": name},
        {"mesh": name},
        {"tags": ["gpu", name]},
        {"functions": {name: (1, "", "", False)}},
    ):
        with pytest.raises(PeerError):
            wire.decode_node([welcome(**changes)])


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_junk_is_refused(frames: list[bytes]) -> None:
    accepted(wire.decode_caller, frames)
    accepted(wire.decode_node, frames)


def test_bent_messages_are_refused_or_are_messages() -> None:
    dice = Random(1)
    good = [wire.encode(message) for message in FROM_CALLER] + [wire.encode(x, b"a/") for x in FROM_NODE]
    refused = 0
    for _ in range(20_000):
        frame = bytearray(dice.choice(good))
        for _ in range(dice.randint(1, 4)):
            frame[dice.randrange(len(frame))] = dice.randrange(256)
        bent = bytes(frame[: dice.randint(1, len(frame))])
        refused += not accepted(wire.decode_caller, [bent])
        accepted(wire.decode_node, [bent])
    assert refused > 10_000


def test_a_forwarder_adds_its_name_to_what_tells_who_is_there() -> None:
    for message in (
        m.Credit(LINK, 6, {"add": (4, 0)}, (0, 0), {}, True),
        m.Welcome(LINK, 1, "id", b"incarnat", "n1", "mesh", [], 9, {}, 1, 1, {}, False),
    ):
        frame = wire.encode(message, b"caller/")
        for number in range(1, m.VIA_MOST + 1):
            passed = relayed(frame, f"gate {number}")
            assert passed is not None
            frame = passed
            assert wire.topic_of(frame) == b"caller/"
            assert wire.decode_node([frame]).via == [f"gate {n}" for n in range(1, number + 1)]
        assert relayed(frame, "one too many") is None
    others = [
        wire.encode(m.Reports(LINK, {}, (0, 0), []), b"caller/add/1/"),
        b"pulse/n1/\0U",
        b"",
        b"no topic",
        b"topic\0",
    ]
    assert [relayed(frame, "gate") for frame in others] == others
    assert relayed(b"topic\0Wrubbish", "gate") is None
