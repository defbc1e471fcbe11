"""The messages of protocol version 1 as typed records; the grammar on the wire is in `wire`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from dingo_zmq.model import NUMBER_MOST, PRIORITY_MOST

VERSION = 1
TEXT_MOST = 4096
VIA_MOST = 4
"""forwarders between a caller and a node"""
TOTAL_MOST = 2**53

Token: TypeAlias = Annotated[bytes, Meta(min_length=8, max_length=8)]
Part: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]  # a piece of a topic
Text: TypeAlias = Annotated[str, Meta(max_length=TEXT_MOST)]
# What people are shown as it is: no control character, no mark of direction.  Too slow for each task.
_SHOWN = r"\A[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]*\Z"
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200, pattern=_SHOWN)]
Total: TypeAlias = Annotated[int, Meta(ge=0, le=TOTAL_MOST)]
Refs: TypeAlias = dict[Part, list[Total]]  # lane -> task numbers
Totals: TypeAlias = dict[Part, list[tuple[Total, Total]]]  # lane -> task numbers, each with a total
Via: TypeAlias = Annotated[list[Name], Meta(max_length=VIA_MOST)]  # forwarders, the nearest to the node first
Versions: TypeAlias = Annotated[list[Total], Meta(max_length=16)]


class TaskOptions(Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False, frozen=True):
    """
    The options of a task that its node must know.

    `expires`: seconds after its arrival within which it must have started, 0 for any; else it is RECALLED with
    the reason EXPIRED.  They are what was left when it was sent, so that clocks need not agree; the time on the
    way is not counted.
    `ignore_report`: nobody wants to know what it returns; the body of a SUCCESS may be empty.
    `stream`: its caller takes what the function yields, as PARTIAL reports; the body of the SUCCESS is empty.
    """

    at_most_once: bool = False
    monitor_progress: bool = False
    time_limit: Annotated[float, Meta(ge=0, le=NUMBER_MOST)] = 0.0  # seconds, 0 for none
    soft_time_limit: Annotated[float, Meta(ge=0, le=NUMBER_MOST)] = 0.0
    priority: Annotated[int, Meta(ge=-PRIORITY_MOST, le=PRIORITY_MOST)] = 0
    expires: Annotated[float, Meta(ge=0)] = 0.0
    ignore_report: bool = False
    stream: bool = False


TaskItem: TypeAlias = tuple[Part, Total, Part, Total, TaskOptions | None, bytes]
"""lane, number, id, attempt, options, body"""

ReportItem: TypeAlias = tuple[Total, Part, Total, Total, Annotated[int, Meta(ge=1, le=5)], bytes]
"""report number (0: not kept), lane, number, attempt, status, body"""


class Message(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of all messages; fields travel as a msgpack array in the order of the class."""


# ------------------------------------------------------------------------------ caller to node


class Hello(Message):
    """
    Open a link, or ask whether it still stands; `incarnation` is empty or the one believed in.

    `life` is 0, or of a caller with a journal how often that was opened.  Its first HELLO of a higher life takes
    over the link of the life before, with all that is held and kept there; a lower life is refused from then on.
    """

    link: Token
    caller: Part
    number: Total
    incarnation: Annotated[bytes, Meta(max_length=8)]
    mesh: Part
    versions: Versions
    life: Total = 0


class Tasks(Message):
    """One or more tasks; `wanted` tells, per lane, how many more wait at the caller."""

    link: Token
    caller: Part
    heard: Total
    wanted: dict[Part, Total]
    items: list[TaskItem]


class Beat(Message):
    """
    Life sign and healing; `lanes`: last number sent, number covered by `open`, wanted.

    `incarnation` is the one that said WELCOME.  A late HELLO may have opened the link at another one, which
    must not speak for the first: it answers REFUSED.  `taken`: as in `Taken`, of all streams that are open there.
    """

    link: Token
    caller: Part
    number: Total
    heard: Total
    lanes: dict[Part, tuple[Total, Total, Total]]
    open: Refs
    incarnation: Annotated[bytes, Meta(max_length=8)] = b""
    taken: Totals = {}


class Taken(Message):
    """So many values of these streams were taken by now, by whoever reads them."""

    link: Token
    heard: Total
    taken: Totals


class Cancel(Message):
    """
    Stop these tasks; `tell`: the caller still waits for what becomes of each.

    Then a task that has not started comes back as RECALLED with reason CANCELLED, and one that runs is told, and
    gets a final report whatever it makes of that.  Without `tell` the caller has settled it, or given it up, and
    its failure would be of no use.
    """

    link: Token
    refs: Refs
    tell: bool = False


class Recall(Message):
    """Give back those of these tasks that have not started."""

    link: Token
    refs: Refs


class Go(Message):
    """These claimed tasks may start."""

    link: Token
    refs: Refs


class Bye(Message):
    """The caller leaves; forget the link."""

    link: Token


# ------------------------------------------------------------------------------ node to caller


class Welcome(Message):
    """
    The link stands; `functions`: slots, signature text, fingerprint, at_most_once; `credit` per lane.

    Where bodies of a function are not msgpack, "/" and the name of their marshaller stand behind the fingerprint,
    or the names of both, "/tasks/reports", where they differ.  No other body is to be sent there.
    `base` is set where the link was taken over from an earlier life of the caller: the first token it ever had.
    Then `seen` tells the highest task number of each lane that has come, and reports are numbered anew.
    `via`: the forwarders that passed it on; each adds its name, see `relay`.
    """

    link: Token
    echo: Total
    node: Name
    incarnation: Token
    name: Name
    mesh: Name
    tags: list[Name]
    limit: Total  # largest body, bytes
    functions: dict[Name, tuple[Total, Text, Text, bool]]
    version: Total
    pace: Total  # relative speed of the machine, any unit, the same on all
    credit: dict[Part, Total]
    draining: bool
    base: Annotated[bytes, Meta(max_length=8)] = b""
    seen: dict[Part, Total] = {}
    via: Via = []


class Reports(Message):
    """Reports of tasks; `lanes`: credit and run time (ns, 0 unknown); `load`: held in all, yours running."""

    link: Token
    lanes: dict[Part, tuple[Total, Total]]
    load: tuple[Total, Total]
    items: list[ReportItem]


class Credit(Message):
    """The answer to a BEAT (`echo` its number, 0 if unasked); `running`: tasks that may have started; `via`: as in
    `Welcome`.
    """

    link: Token
    echo: Total
    lanes: dict[Part, tuple[Total, Total]]
    load: tuple[Total, Total]
    running: Refs
    draining: bool
    via: Via = []


class Missing(Message):
    """These tasks never arrived, or are gone, and will never start here."""

    link: Token
    refs: Refs


class Claim(Message):
    """These tasks could start now; may they?"""

    link: Token
    refs: Refs


class Recalled(Message):
    """
    These tasks are given back; `reason` is one of `REASONS`, or words for people.

    They have not started and will never start here; but for reason RESTARTING: they may have, and are given up.
    EXPIRED: the seconds of their options have run out.
    """

    link: Token
    refs: Refs
    reason: Text


class Refused(Message):
    """There is no such link; `reason` is one of the REFUSED_ constants."""

    link: Token
    reason: Part
    text: Text
    versions: Versions


class Pulse(Message):
    """For people who watch: load of a node, once a second."""

    name: Name
    running: Total
    queued: Total
    done: Total
    age: Total  # seconds since the start of the node
    clock: Total = 0  # milliseconds since 1970 by the clock of its machine, 0 unknown; for people alone


REFUSED_UNKNOWN = "unknown link"
REFUSED_VERSION = "version"
REFUSED_MESH = "mesh"
REFUSED_LIFE = "life"

GIVEN_BACK = "given back"
DRAINING = "draining"
BUSY = "busy"
EXPIRED = "expired"
UNKNOWN_FUNCTION = "unknown function"
CANCELLED = "cancelled"
RESTARTING = "node restarts"
REASONS = frozenset((GIVEN_BACK, DRAINING, BUSY, UNKNOWN_FUNCTION, EXPIRED, CANCELLED, RESTARTING))
"""why a task is given back; any other text is what the one said who was to run it, for people"""

FromCaller: TypeAlias = Hello | Tasks | Beat | Taken | Cancel | Recall | Go | Bye
FromNode: TypeAlias = Welcome | Reports | Credit | Missing | Claim | Recalled | Refused | Pulse
