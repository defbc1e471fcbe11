"""A node's port that somebody else takes after its death: no task of ours gets there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from dingo_zmq import App
from tests.support import PATIENCE, SERVED, Mesh, Program, closed_port, wait_until

GREETING = 64
"""bytes that ZeroMQ says to whoever listens, before it knows who that is"""


class Stranger:
    """A plain TCP server at two ports that keeps what it is told, and answers with what is no ZeroMQ."""

    def __init__(self, port: int) -> None:
        self.heard: list[bytes] = []
        self._listeners = [socket.create_server(("127.0.0.1", port + each)) for each in (0, 1)]
        self._threads = [threading.Thread(target=self._serve, args=[each]) for each in self._listeners]
        for thread in self._threads:
            thread.start()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(0.2)
                heard = b""
                try:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    while data := connection.recv(4096):
                        heard += data
                except OSError:
                    pass
                self.heard.append(heard)

    def close(self) -> None:
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)


@pytest.fixture
def port() -> int:
    return closed_port()


@pytest.fixture
def app(mesh: Mesh, port: int) -> Iterator[App]:
    """A caller of two nodes; the test kills the first."""
    words = ("node", str(SERVED), "--threads", "1", "--name")
    first, second = mesh.program(*words, "first", "--port", str(port)), mesh.program(*words, "second")
    app = mesh.app(discovery=[], peers=[mesh.address(first), mesh.address(second)])
    app.engine().wait_for(lambda peers: [peer.state for peer in peers] == ["ready"] * 2, PATIENCE)
    yield app
    mesh.close_apps()


def kill(node: Program) -> None:
    (pid,) = node.children()
    node.end()
    wait_until(lambda: not _is_there(pid), "the end of its process")


def _is_there(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_plain_server(mesh: Mesh, app: App, port: int) -> None:
    """It hears a greeting at most; the other node does all, and the first one what is left when it is back."""
    kill(mesh.programs[0])
    stranger = Stranger(port)
    try:
        results = [app.call("echo", f"secret {number}") for number in range(50)]
        assert [result.result(PATIENCE) for result in results] == [f"secret {number}" for number in range(50)]
        assert {result.node for result in results} == {"second"}
        wait_until(lambda: stranger.heard, "a connection to the stranger")
    finally:
        stranger.close()
    assert all(len(heard) <= GREETING for heard in stranger.heard)
    mesh.node("first", "--port", str(port), "--threads", "1")
    assert app.options(node="first").call("add", 1).result(PATIENCE) == 6


def test_a_node_with_another_key(mesh: Mesh, app: App, port: int) -> None:
    other = Mesh(mesh.folder / "other")
    other.settings["DINGO_ZMQ_MESH"] = mesh.name
    try:
        kill(mesh.programs[0])
        other.node("first", "--port", str(port))
        results = [app.call("echo", number) for number in range(50)]
        assert [result.result(PATIENCE) for result in results] == list(range(50))
        assert {result.node for result in results} == {"second"}
        states = app.engine().wait_for(lambda peers: "locked out" in {peer.state for peer in peers}, PATIENCE)
        assert sorted(peer.state for peer in states) == ["locked out", "ready"]
        assert not app.options(node="first").call("add", 1).done()
    finally:
        other.close()
