"""One program in all modes: the application suite, with one App and with several."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from dingo_zmq import App
from dingo_zmq.local_broker import LocalBackend, LocalBroker
from dingo_zmq.mesh.engine import MeshSettings
from dingo_zmq.mesh.ports import MeshCallerPort, MeshNodePort
from dingo_zmq.testing.app_suite import AppSuite
from tests.contracts.test_broker import OneQueueForAll

Make = Callable[..., App]


@pytest.fixture
def in_memory() -> Make:
    """Apps in remote mode that share one queue of tasks and one of reports."""
    tasks, reports = LocalBroker().queue, LocalBackend().queue

    def make(**settings: Any) -> App:
        app = App("remote", **settings)
        app.use(LocalBroker(tasks))
        app.use(LocalBackend(reports))
        return app

    return make


@pytest.fixture
def in_mesh() -> Make:
    """Apps of one mesh."""
    name = f"test-{secrets.token_hex(6)}"

    def make(**settings: Any) -> App:
        return App("mesh", mesh=name, discovery=["directory"], **settings)

    return make


@pytest.fixture
def over_mesh_ports() -> Make:
    """Apps in remote mode with a mesh attached."""
    settings = MeshSettings(mesh=f"test-{secrets.token_hex(6)}", discovery=("directory",))

    numbers = itertools.count()

    def make(**more: Any) -> App:
        app = App("remote", **more)
        app.use(MeshCallerPort(settings))
        app.use(MeshNodePort(settings, name=f"node{next(numbers)}"))
        return app

    return make


class TestLocal(AppSuite):
    has_bodies = False

    @pytest.fixture
    def make_app(self) -> Make:
        return lambda **settings: App("local", **settings)


class TestLocalOverTheWire(AppSuite):
    @pytest.fixture
    def make_app(self) -> Make:
        return lambda **settings: App("local", wire=True, **settings)


class TestOneMeshApp(AppSuite):
    @pytest.fixture
    def make_app(self, in_mesh: Make) -> Make:
        return in_mesh


class TestManyMeshApps(AppSuite):
    callers, nodes = 3, 3

    @pytest.fixture
    def make_app(self, in_mesh: Make) -> Make:
        return in_mesh


class TestOneRemoteApp(AppSuite):
    @pytest.fixture
    def make_app(self, in_memory: Make) -> Make:
        return in_memory


class TestManyRemoteApps(AppSuite):
    callers, nodes = 3, 3

    @pytest.fixture
    def make_app(self, in_memory: Make) -> Make:
        return in_memory


class TestManyRemoteAppsWithOneQueueForAll(AppSuite):
    callers, nodes = 2, 2

    @pytest.fixture
    def make_app(self) -> Make:
        tasks, reports = LocalBroker().queue, LocalBackend().queue

        def make(**settings: Any) -> App:
            app, broker = App("remote", **settings), LocalBroker(tasks)
            app.use(producer=broker, consumer=OneQueueForAll(broker))
            app.use(LocalBackend(reports))
            return app

        return make


class TestOneRemoteAppOverMeshPorts(AppSuite):
    @pytest.fixture
    def make_app(self, over_mesh_ports: Make) -> Make:
        return over_mesh_ports


class TestManyRemoteAppsOverMeshPorts(AppSuite):
    callers, nodes = 2, 2

    @pytest.fixture
    def make_app(self, over_mesh_ports: Make) -> Make:
        return over_mesh_ports
