"""``dingo-zmq node``: serve the functions of a file or module."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from typing import Any

import click

from dingo_zmq.app import host_name, serve
from dingo_zmq.cli.common import in_words, log_to_stderr, sources
from dingo_zmq.cli.loading import load_app

__all__ = ["node", "node_process"]

_log = logging.getLogger(__name__)
LEVELS = ("debug", "info", "warning", "error")


@click.command()
@click.argument("target", metavar="FILE.py|MODULE[:APP]")
@click.option("--mesh", envvar="DINGO_ZMQ_MESH", help='Name of the mesh [default: "default"].')
@click.option("--name", envvar="DINGO_ZMQ_NAME", help="Name of the node [default: this host's].")
@click.option("--tag", "tags", multiple=True, help="A word that callers can ask for; repeatable.")
@click.option("--port", type=click.IntRange(1, 65534), help="First of a pair of ports [default: a free pair].")
@click.option("--threads", type=click.IntRange(1), help="Workers of a process [default: min(8, cores)].")
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="Node processes.")
@click.option("--grace", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds to drain.")
@click.option("--discovery", envvar="DINGO_ZMQ_DISCOVERY", metavar="LIST", help="How it is announced; see call.")
@click.option("--log-level", type=click.Choice(LEVELS), default="warning", show_default=True)
@in_words
def node(target: str, processes: int, grace: float, log_level: str, discovery: str | None, **told: Any) -> None:
    """
    Serve the functions of a file or module.

    The first SIGTERM or Ctrl-C drains: unstarted tasks are given back and running ones finish within --grace
    seconds; a second one ends at once.

    \b
    Example:
      dingo-zmq node tasks.py --name bench-3 --processes 4
    """
    from dingo_zmq.mesh.discovery.ways import DISCOVERY, announcers
    from dingo_zmq.mesh.supervisor import Supervisor

    log_to_stderr(log_level)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        _log.warning("this node runs as root, and so does every task")
    if told["port"] is not None and processes > 1:
        raise click.UsageError("--port is for one process; leave it out, and each takes a free pair")
    found_by = sources(discovery)
    spec = {**told, "target": target, "grace": grace, "log_level": log_level}
    spec["name"] = told["name"] or host_name()

    def command(number: int) -> list[str]:
        name = f"{spec['name']}/{number}" if processes > 1 else spec["name"]
        return [sys.executable, "-m", "dingo_zmq", "node-process", json.dumps({**spec, "name": name})]

    supervisor = Supervisor(
        command, processes, lambda: announcers(DISCOVERY if found_by is None else found_by), grace, _introduce
    )
    sys.exit(supervisor.run())


def _introduce(children: list[Any]) -> None:
    """Print who is there and what to try; for people."""
    first = children[0]
    names = ", ".join(child.announcement.name for child in children)
    where = ", ".join(child.announcement.tasks[0] for child in children)
    functions = ", ".join(first.functions)
    mesh = first.announcement.mesh
    click.echo(f"node {names}: {functions} at {where}, mesh {mesh}, this host only (no mesh key)")
    name, signature = next(iter(first.functions.items()))
    click.echo(f"try: dingo-zmq call {name} {_example(signature)}".rstrip())


def _example(signature: str) -> str:
    """Return words that would do as arguments, by the annotations alone."""
    from dingo_zmq.invoke import example_words

    return " ".join(example_words(signature))


@click.command("node-process", hidden=True)
@click.argument("spec")
@in_words
def node_process(spec: str) -> None:
    """Be one of the processes of a node; started by ``dingo-zmq node``."""
    from dingo_zmq.mesh.supervisor import CONTROL_FD, Control, die_with_parent

    told = json.loads(spec)
    fd = int(os.environ.pop(CONTROL_FD))
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the supervisor, which tells us
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    log_to_stderr(told["log_level"])
    sys.setswitchinterval(0.001)  # a busy task must not keep the I/O thread waiting
    app = load_app(told["target"])
    engine = app.mesh_engine(discovery=(), **({"mesh": told["mesh"]} if told["mesh"] else {}))
    try:
        announcement = serve(
            engine,
            app,
            name=told["name"],
            port=told["port"],
            tags=told["tags"],
            threads=told["threads"],
            announce=False,
        )
        control = Control(fd, on_drain=asked.set, on_orphan=lambda: os._exit(1))
        control.ready(announcement, {f.name: f.signature.text for f in app.registry if f.runs_here})
        asked.wait()
        drained = engine.drain(told["grace"])
        if not drained:
            _log.warning(
                "%s: what did not finish within the grace time of %g s is ended", told["name"], told["grace"]
            )
    finally:
        engine.close(3.0)
    os._exit(0 if drained else 1)
