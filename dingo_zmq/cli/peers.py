"""``dingo-zmq peers``: which nodes there are, and what they do."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from dingo_zmq.cli.common import NOBODY, complain, in_words, mesh_app, mesh_options, plain
from dingo_zmq.protocol.messages import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dingo_zmq.mesh.info import PeerInfo

__all__ = ["notes", "peers", "table"]

_WIDTH = 160
"""characters of a line where the output is no terminal"""
_REFUSED = "refused us"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.option("--wait", type=click.FloatRange(0), default=1.5, show_default=True, help="Seconds to look around.")
@mesh_options
@in_words
def peers(as_json: bool, wait: float, **where: Any) -> None:
    """
    Show the nodes of the mesh: the address in use, functions, workers, load, and who does not let us in.

    Workers are those that most functions of a node share; where a function has another number of them, it is
    in parentheses.  The round trip is that of the last life sign, the pulse the age of the last load report.
    Exit code 3 where there is no node that could be used.

    \b
    Example:
      dingo-zmq peers
      dingo-zmq peers --json
    """
    from dingo_zmq.mesh.info import other_meshes

    app = mesh_app(**where)
    try:
        engine = app.engine()
        engine.subscribe("pulse/")
        found = engine.wait_for(lambda _: False, wait)
        others = other_meshes(engine)
    finally:
        app.close(wait=False)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(peer) for peer in found], indent=2))
    elif found:
        table(found)
    if not as_json:
        for line in notes(found, others):
            click.echo(line)
    if not any(peer.state == "ready" for peer in found):
        _nobody(engine.settings.mesh, wait, found)
        sys.exit(NOBODY)


def _nobody(mesh: str, wait: float, found: list[PeerInfo]) -> None:
    if any(peer.state == "locked out" for peer in found):
        hint = "all machines of a mesh need the same key; dingo-zmq keygen makes one, to be copied to the others"
        complain(f"no node of mesh {mesh!r} can be used", hint)
    elif found:
        complain(f"no node of mesh {mesh!r} can be used")
    else:
        hint = "start one with: dingo-zmq node FILE.py, or give the address of one: --peer tcp://host:port"
        complain(f"no node of mesh {mesh!r} was found in {wait:g} s", hint)


def notes(found: list[PeerInfo], others: Mapping[str, int]) -> list[str]:
    """
    Return lines on what a table of nodes does not tell.

    Args:
        found: the nodes; those that do not let us in come first, each with the cause.
        others: names of other meshes, and how many nodes of each were seen.
    """
    lines = [
        f"{peer.name} at {peer.address}: {_barred(peer)}"
        for peer in sorted(found, key=lambda peer: (peer.name, peer.address))
        if peer.state == "locked out" or peer.state.startswith(_REFUSED)
    ]
    for mesh, count in sorted(others.items()):
        lines.append(f'{count} node{" is" if count == 1 else "s are"} here too, of mesh "{mesh}"')
    return [plain(line) for line in lines]


def _barred(peer: PeerInfo) -> str:
    return f"{peer.state}, {peer.cause}" if peer.state == "locked out" and peer.cause else peer.state


def table(found: list[PeerInfo]) -> None:
    """Print nodes as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    versions = any(peer.version not in (0, VERSION) for peer in found)
    shown = Table()
    for title in ("name", "address"):
        shown.add_column(title, no_wrap=True)
    for title in ("state", "found by", "tags", "functions"):
        shown.add_column(title, overflow="fold")
    for title in ("workers", "running", "queued", "round trip", "pulse", *(["version"] if versions else [])):
        shown.add_column(title, justify="right")
    for peer in sorted(found, key=lambda peer: (peer.name, peer.address)):
        cells = [
            peer.name,
            peer.address,
            _REFUSED if peer.state.startswith(_REFUSED) else peer.state,
            ", ".join(peer.sources),
            ", ".join(peer.tags),
            ", ".join(_function(name, peer) for name in sorted(peer.functions)),
            str(peer.slots) if peer.version else "-",
            *("-" if number is None else str(number) for number in (peer.running, peer.queued)),
            "-" if peer.round_trip is None else f"{peer.round_trip * 1000:.1f} ms",
            "-" if peer.pulse_age is None else f"{peer.pulse_age:.1f} s ago",
            *([str(peer.version or "-")] if versions else []),
        ]
        shown.add_row(*(escape(plain(cell)) for cell in cells))
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(shown)


def _function(name: str, peer: PeerInfo) -> str:
    workers = peer.function_slots.get(name, peer.slots)
    return name if workers == peer.slots else f"{name} ({workers})"
