"""``dingo-zmq watch``: follow the reports of tasks as they are published."""

from __future__ import annotations

import queue
import time
from typing import TYPE_CHECKING, Any

import click

from dingo_zmq import marshal
from dingo_zmq.cli.common import in_words, mesh_app, mesh_options, plain
from dingo_zmq.cli.peers import notes
from dingo_zmq.errors import PeerError
from dingo_zmq.marshallers import is_safe, spoken
from dingo_zmq.model import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo_zmq.mesh.info import PeerInfo

__all__ = ["watch"]

LOOK_SECONDS = 2.0

_SHOWN = 200


@click.command()
@click.argument("task", required=False, default="")
@click.option("--seconds", type=click.FloatRange(0), help="Stop after this time [default: Ctrl-C].")
@mesh_options
@in_words
def watch(task: str, seconds: float | None, **where: Any) -> None:
    """
    Follow the reports of all tasks, or of TASK: CALLER/NAME/ID, or a leading part of that.

    \b
    Example:
      dingo-zmq watch
      dingo-zmq watch 5f0c33a1d2e94b07/scan/12
    """
    app = mesh_app(**where)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def reported(topic: bytes, reports: Any, buffers: tuple[Any, ...]) -> None:
        for item in getattr(reports, "items", ()):  # who knows what a node publishes there
            lines.put(_line(topic, item, buffers, engine.caller.marshallers_told))

    end = None if seconds is None else time.monotonic() + seconds
    try:
        engine = app.engine()
        engine.caller.watcher = reported
        engine.subscribe("watch/" + (task.strip("/") + "/" if task else ""))
        look = LOOK_SECONDS if seconds is None else min(LOOK_SECONDS, seconds)
        found = engine.wait_for(lambda peers: any(peer.version for peer in peers), look)
        if not any(peer.version for peer in found):
            for line in notes(found, engine.other_meshes()):
                click.echo(line, err=True)
            click.echo(f"no node of mesh {engine.settings.mesh!r} {_missing(found)} yet; still looking", err=True)
        while end is None or time.monotonic() < end:
            try:
                click.echo(lines.get(timeout=0.5 if end is None else max(0.0, end - time.monotonic())))
            except queue.Empty:
                continue
    finally:
        app.close(wait=False)


def _missing(found: list[PeerInfo]) -> str:
    return "has answered" if found else "was found"


def _line(topic: bytes, item: Any, buffers: tuple[Any, ...], told: Callable[[str], str]) -> str:
    task = topic.decode(errors="replace").removeprefix("watch/").rstrip("/")
    status, body = Status(item[4]), item[5]
    value = _value(status, (body, buffers), item[1], told)
    return plain(f"{time.strftime('%H:%M:%S')} {task} {status.name} {value}").rstrip()


def _value(status: Status, body: marshal.Body, name: str, told: Callable[[str], str]) -> str:
    try:
        if status is Status.FAIL:
            return str(marshal.decode_failure(body))
        if status is Status.PARTIAL or (status is Status.SUCCESS and marshal.size(body)):
            return _returned(name, told(name), body)
        if status is Status.PROGRESS and body[0]:
            fraction, note = marshal.decode_progress(body)
            return f"{'' if fraction is None else f'{fraction:.0%} '}{note or ''}"
    except PeerError as exc:
        return f"({exc})"
    return ""


def _returned(name: str, how: str, body: marshal.Body) -> str:
    if not is_safe(how):
        return f"({marshal.size(body)} bytes of {how.rpartition('/')[2]})"
    return _short(repr(spoken(name, how).unpack_return(body)))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:150]} ... {text[-40:]}"
