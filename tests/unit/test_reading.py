"""Tasks called by name, before and after nodes have told how they read them."""

from __future__ import annotations

from random import Random

import pytest

from dingo_zmq import errors
from dingo_zmq.marshallers import is_safe, spoken
from dingo_zmq.mesh.by_name import rewrite
from dingo_zmq.mesh.engine import Ticket
from dingo_zmq.model import Options
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.actions import Send
from dingo_zmq.protocol.caller import Caller
from dingo_zmq.protocol.ledger import Entry, Route, fits
from dingo_zmq.protocol.reading import marshallers_for, misread
from dingo_zmq.protocol.roster import Side


@pytest.mark.parametrize(
    ("ours", "theirs", "fit"),
    [
        ("", "", True),
        ("", "abc@1", True),
        ("abc", "", True),
        ("abc", "abc", True),
        ("abc", "abd", False),
        ("abc@1", "abc", False),
        ("", "/json", False),
        ("", "abc/json", False),
        ("/json", "abc", False),
        ("/json", "abc/json", True),
        ("abc/json", "/json", True),
        ("abc/json", "abd/json", False),
        ("abc/json", "abc/json/msgpack", False),
        ("abc/json/msgpack", "abc/json/msgpack", True),
    ],
)
def test_which_fingerprints_fit(ours: str, theirs: str, fit: bool) -> None:
    assert fits(ours, theirs) is fit
    assert Route("scan", ours).by_name is (ours[:1] in ("", "/"))


class Mesh:
    """A caller and nodes that are READY."""

    def __init__(self) -> None:
        self.caller = Caller("me", "lab", Random(1))

    def node(self, name: str, fingerprint: str, *tags: str) -> None:
        caller = self.caller
        caller.found(name, 0.0, name)
        for side in Side:
            caller.connected(name, side, 0.0)
        peer = caller.peers[name]
        functions = {"scan": (2, "(x)", fingerprint, False)}
        welcome = m.Welcome(
            peer.token, peer.number, f"id-{name}", b"incarnat", name, "lab", list(tags), 2**20, functions, 1, 1,
            {"scan": 100}, False,
        )  # fmt: skip
        caller.received(welcome, (), 0.0)
        caller.take()

    def call(self, fingerprint: str = "", *, needs: tuple[str, ...] = ()) -> Ticket:
        route = Route("scan", fingerprint, needs=needs)
        signature = spoken("scan", fingerprint[1:])
        data, buffers = signature.pack((5,), {})
        ticket = Ticket(route, "1", data, buffers, Options(), None, None)
        ticket.unpack = signature.unpack_return
        self.caller.submit([ticket], 0.0)
        return ticket

    def sent(self) -> list[tuple[str, bytes]]:
        """Return the bodies sent, and to whom."""
        sends = [action for action in self.caller.take() if isinstance(action, Send)]
        return [(s.key, item[5]) for s in sends if isinstance(s.message, m.Tasks) for item in s.message.items]


def test_what_nodes_have_for_a_route() -> None:
    mesh = Mesh()
    route = Route("scan")
    assert marshallers_for([], route, is_safe) == ""
    mesh.node("a", "abc/json", "psu")
    assert marshallers_for(mesh.caller.peers.values(), route, is_safe) == "json"
    mesh.node("b", "abc")
    assert marshallers_for(mesh.caller.peers.values(), route, is_safe) == ""
    assert marshallers_for(mesh.caller.peers.values(), Route("scan", needs=("psu",)), is_safe) == "json"
    assert marshallers_for(mesh.caller.peers.values(), Route("scan", needs=("cam",)), is_safe) == ""


def test_what_this_side_does_not_have_is_not_chosen() -> None:
    mesh = Mesh()
    mesh.node("a", "abc/pickle")
    assert marshallers_for(mesh.caller.peers.values(), Route("scan"), is_safe) == ""
    mesh.call()
    assert misread(mesh.caller, is_safe) == []


def test_a_task_called_too_early_is_written_anew_and_sent() -> None:
    mesh = Mesh()
    ticket = mesh.call()
    assert misread(mesh.caller, is_safe) == []
    mesh.node("a", "abc/json/json-safe")
    ((route, how),) = misread(mesh.caller, is_safe)
    assert (route, how) == (Route("scan"), "json/json-safe")
    mesh.caller.reroute(route, lambda entry: rewrite(entry, how), 0.0)
    assert mesh.sent() == [("a", b"[5]")]
    assert ticket.unpack((b"\x92\x90\x91\xc4\x017", ())) == 7
    assert misread(mesh.caller, is_safe) == []


def test_what_nobody_reads_any_more_stays_as_it_was_written() -> None:
    """It was written for a node that is gone for a while: written as msgpack it would be for nobody at all."""
    mesh = Mesh()
    ticket = mesh.call("/json", needs=("psu",))
    mesh.node("a", "abc")
    assert misread(mesh.caller, is_safe) == []
    mesh.node("b", "abc/json", "psu")
    assert ticket.lane is not None
    assert (ticket.lane.key, ticket.body) == ("b", b"[5]")


def test_one_that_some_node_reads_is_left_alone() -> None:
    mesh = Mesh()
    mesh.node("a", "abc/json")
    mesh.node("b", "abc")
    for _ in range(200):
        mesh.call()  # more than there is credit
    assert mesh.caller.ledger.queues
    assert misread(mesh.caller, is_safe) == []


def test_what_was_sent_before_is_not_written_anew() -> None:
    """An answer to the old body may still come."""
    mesh = Mesh()
    mesh.node("a", "abc")
    ticket = mesh.call()
    assert mesh.sent()
    lane = ticket.lane
    assert lane is not None
    mesh.caller.received(m.Recalled(mesh.caller.peers["a"].token, {"scan": [1]}, m.DRAINING), (), 0.0)
    mesh.caller.refused("a", 0.0)
    assert rewrite(ticket, "json").fingerprint == ""
    assert ticket.attempt == 1


def test_what_the_program_declared_is_not_written_anew() -> None:
    entry = Entry(Route("scan", "/json"), "1", b"[5]", (), Options(), None, None)
    ticket = Ticket(Route("scan", "/json"), "1", b"[5]", (), Options(), None, None)
    ticket.unpack = lambda body: None
    assert (rewrite(ticket, ""), ticket.body) == (entry.route, b"[5]")


def test_what_cannot_be_written_otherwise_waits_on() -> None:
    ticket = Ticket(Route("scan"), "1", b"rubbish", (), Options(), None, None)
    ticket.unpack = spoken("scan", "").unpack_return
    assert (rewrite(ticket, "json"), ticket.body) == (ticket.route, b"rubbish")
    with pytest.raises(errors.UsageError):
        spoken("scan", "pickle")
