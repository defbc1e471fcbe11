"""What this machine itself is like: key, limits, addresses, name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from dingo_zmq.errors import ConfigError
from dingo_zmq.mesh import sockets
from dingo_zmq.mesh.diagnose.facts import KeyFacts
from dingo_zmq.mesh.discovery.port import UNKEYED
from dingo_zmq.mesh.keys import find_key, key_id, mesh_key_path
from dingo_zmq.mesh.reach import Reach

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from dingo_zmq.mesh.engine import MeshSettings

__all__ = ["bind_error", "descriptors", "host_addresses", "key_facts", "later"]

T = TypeVar("T")

NAME_SECONDS = 2.0
"""that the name of this machine may take to be looked up"""


def key_facts(settings: MeshSettings) -> KeyFacts:
    """Return what there is to be known of the key; one that cannot be used is a fact too."""
    if settings.insecure_lan:
        return KeyFacts("", UNKEYED, insecure=True)
    path = settings.key or ""
    try:
        path = path or str(mesh_key_path())
        key = find_key(settings.key)
    except ConfigError as exc:
        return KeyFacts(path, error=str(exc))
    return KeyFacts(path, key_id(key), open=key.kind != "local", guest=key.is_guest)


def bind_error(settings: MeshSettings, key: KeyFacts) -> str:
    """Return why a node could not listen where it is told to, or ""."""
    try:
        Reach(key.open, settings.bind, settings.advertise).hosts()
    except ConfigError as exc:
        return str(exc)
    return ""


def descriptors() -> int | None:
    """
    Return how many files a process of ours may have open: the limit as we raise it ourselves.

    Raises:
        ConfigError: where libzmq will not do.
    """
    sockets.new_context().term()
    limit = None
    if resource is not None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = None if soft == resource.RLIM_INFINITY else soft
    return limit


def host_addresses(name: str) -> tuple[str, ...]:
    """Return the IPv4 addresses that a name stands for here; none where it takes too long to find out."""
    try:
        return tuple(dict.fromkeys(later(lambda: socket.gethostbyname_ex(name)).result(NAME_SECONDS)[2]))
    except (OSError, TimeoutError, UnicodeError):
        return ()


def later(work: Callable[[], T]) -> Future[T]:
    """Call `work` in a thread of its own, which holds nobody up that does not wait for it, not even at the end."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as exc:
            future.set_exception(exc)

    threading.Thread(target=run, name="dingo-doctor", daemon=True).start()
    return future
