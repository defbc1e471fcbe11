"""A call with results among its arguments: sent when they are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from dingo_zmq.errors import EncodeError
from dingo_zmq.flow.keeper import Keeper, failure_in, placed
from dingo_zmq.model import Code, Failure, Options
from dingo_zmq.registry import Function
from dingo_zmq.result import Result

__all__ = ["has_results", "later", "refusing_results"]

T = TypeVar("T")
Send = Callable[[tuple[Any, ...], dict[str, Any]], Result[Any]]


def has_results(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """
    Return whether a `Result` is an argument of a call of the function `name`.

    Raises:
        EncodeError: if there is none, but one in a list, tuple, set or dict that is an argument.
    """
    values = [*args, *kwargs.values()]
    if any(isinstance(value, Result) for value in values):
        return True
    for value in values:
        inside = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list | tuple | set | frozenset) and any(isinstance(v, Result) for v in inside):
            raise EncodeError(
                f"{name}(): a Result can be an argument itself, but not be inside a {type(value).__name__}; "
                "hint: group(...).call() gives one Result for a list"
            )
    return False


def refusing_results(correct: Callable[[tuple[Any, ...], dict[str, Any]], T]) -> Callable[..., T]:
    """Return `correct`, but raising `EncodeError` where a `Result` is an argument."""

    def checked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        for value in args:
            if isinstance(value, Result):
                raise EncodeError("a Result is no value yet")
        for value in kwargs.values():
            if isinstance(value, Result):
                raise EncodeError("a Result is no value yet")
        return correct(args, kwargs)

    return checked


def later(
    keeper: Keeper, function: Function, send: Send, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Result[Any]:
    """
    Return the result of a call that is sent once the results among its arguments have ended well.

    Args:
        keeper: of the App.
        function: what is called.
        send: sends the task.
        args: positional arguments.
        kwargs: keyword arguments.

    Raises:
        ArgumentError: if the arguments do not bind; whether they fit is seen when they are there.
        Busy: at the bound of open flows, in an event loop.
        Closed: if the App is closed.
    """
    names = function.signature.argument_names(len(args), kwargs)
    keeper.admit()
    waiting = _Later(keeper, function.name, send, args, kwargs)
    result: Result[Any] = Result(function.name, "", waiting)
    waiting.result = result
    keeper.opened(result)
    waiting.begin(names)
    return result


class _Later:
    """
    The owner of a result whose task has to wait for its arguments.

    Attributes:
        missing: the results that it waits for, by the argument's name.
        sent: the result of the task, once it was sent.
    """

    result: Result[Any]
    options = Options()

    def __init__(
        self, keeper: Keeper, name: str, send: Send, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._keeper, self._name, self._send = keeper, name, send
        self._args, self._kwargs = args, kwargs
        self.missing: dict[str, Result[Any]] = {}
        self.sent: Result[Any] | None = None

    def begin(self, names: Sequence[str]) -> None:
        given = [*zip(names, self._args, strict=True), *((repr(word), v) for word, v in self._kwargs.items())]
        self.missing = {name: value for name, value in given if isinstance(value, Result)}
        for name, value in list(self.missing.items()):
            value._follow(partial(self._keeper.soon, self._heard, name))

    def _heard(self, name: str, argument: Result[Any]) -> None:
        if self.result.done():
            self._forget()
        elif argument.failure is not None:
            self.result._fail(placed(f"argument {name} of {self._name} failed", argument.failure))
            self._forget()
        else:
            self.missing = {key: value for key, value in self.missing.items() if key != name}
            if not self.missing:
                self._go()

    def _go(self) -> None:
        args = tuple(map(_value, self._args))
        kwargs = {word: _value(value) for word, value in self._kwargs.items()}
        self._forget()
        try:
            self.sent = self._send(args, kwargs)
        except Exception as exc:
            self.result._fail(failure_in(exc))
            return
        self.options = self.sent._owner.options
        if self.result.done():  # cancelled meanwhile, or the App was closed
            self.sent.cancel()
        else:
            self.result._take_over(self.sent, self._keeper.soon)

    def _forget(self) -> None:
        """Let go of the arguments: a long row of such calls would keep all of them."""
        self._args, self._kwargs, self.missing = (), {}, {}

    # -- as the owner of its result

    def cancel(self, result: Result[Any], *, running: bool = False) -> bool:
        won = self.sent is None and result._fail(Failure(Code.CANCELLED, "cancelled before it started"))
        sent = self.sent  # looked at last: `_go` sets it first, and then looks whether the result is settled
        return (sent is not None and sent.cancel(running=running)) or won

    def stop(self, result: Result[Any]) -> bool:
        return self.cancel(result, running=True)

    def why(self, result: Result[Any]) -> str:
        if self.sent is not None:
            return self.sent.why()
        missing = self.missing
        if not missing:
            return "it is about to be sent"
        name, first = next(iter(missing.items()))
        root = first
        while isinstance(root._owner, _Later) and root._owner.missing:
            root = next(iter(root._owner.missing.values()))
        through = "" if root is first else f", which waits for {root._label()}"
        return f"it waits for its argument {name}, {first._label()}{through}: {root.why()}"

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        self._keeper.call_soon(fn, *args)

    def handler_failed(self, result: Result[Any], error: Exception) -> None:
        self._keeper.handler_failed(result, error)


def _value(given: Any) -> Any:
    return given._result if isinstance(given, Result) else given
