"""
Workers that remember something: a closure, the method of an object, and an object for each worker.

    python examples/stateful.py

What several workers share they may use at the same time.  Either there is one worker alone, which needs no lock;
or the state has a lock; or each worker has a state of its own, which its factory makes in its own thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from dingo_zmq import App

WORKERS = 3

app = App("local")


def make_counter(first: int) -> Callable[[int], int]:
    """Return a closure that adds up what it is given."""
    total = first

    def count(step: int) -> int:
        nonlocal total
        total += step
        return total

    return count


class Account:
    """A balance, whose methods are functions of the App."""

    def __init__(self, balance: int) -> None:
        self.balance = balance
        self._lock = threading.Lock()

    def deposit(self, amount: int) -> int:
        """Return the balance after a deposit."""
        with self._lock:
            self.balance += amount
            return self.balance


class Meter:
    """What can be used by one thread alone, such as a connection; it counts what it has measured."""

    _meet = threading.Barrier(WORKERS)  # so that in this example no worker takes two tasks of one round

    def __init__(self) -> None:
        self.thread, self.measured = threading.get_ident(), 0

    def __call__(self, channel: int) -> tuple[int, bool]:
        """Return how much it has measured by now, and whether it is in the thread that made it."""
        self._meet.wait(timeout=10)
        self.measured += 1
        return self.measured, threading.get_ident() == self.thread


def measure(channel: int) -> tuple[int, bool]:
    """Stand for what the factory of each worker makes; callers need no more than this signature."""
    raise NotImplementedError("its workers call a Meter each")


account = Account(100)
app.register("count", make_counter(10))
app.register("deposit", account.deposit)
app.register("measure", measure)
app.allocate("count", 1)  # one worker: no lock is needed
app.allocate("measure", WORKERS, factory=Meter)

with app:
    print("closure:", list(app.map("count", [1, 2, 3])))
    print("method:", max(app.map("deposit", [1] * 50)), account.balance)
    for _ in range(2):
        print("a Meter for each worker:", list(app.map("measure", range(WORKERS))))
