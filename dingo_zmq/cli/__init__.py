"""The command line: ``dingo-zmq node``, ``call``, ``peers``, ``watch``, ``forward``, ``keygen``, ``keys``,
``dead``, ``config``, ``doctor``.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import click

from dingo_zmq import __version__, interrupts
from dingo_zmq.cli.call import call
from dingo_zmq.cli.common import INTERRUPTED
from dingo_zmq.cli.config import config
from dingo_zmq.cli.dead import dead
from dingo_zmq.cli.doctor import doctor
from dingo_zmq.cli.forward import forward
from dingo_zmq.cli.keygen import keygen
from dingo_zmq.cli.keys import keys
from dingo_zmq.cli.node import node, node_process
from dingo_zmq.cli.peers import peers
from dingo_zmq.cli.watch import watch

__all__ = ["main"]


class _Program(click.Group):
    """All the commands; Ctrl-C ends each of them without a traceback, whenever it comes."""

    def invoke(self, ctx: click.Context) -> Any:
        held = interrupts.is_held()
        try:
            if held:
                interrupts.release()
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        finally:
            if held:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing but the end is to come


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dingo-zmq")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
def main(verbose: bool) -> None:
    """
    A brokerless peer task mesh.

    \b
    On each machine:      dingo-zmq node tasks.py
    From any of them:     dingo-zmq call add 2 3
    """


for command in (node, node_process, call, peers, watch, forward, keygen, keys, dead, config, doctor):
    main.add_command(command)
