"""``dingo-zmq node``: serve the functions of a file or module."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import sys
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from dingo_zmq.app import host_name, serve
from dingo_zmq.cli.common import given, in_words, log_to_stderr, setting_options, settings
from dingo_zmq.cli.loading import load_app, served_files
from dingo_zmq.config import use
from dingo_zmq.mesh.discovery.port import UNKEYED

if TYPE_CHECKING:
    from collections.abc import Mapping

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

    introduce = partial(_introduce, _same_mesh(flags))
    supervisor = Supervisor(command, told["processes"], told["grace"], introduce, reload=told["reload"])
    sys.exit(supervisor.run())


def _same_mesh(flags: dict[str, Any]) -> list[str]:
    """Return the options by which a caller gets into the mesh that a node was told by its options."""
    words = [word for name in ("mesh", "key") if flags[name] for word in (f"--{name}", flags[name])]
    return [*words, "--insecure-lan"] if flags["insecure_lan"] else words


def _introduce(options: list[str], children: list[Any]) -> None:
    """Print who is there and what to try, with these options; for people."""
    first = children[0]
    names = ", ".join(child.announcement.name for child in children)
    where = ", ".join(_address(child) for child in children)
    functions = ", ".join(first.functions)
    click.echo(f"node {names}: {functions} at {where}, mesh {first.announcement.mesh}, {_lock(first)}")
    if not first.reach.open:
        click.echo("to let other machines in: dingo-zmq keygen, then start it again; copy the key to them")
    click.echo(shlex.join(["try:", "dingo-zmq", *_example(first.functions, options)]))


def _lock(child: Any) -> str:
    if not child.reach.open:
        return "this host only (no mesh key)"
    bound = child.reach.told(child.announcement, lan=True) is None
    key = child.announcement.key
    if key == UNKEYED:
        return f"NO KEY: anybody on {'this host' if bound else 'the network'} can run tasks"
    return f"key {key}, this host only (--bind)" if bound else f"key {key}"


def _address(child: Any) -> str:
    """Return the address that a colleague can use, or the one of this machine where there is none."""
    told = child.reach.told(child.announcement, lan=True)
    return str((told or child.announcement).tasks[0])


def _example(functions: Mapping[str, str], options: list[str]) -> list[str]:
    """Return words that call one of the functions, or show the nodes where none can be called as easily."""
    from dingo_zmq.invoke import example_words

    for name, signature in functions.items():
        words = example_words(signature)
        if words is not None:
            return ["call", *options, name, *words]
    return ["peers", *options]


@click.command("node-process", hidden=True)
@click.argument("spec")
@in_words
def node_process(spec: str) -> None:
    """Be one of the processes of a node; started by ``dingo-zmq node``."""
    from dingo_zmq.mesh.engine import MeshEngine
    from dingo_zmq.mesh.sockets import NODE_DESCRIPTORS, check_descriptors
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
    check_descriptors(NODE_DESCRIPTORS, "a node needs")
    engine = MeshEngine(replace(wanted, discovery=()), app.events)  # our supervisor announces us
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
        app.events.close()
    os._exit(OVERRAN if overran.is_set() else 0 if drained else 1)
