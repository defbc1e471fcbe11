"""What an App hands out for each of its functions: something to call here, or to send as a task."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from functools import partial
from typing import Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from dingo_zmq.errors import ArgumentError, EncodeError, UsageError
from dingo_zmq.flow import Call, Keeper, has_results, later
from dingo_zmq.mapping import Send, mapped
from dingo_zmq.model import Options
from dingo_zmq.registry import Function
from dingo_zmq.result import Result
from dingo_zmq.stream import Stream

__all__ = [
    "Decorator",
    "NamedCalls",
    "Streamer",
    "Submit",
    "SubmitStream",
    "Submitter",
    "TaskFunction",
    "changed",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Submit: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Result[Any]]
"""sends a task with these arguments"""
Submitter: TypeAlias = Callable[[Function, Options], Submit]
"""prepares to send tasks of a function"""
SubmitStream: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Stream[Any]]
"""sends a task whose values are read as they come"""
Streamer: TypeAlias = Callable[[Function, Options], SubmitStream]
"""prepares to do that for a function"""


class TaskFunction(Generic[P, R]):
    """
    A function of an App: call it here, or send it as a task.

    ``add(2, 3)`` calls it in this thread; ``add.call(2, 3)`` sends it and returns a `Result`;
    ``await add.acall(2, 3)`` sends it and waits; ``add.options(...)`` is the same function with other options.
    ``for value in scan.stream(5)`` sends a task of a function that yields, and takes its values as they come.

    Args:
        function: what is registered.
        options: how its tasks are treated.
        submitter: gives what a call of it is, once the App has started.
        streamer: the same for a stream of it.
        keeper: has what waits for its arguments.
    """

    def __init__(
        self, function: Function, options: Options, submitter: Submitter, streamer: Streamer, keeper: Keeper
    ) -> None:
        self._function, self._options, self._submitter = function, options, submitter
        self._streamer, self._keeper = streamer, keeper
        self._submit: Callable[..., Result[R]] = self._first
        self.__name__ = function.name
        self.__doc__ = getattr(function.original, "__doc__", None)
        self.__wrapped__ = function.original

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Call the function here.

        Raises:
            UsageError: if it is only declared in this program.
        """
        if self._function.original is None:
            raise UsageError(f"{self.__name__} is only declared here; hint: {self.__name__}.call(...) sends it")
        value: R = self._function.original(*args, **kwargs)
        return value

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """
        Send a task and return its `Result` at once.

        Arguments are encoded at once, so they may be changed afterwards; but not in local mode, where they go to
        the function as they are.

        An argument may be a `Result`, of any App: the task is then sent when that has ended well, and fails as
        that has if it fails.  Whether such arguments fit shows only then.

        Raises:
            ArgumentError: if the arguments do not fit the signature; nothing was sent.
            EncodeError: if an argument cannot travel.
            BodyTooLarge: if they are over the body limit.
            Busy: at the bound of open tasks, in an event loop; elsewhere `call` waits.
            Closed: if the App is closed.
            UsageError: if the function yields; see `stream`.
        """
        try:
            return self._submit(args, kwargs)
        except (ArgumentError, EncodeError):  # no Result can travel
            if not has_results(self.__name__, args, kwargs):
                raise
        return later(self._keeper, self._function, self._submit, args, kwargs)

    async def acall(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Send a task and wait for its return; raises what `call` and `Result.result` raise."""
        return await self.call(*args, **kwargs)

    @overload
    def stream(self: TaskFunction[P, Iterator[T]], /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]: ...

    @overload
    def stream(
        self: TaskFunction[P, Generator[T, None, None]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Stream[T]: ...

    @overload
    def stream(self: TaskFunction[P, AsyncIterator[T]], /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]: ...

    @overload
    def stream(
        self: TaskFunction[P, AsyncGenerator[T, None]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Stream[T]: ...

    @overload
    def stream(self: TaskFunction[P, Iterable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]: ...

    def stream(self, /, *args: Any, **kwargs: Any) -> Stream[Any]:
        """
        Send a task of a function that yields, and return its values as a `Stream`, for ``for`` or ``async for``.

        A node that takes over after a loss, or a further try, begins with the first value; those that have been
        read are passed over.  No argument may be a `Result`.

        Raises:
            UsageError: if the function does not yield.
            ArgumentError: and others, as `call`.
        """
        if self._function.signature.is_known and not self._function.is_stream:
            raise UsageError(f"{self.__name__} does not yield; hint: {self.__name__}.call(...)")
        if self._options.ignore_report:
            raise UsageError(f"{self.__name__}: with ignore_report nobody would get what it yields")
        if any(isinstance(value, Result | Stream) for value in (*args, *kwargs.values())):
            what = "takes no Result and no Stream; hint: pass on result.result() or list(stream)"
            raise UsageError(f"{self.__name__}.stream() {what}")
        return self._streamer(self._function, self._options)(args, kwargs)

    def bind(self, /, *args: Any, **kwargs: Any) -> Call[R]:
        """
        Return a `Call`: the function with these arguments, to be sent by its `call`, or in a group or chain.

        They are checked when it is sent.

        Raises:
            UsageError: if the function yields; see `stream`.
        """
        self._refuse_stream()
        return Call(self._function, self._options, args, kwargs, self.call, self._keeper)

    def options(self, **changes: Any) -> TaskFunction[P, R]:
        """
        Return the same function with some options changed (see `Options`).

        ``scan.options(node="bench-3").call(5)`` runs it on that node, ``needs=["psu"]`` on any node with that tag.

        Raises:
            UsageError: for an option that does not exist, or a value that makes no sense.
        """
        options = changed(self._options, changes, self.__name__)
        return TaskFunction(self._function, options, self._submitter, self._streamer, self._keeper)

    def map(self, *iterables: Iterable[Any], ahead: int = 1000, ordered: bool = True) -> Iterator[R]:
        """
        Send a task for each tuple of arguments and iterate over the returns.

        Args:
            iterables: one for each argument, as for the builtin `map`; read no further than needed.
            ahead: tasks open at a time.
            ordered: in the order of the arguments, or as they are done.
        """
        return mapped(self.call, zip(*iterables, strict=False), ahead, ordered, self._together)

    def starmap(self, tuples: Iterable[Sequence[Any]], *, ahead: int = 1000, ordered: bool = True) -> Iterator[R]:
        """Like `map`, with the arguments of each task in one sequence."""
        return mapped(self.call, tuples, ahead, ordered, self._together)

    def _together(self) -> Send | None:
        """Return what sends several tasks at once, where the App has such a way."""
        if self._submit == self._first:
            self._prepare()
        many = getattr(self._submit, "many", None)
        if many is None:
            return None
        call: Callable[..., Result[Any]] = self.call
        return partial(many, otherwise=lambda args: call(*args))

    @property
    def function(self) -> Function:
        """What is registered."""
        return self._function

    def _refuse_stream(self) -> None:
        if self._function.is_stream:
            raise UsageError(f"{self.__name__} yields its values; hint: for value in {self.__name__}.stream(...)")

    def _first(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result[R]:
        self._prepare()
        return self._submit(args, kwargs)

    def _prepare(self) -> None:
        self._refuse_stream()
        self._submit = self._submitter(self._function, self._options)

    def __repr__(self) -> str:
        return f"<task {self.__name__}{self._function.signature.text}>"


def changed(options: Options, changes: dict[str, Any], name: str) -> Options:
    """
    Return the options of a function with some changed.

    Raises:
        UsageError: as `Options.replace`; the text begins with the name of the function.
    """
    try:
        return options.replace(**changes)
    except UsageError as exc:
        raise UsageError(f"{name}: {exc}") from exc


class Decorator(Protocol):
    """What ``app.task(...)`` with arguments returns."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> TaskFunction[P, R]: ...

    @overload
    def __call__(self, fn: Callable[P, R], /) -> TaskFunction[P, R]: ...


class NamedCalls:
    """
    ``app.options(...)``: calls by name with these options.

    Raises:
        UsageError: for an option that does not exist, or a value that makes no sense.
    """

    def __init__(self, by_name: Callable[[str], TaskFunction[..., Any]], changes: dict[str, Any]) -> None:
        checked = Options().replace(**changes)
        self._by_name, self._changes = by_name, {name: getattr(checked, name) for name in changes}

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Result[Any]:
        """Send a task by the name of its function."""
        return self._by_name(name).options(**self._changes).call(*args, **kwargs)

    async def acall(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Send a task by the name of its function and wait for its return."""
        return await self.call(name, *args, **kwargs)

    def stream(self, name: str, /, *args: Any, **kwargs: Any) -> Stream[Any]:
        """Send a task by the name of its function, and return what it yields, see `TaskFunction.stream`."""
        return self._by_name(name).options(**self._changes).stream(*args, **kwargs)

    def bind(self, name: str, /, *args: Any, **kwargs: Any) -> Call[Any]:
        """Return a `Call` of a function by its name, see `TaskFunction.bind`."""
        return self._by_name(name).options(**self._changes).bind(*args, **kwargs)
