"""The App: functions are registered, called, and served; local, mesh and remote mode are one program."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from dingo_zmq.allocation import Allocation, check_count
from dingo_zmq.balance import Ledger
from dingo_zmq.errors import Closed, ConfigError, UnknownFunction, UsageError
from dingo_zmq.events import Event, Level, Origin
from dingo_zmq.flow import Call, Keeper
from dingo_zmq.forked import FORKED
from dingo_zmq.ids import IDMaker, check_id_maker
from dingo_zmq.interrupts import Held
from dingo_zmq.listening import SIZE, Events, EventStream
from dingo_zmq.living import Living
from dingo_zmq.local import LocalEngine
from dingo_zmq.marshallers import Marshallers
from dingo_zmq.model import BODY_LIMIT, MAX_OPEN, MAX_OPEN_BYTES, Code, Failure, Options, check_part, counted
from dingo_zmq.ports import Consumer, Marshaller, NamedConsumer, Producer, Reporter, Store
from dingo_zmq.protocol.streams import Reading
from dingo_zmq.registry import Function, Registry
from dingo_zmq.remote import RemoteEngine, Roles
from dingo_zmq.result import Result, leave_behind
from dingo_zmq.stream import Stream
from dingo_zmq.task import Decorator, NamedCalls, Submit, SubmitStream, TaskFunction, changed

if TYPE_CHECKING:
    import inspect

    from dingo_zmq.mesh.engine import MeshEngine, MeshSettings
    from dingo_zmq.mesh.info import PeerInfo

__all__ = ["MODES", "App"]

P = ParamSpec("P")
R = TypeVar("R")

MODES = ("local", "mesh", "remote")
CLOSE_SECONDS = 3.0
UNREAD_SECONDS = 1.0
PATIENCE_SECONDS = 2.0
"""after this, `close` says what it waits for"""

_log = logging.getLogger("dingo_zmq")
_ledger_log = logging.getLogger("dingo_zmq.ledger")
GRACE_SECONDS = 30.0

_apps: Living[App] = Living()


class Engine(Protocol):
    """What an App needs of a mode."""

    def submitter(self, function: Function, options: Options) -> Submit:
        """Return what sends a task of `function` with `options`."""

    def streamer(self, function: Function, options: Options) -> SubmitStream:
        """Return what sends a task of `function` with `options`, whose values are read as they come."""

    def results(self) -> list[Result[Any]]:
        """Return the results of all tasks not settled."""

    def ledger(self) -> Ledger:
        """Return what became of the tasks called."""

    def left_behind(self) -> list[Result[Any]]:
        """In a forked child: take no more tasks, and return the results that nobody will settle here."""

    def call_soon(self, fn: Callable[..., object], /, *args: Any) -> None:
        """Run a user's callback on a thread of its own."""

    def resize(self, name: str, count: int) -> None:
        """Give a function with workers of its own another number of them."""

    def started(self, name: str) -> int:
        """Return how many workers of its own a function has that are started."""

    def close(self, timeout: float) -> None:
        """Settle what is open with FAIL/SHUTDOWN, and end all threads within `timeout` seconds."""


class App:
    """
    A set of functions, and the means to run them here or on other machines.

    Args:
        mode: "local" runs tasks in this process, "mesh" on whatever nodes are found, "remote" through what is
            attached with `use`; the environment variable DINGO_ZMQ_MODE where not given, else "local".
        threads: workers for functions that have none of their own; default min(8, cores).
        mesh: name of the mesh (mesh mode); DINGO_ZMQ_MESH where not given, else "default".
        peers: addresses of nodes, such as "tcp://127.0.0.1:47100", beside those that are discovered.
        discovery: "directory" (nodes of this host) and "zeroconf", both unless told.
        limit: largest body of a task or report, bytes.
        max_open: tasks not settled at a time; at the bound `call` waits, or raises `Busy` in an event loop.
        max_open_bytes: bytes of their arguments, of those above 64 KiB; at the bound the same, but one task alone
            may have more.  It means nothing in local mode, where nothing is encoded.
        full: "wait", or "raise" where `call` is to raise `Busy` at these bounds in any thread.
        max_kept, max_kept_bytes: in mesh mode, answers that a node of this App keeps until their callers have
            heard them, and bytes of those above 64 KiB; above that it takes no more tasks.  What it keeps for a
            caller that is silent for a minute is dropped; for one with a journal only after ten minutes, or where
            such callers have half of what may be kept, or 256 MiB.
        max_callers: in mesh mode, callers that a node of this App knows at a time; a further one waits until one
            has gone, or was silent for 5 s and has nothing there.
        max_nodes: in mesh mode, nodes that are used at a time; later ones wait until an earlier one is gone, and a
            warning says so.
        key: file of a mesh key; default the one in its usual place or, where there is none, this user's own.
        bind: addresses or interfaces to keep to; default all of them with a mesh key, else loopback.
        advertise: where others are told that a node of this App is, as "host" or "host:port".
        insecure_lan: use no key at all; whoever can reach a node can then run its functions.
        id_maker: makes the ids of tasks, see `dingo_zmq.ids`; default a count from 1, with a journal behind the
            number of the run, as in "3-17".
        journal: file in which tasks are recorded before `call` returns, and their ends before their results have
            them (mesh mode).  What is open when this process ends is gone on with by the next one with this
            journal, see `recover`.  What `stream` sends is not recorded.
        wire: in local mode, encode and decode whatever goes in and out as if it had to travel, so that faults
            show early; in other modes it always does.
        marshallers: more of them by name, see `dingo_zmq.marshallers`.
        allow_pickle: let functions say ``marshaller="pickle"``; whoever holds the key can then run any code here.

    Threads and sockets start at the first call or `serve`; what mesh mode imports is imported at once.  A ``with``
    block is optional: its clean end waits for what is open, an exception does not.

    Raises:
        UsageError: for an unknown mode, a number or choice that makes no sense, an id maker that is none, or a
            marshaller that is none or whose name is taken.
    """

    def __init__(
        self,
        mode: str | None = None,
        *,
        threads: int | None = None,
        mesh: str | None = None,
        peers: Iterable[str] = (),
        discovery: Iterable[str] | None = None,
        limit: int | None = None,
        max_open: int | None = None,
        max_open_bytes: int | None = None,
        full: str | None = None,
        max_kept: int | None = None,
        max_kept_bytes: int | None = None,
        max_callers: int | None = None,
        max_nodes: int | None = None,
        key: str | os.PathLike[str] | None = None,
        bind: Iterable[str] = (),
        advertise: Iterable[str] = (),
        insecure_lan: bool | None = None,
        id_maker: IDMaker | None = None,
        journal: str | os.PathLike[str] | None = None,
        wire: bool = False,
        marshallers: Mapping[str, Marshaller] | None = None,
        allow_pickle: bool = False,
    ) -> None:
        self.mode = mode or os.environ.get("DINGO_ZMQ_MODE") or "local"
        if self.mode not in MODES:
            raise UsageError(f"unknown mode {self.mode!r}; there are: {', '.join(MODES)}")
        if journal is not None and self.mode != "mesh":
            raise UsageError(f'a journal is for mesh mode, and this App is in {self.mode} mode; hint: App("mesh")')
        if journal is not None and not os.fspath(journal):
            raise UsageError('journal must be the name of a file, such as "tasks.db", not an empty one')
        if isinstance(peers, str):
            raise UsageError(f'peers must be a list of addresses, such as ["{peers}"]')
        if self.mode == "mesh":
            _load_mesh()
        self.registry = Registry(Marshallers(marshallers, allow_pickle=allow_pickle))
        given: dict[str, Any] = {"limit": limit, "max_open": max_open, "full": full}
        given["max_open_bytes"], given["max_callers"] = max_open_bytes, max_callers
        given["max_kept"], given["max_kept_bytes"], given["max_nodes"] = max_kept, max_kept_bytes, max_nodes
        _check({"threads": threads, **given})
        self.threads = default_threads() if threads is None else threads
        given["peers"] = tuple(peers)
        given["key"] = None if key is None else os.fspath(key)
        given["bind"], given["advertise"] = tuple(bind), tuple(advertise)
        given["insecure_lan"] = insecure_lan
        given["journal"] = None if journal is None else os.path.abspath(os.fspath(journal))
        given["mesh"] = mesh or None
        given["discovery"] = None if discovery is None else tuple(discovery)
        self._settings = {name: value for name, value in given.items() if value is not None}
        if id_maker is not None:
            check_id_maker(id_maker)
        self._id_maker = id_maker
        self.events = Events(self._engine_now)
        self._own: dict[str, int] = {}
        self._wire = wire
        self._roles = Roles()
        self._tasks: dict[str, TaskFunction[..., Any]] = {}
        self._unchecked: dict[str, TaskFunction[..., Any]] = {}  # called by name, and unknown here
        self._engine: Engine | None = None
        self._flows = Keeper(self._engine_now, self.events)
        self._closed, self._cause = False, "this App is closed"
        self._lock = threading.Lock()
        _apps.add(self)

    # ------------------------------------------------------------------ functions

    @overload
    def register(
        self,
        name: str,
        fn: Callable[P, Coroutine[Any, Any, R]],
        *,
        version: str = "",
        id_maker: IDMaker | None = None,
        **options: Any,
    ) -> TaskFunction[P, R]: ...

    @overload
    def register(
        self,
        name: str,
        fn: Callable[P, R],
        *,
        version: str = "",
        id_maker: IDMaker | None = None,
        **options: Any,
    ) -> TaskFunction[P, R]: ...

    def register(
        self,
        name: str,
        fn: Callable[..., Any],
        *,
        version: str = "",
        id_maker: IDMaker | None = None,
        **options: Any,
    ) -> TaskFunction[..., Any]:
        """
        Make a function callable as a task; both callers and nodes do this.

        Args:
            name: unique in this App; 1 to 200 printable characters without a slash.
            fn: a function, coroutine function, bound method or callable object.
            version: tasks only go to nodes that have the function in the same version, whatever text that is;
                a difference in signature is noticed without it.
            id_maker: makes the ids of its tasks, where this program calls it; default the App's.
            options: defaults for its tasks, see `Options`; also ``marshaller="json"``, ``report_marshaller``
                (else the same) and ``invoker="direct"``, names or objects, see `Marshallers.how`.

        Raises:
            UsageError: for a bad or taken name, an unknown option, marshaller or invoker, no id maker,
                or a signature that cannot be compiled.
        """
        how = _taken(options, "marshaller", "report_marshaller", "invoker")
        how["settings"] = self._function_settings(id_maker)
        chosen = changed(Options(), options, name)
        return self._keep(self.registry.register(name, fn, version=version, options=chosen, **how))

    @overload
    def task(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> TaskFunction[P, R]: ...

    @overload
    def task(self, fn: Callable[P, R], /) -> TaskFunction[P, R]: ...

    @overload
    def task(self, /, *, name: str | None = None, **options: Any) -> Decorator: ...

    def task(self, fn: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Any) -> Any:
        """Register the decorated function, under its own name unless another is given; see `register`."""

        def decorate(fn: Callable[..., Any]) -> TaskFunction[..., Any]:
            return self.register(name or fn.__name__, fn, **options)

        return decorate if fn is None else decorate(fn)

    def declare(
        self,
        name: str,
        stub: Callable[P, R] | inspect.Signature | None = None,
        *,
        version: str = "",
        id_maker: IDMaker | None = None,
        **options: Any,
    ) -> TaskFunction[P, R]:
        """
        Name a function that runs elsewhere; without a stub its arguments are not checked here.

        Raises:
            UsageError: as `register`.
        """
        how = _taken(options, "marshaller", "report_marshaller", "invoker")
        how["settings"] = self._function_settings(id_maker)
        chosen = changed(Options(), options, name)
        return self._keep(self.registry.declare(name, stub, version=version, options=chosen, **how))

    def _function_settings(self, id_maker: IDMaker | None = None) -> dict[str, Any]:
        """Return the settings of a function that are no options."""
        if id_maker is not None:
            check_id_maker(id_maker)
        maker = self._id_maker if id_maker is None else id_maker
        return {} if maker is None else {"id_maker": maker}

    def _keep(self, function: Function) -> TaskFunction[Any, Any]:
        task = self._task_function(function)
        self._tasks[function.name] = task
        return task

    def allocate(
        self,
        name: str,
        count: int,
        share: int = 0,
        *,
        factory: Callable[[], Callable[..., Any]] | None = None,
    ) -> Allocation:
        """
        Give a function workers of its own instead of the shared pool; before anything runs.

        Args:
            name: a function that is registered here.
            count: how many workers: threads or, for a coroutine function, turns on its event loop.  See
                `Allocation.resize`.
            share: how many of its workers use one report channel of a `Reporter`, 0: all of them.  The reports of
                one task keep their order in any case.  It means nothing to the mesh and in local mode, which have
                no such channels; it is kept in the settings of the function.
            factory: called once by each worker, in its own thread; what it returns is called in place of the
                function, with the same arguments.  So each worker owns its state.

        Raises:
            UnknownFunction: for a function that is not registered, or only declared.
            UsageError: for a count below 1, a share below 0, a factory for a coroutine function, a function that
                has workers of its own already, or when workers run already.
        """
        function = self.registry.get(name)
        if function is None or not function.runs_here:
            known = f"there is no function {name!r}" if function is None else f"{name!r} is only declared"
            raise UnknownFunction(f"allocate: {known} here; hint: register it first")
        check_count(name, count)
        if not isinstance(share, int) or isinstance(share, bool) or share < 0:
            raise UsageError(f"allocate {name}: share must be a whole number of at least 0, not {share!r}")
        if factory is not None and (function.is_coroutine or not callable(factory)):
            why = "it is a coroutine function, and has no threads" if function.is_coroutine else repr(factory)
            raise UsageError(f"allocate {name}: factory must give each thread something to call: {why}")
        if name in self._own:
            raise UsageError(f"allocate: {name} has workers of its own already; hint: Allocation.resize")
        if self._engine is not None:
            raise UsageError("allocate: call it before the first call or serve")
        self._own[name] = count
        self.registry.set(name, share=share, **({} if factory is None else {"factory": factory}))

        def resize(count: int) -> None:
            self._own[name] = count
            if self._engine is not None and not self._closed:
                self._engine.resize(name, count)

        def started() -> int:
            return 0 if self._engine is None or self._closed else self._engine.started(name)

        return Allocation(name, count, share, resize, started)

    # ------------------------------------------------------------------ attaching

    def use(
        self,
        obj: object = None,
        /,
        *,
        producer: Producer | None = None,
        consumer: Consumer | None = None,
        named_consumer: NamedConsumer | None = None,
        reporter: Reporter | None = None,
        store: Store | None = None,
    ) -> tuple[str, ...]:
        """
        Attach objects in remote mode, before anything runs; they are closed with the App.

        Args:
            obj: attached in all roles that it can play, see `dingo_zmq.ports`; of the two kinds of consumer as
                the named one.
            producer, consumer, named_consumer, reporter, store: attached in that role alone.

        Returns:
            The roles that are played by now thanks to this call.

        Raises:
            UsageError: if an object can play no role or not the one named, a role is taken, an object is
                attached twice, or the App has another mode or has started.
        """
        named: dict[str, object] = {
            "producer": producer,
            "consumer": consumer,
            "named_consumer": named_consumer,
            "reporter": reporter,
            "store": store,
        }
        players = {role: player for role, player in named.items() if player is not None}
        if (obj is None) == (not players):
            raise UsageError("use: give either one object, or objects by their roles, such as producer=...")
        if self.mode != "remote":
            raise UsageError(f'use: mode {self.mode!r} needs nothing attached; hint: App("remote")')
        if self._engine is not None:
            raise UsageError("use: call it before the first call or serve")
        if obj is not None:
            players = self._roles.find(obj)
        for player in players.values():
            if any(player is each for app in list(_apps) if app is not self for each in app._roles.objects):
                raise UsageError(
                    f"a {type(player).__qualname__} is attached twice: another App has it, and will close it; "
                    "hint: one object for each App; those of one process can share a queue"
                )
        return self._roles.add(players)

    # ------------------------------------------------------------------ calling

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Result[Any]:
        """
        Send a task by the name of its function; arguments of unknown functions are not checked here.

        Raises:
            UnknownFunction: in local mode, where nobody else could have it.
        """
        return self._by_name(name).call(*args, **kwargs)

    async def acall(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Send a task by the name of its function and wait for its return."""
        return await self.call(name, *args, **kwargs)

    def stream(self, name: str, /, *args: Any, **kwargs: Any) -> Stream[Any]:
        """
        Send a task by the name of its function, and return what it yields, see `TaskFunction.stream`.

        Raises:
            UnknownFunction: in local mode, where nobody else could have it.
        """
        return self._by_name(name).stream(*args, **kwargs)

    def bind(self, name: str, /, *args: Any, **kwargs: Any) -> Call[Any]:
        """
        Return a `Call` of a function by its name, see `TaskFunction.bind`.

        Raises:
            UnknownFunction: in local mode, where nobody else could have it.
        """
        return self._by_name(name).bind(*args, **kwargs)

    def options(self, **changes: Any) -> NamedCalls:
        """Return something with `call`, `acall`, `stream` and `bind` that uses these options, see `Options`."""
        return NamedCalls(self._by_name, changes)

    def map(
        self, name: str, /, *iterables: Iterable[Any], ahead: int = 1000, ordered: bool = True
    ) -> Iterator[Any]:
        """See `TaskFunction.map`."""
        return self._by_name(name).map(*iterables, ahead=ahead, ordered=ordered)

    def starmap(
        self, name: str, /, tuples: Iterable[Sequence[Any]], *, ahead: int = 1000, ordered: bool = True
    ) -> Iterator[Any]:
        """See `TaskFunction.starmap`."""
        return self._by_name(name).starmap(tuples, ahead=ahead, ordered=ordered)

    def _by_name(self, name: str) -> TaskFunction[..., Any]:
        task = self._tasks.get(name) or self._unchecked.get(name)
        if task is None:
            if self.mode == "local":
                self.registry[name]  # raises, and says what it might have been
            function = Registry().declare(name, settings=self._function_settings())
            task = self._unchecked.setdefault(name, self._task_function(function))
        return task

    def _task_function(self, function: Function) -> TaskFunction[Any, Any]:
        return TaskFunction(function, function.options, self._submitter, self._streamer, self._flows)

    def recover(self) -> list[Result[Any]]:
        """
        Return the results of the tasks that earlier lives of this App left in its journal, in the order of their
        calls; each of them once.

        They go on in any case, from the first call or `recover` on.  Among them are also tasks that had been
        settled, while the program had not let go of their results, since it may not have come to use them.  What
        a function returned is read as the program has registered or declared it by then.

        A task leaves the journal when the program has let go of its `Result`, or closes the App in good order
        once it is settled; one of an earlier life only after `recover` has returned it.  What the mesh gave up
        stays for ``dingo-zmq dead``, and is not returned again.

        Raises:
            UsageError: this App has no journal.
            JournalError: the journal is in use, damaged, or cannot be opened.
        """
        if "journal" not in self._settings:
            raise UsageError('this App has no journal; hint: App("mesh", journal="tasks.db")')
        return _mesh(self._engine_now()).recover()

    def peers(self) -> list[PeerInfo]:
        """Return what is known of each node; empty in local and remote mode."""
        engine = self._engine_now()
        return [] if isinstance(engine, LocalEngine | RemoteEngine) else _mesh(engine).peers()

    def waiting(self) -> list[str]:
        """Return a line for each function and cause for which tasks wait that no node can take now."""
        engine = self._engine_now()
        return [] if isinstance(engine, LocalEngine | RemoteEngine) else _mesh(engine).waiting()

    def ledger(self) -> Ledger:
        """
        Return what became of all tasks called so far, in counts that balance, and who holds those that are open.

        Any thread may ask, and also after the end; `close` logs the line that it makes as a text.

        Raises:
            TimeoutError: in mesh mode, where the I/O thread does not answer within 10 s.
            Closed: in a process that was forked after the start.
        """
        engine = self._engine
        if self._cause == FORKED:
            raise Closed(FORKED)
        return Ledger() if engine is None else engine.ledger()

    def listen(
        self,
        origins: Origin | str | Iterable[Origin | str] | None = None,
        level: Level = Level.WARNING,
        *,
        callback: Callable[[Event], object] | None = None,
        size: int = SIZE,
    ) -> EventStream:
        """
        Return a stream of what happens from now on besides reports: nodes found and lost, tasks sent again,
        handlers that raise, and so on; see `EventCode`.  All of it is also logged, whether anybody listens or not.

        Args:
            origins: the parts of the App to listen to, such as ``["caller"]``; default all of them.
            level: the least level to be heard.
            callback: called with each event on the App's callback thread, instead of a reader of the stream; what
                it raises is logged.
            size: events kept for the reader or callback; what does not fit is dropped, and counted in
                `EventStream.dropped`.

        The stream ends when it is closed, as in a ``with`` block, or when the App is.  Reading it starts the App;
        `listen` alone does not.

        Raises:
            UsageError: for an unknown origin or level, or a size below 1.
            Closed: if the App is closed.
        """
        return self.events.listen(origins, level, callback, size)

    # ------------------------------------------------------------------ serving

    def serve(
        self,
        *,
        name: str | None = None,
        port: int | None = None,
        tags: Sequence[str] = (),
        block: bool = False,
    ) -> None:
        """
        Serve the registered functions from this process, to the mesh or through what is attached; in local mode
        there is nothing to do.

        Args:
            name: of the node, for people; default the host's name.
            port: the first of a pair of ports, None for a free pair; in remote mode it means nothing.
            tags: words that callers can ask for; in remote mode they mean nothing.
            block: return only after Ctrl-C, when running tasks have finished (half a minute at most); a second
                Ctrl-C does not wait for them.

        Raises:
            ConfigError: where the port cannot be had, or a function is only declared.
            UsageError: in remote mode, where no consumer or reporter is attached, or it serves already.
        """
        engine = self._engine_now()
        if isinstance(engine, RemoteEngine):
            engine.serve(_served(self), self._own, threads=self.threads, name=name or host_name())
        elif not isinstance(engine, LocalEngine):
            serve(_mesh(engine), self, name=name or host_name(), port=port, tags=tags)
        if block:
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                if isinstance(engine, RemoteEngine):
                    engine.drain(GRACE_SECONDS)
                elif not isinstance(engine, LocalEngine):
                    _mesh(engine).drain(GRACE_SECONDS)
                self.close(wait=False)

    # ------------------------------------------------------------------ life

    def _submitter(self, function: Function, options: Options) -> Submit:
        known = self.registry.get(function.name)  # with what was said of it since
        return self._engine_now().submitter(known or function, options)

    def _streamer(self, function: Function, options: Options) -> SubmitStream:
        known = self.registry.get(function.name)
        return self._engine_now().streamer(known or function, options)

    def _engine_now(self) -> Engine:
        engine = self._engine
        if engine is None or self._closed:
            with self._lock:
                if self._closed:
                    raise Closed(self._cause)
                if self._engine is None:
                    with Held():  # all of it, or nothing
                        self._engine = self._make_engine()
                engine = self._engine
        return engine

    def _make_engine(self) -> Engine:
        told = _told_here(self._settings) if self.mode == "local" else self._told()
        most, limit = told.get("max_open", MAX_OPEN), told.get("limit", BODY_LIMIT)
        full = told.get("full", "wait")
        self._flows.bound(most, full)
        if self.mode == "local":
            wire = limit if self._wire else None
            return LocalEngine(self.threads, self._own, most, self.events, wire=wire, full=full)
        if self.mode == "remote":
            most_bytes = told.get("max_open_bytes", MAX_OPEN_BYTES)
            return RemoteEngine(self._roles, most, limit, self.events, full, most_bytes)
        from dingo_zmq.mesh.engine import MeshEngine, MeshSettings

        return MeshEngine(MeshSettings(**told), self.events, self.registry.get)

    def engine(self) -> MeshEngine:
        """
        Return what runs this App in mesh mode, started if need be; for tools.

        Raises:
            UsageError: in other modes.
        """
        engine = self._engine_now()
        if isinstance(engine, LocalEngine | RemoteEngine):
            raise UsageError(f"this App is in {self.mode} mode and has no mesh")
        return _mesh(engine)

    def mesh_settings(self, **changes: Any) -> MeshSettings:
        """
        Return what this App was told of the mesh, whatever its mode; for tools.

        Args:
            changes: settings that differ, see `dingo_zmq.mesh.engine.MeshSettings`.
        """
        from dingo_zmq.mesh.engine import MeshSettings

        return MeshSettings(**self._told(**changes))

    def _told(self, **changes: Any) -> dict[str, Any]:
        """Return what this App was told, by its arguments, by variables or by the file of settings."""
        from dingo_zmq.config import for_app

        given: dict[str, Any] = {**self._settings, **changes}
        return for_app({name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})

    def close(self, *, wait: bool = True, timeout: float | None = None) -> None:
        """
        End the App; calling it again does nothing.

        Args:
            wait: first wait for the tasks that are open; in remote mode for those that this node holds, too.  A
                stream whose values nobody takes for a second is stopped instead.
            timeout: seconds to wait at most, None for as long as it takes.

        What is open after that is settled with FAIL/SHUTDOWN; what a journal has of it is left to the next App.
        """
        engine = self._engine
        if engine is not None and not self._closed and wait:
            end = None if timeout is None else time.monotonic() + timeout
            _wait_for(lambda: [*engine.results(), *self._flows.results()], timeout)
            if isinstance(engine, RemoteEngine):
                engine.drain(None if end is None else max(0.0, end - time.monotonic()))
            elif not isinstance(engine, LocalEngine):
                _mesh(engine).leave_nothing()
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._flows.shut()
        try:
            if engine is not None:
                engine.close(CLOSE_SECONDS)
                _tell_ledger(engine, self._settings.get("journal"))
            self._roles.close()
            self._flows.close(CLOSE_SECONDS)
        finally:
            self.events.close()

    def _was_forked(self) -> None:
        """This is a child, in which nothing of the App works, nor may it be touched."""
        engine, self._closed, self._cause, self._lock = self._engine, True, FORKED, threading.Lock()
        if engine is not None:
            with suppress(Exception):  # its I/O thread may have been in the middle of anything
                leave_behind([*engine.left_behind(), *self._flows.results()], Failure(Code.SHUTDOWN, FORKED))

    def __enter__(self) -> App:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(wait=kind is None)

    def __repr__(self) -> str:
        engine = self._engine
        if engine is None or self._closed:
            state = "closed" if self._closed else "not started"
            return f"<App {self.mode}, {len(self._tasks)} functions, {state}>"
        if isinstance(engine, LocalEngine):
            running, queued = engine.load()
            workers = counted(self.threads + sum(self._own.values()), "worker")
            return f"<App local: {workers}, {running} running, {queued} queued>"
        if isinstance(engine, RemoteEngine):
            mine, held = engine.load()
            return f"<App remote: {counted(mine, 'task')} open, {held} held here>"
        return f'<App mesh "{_mesh(engine).settings.mesh}": {_load(_mesh(engine))}>'


def _taken(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Take some of the keywords out of `options`, and return them."""
    return {name: options.pop(name) for name in names if name in options}


def _check(given: dict[str, Any]) -> None:
    """Check what the program gave of numbers and choices; see `config.check`."""
    if any(value is not None for value in given.values()):
        from dingo_zmq.config import check

        check(given)


def _told_here(given: dict[str, Any]) -> dict[str, Any]:
    """Return what an App in local mode was told; it looks at no file, and at no variable that it does not need."""
    if not any(variable in os.environ for variable in ("DINGO_ZMQ_MAX_OPEN", "DINGO_ZMQ_FULL", "DINGO_ZMQ_LIMIT")):
        return given
    from dingo_zmq.config import of_variables

    return {**of_variables("max_open", "full", "limit"), **given}


def _load_mesh() -> None:
    """Import what mesh mode needs while the program begins, not in the middle of its first call."""
    with Held():
        import dingo_zmq.mesh.engine  # noqa: F401


def _tell_ledger(engine: Engine, journal: str | None) -> None:
    try:
        ledger = engine.ledger()
    except (Closed, TimeoutError):
        return
    undone = ledger.codes.get(Code.SHUTDOWN, 0) + ledger.open
    if undone and journal is not None:
        left = f"{counted(undone, 'task')} left to the next App with journal {journal}, see recover()"
        _ledger_log.warning("closed; %s; %s", left, ledger)
    elif undone:
        _ledger_log.warning("closed; %s ended with FAIL/SHUTDOWN; %s", counted(undone, "task"), ledger)
    elif ledger.called:
        _ledger_log.info("closed; %s", ledger)


def _load(engine: MeshEngine) -> str:
    """Return a glance at a mesh in words; it waits a moment at most, and never raises."""
    try:
        now = engine.load()
    except Exception as exc:
        return "its I/O thread is busy" if isinstance(exc, TimeoutError) else str(exc)
    nodes, workers = counted(now.nodes, "node"), counted(now.workers, "worker")
    return f"{nodes}, {workers}, {now.running} running, {now.queued} queued"


def _wait_for(still: Callable[[], list[Result[Any]]], timeout: float | None) -> None:
    end = None if timeout is None else time.monotonic() + timeout
    said = False
    unread: dict[Result[Any], int] = {}
    while results := still():
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            return
        unread = _stop_unread(results, unread)
        wait(results, _sooner(left, UNREAD_SECONDS if unread else None if said else PATIENCE_SECONDS))
        if unread:
            continue
        if not said and not results[0].done():
            said = True
            waits, first = counted(len(results), "task"), results[0]
            _log.warning("closing waits for %s; %s: %s", waits, first.name, first.why())


def _stop_unread(results: list[Result[Any]], before: dict[Result[Any], int]) -> dict[Result[Any], int]:
    """Stop the streams of which no value was taken since `before`; return how many were, where there are some."""
    unread = {}
    for result in results:
        reading: Reading | None = getattr(result._owner, "reading", None)
        if reading is None or reading.had == reading.taken:
            continue
        unread[result] = reading.taken
        if before.get(result) == reading.taken:
            _log.warning("%s is stopped, since nobody takes its values; hint: close() the stream", result)
            result.cancel(running=True)
    return unread


def _sooner(left: float | None, patience: float | None) -> float | None:
    given = [seconds for seconds in (left, patience) if seconds is not None]
    return min(given) if given else None


def _mesh(engine: Engine) -> MeshEngine:
    from dingo_zmq.mesh.engine import MeshEngine

    assert isinstance(engine, MeshEngine)
    return engine


def serve(
    engine: MeshEngine,
    app: App,
    *,
    name: str,
    port: int | None = None,
    tags: Sequence[str] = (),
    threads: int | None = None,
    announce: bool = True,
) -> Any:
    """
    Serve an App's registered functions from a mesh engine; return the announcement.

    Raises:
        ConfigError: where the port cannot be had, or there is nothing to serve.
        UsageError: for a tag that cannot be one.
    """
    for tag in tags:
        check_part("a tag", tag)
    functions = _served(app)
    return engine.serve(
        functions,
        app._own,
        name=name,
        threads=threads or app.threads,
        port=port,
        tags=tags,
        announce=announce,
    )


def _served(app: App) -> list[Function]:
    functions = [function for function in app.registry if function.runs_here]
    if not functions:
        raise ConfigError("there is nothing to serve: no function is registered; hint: @app.task")
    return functions


def default_threads() -> int:
    """Return how many workers a process has unless told: min(8, cores)."""
    return min(8, os.cpu_count() or 1)


def host_name() -> str:
    """Return this host's name, without its domain."""
    import socket

    return socket.gethostname().split(".")[0] or "node"


def _in_child() -> None:
    for app in _apps:
        if app._engine is not None and not app._closed:
            app._was_forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


@atexit.register
def _close_all() -> None:
    for app in list(_apps):
        app.close(wait=False)
