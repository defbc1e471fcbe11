"""``dingo-zmq peers``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import Gate, Mesh, Program, wait_until


@pytest.fixture(scope="module", autouse=True)
def nodes(module_mesh: Mesh) -> list[Program]:
    return [module_mesh.node(name, "--threads", threads) for name, threads in (("beta", "1"), ("alpha", "3"))]


def listed(
    mesh: Mesh, *words: str, enough: Callable[[list[dict[str, Any]]], bool] = bool, code: int = 0
) -> list[dict[str, Any]]:
    """Look around until that is enough: a busy machine may need more than one look."""

    def look() -> list[dict[str, Any]]:
        peers = mesh.invoke("peers", "--json", *words)
        assert peers.code in (0, 3)
        found = json.loads(peers.out)
        return sorted(found, key=lambda peer: peer["name"]) if peers.code == code and enough(found) else []

    return wait_until(look, "enough nodes")


def with_pulses(count: int) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda found: sum(peer["pulse_age"] is not None for peer in found) == count


def test_a_table(shared: Mesh) -> None:
    peers = wait_until(lambda: (ran := shared.invoke("peers")).out.count("s ago") == 2 and ran, "both nodes")
    assert (peers.code, peers.err) == (0, "")
    head = next(line for line in peers.out.splitlines() if "name" in line)
    for column in (
        "name",
        "address",
        "state",
        "found by",
        "tags",
        "functions",
        "workers",
        "running",
        "queued",
        "round trip",
        "pulse",
    ):
        assert column in head
    assert "version" not in head  # it is ours
    rows = [line for line in peers.out.splitlines() if "tcp://" in line]
    assert [next(name for name in ("alpha", "beta") if name in row) for row in rows] == ["alpha", "beta"]
    assert all("add" in row and "ready" in row and "directory" in row and "s ago" in row for row in rows)


def test_json(shared: Mesh, nodes: list[Program], gate: Gate) -> None:
    app = shared.app()
    held = [app.call("wait_at", gate.port) for _ in range(4)]
    for _ in range(4):
        gate.next()
    alpha, beta = listed(shared, enough=with_pulses(2))
    assert (alpha["name"], beta["name"]) == ("alpha", "beta")
    assert (alpha["running"], beta["running"]) == (3, 1)
    assert (alpha["queued"], beta["queued"]) == (0, 0)
    assert (alpha["state"], alpha["sources"], alpha["version"]) == ("ready", ["directory"], 1)
    assert alpha["address"] == shared.address(nodes[1])
    assert alpha["functions"]["add"] == "(a: int, b: int = 5) -> int"
    assert 0 <= alpha["pulse_age"] < 60
    assert alpha["node"] != beta["node"]
    assert not any(result.done() for result in held)


def test_two_nodes_of_one_name_are_told_apart(mesh: Mesh, gate: Gate) -> None:
    """Such as two nodes that nobody named on one host."""
    for _ in range(2):
        mesh.node("twin", "--threads", "1")
    app = mesh.app()
    app.call("wait_at", gate.port)
    gate.next()
    found = listed(mesh, enough=with_pulses(2))
    assert [peer["name"] for peer in found] == ["twin", "twin"]
    assert sorted(peer["running"] for peer in found) == [0, 1]


def test_nobody(mesh: Mesh) -> None:
    peers = mesh.invoke("peers", "--wait", "0.1")
    assert (peers.code, peers.out) == (3, "")
    assert peers.err.splitlines() == [
        f"error: no node of mesh '{mesh.name}' was found in 0.1 s",
        "hint: start one here with: dingo-zmq node FILE.py; to meet those of other machines, "
        "this one needs their mesh key, which dingo-zmq keygen makes",
    ]
    peers = mesh.invoke("peers", "--wait", "0.1", "--json")
    assert (peers.code, json.loads(peers.out)) == (3, [])


def test_a_node_that_refuses_us(shared: Mesh, nodes: list[Program]) -> None:
    address = shared.address(nodes[0])
    where = ["--mesh", "elsewhere", "--peer", address, "--discovery", "none", "--wait", "0.2"]
    (peer,) = listed(shared, *where, enough=lambda found: "refused us" in found[0]["state"], code=3)
    refused = f"refused us: beta belongs to mesh '{shared.name}', not 'elsewhere'"
    assert peer["state"] == refused
    peers = shared.invoke("peers", *where[:-1], "1.5")
    assert peers.code == 3
    assert peers.out.splitlines()[-1] == f"{address} at {address}: {refused}"
    assert peers.err == "error: no node of mesh 'elsewhere' can be used\n"


def test_a_node_with_another_key(shared: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINGO_ZMQ_CONFIG_DIR", str(tmp_path))
    locked = ["locked out"] * 2
    listed(shared, "--wait", "0.2", enough=lambda found: [peer["state"] for peer in found] == locked, code=3)
    peers = shared.invoke("peers")
    assert peers.code == 3
    lines = [line for line in peers.out.splitlines() if ": locked out" in line]
    assert [line.split(" at tcp://")[0] for line in lines] == ["alpha", "beta"]
    assert peers.out.splitlines()[-2:] == lines
    assert peers.err.splitlines() == [
        f"error: no node of mesh '{shared.name}' can be used",
        "hint: all machines of a mesh need the same key; dingo-zmq keygen makes one, to be copied to the others",
    ]


def test_nodes_of_another_mesh(shared: Mesh) -> None:
    peers = shared.invoke("peers", "--mesh", "elsewhere", "--wait", "0.5")
    assert (peers.code, peers.out) == (3, f'2 nodes are here too, of mesh "{shared.name}"\n')
    assert peers.err.startswith("error: no node of mesh 'elsewhere' was found in 0.5 s\n")


def test_tags_workers_and_round_trip(mesh: Mesh) -> None:
    mesh.node("bench", "--threads", "2", "--tag", "psu", "--tag", "fast")
    (peer,) = listed(mesh, enough=lambda found: [peer["round_trip"] is not None for peer in found] == [True])
    assert peer["tags"] == ["fast", "psu"]
    assert peer["slots"] == peer["function_slots"]["add"] == 2
    assert peer["function_slots"]["later"] == 64  # a coroutine function
    assert peer["function_slots"].keys() == peer["functions"].keys()
    assert 0 < peer["round_trip"] < 60
