"""``dingo-zmq forward``: join two networks that see no multicast of each other."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import click

from dingo_zmq.app import host_name
from dingo_zmq.cli.common import in_words, log_to_stderr, setting_options, settings

__all__ = ["forward"]

CRASHED = 70
F = TypeVar("F", bound=Callable[..., Any])


def _side_options(name: str) -> Callable[[F], F]:
    """Add the options of one side."""

    def add(command: F) -> F:
        options: tuple[tuple[str, dict[str, Any]], ...] = (
            ("", {"multiple": True, "help": f"Interface or address here, or tcp://host:port of a node; {name}."}),
            ("-key", {"metavar": "FILE", "help": f"Mesh key there [default: as for a node]; {name}."}),
            ("-advertise", {"multiple": True, "help": f"Where others find this machine there; {name}."}),
            ("-insecure-lan", {"is_flag": True, "help": f"No key there; {name}."}),
        )
        for option, told in options:
            command = click.option(f"--{name}{option}", **told)(command)
        return command

    return add


@click.command()
@_side_options("right")
@_side_options("left")
@setting_options("mesh", "name", "log_level")
@in_words
def forward(config: str | None, **flags: Any) -> None:
    """
    Join two networks: the nodes of each appear on the other.

    It runs on a machine that is in both.  Each side is one or more interfaces or addresses of this machine, or
    addresses of nodes there; --left and --right are repeatable.  Where the sides have different keys it needs
    both, and both trust it.  A node that is seen directly is used directly.

    \b
    Example:
      dingo-zmq forward --left eth0 --right eth1
      dingo-zmq forward --left eth0 --right eth1 --right-key /etc/dingo-zmq/lab-b.key
      dingo-zmq forward --left tcp://10.20.0.5:47100 --right eth0
    """
    own = {name: flags.pop(name) for name in ("mesh", "name", "log_level")}
    told = settings(config, own)
    log_to_stderr(told["log_level"])
    from dingo_zmq.mesh.forward import Forwarder, SideSettings
    from dingo_zmq.mesh.notify import Notifier

    left, right = (
        SideSettings(
            side,
            flags[side],
            None if flags[f"{side}_insecure_lan"] else flags[f"{side}_key"] or told["key"],
            flags[f"{side}_advertise"],
            flags[f"{side}_insecure_lan"],
            told["limit"],
        )
        for side in ("left", "right")
    )
    done = threading.Event()
    crashed: list[bool] = []

    def crash() -> None:
        crashed.append(True)
        done.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    name = told["name"] or host_name()
    forwarder = Forwarder(left, right, told["mesh"], name, click.echo, crash)
    try:
        click.echo(f"forward {name}: mesh {told['mesh']}, {forwarder}")
        notifier = Notifier()
        notifier.tell("READY=1", f"STATUS={forwarder}")
        done.wait()
        notifier.tell("STOPPING=1")
    finally:
        forwarder.close()
    sys.exit(CRASHED if crashed else 0)
