"""``dingo-zmq node``: serve the functions of a file or module."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from dataclasses import replace
from typing import Any

import click

from dingo_zmq.app import host_name, serve
from dingo_zmq.cli.common import given, in_words, log_to_stderr, setting_options, settings
from dingo_zmq.cli.loading import load_app, served_files
from dingo_zmq.config import use

__all__ = ["NODE_SETTINGS", "node", "node_process"]

_log = logging.getLogger(__name__)
NODE_SETTINGS = (
    "mesh",
    "name",
    "tags",
    "bind",
    "port",
    "advertise",
    "discovery",
    "key",
    "insecure_lan",
    "threads",
    "processes",
    "grace",
    "reload",
    "log_level",
)


@click.command()
@click.argument("target", metavar="FILE.py|MODULE[:APP]")
@setting_options(*NODE_SETTINGS)
@in_words
def node(target: str, config: str | None, **flags: Any) -> None:
    """
    Serve the functions of a file or module.

    The first SIGTERM or Ctrl-C drains: unstarted tasks are given back and running ones finish within --grace
    seconds; a second one ends at once.  Each option is also a variable (DINGO_ZMQ_MESH), and a line of the
    file (mesh = "lab"); dingo-zmq config shows what holds.

    \b
    Example:
      dingo-zmq node tasks.py --name bench-3 --processes 4
    """
    told = settings(config, flags)
    log_to_stderr(told["log_level"])
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        _log.warning("this node runs as root, and so does every task")
    if told["port"] is not None and told["processes"] > 1:
        raise click.UsageError("--port is for one process; leave it out, and each takes a free pair")
    from dingo_zmq.mesh.supervisor import Supervisor

    spec = {name: told[name] for name in ("tags", "port", "threads", "grace", "log_level", "reload")}
    spec |= {"target": target, "name": told["name"] or host_name(), "config": config, "app": given(told, flags)}

    def command(number: int) -> list[str]:
        name = f"{spec['name']}/{number}" if told["processes"] > 1 else spec["name"]
        return [sys.executable, "-m", "dingo_zmq", "node-process", json.dumps({**spec, "name": name})]

    supervisor = Supervisor(command, told["processes"], told["grace"], _introduce, reload=told["reload"])
    sys.exit(supervisor.run())


def _introduce(children: list[Any]) -> None:
    """Print who is there and what to try; for people."""
    first = children[0]
    names = ", ".join(child.announcement.name for child in children)
    where = ", ".join(_address(child) for child in children)
    functions = ", ".join(first.functions)
    click.echo(f"node {names}: {functions} at {where}, mesh {first.announcement.mesh}, {_lock(first)}")
    if not first.reach.open:
        click.echo("to let other machines in: dingo-zmq keygen, then start it again; copy the key to them")
    name, signature = next(iter(first.functions.items()))
    click.echo(f"try: dingo-zmq call {name} {_example(signature)}".rstrip())


def _lock(child: Any) -> str:
    if not child.reach.open:
        return "this host only (no mesh key)"
    key = child.announcement.key
    return "NO KEY: anybody on the network can run tasks" if key == "none" else f"key {key}"


def _address(child: Any) -> str:
    """Return the address that a colleague can use, or the one of this machine where there is none."""
    told = child.reach.told(child.announcement, lan=True)
    return str((told or child.announcement).tasks[0])


def _example(signature: str) -> str:
    """Return words that would do as arguments, by the annotations alone."""
    from dingo_zmq.invoke import example_words

    return " ".join(example_words(signature))


@click.command("node-process", hidden=True)
@click.argument("spec")
@in_words
def node_process(spec: str) -> None:
    """Be one of the processes of a node; started by ``dingo-zmq node``."""
    from dingo_zmq.mesh.engine import MeshEngine
    from dingo_zmq.mesh.supervisor import CONTROL_FD, OVERRAN, Control, die_with_parent

    told = json.loads(spec)
    fd = int(os.environ.pop(CONTROL_FD))
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the supervisor, which tells us
    asked, overran = threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    log_to_stderr(told["log_level"])
    sys.setswitchinterval(0.001)  # a busy task must not keep the I/O thread waiting
    sys.dont_write_bytecode |= told["reload"]  # a second change within one second would not be seen in it
    use(told["config"])
    app = load_app(told["target"])
    wanted = app.mesh_settings(**told["app"])
    engine = MeshEngine(replace(wanted, discovery=()))  # our supervisor announces us
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

        def restart() -> None:
            overran.set()
            asked.set()

        engine.on_restart(restart)
        control = Control(fd, on_drain=asked.set, on_orphan=lambda: os._exit(1))
        functions = {f.name: f.signature.text for f in app.registry if f.runs_here}
        control.ready(announcement, functions, wanted.discovery, engine.reach, served_files(told["target"]))
        asked.wait()
        drained = overran.is_set() or engine.drain(told["grace"])
        if not drained:
            _log.warning(
                "%s: what did not finish within the grace time of %g s is ended", told["name"], told["grace"]
            )
    finally:
        engine.close(3.0)
    os._exit(OVERRAN if overran.is_set() else 0 if drained else 1)
