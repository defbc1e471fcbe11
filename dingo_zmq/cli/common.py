"""What the commands share: options, errors in words, exit codes."""

from __future__ import annotations

import functools
import logging
import math
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dingo_zmq import config
from dingo_zmq.app import App
from dingo_zmq.errors import DingoError, TaskError, TaskUnknown
from dingo_zmq.interrupts import Held
from dingo_zmq.model import plain

if TYPE_CHECKING:
    from dingo_zmq.mesh.engine import MeshEngine

__all__ = [
    "DONE",
    "FAILED",
    "INTERRUPTED",
    "NOBODY",
    "UNKNOWN",
    "USAGE",
    "complain",
    "given",
    "how_to_find",
    "in_words",
    "log_to_stderr",
    "mesh_app",
    "mesh_options",
    "plain",
    "setting_options",
    "settings",
]

DONE, FAILED, USAGE, NOBODY, UNKNOWN = range(5)
"""exit codes: done; the task failed; wrong usage; nobody could run it in time; unknown after a loss"""
INTERRUPTED = 130
"""exit code after Ctrl-C"""
LINES_MOST = 5
"""lines that an error takes, its cause and the hint among them"""

F = TypeVar("F", bound=Callable[..., Any])


def complain(message: str, hint: str = "", *, cause: str = "") -> None:
    """Print an error to stderr, in at most five lines: what happened, why, and what to do next."""
    what, _, more = message.partition("; hint: ")
    first, *others = what.split("\n")  # the words of a task may be many lines, which must not look like ours
    lines = [plain(line) for line in (f"error: {first}", *(f"  {line}" for line in others))]
    room = LINES_MOST - bool(cause) - bool(hint or more)
    if len(lines) > room:
        lines[room - 1 :] = [f"... {len(lines) - room + 1} more lines; dingo-zmq -v shows all of it"]
    if cause:
        lines.append(plain(f"cause: {cause}"))
    if hint or more:
        lines.append(plain(f"hint: {hint or more}"))
    click.echo("\n".join(lines), err=True)


def in_words(command: F) -> F:
    """Turn our own errors into a few words on stderr and an exit code; tracebacks only with -v."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except DingoError as exc:
            if click.get_current_context().find_root().params.get("verbose"):
                click.echo(plain("".join(traceback.format_exception(exc)), keep="\n").rstrip(), err=True)
            else:
                complain(str(exc))
            sys.exit(code_of(exc))

    return run  # type: ignore[return-value]


def code_of(exc: DingoError) -> int:
    """Return the exit code of an error."""
    if isinstance(exc, TaskUnknown):
        return UNKNOWN
    return FAILED if isinstance(exc, TaskError) else USAGE


def setting_options(*names: str) -> Callable[[F], F]:
    """Add the options of these settings, and --config; none has a default, so that one sees what was given."""

    def add(command: F) -> F:
        command = click.option(
            "--config", metavar="FILE", help="TOML file with settings [default: config.toml beside the keys]."
        )(command)
        for name in reversed(names):
            command = _option(config.SETTINGS[name])(command)
        return command

    return add


def _option(setting: config.Setting) -> Callable[[F], F]:
    told: dict[str, Any] = {"default": None, "help": setting.help}
    if setting.kind == "switch":
        told["is_flag"] = True
    elif setting.name == "discovery":
        told["metavar"] = "LIST"
    elif setting.kind == "list":
        told |= {"multiple": True, "help": f"{setting.help[:-1]}; repeatable."}
    elif setting.kind == "whole":
        most = None if setting.most == math.inf else int(setting.most)
        told["type"] = click.IntRange(int(setting.least), most)
    elif setting.kind == "seconds":
        told["type"] = click.FloatRange(setting.least)
    elif setting.choices:
        told["type"] = click.Choice(setting.choices)
    if setting.default not in (None, (), False) and setting.kind != "list":
        default = f"{setting.default:g}" if setting.kind == "seconds" else setting.default
        told["help"] = f"{told['help'][:-1]} [default: {default}]."
    return click.option(setting.flag, setting.name, **told)


def mesh_options(command: F) -> F:
    """Add the options by which a caller finds its mesh."""
    return setting_options("mesh", "peers", "discovery", "key", "insecure_lan", "log_level")(command)


def settings(config_file: str | None, flags: Mapping[str, Any]) -> config.Config:
    """Return the settings of a command; its --config holds for the whole process until the command ends."""
    config.use(config_file)
    click.get_current_context().call_on_close(lambda: config.use(None))
    return config.resolve(flags)


def given(found: config.Config, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of those flags that were given and that an App takes, as they were found."""
    return {
        name: found[name]
        for name, value in flags.items()
        if value is not None and value != () and config.SETTINGS[name].for_app
    }


def mesh_app(**flags: Any) -> App:
    """Return a caller's App for a command."""
    with Held():
        found = settings(flags.pop("config"), flags)
        log_to_stderr(found["log_level"])
        _say_nothing_at_close()
        return App("mesh", **given(found, flags))


def _say_nothing_at_close() -> None:
    """The command itself says what became of its task."""
    log = logging.getLogger("dingo_zmq.ledger")
    log.setLevel(logging.ERROR)
    click.get_current_context().call_on_close(lambda: log.setLevel(logging.NOTSET))


def how_to_find(engine: MeshEngine) -> str:
    """Return the hint where no node was found."""
    others = list(engine.other_meshes())
    if others:
        return f'nodes of mesh "{others[0]}" are here: --mesh {shlex.quote(others[0])}'
    if engine.reach.open:
        return "start one with: dingo-zmq node FILE.py, or give the address of one: --peer tcp://host:port"
    return (
        "start one here with: dingo-zmq node FILE.py; to meet those of other machines, "
        "this one needs their mesh key, which dingo-zmq keygen makes"
    )


def log_to_stderr(level: str) -> None:
    """Send the log to stderr."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
