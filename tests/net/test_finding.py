"""Nodes are found and reached on whatever LANs there are, with no address typed unless a test says so."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.lan import Host, Lan, Net, ready
from tests.support import PATIENCE, Program, wait_until


class Office(NamedTuple):
    """Two LANs: a and b are on the first one, far is on the second one, and both is on both; b has a node."""

    net: Net
    lan: Lan
    a: Host
    b: Host
    both: Host
    far: Host
    node: Program


@pytest.fixture(scope="module")
def rooms(module_net: Net) -> Office:
    first, second = module_net.lan(), module_net.lan()
    a, b = module_net.host("a", first), module_net.host("b", first)
    both, far = module_net.host("both", first, second), module_net.host("far", second)
    return Office(module_net, first, a, b, both, far, b.node())


@pytest.fixture
def office(rooms: Office, own_mesh: None) -> Iterator[Office]:
    with rooms.net.for_one_test():
        yield rooms


def listed(host: Host, *words: str) -> dict[str, dict[str, Any]]:
    """Return what ``dingo-zmq peers`` says, by name."""
    ran = host.run("peers", "--json", *words)
    return {peer["name"]: peer for peer in json.loads(ran.out)}


def test_each_of_three_machines_can_call(office: Office) -> None:
    calls = [host.program("call", "add", "2", "3") for host in (office.a, office.b, office.both)]

    assert [call.wait() for call in calls] == [0, 0, 0]
    assert [(call.out, call.err) for call in calls] == [("5\n", "")] * 3


def test_the_nearest_address_is_taken(office: Office) -> None:
    assert f"tcp://{office.b.address}:47100" in office.node.line("node b: ", "out")
    assert ready(office.a.app())["b"].address == f"tcp://{office.b.address}:47100"
    assert ready(office.b.app())["b"].address == "tcp://127.0.0.1:47100"


def test_peers_shows_address_and_state(office: Office) -> None:
    peer = listed(office.a)["b"]

    assert peer["address"] == f"tcp://{office.b.address}:47100"
    assert peer["state"] == "ready"
    assert peer["sources"] == ["zeroconf"]


def test_a_node_on_two_lans_is_reached_from_each(office: Office) -> None:
    office.both.node()
    near, far = office.a.app(), office.far.app()

    assert ready(near, 2)["both"].address == f"tcp://{office.both.addresses['lan0']}:47100"
    assert ready(far)["both"].address == f"tcp://{office.both.addresses['lan1']}:47100"
    assert far.call("add", 2, 3).result(PATIENCE) == 5


@pytest.mark.parametrize("word", ["an address", "an interface"])
def test_a_node_bound_to_one_lan_is_not_on_the_other(office: Office, word: str) -> None:
    there = office.both.addresses["lan1"]
    office.both.node("--bind", there if word == "an address" else "lan1")

    assert office.far.run("call", "add", "2", "3").out == "5\n"
    assert list(ready(office.a.app())) == ["b"]
    with pytest.raises(ConnectionRefusedError):
        office.a.inside(socket.create_connection, (office.both.addresses["lan0"], 47100), PATIENCE)


def test_binding_to_an_address_of_another_machine_is_a_clear_error(office: Office) -> None:
    node = office.both.program("node", "tests/served.py", "--bind", "10.99.9.9")

    assert node.wait() == 2
    assert "10.99.9.9" in node.err
    for address in office.both.addresses.values():
        assert address in node.err
    assert "Traceback" not in node.err


def test_an_advertised_address_that_nobody_has_does_no_harm(office: Office) -> None:
    nobody = f"10.77.{office.lan.subnet}.250"
    office.both.node("--advertise", nobody, "--advertise", office.both.address)
    app = office.a.app()

    assert ready(app, 2)["both"].address == f"tcp://{office.both.address}:47100"


def test_what_is_advertised_replaces_the_addresses(office: Office) -> None:
    office.both.node("--advertise", office.both.address, "--port", "47200")
    port = ready(office.a.app(), 2)["both"].address.rpartition(":")[2]
    far = office.far.app()

    assert port == "47200"
    assert ready(office.both.app(), 2)["both"].address == "tcp://127.0.0.1:47200"  # by the folder
    result = far.call("add", 2, 3)
    wait_until(far.peers, "it hears of the node")
    assert not result.done()  # there is no way to the other LAN
    assert "both" in result.why()


def test_several_nodes_of_one_machine_are_several(office: Office) -> None:
    one = office.both.program("node", "tests/served.py", "--processes", "2", "--threads", "1")
    other = office.both.program("node", "tests/served.py", "--name", "other", "--threads", "1")
    for program in (one, other):
        program.line("node ", "out")
    gate, app = office.both.gate(), office.far.app()
    found = ready(app, 3)
    results = [app.call("wait_at", gate.port) for _ in found]
    visitors = [gate.next() for _ in found]

    assert sorted(found) == ["both/1", "both/2", "other"]
    assert len({peer.address for peer in found.values()}) == 3
    assert len({visitor.pid for visitor in visitors}) == 3
    gate.open()
    for result in results:
        result.result(PATIENCE)


def test_two_machines_of_one_name_are_two(office: Office) -> None:
    office.both.node("--name", "b")
    app = office.far.app()
    office.far.node("--name", "b")

    wait_until(lambda: [(p.name, p.state) for p in app.peers()] == [("b", "ready")] * 2, "there are two of them")


def test_two_meshes_on_one_lan_never_meet(office: Office) -> None:
    office.both.node("--mesh", "other", "--name", "stranger")
    app = office.a.app(mesh="other")

    assert list(ready(app)) == ["stranger"]
    assert list(ready(office.a.app())) == ["b"]
    peer = f"tcp://{office.both.address}:47100"
    call = office.a.run("call", "--peer", peer, "--discovery", "none", "--timeout", "1", "add", "2", "3")
    assert call.wait() == 3
    assert "belongs to mesh 'other'" in call.err


def test_ipv6_alone_will_do(net: Net) -> None:
    lan = net.lan()
    a, b = net.host("a", lan, ipv4=False), net.host("b", lan, ipv4=False)
    b.node()
    app = a.app()

    assert ready(app)["b"].address == f"tcp://[{b.link_local()}%lan0]:47100"
    assert app.call("add", 2, 3).result(PATIENCE) == 5
    assert a.run("call", "add", "2", "3").out == "5\n"


def test_ipv4_alone_will_do(net: Net) -> None:
    lan = net.lan()
    a, b = net.host("a", lan, ipv6=False), net.host("b", lan, ipv6=False)
    b.sysctl("ipv6/conf/all/disable_ipv6", 1)
    b.node()

    assert a.run("call", "add", "2", "3").out == "5\n"


@pytest.mark.parametrize("who", ["the switch", "the caller's firewall", "the node's firewall"])
def test_where_multicast_is_blocked_an_address_will_do(net: Net, who: str) -> None:
    lan = net.lan()
    a, b = net.host("a", lan), net.host("b", lan)
    {"the switch": lan, "the caller's firewall": a, "the node's firewall": b}[who].no_multicast()
    b.node()
    call = a.program("call", "add", "2", "3", "--timeout", "1")
    told = a.program("call", "--peer", f"tcp://{b.address}:47100", "add", "2", "3")

    assert (told.wait(), told.out) == (0, "5\n")
    assert call.wait() == 3
    assert f"no node of mesh '{net.mesh}' has been found" in call.err
    assert "or give the address of one: --peer tcp://host:port" in call.err
    assert "Traceback" not in call.err + told.err
