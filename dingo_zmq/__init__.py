"""
A brokerless peer task mesh for Python over ZeroMQ.

The words: a *function* is what was registered under a name; a *task* is one call of it; a *report* is what a
caller hears about a task; *caller* and *node* are the two roles an `App` can play; a *worker* is one slot of a
node.  A *link* joins one caller incarnation to one node incarnation, a *lane* is one function on one link, and
*credit* is the highest task number of a lane that the node will take.  The caller's *ledger* has every task
not yet *settled*, the node's *intake* the tasks held and the answers kept.
"""

from dingo_zmq import interrupts

with interrupts.Held():
    from dingo_zmq import errors
    from dingo_zmq.allocation import Allocation
    from dingo_zmq.app import App
    from dingo_zmq.balance import Ledger, OpenTask
    from dingo_zmq.current import current_task
    from dingo_zmq.events import Event, EventCode, Level, Origin
    from dingo_zmq.flow import Call, GroupResult, chain, group
    from dingo_zmq.ids import IDMaker, SequenceIDs, UUIDs
    from dingo_zmq.listening import EventStream
    from dingo_zmq.model import Code, Failure, Options, Report, Retries, Status, Try
    from dingo_zmq.result import Result
    from dingo_zmq.stream import Stream

__version__ = "0.1.0"

__all__ = [
    "Allocation",
    "App",
    "Call",
    "Code",
    "Event",
    "EventCode",
    "EventStream",
    "Failure",
    "GroupResult",
    "IDMaker",
    "Ledger",
    "Level",
    "OpenTask",
    "Options",
    "Origin",
    "Report",
    "Result",
    "Retries",
    "SequenceIDs",
    "Status",
    "Stream",
    "Try",
    "UUIDs",
    "chain",
    "current_task",
    "errors",
    "group",
]
