"""The functions that an App knows, by name: registered ones can run here, declared ones only elsewhere."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from dingo_zmq.errors import UnknownFunction, UsageError
from dingo_zmq.ids import IDMaker
from dingo_zmq.invoke import How, Marshalled, Signature
from dingo_zmq.marshallers import Marshallers
from dingo_zmq.model import Options, check_part

__all__ = ["Function", "Registry"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_USUAL = How()
_ASYNC = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)


@dataclass(frozen=True, slots=True)
class Function:
    """
    What is known of one function.

    Attributes:
        name: under which it is called.
        callable: what a worker runs, or None where it was only declared.
        signature: checks and converts its arguments and its return.
        is_coroutine: whether calling it gives something to await, or an asynchronous generator.
        options: how its tasks are treated unless a call says otherwise.
        settings: what else was said of it at registration, for the parts of the App that understand it.
        original: what was registered; `callable` unless an invoker of one's own stands in between.
    """

    name: str
    callable: Callable[..., Any] | None
    signature: Signature
    is_coroutine: bool = False
    options: Options = field(default_factory=Options)
    settings: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    original: Callable[..., Any] | None = None

    @property
    def id_maker(self) -> IDMaker | None:
        """What makes the ids of its tasks, None for the caller itself."""
        return self.settings.get("id_maker")

    @property
    def is_stream(self) -> bool:
        """Whether it yields values, as far as is known here."""
        return self.signature.is_stream

    @property
    def runs_here(self) -> bool:
        """Whether it was registered, not only declared."""
        return self.callable is not None


class Registry:
    """
    The functions of one App.  Not locked: register before tasks run, or from one thread.

    Args:
        marshallers: those that can be named; None for the built-in ones.
    """

    def __init__(self, marshallers: Marshallers | None = None) -> None:
        self.marshallers = marshallers or Marshallers()
        self._functions: dict[str, Function] = {}

    def register(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        version: str = "",
        options: Options | None = None,
        settings: Mapping[str, Any] | None = None,
        **how: Any,
    ) -> Function:
        """
        Take a function that can run here.

        Args:
            name: 1 to 200 printable characters without a slash.
            function: a function, coroutine function, bound method or callable object.
            version: callers and nodes whose versions differ do not meet; as for `name`, "" for none.
            options: how its tasks are treated unless a call says otherwise.
            settings: kept as they are.
            how: marshaller, report_marshaller, invoker; see `Marshallers.how`.

        Raises:
            UsageError: if the name is bad or taken, the version is bad, the signature has an annotation that
                is unsupported or does not resolve, or for what is said of marshallers and invoker.
        """
        self._check(name, version)
        chosen = self.marshallers.how(**how)
        if chosen == _USUAL:
            return self._add(name, function, Signature.of(function, name, version=version), options, settings)
        signature = Marshalled.of(function, name, version=version, how=chosen, target=function)
        return self._add(name, function, signature, options, settings, chosen.runner(function))

    def declare(
        self,
        name: str,
        stub: Callable[..., Any] | inspect.Signature | None = None,
        *,
        version: str = "",
        options: Options | None = None,
        settings: Mapping[str, Any] | None = None,
        **how: Any,
    ) -> Function:
        """
        Take a function that only runs elsewhere.

        Args:
            name: as for `register`.
            stub: a function whose body is ``...`` (it is never called), or a signature; without one,
                nothing is checked here.
            version: as for `register`; it needs a stub to go with.
            options: how its tasks are treated unless a call says otherwise.
            settings: kept as they are.
            how: as for `register`.

        Raises:
            UsageError: as for `register`.
        """
        self._check(name, version)
        if stub is None and version:
            raise UsageError(
                f"{name}: a version is compared together with the signature; hint: declare it with a stub"
            )
        chosen = self.marshallers.how(**how)
        if chosen != _USUAL:
            return self._add(name, None, _marshalled(name, stub, version, chosen), options, settings)
        if stub is None:
            signature = Signature.unchecked(name)
        elif isinstance(stub, inspect.Signature):
            signature = Signature(name, stub, version=version)
        else:
            signature = Signature.of(stub, name, version=version)
        return self._add(name, None, signature, options, settings)

    def _check(self, name: str, version: str) -> None:
        check_part("the name of a function", name)
        if version != "":
            check_part(f"the version of {name}", version)
        if name in self._functions:
            raise UsageError(
                f"there is already a function {name!r}; names are unique within an App; hint: choose another"
            )

    def _add(
        self,
        name: str,
        function: Callable[..., Any] | None,
        signature: Signature,
        options: Options | None,
        settings: Mapping[str, Any] | None,
        runner: Callable[..., Any] | None = None,
    ) -> Function:
        made = Function(
            name,
            runner or function,
            signature,
            is_coroutine=function is not None and _is_coroutine(function),
            options=options or Options(),
            settings=MappingProxyType(dict(settings or {})),
            original=function,
        )
        self._functions[name] = made
        return made

    def set(self, name: str, **settings: Any) -> None:
        """
        Add to the settings of a function.

        Raises:
            UnknownFunction: if there is none of that name.
        """
        function = self[name]
        self._functions[name] = replace(function, settings=MappingProxyType({**function.settings, **settings}))

    def get(self, name: str) -> Function | None:
        """Return the function of that name, or None."""
        return self._functions.get(name)

    def __getitem__(self, name: str) -> Function:
        """
        Return the function of that name.

        Raises:
            UnknownFunction: if there is none; the text names those with a similar name.
        """
        function = self._functions.get(name)
        if function is None:
            raise UnknownFunction(self._unknown(name))
        return function

    def _unknown(self, name: object) -> str:
        close = difflib.get_close_matches(str(name), self._functions, n=3)
        if close:
            return f"no function {name!r} is known; did you mean {' or '.join(map(repr, close))}?"
        if not self._functions:
            return f"no function {name!r} is known; none is registered; hint: register or declare it"
        known = f"none of the {len(self._functions)} known has a similar name"
        return f"there is no function {name!r}; {known}; hint: register or declare it"

    def __contains__(self, name: object) -> bool:
        return name in self._functions

    def __iter__(self) -> Iterator[Function]:
        """Yield the functions in the order in which they came."""
        return iter(list(self._functions.values()))

    def __len__(self) -> int:
        return len(self._functions)


def _is_coroutine(function: Callable[..., Any]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return any(is_one(f) for f in (function, type(function).__call__) for is_one in _ASYNC)


def _marshalled(
    name: str, stub: Callable[..., Any] | inspect.Signature | None, version: str, how: How
) -> Marshalled:
    if stub is None:
        return Marshalled.unchecked(name, how=how)
    if isinstance(stub, inspect.Signature):
        return Marshalled(name, stub, version=version, how=how)
    return Marshalled.of(stub, name, version=version, how=how, target=stub)
