"""What a caller's decider asks of its doer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dingo_zmq.events import EventCode, Level
from dingo_zmq.model import Failure
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.ledger import Entry, Lane, Route


@dataclass(slots=True)
class Send:
    """Send a message to a node; tell `Caller.unsent` where the socket refuses it."""

    key: str
    message: m.Message
    buffers: tuple[Any, ...] = ()


@dataclass(slots=True)
class Settled:
    """These tasks are done: see their `status`, `body`, `buffers`, `failure`; `node` reported, if any did."""

    entries: list[Entry]
    node: str = ""


@dataclass(slots=True)
class Told:
    """A report that is not final."""

    entry: Entry
    status: int
    body: bytes
    buffers: tuple[Any, ...]
    node: str


@dataclass(slots=True)
class Retried:
    """
    A task will be tried again; `failure` tells why, if its function raised.

    Said of tasks whose progress is monitored, for the program, and of those that a journal has.
    """

    entry: Entry
    text: str
    failure: Failure | None
    node: str


@dataclass(slots=True)
class Drop:
    """Disconnect from a node that is gone for good."""

    key: str


@dataclass(slots=True)
class Reached:
    """The node with this id answers under `key`; let go of `doubles`, the keys under which it did before."""

    key: str
    node: str
    doubles: list[str]


@dataclass(slots=True)
class Fenced:
    """A later life of this caller is known to nodes: this one is to end, and to write to its journal no more."""

    text: str


@dataclass(slots=True)
class Note:
    """
    Something that happened, for the log and for whoever listens.

    Attributes:
        text: what happened, of each of `entries` where there are some.
        node: name of the node that it is about, "" where unknown.
        entries: tasks that it happened to; the doer tells it of each.
    """

    text: str
    node: str
    level: Level = Level.INFO
    code: EventCode = EventCode.GENERIC
    entries: Sequence[Entry] = ()


Action = Send | Settled | Told | Retried | Drop | Reached | Fenced | Note


@dataclass(slots=True, eq=False)
class Express:
    """
    A place kept for one lone task, so that the thread that calls can send it without waking another one.

    It holds as long as nothing else happens: the doer throws it away before it gives the decider any event.
    `refused` is set by whoever could not send after all.
    """

    route: Route
    lane: Lane
    link: bytes
    number: int
    heard: int
    refused: bool = False

    def tasks(self, caller: str, entry: Entry) -> m.Tasks:
        """Return the message that sends `entry` in this place."""
        item = (self.lane.name, self.number, entry.id, 1, entry.wire_options, entry.body)
        return m.Tasks(self.link, caller, self.heard, {}, [item])
