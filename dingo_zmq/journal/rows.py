"""What is in a journal, as records."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from dingo_zmq.model import Failure, Options, Try

__all__ = ["Batch", "Call", "Dead", "End", "Hold", "Open", "State"]


class Call(Struct, array_like=True):
    """
    A task as it was called.

    Attributes:
        record: its number in the journal.
        name, id: the task.
        called: seconds since 1970, by this machine's clock.
        fingerprint, size: of its route, see `protocol.ledger.Route`.
        options: how it is to be treated.
        body, buffers: its arguments.
    """

    record: int
    name: str
    id: str
    called: float
    fingerprint: str
    size: int
    options: Options
    body: bytes
    buffers: list[bytes] = []


class Hold(Struct, array_like=True):
    """
    Where a task was when last something happened to it.

    Attributes:
        record: the task.
        base: first token of the link to the node that holds it, b"" where it waits.
        incarnation, node: of the node, and its name.
        number: of the task in its lane.
        attempt, losses, raised: how often it was sent, how many nodes died with it, how often it was tried again
            since it had raised.
        started: whether it may have started where it is.
        begun: whether it may have started anywhere, so that it does not expire any more.
        once: whether it must not be started twice, as its node may have told a caller that knows only its name.
        history: what became of its tries that came to nothing.
    """

    record: int
    base: bytes = b""
    incarnation: bytes = b""
    node: str = ""
    number: int = 0
    attempt: int = 0
    losses: int = 0
    raised: int = 0
    started: bool = False
    begun: bool = False
    once: bool = False
    history: tuple[Try, ...] = ()


class End(Struct, array_like=True):
    """
    The final report of a task.

    Attributes:
        record: the task.
        ended: seconds since 1970, by this machine's clock.
        status, body, buffers: of the report; where the caller itself ended the task `failure` says how.
        node, attempt: who reported, and of which attempt.
        history: what became of its tries that came to nothing.
        dead: whether the mesh gave the task up, rather than the function: it is a dead letter.
    """

    record: int
    ended: float
    status: int
    node: str
    attempt: int
    body: bytes = b""
    buffers: list[bytes] = []
    failure: Failure | None = None
    history: tuple[Try, ...] = ()
    dead: bool = False


@dataclass(slots=True)
class Open:
    """A task in a journal that is opened: `hold` where it was sent, `end` where it was settled."""

    call: Call
    hold: Hold | None = None
    end: End | None = None


@dataclass(slots=True)
class Dead:
    """A dead letter."""

    call: Call
    end: End


@dataclass(slots=True)
class State:
    """
    What a journal says when it is opened.

    Attributes:
        caller: id of the caller.
        life: its number, by which nodes know the latest one: the time of the machine in milliseconds, or more.
            So of two copies of a journal the one that is opened later has the tasks.
        open: tasks that the program has not let go of, in the order of their calls.
        last: the highest number of a task so far.
        lives: how often it was opened, this time included.
    """

    caller: str
    life: int
    open: list[Open]
    last: int
    lives: int


@dataclass(slots=True)
class Batch:
    """
    What is to be written together; of each task what came last.

    Attributes:
        calls, holds, ends: by record.
        gone: tasks that the program has let go of.
    """

    calls: dict[int, Call] = field(default_factory=dict)
    holds: dict[int, Hold] = field(default_factory=dict)
    ends: dict[int, End] = field(default_factory=dict)
    gone: dict[int, None] = field(default_factory=dict)
