"""Connections that are reset, stalled, half closed, sliced, corrupted or cut: no task is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from dingo_zmq import App, EventCode, Level, Origin
from dingo_zmq.mesh import keys
from tests import served
from tests.support import PATIENCE, Context, Mesh, Program, closed_port, wait_until
from tools.storming.proxy import Proxy

TASKS = 300
HOLDING = """
import ctypes
from pathlib import Path
from dingo_zmq import App

app = App("mesh")


@app.task
def hold(path: Path, seconds: int) -> int:
    path.touch()
    ctypes.PyDLL(None).sleep(seconds)  # PyDLL keeps the GIL
    return seconds
"""


@pytest.fixture(scope="module")
def port() -> int:
    return closed_port()


@pytest.fixture(scope="module")
def node(module_mesh: Mesh, port: int) -> Program:
    return module_mesh.node("one", "--threads", "2", "--port", str(port))


@pytest.fixture
def proxy(shared: Mesh, node: Program, port: int) -> Iterator[Proxy]:
    proxy = Proxy(closed_port(), port, seed=1)
    yield proxy
    shared.close_apps()
    proxy.close()


@pytest.fixture
def app(shared: Mesh, proxy: Proxy) -> App:
    """A caller that knows no other way than through the proxy."""
    app = shared.app(peers=[proxy.address], discovery=[])
    assert app.call("add", 1).result(PATIENCE) == 6
    return app


def settlements(app: App) -> list[str]:
    """Return a list that gets the id of each task that is settled, as often as that happens."""
    caller: Any = app.engine().caller
    settle, found = caller.settle, []

    def counted(entry: Any, node: str) -> None:
        found.append(entry.id)
        settle(entry, node)

    caller.settle = counted
    return found


@pytest.mark.parametrize(
    ("fault", "breaks"),
    [
        pytest.param(Proxy.reset, True, id="reset"),
        pytest.param(lambda proxy: proxy.stall(0.2), False, id="stall"),
        pytest.param(Proxy.half_close, True, id="half-close"),
        pytest.param(Proxy.slice, False, id="one byte at a time"),
        pytest.param(Proxy.corrupt, True, id="corruption"),
        pytest.param(lambda proxy: proxy.cut(0.2), False, id="cut"),
    ],
)
def test_a_fault_in_the_middle_of_tasks(
    app: App, proxy: Proxy, tmp_path: Path, fault: Callable[[Proxy], int], breaks: bool
) -> None:
    """All tasks are done, none is settled twice; where the connection breaks there is a new one."""
    settled = settlements(app)
    before = proxy.opened
    mark = app.declare("mark", served.mark)
    results = []
    for number in range(TASKS):
        results.append(mark.call(tmp_path / "marks", str(number)))
        if number == TASKS // 2:
            results[number // 2].result(PATIENCE)
            assert fault(proxy) == 2
    for result in results:
        result.result(PATIENCE)
    if breaks:
        wait_until(lambda: proxy.opened >= before + 2, "new connections")
    assert sorted(settled) == sorted(result.id for result in results)
    assert set((tmp_path / "marks").read_text().split()) == {str(number) for number in range(TASKS)}
    assert proxy.opened == before or breaks


def test_what_is_corrupted_is_no_message(app: App, proxy: Proxy) -> None:
    """CURVE notices and drops the session; nobody sees a changed argument or result."""
    dropped: list[str] = []
    app.listen(Origin.CALLER, Level.DEBUG, callback=lambda event: dropped.append(event.code))
    echo = app.declare("echo", served.echo)
    for round in range(2):
        text = f"{round} " * 1000
        result = echo.call(text)
        assert proxy.corrupt() == 2
        assert [result.result(PATIENCE), echo.call(text).result(PATIENCE)] == [text, text]
        wait_until(lambda: proxy.ended_corrupted >= round + 1 and proxy.links() == 2, "new connections")
        echo.call(text).result(PATIENCE)
    assert EventCode.DROPPED not in dropped


def test_a_broken_connection_with_much_unread(shared: Mesh, context: Context, tmp_path: Path) -> None:
    """The node cannot read while a task holds the GIL; it goes on afterwards as the same process."""
    (tmp_path / "holding.py").write_text(HOLDING)
    port = closed_port()
    node = shared.node("holds", "--threads", "2", "--port", str(port), target=tmp_path / "holding.py")
    proxy = Proxy(closed_port(), port)
    (pid,) = node.children()
    push = context.socket(zmq.PUSH)
    push.sndhwm = 0
    keys.secure_client(push, shared.key())
    push.connect(proxy.address)
    push.send(b"")
    wait_until(lambda: proxy.links() == 1, "its connection")
    result = shared.app().call("hold", str(tmp_path / "held"), 3)
    wait_until((tmp_path / "held").exists, "the GIL is held")
    for _ in range(3000):
        push.send(bytes(200))
    wait_until(lambda: proxy.passed > 3000 * 200, "all of it")
    assert proxy.reset() == 1
    assert result.result(PATIENCE) == 3
    assert node.children() == [pid]
    proxy.close()


def test_a_proxy_refuses_where_its_node_does(shared: Mesh) -> None:
    port = closed_port()
    node = shared.node("two", "--port", str(port))
    proxy = Proxy(closed_port(), port)
    app = shared.app(peers=[proxy.address], discovery=[])
    assert app.call("add", 1).result(PATIENCE) == 6
    node.end()
    result = app.call("add", 2)
    wait_until(lambda: proxy.links() == 0, "the end of the connections")
    shared.node("two", "--port", str(port))
    assert result.result(PATIENCE) == 7
    shared.close_apps()
    proxy.close()
