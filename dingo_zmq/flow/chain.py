"""Flows sent one after the other, each with the return of the one before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, overload

from dingo_zmq.errors import UsageError
from dingo_zmq.flow.call import Flow
from dingo_zmq.flow.keeper import Keeper, failure_in, placed
from dingo_zmq.model import Code, Failure, Options
from dingo_zmq.result import Result

__all__ = ["Chain", "chain"]

R = TypeVar("R")
_log = logging.getLogger(__name__)


class Chain(Flow[R]):
    """
    Flows that are sent one after the other; made by `chain`.

    Attributes:
        links: the flows.
        on_error: what is sent where a link fails, or None.
    """

    name = "chain"

    def __init__(self, links: tuple[Flow[Any], ...], on_error: Flow[Any] | None = None) -> None:
        """See `chain`."""
        self.links, self.on_error = links, on_error
        if not links:
            raise UsageError("a chain needs at least one call")
        for link in (*links, *([] if on_error is None else [on_error])):
            if not isinstance(link, Flow):
                raise UsageError(
                    f"a chain is made of calls, groups and chains, not {link!r}; hint: add.bind(2) is a call"
                )
        for link in links[1:]:
            link.check(1)
        if on_error is not None:
            on_error.check(1)

    @property
    def keeper(self) -> Keeper:
        """The one that has its results."""
        return self.links[0].keeper

    def check(self, more: int) -> None:
        """See `Flow.check`."""
        self.links[0].check(more if self.fed else 0)

    def _send(self, first: tuple[Any, ...]) -> Result[R]:
        keeper = self.keeper
        keeper.admit()
        owner = _Passage(keeper, self.links, self.on_error)
        result: Result[R] = Result(self.name, keeper.new_id(), owner)
        owner.result = result
        owner.begin(first)
        keeper.opened(result)
        return result

    def __repr__(self) -> str:
        return f"<chain {', '.join(link.name for link in self.links)}>"


@overload
def chain(a: Flow[R], /, *, on_error: Flow[Any] | None = None) -> Chain[R]: ...


@overload
def chain(a: Flow[Any], b: Flow[R], /, *, on_error: Flow[Any] | None = None) -> Chain[R]: ...


@overload
def chain(a: Flow[Any], b: Flow[Any], c: Flow[R], /, *, on_error: Flow[Any] | None = None) -> Chain[R]: ...


@overload
def chain(
    a: Flow[Any], b: Flow[Any], c: Flow[Any], d: Flow[R], /, *, on_error: Flow[Any] | None = None
) -> Chain[R]: ...


@overload
def chain(*links: Flow[Any], on_error: Flow[Any] | None = None) -> Chain[Any]: ...


def chain(*links: Flow[Any], on_error: Flow[Any] | None = None) -> Chain[Any]:
    """
    Return calls, groups and chains that can be sent one after the other: the result is that of the last.

    The return of each is the first argument of the next (of each member, where that is a group), unless that was
    made by `Flow.unfed`.  ``chain(add.bind(1, 2), scale.bind(10)).call().result()`` is ``scale(add(1, 2), 10)``.

    Where a link fails, nothing of what comes behind is sent, and the chain fails as that link has; the message
    begins with the link: "link 2 of 3, scale: ...".

    Args:
        links: at least one.
        on_error: sent where a link has failed, with the text of that failure as its first argument; the chain ends
            after it, and still fails as the link has.  It is not sent where the chain is cancelled, or where its
            first link could not be sent at all, which `call` raises.

    Raises:
        UsageError: where there is none, or one is no call.
        ArgumentError: where a link could not take the return of the one before it.
    """
    return Chain(links, on_error)


class _Passage:
    """The owner of the result of a chain; all that is not called by its result runs on the keeper's thread."""

    result: Result[Any]
    options = Options()

    def __init__(self, keeper: Keeper, links: tuple[Flow[Any], ...], on_error: Flow[Any] | None) -> None:
        self._keeper, self._links, self._on_error = keeper, links, on_error
        self._number = 0  # of the link that is open, from 0
        self._open: tuple[str, Result[Any] | None] = self._link(), None  # what it waits for, and its result
        self._cleaning = False

    def begin(self, first: tuple[Any, ...]) -> None:
        self._watch(self._links[0].start(first))

    def _watch(self, opened: Result[Any]) -> None:
        self._open = self._link(), opened
        if self.result.done():  # cancelled meanwhile, or the App was closed
            opened.cancel()
        opened._follow(partial(self._keeper.soon, self._heard))

    def _heard(self, ended: Result[Any]) -> None:
        if self.result.done():
            return
        if ended.failure is not None:
            self._failed(ended.failure)
        elif self._number + 1 == len(self._links):
            self.result._settle_as(ended)
        else:
            self._number += 1
            self._next((ended._result,))

    def _next(self, first: tuple[Any, ...]) -> None:
        self._open = self._link(), None
        try:
            opened = self._links[self._number].start(first)
        except Exception as exc:
            self._failed(failure_in(exc))
        else:
            self._watch(opened)

    def _failed(self, failure: Failure) -> None:
        number, name = self._number + 1, self._links[self._number].name
        failure = placed(f"link {number} of {len(self._links)}, {name}", failure)
        if self._on_error is None:
            self.result._fail(failure)
            return
        self._cleaning = True
        what = f"{self._on_error.name}, since {self._link()} failed"
        self._open = what, None
        try:
            opened = self._on_error.start((str(failure),))
        except Exception as exc:
            self._end(failure, failure_in(exc))
        else:
            self._open = what, opened
            opened._follow(partial(self._keeper.soon, self._cleaned, failure))

    def _cleaned(self, failure: Failure, ended: Result[Any]) -> None:
        self._end(failure, ended.failure)

    def _end(self, failure: Failure, worse: Failure | None) -> None:
        if worse is not None:
            _log.warning("%s: %s; and its on_error failed: %s", self.result._label(), failure, worse)
        self.result._fail(failure)

    def _link(self) -> str:
        return f"link {self._number + 1} of {len(self._links)} ({self._links[self._number].name})"

    # -- as the owner of its result

    def cancel(self, result: Result[Any], *, running: bool = False) -> bool:
        won = result._fail(Failure(Code.CANCELLED, "cancelled"))
        _, opened = self._open
        if won and opened is not None and not self._cleaning:
            opened.cancel(running=running)
        return won

    def stop(self, result: Result[Any]) -> bool:
        return self.cancel(result, running=True)

    def why(self, result: Result[Any]) -> str:
        what, opened = self._open
        return f"it is about to send {what}" if opened is None else f"it waits for {what}: {opened.why()}"

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        self._keeper.call_soon(fn, *args)

    def handler_failed(self, result: Result[Any], error: Exception) -> None:
        self._keeper.handler_failed(result, error)
