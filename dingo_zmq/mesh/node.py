"""The node's doer: a PULL for what callers send, an XPUB for what is published, and workers."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import monotonic, perf_counter, time
from typing import Any

import zmq

from dingo_zmq.current import Running, running
from dingo_zmq.errors import ArgumentError, ConfigError, EncodeError, PeerError
from dingo_zmq.marshal import Body, encode_failure, encode_progress, size
from dingo_zmq.mesh import keys
from dingo_zmq.mesh import sockets as mesh_sockets
from dingo_zmq.mesh.interfaces import EVERYWHERE, LOOPBACK
from dingo_zmq.mesh.reactor import Reactor
from dingo_zmq.model import Code, Failure, Status, plain
from dingo_zmq.pool import LoopPool, ThreadPool, failure_of
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import node as decider
from dingo_zmq.protocol import wire
from dingo_zmq.protocol.intake import Function as Served
from dingo_zmq.protocol.intake import Held
from dingo_zmq.protocol.starter import Bundle
from dingo_zmq.registry import Function

__all__ = ["MeshNode"]

SHARED, LOOP = "shared", "loop"
COROUTINE_SLOTS = 64
FRAMES_A_ROUND = 32
SHORT_SECONDS = 50e-6
"""functions as quick as this are run by the loop thread: handing them over would cost more"""
FLUSH_SECONDS = 0.001
"""a worker tells of finished tasks at least this often while it works on a bundle"""
TOLD_MOST = 200
"""characters of a failure's message in the log"""

_SUBSCRIBE, _UNSUBSCRIBE = b"\x01", b"\x00"
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
    ) -> None:
        self.wakeup = 0.0
        self.drained = False
        self._readable = self._subscribable = False
        self.on_drained: Callable[[], None] = lambda: None
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
            )
            for f in self._functions.values()
        ]
        self.decider = decider.Node(identity, served, pools, monotonic())
        self._threads = threads
        self._given: set[Bundle] = set()  # what the other shared workers have
        self._finished: deque[tuple[Bundle, list[Answer], float, bool]] = deque()
        self._told: deque[tuple[Held, bytes]] = deque()
        self._pools: dict[str, ThreadPool[Bundle] | LoopPool[Bundle]] = {
            name: LoopPool(f"{identity.name}-loop", self._run_coroutines)
            if name.startswith(LOOP)
            else ThreadPool(f"{identity.name}-{name}", slots - (name == SHARED), self._run)
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
        try:
            self.port = mesh_sockets.bind_pair(self._pull, self._xpub, self._hosts, self._port)
        except BaseException:
            self._close_sockets(0)
            raise
        reactor.watch(self._pull, self._pull_ready)
        reactor.watch(self._xpub, self._xpub_ready)

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
        return bool(self._finished or self._told)

    @property
    def endpoints(self) -> tuple[str, str]:
        """Endpoints of tasks and of reports that processes of this machine can use."""
        host = LOOPBACK if EVERYWHERE in self._hosts else self._hosts[0]
        return f"tcp://{host}:{self.port}", f"tcp://{host}:{self.port + 1}"

    def work(self, now: float) -> bool:
        """Take what callers sent and workers finished, and publish."""
        node = self.decider
        if self._finished or self._told:  # first, since somebody waits for it
            self._from_workers(now)
            node.flush(now)
            self._perform()
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
        return busy or self._subscribable

    def hand_out(self) -> None:
        """Nothing here: workers get their bundles at once."""

    def close(self, now: float) -> None:
        """Publish what is finished, stop the workers and close the sockets."""
        self.work(now)
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
            _log.debug("dropped: %s", exc)
            return
        self.decider.received(message, tuple(frames[1:]), now)

    def _read(self, now: float) -> bool:
        pull = self._pull
        for _ in range(FRAMES_A_ROUND):
            if not mesh_sockets.readable(pull):
                self._readable = False
                return False
            self._received(mesh_sockets.recv_frames(pull), now)
        return True

    def _subscriptions(self, now: float) -> None:
        self._subscribable = False
        while mesh_sockets.readable(self._xpub):
            frame, *more = mesh_sockets.recv_frames(self._xpub)
            kind, prefix = frame[:1], frame[1:]
            if more or kind not in (_SUBSCRIBE, _UNSUBSCRIBE):
                continue
            wanted = kind == _SUBSCRIBE
            if prefix.startswith(b"watch/"):
                self.decider.watch(prefix, wanted)
            elif wanted and prefix.endswith(b"/"):
                self.decider.subscribed(prefix[:-1].decode(errors="replace"), now)

    def _from_workers(self, now: float) -> None:
        node = self.decider
        while self._told:
            held, body = self._told.popleft()
            node.progressed(held, body, now)
        while self._finished:
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
            else:
                _log.info("caller %s: %s", action.caller, action.text)

    def _start(self, bundle: Bundle) -> None:
        """Give a bundle to a worker; one of the shared workers is the thread that runs the loop."""
        name = bundle.function.pool
        if name == SHARED:
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

    # ------------------------------------------------------------------ in the workers' threads

    def _run(self, bundle: Bundle) -> None:
        """Run the tasks of a bundle one after the other."""
        function = self._functions[bundle.function.name]
        now_running = Running(function.name, self._tell)
        token = running.set(now_running)
        answers: list[Answer] = []
        todo = bundle.todo
        execute = self._execute_logged if self._tells_starts else self._execute
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
        self._hand_in(bundle, answers, perf_counter() - began, ended=True)

    def _execute_logged(self, function: Function, held: Held) -> Answer:
        """Log the start of a task, and execute it."""
        _log_start(held)
        return self._execute(function, held)

    def _execute(self, function: Function, held: Held) -> Answer:
        try:
            if held.cancelled:
                return _cancelled(held)
            args, kwargs = function.signature.unpack((held.body, held.buffers))
            value = function.callable(*args, **kwargs)  # type: ignore[misc]
            data, buffers = self._packed(function, value)
            if held.options.ignore_report:
                data, buffers = b"", ()
        except BaseException as exc:
            return _failed(held, exc)
        return held, _SUCCESS, data, tuple(buffers)

    def _packed(self, function: Function, value: Any) -> Body:
        body = function.signature.pack_return(value)
        if body[1] or len(body[0]) > mesh_sockets.LARGE:
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
        while bundle.todo:
            now_running.task = held = bundle.todo.popleft()
            if self._tells_starts:
                _log_start(held)
            began = perf_counter()
            answer = await self._execute_coroutine(function, held)
            self._hand_in(bundle, [answer], perf_counter() - began, ended=False)
        self._hand_in(bundle, [], 0.0, ended=True)

    async def _execute_coroutine(self, function: Function, held: Held) -> Answer:
        try:
            if held.cancelled:
                return _cancelled(held)
            args, kwargs = function.signature.unpack((held.body, held.buffers))
            value = await function.callable(*args, **kwargs)  # type: ignore[misc]
            data, buffers = self._packed(function, value)
            if held.options.ignore_report:
                data, buffers = b"", ()
        except BaseException as exc:
            return _failed(held, exc)
        return held, _SUCCESS, data, tuple(buffers)

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
    data, _ = encode_failure(Failure(Code.CANCELLED, "cancelled before it started"))
    return held, _FAIL, data, ()


def _failed(held: Held, exc: BaseException) -> Answer:
    code = Code.RAISED
    if isinstance(exc, EncodeError):
        code = Code.ENCODE
    elif isinstance(exc, ArgumentError | PeerError):
        code = Code.DECODE
    failure = failure_of(exc, code)
    if _log.isEnabledFor(logging.INFO):
        first = failure.message.partition("\n")[0]
        said = plain(f"{failure.type}: {first}" if first else failure.type, most=TOLD_MOST)
        _log.info("task %s id %s failed: %s", held.lane.function.name, plain(held.id), said)
    data, _ = encode_failure(failure)
    return held, _FAIL, data, ()
