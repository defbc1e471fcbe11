"""
Two nodes and a caller on this machine, with real files: what `make demo` runs.

One node is announced by zeroconf alone, and so can be found in no other way.  Both get the files of
`checksums.py` beside this file.  Folders, keys and the name of the mesh are made for this run; at the end
nothing is left, whatever happens.

With --kill one node is ended by SIGKILL half way through, and still no answer is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import checksums  # type: ignore[import-not-found]  # beside this file, where mypy does not look
from rich.console import Console
from rich.table import Table

from dingo_zmq import App
from dingo_zmq.errors import DingoError
from dingo_zmq.mesh.supervisor import die_with_parent

if TYPE_CHECKING:
    from dingo_zmq.mesh.info import PeerInfo

SOURCES = {"quiet": ("zeroconf",), "known": ("directory", "zeroconf")}  # name of a node: how it is announced
TO_KILL = "known"
START_SECONDS, STOP_SECONDS = 15.0, 15.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Nodes = dict[str, "subprocess.Popen[bytes]"]


def main() -> int:
    """Run the demo; return 0 if all of it was right."""
    parser = argparse.ArgumentParser(description="Two nodes and a caller on this machine, with real files.")
    parser.add_argument("directory", nargs="?", type=Path, help="default: the standard library")
    parser.add_argument("--kill", action="store_true", help="end a node by SIGKILL half way through")
    options = parser.parse_args()
    for number in SIGNALS[1:]:
        signal.signal(number, leave)
    try:
        with private_mesh(), running_nodes() as nodes:
            right = found_and_used(nodes, options.directory, options.kill)
            right &= stopped_well(nodes, TO_KILL if options.kill else "")
    except (DingoError, TimeoutError) as exc:
        return complain(str(exc))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    print("all is right" if right else "something is wrong, see above", flush=True)
    return 0 if right else 1


def found_and_used(nodes: Nodes, directory: Path | None, kill: bool) -> bool:
    """Find the nodes, give them the files, and tell whether both went as it should."""
    with App("mesh") as app:
        if not found(app, nodes):
            return False
        task = app.register("checksum", checksums.checksum)
        killed: list[str] = []

        def watch(done: int, total: int) -> None:
            if kill and not killed and done * 2 >= total:
                killed.append(f"{TO_KILL} was ended by SIGKILL after {done:,} of {total:,} answers")
                os.killpg(nodes[TO_KILL].pid, signal.SIGKILL)

        right: bool = checksums.compare(task, *checksums.what_to_read(directory), watch)
        for text in killed:
            print(text)
        return right and bool(killed) == kill


def found(app: App, nodes: Nodes) -> bool:
    """Wait for both nodes, print how each was found, and tell whether that is as they were announced."""

    def ready(peers: list[PeerInfo]) -> bool:
        return {peer.name: peer.sources for peer in peers if peer.state == "ready"} == SOURCES

    end = time.monotonic() + START_SECONDS
    peers = app.engine().wait_for(ready, 0.2)
    while not ready(peers) and time.monotonic() < end and all(node.poll() is None for node in nodes.values()):
        peers = app.engine().wait_for(ready, 0.2)  # a second source is no news, so look now and then
    shown = Table("node", "found by", "state", "workers", "address", title="the nodes")
    for peer in sorted(peers, key=lambda peer: peer.name):
        shown.add_row(peer.name, ", ".join(peer.sources), peer.state, str(peer.slots), peer.address)
    Console().print(shown)
    if ready(peers):
        return True
    complain(f"these should be ready: {', '.join(f'{name} by {how}' for name, how in SOURCES.items())}")
    return False


# ---------------------------------------------------------------------- processes


@contextlib.contextmanager
def private_mesh() -> Iterator[None]:
    """Point the environment at folders and a mesh of our own."""
    for name in [name for name in os.environ if name.startswith("DINGO_ZMQ_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="dingo-zmq-demo-") as folder:
        os.environ["DINGO_ZMQ_CONFIG_DIR"] = f"{folder}/config"
        os.environ["DINGO_ZMQ_RUNTIME_DIR"] = f"{folder}/runtime"
        os.environ["DINGO_ZMQ_MESH"] = f"demo-{secrets.token_hex(4)}"
        yield


@contextlib.contextmanager
def running_nodes() -> Iterator[Nodes]:
    """Start the nodes, and see to it that they end, whatever happens and whoever presses Ctrl-C meanwhile."""
    nodes: Nodes = {}
    try:
        for name, sources in SOURCES.items():
            nodes[name] = start(name, sources)
        yield nodes
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        stop(nodes)


def start(name: str, sources: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Start a node in a process group of its own: Ctrl-C is for us alone, and it can be killed as a whole."""
    options = ["--name", name, "--discovery", ",".join(sources)]
    return subprocess.Popen(
        [sys.executable, "-m", "dingo_zmq", "node", checksums.__file__, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - no thread of ours runs yet
    )


def stop(nodes: Nodes) -> None:
    """Stop the nodes that still run by SIGTERM, and wait for all of them."""
    for node in nodes.values():
        if node.poll() is None:
            node.terminate()
    for node in nodes.values():
        ended(node)


def stopped_well(nodes: Nodes, killed: str) -> bool:
    """Stop the nodes, and tell whether all but the killed one had drained."""
    stop(nodes)
    bad = {name: node.returncode for name, node in nodes.items() if node.returncode and name != killed}
    for name, code in bad.items():
        complain(f"node {name} ended with exit code {code}")
    return not bad


def ended(node: subprocess.Popen[bytes]) -> None:
    """Wait for a node to end, and help it where it does not."""
    try:
        node.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


def leave(number: int, frame: object) -> None:
    """Turn a signal into an exception, so that what is open gets closed."""
    raise SystemExit(128 + number)


def complain(text: str) -> int:
    """Print an error, and return the exit code for it."""
    print(f"error: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
