"""Remote mode: tasks and reports go through whatever objects are attached to the App; see `dingo_zmq.ports`."""

from dingo_zmq.remote.engine import RemoteEngine
from dingo_zmq.remote.roles import Roles

__all__ = ["RemoteEngine", "Roles"]
