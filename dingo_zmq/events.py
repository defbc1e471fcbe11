"""What an App tells of itself besides reports: events, how much they matter, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

__all__ = ["Event", "EventCode", "Level", "Origin"]


class Level(IntEnum):
    """How much an event matters; `logging` has levels of the same names."""

    DEBUG = 0
    INFO = 1
    WARNING = 2
    ERROR = 3


class Origin(StrEnum):
    """The part of an App that an event comes from."""

    CALLER = "caller"  # sends tasks and knows the nodes
    NODE = "node"  # takes tasks in and publishes reports
    WORKER = "worker"  # runs functions
    HANDLER = "handler"  # runs what the program gave to `on_ok`, `on_nok`, `add_done_callback`


class EventCode(StrEnum):
    """What happened."""

    GENERIC = "generic"  # see its text
    FOUND = "found"  # a node can be used from now on, or again
    LOST = "lost"  # a node is given up, or a node gives up a caller
    GONE = "gone"  # a node has ended in good order
    BUSY = "busy"  # a node is silent and gets no new tasks until it answers
    REFUSED = "refused"  # a node does not let us in, or this one a caller; or a task that was brought is not taken
    REDELIVERED = "redelivered"  # a task is sent again: its node was lost, did not get it or gave it back
    REPEATED = "repeated"  # a report or a task came twice or too late, and changed nothing
    DROPPED = "dropped"  # what cannot be read or sent, or a copy that a watcher was too slow for
    HANDLER = "handler"  # a handler raised
    DECODE = "decode"  # arguments, a return or a failure that cannot be read or do not fit
    JOURNAL = "journal"  # tasks of an earlier life, or that the journal cannot be written
    FAILED = "failed"  # a function raised, its return cannot travel, or a task failed whose report is ignored


@dataclass(frozen=True, slots=True)
class Event:
    """
    Something that happened in an App; what does not apply is "" or None.

    Attributes:
        origin: the part that tells it.
        level: how much it matters.
        code: what happened.
        text: the same for people, as in the log.
        time: seconds since 1970, by this machine's clock.
        node: name of the node that it is about.
        caller: id of the caller that it is about, where a node tells it.
        name, id: the function, and the task of it, that it is about.
        error: what was raised.
    """

    origin: Origin
    level: Level
    code: EventCode
    text: str
    time: float
    node: str = ""
    caller: str = ""
    name: str = ""
    id: str = ""
    error: BaseException | None = None
