"""Networks that forwarders join: what works through them, and which way it goes where there are several."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from dingo_zmq.errors import TaskCancelled
from dingo_zmq.mesh import keys
from dingo_zmq.mesh.discovery.port import Announcement
from dingo_zmq.mesh.discovery.txt import encode_txt
from dingo_zmq.model import Status
from tests.lan import Host, Net
from tests.net.labs import Ear, Labs, ears, forward, sees
from tests.net.strangers import announce
from tests.support import PATIENCE, wait_until

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def rooms(module_net: Net) -> Labs:
    """Four LANs with a node in each."""
    return Labs(module_net, 4)


@pytest.fixture
def labs(rooms: Labs, own_mesh: None) -> Iterator[Labs]:
    """The LANs of the module; at the end no forwarder and no caller is left."""
    with rooms.for_one_test():
        yield rooms


# ---------------------------------------------------------------------- what works


@pytest.mark.parametrize(("here", "there"), [("a", "b"), ("b", "a")])
def test_what_works_on_a_lan_works_through_a_forwarder(labs: Labs, here: str, there: str) -> None:
    labs.forward("ab")
    near, far = labs[here], labs[there]
    app = near.app()
    sees(app, **{here: [], there: ["ab"]})
    on_far = app.options(node=there)

    assert on_far.call("add", 2, 3).result(PATIENCE) == 5
    told = [report.status for report in app.options(node=there, monitor_progress=True).call("steps", 3).reports()]
    assert (told[0], told[-1]) == (Status.SENT, Status.SUCCESS)
    assert told.count(Status.PROGRESS) >= 3
    assert list(on_far.stream("count", 1000)) == list(range(1000))
    body = bytes(range(256)) * (MEGABYTE // 256)
    results = [on_far.call("reverse", body) for _ in range(8)]
    assert [result.result(PATIENCE) == body[::-1] for result in results] == [True] * 8

    running = on_far.call("doze")
    wait_until(lambda: any(task.started for task in app.ledger().tasks), "it has started")
    assert running.cancel(running=True)
    with pytest.raises(TaskCancelled):
        running.result(PATIENCE)
    gate = far.gate()
    held = [on_far.call("wait_at", gate.port, str(number)) for number in range(5)]
    for _ in range(4):
        gate.next()

    def load() -> tuple[Any, ...]:
        peers = {peer["name"]: peer for peer in json.loads(near.run("peers", "--json").out)}
        return peers[there]["running"], peers[there]["queued"]

    wait_until(lambda: load() == (4, 0), "the load is told")
    gate.open()
    assert [result.result(PATIENCE) for result in held] == list("01234")


def test_who_is_behind_a_forwarder_is_told(labs: Labs) -> None:
    forwarder = labs.forward("ab")
    a = labs["a"]
    app = a.app()
    sees(app, a=[], b=["ab"])
    peers = {peer["name"]: peer for peer in json.loads(a.run("peers", "--json").out)}

    (entry,) = peers["b"]["via"]
    assert entry.startswith("ab.")
    assert peers["a"]["via"] == []
    assert peers["b"]["sources"] == ["zeroconf"]
    assert peers["b"]["address"].startswith(f"tcp://{labs.between('ab').address}:47")
    assert "zeroconf via ab" in a.run("peers").out
    forwarder.line("left: 1 of 1 node passed on; right: 1 of 1 node passed on", "out")
    assert forwarder.stop() == 0
    sees(app, a=[])
    assert forwarder.err == ""


def test_a_task_is_watched_through_a_forwarder(labs: Labs) -> None:
    labs.forward("ab")
    app = labs["a"].app()
    sees(app, a=[], b=["ab"])
    watch = labs["a"].program("watch", f"{app.engine().id}/steps")

    def watched() -> bool:
        app.options(node="b").call("steps", 1).result(PATIENCE)
        return "SUCCESS" in watch.out

    wait_until(watched, "it sees what is done")
    watch.line("PROGRESS 100% step 1", "out")
    watch.signal(signal.SIGINT)
    assert watch.wait() == 130
    lines = watch.out.splitlines()
    assert all(f"{app.engine().id}/steps/" in line for line in lines)
    assert len({line.split(" ", 1)[1] for line in lines}) == len(lines), "a report came twice"


STUCK = """
from dingo_zmq import App
app = App("mesh")
results = [app.options(node="b").call("zeros", 100_000) for _ in range(500)]
results[0].result(30)
print("going", flush=True)
for result in results:
    assert len(result.result(60)) == 100_000
print("all there", flush=True)
app.close()
"""


def test_a_caller_that_is_stuck_holds_up_nobody_else(labs: Labs) -> None:
    labs.forward("ab")
    app = labs["a"].app()
    sees(app, a=[], b=["ab"])
    stuck = labs["a"].script(STUCK)
    stuck.line("going")
    stuck.signal(signal.SIGSTOP)
    call = app.options(node="b").call
    results = [call("echo", number) for number in range(10_000)]

    assert [result.result(PATIENCE) for result in results] == list(range(10_000))
    assert stuck.out == "going\n"
    stuck.signal(signal.SIGCONT)
    stuck.line("all there")


# ---------------------------------------------------------------------- keys


@pytest.mark.parametrize("right", ["other key", "no key"])
def test_each_side_has_its_own_way_in(net: Net, right: str) -> None:
    lans = net.lan(), net.lan()
    a, f, b = net.host("a", lans[0]), net.host("f", *lans), net.host("b", lans[1], key=False)
    words: tuple[str, ...] = ()
    if right == "other key":
        b.mesh_key(keys.new_key("mesh"))
        forwarder = forward(f, "--right-key", str(b.key_file))
    else:
        words = ("--insecure-lan",)
        forwarder = forward(f, "--right-insecure-lan")
    a.node()
    b.node(*words)
    left, other = a.app(), b.app(insecure_lan=bool(words))
    sees(left, a=[], b=["f"])
    sees(other, a=["f"], b=[])

    assert left.options(node="b").call("add", 2, 3).result(PATIENCE) == 5
    assert other.options(node="a").call("add", 2, 3).result(PATIENCE) == 5
    assert forwarder.err == ""


def test_a_key_that_a_side_does_not_have_opens_nothing(net: Net) -> None:
    lans = net.lan(), net.lan()
    a, f, b = net.host("a", lans[0]), net.host("f", *lans), net.host("b", lans[1], key=False)
    b.mesh_key(keys.new_key("mesh"))
    forwarder = forward(f)
    b.node()
    forwarder.line("b: locked out: it has another key")
    thief = net.host("t", lans[0], key=False)
    thief.mesh_key(keys.new_key("mesh"))
    a.node()
    forwarder.line("left: 1 of 1 node passed on")
    peers = b.run("peers")

    assert "a at tcp://" in peers.out + peers.err
    assert "it has another key" in peers.out + peers.err


# ---------------------------------------------------------------------- several forwarders


def test_three_lans_in_a_row(labs: Labs) -> None:
    labs.forward("ab")
    labs.forward("bc")
    first, last = labs["a"].app(), labs["c"].app()
    sees(first, a=[], b=["ab"], c=["bc", "ab"])
    sees(last, a=["ab", "bc"], b=["bc"], c=[])

    assert first.options(node="c").call("add", 2, 3).result(PATIENCE) == 5
    assert list(last.options(node="a").stream("count", 100)) == list(range(100))
    assert sorted(first.map("echo", range(3000))) == list(range(3000))


def test_two_forwarders_between_the_same_lans(labs: Labs) -> None:
    with ears(labs["a"], labs["b"]) as (left, right):
        one = labs.forward("ab")
        labs.forward("ab2")
        app = labs["a"].app()
        sees(app, a=[], b=None)
        wait_until(lambda: (left.paths("b"), right.paths("a")) == ([1, 1], [1, 1]), "both announce it")
        results = [app.options(node="b").call("echo", number) for number in range(3000)]
        one.signal(signal.SIGKILL)
        assert [result.result(PATIENCE) for result in results] == list(range(3000))
        sees(app, a=[], b=["ab2"])
        nobody_is_told_of_himself(a=left, b=right)


def test_four_lans_in_a_ring(labs: Labs) -> None:
    with ears(*labs.hosts) as heard:
        forwarders = [labs.forward(name, wait=False) for name in ("ab", "bc", "cd", "da")]
        for forwarder in forwarders:
            forwarder.line("forward ", "out")
        app = labs["a"].app()
        sees(app, a=[], b=["ab"], c=None, d=["da"])
        hops = {"a": [0], "b": [1], "c": [2, 2], "d": [1]}
        wait_until(lambda: {name: heard[0].paths(name) for name in hops} == hops, "all ways are known")
        results = [app.call("echo", number) for number in range(3000)]
        forwarders[1].signal(signal.SIGKILL)
        assert [result.result(PATIENCE) for result in results] == list(range(3000))
        sees(app, a=[], b=["ab"], c=["cd", "da"], d=["da"])
        nobody_is_told_of_himself(**dict(zip("abcd", heard, strict=True)))


def nobody_is_told_of_himself(**heard: Ear) -> None:
    """Wait until no node is announced by a forwarder on its own LAN; no way ever had a forwarder twice."""
    for name, ear in heard.items():
        wait_until(lambda ear=ear, name=name: ear.paths(name) == [0], f"{name} is at home: {ear.ever}")
        assert all(len(set(said.path)) == len(said.path) for said in ear.ever)


def test_a_node_that_is_seen_directly_is_used_directly(labs: Labs) -> None:
    labs.forward("ab")
    both = labs.between("both", "ab")
    caller = both.app()
    sees(caller, a=[], b=[])
    assert caller.options(node="b").call("add", 2, 3).result(PATIENCE) == 5

    both.link(up=False, interface="lan1")
    results = [caller.options(node="b").call("echo", number) for number in range(100)]
    sees(caller, a=[], b=["ab"])
    assert [result.result(PATIENCE) for result in results] == list(range(100))
    both.link(up=True, interface="lan1")
    sees(caller, a=[], b=[])
    assert caller.options(node="b").call("add", 2, 3).result(PATIENCE) == 5


# ---------------------------------------------------------------------- bad input


def refuses(host: Host, *words: str) -> str:
    """Return what a forwarder says that does not start."""
    forwarder = host.run("forward", *words)
    assert (forwarder.process.returncode, forwarder.out) == (2, "")
    assert "Traceback" not in forwarder.err
    return forwarder.err


def test_sides_that_will_not_do(labs: Labs) -> None:
    host = labs.between("ab")
    left = ("--left", "lan0")

    assert "both sides are the same network, 10.77.1.0/24" in refuses(host, *left, "--right", "lan0")
    assert "both sides are the same network" in refuses(host, *left, "--right", host.address)
    assert "no address or interface 'lan7'" in refuses(host, *left, "--right", "lan7")
    assert "--right is missing" in refuses(host, *left)
    assert "both sides only name nodes" in refuses(
        host, "--left", "tcp://10.77.1.1:47100", "--right", "tcp://1.2.3.4:5"
    )
    assert "tcp://nowhere" in refuses(host, *left, "--right", "tcp://nowhere")
    assert "nothing.key" in refuses(host, *left, "--right", "lan1", "--right-key", "nothing.key")


def test_a_forwarder_that_is_given_its_own_stand_in(labs: Labs) -> None:
    before = labs.forward("ab")
    sees(labs["b"].app(), a=["ab"], b=[])
    (own,) = [peer["address"] for peer in json.loads(labs["b"].run("peers", "--json").out) if peer["name"] == "a"]
    before.stop()
    forwarder = labs.forward("ab", "--right", own)
    forwarder.line("a at " + own + " is this forwarder itself; it is left out")
    app = labs["b"].app()
    sees(app, a=["ab"], b=[])

    assert app.options(node="a").call("add", 2, 3).result(PATIENCE) == 5


def test_a_node_of_another_version_is_left_out(labs: Labs) -> None:
    forwarder = labs.forward("ab")
    forwarder.line("left: 1 of 1 node", "out")
    a = labs["a"]
    pair = (f"tcp://{a.address}:48000",), (f"tcp://{a.address}:48001",)
    announce(a, {"later": encode_txt(Announcement("later", "later", a.mesh, "aa", 9, *pair))})
    forwarder.line("left: later at tcp://10.77.1.1:48000 speaks version 9 of the protocol, which this forwarder")

    sees(labs["b"].app(), a=["ab"], b=[])
