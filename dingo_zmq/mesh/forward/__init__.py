"""
Two networks joined: each node of one side appears on the other, under its own identity.

`routes` decides which node that is for, `stand_in` is what others see in its place, `side` is one network with
its key, and `forwarder` runs it all.  A forwarder knows nothing of tasks: it passes messages on as they are, but
for its own name in those that tell who is there (`protocol.relay`), and what is lost on the way is lost as on any
line.
"""

from dingo_zmq.mesh.forward.forwarder import Forwarder
from dingo_zmq.mesh.forward.settings import SideSettings

__all__ = ["Forwarder", "SideSettings"]
