"""Announced nodes wait for their turn, and are found once they answer."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from functools import partial
from time import monotonic

import pytest

from dingo_zmq.mesh import sockets, trials
from dingo_zmq.mesh.discovery import Announcement
from dingo_zmq.mesh.nearest import Pair
from dingo_zmq.mesh.reactor import Reactor
from dingo_zmq.mesh.trials import Trials
from tests.support import PATIENCE


class Trier:
    """Runs trials in a loop of their own, as the caller does; what answers comes out of `answered`."""

    def __init__(self) -> None:
        self.wakeup = float("inf")
        self.answered: queue.Queue[tuple[str, Pair]] = queue.Queue()
        self.reactor = Reactor(sockets.new_context(), "trier", lambda: None)
        self.reactor.parts.append(self)
        self.trials = Trials(self.reactor, lambda said: list(said.candidates), self._answers)
        self.reactor.start()

    def _answers(self, said: Announcement, pair: Pair) -> None:
        self.answered.put((said.node, pair))

    def add(self, node: str, *ports: int) -> None:
        tasks = tuple(f"tcp://127.0.0.1:{port}" for port in ports)
        said = Announcement(node, node, "mesh", "aa", 1, tasks, tasks)
        self.reactor.ask(partial(self._add, said))

    def _add(self, said: Announcement) -> None:
        self.trials.add(said, monotonic())
        self.wakeup = self.trials.wakeup

    def open(self, reactor: Reactor) -> None:
        """Nothing."""

    def pending(self) -> bool:
        return False

    def work(self, now: float) -> bool:
        if now >= self.trials.wakeup:
            self.trials.tick(now)
        self.wakeup = self.trials.wakeup
        return False

    def hand_out(self) -> None:
        """Nothing."""

    def close(self, now: float) -> None:
        self.trials.stop()


@pytest.fixture
def trier() -> Iterator[Trier]:
    trier = Trier()
    yield trier
    trier.reactor.stop(PATIENCE)


@pytest.fixture
def there() -> Iterator[int]:
    """A port at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def nobody() -> int:
    """A port that refuses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_what_answers_is_told_with_its_nearest_address(trier: Trier, there: int, nobody: int) -> None:
    trier.add("node", nobody, there)

    endpoint = f"tcp://127.0.0.1:{there}"
    assert trier.answered.get(timeout=PATIENCE) == ("node", (endpoint, endpoint))
    assert trier.reactor.ask(lambda: len(trier.trials)) == 0


def test_what_does_not_answer_hides_nothing(
    trier: Trier, there: int, nobody: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "ATTEMPTS_MOST", 2)
    for number in range(20):
        trier.add(f"nobody{number}", nobody)
    trier.add("node", there)

    assert trier.answered.get(timeout=PATIENCE)[0] == "node"
    assert trier.reactor.ask(lambda: len(trier.trials)) == 20


def test_a_node_that_comes_later_is_found(trier: Trier, nobody: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()
    monkeypatch.setattr(trials, "AGAIN_SECONDS", 0.01)
    add = trier.trials.add
    monkeypatch.setattr(trier.trials, "add", lambda said, at: (add(said, at), tried.set()))
    trier.add("node", nobody)
    tried.clear()
    assert tried.wait(PATIENCE)
    with socket.create_server(("127.0.0.1", nobody)):
        assert trier.answered.get(timeout=PATIENCE)[0] == "node"


def test_what_is_removed_is_not_told(trier: Trier, there: int, nobody: int) -> None:
    trier.add("gone", nobody)
    trier.reactor.ask(lambda: trier.trials.remove("gone"))
    trier.add("node", there)

    assert trier.answered.get(timeout=PATIENCE)[0] == "node"
    assert trier.reactor.ask(lambda: len(trier.trials)) == 0
