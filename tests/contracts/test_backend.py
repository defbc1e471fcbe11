"""The contract of backends, kept by each of ours."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Queue
from typing import Any

import pytest

from dingo_zmq.errors import UsageError
from dingo_zmq.local_broker import LocalBackend
from dingo_zmq.mesh.engine import MeshSettings
from dingo_zmq.mesh.ports import MeshCallerPort, MeshNodePort
from dingo_zmq.model import Status
from dingo_zmq.ports import Listener, Receipt, ReceiptStatus, ReportPacket, TaskPacket
from dingo_zmq.testing.contracts import BackendContract, backend_ends


class TestOneLocalBackend(BackendContract):
    @pytest.fixture
    def backend(self) -> tuple[Any, Any]:
        return backend_ends(LocalBackend())


class TestTwoLocalBackendsThatShareTheirReports(BackendContract):
    @pytest.fixture
    def backend(self) -> tuple[Any, Any]:
        reporter = LocalBackend()
        return backend_ends(reporter, LocalBackend(reporter.queue))


class TestTheMesh(BackendContract):
    @pytest.fixture
    def backend(self) -> Iterator[tuple[Any, Any]]:
        settings = MeshSettings(mesh="contract", discovery=("directory",))
        reporter, store = MeshNodePort(settings), MeshCallerPort(settings)
        self.held: Queue[TaskPacket] = Queue()
        self.served: set[str] = set()
        yield reporter, store
        reporter.close()
        store.close()

    def known(self, backend: tuple[Any, Any], task: TaskPacket) -> None:
        """Only of a task that a node holds can it report."""

        def take(task: TaskPacket) -> Receipt:
            self.held.put(task)
            return Receipt(ReceiptStatus.OK)

        if task.name not in self.served:
            self.served.add(task.name)
            backend[0].listen([Listener(task.name, take)])
        backend[1].send(task)
        assert self.held.get(timeout=self.patience)[:2] == task[:2]


class Mixing(LocalBackend):
    """Knows a task by its id alone."""

    def channel(self, name: str) -> Any:
        channel = super().channel("f")
        return lambda reports: channel([report._replace(name="f") for report in reports])

    def poll(self, name: str, id: str, heard: Any) -> None:
        super().poll("f", id, heard)

    def done(self, name: str, id: str) -> None:
        super().done("f", id)


class Deaf(LocalBackend):
    """Forgets what comes before somebody polls."""

    def poll(self, name: str, id: str, heard: Any) -> None:
        super().done(name, id)
        super().poll(name, id, heard)


class Backwards(LocalBackend):
    """The last report comes first."""

    def channel(self, name: str) -> Any:
        channel = super().channel(name)
        return lambda reports: channel(reports[::-1])


@pytest.mark.parametrize(
    ("kind", "test", "error"),
    [
        (Mixing, "test_equal_ids_do_not_mix", (AssertionError, UsageError)),
        (Deaf, "test_reports_that_were_sent_before_somebody_polled", AssertionError),
        (Deaf, "test_polling_twice_is_refused", AssertionError),
        (Backwards, "test_reports_that_are_polled_before", AssertionError),
    ],
)
def test_a_backend_that_breaks_the_contract_is_found(kind: type[LocalBackend], test: str, error: Any) -> None:
    contract = BackendContract()
    contract.patience = 0.2
    with pytest.raises(error):
        getattr(contract, test)(backend_ends(kind()))


def test_one_channel_has_one_name() -> None:
    for backend in (LocalBackend(), MeshNodePort()):
        with pytest.raises(UsageError, match="a report of g came down the channel of f"):
            backend.channel("f")([ReportPacket("g", "1", Status.SENT)])
