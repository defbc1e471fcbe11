"""Who makes the ids of tasks.  Identity is the pair (name, id): equal ids under different names never mix."""

from __future__ import annotations

import itertools
import threading
import uuid
from typing import Any, Protocol, runtime_checkable
from weakref import ref

from dingo_zmq.errors import UsageError
from dingo_zmq.model import check_part

__all__ = ["IDMaker", "OpenIDs", "SequenceIDs", "UUIDs", "check_id_maker"]

SPARE = 64


@runtime_checkable
class IDMaker(Protocol):
    """
    Makes the ids of tasks; any thread may ask it.

    In the mesh the caller's own id stands before them, so they need be unique only within a caller and a function,
    and only among the tasks that are open.  With a journal those of earlier runs may be open, too; without an id
    maker such an App puts the number of the run before its count: "1-1", "1-2", and "2-1" in the next run.
    """

    def new_id(self, name: str, /) -> str:
        """Return an id for a task of the function `name`: 1 to 200 printable characters without a slash."""


class SequenceIDs:
    """
    Counts: "1", "2", "3" ... for all functions that share it.

    Args:
        start: the first number.
    """

    def __init__(self, start: int = 1) -> None:
        self._numbers = itertools.count(start)

    def new_id(self, name: str, /) -> str:
        """Return the next number."""
        return str(next(self._numbers))


class UUIDs:
    """Draws random UUIDs, which nobody else will draw."""

    def new_id(self, name: str, /) -> str:
        """Return a random UUID, as text of 36 characters."""
        return str(uuid.uuid4())


def check_id_maker(maker: Any) -> None:
    """
    Check that something can make ids.

    Raises:
        UsageError: if it cannot.
    """
    if isinstance(maker, type) or not isinstance(maker, IDMaker):
        hint = f"; hint: id_maker={maker.__name__}()" if isinstance(maker, type) else "; hint: UUIDs()"
        raise UsageError(f"id_maker must be an object with a method new_id(name), not {maker!r}{hint}")


class OpenIDs:
    """The ids of open tasks, as far as somebody's own id maker made them; any thread may use it."""

    def __init__(self) -> None:
        self._results: dict[tuple[str, str], ref[Any]] = {}  # see `living` for why it is no WeakValueDictionary
        self._clean = 0  # length after the last cleaning
        self._lock = threading.Lock()

    @staticmethod
    def new(maker: IDMaker, name: str) -> str:
        """
        Return a new id.

        Raises:
            UsageError: the maker returned what cannot be one.
        """
        return check_part(f"an id of {name}, made by its id_maker,", maker.new_id(name))

    def take(self, result: Any) -> None:
        """Note the result of a task that is open already."""
        with self._lock:
            self._results[result.name, result.id] = ref(result)

    def keep(self, result: Any) -> None:
        """
        Note the result of a new task, which is about to be sent.

        Raises:
            UsageError: a task of this function with the same id is open.
        """
        key = result.name, result.id
        with self._lock:
            if _open(self._results.get(key)):
                raise UsageError(
                    f"a task of {result.name} with the id {result.id!r} is open already, so nothing was sent; "
                    "hint: its id_maker has to return another id each time"
                )
            if len(self._results) > 2 * self._clean + SPARE:
                self._results = {key: each for key, each in self._results.items() if _open(each)}
                self._clean = len(self._results)
            self._results[key] = ref(result)


def _open(each: ref[Any] | None) -> bool:
    result = each() if each is not None else None
    return result is not None and not result.done()
