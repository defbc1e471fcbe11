"""``dingo-zmq call``: run a task and print its result."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click
import msgspec

from dingo_zmq.cli.common import FAILED, NOBODY, complain, how_to_find, in_words, mesh_app, mesh_options, plain
from dingo_zmq.errors import TaskExpired
from dingo_zmq.invoke import convert_words
from dingo_zmq.model import Options, Status, check_part
from dingo_zmq.protocol.ledger import Entry, Route
from dingo_zmq.result import Result
from dingo_zmq.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo_zmq.mesh.engine import MeshEngine

__all__ = ["call"]

PATIENCE_SECONDS = 2.0
"""after this a call says what it waits for, and again as often at most, whenever that has changed"""
LOOK_SECONDS = 0.5
STOP_SECONDS = 1.0
"""that a task has after Ctrl-C to say what became of it"""

_NEGATIVE = re.compile(r"-(\d.*|\.\d.*|inf|nan)")
_SECONDS = re.compile(r"\d+ s\b")  # that go by are no news
_MARK = "\0"
_GUESS, _NOBODY = "; did you mean ", "no node of mesh "  # as `why` puts it


class _Words(click.Command):
    """A command whose words may be negative numbers, while other words with a dash are options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        valued = {opt for p in self.params if isinstance(p, click.Option) and not p.is_flag for opt in p.opts}
        marked = [
            _MARK + word if before not in valued and _NEGATIVE.fullmatch(word) else word
            for before, word in zip(["", *args], args, strict=False)
        ]
        return super().parse_args(ctx, marked)


@click.command(cls=_Words)
@click.argument("name")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Seconds to wait; where it yields, for each value.",
)
@click.option("--at-most-once", is_flag=True, help="Never start it a second time, not even after a loss.")
@click.option(
    "--time-limit", type=click.FloatRange(0, min_open=True), help="Seconds that it may run [default: any]."
)
@click.option("--node", default="", help="Name or id of the node that is to run it [default: any].")
@click.option("--need", "needs", multiple=True, metavar="TAG", help="Tag that the node must have; repeatable.")
@click.option("--priority", type=int, default=0, help="A whole number, higher first [default: 0].")
@click.option("--expires", type=float, help="Seconds within which it must have started [default: any].")
@click.option("--retries", type=int, default=0, help="Times to try it again where it raises [default: 0].")
@mesh_options
@in_words
def call(
    name: str,
    args: tuple[str, ...],
    as_json: bool,
    timeout: float,
    at_most_once: bool,
    time_limit: float | None,
    node: str,
    needs: tuple[str, ...],
    priority: int,
    expires: float | None,
    retries: int,
    **where: Any,
) -> None:
    """
    Run a task on whichever node is free, and print its result.

    Words are converted by the function's signature; NAME=VALUE is an argument by name.  The result goes to
    stdout, everything else to stderr: progress, and after 2 s what it waits for.  Of a function that yields each
    value is printed as it comes, on a line of its own.  Exit code: 0 done, 1 the
    task failed, 2 usage, 3 nobody could run it in time, 4 unknown after a loss.  Ctrl-C cancels it, also where it
    runs, and waits a second for what became of it; the next one does not.

    \b
    Example:
      dingo-zmq call add 2 3
      dingo-zmq call scan start=1.5 --need psu --json --timeout 10
    """
    check_part("the name of a function", name)  # nobody will ever have what cannot be one
    chosen: dict[str, Any] = {
        "monitor_progress": True,
        "at_most_once": at_most_once,
        "node": node,
        "needs": needs,
        "priority": priority,
        "expires": expires,
        "retries": retries,
        "time_limit": time_limit,
    }
    options = Options().replace(**chosen)
    words = [word.removeprefix(_MARK) for word in args]
    app = mesh_app(**where)
    wait = _Wait(name, timeout, lambda: how_to_find(app.engine()), expires)
    try:
        signature = _signature(app.engine(), Route(name, node=options.node, needs=options.needs), wait)
        positional, named = convert_words(signature, words, name) if signature else (words, {})
        chosen["expires"] = wait.hand_over()
        if _yields(signature):
            chosen["monitor_progress"] = False
            stream = app.options(**chosen).stream(name, *positional, **named)
            _or_stop(stream.result, wait, partial(_print_each, stream, wait, as_json))
            return
        result = app.options(**chosen).call(name, *positional, **named)
        value = _or_stop(result, wait, partial(_follow, result, wait))
    except TaskExpired as exc:
        failure: Any = exc.failure  # it knew only what was left
        raise TaskExpired(replace(failure, message=wait.not_started)) from None
    finally:
        app.close(wait=False)
    _print(value, as_json)


class _Wait:
    """
    A wait for a task: how long it may last, and what is said in the meantime.

    Args:
        name: of the function.
        timeout: seconds.
        how_to_find: gives the hint where no node is found.
        expires: seconds within which the task must have started, None for any.
    """

    def __init__(
        self, name: str, timeout: float, how_to_find: Callable[[], str], expires: float | None = None
    ) -> None:
        self._name, self._timeout, self._how_to_find = name, timeout, how_to_find
        self._said, self._said_at = "", time.monotonic()
        self._end = self._said_at + timeout
        self._expires = math.inf if expires is None else expires
        self._expires_at = self._said_at + self._expires

    def begin(self) -> None:
        """Wait anew, for the next value."""
        self._said_at = time.monotonic()
        self._end = self._said_at + self._timeout

    def hand_over(self) -> float | None:
        """
        Return the seconds that the task has left to start, None for any; from now on others see to that.

        Raises:
            SystemExit: where none are left.
        """
        left, self._expires_at = self._expires_at - time.monotonic(), math.inf
        if left <= 0:
            complain(self.not_started)
            sys.exit(FAILED)
        return None if left == math.inf else left

    @property
    def not_started(self) -> str:
        """What is said of a task whose time ran out before it started."""
        return f"it was not started within {self._expires:g} s of the call"

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._end

    @property
    def slice(self) -> float:
        """Seconds until there may be something to say, or the time is up."""
        until = min(self._said_at + PATIENCE_SECONDS, self._end, self._expires_at)
        return max(0.0, until - time.monotonic())

    @property
    def look_seconds(self) -> float:
        """The same for somebody who has to name it once for many looks: they also hit the end of the time."""
        left = max(0.0, self._end - time.monotonic())
        return left / math.ceil(left / LOOK_SECONDS) if left else 0.0

    def say(self, text: str) -> None:
        """Print something else than what it waits for."""
        click.echo(plain(text), err=True)
        self._said, self._said_at = "", time.monotonic()

    def look(self, why: Callable[[], str]) -> None:
        """
        Print what it waits for, if it is time for that and something new.

        Raises:
            SystemExit: where the time is up.
        """
        if time.monotonic() >= self._expires_at:
            _give_up(self.not_started, why(), self._how_to_find, FAILED)
        if self.over:
            _give_up(f"{self._name} was not done within {self._timeout:g} s", why(), self._how_to_find, NOBODY)
        if time.monotonic() >= self._said_at + PATIENCE_SECONDS:
            words = why()
            news = _SECONDS.sub("", words)
            if news != self._said:
                click.echo(plain(f"waiting: {words}"), err=True)
            self._said, self._said_at = news, time.monotonic()


def _signature(engine: MeshEngine, route: Route, wait: _Wait) -> str:
    """Wait for a node that could take such a task, and return the signature text of its function."""
    entry = Entry(route, "", b"", (), Options(), None, None)  # none that is ever sent: it knows what it waits for

    def told() -> str | None:
        how = engine.caller.marshallers_for(route)
        aim, peers = route._replace(fingerprint=how and f"/{how}"), engine.caller.decider.peers.values()
        return next((lane.signature for peer in peers if (lane := peer.takes(aim)) is not None), None)

    while True:
        engine.wait_for(lambda _: engine.reactor.ask(told) is not None, wait.slice)
        signature = engine.reactor.ask(told)
        if signature is not None:
            return signature
        wait.look(lambda: engine.reactor.ask(partial(engine.caller.why, entry)))


def _yields(signature: str) -> bool:
    """Return whether a function yields, by the text of its signature."""
    return signature.rpartition(") -> ")[2].startswith("Iterator[")


def _or_stop(result: Result[Any], wait: _Wait, follow: Callable[[], Any]) -> Any:
    """Follow a task; at Ctrl-C cancel it, and say what became of it."""
    try:
        return follow()
    except KeyboardInterrupt:
        if result.cancel(running=True):
            try:
                failure = result.wait(STOP_SECONDS).failure
                wait.say(str(failure) if failure else "it was done before it noticed")
            except TimeoutError:
                wait.say("it was asked to stop, and runs on")
        raise


def _follow(result: Result[Any], wait: _Wait) -> Any:
    """Show progress on stderr until the task is done, and return what it returned."""
    reports = result.reports(wait.look_seconds)
    while True:
        try:
            report = next(reports)
        except StopIteration:
            return result.result(0)
        except TimeoutError:
            if not result.done():  # it may have ended just now
                wait.look(result.why)
            continue
        if report.status is Status.PROGRESS and report.value is not None:
            fraction, note = report.value
            done = "" if fraction is None else f"{fraction:.0%} "
            wait.say(f"{done}{note or ''}".rstrip())
        if wait.over and not result.done():  # each of them came in time, all together did not
            wait.look(result.why)


def _print_each(stream: Stream[Any], wait: _Wait, as_json: bool) -> None:
    """Print what a task yields, as it comes."""
    while True:
        stream.timeout = wait.look_seconds
        try:
            value = next(stream)
        except StopIteration:
            return
        except TimeoutError:
            wait.look(stream.result.why)
            continue
        _print(value, as_json)
        wait.begin()


def _give_up(what: str, why: str, how_to_find: Callable[[], str], code: int) -> NoReturn:
    """Say what happened and what it waited for in vain, and leave."""
    cause, guess, better = why.partition(_GUESS)
    hint = "dingo-zmq peers shows the nodes and what they are doing"
    if guess:
        better, _, more = better.partition("?; ")
        hint = f"{guess[2:]}{better.removesuffix('?')}?"
        cause += f"; {more}" if more else ""
    elif cause.startswith(_NOBODY):
        hint = how_to_find()
    complain(what, hint, cause=cause)
    sys.exit(code)


def _print(value: Any, as_json: bool) -> None:
    try:
        # click would take what looks like a colour out of what goes to a file
        click.echo(_text(value, as_json, terminal=sys.stdout.isatty()), color=True)
    except BrokenPipeError:
        raise  # whoever read has seen enough; click ends quietly
    except OSError as exc:
        complain(f"the result cannot be written: {exc.strerror}")
        sys.stdout = None  # or the interpreter would try once more, and complain, too
        sys.exit(FAILED)


def _text(value: Any, as_json: bool, *, terminal: bool) -> str:
    """Return a value as it is printed; a terminal gets no control characters."""
    if as_json:
        return json.dumps(msgspec.to_builtins(value, enc_hook=str))
    text = value if isinstance(value, str) else repr(value)
    return plain(text, keep="\n\t") if terminal else text
