"""The node's doer: a PULL for what callers send, an XPUB for what is published, and workers."""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import monotonic, perf_counter, time
from typing import Any

import zmq

from dingo_zmq.allocation import Own
from dingo_zmq.current import Running, running
from dingo_zmq.errors import ArgumentError, ConfigError, EncodeError, PeerError
from dingo_zmq.events import EventCode, Level, Origin
from dingo_zmq.limits import BEFORE_IT_STARTED, THREAD_GOES_ON, Limits, over_limit, stopped, was_ended
from dingo_zmq.listening import Events
from dingo_zmq.marshal import Body, encode_failure, encode_progress, frozen, size
from dingo_zmq.mesh import keys
from dingo_zmq.mesh import sockets as mesh_sockets
from dingo_zmq.mesh.guard import Guard
from dingo_zmq.mesh.interfaces import EVERYWHERE, LOOPBACK
from dingo_zmq.mesh.reactor import Reactor
from dingo_zmq.model import LARGE, Code, Failure, Status, plain
from dingo_zmq.pool import Leave, LoopPool, ThreadPool, failure_of
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import node as decider
from dingo_zmq.protocol import wire
from dingo_zmq.protocol.guests import Guest
from dingo_zmq.protocol.intake import PLAIN, Held
from dingo_zmq.protocol.intake import Function as Served
from dingo_zmq.protocol.starter import Bundle
from dingo_zmq.registry import Function
from dingo_zmq.yielding import Gate, check_called_as_it_is, send_values, send_values_in_loop

__all__ = ["MeshNode"]

SHARED, LOOP = "shared", "loop"
COROUTINE_SLOTS = 64
FRAMES_A_ROUND, SUBSCRIPTIONS_A_ROUND = 32, 64
SHORT_SECONDS = 50e-6
"""functions as quick as this are run by the loop thread: handing them over would cost more"""
FLUSH_SECONDS = 0.001
"""a worker tells of finished tasks at least this often while it works on a bundle"""
OBEY_SECONDS = 1.0
"""after this a coroutine that was cancelled for its time limit is taken for stuck, as a thread is at once"""

_SUCCESS, _FAIL = int(Status.SUCCESS), int(Status.FAIL)
_log = logging.getLogger("dingo_zmq.node")

Answer = tuple[Held, int, bytes, tuple[Any, ...]]


class MeshNode:
    """
    Runs a `decider.Node` on a reactor.

    Args:
        identity: who it is.
        functions: what it serves, all of them registered.
        own: functions with workers of their own, and how many.
        threads: size of the pool that the others share.
        key: admits its holders; None for no security at all.
        hosts: the addresses to bind, `EVERYWHERE` for all.
        port: the first of a pair of ports, None for a free pair.
        events: where to tell what happens.
    """

    def __init__(
        self,
        identity: decider.Identity,
        functions: Iterable[Function],
        own: Mapping[str, int],
        threads: int,
        key: keys.Key | None,
        hosts: Sequence[str] = (LOOPBACK,),
        port: int | None = None,
        events: Events | None = None,
    ) -> None:
        self._events = events or Events()
        self.wakeup = 0.0
        self.drained = False
        self._readable = self._subscribable = False
        self.first_guests: Sequence[Guest] = ()  # to be set before it is opened
        self._guard: Guard | None = None
        self.on_drained: Callable[[], None] = lambda: None
        self.on_restart: Callable[[], object] | None = None
        self._tells_starts = _log.isEnabledFor(logging.DEBUG)
        self._identity, self._key, self._hosts, self._port = identity, key, tuple(hosts), port
        self._functions = {function.name: function for function in functions}
        pools: dict[str, int] = {SHARED: threads}
        for function in self._functions.values():
            name = _pool_of(function, own)
            pools[name] = own.get(function.name, COROUTINE_SLOTS if name == LOOP else threads)
        served = [
            Served(
                f.name,
                _pool_of(f, own),
                pools[_pool_of(f, own)],
                f.signature.text,
                f.signature.fingerprint,
                f.options.at_most_once,
                (f.options.time_limit or 0.0, f.options.soft_time_limit or 0.0),
            )
            for f in self._functions.values()
        ]
        self.decider = decider.Node(identity, served, pools, monotonic())
        self._threads = threads
        self._limited: dict[Bundle, threading.Thread] = {}  # the worker that each has, until it is done or lost
        self._disobeying: dict[Held, float] = {}  # coroutines over their limit, and until when they may go on
        self._own = {f.name: Own(f) for f in self._functions.values() if "factory" in f.settings}
        self._given: set[Bundle] = set()  # what the other shared workers have
        self._finished: deque[tuple[Bundle, list[Answer], float, bool]] = deque()
        self._told: deque[tuple[Held, bytes]] = deque()
        self._yielded: deque[tuple[Held, bytes, tuple[Any, ...]]] = deque()
        self._gates: dict[Held, Gate] = {}  # of the streams that run
        self._pools: dict[str, ThreadPool[Bundle] | LoopPool[Bundle]] = {
            name: LoopPool(f"{identity.name}-loop", self._run_coroutines)
            if name.startswith(LOOP)
            else ThreadPool(
                f"{identity.name}-{name}", slots - (name == SHARED), self._run if name == SHARED else self._run_own
            )
            for name, slots in pools.items()
        }

    # ------------------------------------------------------------------ as a part of the reactor

    def open(self, reactor: Reactor) -> None:
        """
        Bind.

        Raises:
            ConfigError: where the address or port cannot be had.
        """
        self._reactor = reactor
        self._gate: keys.Gatekeeper | None = None
        if self._key is not None:
            self._gate = keys.Gatekeeper(reactor.context, [self._key.public])
            reactor.watch(self._gate.socket, self._gate_ready)
        self._pull = self._socket(zmq.PULL)
        self._xpub = self._socket(zmq.XPUB)
        if self._key is not None and self._gate is not None:
            self._guard = Guard(self.decider, self._key, self._gate, self._pull, self._xpub)
            self.admit(self.first_guests)
        try:
            self.port = mesh_sockets.bind_pair(self._pull, self._xpub, self._hosts, self._port)
        except BaseException:
            self._close_sockets(0)
            raise
        reactor.watch(self._pull, self._pull_ready)
        reactor.watch(self._xpub, self._xpub_ready)

    def admit(self, guests: Sequence[Guest]) -> None:
        """These are the guests from now on; for the I/O thread."""
        if self._guard is not None:
            self._guard.admit(guests, monotonic(), partial(self._subscriptions, most=sys.maxsize))
            self.wakeup = 0.0

    def listen_on(self, hosts: Sequence[str]) -> None:
        """Listen on these addresses instead, at the same ports; for the I/O thread."""
        before, self._hosts = self._hosts, tuple(hosts)
        for host in hosts:
            if host not in before:
                try:
                    mesh_sockets.bind_pair(self._pull, self._xpub, [host], self.port)
                    _log.info("now listening on %s", host)
                except ConfigError as exc:
                    _log.info("not yet: %s", exc)
                    self._hosts = tuple(each for each in self._hosts if each != host)  # to be tried again
        for host in before:
            if host not in hosts:
                mesh_sockets.unbind_pair(self._pull, self._xpub, host, self.port)

    def _gate_ready(self) -> None:
        assert self._gate is not None
        self._gate.answer()

    def _pull_ready(self) -> None:
        self._readable = True

    def _xpub_ready(self) -> None:
        self._subscribable = True

    def pending(self) -> bool:
        """Whether workers have handed something in."""
        return bool(self._finished or self._told or self._yielded)

    @property
    def endpoints(self) -> tuple[str, str]:
        """Endpoints of tasks and of reports that processes of this machine can use."""
        host = LOOPBACK if EVERYWHERE in self._hosts else self._hosts[0]
        return f"tcp://{host}:{self.port}", f"tcp://{host}:{self.port + 1}"

    def work(self, now: float) -> bool:
        """Take what callers sent and workers finished, and publish."""
        node = self.decider
        if self._finished or self._told or self._yielded:  # first, since somebody waits for it
            self._from_workers(now)
            node.flush(now)
            self._perform()
        if self._guard is not None and self._guard.on:
            busy = self._readable and self._read_guarded(self._guard, now)
            if self._subscribable:
                self._subscribable = self._guard.read_subscriptions(now)
        else:
            busy = self._readable and self._read(now)
            if self._subscribable:
                self._subscriptions(now)
        if now >= self.wakeup:
            node.tick(now)
        if node.out:
            self._perform()
        self.wakeup = node.wakeup
        if node.draining and not self.drained and node.drained:
            self.drained = True
            self.on_drained()
        if self._disobeying:
            self._see_to_coroutines(now)
        if node.restarting and self.on_restart is not None and node.over:
            self.on_restart()
            self.on_restart = None
        return busy or self._subscribable

    def hand_out(self) -> None:
        """Nothing here: workers get their bundles at once."""

    def close(self, now: float) -> None:
        """Publish what is finished, stop the workers and close the sockets."""
        self.work(now)
        for held, gate in list(self._gates.items()):
            held.cancelled = True
            gate.look()
        for pool in self._pools.values():
            pool.close(0)
        self._reactor.unwatch(self._pull)
        self._reactor.unwatch(self._xpub)
        if self._gate is not None:
            self._reactor.unwatch(self._gate.socket)
        self._close_sockets(None)

    def drain(self) -> None:
        """Take no more tasks, give back what has not started; `on_drained` is called when the rest is done."""
        self.decider.drain(monotonic())
        self.wakeup = 0.0

    def resize(self, name: str, slots: int) -> None:
        """A function with workers of its own gets another number of them; for the I/O thread."""
        pool = self.decider.functions[name].pool
        self._pools[pool].resize(slots)
        self.decider.resize(pool, slots, monotonic())
        self.wakeup = 0.0

    def started(self, name: str) -> int:
        """Return how many workers of its own a function has that are started."""
        pool = self._pools[self.decider.functions[name].pool]
        return pool.started if isinstance(pool, ThreadPool) else self.decider.functions[name].slots

    # ------------------------------------------------------------------ in and out

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = mesh_sockets.make(self._reactor.context, kind, self._identity.limit)
        if self._key is not None:
            keys.secure_server(socket, self._key)
        return socket

    def _close_sockets(self, linger: int | None) -> None:
        self._pull.close(0)
        self._xpub.close(linger)
        if self._gate is not None:
            self._gate.close()

    def _received(self, frames: list[Any], now: float) -> None:
        try:
            message = wire.decode_caller(frames)
        except PeerError as exc:
            self._dropped(exc)
            return
        self.decider.received(message, tuple(frames[1:]), now)

    def _dropped(self, exc: PeerError) -> None:
        if self._events.hears(Origin.NODE, Level.DEBUG):
            self._events.tell(Origin.NODE, Level.DEBUG, EventCode.DROPPED, f"dropped: {exc}", error=exc)

    def _read(self, now: float) -> bool:
        pull = self._pull
        for _ in range(FRAMES_A_ROUND):
            frames = mesh_sockets.next_message(pull)
            if frames is None:
                self._readable = False
                return False
            self._received(frames, now)
        return True

    def _read_guarded(self, guard: Guard, now: float) -> bool:
        """The same where there are guests."""

        def received(frames: list[Any], guest: Guest | None) -> None:
            if guest is None:
                self._received(frames, now)
            else:
                self._received_of(guard, guest, frames, now)

        self._readable = guard.read(FRAMES_A_ROUND, received, now)
        return self._readable

    def _received_of(self, guard: Guard, guest: Guest, frames: list[Any], now: float) -> None:
        try:
            message = wire.decode_caller(frames)
        except PeerError as exc:
            self._dropped(exc)
            return
        if guard.lets_pass(guest, message, now):
            self.decider.received(message, tuple(frames[1:]), now)

    def _subscriptions(self, now: float, most: int = SUBSCRIPTIONS_A_ROUND) -> None:
        """Take in up to so many subscriptions; what there may be more of has to wait for tasks and reports."""
        for _ in range(most):
            frames = mesh_sockets.next_message(self._xpub)
            if frames is None:
                self._subscribable = False
                return
            frame, *more = frames
            kind, prefix = frame[:1], frame[1:]
            if more or kind not in (mesh_sockets.SUBSCRIBE, mesh_sockets.UNSUBSCRIBE):
                continue
            wanted = kind == mesh_sockets.SUBSCRIBE
            if prefix.startswith(b"watch/"):
                self.decider.watch(prefix, wanted)
            elif wanted and prefix.endswith(b"/"):
                self.decider.subscribed(prefix[:-1].decode(errors="replace"), now)

    def _from_workers(self, now: float) -> None:
        node = self.decider
        finished = len(self._finished)  # what else their workers told was told before
        while self._told:
            held, body = self._told.popleft()
            node.progressed(held, body, now)
        while self._yielded:
            node.yielded(*self._yielded.popleft(), now)
        for _ in range(finished):
            bundle, answers, seconds, ended = self._finished.popleft()
            if ended:
                self._given.discard(bundle)
            node.finished(bundle, answers, seconds, ended, now)

    def _perform(self) -> None:
        for action in self.decider.take():
            if isinstance(action, decider.Publish):
                self._publish(action)
            elif isinstance(action, decider.Start):
                self._start(action.bundle)
            elif isinstance(action, decider.Interrupt):
                self._interrupt(action.held)
            elif isinstance(action, decider.Resume):
                gate = self._gates.get(action.held)
                if gate is not None:
                    gate.take(action.taken)
            elif isinstance(action, decider.Overrun):
                self._overran(action.bundle, action.held)
            else:
                text = f"caller {action.caller}: {action.text}" if action.caller else action.text
                self._events.tell(Origin.NODE, action.level, action.code, text, caller=action.caller)

    def _start(self, bundle: Bundle) -> None:
        """Give a bundle to a worker; one of the shared workers is the thread that runs the loop."""
        name = bundle.function.pool
        if name == SHARED and bundle.limits is not None:
            self._pools[SHARED].resize(self._threads)  # the thread that runs the loop could not be replaced
            self._given.add(bundle)
        elif name == SHARED:
            short = bundle.expected is not None and bundle.expected <= SHORT_SECONDS
            others_busy = len(self._given) >= self._threads - 1
            if others_busy or (short and self._reactor.may_run_between):
                self._reactor.run_between(partial(self._run, bundle), short=short)
                return
            self._given.add(bundle)
        self._pools[name].submit(bundle)

    def _publish(self, publish: decider.Publish) -> None:
        self._subscribable = True  # a send may swallow the signal of a subscription
        if type(publish.message) is m.Pulse:
            publish.message.clock = int(time() * 1000)
        frame = wire.encode(publish.message, publish.topic)
        try:
            mesh_sockets.send_frames(self._xpub, frame, publish.buffers)
        except zmq.Again:
            self.decider.unpublished(publish)

    # ------------------------------------------------------------------ what has to stop

    def _interrupt(self, held: Held) -> None:
        """Cancel a running coroutine; a thread has to look by itself, or does at the next value it yields."""
        gate = self._gates.get(held)
        if gate is not None:
            gate.look()
        pool = self._pools[held.lane.function.pool]
        if isinstance(pool, LoopPool):
            pool.cancel(held)

    def _overran(self, bundle: Bundle, held: Held) -> None:
        """End a task whose time is over, together with this process if it has to be."""
        name, (limit, _) = held.lane.function.name, bundle.limits or (0.0, 0.0)
        thread = self._limited.pop(bundle, None)
        if thread is None and not bundle.todo:
            return  # it ends just now
        data, _ = encode_failure(over_limit(limit))
        pool = self._pools[bundle.function.pool]
        restart = False
        said = was_ended(name, held.id, limit)
        if isinstance(pool, LoopPool):
            pool.cancel(held)
            if self.on_restart is not None:
                self._disobeying[held] = monotonic() + OBEY_SECONDS
        elif thread is not None:
            gate = self._gates.get(held)
            waits = gate is not None and gate.leave()  # for its reader: such a thread can be ended
            restart = self.on_restart is not None and not waits
            if waits:
                pool.replace(thread)
                said += " while its reader was behind"
            elif not restart:
                pool.replace(thread)
                said += THREAD_GOES_ON
        bundle.todo.clear()
        self._given.discard(bundle)
        _log.warning("%s", said)
        self.decider.overran(bundle, held, data, monotonic(), restart=restart)
        held.cancelled = True  # its thread may look

    def _see_to_coroutines(self, now: float) -> None:
        """End this process where a coroutine over its limit does not give in, or keeps its loop to itself."""
        for held, until in list(self._disobeying.items()):
            pool = self._pools[held.lane.function.pool]
            assert isinstance(pool, LoopPool)
            if not pool.helm.busy_with(held):
                del self._disobeying[held]
            elif now >= until:
                del self._disobeying[held]
                name = held.lane.function.name
                _log.warning("task %s id %s does not give in to its time_limit", name, plain(held.id))
                self.decider.restart(now)
                self.wakeup = 0.0

    def _done(self, bundle: Bundle) -> bool:
        """A worker is done with a bundle that has limits; return whether it is still waited for."""
        return self._limited.pop(bundle, None) is not None

    # ------------------------------------------------------------------ in the workers' threads

    def _run_own(self, bundle: Bundle) -> None:
        """Run the tasks of a bundle of a function that has workers of its own, with what this one calls."""
        name = bundle.function.name
        own = self._own.get(name)
        self._run(bundle, None if own is None else own.get())
        pool = self._pools[bundle.function.pool]
        assert isinstance(pool, ThreadPool)
        pool.thin()

    def _run(self, bundle: Bundle, function: Function | None = None) -> None:
        """Run the tasks of a bundle one after the other."""
        if function is None:
            function = self._functions[bundle.function.name]
        now_running = Running(function.name, self._tell)
        if bundle.limits is not None:
            self._limited[bundle] = threading.current_thread()
            now_running.limits = Limits(*bundle.limits)
        token = running.set(now_running)
        answers: list[Answer] = []
        todo = bundle.todo
        execute = self._execute_stream if function.is_stream else self._execute
        if self._tells_starts:
            execute = partial(self._execute_logged, execute)
        began = perf_counter()
        while True:
            try:
                held = todo.popleft()
            except IndexError:
                break
            now_running.task = held
            answers.append(execute(function, held))
            seconds = perf_counter() - began
            if seconds > FLUSH_SECONDS and todo:
                self._hand_in(bundle, answers, seconds, ended=False)
                answers, began = [], perf_counter()
        running.reset(token)
        if bundle.limits is not None and not self._done(bundle):
            raise Leave
        self._hand_in(bundle, answers, perf_counter() - began, ended=True)

    def _execute_logged(self, execute: Callable[..., Answer], function: Function, held: Held) -> Answer:
        """Log the start of a task, and execute it."""
        _log_start(held)
        return execute(function, held)

    def _execute(self, function: Function, held: Held) -> Answer:
        try:
            if held.cancelled:
                return _cancelled(held)
            special = held.options is not PLAIN
            if special:
                check_called_as_it_is(function.name, yields=False, stream=held.options.stream)
            args, kwargs = function.signature.unpack((held.body, held.buffers))
            value = function.callable(*args, **kwargs)  # type: ignore[misc]
            data, buffers = self._packed(function, value)
            if special and held.options.ignore_report:
                data, buffers = b"", ()
        except BaseException as exc:
            return _failed(self._events, held, exc)
        return held, _SUCCESS, data, tuple(buffers)

    def _execute_stream(self, function: Function, held: Held) -> Answer:
        now = running.get()
        gate = self._gates[held] = Gate(held)
        try:
            if held.cancelled:
                return _cancelled(held)
            args, kwargs = self._stream_arguments(function, held)
            values = function.callable(*args, **kwargs)  # type: ignore[misc]
            send_values(values, partial(self._put, function, held), gate, now.limits if now else None)
        except BaseException as exc:
            return _failed(self._events, held, exc)
        finally:
            del self._gates[held]
        return held, _SUCCESS, b"", ()

    def _stream_arguments(self, function: Function, held: Held) -> Any:
        check_called_as_it_is(function.name, yields=True, stream=held.options.stream)
        return function.signature.unpack((held.body, held.buffers))

    def _put(self, function: Function, held: Held, value: Any) -> int:
        """Hand in one value that a function yielded; return its size, bytes."""
        body = data, buffers = self._packed(function, value)
        self._yielded.append((held, data, tuple(buffers)))
        if self._reactor.sleeping:
            self._reactor.wake()
        return size(body) if buffers else len(data)

    def _packed(self, function: Function, value: Any) -> Body:
        body = function.signature.pack_return(value)
        if body[1]:
            body = frozen(body)  # whoever made it may go on to change it
        if body[1] or len(body[0]) > LARGE:
            total, limit = size(body), self._identity.limit
            if total > limit:
                raise EncodeError(
                    f"{function.name}(): the return takes {total:,} bytes, over the body limit of {limit:,}"
                )
        return body

    async def _run_coroutines(self, bundle: Bundle) -> None:
        """The same for coroutine functions."""
        function = self._functions[bundle.function.name]
        now_running = Running(function.name, self._tell)
        running.set(now_running)
        pool = self._pools[bundle.function.pool]
        assert isinstance(pool, LoopPool)
        if bundle.limits is not None:
            self._limited[bundle] = threading.current_thread()
            now_running.limits = Limits(*bundle.limits)
        while bundle.todo:
            now_running.task = held = bundle.todo.popleft()
            if self._tells_starts:
                _log_start(held)
            began = perf_counter()
            pool.helm.begin(held)
            answer = await self._execute_coroutine(function, held, pool, now_running.limits)
            pool.helm.end(held)
            if bundle.limits is not None and not self._done(bundle):
                return
            self._hand_in(bundle, [answer], perf_counter() - began, ended=False)
        self._hand_in(bundle, [], 0.0, ended=True)

    async def _execute_coroutine(
        self, function: Function, held: Held, pool: LoopPool[Bundle], limits: Limits | None
    ) -> Answer:
        try:
            if held.cancelled:
                return _cancelled(held)
            if function.is_stream:
                await self._send_values_in_loop(function, held, pool, limits)
                return held, _SUCCESS, b"", ()
            check_called_as_it_is(function.name, yields=False, stream=held.options.stream)
            args, kwargs = function.signature.unpack((held.body, held.buffers))
            work = function.callable(*args, **kwargs)  # type: ignore[misc]
            value = await pool.helm.steered(work, limits)
            data, buffers = self._packed(function, value)
            if held.options.ignore_report:
                data, buffers = b"", ()
        except BaseException as exc:
            return _failed(self._events, held, exc)
        return held, _SUCCESS, data, tuple(buffers)

    async def _send_values_in_loop(
        self, function: Function, held: Held, pool: LoopPool[Bundle], limits: Limits | None
    ) -> None:
        args, kwargs = self._stream_arguments(function, held)
        values = function.callable(*args, **kwargs)  # type: ignore[misc]
        gate = self._gates[held] = Gate(held)
        try:
            work = send_values_in_loop(values, partial(self._put, function, held), gate)
            await pool.helm.steered(work, limits)
        finally:
            del self._gates[held]

    def _hand_in(self, bundle: Bundle, answers: list[Answer], seconds: float, *, ended: bool) -> None:
        self._finished.append((bundle, answers, seconds, ended))
        if self._reactor.sleeping:
            self._reactor.wake()

    def _tell(self, held: Held, fraction: float | None, note: str | None) -> None:
        data, _ = encode_progress(fraction, note)
        self._told.append((held, data))
        if self._reactor.sleeping:
            self._reactor.wake()


def _pool_of(function: Function, own: Mapping[str, int]) -> str:
    if function.name in own:
        return f"{LOOP if function.is_coroutine else 'own'}-{function.name}"
    return LOOP if function.is_coroutine else SHARED


def _log_start(held: Held) -> None:
    if not held.cancelled:
        _log.debug("task %s id %s started, attempt %d", held.lane.function.name, plain(held.id), held.attempt)


def _cancelled(held: Held) -> Answer:
    data, _ = encode_failure(Failure(Code.CANCELLED, BEFORE_IT_STARTED))
    return held, _FAIL, data, ()


def _failed(events: Events, held: Held, exc: BaseException) -> Answer:
    code = Code.RAISED
    if isinstance(exc, EncodeError):
        code = Code.ENCODE
    elif isinstance(exc, ArgumentError | PeerError):
        code = Code.DECODE
    now = running.get()
    failure = stopped(exc, now.limits if now else None, cancelled=held.cancelled) or failure_of(exc, code)
    events.failed(failure, held.lane.function.name, held.id, error=exc, caller=held.link.caller)
    data, _ = encode_failure(failure)
    return held, _FAIL, data, ()
