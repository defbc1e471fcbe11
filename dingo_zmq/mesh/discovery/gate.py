"""The way from a source to whoever listens, which can be shut for good."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dingo_zmq.mesh.discovery.port import Emit, Event

__all__ = ["Gate"]

_log = logging.getLogger(__name__)


class Gate:
    """Passes events one at a time until it is shut.  Safe for threads, and may be shut from a listener."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._lock = threading.RLock()
        self._open = True

    def __call__(self, event: Event) -> None:
        """Pass an event; what the listener raises is logged, since no source can do anything about it."""
        with self._lock:
            if not self._open:
                return
            try:
                self._emit(event)
            except Exception:
                _log.exception("a listener failed at %r", event)

    def shut(self) -> None:
        """Let nothing through any more; waits for a listener that is at work in another thread."""
        with self._lock:
            self._open = False
