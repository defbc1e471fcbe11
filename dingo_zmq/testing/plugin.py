"""
The plug-in for pytest; where dingo-zmq is installed, its fixtures are there.

::

    def test_the_sum(dingo_mesh):
        dingo_mesh.serve(app, "bench")  # the functions of any App, in this process
        assert dingo_mesh.app().call("add", 2, 3).result(timeout=10) == 5
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dingo_zmq.app import App

__all__ = ["LoopbackMesh", "dingo_mesh"]


class LoopbackMesh:
    """
    A real mesh on loopback that nobody else is in, with folders and keys of its own.

    Attributes:
        name: of the mesh.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._apps: list[App] = []

    def app(self, **settings: Any) -> App:
        """
        Return a new App in this mesh; it is closed at the end of the test.

        Args:
            settings: as for an `App`.
        """
        from dingo_zmq.app import App  # not in every run of pytest

        app = App("mesh", **{"mesh": self.name, "discovery": ["directory"], **settings})
        self._apps.append(app)
        return app

    def serve(self, app: App, name: str = "node", **settings: Any) -> App:
        """
        Serve the functions registered in an App, whatever its mode, by a node of this process.

        Args:
            app: what to serve; it stays as it is.
            name: of the node.
            settings: of the App that serves.

        Returns:
            The App that serves.
        """
        from dingo_zmq.app import serve

        node = self.app(**settings)
        serve(node.engine(), app, name=name)
        return node

    def close(self) -> None:
        """
        Close all Apps; what is open ends with FAIL/SHUTDOWN.

        Raises:
            AssertionError: a task was called and never settled.
        """
        while self._apps:
            app = self._apps.pop()
            app.close(wait=False)
            assert not app.ledger().open, app.ledger()


@pytest.fixture
def dingo_mesh(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackMesh]:
    """A real mesh on loopback for one test; Apps and processes started in it find each other and nobody else."""
    folder = Path(tempfile.mkdtemp(prefix="dz"))
    mesh = LoopbackMesh(f"test-{secrets.token_hex(6)}")
    try:
        for kind in ("config", "runtime"):
            (folder / kind).mkdir(mode=0o700)
            monkeypatch.setenv(f"DINGO_ZMQ_{kind.upper()}_DIR", str(folder / kind))
        monkeypatch.setenv("DINGO_ZMQ_MESH", mesh.name)
        monkeypatch.setenv("DINGO_ZMQ_DISCOVERY", "directory")
        yield mesh
    finally:
        mesh.close()
        shutil.rmtree(folder, ignore_errors=True)
