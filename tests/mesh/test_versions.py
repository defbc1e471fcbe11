"""Callers and nodes on different versions of Python; OTHER_PYTHON is the other one, which has this package too."""

from __future__ import annotations

import os
import sys

import pytest

from tests.support import SERVED, Mesh, Program

OTHER = os.environ.get("OTHER_PYTHON", "")
CALL = """
import asyncio, sys
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID
from tests.served import Colour, Order, Point, add, app, length, later, same, spoil
from dingo_zmq.errors import TaskFailed

order = Order(
    7, Colour.BLUE, datetime(2026, 1, 2, 3, 4, 5), date(2026, 1, 2), timedelta(seconds=1.5), UUID(int=5),
    Decimal("1.10"), {"a", "b"}, (1, "x"), frozenset({3}), Path("/tmp/x"), Point(1), [{"key": "k", "values": [1]}],
)
assert same.call(order).result(30) == order
assert add.call(2).result(30) == 7
assert length.call(bytes(200_000)).result(30) == 200_000
assert asyncio.run(later.acall(7)) == 8
assert list(app.map("echo", range(2000))) == list(range(2000))
try:
    spoil.call("bad").result(30)
except TaskFailed as exc:
    assert "it was bad" in exc.failure.message
    assert "_deeper" in exc.failure.traceback
print("all of it")
app.close()
"""

pytestmark = pytest.mark.skipif(not OTHER, reason="OTHER_PYTHON is not set")


def run(mesh: Mesh, python: str, *words: str) -> Program:
    program = Program(command=[python, *words], env={**mesh.env, "PYTHONPATH": str(SERVED.parent.parent)})
    mesh.programs.append(program)
    return program


@pytest.mark.parametrize("turned", [False, True], ids=["the node is the other", "the caller is the other"])
def test_versions_of_python_meet(mesh: Mesh, turned: bool) -> None:
    calling, serving = (OTHER, sys.executable) if turned else (sys.executable, OTHER)
    node = run(mesh, serving, "-m", "dingo_zmq", "node", str(SERVED))
    node.line("node ", "out")
    caller = run(mesh, calling, "-c", CALL)

    assert caller.wait() == 0, str(caller)
    assert caller.out == "all of it\n"
