"""What every way of finding nodes speaks: announcements, events, and the ports of sources and announcers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

from dingo_zmq.errors import PeerError, UsageError

__all__ = [
    "Announcement",
    "Announcer",
    "Changed",
    "Emit",
    "Event",
    "Found",
    "Gone",
    "Source",
    "check_node_id",
    "from_fields",
    "split_tcp",
    "to_fields",
]

MAX_CANDIDATES = 16
MAX_HOPS = 4
"""forwarders between whoever looks and a node"""
UNKEYED = "none"
"""stands for the id of a key where none is used"""

_MAX_TEXT = 200
_TCP = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\]|[A-Za-z0-9._-]+):([1-9][0-9]{0,4})")
_IPC = re.compile(r"ipc://[!-~]{1,200}")
_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_FORWARDER = re.compile(r"[0-9a-f]{8}")
_INCARNATION = re.compile(r"[0-9a-f]{0,32}")
_EVERYWHERE = ("0.0.0.0", "[::]")  # noqa: S104 (refused below)
_MAX_UINT16 = 65535


@dataclass(frozen=True, slots=True)
class Announcement:
    """
    Where a node can be tried; a hint, never proof that it lives.

    Attributes:
        node: the unique id of the node; for a source that cannot know it, the endpoint as given.
        name: the name for people, or "" where unknown.
        mesh: the mesh it serves, or "" where unknown.
        incarnation: lower-case hexadecimal digits that differ after a restart, or "" where unknown.
        version: protocol version, or 0 where unknown.
        tasks: candidate endpoints of its PULL socket, 1 to 16.
        reports: candidate endpoints of its XPUB socket; entry i belongs to entry i of `tasks`.
        digest: short text that changes when what it serves changes, or "".
        key: id of the key that it wants (`keys.key_id`), `UNKEYED` for no key at all, or "" where unknown.
        path: ids of the forwarders that stand before its candidates, the nearest to the node first.
        hops: of each candidate, how many forwarders stand before it; () where that is as `path` says of all.

    Raises:
        UsageError: for a field that does not fit.
    """

    node: str
    name: str
    mesh: str
    incarnation: str
    version: int
    tasks: tuple[str, ...]
    reports: tuple[str, ...]
    digest: str = ""
    key: str = ""
    path: tuple[str, ...] = ()
    hops: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for field in ("node", "name", "mesh", "digest", "key"):
            text = getattr(self, field)
            if not isinstance(text, str) or len(text) > _MAX_TEXT or not text.isprintable():
                raise UsageError(f"{field} must be printable and at most {_MAX_TEXT} long, not {text!r:.80}")
        if not self.node:
            raise UsageError("node must not be empty")
        if not isinstance(self.incarnation, str) or not _INCARNATION.fullmatch(self.incarnation):
            raise UsageError(f"incarnation must be up to 32 hex digits, not {self.incarnation!r:.80}")
        if type(self.version) is not int or not 0 <= self.version <= _MAX_UINT16:
            raise UsageError(f"version must be a whole number from 0 to 65535, not {self.version!r:.80}")
        _check_candidates(self.tasks, self.reports)
        _check_path(self.path)
        if self.hops and len(self.hops) != len(self.tasks):
            raise UsageError("hops must be as many as there are candidates")

    @property
    def via(self) -> str:
        """Id of the forwarder that announces it in place of the node, "" where the node does so itself."""
        return self.path[-1] if self.path else ""

    @property
    def instance(self) -> str:
        """What it is announced as: a node and its stand-ins beside each other."""
        return f"{self.node}-{self.via}" if self.path else self.node

    @property
    def distances(self) -> tuple[int, ...]:
        """How many forwarders stand before each candidate."""
        return self.hops or (len(self.path),) * len(self.tasks)

    @property
    def candidates(self) -> tuple[tuple[str, str], ...]:
        """The pairs (endpoint for tasks, endpoint for reports)."""
        return tuple(zip(self.tasks, self.reports, strict=True))


def _check_candidates(tasks: object, reports: object) -> None:
    if not isinstance(tasks, tuple) or not isinstance(reports, tuple) or len(tasks) != len(reports):
        raise UsageError("tasks and reports must be tuples of the same length")
    if not 0 < len(tasks) <= MAX_CANDIDATES:
        raise UsageError(f"there must be 1 to {MAX_CANDIDATES} candidate endpoints, not {len(tasks)}")
    for endpoint in tasks + reports:
        if not isinstance(endpoint, str) or not (_is_tcp(endpoint) or _IPC.fullmatch(endpoint)):
            raise UsageError(f"not an endpoint that can be connected to: {endpoint!r:.80}")


def _check_path(path: object) -> None:
    if not isinstance(path, tuple) or len(path) > MAX_HOPS or len(set(path)) < len(path):
        raise UsageError(f"path must be up to {MAX_HOPS} different forwarders, not {path!r:.80}")
    for forwarder in path:
        if not isinstance(forwarder, str) or not _FORWARDER.fullmatch(forwarder):
            raise UsageError(f"the id of a forwarder must be 8 hex digits, not {forwarder!r:.80}")


def _is_tcp(endpoint: str) -> bool:
    try:
        split_tcp(endpoint)
    except UsageError:
        return False
    return True


def split_tcp(endpoint: str) -> tuple[str, int]:
    """
    Return host (an IPv6 address keeps its brackets) and port of an endpoint that can be connected to.

    Raises:
        UsageError: if it is not of the form tcp://host:port, or the host means "everywhere".
    """
    match = _TCP.fullmatch(endpoint)
    if not match or match[1] in _EVERYWHERE or int(match[2]) > _MAX_UINT16:
        raise UsageError(f"not of the form tcp://host:port: {endpoint!r:.80}")
    return match[1], int(match[2])


def check_node_id(text: str) -> str:
    """
    Return `text` if it can be a node id: 1 to 63 of A-Z a-z 0-9 _ -, beginning with a letter or digit.

    Raises:
        UsageError: if it cannot.
    """
    if not isinstance(text, str) or not _NODE_ID.fullmatch(text):
        raise UsageError(f"a node id must be 1 to 63 of A-Z a-z 0-9 _ -, not {text!r:.80}")
    return text


def to_fields(announcement: Announcement) -> dict[str, Any]:
    """Return the announcement as plain values, the inverse of `from_fields`; `hops` is nobody else's business."""
    fields = asdict(announcement)
    del fields["hops"]
    return fields


def from_fields(fields: Mapping[str, Any]) -> Announcement:
    """
    Build an announcement from what somebody else wrote; fields we do not know are ignored.

    Raises:
        PeerError: whatever is wrong with it.
    """
    try:
        values = {name: fields[name] for name in Announcement.__dataclass_fields__ if name not in ("path", "hops")}
        values["tasks"], values["reports"] = tuple(values["tasks"]), tuple(values["reports"])
        values["path"] = tuple(fields.get("path", ()))
        check_node_id(values["node"])
        return Announcement(**values)
    except (KeyError, TypeError, UsageError) as exc:
        raise PeerError(f"not an announcement: {exc}") from exc


@dataclass(frozen=True, slots=True)
class Found:
    """A node was seen for the first time, or for the first time since it was gone."""

    announcement: Announcement
    source: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A node that had been found is announced with another content."""

    announcement: Announcement
    source: str


@dataclass(frozen=True, slots=True)
class Gone:
    """A node is no longer announced, by itself or by forwarder `via`; it may well be alive and reachable."""

    node: str
    source: str
    via: str = ""


Event: TypeAlias = Found | Changed | Gone
Emit: TypeAlias = Callable[[Event], None]


class Source(Protocol):
    """A way to hear of nodes."""

    def start(self, emit: Emit) -> None:
        """
        Begin to call `emit`, from any thread, one call at a time.

        Raises:
            ConfigError: if the source cannot work at all.
        """

    def stop(self) -> None:
        """End it; `emit` is never called after this returned.  May be called twice, and from `emit`."""


class Announcer(Protocol):
    """A way to let others hear of nodes."""

    def announce(self, announcement: Announcement) -> None:
        """
        Tell of a node; the same node again with another content is an update.

        Raises:
            ConfigError: if it cannot be told.
            UsageError: if the node's id is not one that `check_node_id` accepts.
        """

    def withdraw(self, node: str) -> None:
        """Tell that the node is gone; unknown ids are ignored."""

    def close(self) -> None:
        """Withdraw all nodes and end it.  May be called twice."""
