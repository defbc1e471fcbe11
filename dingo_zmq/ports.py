"""What can be plugged into an App: small Protocols, which need not be inherited from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

__all__ = ["Body", "Buffer", "Codec", "Encoding", "Invoker", "Marshaller", "Shape"]

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
