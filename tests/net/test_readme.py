"""What the README says of a second machine, on two machines, word for word."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.lan import Host, Net
from tests.support import Program

README = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = README.partition("\n## A second machine\n")[2].partition("\n## ")[0]
CONSOLES = re.findall(r"^```console\n(.*?)^```\n", SECTION, re.M | re.S)
PROMPT = re.compile(r"^(\S+)\$ ((?:.*\\\n)*.*)\n", re.M)
HOME = "/home/ann"
KEY_ID = re.compile(r"(?<=^mesh key )[0-9a-f]{8}(?= is in )")
NUMBERS = re.compile(r"(?<=workers )\d+(?=,)|(?<=round trip )\d+\.\d(?= ms,)|(?<=pulse )\d\.\d(?= s ago)")
"""with the key id, all that differs from machine to machine and from run to run"""

PROGRAMS = {
    "dingo-zmq": f'exec {shlex.quote(sys.executable)} -m dingo_zmq "$@"',
    "ssh": 'cd "$HOMES/$1" && shift && exec sh -c "$*"',
    "scp": '[ "$1" = -p ] && [ $# = 3 ] && exec cp -p "$2" "$HOMES/${3%%:*}/${3#*:}"',
}
"""what a user has on the path; the real ssh and scp need a server, and begin in the home folder too"""
TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


class Step(NamedTuple):
    """A command, where it is typed, and what is printed then."""

    host: str
    command: str
    printed: str


def steps() -> list[Step]:
    """Return all commands of the section."""
    found = []
    for console in CONSOLES:
        _, *parts = PROMPT.split(console)
        found += [Step(*parts[i : i + 3]) for i in range(0, len(parts), 3)]
    return found


class Desk:
    """
    The README's machines, each with a home folder, of which the first one holds tasks.py.

    Args:
        net: where they are made.
    """

    def __init__(self, net: Net) -> None:
        self._homes, self._bin = net.folder / "homes", net.folder / "bin"
        for folder in (self._homes, self._bin):
            folder.mkdir(parents=True)
        for name, line in PROGRAMS.items():
            (self._bin / name).write_text(f"#!/bin/sh\n{line}\n")
            (self._bin / name).chmod(0o755)
        lan = net.lan()
        self._hosts: dict[str, Host] = {}
        for number, name in enumerate(dict.fromkeys(step.host for step in steps())):
            host = self._hosts[name] = net.host(name, lan, ipv4=False, key=False)
            told = re.search(rf"^node {name}: .* at tcp://([\d.]+):", SECTION, re.M)
            host.add_address(told[1] if told else f"192.168.1.{100 + number}")
            (self._homes / name).symlink_to(self._home(name))
        tasks = re.search(r"^```python\n(# tasks.py\n.*?)^```\n", README, re.M | re.S)
        assert tasks is not None
        (self._home(steps()[0].host) / "tasks.py").write_text(tasks[1])

    def _home(self, host: str) -> Path:
        return self._hosts[host].folder / "h"

    def start(self, step: Step, *before: str) -> Program:
        """Start a command in the home folder of its host, as an argument of the words `before` it."""
        home = self._home(step.host)
        command = step.command.replace(HOME, str(home))
        words = ["sh", "-c", command] if "&&" in command else shlex.split(command)
        return self._hosts[step.host].program(
            command=["env", f"--chdir={home}", *before, *words],
            PATH=f"{self._bin}:{os.environ['PATH']}",
            HOMES=str(self._homes),
            COLUMNS="80",
            DINGO_ZMQ_MESH="",  # nothing is set, as for everybody at first
            DINGO_ZMQ_CONFIG_DIR="",
        )

    def run(self, step: Step) -> str:
        """Run a command in a terminal, and return what a user whose home is as in the README sees there."""
        program = self.start(step, sys.executable, "-c", TERMINAL)
        assert program.wait() == 0, program
        return program.out.replace(str(self._home(step.host)), HOME)


@pytest.fixture
def desk(net: Net) -> Desk:
    """The README's two machines on one LAN."""
    return Desk(net)


def key_id(text: str) -> str:
    """Return the id of the key that keygen has made."""
    found = KEY_ID.search(text)
    assert found is not None, text
    return found[0]


def test_a_second_machine_does_what_is_shown_word_for_word(desk: Desk) -> None:
    keygen, copy, serve, call, peers = steps()
    made = desk.run(keygen)
    real, shown = key_id(made), key_id(keygen.printed)
    assert made.replace(real, shown) == keygen.printed
    assert f"  {copy.command}\n" in made  # so it is typed as keygen has printed it
    assert desk.run(copy) == copy.printed
    node = desk.start(serve)
    node.line("try: ", "out")
    assert node.out.replace(real, shown) == serve.printed
    assert desk.run(call) == call.printed
    assert NUMBERS.sub("0", desk.run(peers)) == NUMBERS.sub("0", peers.printed)

    assert serve.printed.endswith(f"\ntry: {call.command}\n")
    assert (keygen.host, copy.host, serve.host) == ("bench-1",) * 3
    assert (call.host, peers.host, call.printed) == ("bench-2", "bench-2", "5\n")


def test_in_a_file_the_nodes_are_a_table(desk: Desk) -> None:
    keygen, copy, serve, _, peers = steps()
    desk.run(keygen)
    desk.run(copy)
    desk.start(serve).line("try: ", "out")
    table = desk.start(peers)

    assert table.wait() == 0
    cells = [cell.strip() for cell in table.out.splitlines()[3].split("│")]
    address = re.search(r" at (tcp://\S+): ready", peers.printed)
    assert address is not None
    assert cells[1:7] == [peers.printed.split()[0], address[1], "ready", "zeroconf", "", "add"]
