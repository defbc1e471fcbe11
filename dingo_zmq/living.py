"""Weak references that run nothing when what they refer to goes: a KeyboardInterrupt would be lost in there."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Living"]

T = TypeVar("T")


class Living(Generic[T]):
    """Objects, as long as somebody else keeps them."""

    def __init__(self) -> None:
        self._refs: list[weakref.ref[T]] = []
        self._adding = threading.Lock()

    def add(self, thing: T) -> None:
        """Take in one more."""
        with self._adding:
            self._refs = [*(ref for ref in self._refs if ref() is not None), weakref.ref(thing)]

    def __iter__(self) -> Iterator[T]:
        """Return those that are alive now."""
        return iter([thing for ref in self._refs if (thing := ref()) is not None])
