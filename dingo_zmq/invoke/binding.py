"""Which argument of a call goes to which parameter."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from inspect import Parameter
from typing import Any, TypeAlias

from dingo_zmq.errors import ArgumentError

__all__ = ["Binding", "Call"]

Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_ONE_VALUE = (*_POSITIONAL, Parameter.KEYWORD_ONLY)


class Binding:
    """
    Binds calls to the parameters of one function.

    Attributes:
        parameters: by name.
        positional: names of those that can be given by position.
        rest: the name of ``*args``, or None.
        named_rest: the name of ``**kwargs``, or None.
        least: how many positional arguments are needed, or None where positional ones alone never do.
    """

    def __init__(self, function: str, text: str, signature: inspect.Signature) -> None:
        self._function, self._text = function, text
        self.parameters = dict(signature.parameters)
        values = self.parameters.values()
        self.positional = [p.name for p in values if p.kind in _POSITIONAL]
        self._nameless = sum(p.kind == Parameter.POSITIONAL_ONLY for p in values)
        self.rest = next((p.name for p in values if p.kind == Parameter.VAR_POSITIONAL), None)
        self.named_rest = next((p.name for p in values if p.kind == Parameter.VAR_KEYWORD), None)
        self._needed = {p.name for p in values if p.kind in _ONE_VALUE and p.default is Parameter.empty}
        self.least = len(self._needed) if self._needed <= set(self.positional) else None

    def line_up(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Turn keyword arguments into positional ones if that leaves none over and no gap."""
        total = len(args) + len(kwargs)
        if len(args) < self._nameless or total > len(self.positional):
            return args, kwargs
        try:
            return args + tuple([kwargs[name] for name in self.positional[len(args) : total]]), {}
        except KeyError:
            return args, kwargs

    def name_of(self, word: str) -> str:
        """
        Return the parameter that takes a keyword argument.

        Raises:
            ArgumentError: if there is none.
        """
        known = self.parameters.get(word)
        if known is not None and known.kind in _BY_NAME:
            return word
        if self.named_rest is None:
            raise ArgumentError(self._function, word, f"a parameter of {self._text}", "an unknown name")
        return self.named_rest

    def bind(self, count: int, words: Iterable[str]) -> list[str]:
        """
        Return the parameter of each of `count` positional arguments.

        Raises:
            ArgumentError: if the call does not bind.
        """
        names = self.positional[:count]
        if count > len(names):
            if self.rest is None:
                most = f"at most {len(names)} positional arguments, as in {self._text}"
                raise ArgumentError(self._function, "", most, str(count))
            names += [self.rest] * (count - len(names))
        by_name = {word for word in words if self.name_of(word) == word}
        for name in by_name.intersection(self.positional[:count]):
            raise ArgumentError(self._function, name, "one value", "one by position and one by name")
        for name in self.parameters:
            if name in self._needed and name not in names and name not in by_name:
                raise ArgumentError(self._function, name, f"a value, as in {self._text}", "nothing")
        return names
