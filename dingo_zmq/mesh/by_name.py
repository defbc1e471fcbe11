"""Tasks of functions that are known by name alone: they are written as the nodes say that they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

from dingo_zmq.errors import DingoError
from dingo_zmq.marshal import size
from dingo_zmq.marshallers import spoken
from dingo_zmq.mesh.caller import MeshCaller
from dingo_zmq.model import LARGE, Options
from dingo_zmq.protocol.ledger import Route, marshallers_of
from dingo_zmq.registry import Function

__all__ = ["ByName", "rewrite"]

Sends: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Any]


class ByName:
    """
    Sends tasks of a function that is known by name alone.

    Args:
        caller: knows what the nodes have told.
        function: its signature is unchecked.
        options: of its tasks.
        submitter: makes what sends tasks of a function whose marshallers are known, or streams of it.
    """

    def __init__(
        self, caller: MeshCaller, function: Function, options: Options, submitter: Callable[..., Sends]
    ) -> None:
        self._caller, self._function, self._options, self._submitter = caller, function, options, submitter
        self._route = Route(function.name, node=options.node, needs=options.needs)
        self._made: dict[str, Sends] = {}
        self._as_of: tuple[int, Sends] | None = None

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Send a task, marshalled as some node wants it; as msgpack where no node has told yet."""
        news, as_of = self._caller.news, self._as_of
        if as_of is None or as_of[0] != news:
            how = self._caller.marshallers_for(self._route)
            as_of = self._as_of = news, self._made.get(how) or self._make(how)
        return as_of[1](args, kwargs)

    def _make(self, how: str) -> Sends:
        function = replace(self._function, signature=spoken(self._function.name, how))
        submit = self._made[how] = self._submitter(function, self._options)
        return submit


def rewrite(task: Any, how: str) -> Route:
    """
    Marshal a task anew that waits and was never sent, since nodes read it otherwise; return its route from now on.

    Args:
        task: an `engine.Ticket` of a function that is known by name alone.
        how: the marshallers, as they stand behind a fingerprint.
    """
    route: Route = task.route
    if task.attempt or task.strays:  # an answer to the old body may still come
        return route
    if not getattr(getattr(task.unpack, "__self__", None), "spoken", False):  # declared so by the program
        return route
    after = spoken(route.name, how)
    try:
        args, kwargs = spoken(route.name, marshallers_of(route.fingerprint)).unpack((task.body, task.buffers))
        body = after.pack(args, kwargs)
    except DingoError:  # it waits on, and `why` tells
        return route
    task.body, task.buffers = body
    if not task.options.ignore_report:
        task.unpack = after.unpack_return
    large = body[1] or len(body[0]) > LARGE
    return route._replace(fingerprint=after.fingerprint, size=size(body) if large else 0)
