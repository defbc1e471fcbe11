"""``dingo-zmq doctor``: what is wrong between this machine and the nodes, and what to do about it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dingo_zmq.app import App
from dingo_zmq.cli.common import FAILED, given, in_words, log_to_stderr, plain, setting_options, settings
from dingo_zmq.cli.loading import load_app

if TYPE_CHECKING:
    from dingo_zmq.mesh.diagnose import Finding

__all__ = ["doctor", "lines"]


@click.command()
@click.argument("target", required=False, metavar="[FILE.py|MODULE[:APP]]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option("--wait", type=click.FloatRange(0), default=3.0, show_default=True, help="Seconds to look around.")
@setting_options("mesh", "peers", "discovery", "key", "bind", "insecure_lan", "log_level")
@in_words
def doctor(target: str | None, as_json: bool, wait: float, config: str | None, **flags: Any) -> None:
    """
    Find out why nodes are not found, not reached, or not used; best on both machines.

    A line for each check, with a hint what to do where something is wrong, and a verdict that names the cause
    below all others.  With a file or module its functions are compared with those of the nodes.  No task is
    sent.  Exit code: 0 all is well, warnings or not; 1 something is wrong; 2 usage.

    \b
    Example:
      dingo-zmq doctor
      dingo-zmq doctor tasks.py --peer tcp://192.168.1.20:47100
    """
    from dingo_zmq.mesh.diagnose import Level, gather, judge, verdict

    found = settings(config, flags)
    if found.is_set("log_level"):
        log_to_stderr(found["log_level"])
    else:  # the findings say it all
        log_to_stderr("error")
        logging.getLogger("zeroconf").setLevel(logging.CRITICAL)
    app = load_app(target) if target else App("mesh")
    facts = gather(app.mesh_settings(**given(found, flags)), wait, target or "", app.registry)
    findings = judge(facts)
    ready = sum(node.state == "ready" for node in facts.nodes)
    last = verdict(findings, ready)
    well = not any(finding.level is Level.FAIL for finding in findings)
    if as_json:
        click.echo(json.dumps({"findings": _plain(findings), "verdict": last, "well": well}, indent=2))
    else:
        for line in (*lines(findings), f"verdict: {last}"):
            click.echo(plain(line))
    if not well:
        sys.exit(FAILED)


def lines(findings: Sequence[Finding]) -> list[str]:
    """Return findings as lines for people."""
    told = []
    for each in findings:
        told.append(f"{each.level.value:4}  {each.check}: {each.text}")
        if each.hint:
            told.append(f"      hint: {each.hint}")
    return told


def _plain(findings: Sequence[Finding]) -> list[dict[str, str | None]]:
    return [
        {
            "level": each.level.value.lower(),
            "check": each.check,
            "text": each.text,
            "hint": each.hint,
            "cause": None if each.cause is None else each.cause.name.lower(),
        }
        for each in findings
    ]
