"""The link of a guest's caller, and what a guest has of a node in all: its functions alone, within its quota."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dingo_zmq.model import counted
from dingo_zmq.protocol.guests import Guest
from dingo_zmq.protocol.intake import Bounds, Function, Held, Lane, Link
from dingo_zmq.protocol.messages import BUSY, TaskItem

__all__ = ["CALLERS_MOST", "GuestLink", "Usage"]

CALLERS_MOST = 64
"""processes of one guest that a node knows at a time"""
_KEPT_SPARE = 8


class Usage:
    """
    What a guest has of a node, over all its links; it outlives them, so that a new link begins no new second.

    A task is open as long as it is held.  Answers that the guest has not heard count, too, once they are more than
    four times what may be open.

    Args:
        guest: as its entry has it now.
        now: monotonic seconds.
    """

    __slots__ = ("_at", "_tokens", "guest", "links")

    def __init__(self, guest: Guest, now: float) -> None:
        self.guest = guest
        self.links: list[GuestLink] = []
        self._tokens, self._at = self._burst, now

    @property
    def _burst(self) -> float:
        """How many tasks may come at once after a pause: those of a second."""
        return max(1.0, self.guest.rate or 0.0)

    @property
    def open(self) -> int:
        """How many of its tasks the node holds."""
        return sum([len(lane.held) for link in self.links for lane in link.lanes.values()])

    def room(self, now: float) -> int:
        """Return how many more tasks it may send now."""
        most = self.guest.max_open
        kept = sum([len(link.kept) - link.partial for link in self.links])
        room = most - self.open - max(0, kept - (4 * most + _KEPT_SPARE))
        if self.guest.rate is not None:
            room = min(room, int(self._filled(self.guest.rate, now)))
        return max(0, room)

    def _filled(self, rate: float, now: float) -> float:
        """Return for how many tasks its rate has room."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * rate)
        self._at = max(self._at, now)
        return self._tokens

    def took(self) -> None:
        """One more task was taken."""
        if self.guest.rate is not None:
            self._tokens -= 1

    @property
    def full(self) -> str:
        """Why a task is given back for which there is no room."""
        quota = f"{counted(self.guest.max_open, 'task')} open"
        if self.guest.rate is not None:
            quota += f" and {self.guest.rate:g} tasks/s"
        return f"{BUSY}: guest {self.guest.name} may have {quota} here"

    @property
    def forbidden(self) -> str:
        """Why a task of a function is given back that the guest may not run, whether there is one or not."""
        return f"guest {self.guest.name} may not run it"


class GuestLink(Link):
    """
    One caller of a guest, as a node sees it: it has lanes for those functions only that it may run.

    A lane of a function that it may run no more stays, for the tasks that are there; it takes no others.
    """

    __slots__ = ("usage",)

    def __init__(
        self,
        usage: Usage,
        token: bytes,
        caller: str,
        functions: Iterable[Function],
        now: float,
        bounds: Bounds | None = None,
        life: int = 0,
    ) -> None:
        allowed = [function for function in functions if function.name in usage.guest.functions]
        super().__init__(token, caller, allowed, now, bounds, life)
        self.usage = usage
        usage.links.append(self)

    def renew(self, functions: Mapping[str, Function]) -> list[Held]:
        """The entry has changed: have lanes for what is allowed now; return the tasks of what is no more."""
        for name in self.usage.guest.functions:
            function = functions.get(name)
            if function is not None and name not in self.lanes:
                self.lanes[name] = lane = Lane(function)
                function.lanes.append(lane)
        return [held for held in self.all_held() if not self._may_run(held.lane.function.name)]

    def _may_run(self, name: str) -> bool:
        return name in self.usage.guest.functions

    def told(self) -> dict[str, tuple[int, str, str, bool]]:
        """Return what WELCOME says of functions: of those alone that it may run."""
        return {name: told for name, told in super().told().items() if self._may_run(name)}

    def begin(self, links: int, now: float) -> None:
        """Grant what a link begins with, within the quota."""
        before = {lane: lane.granted for lane in self.lanes.values()}
        super().begin(links, now)
        for lane, granted in before.items():
            self._bound(lane, granted, now)

    def credit(self, lane: Lane, now: float) -> int:
        """Return the highest task number granted on a lane, within the quota."""
        granted = lane.granted
        super().credit(lane, now)
        return self._bound(lane, granted, now)

    def _bound(self, lane: Lane, granted: int, now: float) -> int:
        """Take back of what was just granted what is over the quota; `granted` was before, and told."""
        if lane.granted > granted:
            room = self.usage.room(now) if self._may_run(lane.function.name) else 0
            lane.granted = max(granted, min(lane.granted, lane.seen + room))
        return lane.granted

    def accept(
        self, items: Iterable[TaskItem], buffers: tuple[Any, ...]
    ) -> tuple[list[Held], dict[str, dict[str, list[int]]]]:
        """
        Take in tasks that were sent, as `Link.accept` does, and refuse those over the quota or of other functions.

        What was granted on several lanes or links may be more than the quota in all.  A number that is refused
        counts as seen: should it come again, it is not started.
        """
        taken: list[Held] = []
        refused: dict[str, dict[str, list[int]]] = {}
        room = self.usage.room(self.touched)
        for item in items:
            name, number = item[0], item[1]
            lane = self.lanes.get(name)
            reason = ""
            if not self._may_run(name):
                reason = self.usage.forbidden
            elif lane is not None and lane.seen < number <= lane.granted and not room:
                reason = self.usage.full
            if not reason:
                held, others = super().accept([item], buffers)
                if held:
                    taken += held
                    room -= 1
                    self.usage.took()
                for why, refs in others.items():
                    refused.setdefault(why, {}).setdefault(name, []).extend(refs[name])
                continue
            if lane is not None and number <= lane.granted:
                lane.seen = max(lane.seen, number)
            refused.setdefault(reason, {}).setdefault(name, []).append(number)
        return taken, refused

    def bury(self) -> list[Held]:
        """Forget everything; return the tasks that were held."""
        self.usage.links.remove(self)
        return super().bury()
