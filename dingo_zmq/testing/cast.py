"""Everybody who is in a simulated world."""

from __future__ import annotations

from dataclasses import dataclass

from dingo_zmq.testing.faults import Faults
from dingo_zmq.testing.hosts import CallerHost
from dingo_zmq.testing.node_host import NodeHost
from dingo_zmq.testing.scene import Scene


@dataclass
class Cast:
    """Nodes, callers, and what happens to them."""

    scene: Scene
    nodes: list[NodeHost]
    callers: list[CallerHost]
    faults: Faults
