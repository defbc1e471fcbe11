"""Ledger entries that are also the owners of their results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from dingo_zmq.listening import Events
from dingo_zmq.protocol.ledger import Entry
from dingo_zmq.result import Result
from dingo_zmq.stream import StreamOwner

__all__ = ["KeptTicket", "StreamTicket", "Ticket"]


class Engine(Protocol):
    """What a ticket needs of whoever made it."""

    events: Events

    def cancel(self, ticket: Any, result: Result[Any]) -> bool:
        """Cancel a task unless it is known to have started."""

    def stop(self, ticket: Any) -> bool:
        """Cancel a task even where it runs."""

    def why(self, ticket: Any) -> str:
        """Return in words why a task is not done."""

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Run a callback of the program."""


class Ticket(Entry):
    """A ledger entry that is also the owner of its `Result`."""

    __slots__ = ("engine", "large", "unpack")

    engine: Engine
    large: int  # bytes that count as open; only set where there are any
    unpack: Callable[[Any], Any]

    def cancel(self, result: Result[Any]) -> bool:
        """Cancel a task unless it is known to have started."""
        return self.engine.cancel(self, result)

    def stop(self, result: Result[Any]) -> bool:
        """Cancel a task even where it runs."""
        return self.engine.stop(self)

    def why(self, result: Result[Any]) -> str:
        """Return in words why it is not done."""
        return self.engine.why(self)

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Run a callback of the program."""
        self.engine.call_soon(fn, *args)

    def handler_failed(self, result: Result[Any], error: Exception) -> None:
        """Tell that a callback raised."""
        self.engine.events.handler_failed(error, result.name, result.id, repr(result))


class StreamTicket(StreamOwner, Ticket):
    """The same for a task whose values are read as they come."""


class KeptTicket(Ticket):
    """
    The same for a task that is in a journal, until the program lets go of its result.

    `let_go` is set once its end is recorded; it is called when nobody has the result any more.
    """

    __slots__ = ("let_go",)

    let_go: Callable[[int], object] | None

    def __del__(self) -> None:
        let_go = getattr(self, "let_go", None)
        if let_go is not None:
            let_go(self.record)
