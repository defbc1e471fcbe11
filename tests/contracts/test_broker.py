"""The contract of brokers, kept by each of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dingo_zmq.local_broker import LocalBroker
from dingo_zmq.mesh.engine import MeshSettings
from dingo_zmq.mesh.ports import MeshCallerPort, MeshNodePort
from dingo_zmq.model import Status
from dingo_zmq.ports import Receipt, ReceiptStatus, ReportPacket, Stop, Take, TaskPacket
from dingo_zmq.testing.contracts import BrokerContract, Ends


class TestOneLocalBroker(BrokerContract):
    @pytest.fixture
    def broker(self) -> Iterator[Ends]:
        broker = LocalBroker()
        yield Ends(broker)
        broker.close()


class TestTwoLocalBrokersThatShareAQueue(BrokerContract):
    @pytest.fixture
    def broker(self) -> Iterator[Ends]:
        producer = LocalBroker()
        consumer = LocalBroker(producer.queue)
        yield Ends(producer, consumer)
        consumer.close()


class OneQueueForAll:
    """The LocalBroker as a Consumer alone."""

    def __init__(self, broker: LocalBroker) -> None:
        self._broker = broker

    def listen_all(self, take: Take) -> Callable[[], None]:
        return self._broker.listen_all(take)

    def hear_stops(self, stop: Stop) -> None:
        self._broker.hear_stops(stop)


class TestALocalBrokerWithOneQueueForAll(BrokerContract):
    @pytest.fixture
    def broker(self) -> Iterator[Ends]:
        broker = LocalBroker()
        yield Ends(broker, OneQueueForAll(broker))
        broker.close()


def mesh_settings() -> MeshSettings:
    return MeshSettings(mesh="contract", discovery=("directory",))


class TestTheMesh(BrokerContract):
    @pytest.fixture
    def broker(self) -> Iterator[Ends]:
        producer, consumer = MeshCallerPort(mesh_settings()), MeshNodePort(mesh_settings())
        yield Ends(producer, consumer)
        consumer.close()
        producer.close()

    def held(self, broker: Ends, task: TaskPacket) -> None:
        """A node of the mesh holds a task until its final report."""
        broker.consumer.channel(task.name)([ReportPacket(task.name, task.id, Status.SUCCESS)])


class Forgetful(LocalBroker):
    """Loses what is refused, as an early acknowledgement would."""

    def listen(self, listeners: Any) -> Callable[[], None]:
        def deaf(take: Take) -> Take:
            def taken(task: TaskPacket) -> Receipt:
                with contextlib.suppress(ValueError):
                    take(task)
                return Receipt(ReceiptStatus.OK)

            return taken

        return super().listen([listener._replace(take=deaf(listener.take)) for listener in listeners])


class Twice(LocalBroker):
    """Sends everything twice."""

    def send_many(self, tasks: Any) -> None:
        super().send_many([task for task in tasks for _ in range(2)])


class Mixed(LocalBroker):
    """Has one queue, whatever the function."""

    def send_many(self, tasks: Any) -> None:
        super().send_many([task._replace(name="f") for task in tasks])

    def listen(self, listeners: Any) -> Callable[[], None]:
        return super().listen([listener._replace(name="f") for listener in listeners])


class Swapped(LocalBroker):
    """The last comes first."""

    def send_many(self, tasks: Any) -> None:
        super().send_many(tasks[::-1])


class Uncaring(LocalBroker):
    """Says that it passes a wish on, and does not."""

    def stop_task(self, name: str, id: str) -> bool:
        return True


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Forgetful, "test_what_is_refused_goes_to_another"),
        (Forgetful, "test_a_listener_that_raises_has_refused"),
        (Twice, "test_no_task_comes_twice"),
        (Mixed, "test_five_functions_get_their_own_in_order"),
        (Swapped, "test_five_functions_get_their_own_in_order"),
        (Mixed, "test_a_task_comes_as_it_was_sent"),
        (Uncaring, "test_a_wish_to_stop_a_task_is_brought"),
    ],
)
def test_a_broker_that_breaks_the_contract_is_found(kind: type[LocalBroker], test: str) -> None:
    contract, broker = BrokerContract(), kind()
    contract.patience = 0.2
    try:
        with pytest.raises(AssertionError):
            getattr(contract, test)(Ends(broker))
    finally:
        broker.close()
