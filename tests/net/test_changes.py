"""Addresses, interfaces, links and nodes that come and go while callers have tasks."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dingo_zmq import App
from dingo_zmq.errors import DingoError
from tests.lan import Host, Net, ready
from tests.support import PATIENCE, Program, wait_until

QUESTIONS = 6
"""one more than zeroconf itself and we ask at first; we ask again every few seconds, for half a minute"""
MORE = 1000
"""tasks that a caller still sends after a change, before it stops"""


class Load:
    """
    Tasks that a caller sends without a pause; they return their number.

    Args:
        app: the caller.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._end: float = float("inf")
        self.sent = self.done = 0
        self.wrong: list[Any] = []
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def _numbers(self) -> Iterator[int]:
        while self.sent < self._end:
            yield self.sent
            self.sent += 1

    def _run(self) -> None:
        try:
            for number, value in enumerate(self._app.map("echo", self._numbers(), ahead=200)):
                self.done += 1
                if number != value:
                    self.wrong.append((number, value))
        except DingoError as exc:
            self.wrong.append(exc)

    def goes_on(self) -> None:
        """Wait until tasks that are sent from now on are done."""
        goal = self.sent + MORE
        wait_until(lambda: self.done >= goal, f"task {goal} is done")

    def finish(self) -> None:
        """Send no more, and see that every task has returned its number."""
        self._end = 0
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        assert self.done == self.sent
        assert self.wrong == []


def change_address(node: Host, caller: Host) -> str:
    """Give the node another address instead of its only one, as a DHCP server may."""
    old = node.address
    node.add_address(f"10.77.1.{100 + int(old.rpartition('.')[2])}")
    node.remove_address(old)
    return node.address


def change_own_address(node: Host, caller: Host) -> str:
    """Give the caller another address instead of its only one."""
    change_address(caller, node)
    return node.address


def remove_interface(node: Host, caller: Host) -> str:
    node.remove_interface("lan0")
    return node.addresses["lan1"]


def pull_plug(node: Host, caller: Host) -> str:
    node.link(up=False, interface="lan0")
    return node.addresses["lan1"]


@pytest.fixture(scope="module", autouse=True)
def early_call(module_net: Net) -> Iterator[Program]:
    """
    A call that waits for a node, which has started while its link was cut.

    It begins before all tests, since it takes long; the link heals once the first questions are lost.
    """
    lan = module_net.lan()
    a, b = module_net.host("a", lan), module_net.host("b", lan)
    capture = a.capture()
    lan.cut(b)
    call = a.program("call", "add", "2", "3", "--timeout", str(2 * PATIENCE))
    b.node()

    def asked() -> int:
        return sum(frame.source == a.address and 5353 in frame.ports for frame in capture.frames())

    def heal() -> None:
        wait_until(lambda: asked() >= QUESTIONS, "the caller has asked what it asks at first")
        lan.heal()

    thread = threading.Thread(target=heal, name="heal", daemon=True)
    thread.start()
    yield call
    thread.join()


@pytest.mark.parametrize("change", [change_address, change_own_address, remove_interface, pull_plug])
def test_nothing_is_lost_when_the_way_changes(net: Net, change: Callable[[Host, Host], str]) -> None:
    one, other = net.lan(), net.lan()
    lans = (one,) if "address" in change.__name__ else (one, other)
    a, b = net.host("a", *lans, ipv6=False), net.host("b", *lans, ipv6=False)
    b.node()
    app = a.app()
    assert ready(app)["b"].address == f"tcp://{b.address}:47100"
    load = Load(app)
    load.goes_on()
    expected = change(b, a)
    load.goes_on()
    load.finish()

    assert ready(app)["b"].address == f"tcp://{expected}:47100"
    assert len(app.peers()) == 1


def test_a_node_without_an_address_for_a_while(net: Net) -> None:
    lan = net.lan()
    a, b = net.host("a", lan, ipv6=False), net.host("b", lan, ipv6=False)
    b.node("--threads", "1")
    app, gate = a.app(), b.gate()
    running, queued = app.call("wait_at", gate.port, "word"), app.call("add", 2, 3)
    gate.next()
    b.remove_address(b.address)
    wait_until(lambda: app.peers()[0].state != "ready", "the caller notices")
    b.add_address(lan.free_address())
    assert list(ready(app)) == ["b"]
    gate.open()

    assert running.result(PATIENCE) == "word"
    assert queued.result(PATIENCE) == 5


def test_a_node_that_keeps_to_an_interface_follows_its_addresses(net: Net) -> None:
    lan, other = net.lan(), net.lan()
    a, b = net.host("a", lan, other, ipv6=False), net.host("b", lan, other, ipv6=False)
    b.node("--bind", "lan0")
    app = a.app()
    old = b.address
    assert ready(app)["b"].address == f"tcp://{old}:47100"
    b.remove_address(old)
    wait_until(lambda: app.peers()[0].state != "ready", "the caller notices")
    b.add_address(lan.free_address())

    assert ready(app)["b"].address == f"tcp://{b.address}:47100"
    assert app.call("add", 2, 3).result(PATIENCE) == 5
    assert a.run("call", "add", "2", "3").out == "5\n"
    with pytest.raises(ConnectionRefusedError):
        a.inside(socket.create_connection, (b.addresses["lan1"], 47100), PATIENCE)


def test_nothing_is_lost_when_two_nodes_swap_their_addresses(net: Net) -> None:
    lan = net.lan()
    a, b, c = (net.host(name, lan, ipv6=False) for name in "abc")
    first, second = b.address, c.address
    b.node()
    c.node()
    app = a.app()
    assert len(ready(app, 2)) == 2
    load = Load(app)
    load.goes_on()
    for host, old in ((b, first), (c, second)):
        host.remove_address(old)
    b.add_address(second)
    c.add_address(first)
    load.goes_on()

    def swapped() -> bool:
        return {peer.name: peer.address.split(":")[1][2:] for peer in app.peers()} == {"b": second, "c": first}

    wait_until(swapped, "the caller knows where they are now")
    assert len(ready(app, 2)) == 2
    load.finish()


def test_a_cable_that_is_out_for_a_while(net: Net) -> None:
    lan = net.lan()
    a, b = net.host("a", lan), net.host("b", lan)
    b.node()
    app = a.app()
    load = Load(app)
    load.goes_on()
    lan.plug(b, up=False)
    result = app.call("add", 2, 3)
    wait_until(lambda: app.peers()[0].state != "ready", "the caller notices")
    assert not result.done()
    lan.plug(b)
    assert result.result(PATIENCE) == 5
    load.goes_on()
    load.finish()


def test_a_node_that_is_killed_and_started_again(net: Net) -> None:
    lan = net.lan()
    a, b = net.host("a", lan), net.host("b", lan)
    first = b.node("--threads", "1")
    app, gate = a.app(), b.gate()
    results = [app.call("wait_at", gate.port, str(number)) for number in range(20)]
    assert gate.next().attempt == 1
    first.signal(signal.SIGKILL)
    first.wait()
    b.node("--threads", "1")
    second = gate.next()
    gate.open()

    assert second.attempt == 2
    assert [result.result(PATIENCE) for result in results] == [str(number) for number in range(20)]
    assert list(ready(app)) == ["b"]


def test_a_node_that_is_killed_after_its_address_has_changed_is_lost_at_once(net: Net) -> None:
    lan = net.lan()
    a, b = net.host("a", lan), net.host("b", lan)
    node = b.node()
    app = a.app()
    ready(app)
    change_address(b, a)
    wait_until(lambda: [p.address for p in app.peers()] == [f"tcp://{b.address}:47100"], "it has moved")
    ready(app)
    node.signal(signal.SIGKILL)

    wait_until(lambda: [p.state for p in app.peers()] == ["apart"], "its ports are closed")


def test_a_node_that_is_killed_is_lost_though_another_address_of_it_is_silent(net: Net) -> None:
    lan = net.lan()
    a, b = net.host("a", lan), net.host("b", lan)
    node = b.node("--advertise", b.address, "--advertise", lan.free_address())
    app = a.app()
    ready(app)
    node.signal(signal.SIGKILL)

    wait_until(lambda: [p.state for p in app.peers()] == ["apart"], "its ports are closed")


def test_a_node_that_goes_home_is_said_to_be_gone(net: Net) -> None:
    lan = net.lan()
    a, b, c = net.host("a", lan), net.host("b", lan), net.host("c", lan)
    b.node()
    leaving = c.node()
    app = a.app()
    assert sorted(ready(app, 2)) == ["b", "c"]
    assert leaving.stop() == 0
    wait_until(lambda: [peer.name for peer in app.peers()] == ["b"], "it is forgotten")

    assert app.call("add", 2, 3).result(PATIENCE) == 5


def test_a_node_that_came_while_the_link_was_cut_is_found_after_healing(early_call: Program) -> None:
    assert early_call.process.wait(2 * PATIENCE) == 0
    early_call.wait()
    assert early_call.out == "5\n"


def test_the_ipv4_address_goes_and_the_link_local_one_stays(net: Net) -> None:
    lan = net.lan()
    a, b = net.host("a", lan), net.host("b", lan)
    b.node()
    app = a.app()
    assert ready(app)["b"].address == f"tcp://{b.address}:47100"
    load = Load(app)
    load.goes_on()
    b.remove_address(b.address)
    load.goes_on()
    load.finish()

    assert ready(app)["b"].address == f"tcp://[{b.link_local()}%lan0]:47100"
