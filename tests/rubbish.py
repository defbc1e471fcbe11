"""
A program that is let in by a node and sends it rubbish of every kind, round after round, until it is ended.

    python -m tests.rubbish tcp://127.0.0.1:47100 MESH SEED [KEY FILE]

It prints a line for each round.  Whatever the node publishes is read and dropped.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from random import Random
from time import monotonic

import zmq

from dingo_zmq.mesh import keys
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire
from tools.fuzzing.mutate import bend_frame, scratch

PATIENCE = 30.0
BODY = b"\x91\x05"
TOPICS = (b"", b"watch/", b"pulse/", b"watch/x/square/1/", b"/", b"\0", b"\xff\xfe", b"w" * 300)


class Intruder:
    """Holds a link of its own, sockets of the right kinds, and one XSUB that can send anything."""

    def __init__(self, address: str, mesh: str, dice: Random, key: keys.Key | None) -> None:
        self._mesh, self._dice = mesh, dice
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        host, _, port = address.rpartition(":")
        self.push = self._socket(zmq.PUSH, address, key)
        self.xsub = self._socket(zmq.XSUB, f"{host}:{int(port) + 1}", key)
        self.name, self.token, self.number = secrets.token_hex(8), secrets.token_bytes(8), 0
        self.task = 0

    def _socket(self, kind: int, endpoint: str, key: keys.Key | None) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = 0
        if key is not None:
            keys.secure_client(socket, key)
        socket.connect(endpoint)
        return socket

    def send(self, frame: bytes, *more: bytes) -> None:
        self.push.send_multipart([frame, *more])
        self.drain()

    def drain(self) -> None:
        """Read all that the node has published, so that nobody waits for us."""
        try:
            while True:
                self.xsub.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return

    def until_read(self) -> None:
        """Wait until the node has read all that was sent before: it refuses tasks of a link not opened."""
        token, topic = secrets.token_bytes(8), f"{secrets.token_hex(8)}/".encode()
        self.xsub.send(b"\x01" + topic)
        question = wire.encode(m.Tasks(token, topic[:-1].decode(), 0, {}, []))
        deadline = monotonic() + PATIENCE
        while monotonic() < deadline:
            self.push.send(question)  # again: our subscription may come later
            while self.xsub.poll(100):
                frames = self.xsub.recv_multipart()
                if frames[0].startswith(topic):
                    assert wire.decode_node(frames).link == token
                    self.xsub.send(b"\x00" + topic)
                    return
        raise AssertionError("the node does not answer")

    def hello(self) -> m.Hello:
        self.number += 1
        return m.Hello(self.token, self.name, self.number, b"", self._mesh, [m.VERSION])

    def messages(self) -> list[m.Message]:
        """Return good messages of every kind, with tasks that are done and that are not."""
        refs = {"square": [self.task, self.task + 1, 10**6]}
        self.task += 2
        options = m.TaskOptions(at_most_once=True, priority=5, time_limit=9.0, monitor_progress=True)
        items: list[m.TaskItem] = [("square", self.task, str(self.task), 1, None, BODY)]
        items.append(("square", self.task + 1, str(self.task + 1), 2, options, BODY))
        lanes = {"square": (self.task + 1, self.task, 3)}
        return [
            self.hello(),
            m.Tasks(self.token, self.name, self.task, {"square": 5}, items),
            m.Beat(self.token, self.name, self.number, self.task, lanes, refs, b"", {"square": [(1, 9)]}),
            m.Taken(self.token, 1, {"square": [(1, 9)]}),
            m.Go(self.token, refs),
            m.Cancel(self.token, refs, True),
            m.Recall(self.token, refs),
        ]

    # ------------------------------------------------------------------ the kinds of rubbish

    def good_messages(self) -> None:
        for _ in range(20):
            for message in self.messages():
                self.send(wire.encode(message))

    def bent_messages(self) -> None:
        for _ in range(40):
            for message in [*self.messages(), m.Bye(self.token)]:
                self.send(bend_frame(wire.encode(message), self._dice))

    def random_bytes(self) -> None:
        for kind in ["", *"HTBNCRGYWPKMALXU\0"]:
            for _ in range(10):
                self.send(kind.encode() + self._dice.randbytes(self._dice.randrange(200)))

    def large_frames(self) -> None:
        self.send(b"T" + bytes(2_000_000))
        self.send(b"T" + b"\x91" * 100_000)
        self.send(wire.encode(self.messages()[1]), bytes(1_000_000))

    def floods_of_frames(self) -> None:
        self.send(b"", *[b""] * 2000)
        self.send(wire.encode(self.messages()[1]), *[b"x" * 100] * 2000)

    def floods_of_hellos(self) -> None:
        for _ in range(500):
            hello = m.Hello(secrets.token_bytes(8), secrets.token_hex(8), 1, b"", self._mesh, [1])
            self.send(wire.encode(hello))
        for name in ("a/b", "\0", "\x1b[2J", "x" * 200):
            self.send(wire.encode(m.Hello(secrets.token_bytes(8), name, 1, b"", "other", [9, 10])))

    def subscriptions(self) -> None:
        topics = [*TOPICS, f"{self.name}/".encode(), secrets.token_bytes(20)]
        topics += [b"watch/" + secrets.token_hex(4).encode() for _ in range(50)]
        for topic in topics:
            self.xsub.send(b"\x01" + topic)
        for frame in (b"", b"\x02", *[scratch(b"\x01watch/a/", self._dice) for _ in range(50)]):
            self.xsub.send(frame)
        self.xsub.send_multipart([b"\x01watch/", b"\x00watch/"])
        self.drain()
        for topic in topics:
            self.xsub.send(b"\x00" + topic)
        self.xsub.send(b"\x00never subscribed")

    def round(self) -> None:
        kinds: list[Callable[[], None]] = [
            self.good_messages,
            self.bent_messages,
            self.random_bytes,
            self.large_frames,
            self.floods_of_frames,
            self.floods_of_hellos,
            self.subscriptions,
        ]
        self._dice.shuffle(kinds)
        for kind in kinds:
            kind()
        self.until_read()


def main(address: str, mesh: str, seed: str, key: str = "") -> None:
    intruder = Intruder(address, mesh, Random(int(seed)), keys.load_key(key) if key else None)
    number = 0
    while True:
        number += 1
        intruder.round()
        print(f"round {number}.", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
