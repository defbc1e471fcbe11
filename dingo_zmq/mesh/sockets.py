"""ZeroMQ sockets with the options that this product depends on."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from typing import Any

import zmq

from dingo_zmq.errors import ConfigError
from dingo_zmq.mesh.interfaces import EVERYWHERE

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = [
    "LOCK_DESCRIPTORS",
    "NOBLOCK",
    "NODE_DESCRIPTORS",
    "PORTS",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "bind_pair",
    "check_descriptors",
    "connect",
    "make",
    "new_context",
    "next_frame",
    "next_message",
    "next_with_sender",
    "send_frames",
    "unbind_pair",
]

PORTS = range(47100, 47300)
"""where a node looks for a free pair of ports unless told"""
SUBSCRIBE, UNSUBSCRIBE = b"\x01", b"\x00"
"""how the frame begins that an XPUB receives and an XSUB sends; the prefix follows (ZMTP 3.0, RFC 23)"""

NOBLOCK, MORE = (
    int(zmq.NOBLOCK),
    int(zmq.NOBLOCK | zmq.SNDMORE),
)  # as enum members they cost a microsecond a use
_EVENTS, _RCVMORE, _POLLIN = zmq.EVENTS, zmq.RCVMORE, int(zmq.POLLIN)
_MAX_SOCKETS = 16384
_DESCRIPTORS = 20
LOCK_DESCRIPTORS = 24
"""that a node needs for its look at who is let in, for a moment"""
NODE_DESCRIPTORS = _DESCRIPTORS + LOCK_DESCRIPTORS
"""that a node needs in all, before anybody calls it"""
_OPTIONS = {
    zmq.LINGER: 1000,
    zmq.HEARTBEAT_IVL: 1000,
    zmq.HEARTBEAT_TIMEOUT: 3000,
    zmq.HEARTBEAT_TTL: 3000,
    zmq.HANDSHAKE_IVL: 3000,
    zmq.CONNECT_TIMEOUT: 3000,
    zmq.RECONNECT_IVL: 100,
    zmq.RECONNECT_IVL_MAX: 2000,
    zmq.SNDHWM: 1000,
    # No limit: libzmq 4.3.5 aborts the process when a connection breaks that a full pipe kept it from reading.
    zmq.RCVHWM: 0,
}
_FRAME_SPARE = 1024 * 1024


def new_context() -> zmq.Context[zmq.Socket[bytes]]:
    """
    Return a context of our own, with room for many sockets; raises this process's limit of open files.

    Raises:
        ConfigError: where libzmq lacks CURVE or is too old.
    """
    if not zmq.has("curve") or zmq.zmq_version_info() < (4, 3, 5):
        raise ConfigError(
            f"libzmq {zmq.zmq_version()} is too old or lacks CURVE; hint: pip install --upgrade pyzmq"
        )
    _raise_file_limit()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, _MAX_SOCKETS)
    return context


def _raise_file_limit() -> None:
    if resource is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _MAX_SOCKETS if hard == resource.RLIM_INFINITY else min(hard, _MAX_SOCKETS)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with contextlib.suppress(OSError, ValueError):  # where a sandbox forbids it we go on with less
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_descriptors(number: int = _DESCRIPTORS, what: str = "an App needs") -> None:
    """
    See that this process may open what is needed, since libzmq aborts the process where it cannot.

    Args:
        number: of files, beside those that are open.
        what: who needs them for what, as "an App needs".

    Raises:
        ConfigError: where it may not.
    """
    _raise_file_limit()
    found = []
    try:
        for _ in range(number):
            found.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as exc:
        limit = ""
        if exc.errno == errno.EMFILE and resource is not None:
            limit = f" {resource.getrlimit(resource.RLIMIT_NOFILE)[0] + number - len(found)} or more"
        raise ConfigError(
            f"this process cannot open the {number} files that {what}: {exc.strerror}; "
            f"hint: close some, or raise the limit with ulimit -n{limit}"
        ) from exc
    finally:
        for each in found:
            os.close(each)


def make(context: zmq.Context[Any], kind: int, limit: int) -> zmq.Socket[bytes]:
    """Return a socket that takes frames up to a body of `limit` bytes, not yet bound or connected."""
    socket: zmq.Socket[bytes] = context.socket(kind)
    for option, value in _OPTIONS.items():
        socket.setsockopt(option, value)
    socket.setsockopt(zmq.MAXMSGSIZE, limit + _FRAME_SPARE)
    if kind == zmq.PUSH:  # only there: with it, what came before a connection broke is lost if it was not yet read
        socket.setsockopt(zmq.IMMEDIATE, 1)
    if kind == zmq.XPUB:
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        socket.setsockopt(zmq.XPUB_NODROP, 1)
    return socket


def connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Connect; a name is looked up as IPv4 alone, since a node on loopback listens there."""
    socket.setsockopt(zmq.IPV6, int("[" in endpoint))
    socket.connect(endpoint)


def bind_pair(
    tasks: zmq.Socket[bytes], reports: zmq.Socket[bytes], hosts: Sequence[str], port: int | None, turn: int = 0
) -> int:
    """
    Bind two sockets to a port and the one after it, and return the first.

    Args:
        tasks, reports: the sockets.
        hosts: addresses of this machine, or `EVERYWHERE` for all of them.
        port: the first port of the pair, or None for the first pair of `PORTS` that is free on all of them.
        turn: any number that says where in `PORTS` to begin to look, the same for the same.

    Raises:
        ConfigError: where the port is taken, or all of them are, or an address cannot be had.
    """
    pairs = PORTS[::2]
    at = turn % len(pairs)
    for first in [*pairs[at:], *pairs[:at]] if port is None else [port]:
        bound: list[tuple[zmq.Socket[bytes], str]] = []
        try:
            for host in hosts:
                for socket, number in ((tasks, first), (reports, first + 1)):
                    endpoint = f"tcp://{host}:{number}"
                    socket.setsockopt(zmq.IPV6, int(host == EVERYWHERE or "[" in host))
                    socket.bind(endpoint)
                    bound.append((socket, socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")))
        except zmq.ZMQError as exc:
            for socket, endpoint in bound:
                socket.unbind(endpoint)
            if port is not None or exc.errno != zmq.EADDRINUSE:
                raise ConfigError(
                    f"cannot listen on {host}:{number}: {exc.strerror}; "
                    "hint: another port with --port, or none to have a free one chosen"
                ) from exc
            continue
        return first
    raise ConfigError(f"all ports from {PORTS[0]} to {PORTS[-1]} are in use; hint: give one with --port")


def unbind_pair(tasks: zmq.Socket[bytes], reports: zmq.Socket[bytes], host: str, port: int) -> None:
    """Listen no more on an address that `bind_pair` was told; connections made there stay."""
    for socket, number in ((tasks, port), (reports, port + 1)):
        with contextlib.suppress(zmq.ZMQError):  # it may not have been bound after all
            socket.unbind(f"tcp://{host}:{number}")


def next_message(socket: zmq.Socket[bytes]) -> list[Any] | None:
    """
    Return one message that waits: bytes, then large buffers as views that were not copied; None for none.

    Asking makes ZeroMQ signal the next one on the descriptor.  It may say that something waits as soon as it
    knows who sends it, before there is anything to be read.
    """
    if not socket.get(_EVENTS) & _POLLIN:  # type: ignore[operator]
        return None
    try:
        frames: list[Any] = [socket.recv(NOBLOCK)]
    except zmq.Again:
        return None
    while socket.get(_RCVMORE):
        frames.append(socket.recv(NOBLOCK, copy=False).buffer)
    return frames


def next_frame(socket: zmq.Socket[bytes]) -> zmq.Frame | None:
    """Return one frame that waits, with what ZeroMQ knows of its sender; None for none.  See `next_message`."""
    if not socket.get(_EVENTS) & _POLLIN:  # type: ignore[operator]
        return None
    try:
        return socket.recv(NOBLOCK, copy=False)
    except zmq.Again:
        return None


def next_with_sender(socket: zmq.Socket[bytes]) -> tuple[zmq.Frame, list[Any]] | None:
    """Return one message that waits, as `next_message` does, behind its first frame, which knows its sender."""
    first = frame = next_frame(socket)
    if first is None or frame is None:
        return None
    frames: list[Any] = [first.bytes]
    while frame.more:
        frame = socket.recv(NOBLOCK, copy=False)
        frames.append(frame.buffer)
    return first, frames


def send_frames(socket: zmq.Socket[bytes], frame: bytes, buffers: tuple[Any, ...]) -> None:
    """
    Send one message: a frame, and large buffers that are not copied.

    Raises:
        zmq.Again: if it would not be taken; then nothing of it was.
    """
    if not buffers:
        socket.send(frame, NOBLOCK)
        return
    socket.send(frame, MORE)
    for number, buffer in enumerate(buffers, 1):
        socket.send(buffer, MORE if number < len(buffers) else NOBLOCK, copy=False)
