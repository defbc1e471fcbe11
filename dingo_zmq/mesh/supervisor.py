"""The parent of a machine's node processes: starts them, announces them, starts dead ones again, and ends them."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dingo_zmq.errors import PeerError
from dingo_zmq.mesh.discovery.port import UNKEYED, Announcement, from_fields, to_fields
from dingo_zmq.mesh.filewatch import FileWatch, changed_at, changes, loaded_at
from dingo_zmq.mesh.herald import Herald
from dingo_zmq.mesh.notify import Notifier
from dingo_zmq.mesh.reach import Reach

__all__ = ["CONTROL_FD", "OVERRAN", "Child", "Control", "Supervisor", "die_with_parent"]

CONTROL_FD = "DINGO_ZMQ_CONTROL_FD"
"""environment variable that tells a node process the number of its control socket"""

OVERRAN = 75
"""exit code of a process that had to end for a task that ran longer than its time limit"""
RESTART_SECONDS, RESTART_MOST = 0.1, 10.0
STEADY_SECONDS = 10.0
LOOK_SECONDS = 0.5
"""between two looks at the files that are served"""
WARN_SECONDS = 60.0
"""between two warnings that there is no key"""
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

    def ready(
        self,
        announcement: Announcement,
        functions: dict[str, str],
        discovery: Sequence[str],
        reach: Reach,
        files: Sequence[str] = (),
    ) -> None:
        """
        Tell the supervisor where this node is, what it serves (name to signature), and how to tell of it.

        With its `files` it is started anew when one of them changes, where that is wanted.
        """
        message = {
            "announcement": to_fields(announcement),
            "functions": functions,
            "discovery": list(discovery),
            "reach": asdict(reach),
            "files": list(files),
        }
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
    born: int
    announcement: Announcement | None = None
    reach: Reach | None = None
    functions: dict[str, str] = field(default_factory=dict)
    reloading: float | None = None
    heard: bytes = b""


class Supervisor:
    """
    Runs node processes until it is told to stop.

    Args:
        command: gives the command line of node process number 1, 2, ...
        count: how many of them.
        grace: seconds for running tasks to finish when draining.
        on_ready: called once, when all are ready for the first time.
        reload: whether processes are started anew, one after the other, when the files they serve change.

    A process that dies is started again, after a pause that grows while it dies quickly.  The first SIGTERM
    or SIGINT drains: no new tasks, unstarted ones given back, running ones finish.  The second ends at once.
    """

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        count: int,
        grace: float,
        on_ready: Callable[[list[Child]], None],
        *,
        reload: bool = False,
    ) -> None:
        self._command, self._count, self._grace, self._on_ready = command, count, grace, on_ready
        self._herald: Herald | None = None  # made when the first process says how nodes are told of
        self._children: dict[int, Child] = {}
        self._due: dict[int, float] = {}
        self._pause = dict.fromkeys(range(1, count + 1), RESTART_SECONDS)
        self._files: dict[int, dict[str, int]] = {}  # what each process serves, and of when, as far as it is told
        self._selector = selectors.DefaultSelector()
        self._signals = 0
        self._deadline: float | None = None
        self._clean = True
        self._told = False
        self._insecure = False
        self._warn_at = 0.0
        self._notifier = Notifier()
        self._watch = FileWatch() if reload else None
        self._look = min(LOOK_SECONDS if reload else 1.0, self._notifier.watchdog or 1.0)

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
                while self._children or (self._due and not self._signals):
                    code = self._turn()
                    if code is not None:
                        return code
            finally:
                self._end()
        return 0 if self._clean else 1

    # ------------------------------------------------------------------ one turn of the loop

    def _turn(self) -> int | None:
        timeout = min([self._look, *(at - time.monotonic() for at in self._due.values())])
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
        self._keep_time(time.monotonic())
        return None

    def _keep_time(self, now: float) -> None:
        self._notifier.alive()
        if self._insecure and now >= self._warn_at and not self._signals:
            self._warn_at = now + WARN_SECONDS
            _log.warning("NO KEY: anybody on the network can run tasks here; hint: dingo-zmq keygen")
        if self._watch is not None and self._told and not self._signals:
            self._hurry(now)
            self._reload(self._watch, now)
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
        self._files[number] = {file: changed_at(file) for file in self._files.get(number, ())}
        born = time.time_ns()
        with theirs:
            process = subprocess.Popen(
                self._command(number),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(theirs.fileno()),
            )
        ours.setblocking(False)
        child = Child(number, process, ours, time.monotonic(), born)
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
            told = message["reach"]
            child.reach = Reach(told["open"], tuple(told["bind"]), tuple(told["advertise"]))
            if self._watch is not None:
                self._files[child.number] = {file: loaded_at(file, child.born) for file in message["files"]}
        except (ValueError, KeyError, PeerError) as exc:
            _log.error("process %d said something strange: %s", child.number, exc)
            return
        if self._herald is None:
            self._herald = Herald(message["discovery"], child.reach)
        self._herald.announce(child.announcement)
        self._insecure |= child.announcement.key == UNKEYED
        if not self._due and all(c.announcement for c in self._children.values()):
            self._all_ready()

    def _all_ready(self) -> None:
        children = sorted(self._children.values(), key=lambda c: c.number)
        if not self._told:
            self._told = True
            self._on_ready(children)
        who = "1 process serves" if len(children) == 1 else f"{len(children)} processes serve"
        self._notifier.tell("READY=1", f"STATUS={who} {', '.join(children[0].functions):.200}")

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
        if child.reloading is not None:
            self._start(child.number)
            return None
        if code == OVERRAN:
            _log.warning("process %d ended with a task over its time limit, and is started again", child.number)
            self._start(child.number)
            return None
        quick = time.monotonic() - child.started < STEADY_SECONDS
        pause = min(RESTART_MOST, self._pause[child.number] * 2) if quick else RESTART_SECONDS
        self._pause[child.number] = pause
        _log.warning("process %d %s; it is started again in %.1f s", child.number, _how(code), pause)
        self._due[child.number] = time.monotonic() + pause
        return None

    def _withdraw(self, child: Child) -> None:
        if child.announcement is not None:
            if self._herald is not None:
                self._herald.withdraw(child.announcement.node)
            child.announcement = None

    # ------------------------------------------------------------------ reloading

    def _hurry(self, now: float) -> None:
        """End the pause of each process whose files have changed since it was last started."""
        for number in self._due:
            if changed := changes(self._files[number]):
                _log.warning("process %d is started again: %s changed", number, ", ".join(changed))
                self._due[number], self._pause[number] = now, RESTART_SECONDS

    def _reload(self, watch: FileWatch, now: float) -> None:
        """Drain one process whose files have changed; the next one once that one serves again."""
        for child in self._children.values():
            if child.reloading is not None and now > child.reloading:
                child.reloading = math.inf
                _log.warning("process %d did not end after the grace time and is killed", child.number)
                child.process.kill()
        if self._due or not all(c.announcement for c in self._children.values()):
            return
        for child in self._children.values():
            if changed := watch.changed(self._files[child.number]):
                _log.warning("process %d is started anew: %s changed", child.number, ", ".join(changed))
                child.reloading = now + self._grace + CLOSE_SECONDS
                clock = f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"
                self._notifier.tell("RELOADING=1", clock, f"STATUS=process {child.number} is started anew")
                self._drain(child)
                return

    def _drain(self, child: Child) -> None:
        with contextlib.suppress(OSError):
            child.socket.send(b"drain\n")
        self._withdraw(child)

    # ------------------------------------------------------------------ signals and the end

    def _signal(self) -> None:
        self._signals += len(self._wake[0].recv(64))
        if self._signals == 1:
            _log.info("draining; the next signal ends at once")
            self._notifier.tell("STOPPING=1", "STATUS=running tasks finish")
            self._deadline = time.monotonic() + self._grace + CLOSE_SECONDS
            for child in list(self._children.values()):
                self._drain(child)
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
        if self._herald is not None:
            self._herald.close()
        self._notifier.close()


def _environment(fd: int) -> dict[str, str]:
    return {**os.environ, CONTROL_FD: str(fd)}


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
