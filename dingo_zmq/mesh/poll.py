"""Waiting for file descriptors: an epoll, or what the platform has instead."""

from __future__ import annotations

import select
import selectors
from typing import Protocol

__all__ = ["READABLE", "WRITABLE", "Poll", "SelectorPoll", "new_poll"]


class Poll(Protocol):
    """The part of `select.epoll` that is needed here."""

    def register(self, fd: int, events: int, /) -> None:
        """Watch a descriptor for `READABLE` or `WRITABLE`."""

    def unregister(self, fd: int, /) -> None:
        """Watch it no more."""

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        """Return descriptors that are ready, and their events, after `timeout` seconds at most."""

    def close(self) -> None:
        """Give it back."""


READABLE: int = getattr(select, "EPOLLIN", 1)
WRITABLE: int = getattr(select, "EPOLLOUT", 4)


class SelectorPoll:
    """The same on top of `selectors`, for platforms without epoll."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, events: int, /) -> None:
        """See `Poll`."""
        self._selector.register(fd, selectors.EVENT_READ if events == READABLE else selectors.EVENT_WRITE)

    def unregister(self, fd: int, /) -> None:
        """See `Poll`."""
        self._selector.unregister(fd)

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        """See `Poll`."""
        return [(key.fd, events) for key, events in self._selector.select(timeout)]

    def close(self) -> None:
        """See `Poll`."""
        self._selector.close()


def new_poll() -> Poll:
    """Return the best that there is."""
    return select.epoll() if hasattr(select, "epoll") else SelectorPoll()
