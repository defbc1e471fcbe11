"""
The bare pyzmq loop that the mesh is measured against: no guarantee, no type check, no key.

One node process does PULL -> unpack -> add -> pack -> XPUB, one caller does PUSH out and SUB back; msgpack,
one message a task, 1,000 outstanding, one thread on either side, default options but for what is said at
`Bare._connect`.  Run it alone, or use `Bare` to interleave its runs with others::

    with Bare() as bare:
        print(bare.throughput(100_000), statistics.median(bare.round_trip(3_000)))
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgpack
import zmq

OUTSTANDING = 1_000
TOPIC = b"c/"
READY = 10_000  # milliseconds that the node may take for its first answer


class Bare:
    """A node process and the caller's two sockets, for as long as the context lasts."""

    def __init__(self) -> None:
        self._context = zmq.Context()

    def __enter__(self) -> Self:
        # The node ends when it sees the end of its standard input, that is, with this process at the latest.
        self._node = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--node"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._connect()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _connect(self) -> None:
        assert self._node.stdout is not None
        ports = self._node.stdout.readline().split()
        if len(ports) != 2:
            raise RuntimeError("the bare node did not start")
        self._push = self._context.socket(zmq.PUSH)
        self._push.connect(f"tcp://127.0.0.1:{ports[0]}")
        # With the default high water mark of 1,000 and as many tasks outstanding, XPUB drops answers without
        # a word (and the loop waits for ever), so there is none on the way back.  PUSH waits instead.
        self._sub = self._context.socket(zmq.SUB)
        self._sub.set(zmq.RCVHWM, 0)
        self._sub.set(zmq.SUBSCRIBE, TOPIC)
        self._sub.connect(f"tcp://127.0.0.1:{ports[1]}")
        # The node takes no task before it has seen the subscription, so one answer proves both directions.
        self._push.send(msgpack.packb([0, 20, 22]))
        if not self._sub.poll(READY) or msgpack.unpackb(self._sub.recv()[len(TOPIC) :]) != [0, 42]:
            raise RuntimeError("the bare node does not answer")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._context.destroy(linger=0)
        self._node.kill()
        self._node.communicate()

    def throughput(self, tasks: int) -> float:
        """Do `tasks` additions with at most 1,000 outstanding; return tasks per second."""
        push, sub, pack, unpack = self._push.send, self._sub.recv, msgpack.packb, msgpack.unpackb
        skip, sent, got, total = len(TOPIC), 0, 0, 0
        start = time.perf_counter()
        while got < tasks:
            while sent < tasks and sent - got < OUTSTANDING:
                push(pack([sent, sent, 1]))
                sent += 1
            total += unpack(sub()[skip:])[1]
            got += 1
        seconds = time.perf_counter() - start
        assert total == tasks * (tasks + 1) // 2, "an answer is wrong or was lost"
        return tasks / seconds

    def round_trip(self, tasks: int) -> list[float]:
        """Do `tasks` additions one at a time; return the seconds that each took, in order."""
        push, sub, pack, unpack = self._push.send, self._sub.recv, msgpack.packb, msgpack.unpackb
        skip, clock, times = len(TOPIC), time.perf_counter, []
        for number in range(tasks):
            start = clock()
            push(pack([number, number, 1]))
            unpack(sub()[skip:])
            times.append(clock() - start)
        return times


def node() -> None:
    """Serve one caller until standard input ends.  The ports are told on standard output."""
    context = zmq.Context()
    pull, xpub = context.socket(zmq.PULL), context.socket(zmq.XPUB)
    xpub.set(zmq.SNDHWM, 0)  # see Bare._connect
    ports = pull.bind_to_random_port("tcp://127.0.0.1"), xpub.bind_to_random_port("tcp://127.0.0.1")
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    print(*ports, flush=True)
    xpub.recv()  # the caller's subscription
    receive, send, pack, unpack = pull.recv, xpub.send, msgpack.packb, msgpack.unpackb
    while True:
        number, a, b = unpack(receive())
        send(TOPIC + pack([number, a + b]))


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Print the table, or be the node."""
    parser = argparse.ArgumentParser(description="The bare pyzmq loop.")
    parser.add_argument("--node", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--tasks", type=int, default=200_000, help="tasks per round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (%(default)s)")
    options = parser.parse_args()
    if options.node:
        return node()
    with Bare() as bare:
        for _ in range(options.rounds):
            rate = bare.throughput(options.tasks)
            p50 = statistics.median(bare.round_trip(3_000))
            print(f"{rate:>10,.0f} tasks/s    {p50 * 1e6:>6.0f} us there and back")
    return None


if __name__ == "__main__":
    main()
