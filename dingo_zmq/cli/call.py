"""``dingo-zmq call``: run a task and print its result."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Any

import click
import msgspec

from dingo_zmq.app import App
from dingo_zmq.cli.common import NOBODY, complain, in_words, mesh_app, mesh_options
from dingo_zmq.invoke import convert_words
from dingo_zmq.model import Status
from dingo_zmq.result import Result

__all__ = ["call"]

_NEGATIVE = re.compile(r"-(\d.*|\.\d.*|inf|nan)")
_MARK = "\0"


class _Words(click.Command):
    """A command whose words may be negative numbers, while other words with a dash are options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [_MARK + word if _NEGATIVE.fullmatch(word) else word for word in args])


@click.command(cls=_Words)
@click.argument("name")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--timeout", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds to wait.")
@click.option("--at-most-once", is_flag=True, help="Never start it a second time, not even after a loss.")
@mesh_options
@in_words
def call(
    name: str, args: tuple[str, ...], as_json: bool, timeout: float, at_most_once: bool, **where: Any
) -> None:
    """
    Run a task on whichever node is free, and print its result.

    Words are converted by the function's signature; NAME=VALUE is an argument by name.  The result goes to
    stdout, everything else to stderr.  Exit code: 0 done, 1 the task failed, 2 usage, 3 nobody could run it
    in time, 4 unknown after a loss.

    \b
    Example:
      dingo-zmq call add 2 3
      dingo-zmq call scan start=1.5 --json --timeout 10
    """
    words = [word.removeprefix(_MARK) for word in args]
    end = time.monotonic() + timeout
    app = mesh_app(**where)
    try:
        signature = _signature(app, name, timeout)
        positional, named = convert_words(signature, words, name) if signature else (words, {})
        caller = app.options(monitor_progress=True, at_most_once=at_most_once)
        result = caller.call(name, *positional, **named)
        try:
            value = _follow(result, end)
        except TimeoutError:
            complain(f"{name} was not done within {timeout:g} s: {result.why()}")
            sys.exit(NOBODY)
    finally:
        app.close(wait=False)
    click.echo(_text(value, as_json))


def _signature(app: App, name: str, timeout: float) -> str:
    """Return the signature text of a function, once a node that has it has answered; "" if none does."""
    engine = app.engine()
    found = engine.wait_for(lambda peers: any(name in peer.functions for peer in peers), timeout)
    return next((peer.functions[name] for peer in found if name in peer.functions), "")


def _follow(result: Result[Any], end: float) -> Any:
    """Show progress on stderr until the task is done, and return what it returned."""
    reports = result.reports(max(0.0, end - time.monotonic()))
    for report in reports:
        if report.status is Status.PROGRESS and report.value is not None:
            fraction, note = report.value
            done = "" if fraction is None else f"{fraction:.0%} "
            click.echo(f"{done}{note or ''}".rstrip(), err=True)
        if not report.done and time.monotonic() > end:  # each of them came in time, all together did not
            break
    return result.result(0)


def _text(value: Any, as_json: bool) -> str:
    if as_json:
        return json.dumps(msgspec.to_builtins(value, enc_hook=str))
    return value if isinstance(value, str) else repr(value)
