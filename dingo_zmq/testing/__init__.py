"""
Aids for testing: the simulated world of the protocol, and contracts for what is plugged into an App.

A contract is a class of tests; inherit from it in a test of your own, under a name that begins with "Test".

`python -m dingo_zmq.testing SEED` prints what happens in one seed.
"""

from __future__ import annotations

from dingo_zmq.testing.contracts_marshal import MarshallerContract
from dingo_zmq.testing.plan import Fault, Job, Kind, NodePlan, Plan, draw
from dingo_zmq.testing.world import Outcome, World, play, play_seed

__all__ = [
    "Fault",
    "Job",
    "Kind",
    "MarshallerContract",
    "NodePlan",
    "Outcome",
    "Plan",
    "World",
    "draw",
    "play",
    "play_seed",
]
