"""A function of the caller's that is to hear of a value: the value is made fit for its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from dingo_zmq import marshal
from dingo_zmq.errors import ArgumentError, EncodeError, UsageError
from dingo_zmq.invoke.hints import hints_of_function, short
from dingo_zmq.invoke.spelling import spell
from dingo_zmq.invoke.types import Converter, Misfit

__all__ = ["Handler"]

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class Handler:
    """
    Calls a function with one value.

    A function that can be called with one argument gets the value.  One that needs more gets the items of a
    tuple, one each; one that takes none is called without.  Annotated parameters are corrected as the returns
    of a function are; a value that came from a function without annotations is read as if it had come from
    one with these, so that a dict becomes a dataclass and a text a date.

    Args:
        fn: the function.
        what: it is for, in messages.
        correct: whether to look at annotations.

    Raises:
        UsageError: if `fn` cannot be called, needs an argument by name, or has an annotation that does not
            resolve or is not supported.
    """

    __slots__ = ("_converters", "_fn", "_least", "_most", "_name", "_rest")

    def __init__(self, fn: Callable[..., object], what: str, *, correct: bool = True) -> None:
        if not callable(fn):
            raise UsageError(f"{what}: a handler must be callable, not {fn!r}")
        self._fn, self._name = fn, getattr(fn, "__name__", type(fn).__name__)
        self._converters: list[Converter | None] = []
        self._rest: Converter | None = None
        self._least, self._most = 1, 1.0
        try:
            signature = inspect.signature(fn)
        except (TypeError, ValueError):  # written in C: it has to see for itself
            return
        parameters = list(signature.parameters.values())
        self._count(parameters, what)
        annotated = correct and not inspect.isclass(fn) and any(p.annotation is not p.empty for p in parameters)
        if annotated:
            self._compile(parameters, what)

    def _count(self, parameters: list[Parameter], what: str) -> None:
        by_name = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
        if by_name:
            raise UsageError(f"{what}: {self._name}() needs {by_name[0]!r} by name, which a handler does not get")
        positional = [p for p in parameters if p.kind in _POSITIONAL]
        self._least = sum(p.default is p.empty for p in positional)
        many = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self._most = float("inf") if many else len(positional)

    def _compile(self, parameters: list[Parameter], what: str) -> None:
        hints = hints_of_function(f"{what}: {self._name}", self._fn)
        for parameter in parameters:
            if parameter.kind in _POSITIONAL:
                self._converters.append(self._converter(parameter.name, hints, what))
            elif parameter.kind is Parameter.VAR_POSITIONAL:
                self._rest = self._converter(parameter.name, hints, what)

    def _converter(self, name: str, hints: dict[str, Any], what: str) -> Converter | None:
        if name not in hints:
            return None
        try:
            return Converter(hints[name])
        except Exception as exc:
            raise UsageError(
                f"{what}: {self._name}(), parameter {name!r}: annotation {spell(hints[name])} is not supported: "
                f"{exc}; hint: leave it out, and the value comes as it is"
            ) from exc

    @property
    def least(self) -> int:
        """How many arguments it needs."""
        return self._least

    def __call__(self, value: Any) -> None:
        """
        Call the function.

        Raises:
            ArgumentError: if the value does not fit.
            Exception: whatever the function raises.
        """
        values = self._spread(value)
        self._fn(*[self._corrected(number, each) for number, each in enumerate(values)])

    def _spread(self, value: Any) -> tuple[Any, ...]:
        if self._most == 0:
            return ()
        if self._least <= 1:
            return (value,)
        if type(value) is tuple and self._least <= len(value) <= self._most:
            return value
        raise ArgumentError(self._name, "", f"a tuple of {self._least} values", short(value))

    def _corrected(self, number: int, value: Any) -> Any:
        converter = self._converters[number] if number < len(self._converters) else self._rest
        if converter is None:
            return value
        try:
            return _made_fit(converter, value)
        except (Misfit, EncodeError):
            name = list(inspect.signature(self._fn).parameters)[number]
            raise ArgumentError(self._name, name, converter.text, short(value)) from None


def _made_fit(converter: Converter, value: Any) -> Any:
    try:
        return converter.correct(value)
    except Misfit:
        return converter.read(*marshal.encode(value))
