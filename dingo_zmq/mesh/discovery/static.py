"""Nodes that the user named himself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dingo_zmq.errors import ConfigError, UsageError
from dingo_zmq.mesh.discovery.gate import Gate
from dingo_zmq.mesh.discovery.port import Announcement, Emit, Found, split_tcp

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["StaticSource"]


class StaticSource:
    """
    A fixed list of addresses (`--peer tcp://host:port`); it finds each once, and never changes its mind.

    The port is that of the tasks; reports are expected one port above, as nodes take pairs.  The node's id is
    unknown until it answers, so the address itself stands in for it, and name, mesh and incarnation are "".
    """

    name = "static"

    def __init__(self, endpoints: Iterable[str]) -> None:
        """
        Check the addresses.

        Raises:
            ConfigError: for a text that is not of the form tcp://host:port.
        """
        self._found = [_announcement(text) for text in dict.fromkeys(endpoints)]
        self._gate: Gate | None = None

    def start(self, emit: Emit) -> None:
        """Emit `Found` for each address before returning."""
        self._gate = gate = Gate(emit)
        for announcement in self._found:
            gate(Found(announcement, self.name))

    def stop(self) -> None:
        """Emit nothing any more."""
        if self._gate:
            self._gate.shut()


def _announcement(text: str) -> Announcement:
    try:
        host, port = split_tcp(text)
        reports = f"tcp://{host}:{port + 1}"
        return Announcement(text, "", "", "", 0, tasks=(text,), reports=(reports,))
    except (UsageError, TypeError) as exc:
        raise ConfigError(
            f"{text!r:.80} is not the address of a node; hint: write it like tcp://192.168.1.20:47100"
        ) from exc
