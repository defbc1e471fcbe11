"""What the commands share: options, errors in words, exit codes."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from dingo_zmq.app import App
from dingo_zmq.errors import DingoError, TaskError, TaskUnknown

__all__ = ["DONE", "FAILED", "NOBODY", "UNKNOWN", "USAGE", "complain", "in_words", "mesh_app", "mesh_options"]

DONE, FAILED, USAGE, NOBODY, UNKNOWN = range(5)
"""exit codes: done; the task failed; wrong usage; nobody could run it in time; unknown after a loss"""

F = TypeVar("F", bound=Callable[..., Any])


def complain(message: str, hint: str = "") -> None:
    """Print an error to stderr: what happened, and what to do next."""
    what, _, more = message.partition("; hint: ")
    click.echo(f"error: {what}", err=True)
    if hint or more:
        click.echo(f"hint: {hint or more}", err=True)


def in_words(command: F) -> F:
    """Turn our own errors into a few words on stderr and an exit code; tracebacks only with -v."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except DingoError as exc:
            if click.get_current_context().find_root().params.get("verbose"):
                raise
            complain(str(exc))
            sys.exit(code_of(exc))
        except KeyboardInterrupt:
            sys.exit(130)

    return run  # type: ignore[return-value]


def code_of(exc: DingoError) -> int:
    """Return the exit code of an error."""
    if isinstance(exc, TaskUnknown):
        return UNKNOWN
    return FAILED if isinstance(exc, TaskError) else USAGE


def mesh_options(command: F) -> F:
    """Add the options by which a caller finds its mesh."""
    for option in (
        click.option("--mesh", envvar="DINGO_ZMQ_MESH", help='Name of the mesh [default: "default"].'),
        click.option(
            "--peer",
            "peers",
            multiple=True,
            metavar="TCP",
            help="Address of a node, tcp://host:port; repeatable.",
        ),
        click.option(
            "--discovery",
            envvar="DINGO_ZMQ_DISCOVERY",
            metavar="LIST",
            help='How nodes are found: "directory", "zeroconf", both with a comma, or "none" [default: both].',
        ),
    ):
        command = option(command)
    return command


def sources(discovery: str | None) -> tuple[str, ...] | None:
    """Return the names in a --discovery option, None where it was not given."""
    if discovery is None:
        return None
    return tuple(name for name in discovery.replace(" ", "").split(",") if name not in ("", "none"))


def mesh_app(mesh: str | None, peers: tuple[str, ...], discovery: str | None) -> App:
    """Return a caller's App for a command."""
    return App("mesh", mesh=mesh, peers=peers, discovery=sources(discovery))


def log_to_stderr(level: str) -> None:
    """Send the log to stderr."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
