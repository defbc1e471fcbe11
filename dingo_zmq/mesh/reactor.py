"""
The I/O of a process's App: whoever runs the loop owns every socket, and decides nothing.

The loop is run by one thread, the *loop thread*.  In a node that thread is also a worker, since handing a task
to another thread and its answer back costs more than a small task does.  It runs a job between two rounds of
the loop, in one of two ways:

- a *short* job, by all that is known of it, while the I/O waits.  Should it take long after all, the
  *stand-by* thread, which looks every few milliseconds, takes the loop over;
- any other job after handing the loop to the stand-by thread.

Either way the loop thread takes the loop back when its job is done.  `_lock` is held by whoever is in a round;
it is free while the loop sleeps and while a job runs.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Protocol, TypeVar

import zmq

from dingo_zmq.errors import Closed
from dingo_zmq.forked import FORKED
from dingo_zmq.living import Living
from dingo_zmq.mesh.bell import Bell
from dingo_zmq.mesh.poll import READABLE, WRITABLE, new_poll
from dingo_zmq.waiting import Answer, Event

__all__ = ["DIED", "SETTLED", "Part", "Reactor"]

IDLE_SECONDS = 60.0
BUSY_SECONDS = 0.01
"""between two looks at all sockets while the loop does not sleep: some part has more to do than it gets done"""
SETTLED = object()
"""returned by what is called for a descriptor where no part has to work because of it"""
STANDBY_SECONDS = 0.002
STANDBY_ROUNDS = 100
"""so many looks without a short job in between, and the stand-by thread goes to sleep"""

DIED = "the I/O thread of this App died; see the log"

T = TypeVar("T")
Job = Callable[[], None]
_log = logging.getLogger(__name__)
_reactors: Living[Reactor] = Living()


class Part(Protocol):
    """A role that the loop plays: caller or node.  All methods are called by whoever runs the loop."""

    wakeup: float

    def open(self, reactor: Reactor) -> None:
        """Make sockets and have them watched."""

    def pending(self) -> bool:
        """Return whether other threads have handed something over."""

    def work(self, now: float) -> bool:
        """Take what has come, up to a bound, and act on it; return whether there may be more."""

    def hand_out(self) -> None:
        """Hand to other threads what this round had for them: the last thing before the loop may sleep."""

    def close(self, now: float) -> None:
        """Say good-bye and close the sockets."""


class Reactor:
    """
    The loop, and how other threads hand it work.

    A thread that hands over work puts it into a deque first and looks at `sleeping` second; the loop sets
    `sleeping` first and looks at the deques second, so one of the two sees the other.

    While the loop sleeps, another thread may use the sockets for a moment, between `try_lock` and `unlock`.  It
    must not leave the state of any part in between: an exception from a signal can come after any call.  So the
    lock must be had and known to be had in one step, as by ``for got in iter(try_lock, None): break``.

    Args:
        context: the ZeroMQ context; it is terminated at the end of the loop.
        name: of the loop thread.
        on_crash: called if the loop dies of an error.
    """

    def __init__(self, context: zmq.Context[Any], name: str, on_crash: Job) -> None:
        self.context = context
        self.sleeping = False
        self.parts: list[Part] = []
        self.job: Job | None = None
        self.job_is_short = False
        self._on_crash = on_crash
        self._calls: deque[Job] = deque()
        self._asked: set[Answer[Any]] = set()
        self._cause = "this App is closed"
        self._poll = new_poll()
        self._ready: dict[int, Callable[[], object]] = {}
        self._bell = Bell()
        self.watch_fd(self._bell.fd, self._bell.hush)
        self.running = True
        self._forked = False
        self._ended = Event()
        self._lock = threading.Lock()
        self.try_lock, self.unlock = partial(self._lock.acquire, False), self._lock.release  # noqa: FBT003
        self._owner = 0
        self._look_at = 0.0
        self._loop_thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._leader = self._loop_thread
        self._standby: _Standby | None = None
        _reactors.add(self)

    # ------------------------------------------------------------------ any thread

    def start(self) -> None:
        """Start the loop."""
        self._loop_thread.start()

    def abandon(self) -> None:
        """Close what there is of a loop that does not start after all."""
        self.running = False
        self.context.destroy(0)
        self._poll.close()
        self._bell.close()
        self._ended.set()

    def wake(self) -> None:
        """See that the loop looks at the deques; cheap to call too often."""
        self.sleeping = False
        self._bell.ring()

    def call(self, fn: Job) -> None:
        """
        Have `fn` called by the loop.

        Raises:
            Closed: after its end, or in a process that was forked.
        """
        if self._forked or not self.running:
            raise Closed(FORKED if self._forked else self._cause)
        self._calls.append(fn)
        if self.sleeping:
            self.wake()

    def ask(self, fn: Callable[[], T], timeout: float = 10.0) -> T:
        """
        Have `fn` called by the loop, wait, and return what it returns.

        Raises:
            Closed: after its end, as soon as it comes, or in a process that was forked.
            TimeoutError: when the loop did not come to it within `timeout` seconds.
        """
        if self.is_current:
            return fn()
        answer: Answer[T] = Answer()

        def run() -> None:
            try:
                answer.give(fn())
            except BaseException as exc:
                answer.fail(exc)

        self._asked.add(answer)
        try:
            self.call(run)
            return answer.get(timeout)
        finally:
            self._asked.discard(answer)

    @property
    def is_current(self) -> bool:
        """Whether the calling thread is in a round of the loop."""
        return self._owner == threading.get_ident()

    def stop(self, timeout: float) -> bool:
        """Close all parts and end the loop; return whether it ended within `timeout` seconds."""
        if self._forked:
            return True
        self.running = False
        self.wake()
        return self.is_current or self._ended.wait(timeout)

    def has_ended(self, timeout: float) -> bool:
        """Return whether the loop has ended, or does so within `timeout` seconds."""
        return self._ended.wait(timeout)

    # ------------------------------------------------------------------ in a round of the loop

    def watch(self, socket: zmq.Socket[Any], ready: Callable[[], object]) -> None:
        """
        Call `ready` when a ZeroMQ socket may have something; whoever reads it must read all there is.

        Parts work then, unless it returns `SETTLED`.

        ZeroMQ signals on the descriptor only what comes after the socket was once found empty, and a send on
        the same socket may swallow the signal: look at its EVENTS then.
        """
        self.watch_fd(_fd(socket), ready)
        ready()

    def unwatch(self, socket: zmq.Socket[Any]) -> None:
        """The opposite of `watch`, before the socket is closed."""
        self.unwatch_fd(_fd(socket))

    def watch_fd(self, fd: int, ready: Callable[[], object], *, writable: bool = False) -> None:
        """Call `ready` when a file descriptor is readable (or writable)."""
        self._ready[fd] = ready
        self._poll.register(fd, WRITABLE if writable else READABLE)

    def unwatch_fd(self, fd: int) -> None:
        """The opposite of `watch_fd`, before the descriptor is closed."""
        if self._ready.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def run_between(self, job: Job, *, short: bool) -> None:
        """
        Have the loop thread run a job, after this round or after the job that it is about to end.

        There must be none waiting already.
        """
        self.job, self.job_is_short = job, short

    @property
    def may_run_between(self) -> bool:
        """Whether the loop thread could run a job as soon as this round is over."""
        return self.job is None and self._leader is self._loop_thread

    # ------------------------------------------------------------------ the loop

    def _run(self) -> None:
        try:
            while self._lead():
                job, self.job = self.job, None
                if job is not None:
                    self._work_off(job)
        except BaseException:
            self._crash()

    def _lead(self) -> bool:
        """Run the loop while it is this thread's; return whether to come again, having done `job`."""
        me = threading.current_thread()
        ident = threading.get_ident()
        while True:
            with self._lock:
                if self._leader is not me:
                    return False
                self._owner = ident
                if not self.running:
                    self._finish()
                    return False
                wait = self._round()
                self._owner = 0
            if self.job is not None and me is self._loop_thread:
                return True
            if wait is None and monotonic() >= self._look_at:
                wait = 0.0
            if wait is not None:
                self._sleep(wait)
                self._look_at = monotonic() + BUSY_SECONDS

    def _round(self) -> float | None:
        """Let all parts work once; return for how many seconds the loop may sleep, None for not at all."""
        self.sleeping = False
        calls = self._calls
        while calls:
            calls.popleft()()
        now = monotonic()
        busy = False
        for part in self.parts:
            busy |= part.work(now)
        wait = None if busy or not self._has_time() else self._may_sleep()
        # A thread that is woken needs the GIL, and waits twice if the loop still holds it by then.
        for part in self.parts:
            part.hand_out()
        return wait

    def _has_time(self) -> bool:
        return self.job is None or self._leader is not self._loop_thread

    def _may_sleep(self) -> float | None:
        self.sleeping = True
        if self._calls or not self.running:
            self.sleeping = False
            return None
        soonest = monotonic() + IDLE_SECONDS
        for part in self.parts:
            if part.pending():
                self.sleeping = False
                return None
            soonest = min(soonest, part.wakeup)
        return max(0.0, soonest - monotonic())

    def _sleep(self, wait: float) -> None:
        until = monotonic() + wait
        while wait >= 0.0 and self._nap(wait):
            wait = until - monotonic()

    def _nap(self, wait: float) -> bool:
        """Wait for what comes; return whether that was all dealt with, so that the loop may sleep on."""
        try:
            ready = self._poll.poll(wait)
        except (OSError, ValueError):
            if self.running:
                raise
            return False  # it was closed by the thread that has become the leader
        with self._lock:
            if self._leader is not threading.current_thread():
                return False  # the leader sees the same, for nothing was read
            self.sleeping, settled = False, bool(ready)
            self._owner = threading.get_ident()
            for fd, _ in ready:
                call = self._ready.get(fd)
                if call is None or call() is not SETTLED:
                    settled = False
            self._owner = 0
            return settled and self._may_sleep_on()

    def _may_sleep_on(self) -> bool:
        self.sleeping = True
        if self._calls or not self.running or any(part.pending() for part in self.parts):
            self.sleeping = False
        return self.sleeping

    def _work_off(self, job: Job) -> None:
        """In the loop thread: run a job, and be the leader again."""
        standby = self._standby
        if standby is None:
            standby = self._standby = _Standby(self)
        if self.job_is_short:
            standby.look_after(job)
        else:
            standby.take_over()
        job()
        with self._lock:
            standby.job = None
            leader, self._leader = self._leader, self._loop_thread
        if leader is not self._loop_thread:
            self._bell.ring()  # it sleeps, perhaps for long, and may go

    def _finish(self) -> None:
        if self._ended.is_set():
            return
        now = monotonic()
        for part in self.parts:
            part.close(now)
        self.context.term()
        self._poll.close()
        self._bell.close()
        self._answer_no()
        self._ended.set()
        if self._standby is not None:
            self._standby.end()

    def _crash(self) -> None:
        _log.critical("the I/O thread died", exc_info=True)
        self._cause = DIED
        self.running = False
        self._on_crash()
        self._answer_no()
        self.context.destroy(0)
        self._ended.set()

    def _answer_no(self) -> None:
        """The loop comes to none of the calls any more; somebody may wait for one of them."""
        for answer in list(self._asked):
            if not answer.done():
                answer.fail(Closed(self._cause))

    def _after_fork(self) -> None:
        self._forked = True


class _Standby:
    """The thread that runs the loop while the loop thread is busy with a job."""

    def __init__(self, reactor: Reactor) -> None:
        self.job: Job | None = None
        self._reactor = reactor
        self._awake = threading.Event()
        self._looking = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="dingo-standby", daemon=True)
        self._thread.start()

    def look_after(self, job: Job) -> None:
        """A short job begins; `job` is set to None when it is done."""
        self.job = job
        if not self._looking:
            self._looking = True
            self._awake.set()

    def take_over(self) -> None:
        """A long job begins."""
        self._reactor._leader = self._thread
        self._awake.set()

    def end(self) -> None:
        """Let the thread end."""
        self._ended = True
        self._awake.set()

    def _run(self) -> None:
        reactor = self._reactor
        try:
            while not self._ended:
                self._awake.wait()
                self._awake.clear()
                if reactor._leader is self._thread:
                    reactor._lead()
                while self._looking:
                    self._look()
                    # Here `_looking` is cleared first and `job` looked at second, in `look_after` the other
                    # way round, so one of the two sees the other.  What that one sets is never taken back.
                    self._looking = False
                    if self.job is not None and not self._ended:
                        self._looking = True
        except BaseException:
            reactor._crash()

    def _look(self) -> None:
        """Look every few milliseconds whether the job is still the same, and take the loop over if so."""
        reactor, idle, before = self._reactor, 0, None
        while idle < STANDBY_ROUNDS and not self._ended:
            job = self.job
            if job is not None and job is before:
                with reactor._lock:
                    if self.job is job:
                        reactor._leader = self._thread
            if reactor._leader is self._thread:
                reactor._lead()
            idle = idle + 1 if job is None else 0
            before = job
            if self._awake.wait(STANDBY_SECONDS):
                self._awake.clear()
                idle = 0  # somebody may have called for it by `take_over`, so there is another look


def _fd(socket: zmq.Socket[Any]) -> int:
    fd: int = socket.getsockopt(zmq.FD)  # type: ignore[assignment]
    return fd


def _mark_forked() -> None:
    for reactor in list(_reactors):
        reactor._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)
