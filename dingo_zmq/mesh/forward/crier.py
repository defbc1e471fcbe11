"""Announcing what stands in for nodes, beside the loop that passes messages on."""

from __future__ import annotations

import logging
import threading

from dingo_zmq.errors import ConfigError
from dingo_zmq.mesh.discovery.port import Announcement
from dingo_zmq.mesh.herald import Herald
from dingo_zmq.waiting import Condition

__all__ = ["Crier"]

STOP_SECONDS = 2.0
_log = logging.getLogger("dingo_zmq.forward")


class Crier:
    """Announces what stands in for nodes, in a thread of its own, since that may take a moment."""

    def __init__(self, herald: Herald) -> None:
        self._herald = herald
        self._wanted: dict[str, Announcement | None] = {}
        self._told: dict[str, Announcement] = {}
        self._changed = Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="dingo-crier", daemon=True)
        self._thread.start()

    def tell(self, node: str, announcement: Announcement | None) -> None:
        """Announce a node, or with None announce it no more."""
        with self._changed:
            self._wanted[node] = announcement
            self._changed.notify()

    def close(self) -> None:
        """Announce nothing any more."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(STOP_SECONDS)
        self._herald.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._wanted and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                node = next(iter(self._wanted))
                wanted = self._wanted.pop(node)
            try:
                self._do(node, wanted)
            except ConfigError as exc:
                _log.warning("cannot announce %s: %s", node, exc)
            except Exception:  # the others are to be announced all the same
                _log.exception("cannot announce %s", node)

    def _do(self, node: str, wanted: Announcement | None) -> None:
        if wanted is None:
            if self._told.pop(node, None) is not None:
                self._herald.withdraw(node)
        elif self._told.get(node) != wanted:
            self._herald.announce(wanted)
            self._told[node] = wanted
