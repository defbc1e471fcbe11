"""
Aids for testing: the simulated world of the protocol.

`python -m dingo_zmq.testing SEED` prints what happens in one seed.
"""

from __future__ import annotations

from dingo_zmq.testing.plan import Fault, Job, Kind, NodePlan, Plan, draw
from dingo_zmq.testing.world import Outcome, World, play, play_seed

__all__ = ["Fault", "Job", "Kind", "NodePlan", "Outcome", "Plan", "World", "draw", "play", "play_seed"]
