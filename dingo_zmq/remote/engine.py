"""Remote mode: this process as a caller, and as a node where it serves, over whatever is attached."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dingo_zmq.balance import Ledger
from dingo_zmq.errors import ConfigError, UsageError
from dingo_zmq.listening import Events
from dingo_zmq.model import Options
from dingo_zmq.registry import Function
from dingo_zmq.remote.caller import RemoteCaller
from dingo_zmq.remote.node import RemoteNode
from dingo_zmq.remote.roles import Roles
from dingo_zmq.result import Result
from dingo_zmq.task import Submit, SubmitStream

__all__ = ["RemoteEngine"]


class RemoteEngine:
    """
    Runs an App over attached ports.

    What becomes of a task whose node dies is the broker's business: no loss is noticed here.  The caller sees to
    `delay`, to `expires` as far as its producer can take tasks back, and to `retries` after the function raised.
    The node sees to time limits, to `priority` among what it holds, and to `expires` once more.  `Retries.lost`,
    `Retries.refused`, `node`, `needs`, `at_most_once` and `max_losses` travel with the task, and mean something
    only to brokers that understand them.  With `at_most_once` nothing is tried again.

    Args:
        roles: what is attached; closed with the engine.
        max_open: tasks not settled at a time; at the bound a call waits, or raises `Busy` in an event loop.
        limit: largest body of a task or report, bytes.
        events: where to tell what happens.
        full: "wait", or "raise" where a call at the bound raises `Busy` anywhere.
        max_open_bytes: of large arguments open at a time; at the bound the same.
    """

    def __init__(
        self, roles: Roles, max_open: int, limit: int, events: Events, full: str, max_open_bytes: int
    ) -> None:
        self._roles, self._limit, self._events = roles, limit, events
        self._caller = RemoteCaller(roles, max_open, limit, events, full, max_open_bytes)
        self._node: RemoteNode | None = None
        self._own: dict[str, int] = {}

    def submitter(self, function: Function, options: Options) -> Submit:
        """Return what sends a task of `function` with `options`; raises as `RemoteCaller.submitter`."""
        _check(function)
        return self._caller.submitter(function, options)

    def streamer(self, function: Function, options: Options) -> SubmitStream:
        """Return what sends streams of `function` with `options`; raises as `RemoteCaller.streamer`."""
        _check(function)
        return self._caller.streamer(function, options)

    def serve(
        self,
        functions: Iterable[Function],
        own: Mapping[str, int],
        *,
        threads: int,
        name: str,
    ) -> None:
        """
        Serve functions from this process; see `RemoteNode`.

        Raises:
            UsageError: if it serves already, or no consumer or reporter is attached.
            ConfigError: for a function whose arguments or returns are pickles.
        """
        if self._node is not None:
            raise UsageError("this App serves already")
        served, self._own = list(functions), dict(own)
        for function in served:
            _check(function)
        self._node = RemoteNode(self._roles, served, own, threads, self._limit, name, self._events)

    def drain(self, timeout: float | None) -> bool:
        """Stop serving: take no more, and let what is held finish within `timeout` seconds."""
        return self._node is None or self._node.drain(timeout)

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Run a user's callback on a thread of its own."""
        self._caller.call_soon(fn, *args)

    def resize(self, name: str, count: int) -> None:
        """A function with workers of its own gets another number of them, if it is served here."""
        if self._node is not None and name in self._own:
            self._node.resize(name, count)

    def started(self, name: str) -> int:
        """Return how many workers of its own a function has here that are started."""
        return self._node.started(name) if self._node is not None and name in self._own else 0

    def load(self) -> tuple[int, int]:
        """Return how many tasks of this caller are open, and how many this node holds."""
        return len(self._caller.results()), self._node.load() if self._node is not None else 0

    def results(self) -> list[Result[Any]]:
        """Return the results of all tasks not settled."""
        return self._caller.results()

    def left_behind(self) -> list[Result[Any]]:
        """In a forked child: take no more tasks, and return the results that nobody will settle here."""
        return self._caller.left_behind()

    def ledger(self) -> Ledger:
        """Return what became of the tasks called; see `App.ledger`."""
        return self._caller.ledger()

    def close(self, timeout: float) -> None:
        """Settle what is open and report what is held with FAIL/SHUTDOWN; then close what is attached."""
        if self._node is not None:
            self._node.close()
        self._caller.close(timeout)
        self._roles.close()


def _check(function: Function) -> None:
    if function.signature.pickles:
        raise ConfigError(
            f"{function.name}: pickles need a mesh key, and what is attached here has none: whoever can reach it "
            "could run any code; hint: another marshaller"
        )
