"""Flows sent side by side, with one result for all."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import as_completed
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar, cast, overload

from dingo_zmq.errors import TaskError, UsageError
from dingo_zmq.flow.call import Flow
from dingo_zmq.flow.keeper import Keeper, placed
from dingo_zmq.model import Code, Failure, Options, error_for
from dingo_zmq.result import Result

__all__ = ["Group", "GroupResult", "group"]

R = TypeVar("R")
Policy: TypeAlias = Literal["raise", "cancel", "collect"]
POLICIES = ("raise", "cancel", "collect")


class GroupResult(Result[list[R]]):
    """
    The result of a group: a list with the return of each member, in their order.

    Iterating over it, also with ``async for``, gives the results of the members, each as soon as it has ended.

    Attributes:
        results: of the members, in their order.
    """

    results: tuple[Result[Any], ...]

    @property
    def completed(self) -> int:
        """How many members have ended, well or badly; of ``len(results)``."""
        return sum(result.done() for result in self.results)

    def __iter__(self) -> Iterator[Result[Any]]:
        """Yield the results of the members as they end."""
        return cast("Iterator[Result[Any]]", as_completed(self.results))

    async def __aiter__(self) -> AsyncIterator[Result[Any]]:
        """Yield the results of the members as they end, in the running asyncio loop."""
        import asyncio  # not everybody has a loop

        loop = asyncio.get_running_loop()
        ended: asyncio.Queue[Result[Any]] = asyncio.Queue()

        def tell(result: Result[Any]) -> None:
            with contextlib.suppress(RuntimeError):  # its loop was closed: nobody waits any more
                loop.call_soon_threadsafe(ended.put_nowait, result)

        for result in self.results:
            result._follow(tell)
        for _ in self.results:
            yield await ended.get()


class Group(Flow[list[R]]):
    """
    Flows that are sent side by side; made by `group`.

    Attributes:
        members: the flows.
        errors: what is to happen where one fails, see `group`.
    """

    name = "group"

    def __init__(self, members: Iterable[Flow[Any]], errors: Policy = "raise") -> None:
        """See `group`."""
        if isinstance(members, Flow):
            raise UsageError("a group is made of a list of calls, such as group([add.bind(1, 2), add.bind(3, 4)])")
        self.members, self.errors = tuple(members), errors
        if not self.members:
            raise UsageError("a group needs at least one call")
        for member in self.members:
            if not isinstance(member, Flow):
                raise UsageError(
                    f"a group is made of calls, groups and chains, not {member!r}; hint: add.bind(1, 2) is a call"
                )
        if errors not in POLICIES:
            raise UsageError(f"errors must be one of {', '.join(POLICIES)}, not {errors!r}")

    def call(self, *first: Any) -> GroupResult[R]:
        """See `Flow.call`."""
        return cast("GroupResult[R]", super().call(*first))

    @property
    def keeper(self) -> Keeper:
        """The one that has its results."""
        return self.members[0].keeper

    def check(self, more: int) -> None:
        """See `Flow.check`."""
        for member in self.members:
            member.check(more if self.fed else 0)

    def _send(self, first: tuple[Any, ...]) -> GroupResult[R]:
        keeper = self.keeper
        keeper.admit()
        results: list[Result[Any]] = []
        try:
            for member in self.members:
                results.append(member.start(first))
        except BaseException:
            for sent in results:
                sent.cancel()
            raise
        owner = _Gathering(keeper, results, self.errors)
        result: GroupResult[R] = GroupResult(self.name, keeper.new_id(), owner)
        result.results = tuple(results)
        owner.result = result
        keeper.opened(result)
        owner.begin()
        return result

    def __repr__(self) -> str:
        return f"<group of {len(self.members)}>"


@overload
def group(calls: Iterable[Flow[R]], *, errors: Literal["raise", "cancel"] = "raise") -> Group[R]: ...


@overload
def group(calls: Iterable[Flow[R]], *, errors: Literal["collect"]) -> Group[R | TaskError]: ...


def group(calls: Iterable[Flow[Any]], *, errors: Policy = "raise") -> Group[Any]:
    """
    Return calls, groups and chains that can be sent side by side: the result is the list of their returns.

    ``group([add.bind(1, 2), add.bind(3, 4)]).call().result()`` is ``[3, 7]``.

    Args:
        calls: at least one.
        errors: what is to happen where one fails.  "raise": the group fails at once as that one has, and the
            others go on.  "cancel": the same, and the others are cancelled as far as they can be.  "collect": the
            list has the error in its place, and the group succeeds when all have ended.

    Raises:
        UsageError: where there is none, one is no call, or `errors` is unknown.
    """
    return Group(calls, errors)


class _Gathering:
    """The owner of the result of a group; all that is not called by its result runs on the keeper's thread."""

    result: GroupResult[Any]
    options = Options()

    def __init__(self, keeper: Keeper, results: list[Result[Any]], errors: Policy) -> None:
        self._keeper, self._results, self._errors = keeper, results, errors
        self._left = len(results)

    def begin(self) -> None:
        for number, result in enumerate(self._results, 1):
            result._follow(partial(self._keeper.soon, self._heard, number))

    def _heard(self, number: int, ended: Result[Any]) -> None:
        self._left -= 1
        if self.result.done():
            return
        if ended.failure is not None and self._errors != "collect":
            if self._errors == "cancel":  # before anybody who waits for the group goes on
                self._cancel_members()
            self.result._fail(placed(f"member {number} of {len(self._results)}, {ended.name}", ended.failure))
        elif not self._left:
            self.result._succeed([_outcome(result) for result in self._results])

    def _cancel_members(self, *, running: bool = False) -> None:
        for result in self._results:
            result.cancel(running=running)

    # -- as the owner of its result

    def cancel(self, result: Result[Any], *, running: bool = False) -> bool:
        won = result._fail(Failure(Code.CANCELLED, "cancelled"))
        if won:
            self._cancel_members(running=running)
        return won

    def stop(self, result: Result[Any]) -> bool:
        return self.cancel(result, running=True)

    def why(self, result: Result[Any]) -> str:
        still = [(number, each) for number, each in enumerate(self._results, 1) if not each.done()]
        if not still:
            return "all its members have ended"
        number, first = still[0]
        more = f" and {len(still) - 1} more" if len(still) > 1 else ""
        return f"it waits for member {number} of {len(self._results)} ({first.name}){more}: {first.why()}"

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        self._keeper.call_soon(fn, *args)

    def handler_failed(self, result: Result[Any], error: Exception) -> None:
        self._keeper.handler_failed(result, error)


def _outcome(result: Result[Any]) -> Any:
    return result._result if result.failure is None else error_for(result.failure)
