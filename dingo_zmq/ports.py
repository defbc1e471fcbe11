"""
The parts of an App that can be replaced: small Protocols, each a role that an attached object can play.

What crosses a port is a packet: arguments and returns in it are opaque bytes.  All methods may be called from
any thread, and may block unless it is said that they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from dingo_zmq.model import Options, Status

__all__ = [
    "Backend",
    "Body",
    "Broker",
    "Buffer",
    "Cancels",
    "Channel",
    "Closes",
    "Codec",
    "Consumer",
    "Declares",
    "Encoding",
    "Explains",
    "Heard",
    "HearsStops",
    "HearsTaken",
    "Invoker",
    "KeepsExpires",
    "Listener",
    "Marshaller",
    "NamedBroker",
    "NamedConsumer",
    "PreparesReports",
    "Producer",
    "Receipt",
    "ReceiptStatus",
    "ReportPacket",
    "Reporter",
    "Resizes",
    "SendsMany",
    "Shape",
    "Stop",
    "Stops",
    "Store",
    "Take",
    "Taken",
    "TaskPacket",
    "TellsTaken",
    "send_many",
]

# ---------------------------------------------------------------------- tasks and reports on their way


class TaskPacket(NamedTuple):
    """
    A task on its way to whoever runs it.

    Attributes:
        name: the function.
        id: of the task; (name, id) is its identity.
        options: how it is to be treated, as far as its caller has not seen to that itself.  `expires` is what was
            left of the time when it was sent, in seconds, so that clocks need not agree; who keeps a task for a
            while should take that off.
        body: the arguments, encoded.
        buffers: large binary values of the arguments, in order; any buffer objects.
        attempt: how often it has been sent, counted from 1.
        stream: whether its caller takes what the function yields.
    """

    name: str
    id: str
    options: Options
    body: bytes
    buffers: tuple[Any, ...] = ()
    attempt: int = 1
    stream: bool = False


class ReportPacket(NamedTuple):
    """
    A report on its way to the task's caller.

    Attributes:
        name, id: of the task.
        status: what it says; SUCCESS and FAIL are final, and nothing comes after one.
        body: the return, the value (PARTIAL), the failure or the progress, encoded; b"" for SENT, for PROGRESS at
            the start, and for the SUCCESS of a stream.
        buffers: as for a task.
        attempt: of the task.
        node: name of the node that reports, "" where the adapter itself does.
    """

    name: str
    id: str
    status: Status
    body: bytes = b""
    buffers: tuple[Any, ...] = ()
    attempt: int = 1
    node: str = ""

    @property
    def done(self) -> bool:
        """Whether it is final."""
        return self.status in (Status.SUCCESS, Status.FAIL)


class ReceiptStatus(IntEnum):
    """What became of a task that was handed over."""

    OK = 1  # held from now on; it may not even have started
    NOK = 2  # not now, by the one who was asked
    WORKER_NOT_FOUND = 3  # never, by the one who was asked: nobody there runs the function


class Receipt(NamedTuple):
    """The answer to a task that was handed over; `reason` says in words why it was refused."""

    status: ReceiptStatus
    reason: str = ""


Take: TypeAlias = Callable[[TaskPacket], Receipt]
"""
Takes a task, and says whether it is held now.  It blocks while there is no room: that is the flow control.  A
task that is refused goes back to where it came from, with the reason, and may be offered to others.
"""
Heard: TypeAlias = Callable[[ReportPacket], None]
"""hears the reports of one task, one after the other; it neither blocks nor raises"""
Channel: TypeAlias = Callable[[Sequence[ReportPacket]], None]
"""sends reports in order; called by one thread at a time"""
Stop: TypeAlias = Callable[[str, str], None]
"""is told the name and id of a task that is to be stopped; it neither blocks nor raises"""
Taken: TypeAlias = Callable[[str, str, int], None]
"""is told the name and id of a stream, and how many of its values were taken in all; neither blocks nor raises"""


class Listener(NamedTuple):
    """
    Who takes the tasks of one function.

    Attributes:
        name: the function.
        take: called with each task.
        slots: how many tasks run there at a time; more than a few above it need not be brought.
    """

    name: str
    take: Take
    slots: int = 1


@runtime_checkable
class Producer(Protocol):
    """Sends tasks to whoever runs them."""

    def send(self, task: TaskPacket) -> None:
        """
        Send a task.  Once it returns, the task is on its way; where it raises, it is not.

        Its buffers are the caller's own memory: what is written to them before they have left is sent.
        """


@runtime_checkable
class Consumer(Protocol):
    """Brings the tasks of all functions, from one queue."""

    def listen_all(self, take: Take) -> Callable[[], None]:
        """
        Bring tasks to `take` from now on, from a thread of the consumer's own.

        A task reaches one listener, unless that refuses it.  Which comes first is not promised.

        Returns:
            Ends that; when it has returned, `take` is called no more.
        """


@runtime_checkable
class NamedConsumer(Protocol):
    """Brings the tasks of functions that were asked for; a full worker of one function holds up no other."""

    def listen(self, listeners: Sequence[Listener]) -> Callable[[], None]:
        """
        Bring each listener the tasks of its function from now on, in the order of their sending.

        Returns:
            Ends that for all of them; when it has returned, no `take` is called any more.
        """


@runtime_checkable
class Reporter(Protocol):
    """Sends reports to callers."""

    def channel(self, name: str) -> Channel:
        """Return a channel for reports of one function; all reports of a task are sent down one channel."""


@runtime_checkable
class Store(Protocol):
    """Where a caller gets its reports."""

    def poll(self, name: str, id: str, heard: Heard) -> None:
        """
        Have the reports of a task brought to `heard` from now on, in order, those sent before included.

        It is called before the task is sent, so that no report is missed.

        Raises:
            UsageError: if the task is polled already.
        """

    def done(self, name: str, id: str) -> None:
        """Forget a task: nobody wants its reports any more.  May be called from within its `heard`."""


class Broker(Producer, Consumer, Protocol):
    """Both ends of a queue of tasks."""


class NamedBroker(Producer, NamedConsumer, Protocol):
    """Both ends of a queue of tasks for each function."""


class Backend(Reporter, Store, Protocol):
    """Both ends of what reports go through."""


# What an attached object may have besides.


@runtime_checkable
class SendsMany(Protocol):
    """A Producer that is quicker with many tasks at a time."""

    def send_many(self, tasks: Sequence[TaskPacket]) -> None:
        """Send tasks, in order."""


@runtime_checkable
class Declares(Protocol):
    """A Producer that has to know the functions beforehand."""

    def declared(self, name: str) -> None:
        """Take note that tasks of a function are going to be sent; it may be told more than once."""


@runtime_checkable
class PreparesReports(Protocol):
    """A Reporter that has to know the tasks beforehand."""

    def before_reports(self, name: str, id: str) -> None:
        """Take note that a task is held, before its first report is sent."""


@runtime_checkable
class Cancels(Protocol):
    """A Producer that can take a task back."""

    def cancel(self, name: str, id: str) -> bool:
        """Return whether the task is taken back, and will not start; it does not block."""


@runtime_checkable
class Stops(Protocol):
    """A Producer that can have a task stopped where it is held or runs already."""

    def stop_task(self, name: str, id: str) -> bool:
        """
        Pass the wish on to whoever holds a task; it does not block.

        The task's final report says what became of it.

        Returns:
            False where the wish can reach nobody, or nobody holds the task: it is to be taken back instead.
        """


@runtime_checkable
class HearsStops(Protocol):
    """A Consumer, of either kind, that brings the wishes of a `Stops`."""

    def hear_stops(self, stop: Stop) -> None:
        """
        Call `stop` with each task that is to be stopped; called before anybody listens.

        It may be called for tasks that nobody holds here, and for one that a `take` has not answered yet.
        """


@runtime_checkable
class TellsTaken(Protocol):
    """A Store that passes on how far the readers of streams are; without it there are none."""

    def taken(self, name: str, id: str, total: int) -> None:
        """Tell whoever runs a task how many of its values were taken in all; it does not block."""


@runtime_checkable
class HearsTaken(Protocol):
    """A Reporter that brings what a `TellsTaken` tells; without it nothing that yields can be served."""

    def hear_taken(self, taken: Taken) -> None:
        """Call `taken` with how far readers are, perhaps of others' tasks too; called before anybody reports."""


@runtime_checkable
class KeepsExpires(Protocol):
    """
    A Producer that sees to `Options.expires` itself: what has not started in time ends with FAIL/EXPIRED.

    From any other, a caller takes such a task back, if the producer `Cancels`.

    Attributes:
        keeps_expires: whether it does.
    """

    keeps_expires: bool


@runtime_checkable
class Resizes(Protocol):
    """A NamedConsumer that has to know when a listener gets another number of slots."""

    def resized(self, name: str, slots: int) -> None:
        """Take note that so many tasks of a function run at a time from now on."""


@runtime_checkable
class Explains(Protocol):
    """A Producer that knows what a task waits for."""

    def why(self, name: str, id: str) -> str:
        """Return one sentence for people, "" where nothing is known."""


@runtime_checkable
class Closes(Protocol):
    """Whatever has to be closed in the end."""

    def close(self) -> None:
        """End threads and connections; what is called twice does nothing the second time."""


def send_many(producer: Producer, tasks: Iterable[TaskPacket]) -> None:
    """Send tasks in order, all at once where the producer can do that."""
    if isinstance(producer, SendsMany):
        producer.send_many(list(tasks))
        return
    for task in tasks:
        producer.send(task)


# ---------------------------------------------------------------------- marshallers and invokers

Buffer: TypeAlias = bytes | bytearray | memoryview
Body: TypeAlias = tuple[bytes, tuple[Buffer, ...]]
"""Data, and the large binary values that travel beside it as frames of their own, uncopied."""


class Shape(Protocol):
    """
    What a marshaller is told of a function.

    Attributes:
        name: of the function.
        text: its signature, such as ``(a: int, b: int = 5) -> int``.
        hints: annotations by parameter, and "return"; what is not annotated is not in it.
    """

    name: str
    text: str
    hints: Mapping[str, Any]

    def names(self, count: int, words: Iterable[str] = ()) -> list[str]:
        """
        Return the parameter of each argument of a call: first of the positional ones, then of the named ones.

        Args:
            count: of positional arguments.
            words: names of the keyword arguments.

        Raises:
            ArgumentError: if such a call does not bind.
        """


class Encoding(Protocol):
    """
    A marshaller, prepared for one function; called by several threads at a time.

    `encode_arguments` and `decode_return` run at the caller, the other two at the node.  Whatever they raise, a
    failure to encode ends as `EncodeError` and a failure to decode as a refusal of the body.
    """

    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Body:
        """Return the arguments of a call as a body."""

    def decode_arguments(self, body: Body) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments in a body, which may be anything at all."""

    def encode_return(self, value: Any) -> Body:
        """Return what the function returned, or one value that it yielded, as a body."""

    def decode_return(self, body: Body) -> Any:
        """Return the value in a body, which may be anything at all."""


@runtime_checkable
class Marshaller(Protocol):
    """
    Makes bodies of arguments and returns, and the other way round.

    Attributes:
        name: what nodes and callers compare; 1 to 200 printable characters without a slash.
    """

    name: str

    def prepare(self, function: Shape) -> Encoding:
        """
        Return the encoding of one function; called once for each.

        Raises:
            UsageError: if its annotations are none that the marshaller can deal with.
        """


class Codec(Protocol):
    """
    The part of a marshaller that knows about values; `CustomMarshaller` adds the rest.

    Methods are called by several threads at a time.  What they are given to decode may be anything at all, and
    may be of any of the types of `Buffer`.
    """

    def prepare(self, function: Shape) -> None:
        """Get ready for a function; called once for each, before all else."""

    def encode_arguments(self, function: Shape, names: Sequence[str], values: Sequence[Any]) -> Sequence[Buffer]:
        """
        Return one part for each argument.

        Args:
            function: which is called.
            names: the parameter of each argument.
            values: the arguments.
        """

    def decode_arguments(self, function: Shape, names: Sequence[str], parts: Sequence[Buffer]) -> Sequence[Any]:
        """Return the argument in each part."""

    def encode_return(self, function: Shape, value: Any) -> Sequence[Buffer]:
        """Return what the function returned in as many parts as you like."""

    def decode_return(self, function: Shape, parts: Sequence[Buffer]) -> Any:
        """Return the value in these parts."""


@runtime_checkable
class Invoker(Protocol):
    """
    Calls functions, in place of the check and conversion by annotations.

    What was decoded is handed over as it is, and in local mode what was given.
    """

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the arguments what the function wants, call it, and return what it returned."""

    def correct_return(self, function: Callable[..., Any] | None, value: Any) -> Any:
        """Make of a return what the caller wants; `function` is the one registered or declared there, if any."""
