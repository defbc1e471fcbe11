"""Forwarders, nodes and links that fail while tasks go from one LAN to another."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from threading import Event
from time import monotonic

import pytest

from dingo_zmq import App
from dingo_zmq.events import EventCode
from dingo_zmq.mesh.discovery.port import split_tcp
from tests.lan import Host, Net, ready
from tests.net import counted
from tests.net.labs import Labs, sees
from tests.net.work import Work
from tests.support import wait_until

SECONDS = float(os.environ.get("FORWARD", "16"))
"""for which forwarders are killed; for longer: `FORWARD=600 pytest -o timeout=0` with this file"""
PAUSE_SECONDS = 3.0
"""between two kills, beside what it takes to start anew and to be used again: about 5 in all"""
SOON_SECONDS = 10.0


@pytest.fixture(scope="module")
def rooms(module_net: Net) -> Labs:
    """Two LANs; the node of each has two processes."""
    return Labs(module_net, 2, counted.__file__, "--processes", "2")


@pytest.fixture(scope="module")
def late(rooms: Labs) -> Host:
    """Another host of the second LAN, where nothing runs yet."""
    return rooms.net.host("late", rooms.lans[1])


@pytest.fixture
def labs(rooms: Labs, late: Host, own_mesh: None) -> Iterator[Labs]:
    """The LANs of the module; at the end no forwarder and no caller is left."""
    with rooms.for_one_test():
        yield rooms


def work(labs: Labs, app: App) -> Work:
    """Begin to work with all nodes."""
    work = Work(app, labs.net.folder / secrets.token_hex(4), open=100)
    goes_on([work], "a", "b")
    return work


def goes_on(works: list[Work], *hosts: str) -> None:
    """Wait until tasks that are sent from now on are done on each of these hosts."""
    for work, first in [(work, work.sent) for work in works]:
        wait_until(lambda: work.more_done(hosts, first), f"tasks are done on {hosts}; {work}")


def test_a_forwarder_that_is_killed_again_and_again_loses_nothing(labs: Labs) -> None:
    forwarder = labs.forward("ab")
    apps = [labs["a"].app(), labs["b"].app()]
    for app in apps:
        ready(app, 4)
    works = [work(labs, app) for app in apps]
    end = monotonic() + SECONDS
    while monotonic() < end:
        goes_on(works, "a", "b")
        Event().wait(PAUSE_SECONDS)
        forwarder.signal(signal.SIGKILL)
        forwarder.wait()
        forwarder = labs.forward("ab")
    goes_on(works, "a", "b")

    for each in works:
        each.stop()
    for each in works:
        account = each.account()  # that nothing is lost, poisoned, settled twice or begun again for no reason
        assert account.again <= account.given_up


def test_tasks_of_a_node_that_dies_behind_a_forwarder_are_done_elsewhere(labs: Labs, late: Host) -> None:
    labs.forward("ab")
    node = late.node("--threads", "4", target=counted.__file__)
    app = labs["a"].app()
    sees(app, **{"a/1": [], "a/2": [], "b/1": ["ab"], "b/2": ["ab"], "late": ["ab"]})
    mine = work(labs, app)
    goes_on([mine], "late")
    node.signal(signal.SIGKILL)
    wait_until(lambda: mine.count(EventCode.LOST, "late"), f"it is lost; {mine}", SOON_SECONDS)
    given_up = mine.given_up()
    wait_until(lambda: given_up <= mine.settled_at.keys(), f"all that was there is done; {mine}", SOON_SECONDS)
    sees(app, **{"a/1": [], "a/2": [], "b/1": ["ab"], "b/2": ["ab"]})
    mine.stop()

    assert mine.account().given_up > 0


def test_links_of_a_forwarder_go_and_come_back(labs: Labs) -> None:
    labs.forward("ab")
    host, app = labs.between("ab"), labs["a"].app()
    everything = {"a/1": [], "a/2": [], "b/1": ["ab"], "b/2": ["ab"]}
    sees(app, **everything)
    mine = work(labs, app)
    host.link(up=False, interface="lan1")
    for node in ("b/1", "b/2"):
        mine.told(EventCode.LOST, node)
    host.link(up=True, interface="lan1")
    goes_on([mine], "a", "b")
    host.link(up=False, interface="lan0")
    wait_until(lambda: {peer.name for peer in app.peers() if peer.state != "ready"} >= {"b/1", "b/2"}, "it breaks")
    host.link(up=True, interface="lan0")
    goes_on([mine], "a", "b")
    mine.stop()

    account = mine.account()
    assert account.given_up > 0
    assert account.again <= account.given_up
    sees(app, **everything)


def reached_at(app: App) -> set[str]:
    """Return the addresses at which nodes behind forwarders are reached."""
    return {split_tcp(peer.address)[0] for peer in app.peers() if peer.via}


def test_an_interface_of_a_forwarder_goes_and_comes_back_with_another_address(labs: Labs) -> None:
    forwarder = labs.forward("ab")
    host = labs.between("ab")
    apps = labs["a"].app(), labs["b"].app()
    for app in apps:
        ready(app, 4)
    host.remove_interface("lan0")
    forwarder.line("its connection broke")
    host.rejoin("lan0")
    for app, interface in zip(apps, ("lan0", "lan1"), strict=True):
        wait_until(lambda: reached_at(app) == {host.addresses[interface]}, f"they are found at {interface}")
    sees(apps[0], **{"a/1": [], "a/2": [], "b/1": ["ab"], "b/2": ["ab"]})
    sees(apps[1], **{"a/1": ["ab"], "a/2": ["ab"], "b/1": [], "b/2": []})
    works = [work(labs, app) for app in apps]

    for each in works:
        each.stop()
    assert [each.account()[1:] for each in works] == [(0, 0, 0)] * 2
