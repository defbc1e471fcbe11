"""Telling systemd how a service is, over the datagram socket that NOTIFY_SOCKET names."""

from __future__ import annotations

import contextlib
import os
import socket
import time

__all__ = ["Notifier"]


class Notifier:
    """
    Speaks to the service manager that started this process, and is silent where there is none.

    Attributes:
        watchdog: seconds after which a sign of life is due, a quarter of what it waits; 0 for none.
    """

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")  # it is not for our children
        usec, pid = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
        for_us = bool(self._address) and pid in ("", str(os.getpid()))
        self.watchdog = int(usec) / 4e6 if for_us and usec.isdecimal() else 0.0
        self._due = 0.0
        self._socket: socket.socket | None = None
        if self._address[:1] in ("/", "@"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def tell(self, *lines: str) -> None:
        """Send lines such as "READY=1"; nothing happens where nobody listens."""
        if self._socket is None:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with contextlib.suppress(OSError):
            self._socket.sendto("\n".join(lines).encode(), address)

    def alive(self) -> None:
        """Give a sign of life where one is due; to be called again and again."""
        now = time.monotonic()
        if self.watchdog and now >= self._due:
            self._due = now + self.watchdog
            self.tell("WATCHDOG=1")

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
