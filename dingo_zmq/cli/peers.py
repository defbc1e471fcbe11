"""``dingo-zmq peers``: which nodes there are, and what they do."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any, Literal

import click

from dingo_zmq.cli.common import NOBODY, complain, how_to_find, in_words, mesh_app, mesh_options, plain
from dingo_zmq.protocol.messages import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dingo_zmq.mesh.engine import MeshEngine
    from dingo_zmq.mesh.info import PeerInfo

__all__ = ["notes", "peers", "table"]

_WIDTH = 160
"""characters of a line where the output is no terminal"""
_TABLE_WIDTH = 130
"""a narrower terminal gets a few lines for each node instead of a table"""
_NUMBERS = ("workers", "running", "queued", "round trip", "pulse", "version")
_TITLES = ("name", "address", "state", "found by", "tags", "functions", *_NUMBERS)
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
    app = mesh_app(**where)
    try:
        engine = app.engine()
        engine.subscribe("pulse/")
        found = engine.wait_for(lambda _: False, wait)
        others = engine.other_meshes()
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
        _nobody(engine, wait, found)
        sys.exit(NOBODY)


def _nobody(engine: MeshEngine, wait: float, found: list[PeerInfo]) -> None:
    mesh = engine.settings.mesh
    if any(peer.state == "locked out" for peer in found):
        hint = "all machines of a mesh need the same key; dingo-zmq keygen makes one, to be copied to the others"
        complain(f"no node of mesh {mesh!r} can be used", hint)
    elif found:
        complain(f"no node of mesh {mesh!r} can be used")
    else:
        complain(f"no node of mesh {mesh!r} was found in {wait:g} s", how_to_find(engine))


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


def table(found: list[PeerInfo], width: int | None = None) -> None:
    """
    Print nodes as a table, or where there is no room for one, a few lines for each.

    Args:
        found: the nodes.
        width: characters of a line; the terminal's unless told.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=width or (None if sys.stdout.isatty() else _WIDTH))
    versions = any(peer.version not in (0, VERSION) for peer in found)
    rows = [_cells(peer) for peer in sorted(found, key=lambda peer: (peer.name, peer.address))]
    if console.width < _TABLE_WIDTH:
        for row in rows:
            click.echo("\n".join(_lines(row, versions)))
        return
    shown = Table()
    titles = _TITLES if versions else _TITLES[:-1]
    for title in titles:
        side: Literal["left", "right"] = "right" if title in _NUMBERS else "left"
        shown.add_column(title, no_wrap=title in ("name", "address"), overflow="fold", justify=side)
    for row in rows:
        shown.add_row(*(escape(row[title]) for title in titles))
    console.print(shown)


def _cells(peer: PeerInfo) -> dict[str, str]:
    """Return what is shown of a node, by title."""
    cells = (
        peer.name,
        peer.address,
        _REFUSED if peer.state.startswith(_REFUSED) else peer.state,
        " via ".join([", ".join(peer.sources), *_forwarders(peer)]),
        ", ".join(peer.tags),
        ", ".join(_function(name, peer) for name in sorted(peer.functions)),
        str(peer.slots) if peer.version else "-",
        *("-" if number is None else str(number) for number in (peer.running, peer.queued)),
        "-" if peer.round_trip is None else f"{peer.round_trip * 1000:.1f} ms",
        "-" if peer.pulse_age is None else f"{peer.pulse_age:.1f} s ago",
        str(peer.version or "-"),
    )
    return dict(zip(_TITLES, map(plain, cells), strict=True))


def _forwarders(peer: PeerInfo) -> list[str]:
    """Return the names of the forwarders between us and a node, the nearest to us first."""
    return [entry.rpartition(".")[0] for entry in reversed(peer.via)]


def _lines(row: dict[str, str], versions: bool) -> list[str]:
    """Return the same in lines for a narrow terminal, without what is not known."""
    told = [
        f"{title} {row[title]}" for title in _NUMBERS if row[title] != "-" and (versions or title != "version")
    ]
    words = [f"{title} {row[title]}" for title in ("tags", "functions") if row[title]]
    lines = [f"{row['name']} at {row['address']}: {row['state']}, found by {row['found by'] or 'nobody'}"]
    return lines + [f"  {line}" for line in ("; ".join(words), ", ".join(told)) if line]


def _function(name: str, peer: PeerInfo) -> str:
    workers = peer.function_slots.get(name, peer.slots)
    return name if workers == peer.slots else f"{name} ({workers})"
