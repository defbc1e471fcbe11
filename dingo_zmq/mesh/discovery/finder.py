"""All sources as one: each node once, with every candidate that any source knows."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from dingo_zmq.mesh.discovery.port import MAX_CANDIDATES, Announcement, Changed, Emit, Event, Found, Gone
from dingo_zmq.model import MAX_NODES, counted
from dingo_zmq.waiting import Condition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dingo_zmq.mesh.discovery.port import Source

__all__ = ["Finder"]

_log = logging.getLogger(__name__)

_NEAREST_FIRST = ("directory", "static", "zeroconf")

Teller: TypeAlias = tuple[str, str]
"""a source, and the forwarder that stands in for the node, "" where it speaks for itself"""
_Heard: TypeAlias = dict[str, dict[Teller, Announcement]]
"""what each said of a node, by its id, the latest last"""


class Finder:
    """
    Merges sources.  A node is `Found` at first sight, `Changed` when what is known of it changes, and `Gone`
    when no source has it any more.

    What is known of a node is what its latest announcement says, with the candidates that other sources, and
    forwarders, tell of the same incarnation, nearest first.  Nodes of other meshes are only remembered, in
    `others`; a source that cannot know the mesh ("") is believed.  Of more nodes than `most` the later ones wait
    until an earlier one is gone, with a warning at the first.  Safe for threads; events are emitted in order and
    one at a time, with no lock held, by whichever source's thread brought them.
    """

    def __init__(self, sources: Sequence[Source], mesh: str, most: int = MAX_NODES) -> None:
        """
        Prepare it.

        Args:
            sources: what to merge; the Finder starts and stops them.
            mesh: the only mesh whose nodes are emitted.
            most: nodes that are emitted at a time.
        """
        self._sources = tuple(sources)
        self._mesh, self._most, self._warned = mesh, most, False
        self._changed = Condition()
        self._heard: _Heard = {}
        self._told: dict[str, Announcement] = {}
        self._waiting: dict[str, None] = {}  # nodes for which there is no room
        self._others: _Heard = {}
        self._outbox: deque[Event] = deque()
        self._emit: Emit = _nobody
        self._emitting: int | None = None
        self._stopped = False

    @property
    def others(self) -> dict[str, Announcement]:
        """The nodes that are announced for other meshes, by id (a copy)."""
        with self._changed:
            return {node: list(said.values())[-1] for node, said in self._others.items()}

    @property
    def nodes(self) -> dict[str, Announcement]:
        """The nodes of our mesh that are announced now, by id (a copy)."""
        with self._changed:
            return dict(self._told)

    def sources_of(self, node: str) -> tuple[str, ...]:
        """Return the names of the sources that have the node now, sorted; empty if there are none."""
        with self._changed:
            return tuple(sorted({source for source, _ in self._heard.get(node, ())}))

    def start(self, emit: Emit) -> None:
        """
        Start all sources.

        Raises:
            ConfigError: if one cannot work at all; those already started are stopped.
        """
        self._emit = emit
        try:
            for source in self._sources:
                source.start(self._on_event)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all sources.  `emit` is not called after this returned.  May be called from `emit`."""
        with self._changed:
            self._stopped = True
            while self._emitting not in (None, threading.get_ident()):
                self._changed.wait()
        for source in self._sources:
            source.stop()

    def _on_event(self, event: Event) -> None:
        with self._changed:
            self._outbox.extend(self._merge(event))
            if self._emitting is not None:
                return  # that thread, or our own caller, will come to it
            self._emitting = threading.get_ident()
        self._drain()

    def _drain(self) -> None:
        while True:
            with self._changed:
                if self._stopped or not self._outbox:
                    self._emitting = None
                    self._changed.notify_all()
                    return
                event = self._outbox.popleft()
            try:
                self._emit(event)
            except Exception:
                _log.exception("a listener failed at %r", event)

    def _merge(self, event: Event) -> list[Event]:
        """Take in what one source says; return what follows for whoever listens."""
        if isinstance(event, Gone):
            node, via, ours, theirs = event.node, event.via, None, None
        else:
            said = event.announcement
            mine = said.mesh in ("", self._mesh)
            node, via, ours, theirs = said.node, said.via, said if mine else None, None if mine else said
        _put(self._others, node, (event.source, via), theirs)
        _put(self._heard, node, (event.source, via), ours)
        return self._news(node, event.source)

    def _news(self, node: str, source: str) -> list[Event]:
        before, now = self._told.get(node), _combined(self._heard.get(node))
        if now == before:
            self._waiting.pop(node, None)
            return []
        if now is None:
            del self._told[node]
            return [Gone(node, source), *self._next_news(source)]
        if before is None and len(self._told) >= self._most:
            self._must_wait(node)
            return []
        self._told[node] = now
        return [Changed(now, source) if before else Found(now, source)]

    def _must_wait(self, node: str) -> None:
        self._waiting[node] = None
        if not self._warned:
            self._warned = True
            most = f"{counted(self._most, 'node')} {'is' if self._most == 1 else 'are'}"
            _log.warning("more than %s announced; the rest is not used; hint: max_nodes", most)

    def _next_news(self, source: str) -> list[Event]:
        """There is room for one more node."""
        if not self._waiting:
            return []
        node = next(iter(self._waiting))
        del self._waiting[node]
        return self._news(node, source)


def _nobody(event: Event) -> None:
    """Stand in for the listener until there is one."""


def _put(table: _Heard, node: str, teller: Teller, announcement: Announcement | None) -> None:
    """Make it the latest entry of the teller, or remove the teller's entry where it is None."""
    said = table.setdefault(node, {})
    said.pop(teller, None)
    if announcement:
        said[teller] = announcement
    if not said:
        del table[node]


def _combined(said: dict[Teller, Announcement] | None) -> Announcement | None:
    """
    Return the latest announcement with all candidates of its incarnation, or None where there is none.

    The latest of those that come past the fewest forwarders counts.
    """
    if not said:
        return None
    fewest = min(len(one.path) for one in said.values())
    latest = [one for one in said.values() if len(one.path) == fewest][-1]
    latest_first = reversed(said)  # the others may be of forwarders that were killed
    nearest = sorted(latest_first, key=lambda teller: (len(said[teller].path), _rank(teller[0])))
    same = [said[teller] for teller in nearest if said[teller].incarnation == latest.incarnation]
    hops: dict[tuple[str, str], int] = {}
    for one in same:
        for pair in one.candidates:
            hops.setdefault(pair, len(one.path))
    pairs = list(hops)[:MAX_CANDIDATES]
    return replace(
        latest,
        tasks=tuple(pair[0] for pair in pairs),
        reports=tuple(pair[1] for pair in pairs),
        hops=tuple(hops[pair] for pair in pairs) if any(hops.values()) else (),
    )


def _rank(source: str) -> int:
    return _NEAREST_FIRST.index(source) if source in _NEAREST_FIRST else len(_NEAREST_FIRST)
