"""
Lines that lose, delay, reorder and double frames, interfaces that go down, and firewalls that forget, while a
caller has hundreds of tasks open.

Every test is of a mesh with a key and of one without, both at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from threading import Event
from time import monotonic

import pytest

from dingo_zmq import App
from tests.lan import MDNS, Host, Net, ready
from tests.net.office import Office, accounts, all_go_on, office
from tests.relay import Relay, Weather
from tests.support import PATIENCE, wait_until

__all__ = ["office"]

SEED, CHAOS = int(os.environ.get("SEED", "1")), float(os.environ.get("CHAOS", "0"))
"""of the faults drawn by lot, and for how many seconds"""
LONGEST = 8.0
"""seconds of such a fault"""
CALM = Weather()
STORMY = Weather(delay=0.2, jitter=0.1, loss=0.02, doubled=0.05)
ESTABLISHED = "01"
TASKS, REPORTS = 0, 1
"""whether the port of a node is even or odd"""


@pytest.fixture(scope="module")
def line(module_net: Net) -> Iterator[Relay]:
    """What b is behind."""
    lans = module_net.lan(), module_net.lan()
    relay = Relay(lans, CALM, seed=1)
    yield relay
    relay.close()


@pytest.fixture(scope="module")
def rooms(module_net: Net, line: Relay) -> Office:
    return Office(module_net, *module_net.lans)


@pytest.fixture(autouse=True)
def calm(line: Relay) -> Iterator[None]:
    """The line to b is good again after each test."""
    yield
    line.weather = CALM


def test_frames_are_lost(office: Office) -> None:
    works = office.work()
    for percent in (10, 30):
        office.lan.lossy(percent)
        wait_until(lambda: office.lan.lost() >= 100, "enough frames are lost")
        for work, before in [(work, work.done.total()) for work in works]:
            wait_until(lambda: work.done.total() > before, f"tasks are done all the same; {work}")
        office.lan.heal()
        all_go_on(works, "b", "c")
    accounts(works)


def test_frames_take_their_time_overtake_each_other_and_come_twice(office: Office, line: Relay) -> None:
    works = office.work()
    line.weather = STORMY
    all_go_on(works, "b", "c")
    wait_until(lambda: min(line.lost, line.doubled, line.overtaken) > 0, "all of that has happened")
    accounts(works)


def test_interfaces_go_down_and_up(office: Office) -> None:
    works = office.work()
    for host in (office.a, office.b):
        host.link(up=False)
        for work in works:
            wait_until(lambda: not is_ready(work.app, "b"), f"the caller notices; {work}")
        host.link(up=True)
        all_go_on(works, "b", "c")
    accounts(works)


def is_ready(app: App, name: str) -> bool:
    return any(peer.name == name and peer.state == "ready" for peer in app.peers())


def connections(caller: Host, node: Host, side: int) -> set[int]:
    """Return the caller's own ports of its connections to a node for tasks or for reports."""
    table = caller.inside(Path("/proc/thread-self/net/tcp").read_text)
    there = "".join(f"{int(part):02X}" for part in reversed(node.address.split(".")))
    ports = set()
    for line in table.splitlines()[1:]:
        _, here, far, state, *_ = line.split()
        address, port = far.split(":")
        if address == there and int(port, 16) % 2 == side and state == ESTABLISHED:
            ports.add(int(here.split(":")[1], 16))
    return ports


def test_connections_that_a_firewall_forgets_are_made_anew(office: Office) -> None:
    works, idle = office.work(), office.apps(office.a)
    for side in (TASKS, REPORTS):
        old = connections(office.a, office.b, side)
        assert len(old) == len(works) + len(idle)
        office.lan.forget(old)
        for app in idle:
            wait_until(lambda: not is_ready(app, "b"), "the caller notices")
        for app in idle:
            ready(app, 2)
            assert app.options(node="b").call("counted", os.devnull, 7, 0.0).result(PATIENCE) == [7, "b"]
        all_go_on(works, "b", "c")
        assert office.lan.lost() > 0
        assert not old & connections(office.a, office.b, side)
    accounts(works)


def test_nodes_are_found_where_half_of_multicast_is_lost(office: Office) -> None:
    office.lan.lossy(50, *MDNS)
    apps = [office.a.app() for _ in range(5)]
    wait_until(lambda: sum(len(app.peers()) for app in apps) >= len(apps), "half of the nodes are found")
    assert office.lan.lost() > 0
    office.lan.heal()
    for app in apps:
        assert set(ready(app, 2)) == {"b", "c"}


def cut(office: Office, line: Relay, dice: Random) -> None:
    hosts = dice.sample([office.a, office.c, office.d], dice.choice([1, 2]))
    office.lan.cut(*hosts, way=dice.choice(["both", "in", "out"]))


def lose(office: Office, line: Relay, dice: Random) -> None:
    office.lan.lossy(dice.choice([10, 30, 50]))


def storm(office: Office, line: Relay, dice: Random) -> None:
    line.weather = Weather(dice.uniform(0.1, 0.5), 0.1, dice.choice([0.0, 0.05, 0.2]), 0.1)


def take_down(office: Office, line: Relay, dice: Random) -> None:
    dice.choice([office.a, office.b, office.c, office.d]).link(up=False)


def forget(office: Office, line: Relay, dice: Random) -> None:
    caller, node = dice.choice([office.a, office.d]), dice.choice([office.b, office.c])
    office.lan.forget(connections(caller, node, dice.choice([TASKS, REPORTS])) or {1})


@pytest.mark.skipif(not CHAOS, reason="takes long; make chaos-net runs it")
@pytest.mark.timeout(CHAOS + LONGEST + 2 * PATIENCE)
def test_faults_drawn_by_lot(office: Office, line: Relay) -> None:
    works = office.work(office.a, office.d)
    dice, end = Random(SEED), monotonic() + CHAOS
    while monotonic() < end:
        fault = dice.choice([cut, lose, storm, take_down, forget])
        seconds = dice.uniform(0.1, LONGEST)
        print(f"{fault.__name__}, for {seconds:.1f} s")  # seen where it fails
        fault(office, line, dice)
        Event().wait(seconds)
        office.lan.heal()
        line.weather = CALM
        for host in (office.a, office.b, office.c, office.d):
            host.link(up=True)
        Event().wait(dice.uniform(0.0, 2.0))
    all_go_on(works, "b", "c")
    for account in accounts(works):
        print(account)
