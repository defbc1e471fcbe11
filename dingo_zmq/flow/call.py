"""A function with its arguments, kept to be sent later; and what all flows have in common."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from dingo_zmq.errors import UsageError
from dingo_zmq.flow.keeper import Keeper
from dingo_zmq.model import Options
from dingo_zmq.registry import Function
from dingo_zmq.result import Result

__all__ = ["Call", "Flow"]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Flow(ABC, Generic[R_co]):
    """
    What can be sent as one, any number of times: a `Call`, a `Group` or a `Chain`.

    Attributes:
        name: of the function, or "group" or "chain".
        fed: whether it takes the return of the link before it in a chain.
    """

    name: str
    fed = True

    def call(self, *first: Any) -> Result[R_co]:
        """
        Send it, and return its `Result` at once.

        Args:
            first: come before the arguments that were bound, for all calls with which it begins.

        Raises:
            UsageError: what `TaskFunction.call` raises, for the tasks that are sent at once; those that had been
                sent by then are cancelled.
        """
        if first and not self.fed:
            raise UsageError(f"{self.name}: it was made by unfed(), and so takes no more arguments")
        return self._send(first)

    async def acall(self, *first: Any) -> R_co:
        """Send it and wait for its return; raises what `call` and `Result.result` raise."""
        return await self.call(*first)

    def unfed(self) -> Self:
        """Return the same, but taking nothing of the link before it in a chain."""
        other = copy.copy(self)
        other.fed = False
        return other

    def start(self, first: tuple[Any, ...]) -> Result[R_co]:
        """Send it as a part of a flow; `first` is what it is fed."""
        return self._send(first if self.fed else ())

    @property
    @abstractmethod
    def keeper(self) -> Keeper:
        """The one that has its results."""

    @abstractmethod
    def check(self, more: int) -> None:
        """
        Check that it can be called with so many arguments more.

        Raises:
            ArgumentError: if a call in it does not bind.
        """

    @abstractmethod
    def _send(self, first: tuple[Any, ...]) -> Result[R_co]: ...


class Call(Flow[R]):
    """
    One call of a function, kept to be sent later; made by `TaskFunction.bind`.

    Attributes:
        function: what is called.
        options: how its task is treated.
        args: positional arguments, behind those that it is fed.
        kwargs: keyword arguments.
    """

    def __init__(
        self,
        function: Function,
        options: Options,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        send: Callable[..., Result[R]],
        keeper: Keeper,
    ) -> None:
        """Only a `TaskFunction` makes one."""
        self.name, self.function, self.options = function.name, function, options
        self.args, self.kwargs = args, kwargs
        self._call, self._keeper = send, keeper

    @property
    def keeper(self) -> Keeper:
        """The one that has its results."""
        return self._keeper

    def check(self, more: int) -> None:
        """See `Flow.check`."""
        count = len(self.args) + (more if self.fed else 0)
        self.function.signature.argument_names(count, self.kwargs)

    def _send(self, first: tuple[Any, ...]) -> Result[R]:
        return self._call(*first, *self.args, **self.kwargs)

    def __repr__(self) -> str:
        words = [*map(repr, self.args), *(f"{word}={value!r}" for word, value in self.kwargs.items())]
        return f"<call {self.name}({', '.join(words)})>"
