"""The parent of a machine's node processes: starts them, announces them, starts dead ones again, and ends them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dingo_zmq.errors import PeerError
from dingo_zmq.mesh.discovery.port import Announcement, Announcer, from_fields, to_fields

__all__ = ["CONTROL_FD", "Child", "Control", "Supervisor", "die_with_parent"]

CONTROL_FD = "DINGO_ZMQ_CONTROL_FD"
"""environment variable that tells a node process the number of its control socket"""

RESTART_SECONDS, RESTART_MOST = 0.1, 10.0
STEADY_SECONDS = 10.0
CLOSE_SECONDS = 3.0
"""that a process has, after the grace time, for ending by itself"""

_log = logging.getLogger("dingo_zmq.supervisor")


# ---------------------------------------------------------------------- the child's end


class Control:
    """
    A node process's end of the socket to its supervisor.

    Args:
        fd: the socket's number.
        on_drain: called (by a thread of its own) when the supervisor asks to drain.
        on_orphan: called when the supervisor is gone.
    """

    def __init__(self, fd: int, on_drain: Callable[[], None], on_orphan: Callable[[], None]) -> None:
        self._socket = socket.socket(fileno=fd)
        self._on_drain, self._on_orphan = on_drain, on_orphan
        self._thread = threading.Thread(target=self._listen, name="dingo-control", daemon=True)
        self._thread.start()

    def ready(self, announcement: Announcement, functions: dict[str, str]) -> None:
        """Tell the supervisor where this node is and what it serves (name to signature text)."""
        message = {"announcement": to_fields(announcement), "functions": functions}
        with contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _listen(self) -> None:
        while True:
            try:
                word = self._socket.recv(64)
            except OSError:
                word = b""
            if not word:
                self._on_orphan()
                return
            self._on_drain()


def die_with_parent() -> None:
    """On Linux, have the kernel end this process when its parent dies, whatever it is doing then."""
    if sys.platform == "linux":
        import ctypes

        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


# ---------------------------------------------------------------------- the parent's end


@dataclass(slots=True, eq=False)
class Child:
    """One node process, and what it said of itself."""

    number: int
    process: subprocess.Popen[bytes]
    socket: socket.socket
    started: float
    announcement: Announcement | None = None
    functions: dict[str, str] = field(default_factory=dict)
    heard: bytes = b""


class Supervisor:
    """
    Runs node processes until it is told to stop.

    Args:
        command: gives the command line of node process number 1, 2, ...
        count: how many of them.
        announcers: makes what tells discovery where they are; called once the processes are on their way.
        grace: seconds for running tasks to finish when draining.
        on_ready: called once, when all are ready for the first time.

    A process that dies is started again, after a pause that grows while it dies quickly.  The first SIGTERM
    or SIGINT drains: no new tasks, unstarted ones given back, running ones finish.  The second ends at once.
    """

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        count: int,
        announcers: Callable[[], Sequence[Announcer]],
        grace: float,
        on_ready: Callable[[list[Child]], None],
    ) -> None:
        self._command, self._count, self._grace, self._on_ready = command, count, grace, on_ready
        self._make_announcers = announcers
        self._announcers: Sequence[Announcer] = ()
        self._children: dict[int, Child] = {}
        self._due: dict[int, float] = {}
        self._pause = dict.fromkeys(range(1, count + 1), RESTART_SECONDS)
        self._selector = selectors.DefaultSelector()
        self._signals = 0
        self._deadline: float | None = None
        self._clean = True
        self._told = False

    def run(self) -> int:
        """
        Run until told to stop, and return the exit code.

        Returns:
            0 after a drain in time; 1 where running tasks had to be ended; a process's own exit code where the
            first processes did not even start.
        """
        with self._signals_caught():
            try:
                for number in range(1, self._count + 1):
                    self._start(number)
                self._announcers = self._make_announcers()
                while self._children or (self._due and not self._signals):
                    code = self._turn()
                    if code is not None:
                        return code
            finally:
                self._end()
        return 0 if self._clean else 1

    # ------------------------------------------------------------------ one turn of the loop

    def _turn(self) -> int | None:
        timeout = min([1.0, *(at - time.monotonic() for at in self._due.values())])
        for key, _ in self._selector.select(max(0.0, timeout)):
            if isinstance(key.data, Child):
                self._listen(key.data)
            else:
                self._signal()
        for child in list(self._children.values()):
            if child.process.poll() is not None:
                code = self._ended(child)
                if code is not None:
                    return code
        self._keep_time()
        return None

    def _keep_time(self) -> None:
        now = time.monotonic()
        if self._signals:
            self._due.clear()
        for number in [number for number, at in self._due.items() if at <= now]:
            del self._due[number]
            self._start(number)
        if self._deadline is not None and now > self._deadline:
            self._deadline = None
            for child in self._children.values():
                _log.warning("process %d did not end after the grace time and is killed", child.number)
                self._clean = False
                child.process.kill()

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                self._command(number),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(theirs.fileno()),
            )
        ours.setblocking(False)
        child = Child(number, process, ours, time.monotonic())
        self._children[number] = child
        self._selector.register(ours, selectors.EVENT_READ, child)

    def _listen(self, child: Child) -> None:
        try:
            data = child.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(child.socket)
            with contextlib.suppress(subprocess.TimeoutExpired):  # `_turn` looks again
                child.process.wait(0.1)
            return
        child.heard += data
        if child.heard.endswith(b"\n"):
            self._ready(child, child.heard)
            child.heard = b""

    def _ready(self, child: Child, line: bytes) -> None:
        try:
            message: dict[str, Any] = json.loads(line)
            child.announcement, child.functions = from_fields(message["announcement"]), message["functions"]
        except (ValueError, KeyError, PeerError) as exc:
            _log.error("process %d said something strange: %s", child.number, exc)
            return
        for announcer in self._announcers:
            announcer.announce(child.announcement)
        if not self._told and all(c.announcement for c in self._children.values()) and not self._due:
            self._told = True
            self._on_ready(sorted(self._children.values(), key=lambda c: c.number))

    def _ended(self, child: Child) -> int | None:
        """A process is gone; return an exit code where that is the end of all."""
        del self._children[child.number]
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(child.socket)
        child.socket.close()
        self._withdraw(child)
        code = child.process.returncode
        if self._signals:
            self._clean &= code == 0
            return None
        if not self._told and child.announcement is None:
            return code if code > 0 else 1
        quick = time.monotonic() - child.started < STEADY_SECONDS
        pause = min(RESTART_MOST, self._pause[child.number] * 2) if quick else RESTART_SECONDS
        self._pause[child.number] = pause
        _log.warning("process %d %s; it is started again in %.1f s", child.number, _how(code), pause)
        self._due[child.number] = time.monotonic() + pause
        return None

    def _withdraw(self, child: Child) -> None:
        if child.announcement is not None:
            for announcer in self._announcers:
                announcer.withdraw(child.announcement.node)
            child.announcement = None

    # ------------------------------------------------------------------ signals and the end

    def _signal(self) -> None:
        self._signals += len(self._wake[0].recv(64))
        if self._signals == 1:
            _log.info("draining; the next signal ends at once")
            self._deadline = time.monotonic() + self._grace + CLOSE_SECONDS
            for child in list(self._children.values()):
                with contextlib.suppress(OSError):
                    child.socket.send(b"drain\n")
                self._withdraw(child)
        else:
            self._clean = False
            for child in self._children.values():
                child.process.kill()

    @contextlib.contextmanager
    def _signals_caught(self) -> Iterator[None]:
        self._wake = socket.socketpair()
        for end in self._wake:
            end.setblocking(False)
        self._selector.register(self._wake[0], selectors.EVENT_READ, None)
        before = {n: signal.signal(n, lambda *_: None) for n in (signal.SIGTERM, signal.SIGINT)}
        fd = signal.set_wakeup_fd(self._wake[1].fileno())
        try:
            yield
        finally:
            signal.set_wakeup_fd(fd)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            for end in self._wake:
                end.close()

    def _end(self) -> None:
        for child in self._children.values():
            child.process.kill()
        for child in self._children.values():
            child.process.wait()
            child.socket.close()
        for announcer in self._announcers:
            announcer.close()


def _environment(fd: int) -> dict[str, str]:
    return {**os.environ, CONTROL_FD: str(fd)}


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
