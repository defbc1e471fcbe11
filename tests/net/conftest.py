"""A net for one test alone; every test here needs network namespaces."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lan import Net, require_namespaces


@pytest.fixture
def net(session_folder: Path, own_mesh: None) -> Iterator[Net]:
    """LANs and hosts of a test's own."""
    require_namespaces()
    net = Net(session_folder / f"n{secrets.token_hex(3)}")
    yield net
    net.close()
    net.show()


@pytest.fixture(scope="module")
def module_net(session_folder: Path) -> Iterator[Net]:
    """LANs and hosts for all tests of a module."""
    require_namespaces()
    net = Net(session_folder / f"n{secrets.token_hex(3)}")
    yield net
    net.close()
