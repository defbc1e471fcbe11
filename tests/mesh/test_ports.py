"""The mesh attached through the ports: the same machinery, and the same promises."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

import pytest

from dingo_zmq import App, Code, Options, Retries, current_task
from dingo_zmq.errors import Closed, ConfigError, TaskShutdown, UsageError
from dingo_zmq.marshal import decode, encode
from dingo_zmq.mesh.engine import MeshSettings
from dingo_zmq.mesh.ports import MeshCallerPort, MeshNodePort
from dingo_zmq.model import Status
from dingo_zmq.ports import Listener, Receipt, ReceiptStatus, ReportPacket, TaskPacket
from tests import served
from tests.support import PATIENCE, Gate, Mesh, wait_until

OK = Receipt(ReceiptStatus.OK)


@pytest.fixture
def settings(mesh: Mesh) -> MeshSettings:
    return MeshSettings(mesh=mesh.name, discovery=("directory",))


@pytest.fixture
def caller(settings: MeshSettings) -> Iterator[App]:
    app = App("remote")
    app.use(MeshCallerPort(settings))
    yield app
    app.close(wait=False)


def test_an_app_with_a_mesh_attached_calls_the_same_nodes(mesh: Mesh, caller: App) -> None:
    mesh.node("one")
    add = caller.declare("add", served.add)
    assert [add.call(n, 1).result(PATIENCE) for n in range(20)] == list(range(1, 21))
    assert add.call(1, 1).wait(PATIENCE).node == "one"
    assert add.options(node="one").call(1, 1).result(PATIENCE) == 2
    large = bytes(300_000)
    assert caller.call("echo", large).result(PATIENCE) == large
    assert caller.call("nope").why() == 'no node has "nope"'


def test_a_task_outlives_its_node(mesh: Mesh, caller: App, gate: Gate) -> None:
    mesh.node("one")
    mesh.node("two")
    result = caller.call("wait_at", gate.port, "x")
    first = gate.next()
    os.kill(first.pid, signal.SIGKILL)
    second = gate.next()
    assert (second.attempt, second.pid != first.pid) == (2, True)
    second.go()
    result.result(PATIENCE)
    assert result.attempt == 2


def test_a_node_of_the_port_serves_callers_of_the_mesh(mesh: Mesh, settings: MeshSettings) -> None:
    """Two callers count their tasks alike: equal names and ids, and each gets its own."""
    node = App("remote", threads=3)
    node.use(MeshNodePort(settings, name="port", tags=["x"]))
    node.register("add", served.add)
    node.serve(name="port")
    callers = [mesh.app(), mesh.app()]
    tasks = [caller.declare("add", served.add).options(needs=["x"]) for caller in callers]
    results = [
        (task.call(n, 1000 * place), n + 1000 * place) for n in range(50) for place, task in enumerate(tasks)
    ]
    assert {result.id for result, _ in results[::2]} == {result.id for result, _ in results[1::2]}
    for result, expected in results:
        assert result.result(PATIENCE) == expected
        assert result.node == "port"
    for app in callers:
        assert [peer.name for peer in app.peers()] == ["port"]
        app.close()
    node.close()


def test_a_node_of_the_port_keeps_to_what_callers_of_the_mesh_want(mesh: Mesh, settings: MeshSettings) -> None:
    """Limits, retries, stopping, and another number of workers."""
    began, free = threading.Semaphore(0), threading.Event()

    def hold() -> None:
        began.release()
        free.wait(PATIENCE)

    async def sleep() -> None:
        began.release()
        await asyncio.sleep(3600)

    node = App("remote", threads=1)
    node.use(MeshNodePort(settings, name="port"))
    node.register("hold", hold)
    node.register("sleep", sleep)
    node.register("attempt", lambda times: 1 // max(0, current_task().attempt - times))
    own = node.allocate("hold", 1)
    node.serve(name="port")
    caller = mesh.app()

    failure = caller.options(time_limit=0.05).call("hold").wait(PATIENCE).failure
    assert failure is not None
    assert (failure.code, failure.node) == (Code.TIMEOUT, "port")
    running = caller.call("sleep")
    for _ in range(2):
        assert began.acquire(timeout=PATIENCE)
    assert running.cancel(running=True)
    failure = running.wait(PATIENCE).failure
    assert failure is not None
    assert failure.message == "cancelled while it ran"
    tries = Retries(1, backoff=0.0)
    assert caller.options(retries=tries).call("attempt", 1).result(PATIENCE) == 1

    results = [caller.call("hold") for _ in range(3)]
    assert began.acquire(timeout=PATIENCE)
    own.resize(3)
    for _ in range(2):
        assert began.acquire(timeout=PATIENCE)
    assert [peer.function_slots["hold"] for peer in caller.peers()] == [3]
    free.set()
    for result in results:
        result.result(PATIENCE)
    caller.close()
    node.close()


def test_what_a_listener_refuses_waits_with_its_reason(
    settings: MeshSettings, caplog: pytest.LogCaptureFixture
) -> None:
    port, node, heard = MeshCallerPort(settings), MeshNodePort(settings, name="one"), Queue[ReportPacket]()
    free, refused = threading.Event(), threading.Event()
    handed: list[TaskPacket] = []

    def take(task: TaskPacket) -> Receipt:
        if not free.is_set():
            refused.set()
            return Receipt(ReceiptStatus.NOK, "the bench is in use")
        handed.append(task)
        node.channel("f")([ReportPacket("f", task.id, Status.SUCCESS, *encode(1))])
        return OK

    node.listen([Listener("f", take)])
    port.poll("f", "1", heard.put)
    with caplog.at_level(logging.INFO, "dingo_zmq.caller"):
        port.send(TaskPacket("f", "1", Options(at_most_once=True), b""))
        assert refused.wait(PATIENCE)
        refused.clear()
        assert refused.wait(PATIENCE)  # it came again, so the first refusal has been heard of
    assert re.search("one: .*: the bench is in use", caplog.text)
    assert heard.empty()
    free.set()
    report = heard.get(timeout=PATIENCE)
    assert (report.status, decode((report.body, ())), report.node) == (Status.SUCCESS, 1, "one")
    assert (len(handed), handed[0].options.at_most_once) == (1, True)
    assert report.attempt > 2
    node.close()
    port.close()


def test_a_function_that_a_listener_does_not_have(settings: MeshSettings) -> None:
    """The caller asks no more for it there."""
    port, node, asked = MeshCallerPort(settings), MeshNodePort(settings, name="one"), threading.Event()

    def take(task: TaskPacket) -> Receipt:
        asked.set()
        return Receipt(ReceiptStatus.WORKER_NOT_FOUND, "no f here")

    node.listen([Listener("f", take), Listener("g", lambda task: OK)])
    port.send(TaskPacket("f", "1", Options(), b""))
    assert asked.wait(PATIENCE)
    wait_until(lambda: port.why("f", "1") == 'no node has "f"', "the refusal")
    node.close()
    port.close()


def test_what_is_handed_over_and_not_reported_is_lost_with_its_node(settings: MeshSettings) -> None:
    """So it runs elsewhere, as with any node that dies."""
    port, heard = MeshCallerPort(settings), Queue[ReportPacket]()
    first, second = MeshNodePort(settings, name="one"), MeshNodePort(settings, name="two")
    taken: Queue[TaskPacket] = Queue()

    def take(task: TaskPacket) -> Receipt:
        taken.put(task)
        return OK

    first.listen([Listener("f", take)])
    port.poll("f", "1", heard.put)
    port.send(TaskPacket("f", "1", Options(), b""))
    assert taken.get(timeout=PATIENCE).attempt == 1
    second.listen([Listener("f", take)])
    first.close()
    assert taken.get(timeout=PATIENCE).attempt == 2
    second.channel("f")([ReportPacket("f", "1", Status.SUCCESS)])
    assert heard.get(timeout=PATIENCE).node == "two"
    second.close()
    port.close()


def test_a_node_that_is_closed_reports_what_it_holds(settings: MeshSettings, caller: App) -> None:
    """As an App in remote mode has it, whatever is attached."""
    began, gate = threading.Event(), threading.Event()
    node = App("remote", threads=1)
    node.use(MeshNodePort(settings))

    def hold() -> None:
        began.set()
        gate.wait(PATIENCE)

    node.register("hold", hold)
    node.serve(name="n")
    result = caller.call("hold")
    assert began.wait(PATIENCE)
    node.close(wait=False)
    gate.set()
    assert isinstance(result.exception(PATIENCE), TaskShutdown)
    assert result.failure is not None
    assert result.failure.message == "node n was closed before the task was done"


def test_tasks_that_cannot_be_sent(settings: MeshSettings) -> None:
    port, heard = MeshCallerPort(settings), list[Any]()
    for name, id in (("a/b", "1"), ("f", "1/2"), ("", "1"), ("f", "")):
        with pytest.raises(UsageError, match="must be 1 to 200 printable characters"):
            port.send(TaskPacket(name, id, Options(), b""))
    port.poll("f", "1", heard.append)
    port.send(TaskPacket("f", "1", Options(), b""))
    with pytest.raises(UsageError, match="task 1 of f is open already"):
        port.send(TaskPacket("f", "1", Options(), b""))
    port.send(TaskPacket("g", "1", Options(), b""))
    port.close()
    port.close()
    assert [(each.name, each.id, each.status, each.body[1]) for each in heard] == [
        ("f", "1", Status.FAIL, Code.SHUTDOWN)
    ]
    with pytest.raises(Closed):
        port.send(TaskPacket("f", "2", Options(), b""))


def test_unless_told_it_is_the_mesh_of_this_process(mesh: Mesh) -> None:
    mesh.node("one")
    port, heard = MeshCallerPort(), Queue[ReportPacket]()
    assert port.engine.settings.mesh == mesh.name
    port.poll("add", "1", heard.put)
    port.send(TaskPacket("add", "1", Options(), encode([2, 3])[0]))
    assert decode((heard.get(timeout=PATIENCE).body, ())) == 5
    port.close()


def test_a_node_for_nothing(settings: MeshSettings) -> None:
    port = MeshNodePort(settings)
    with pytest.raises(ConfigError, match="at least one function"):
        port.listen([])
    assert port.addresses == []
    port.close()


def test_a_port_that_is_taken(settings: MeshSettings) -> None:
    one = MeshNodePort(settings)
    one.listen([Listener("f", lambda task: OK)])
    number = int(one.addresses[0].rpartition(":")[2])
    other = MeshNodePort(settings, port=number)
    with pytest.raises(ConfigError, match=str(number)):
        other.listen([Listener("f", lambda task: OK)])
    other.close()
    one.close()
