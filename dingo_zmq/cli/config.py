"""``dingo-zmq config``: what holds, and who says so."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from dingo_zmq.cli.common import in_words, setting_options, settings
from dingo_zmq.config import MESH_KEY, SETTINGS, Config, Value, folder

__all__ = ["config"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@setting_options(*(name for name, setting in SETTINGS.items() if setting.flag))
@in_words
def config(as_json: bool, config: str | None, **flags: Any) -> None:
    """
    Show each setting with its source: an option, a variable (DINGO_ZMQ_...), the file, or "default".

    Options come before variables, those before the file, that before the defaults.  A mesh key that nobody has
    named is looked for in its usual place, beside the file.

    \b
    Example:
      dingo-zmq config
      dingo-zmq config --json
    """
    found = settings(config, flags)
    told = {**found.values, "key": _key(found)}
    if as_json:
        parts = {
            "file": {"path": str(found.file), "found": found.found},
            "settings": {name: {"value": v.value, "source": v.source} for name, v in told.items()},
            "unknown": found.unknown,
        }
        click.echo(json.dumps(parts, indent=2))
        return
    click.echo(f"file: {found.file}{'' if found.found else ' (not there)'}\n")
    shown = {name: _shown(value.value) for name, value in told.items()}
    if told["key"].value is None:
        shown["key"] = "none: anybody on the network" if found["insecure_lan"] else "none: this host only"
    rows = [(name, shown[name], value.source) for name, value in told.items()]
    names, values = _width(rows, 0), _width(rows, 1)
    for name, value, source in rows:
        click.echo(f"{name:{names}}  {value:{values}}  {source}")
    for variable, remark in found.unknown.items():
        click.echo(f"warning: {variable} means nothing; {remark}".rstrip("; "), err=True)


def _key(found: Config) -> Value:
    """Return the file of the mesh key in use, None where there is none, and who says so."""
    usual = folder() / MESH_KEY
    if found.is_set("key"):
        return found.values["key"]
    if found["insecure_lan"]:
        return Value(None, found.values["insecure_lan"].source)
    return Value(str(usual), "usual place") if os.path.lexists(usual) else found.values["key"]


def _width(rows: list[tuple[str, str, str]], column: int) -> int:
    return min(40, max(len(row[column]) for row in rows))


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return (
        ", ".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)
    )
