"""Mesh mode: this process as a caller, and as a node where it serves."""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from dingo_zmq.balance import Ledger, balanced
from dingo_zmq.errors import Closed, ConfigError
from dingo_zmq.events import EventCode, Level, Origin
from dingo_zmq.forked import FORKED
from dingo_zmq.ignored import tell_left_undone
from dingo_zmq.journal import Journal
from dingo_zmq.listening import Events
from dingo_zmq.mesh import keys, sockets
from dingo_zmq.mesh.by_name import rewrite
from dingo_zmq.mesh.caller import MeshCaller
from dingo_zmq.mesh.calls import Calls
from dingo_zmq.mesh.discovery import Finder
from dingo_zmq.mesh.discovery.port import Announcement
from dingo_zmq.mesh.discovery.ways import DISCOVERY, sources
from dingo_zmq.mesh.follower import Follower
from dingo_zmq.mesh.guests import GuestWatch
from dingo_zmq.mesh.herald import Herald
from dingo_zmq.mesh.info import Load, PeerInfo
from dingo_zmq.mesh.lives import Lives
from dingo_zmq.mesh.node import MeshNode
from dingo_zmq.mesh.pace import pace
from dingo_zmq.mesh.reach import Reach, credentials
from dingo_zmq.mesh.reactor import DIED, Reactor
from dingo_zmq.mesh.selfcheck import check_lock
from dingo_zmq.mesh.settling import Settling
from dingo_zmq.mesh.tickets import Ticket
from dingo_zmq.model import (
    BODY_LIMIT,
    MAX_CALLERS,
    MAX_KEPT,
    MAX_KEPT_BYTES,
    MAX_NODES,
    MAX_OPEN,
    MAX_OPEN_BYTES,
    Code,
    Failure,
    Options,
    check_part,
)
from dingo_zmq.pool import CallbackThread
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.caller import Retried, Told
from dingo_zmq.protocol.intake import Bounds
from dingo_zmq.protocol.ledger import Entry
from dingo_zmq.protocol.node import Identity
from dingo_zmq.registry import Function
from dingo_zmq.result import Result
from dingo_zmq.room import Room, Space
from dingo_zmq.task import Submit, SubmitStream
from dingo_zmq.waiting import Condition, Event

__all__ = ["MeshEngine", "MeshSettings"]

CRASHED = 70
"""exit code of a process whose I/O thread died"""
GLANCE_SECONDS = 0.2
"""longest time that a look at the load may take"""


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """
    What a mesh App can be told.

    Attributes:
        mesh: name of the mesh; nodes and callers of other meshes never meet.
        peers: addresses of nodes, as ``tcp://host:port``, beside those that are discovered.
        discovery: which of "directory" (this host) and "zeroconf" find nodes and announce them.
        limit: largest body of a task or report, bytes.
        max_open: tasks not settled at a time; at the bound `call` waits, or raises `Busy` in an event loop.
        key: file of a mesh key; None for the one in its usual place or, where there is none, this user's own.
        bind: addresses or interfaces to keep to; none for all of them.
        advertise: where others are told that a node is, instead of its addresses; "host" or "host:port".
        insecure_lan: use no key at all, and be open all the same.
        journal: file in which tasks are recorded before `call` returns, None for none.
        max_open_bytes: bytes of large arguments of tasks not settled; at the bound the same as for `max_open`.
        full: "wait", or "raise" where a call at one of these bounds raises `Busy` anywhere.
        max_kept, max_kept_bytes: answers, and bytes of large ones, that a node of this App keeps for its callers
            until they have heard them; above that it takes no more tasks.
        max_callers: callers that a node of this App knows at a time; above that it lets in nobody new.
        max_nodes: nodes that this App's caller knows at a time; later ones wait until an earlier one is gone.
    """

    mesh: str = "default"
    peers: tuple[str, ...] = ()
    discovery: tuple[str, ...] = DISCOVERY
    limit: int = BODY_LIMIT
    max_open: int = MAX_OPEN
    key: str | None = None
    bind: tuple[str, ...] = ()
    advertise: tuple[str, ...] = ()
    insecure_lan: bool = False
    journal: str | None = None
    max_open_bytes: int = MAX_OPEN_BYTES
    full: str = "wait"
    max_kept: int = MAX_KEPT
    max_kept_bytes: int = MAX_KEPT_BYTES
    max_callers: int = MAX_CALLERS
    max_nodes: int = MAX_NODES

    def credentials(self) -> tuple[keys.Key | None, Reach]:
        """Return the key and the reach; see `reach.credentials`."""
        return credentials(self.key, insecure_lan=self.insecure_lan, bind=self.bind, advertise=self.advertise)


class MeshEngine:
    """
    Brings reactor, caller, node and discovery together for one App.

    Args:
        settings: what the App was told.
        events: where to tell what happens.
        find: returns the function that the program knows under a name; for tasks of an earlier life.

    Raises:
        JournalError: the journal cannot be opened.
        UsageError: bodies may be larger than a journal can record.
    """

    def __init__(
        self,
        settings: MeshSettings,
        events: Events | None = None,
        find: Callable[[str], Function | None] = lambda name: None,
    ) -> None:
        check_part("the name of a mesh", settings.mesh)
        sockets.check_descriptors()
        self.settings = settings
        self.key, self.reach = settings.credentials()
        self.events = events or Events()
        found_by = sources(settings.discovery, settings.peers, self.reach.interfaces)
        self._finder = Finder(found_by, settings.mesh, settings.max_nodes)
        self._news, self._news_count = Condition(), 0
        self.node: MeshNode | None = None
        self._herald: Herald | None = None
        self._guests: GuestWatch | None = None
        self._callbacks = CallbackThread()
        self.events.call_soon = self._callbacks.call_soon
        owner = keys.callers_of(self.key)
        self._lives: Lives | None = None
        if settings.journal is not None:
            self._lives = Lives(settings.journal, settings.limit, self.events, self._fence, owner)
        self.id = owner + secrets.token_hex(8) if self._lives is None else self._lives.state.caller
        self.reactor = Reactor(sockets.new_context(), f"dingo-io-{self.id[:4]}", self._crashed)
        try:
            self._begin(self._lives, find)
        except BaseException:
            self.reactor.abandon()
            if self._lives is not None:
                self._lives.close()
            raise
        self._finder.start(lambda event: self.calls.later(partial(self.caller.discovered, event)))

    def _begin(self, lives: Lives | None, find: Callable[[str], Function | None]) -> None:
        """Bring the parts together, and start the loop."""
        settings, state = self.settings, None if lives is None else lives.state
        self.caller = caller = MeshCaller(
            self.id,
            settings.mesh,
            self.key,
            settings.limit,
            self._finder.sources_of,
            self.events,
            0 if state is None else state.life,
        )
        self.calls = calls = Calls(
            self,
            caller,
            self.reactor,
            Room(settings.max_open, settings.full),
            Space(settings.max_open_bytes, settings.full),
            settings.limit,
            pickles=self.key is not None,
            journal=self.journal,
            lives=0 if state is None else state.lives,
            last=0 if state is None else state.last,
        )
        self.settling = Settling(self.events, calls.settle, calls.stop)
        caller.settle, caller.told = self._hand_over_to()
        caller.on_news = lambda: self._callbacks.call_soon(self._changed)
        caller.on_fenced, caller.rewrite = self._fenced, rewrite
        self.reactor.parts.append(caller)
        caller.open(self.reactor)
        if lives is not None:
            lives.resume(self, caller, calls, self.settling, find, self.reactor.wake)
        self.reactor.start()

    def _hand_over_to(self) -> tuple[Callable[[Entry, str], object], Callable[[Told | Retried], object]]:
        """Return what is told of settled tasks and the names of their nodes, and of all else that is reported."""
        return self.settling.settle, self.settling.told

    def _crashed(self) -> None:
        """The loop died: half a node alive is worse than none; a mere caller can still say so."""
        if self.node is not None:
            os._exit(CRASHED)
        self.calls.unusable = DIED
        for result, _ in self.caller.open_tasks():
            result._fail(Failure(Code.SHUTDOWN, DIED))
        self._changed()
        self.events.close(DIED)

    def left_behind(self) -> list[Result[Any]]:
        """In a forked child: take no more tasks, and return the results that nobody will settle here."""
        self.calls.unusable = FORKED
        return [result for result, _ in self.caller.open_tasks()]

    # ------------------------------------------------------------------ the journal

    @property
    def journal(self) -> Journal | None:
        """Where tasks are recorded."""
        return None if self._lives is None else self._lives.journal

    def recover(self) -> list[Result[Any]]:
        """Return the results of the tasks of earlier lives, in the order of their calls, each once."""
        return [] if self._lives is None else self._lives.recover()

    def leave_nothing(self) -> None:
        """The App is closed in good order: by its end the program has used what is settled."""
        if self._lives is not None:
            self._lives.leave_nothing()

    def _fence(self, text: str) -> None:
        self.calls.later(partial(self._fenced, text))

    def _fenced(self, text: str) -> None:
        """Another life has the journal: end, and leave all of it to that."""
        calls, journal = self.calls, self.journal
        if calls.unusable or journal is None:
            return
        calls.unusable = f"{text}; this one is fenced off: what was open here is the other's now"
        journal.fence()
        self.caller.decider.fence()
        self.events.tell(Origin.CALLER, Level.ERROR, EventCode.JOURNAL, calls.unusable)
        for result, _ in self.caller.open_tasks():
            result._fail(Failure(Code.SHUTDOWN, calls.unusable))
        calls.freed()
        self._changed()

    # ------------------------------------------------------------------ calling

    def submitter(self, function: Function, options: Options) -> Submit:
        """Return what sends a task of `function` with `options`."""
        return self.calls.submitter(function, options)

    def streamer(self, function: Function, options: Options) -> SubmitStream:
        """Return what sends a task of `function` with `options`, whose values are read as they come."""
        return self.calls.streamer(function, options)

    def cancel(self, ticket: Ticket, result: Result[Any]) -> bool:
        """Cancel a task unless it is known to have started."""
        return self.calls.cancel(ticket, result)

    def stop(self, ticket: Ticket) -> bool:
        """Cancel a task even where it runs; its final report tells."""
        return self.calls.stop(ticket)

    def why(self, ticket: Ticket) -> str:
        """Return in words why a task is not done."""
        return self.calls.why(ticket)

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Run a user's callback on a thread of its own."""
        self._callbacks.call_soon(fn, *args)

    # ------------------------------------------------------------------ serving

    def serve(
        self,
        functions: Iterable[Function],
        own: Mapping[str, int],
        *,
        name: str,
        threads: int,
        port: int | None = None,
        tags: Sequence[str] = (),
        announce: bool = True,
    ) -> Announcement:
        """
        Serve functions from this process.

        Args:
            functions: registered ones.
            own: functions with workers of their own, and how many.
            name: of the node, for people.
            threads: size of the shared pool.
            port: the first of a pair of ports, None for a free one.
            tags: words that callers can ask for.
            announce: whether to tell discovery; a supervisor does that for its processes.

        Raises:
            ConfigError: where the address or port cannot be had, strangers would be let in, a function takes
                pickles and there is no key, or the key is a guest's.
        """
        if self.key is not None and self.key.is_guest:
            raise ConfigError(
                f"{self.key.path} is the key of a guest, and a guest cannot serve, only call; "
                "hint: a node needs the mesh key itself"
            )
        served = list(functions)
        for function in served:
            self.calls.check_key(function)
        node_id = secrets.token_hex(8)
        identity = Identity(
            node_id,
            secrets.token_bytes(8),
            name,
            self.settings.mesh,
            tuple(tags),
            self.settings.limit,
            pace(),
        )
        node = self._make_node(identity, served, own, threads, self.key, self.reach.hosts(), port, self.events)
        node.decider.bounds = Bounds(
            self.settings.max_kept, self.settings.max_kept_bytes, self.settings.max_callers
        )

        if self.key is not None and self.key.kind == "mesh":
            self._guests = GuestWatch(self.key, lambda guests: self.calls.later(partial(node.admit, guests)))
            node.first_guests = self._guests.guests

        def start() -> None:
            node.open(self.reactor)
            self.reactor.parts.append(node)
            if self.reach.bind:
                self.reactor.parts.append(Follower(self.reach, node))

        self.reactor.ask(start)
        self.node = node
        if self._guests is not None:
            self._guests.start()
        tasks, reports = node.endpoints
        if self.key is not None:
            check_lock(tasks, reports, self.key)
        announcement = Announcement(
            node_id,
            name,
            self.settings.mesh,
            identity.incarnation.hex(),
            m.VERSION,
            (tasks,),
            (reports,),
            key=keys.key_id(self.key),
        )
        if announce:
            self._herald = Herald(self.settings.discovery, self.reach)
            self._herald.announce(announcement)
        return announcement

    def _make_node(self, *about: Any) -> MeshNode:
        return MeshNode(*about)

    def on_restart(self, fn: Callable[[], object]) -> None:
        """
        Have `fn` called when this process should end, since a thread of it has run longer than it may.

        By then all else that the node held has been given back.  Without this, such a thread is let go on.
        """
        assert self.node is not None
        self.node.on_restart = fn

    def resize(self, name: str, count: int) -> None:
        """A function with workers of its own gets another number of them, if it is served here."""
        node = self.node
        if node is not None:
            self.reactor.ask(partial(node.resize, name, count))

    def started(self, name: str) -> int:
        """Return how many workers of its own a function has here that are started."""
        return 0 if self.node is None else self.node.started(name)

    def drain(self, timeout: float) -> bool:
        """Stop serving: give back what has not started, and let the rest finish within `timeout` seconds."""
        node = self.node
        if node is None:
            return True
        done = Event()

        def begin() -> None:
            node.on_drained = done.set
            node.drain()

        if self._herald is not None:
            self._herald.close()
            self._herald = None
        self.reactor.ask(begin)
        return done.wait(timeout)

    # ------------------------------------------------------------------ for people

    def peers(self) -> list[PeerInfo]:
        """Return what is known of each node."""
        return self.reactor.ask(self.caller.peers)

    def load(self) -> Load:
        """
        Return how things stand, at once.

        Raises:
            Closed: after the end.
            TimeoutError: where the I/O thread is busy.
        """
        return self.reactor.ask(self.caller.load, GLANCE_SECONDS)

    def waiting(self) -> list[str]:
        """Return a line for each function and cause for which tasks wait that no node can take."""
        return self.reactor.ask(self.caller.waiting)

    def announced(self) -> dict[str, Announcement]:
        """Return what is announced for this mesh now, by the id of the node; a hint, never proof that it lives."""
        return self._finder.nodes

    def other_meshes(self) -> dict[str, int]:
        """Return the names of the other meshes whose nodes were seen, and how many nodes."""
        return dict(sorted(Counter(said.mesh for said in self._finder.others.values()).items()))

    def wait_for(self, enough: Callable[[list[PeerInfo]], bool], timeout: float) -> list[PeerInfo]:
        """
        Wait until the nodes known are `enough`, at most `timeout` seconds, and return what is known of them.

        Raises:
            Closed: after the end, and as soon as it comes.
        """
        end = time.monotonic() + timeout
        while True:
            seen = self._news_count
            if self.calls.unusable:
                raise Closed(self.calls.unusable)
            peers = self.peers()
            left = end - time.monotonic()
            if enough(peers) or left <= 0:
                return peers
            self._wait_for_news(seen, left)

    def _wait_for_news(self, seen: int, seconds: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._news_count != seen, seconds)

    def _changed(self) -> None:
        with self._news:
            self._news_count += 1
            self._news.notify_all()

    def subscribe(self, prefix: str) -> None:
        """Receive what is published under another prefix too."""
        self.reactor.ask(partial(self.caller.subscribe, prefix))

    @property
    def open(self) -> int:
        """How many tasks are not settled."""
        return self.reactor.ask(lambda: self.caller.decider.ledger.open + len(self.caller.inbox))

    def ledger(self) -> Ledger:
        """
        Return what became of the tasks called; see `App.ledger`.

        Raises:
            TimeoutError: where the I/O thread is busy.
        """
        try:
            return self._ledger(*self.reactor.ask(self._look))
        except Closed:
            self.reactor.has_ended(GLANCE_SECONDS)
            return self._ledger(*self._look())

    def _look(self) -> tuple[int, int, Counter[Code], list[tuple[Result[Any], Entry]]]:
        """Return how many tasks were called, how many were settled, the failures among them, and the others."""
        tasks = self.caller.open_tasks()
        late = self.calls.late(lambda: {entry for _, entry in tasks})
        tasks += [(ticket.result, ticket) for ticket in late]
        codes, settled = self.settling.counts.codes(), self.calls.settled
        return self.calls.called, settled, codes, tasks

    def _ledger(
        self, called: int, settled: int, codes: Counter[Code], tasks: list[tuple[Result[Any], Entry]]
    ) -> Ledger:
        ok, still = settled - codes.total(), []
        for result, entry in tasks:
            if not result.done():
                still.append(self.caller.open_task(entry))
            elif result.failure is None:
                ok += 1
            else:  # cancelled, say, and its node has not told yet what became of it
                codes[result.failure.code] += 1
        return balanced(called, ok, codes, still)

    def results(self) -> list[Result[Any]]:
        """Return the results of all tasks not settled; none after the end."""
        return [] if self.calls.unusable else self.reactor.ask(self.caller.results)

    def close(self, timeout: float) -> None:
        """
        Settle what is open with FAIL/SHUTDOWN, say good-bye, and end all threads.

        In a forked child it touches nothing, since all of it is its parent's.
        """
        calls = self.calls
        if calls.unusable == FORKED:
            return
        if not calls.unusable:
            calls.unusable = "this App is closed"
        self._changed()
        if self._herald is not None:
            self._herald.close()
        if self._guests is not None:
            self._guests.close()
        self._finder.stop()
        self.reactor.stop(timeout)
        if self._lives is not None:
            self._lives.close()
        tell_left_undone(self.events, self.settling.left_undone)
        calls.freed()
        self._callbacks.close()
