"""``dingo-zmq keygen``: make the key that machines share."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from dingo_zmq.cli.common import in_words
from dingo_zmq.errors import ConfigError

__all__ = ["keygen"]


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@in_words
def keygen(file: Path | None) -> None:
    """
    Make a mesh key: machines that have it let each other in, over the network too.

    Without FILE it goes where nodes and callers look for it by themselves.  A file that exists is left as it
    is.  Whoever has the key can run tasks.

    \b
    Example:
      dingo-zmq keygen
      dingo-zmq keygen /etc/dingo-zmq/mesh.key
    """
    from dingo_zmq.mesh import keys
    from dingo_zmq.mesh.private import private_folder

    usual = keys.mesh_key_path()
    path = usual if file is None else Path(os.path.abspath(file.expanduser()))
    if os.path.lexists(path):
        raise ConfigError(
            f"{path} exists already and is left as it is; hint: copy it to the other machines as it is, "
            f"or, for a new one, first: mv {shlex.quote(str(path))} {shlex.quote(f'{path}.old')}"
        )
    if file is not None:
        private_folder(path.parent, forbidden=0o022)
    key = keys.save_key(path, keys.new_key("mesh"))
    quoted = shlex.quote(str(path))
    click.echo(f"mesh key {keys.key_id(key)} is in {path}; keep it secret")
    click.echo("copy it to each other machine, such as bench-2:")
    click.echo("  ssh bench-2 'umask 077; mkdir -p .config/dingo-zmq' \\")
    click.echo(f"    && scp -p {quoted} bench-2:.config/dingo-zmq/mesh.key")
    if path == usual:
        click.echo("nodes and callers find it there by themselves; start again those that run")
    else:
        click.echo(f"there nodes and callers find it by themselves; here tell them: --key {quoted}")
