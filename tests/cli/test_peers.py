"""``dingo-zmq peers``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support import Gate, Mesh, Program


@pytest.fixture(scope="module", autouse=True)
def nodes(module_mesh: Mesh) -> list[Program]:
    return [module_mesh.node(name, "--threads", threads) for name, threads in (("beta", "1"), ("alpha", "3"))]


def listed(mesh: Mesh, *words: str) -> list[dict[str, Any]]:
    peers = mesh.run("peers", "--json", *words)
    assert peers.wait() == 0
    return sorted(json.loads(peers.out), key=lambda peer: peer["name"])


def test_a_table(shared: Mesh) -> None:
    peers = shared.run("peers")
    assert (peers.wait(), peers.err) == (0, "")
    head = next(line for line in peers.out.splitlines() if "name" in line)
    for column in (
        "name",
        "address",
        "found by",
        "state",
        "functions",
        "slots",
        "running",
        "queued",
        "pulse",
        "version",
    ):
        assert column in head
    rows = [line for line in peers.out.splitlines() if "tcp://" in line]
    assert [next(name for name in ("alpha", "beta") if name in row) for row in rows] == ["alpha", "beta"]
    assert all("add" in row and "ready" in row and "directory" in row and "s ago" in row for row in rows)


def test_json(shared: Mesh, nodes: list[Program], gate: Gate) -> None:
    app = shared.app()
    held = [app.call("wait_at", gate.port) for _ in range(4)]
    for _ in range(4):
        gate.next()
    alpha, beta = listed(shared)
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
    found = listed(mesh)
    assert [peer["name"] for peer in found] == ["twin", "twin"]
    assert sorted(peer["running"] for peer in found) == [0, 1]


def test_nobody(mesh: Mesh) -> None:
    peers = mesh.run("peers", "--wait", "0.1")
    assert (peers.wait(), peers.out) == (0, "")
    assert peers.err == f"no node of mesh '{mesh.name}' was found in 0.1 s\n"
    assert listed(mesh, "--wait", "0.1") == []


def test_a_node_that_refuses_us(shared: Mesh, nodes: list[Program]) -> None:
    address = shared.address(nodes[0])
    (peer,) = listed(shared, "--mesh", "elsewhere", "--peer", address, "--discovery", "none")
    assert peer["state"].startswith("refused us: beta belongs to mesh")


def test_a_node_with_another_key(shared: Mesh, tmp_path: Any) -> None:
    peers = shared.run("peers", "--json", DINGO_ZMQ_CONFIG_DIR=str(tmp_path))
    assert {peer["state"] for peer in json.loads(peers.out)} == {"locked out"}
