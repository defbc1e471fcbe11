"""Ctrl-C is held back, and comes in the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from dingo_zmq.interrupts import Held, hold, is_held, release


@pytest.fixture(autouse=True)
def as_python_starts() -> Iterator[None]:
    """The signal raises KeyboardInterrupt."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_it_comes_at_the_end() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), Held():
        press()
        press()
        done.append("all of it")
    assert done == ["all of it"]
    assert not is_held()
    with pytest.raises(KeyboardInterrupt):
        press()


def test_it_comes_instead_of_an_error() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, Held():
        press()
        raise ValueError
    assert isinstance(caught.value.__context__, ValueError)


def test_nothing_comes_of_nothing() -> None:
    with Held():
        assert is_held()
    assert not is_held()
    with Held():
        pass


def test_one_within_another_changes_nothing() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), Held():
        with Held():
            press()
        done.append("the inner one")
        assert is_held()
    assert done == ["the inner one"]


def test_held_in_one_place_and_released_in_another() -> None:
    assert hold()
    assert not hold()
    press()
    with pytest.raises(KeyboardInterrupt):
        release()
    release()


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None], ids=["ignored", "handled"])
def test_where_the_program_deals_with_it_itself(handler: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, handler)
    with Held():
        assert signal.getsignal(signal.SIGINT) is handler
        press()
    assert signal.getsignal(signal.SIGINT) is handler


def test_in_another_thread_nothing_is_held() -> None:
    held = []

    def run() -> None:
        with Held():
            held.append(is_held())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert held == [False]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
