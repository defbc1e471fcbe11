"""What is the local broker's own; what every broker does is in contracts/."""

from __future__ import annotations

import threading
from queue import Queue

import pytest

from dingo_zmq.errors import Closed
from dingo_zmq.local_broker import LocalBackend, LocalBroker
from dingo_zmq.model import Options, Status
from dingo_zmq.ports import Listener, Receipt, ReceiptStatus, ReportPacket, TaskPacket

PATIENCE = 10.0
OK = Receipt(ReceiptStatus.OK)


def task(id: str = "1", name: str = "f", *buffers: bytearray) -> TaskPacket:
    return TaskPacket(name, id, Options(), b"", buffers)


def test_what_a_task_waits_for_is_told() -> None:
    broker, asked = LocalBroker(), threading.Event()

    def refuse(packet: TaskPacket) -> Receipt:
        asked.set()
        return Receipt(ReceiptStatus.WORKER_NOT_FOUND, "no f\x1b[2J here")

    broker.send(task())
    assert broker.why("f", "1") == "it waits in the local broker; nobody there runs f()"
    assert broker.why("f", "2") == broker.why("g", "1") == ""
    stop = broker.listen([Listener("f", refuse)])
    assert asked.wait(PATIENCE)
    stop()
    assert broker.why("f", "1") == r"it waits in the local broker; it was refused: no f\x1b[2J here"
    broker.close()


def test_a_task_is_offered_once_to_who_refuses_it() -> None:
    broker, asked = LocalBroker(), Queue[str]()

    def refuse(packet: TaskPacket) -> Receipt:
        asked.put(packet.id)
        return Receipt(ReceiptStatus.NOK)

    broker.listen([Listener("f", refuse)])
    broker.send_many([task("1"), task("2")])
    assert [asked.get(timeout=PATIENCE) for _ in range(2)] == ["1", "2"]
    broker.send(task("3"))
    assert asked.get(timeout=PATIENCE) == "3"
    broker.close()
    assert asked.empty()
    assert broker.why("f", "1") == "it waits in the local broker; it was refused: nok"


def test_what_waits_can_be_taken_back() -> None:
    broker, taken = LocalBroker(), Queue[str]()

    def take(packet: TaskPacket) -> Receipt:
        taken.put(packet.id)
        return OK

    broker.send_many([task("1"), task("2"), task("1", "g")])
    assert broker.cancel("f", "1")
    assert not broker.cancel("f", "1")
    broker.listen_all(take)
    assert [taken.get(timeout=PATIENCE) for _ in range(2)] == ["2", "1"]
    assert not broker.cancel("f", "2")
    broker.close()


def test_a_closed_broker_leaves_the_queue_to_others() -> None:
    first, taken = LocalBroker(), Queue[str]()
    second = LocalBroker(first.queue)
    first.send(task())
    first.close()
    first.close()
    for use in (lambda: first.send(task()), lambda: first.listen([]), lambda: first.listen_all(lambda _: OK)):
        with pytest.raises(Closed, match="this LocalBroker is closed"):
            use()

    def take(packet: TaskPacket) -> Receipt:
        taken.put(packet.id)
        return OK

    second.listen([Listener("f", take)])
    assert taken.get(timeout=PATIENCE) == "1"
    second.close()


def test_a_listener_can_stop_itself() -> None:
    broker, stopped = LocalBroker(), threading.Event()

    def take(packet: TaskPacket) -> Receipt:
        stop()
        stopped.set()
        return OK

    stop = broker.listen([Listener("f", take)])
    broker.send(task())
    assert stopped.wait(PATIENCE)
    broker.close()


def test_buffers_are_copied_as_if_they_had_left() -> None:
    broker, backend, taken = LocalBroker(), LocalBackend(), Queue[TaskPacket]()

    def take(packet: TaskPacket) -> Receipt:
        taken.put(packet)
        return OK

    buffer = bytearray(b"before")
    broker.send(task("1", "f", buffer))
    heard: list[ReportPacket] = []
    backend.channel("f")([ReportPacket("f", "1", Status.SUCCESS, b"", (buffer,))])
    buffer[:] = b"after!"
    broker.listen([Listener("f", take)])
    backend.poll("f", "1", heard.append)
    assert taken.get(timeout=PATIENCE).buffers == heard[0].buffers == (b"before",)
    broker.close()
