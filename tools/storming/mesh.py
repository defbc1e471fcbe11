"""A mesh of real node processes of its own, for storms: started, killed, stopped, and started again."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tools.storming.proxy import Proxy
from tools.storming.records import FOLDER

__all__ = ["ROOT", "Mesh", "Node"]

ROOT = Path(__file__).resolve().parent.parent.parent
PREFIX = "DINGO_ZMQ_"
START_SECONDS = 30.0
END_SECONDS = 10.0


class Mesh:
    """
    Name, key and folders of a mesh that meets nobody else's.

    Args:
        folder: where its files are made.
        proxied: whether callers reach nodes through a proxy for each alone, or find them in the directory.
        seed: of what proxies leave to chance.
    """

    def __init__(self, folder: Path, *, proxied: bool, seed: int) -> None:
        self.folder, self.proxied = folder, proxied
        self.records = folder / "records"
        self.nodes: list[Node] = []
        self._dice = random.Random(seed)
        settings = {"MESH": f"storm-{secrets.token_hex(6)}", "DISCOVERY": "none" if proxied else "directory"}
        for kind in ("config", "run"):
            (folder / kind).mkdir(mode=0o700)
        settings |= {"CONFIG_DIR": str(folder / "config"), "RUNTIME_DIR": str(folder / "run")}
        self.records.mkdir()
        rest = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self.env = {**rest, **{PREFIX + name: value for name, value in settings.items()}, "PYTHONPATH": str(ROOT)}

    def add(self, threads: int) -> Node:
        """Start one more node."""
        name = f"n{len(self.nodes) + 1}"
        ports = (_closed_pair(), _closed_pair()) if self.proxied else None
        node = Node(name, threads, self.env, self.records, ports, self._dice.randrange(1 << 30))
        self.nodes.append(node)
        return node

    def close(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.close()


class Node:
    """
    A ``dingo-zmq node``, its supervisor and its process.

    Args:
        name, threads: of the node.
        env: its environment.
        records: the folder of its records; what it prints goes to a file beside.
        ports: the first port of its proxy and its own, None where it takes free ones and has no proxy.
        seed: of its proxy.
    """

    def __init__(
        self, name: str, threads: int, env: dict[str, str], records: Path, ports: tuple[int, int] | None, seed: int
    ) -> None:
        self.name, self._records, self._log = name, records, records.parent / f"{name}.log"
        self._env = {**env, FOLDER: str(records)}
        self._command = [sys.executable, "-m", "dingo_zmq", "node", "tools.storming.served"]
        self._command += ["--name", name, "--threads", str(threads)]
        self.proxy: Proxy | None = None
        if ports is not None:
            self._command += ["--port", str(ports[1])]
            self.proxy = Proxy(*ports, seed)
        self.stopped = 0  # the pid of the process that is stopped
        self.start()

    def start(self) -> None:
        """Start it, in a process group of its own."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env, process_group=0
            )

    def wait(self) -> None:
        """
        Wait until it serves.

        Raises:
            RuntimeError: it does not.
        """
        deadline = time.monotonic() + START_SECONDS
        while f"node {self.name}:" not in self._log.read_text():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{self.name} does not start:\n{self._log.read_text()}")
            time.sleep(0.05)

    @property
    def pid(self) -> int | None:
        """The process that works, None while there is none."""
        try:
            found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        except OSError:
            return None
        return int(found[0]) if found else None

    @property
    def works(self) -> bool:
        """Whether its process has begun a task."""
        pid = self.pid
        return pid is not None and any(path.stat().st_size for path in self._records.glob(f"{pid}-*"))

    def kill_process(self) -> bool:
        """SIGKILL the process; its supervisor starts it again.  Return whether there was one."""
        return self._signal(signal.SIGKILL) is not None

    def kill_all(self) -> bool:
        """SIGKILL process and supervisor at once; start the node again, as a person's supervisor would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.start()
        return True

    def stop(self) -> bool:
        """SIGSTOP the process; return whether there was one."""
        self.stopped = self._signal(signal.SIGSTOP) or 0
        return bool(self.stopped)

    def go_on(self) -> None:
        """SIGCONT what was stopped."""
        if self.stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.stopped, signal.SIGCONT)
            self.stopped = 0

    def _signal(self, number: signal.Signals) -> int | None:
        pid = self.pid
        try:
            if pid is not None:
                os.kill(pid, number)
        except ProcessLookupError:
            return None
        return pid

    def close(self) -> None:
        """End it in good order if it can be, and its proxy."""
        self.go_on()
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.proxy is not None:
            self.proxy.close()


def _closed_pair() -> int:
    """Return the first of two ports that nobody listens on, below those of outgoing connections."""
    for first in random.sample(range(20_000, 32_000, 2), 100):
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", first))
                two.bind(("127.0.0.1", first + 1))
            except OSError:
                continue
            return first
    raise RuntimeError("no free pair of ports")
