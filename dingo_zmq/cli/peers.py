"""``dingo-zmq peers``: which nodes there are, and what they do."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from dingo_zmq.cli.common import in_words, mesh_app, mesh_options

if TYPE_CHECKING:
    from dingo_zmq.mesh.info import PeerInfo

__all__ = ["peers", "table"]

_WIDTH = 160
"""characters of a line where the output is no terminal"""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.option("--wait", type=click.FloatRange(0), default=1.5, show_default=True, help="Seconds to look around.")
@mesh_options
@in_words
def peers(as_json: bool, wait: float, **where: Any) -> None:
    """
    Show the nodes of the mesh: address, functions, workers, load, age of the last pulse, versions.

    \b
    Example:
      dingo-zmq peers
      dingo-zmq peers --json
    """
    app = mesh_app(**where)
    try:
        engine = app.engine()
        engine.subscribe("pulse/")
        found = engine.wait_for(lambda _: False, wait)
    finally:
        app.close(wait=False)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(peer) for peer in found], indent=2))
        return
    if not found:
        click.echo(f"no node of mesh {engine.settings.mesh!r} was found in {wait:g} s", err=True)
        return
    table(found)


def table(found: list[PeerInfo]) -> None:
    """Print nodes as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table()
    for title in ("name", "address"):
        shown.add_column(title, no_wrap=True)
    for title in ("found by", "state", "functions", "slots", "running", "queued", "pulse", "version"):
        shown.add_column(title, overflow="fold")
    for peer in sorted(found, key=lambda p: p.name):
        cells = [
            peer.name,
            peer.address,
            ", ".join(peer.sources),
            peer.state,
            ", ".join(sorted(peer.functions)),
            str(peer.slots),
            *("-" if number is None else str(number) for number in (peer.running, peer.queued)),
            "-" if peer.pulse_age is None else f"{peer.pulse_age:.1f} s ago",
            str(peer.version),
        ]
        shown.add_row(*map(escape, cells))
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(shown)
