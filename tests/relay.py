"""
A bad line between two LANs: it delays, reorders, loses and doubles frames, for the kernel here has no netem.

Each LAN gets a TAP device as a port of its switch; what comes out of one goes into the other, later or never.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import secrets
import select
import struct
import threading
from time import monotonic
from typing import NamedTuple

from tests.lan import Lan

_SET_INTERFACE = 0x400454CA
_TAP, _NO_HEADER = 0x0002, 0x1000
_LONGEST = 1 << 16


class Weather(NamedTuple):
    """
    How bad a line is.

    Args:
        delay: seconds that a frame takes.
        jitter: seconds by which that differs at most from frame to frame, up or down; frames overtake each other.
        loss: share of frames that never arrive.
        doubled: share of frames that arrive twice.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    doubled: float = 0.0

    def arrivals(self, dice: random.Random) -> list[float]:
        """Return in how many seconds each copy of a frame arrives."""
        if dice.random() < self.loss:
            return []
        copies = 1 + (dice.random() < self.doubled)
        return [self.delay + dice.uniform(-self.jitter, self.jitter) for _ in range(copies)]


class Relay:
    """
    Joins two LANs, so that they are one to their hosts; `weather` may be changed at any time.

    Args:
        lans: which.
        weather: at first.
        seed: of the dice.

    Attributes:
        carried, lost, doubled, overtaken: numbers of frames.
    """

    def __init__(self, lans: tuple[Lan, Lan], weather: Weather, seed: int) -> None:
        self.weather = weather
        self.carried = self.lost = self.doubled = self.overtaken = 0
        self._dice = random.Random(seed)
        self._taps = [_tap(lan) for lan in lans]
        self._order = itertools.count()
        self._way: list[tuple[float, int, int, bytes]] = []  # arrival, order of sending, tap, frame
        self._newest = dict.fromkeys(self._taps, 0)  # order of the newest frame that has arrived
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        one, other = self._taps
        while True:
            wait = max(0.0, self._way[0][0] - monotonic()) if self._way else None
            ready, _, _ = select.select([one, other, self._stop], [], [], wait)
            if self._stop in ready:
                return
            now = monotonic()
            for tap in ready:
                self._take(os.read(tap, _LONGEST), other if tap == one else one, now)
            self._deliver(now)

    def _take(self, frame: bytes, tap: int, now: float) -> None:
        """A frame is on its way to a TAP device."""
        arrivals = self.weather.arrivals(self._dice)
        self.lost += not arrivals
        self.doubled += len(arrivals) > 1
        for seconds in arrivals:
            heapq.heappush(self._way, (now + seconds, next(self._order), tap, frame))

    def _deliver(self, now: float) -> None:
        while self._way and self._way[0][0] <= now:
            _, order, tap, frame = heapq.heappop(self._way)
            os.write(tap, frame)
            self.carried += 1
            self.overtaken += order < self._newest[tap]
            self._newest[tap] = max(order, self._newest[tap])

    def close(self) -> None:
        """Cut the line; both TAP devices are gone then."""
        os.close(self._stopped)
        self._thread.join()
        for descriptor in (self._stop, *self._taps):
            os.close(descriptor)


def _tap(lan: Lan) -> int:
    """Return a new TAP device that is a port of a switch; it exists as long as it is open."""
    name = f"t{secrets.token_hex(4)}"

    def make() -> int:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, _SET_INTERFACE, struct.pack("16sH", name.encode(), _TAP | _NO_HEADER))
        return descriptor

    descriptor = lan.inside(make)
    lan.take_in(name)
    return descriptor
