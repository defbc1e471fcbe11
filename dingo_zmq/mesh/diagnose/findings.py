"""What the checks come to: findings, their causes from the bottom up, and the verdict on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, auto

from dingo_zmq.model import counted

__all__ = ["Cause", "Finding", "Level", "fail", "fine", "verdict", "warn"]


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


class Cause(IntEnum):
    """What can be wrong; the lower ones are more fundamental, and bring others with them."""

    KEY_FILE = auto()
    OPEN_FILES = auto()
    NO_INTERFACE = auto()
    PORT_TAKEN = auto()
    NO_ECHO = auto()
    NOTHING_HEARD = auto()
    LOOPBACK_ONLY = auto()
    NOT_REACHABLE = auto()
    PORT_CLOSED = auto()
    PORT_FILTERED = auto()
    OTHER_VERSION = auto()
    KEY_REFUSED = auto()
    OTHER_MESH = auto()
    NO_ANSWER = auto()
    FUNCTION_DIFFERS = auto()
    NO_NODE = auto()


NAMES_MOST = 5
"""that a verdict tells"""

_VERDICTS = {
    Cause.KEY_FILE: "the key of this machine cannot be used",
    Cause.OPEN_FILES: "the limit of open files is too low",
    Cause.NO_INTERFACE: "this machine is on no network that could be used",
    Cause.PORT_TAKEN: "UDP port 5353 cannot be used",
    Cause.NO_ECHO: "multicast does not get out of this machine and in again",
    Cause.NOTHING_HEARD: "no multicast of another machine gets here",
    Cause.LOOPBACK_ONLY: "{} listens on its own machine only",
    Cause.NOT_REACHABLE: "the address of {} cannot be reached",
    Cause.PORT_CLOSED: "port closed at {}",
    Cause.PORT_FILTERED: "port filtered at {}",
    Cause.OTHER_VERSION: "other protocol version at {}",
    Cause.KEY_REFUSED: "key refused by {}",
    Cause.OTHER_MESH: "other mesh name: {}",
    Cause.NO_ANSWER: "no answer from {}",
    Cause.FUNCTION_DIFFERS: "function differs: {}",
    Cause.NO_NODE: "no node was found",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What one check has come to.

    Attributes:
        level: how bad it is.
        check: what was looked at.
        text: what was found.
        hint: what to do about it, "" where it is fine.
        cause: what is wrong, None where nothing is.
        about: the node or function that a verdict names.
    """

    level: Level
    check: str
    text: str
    hint: str = ""
    cause: Cause | None = None
    about: str = ""


def fine(check: str, text: str) -> Finding:
    """Return that a check found nothing wrong."""
    return Finding(Level.OK, check, text)


def warn(check: str, text: str, hint: str) -> Finding:
    """Return that a check found something that need not be wrong."""
    return Finding(Level.WARN, check, text, hint)


def fail(cause: Cause, check: str, text: str, hint: str, about: str = "") -> Finding:
    """Return that something is wrong."""
    return Finding(Level.FAIL, check, text, hint, cause, about)


def verdict(findings: Sequence[Finding], nodes: int) -> str:
    """Return all of it in a few words: the most fundamental cause, and whom it concerns."""
    causes = [each.cause for each in findings if each.cause is not None]
    if causes:
        worst = min(causes)
        about = list(dict.fromkeys(each.about for each in findings if each.cause is worst))
        more = f" and {len(about) - NAMES_MOST} more" if len(about) > NAMES_MOST else ""
        return _VERDICTS[worst].format(", ".join(about[:NAMES_MOST]) + more)
    warnings = sum(each.level is Level.WARN for each in findings)
    above = f" ({counted(warnings, 'warning')} above)" if warnings else ""
    who = f"this machine and {counted(nodes, 'node')} are" if nodes else "this machine is"
    return f"{who} fine{above}"
