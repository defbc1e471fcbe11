"""What is attached to an App, and the role that each object plays."""

from __future__ import annotations

import inspect
import logging
from typing import Any, cast

from dingo_zmq.errors import UsageError
from dingo_zmq.ports import Closes, Consumer, NamedConsumer, Producer, Reporter, Store

__all__ = ["Roles"]

_PORTS: dict[str, tuple[type, str]] = {
    "producer": (Producer, "send()"),
    "named_consumer": (NamedConsumer, "listen()"),
    "consumer": (Consumer, "listen_all()"),
    "reporter": (Reporter, "channel()"),
    "store": (Store, "poll() and done()"),
}
_log = logging.getLogger("dingo_zmq")


class Roles:
    """
    The objects attached to one App: at most one producer, consumer (of either kind), reporter and store.

    Attributes:
        objects: what is attached, each once, in order.
    """

    def __init__(self) -> None:
        self.objects: list[object] = []
        self._players: dict[str, object] = {}

    def find(self, obj: object) -> dict[str, object]:
        """
        Return the roles that an object can play; of the two kinds of consumer the named one.

        Raises:
            UsageError: if it can play none.
        """
        found = {role: obj for role, (port, _) in _PORTS.items() if _plays(obj, port)}
        if "named_consumer" in found:
            found.pop("consumer", None)
        if not found:
            known = ", ".join(f"a {_word(role)} has {has}" for role, (_, has) in _PORTS.items())
            raise UsageError(f"{_called(obj)} can play no role: {known}")
        return found

    def add(self, players: dict[str, object]) -> tuple[str, ...]:
        """
        Attach objects in the roles named; all of them, or none.

        Raises:
            UsageError: if an object cannot play its role, or the role is taken.
        """
        for role, obj in players.items():
            port, has = _PORTS[role]
            if not _plays(obj, port):
                raise UsageError(f"{_called(obj)} cannot be the {_word(role)}, which has {has}")
            self._check_free(role, obj)
        if {"consumer", "named_consumer"} <= set(players):
            raise UsageError("an App has one consumer: either consumer= or named_consumer=")
        self._players.update(players)
        for obj in players.values():
            if not any(obj is each for each in self.objects):
                self.objects.append(obj)
        return tuple(players)

    def _check_free(self, role: str, obj: object) -> None:
        same = {"consumer", "named_consumer"} if "consumer" in role else {role}
        for taken in same & set(self._players):
            player = self._players[taken]
            if player is obj:
                raise UsageError(f"{_called(obj)} is attached twice: it is the {_word(taken)} already")
            raise UsageError(f"the App has a {_word(taken)} already, {_called(player)}; it cannot have two")

    def _get(self, role: str, what: str) -> object:
        player = self._players.get(role)
        if player is None:
            raise UsageError(f"{what} in remote mode needs a {_word(role)}; hint: attach one with app.use(...)")
        return player

    def producer(self) -> Producer:
        """
        Return what sends tasks.

        Raises:
            UsageError: if there is none.
        """
        return cast("Producer", self._get("producer", "a call"))

    def store(self) -> Store:
        """
        Return where reports come from.

        Raises:
            UsageError: if there is none.
        """
        return cast("Store", self._get("store", "a call"))

    def reporter(self) -> Reporter:
        """
        Return what sends reports.

        Raises:
            UsageError: if there is none.
        """
        return cast("Reporter", self._get("reporter", "serving"))

    def consumer(self) -> NamedConsumer | Consumer:
        """
        Return what brings tasks.

        Raises:
            UsageError: if there is none.
        """
        player = self._players.get("named_consumer") or self._get("consumer", "serving")
        return cast("NamedConsumer | Consumer", player)

    @property
    def is_named(self) -> bool:
        """Whether the consumer has a queue for each function."""
        return "named_consumer" in self._players

    @property
    def has_store(self) -> bool:
        """Whether there is somewhere to get reports from."""
        return "store" in self._players

    def close(self) -> None:
        """Close whatever can be closed; what it raises is logged."""
        for obj in self.objects:
            if isinstance(obj, Closes):
                try:
                    obj.close()
                except Exception:
                    _log.exception("closing %s failed", _called(obj))
        self.objects.clear()


def _plays(obj: object, port: type) -> bool:
    return not inspect.isclass(obj) and isinstance(obj, port) and all(map(callable, _methods(obj, port)))


def _methods(obj: object, port: type) -> list[Any]:
    return [getattr(obj, name) for name in vars(port) if not name.startswith("_")]


def _word(role: str) -> str:
    return role.replace("_", " ")


def _called(obj: object) -> str:
    if inspect.isclass(obj):
        return f"the class {obj.__qualname__} (hint: an object of it)"
    return f"a {type(obj).__qualname__}"
