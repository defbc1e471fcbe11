"""
Calls that are sent out of the ends of others, all from the caller: groups, chains, and a `Result` as an argument.

A `Flow` is what can be sent as one: a `Call` (a function with its arguments, kept for later), a `Group` of flows
sent side by side, or a `Chain` of flows sent one after the other.  The nodes know nothing of it: each task is one
like all others.  A `Keeper` has the results of an App that are not settled by a node, and one thread for all of
them.
"""

from dingo_zmq.flow.call import Call, Flow
from dingo_zmq.flow.chain import Chain, chain
from dingo_zmq.flow.group import Group, GroupResult, group
from dingo_zmq.flow.keeper import Keeper
from dingo_zmq.flow.later import has_results, later, refusing_results

__all__ = [
    "Call",
    "Chain",
    "Flow",
    "Group",
    "GroupResult",
    "Keeper",
    "chain",
    "group",
    "has_results",
    "later",
    "refusing_results",
]
