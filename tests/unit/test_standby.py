"""The thread that runs a reactor's loop in place of its own: whoever calls for it at a bad moment is heard."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dingo_zmq.mesh import reactor

WAIT = 10.0


class Loop:
    """A reactor of which only the leader matters; `led` is set once the standby has run it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leader: Any = None
        self.led = threading.Event()

    def _lead(self) -> None:
        self._leader = None
        self.led.set()


class Awake(threading.Event):
    """Calls `last` in the last wait of a look."""

    last: Callable[[], None]
    waits = 0

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None:
            self.waits += 1
            if self.waits == reactor.STANDBY_ROUNDS:
                self.last()
        return super().wait(timeout)


class Standby(reactor._Standby):
    """Calls `after`, once, where it has found no job and is about to look no longer."""

    after: Callable[[], None] | None = None

    def __init__(self, loop: Loop, awake: threading.Event) -> None:
        self._job: Any = None
        self._reactor: Any = loop
        self._awake, self._looking, self._ended = awake, True, False
        self._awake.set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def job(self) -> Any:
        found = self._job
        if not self._looking and self.after is not None:
            after, self.after = self.after, None
            after()
        return found

    @job.setter
    def job(self, job: Any) -> None:
        self._job = job


def test_a_long_job_that_begins_as_the_standby_ends_its_look_is_seen() -> None:
    loop, awake = Loop(), Awake()
    standby = Standby(loop, awake)
    awake.last = standby.take_over
    standby._thread.start()
    assert loop.led.wait(WAIT)
    standby.end()


def test_a_short_job_that_begins_as_the_standby_ends_its_look_is_looked_after() -> None:
    loop, awake = Loop(), threading.Event()
    standby = Standby(loop, awake)
    standby.after = lambda: standby.look_after(print)
    standby._thread.start()
    assert loop.led.wait(WAIT)  # the job did not end
    standby.job = None
    standby.end()


class ClosedPoll:
    """What is polled by one thread while another closes it."""

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        raise OSError(9, "Bad file descriptor")


@pytest.mark.parametrize("running", [False, True])
def test_a_loop_that_ends_while_the_other_thread_goes_to_sleep_does_not_crash(running: bool) -> None:
    loop: Any = Loop()
    loop._poll, loop.running = ClosedPoll(), running
    with pytest.raises(OSError, match="descriptor") if running else contextlib.nullcontext():
        reactor.Reactor._nap(loop, 1.0)
