"""Waking a thread that sleeps in a poller."""

from __future__ import annotations

import contextlib
import os
import socket as sockets
import threading

__all__ = ["Bell"]


class Bell:
    """
    Wakes a poller: an eventfd, or a socket pair where there is none.

    Attributes:
        fd: readable after `ring`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a number must not be written to once it may be another file's
        self._closed = False
        self._pair: tuple[sockets.socket, sockets.socket] | None = None
        if hasattr(os, "eventfd"):
            self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._pair = sockets.socketpair()
            for end in self._pair:
                end.setblocking(False)
            self.fd = self._pair[0].fileno()

    def ring(self) -> None:
        """Make the descriptor readable; cheap to do too often, harmless after `close`."""
        with self._lock, contextlib.suppress(BlockingIOError):  # it rings already
            if self._closed:
                return
            if self._pair is None:
                os.eventfd_write(self.fd, 1)
            else:
                self._pair[1].send(b"!")

    def hush(self) -> None:
        """Make it unreadable again."""
        try:
            if self._pair is None:
                os.eventfd_read(self.fd)
            else:
                self._pair[0].recv(4096)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptor back."""
        with self._lock:
            self._closed = True
            if self._pair is None:
                os.close(self.fd)
            else:
                for end in self._pair:
                    end.close()
