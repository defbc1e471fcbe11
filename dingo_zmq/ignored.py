"""Tasks whose reports are ignored: what goes wrong with them becomes an event, since nobody hears of it."""

from __future__ import annotations

from dingo_zmq.events import EventCode, Level, Origin
from dingo_zmq.listening import Events
from dingo_zmq.model import Code, Failure, counted, plain

__all__ = ["tell_ignored", "tell_left_undone"]

TEXT_MOST = 300
"""characters of a failure in the log"""


def tell_ignored(events: Events, name: str, id: str, failure: Failure, error: BaseException | None = None) -> None:  # noqa: A002
    """Tell that a task failed."""
    said = plain(str(failure).partition("\n")[0], most=TEXT_MOST)
    text = f"task {name} id {plain(id)}, whose report is ignored, failed: {said}"
    code = EventCode.DECODE if failure.code is Code.DECODE else EventCode.FAILED
    details = {"node": failure.node, "name": name, "id": id, "error": error}
    events.tell(Origin.CALLER, Level.WARNING, code, text, **details)


def tell_left_undone(events: Events, number: int) -> None:
    """Tell that so many tasks were not done before their App was closed."""
    if number:
        text = f"{counted(number, 'task')} whose reports are ignored: not done before the App was closed"
        events.tell(Origin.CALLER, Level.WARNING, EventCode.GENERIC, text)
