"""The end of an App, which is closed or whose I/O thread dies: whoever waits for it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from dingo_zmq import App
from dingo_zmq.errors import Closed, TaskShutdown
from dingo_zmq.mesh.discovery.port import Announcement, Found
from dingo_zmq.mesh.info import PeerInfo
from dingo_zmq.mesh.reactor import DIED
from tests.support import PATIENCE, Mesh, wait_until

CLOSED = "this App is closed"


def close(app: App) -> None:
    app.close(wait=False)


def crash(app: App) -> None:
    def fail() -> None:
        raise RuntimeError("a fault in the loop")

    app.engine().reactor.call(fail)


ENDS = pytest.mark.parametrize(("end", "cause"), [(close, CLOSED), (crash, DIED)], ids=["closed", "crashed"])


@ENDS
def test_a_wait_for_nodes_ends_with_it(mesh: Mesh, end: Callable[[App], None], cause: str) -> None:
    """Long before its own time."""
    app, looked = mesh.app(), threading.Event()

    def enough(peers: list[PeerInfo]) -> bool:
        looked.set()
        return False

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(app.engine().wait_for, enough, 100 * PATIENCE)
        assert looked.wait(PATIENCE)
        end(app)
        with pytest.raises(Closed, match=cause):
            waiting.result(PATIENCE)


@ENDS
def test_a_question_that_the_loop_never_comes_to_ends_with_it(
    mesh: Mesh, end: Callable[[App], None], cause: str
) -> None:
    """It was put before the end, and the loop is busy until then."""
    app, inside, go_on = mesh.app(), threading.Event(), threading.Event()
    reactor = app.engine().reactor

    def busy() -> None:
        inside.set()
        assert go_on.wait(PATIENCE)
        if end is crash:
            raise RuntimeError("a fault in the loop")
        reactor.running = False

    reactor.call(busy)
    assert inside.wait(PATIENCE)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(reactor.ask, lambda: None, 100 * PATIENCE)
        wait_until(lambda: reactor._asked or asked.done(), "the question")
        reactor._calls.clear()  # as though it had come after the last look
        go_on.set()
        with pytest.raises(Closed, match=cause):
            asked.result(PATIENCE)


def test_discovery_says_nothing_to_the_log_of_what_comes_after_a_crash(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    app = mesh.app(discovery=[])
    finder = app.engine()._finder
    result = app.call("add", 1)
    crash(app)
    with pytest.raises(TaskShutdown):
        result.result(PATIENCE)
    caplog.clear()

    announcement = Announcement("n1", "one", mesh.name, "00", 1, ("tcp://127.0.0.1:1",), ("tcp://127.0.0.1:2",))
    finder._on_event(Found(announcement, "static"))

    assert list(finder.nodes) == ["n1"]
    assert caplog.text == ""


def test_a_crash_is_told_and_ends_what_is_open(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    with mesh.app() as app:
        result = app.call("add", 1)
        stream = app.listen()
        crash(app)
        assert list(stream) == []
        with pytest.raises(Closed, match=DIED):
            app.listen()
        with pytest.raises(TaskShutdown, match=DIED):
            result.result(PATIENCE)
        with pytest.raises(Closed, match=DIED):
            app.call("add", 1)
        with pytest.raises(Closed, match=DIED):
            app.peers()
        assert result.done()
    assert "a fault in the loop" in caplog.text
