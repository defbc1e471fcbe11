"""``dingo-zmq keys``: guests, whose keys are admitted with less than the mesh key."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dingo_zmq.cli.common import USAGE, complain, in_words, plain
from dingo_zmq.model import counted
from dingo_zmq.protocol.guests import MAX_OPEN

if TYPE_CHECKING:
    from dingo_zmq.protocol.guests import Guest

__all__ = ["keys"]


@click.group()
def keys() -> None:
    """
    Add, list and revoke guests: keys for some functions only.

    A guest may run the functions that it is allowed, and neither see nor touch the tasks of others.  Each is a
    file in the folder guests/ beside the mesh key; nodes read it again every two seconds.

    \b
    Example:
      dingo-zmq keys add ann --functions add,scan
      dingo-zmq keys list
      dingo-zmq keys revoke ann
    """


_KEY = click.option("--key", metavar="FILE", help="File of the mesh key [default: the one in its usual place].")


@keys.command()
@click.argument("name")
@click.option("--functions", required=True, metavar="A,B", help="The functions that it may run.")
@click.option("--max-open", type=int, default=MAX_OPEN, show_default=True, help="Tasks open at a node, at most.")
@click.option("--rate", type=float, help="Tasks that a node takes in a second [default: any number].")
@click.option("--out", type=click.Path(path_type=Path), help="Where its key goes [default: NAME.key].")
@_KEY
@in_words
def add(name: str, functions: str, max_open: int, rate: float | None, out: Path | None, key: str | None) -> None:
    """Make a key for the guest NAME, and let nodes know what it may do."""
    from dingo_zmq.mesh import guests

    mesh = guests.mesh_key(key)
    wanted = [word for word in (part.strip() for part in functions.split(",")) if word]
    path = Path(os.path.abspath((out or Path(f"{name}.key")).expanduser()))
    guests.add(mesh, path, name, wanted, max_open, rate)
    click.echo(f"guest {name} may run {', '.join(sorted(set(wanted)))}; its key is in {path}")
    click.echo(f"give it that file, and it calls with: dingo-zmq call --key {shlex.quote(path.name)} ...")
    folder = guests.folder_of(mesh)
    click.echo(f"nodes of this machine know it within 2 s; copy {folder} to the others, beside their key")


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@_KEY
@in_words
def list_(as_json: bool, key: str | None) -> None:
    """List the guests of this machine's mesh key."""
    from dingo_zmq.mesh import guests

    found = guests.entries(guests.mesh_key(key))
    known = sorted(found.guests.values(), key=lambda guest: guest.name)
    if as_json:
        click.echo(json.dumps([_in_full(guest) for guest in known], indent=2))
    else:
        for guest in known:
            click.echo(plain(f"{guest.name}: {', '.join(sorted(guest.functions))} ({_quota(guest)})"))
        click.echo(f"{counted(len(known), 'guest')} in {found.folder}")
    for problem in found.problems.values():
        complain(problem)
    if found.problems:
        sys.exit(USAGE)


@keys.command()
@click.argument("name")
@_KEY
@in_words
def revoke(name: str, key: str | None) -> None:
    """Let the guest NAME in no more."""
    from dingo_zmq.mesh import guests

    mesh = guests.mesh_key(key)
    guests.revoke(mesh, name)
    click.echo(f"guest {name} is revoked; nodes of this machine shut it out within 5 s")
    click.echo(f"do the same on other machines, or remove {name}.toml from the folder guests there")


def _quota(guest: Guest) -> str:
    rate = "" if guest.rate is None else f", {guest.rate:g} tasks/s"
    return f"{guest.max_open:,} open{rate}"


def _in_full(guest: Guest) -> dict[str, object]:
    return {
        "name": guest.name,
        "functions": sorted(guest.functions),
        "max_open": guest.max_open,
        "rate": guest.rate,
        "public": guest.public.decode(),
        "caller": guest.caller,
    }
