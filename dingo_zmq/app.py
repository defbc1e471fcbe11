"""The App: functions are registered, called, and served; local and mesh mode are one program."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from dingo_zmq.allocation import Allocation, check_count
from dingo_zmq.errors import Closed, ConfigError, UnknownFunction, UsageError
from dingo_zmq.interrupts import Held
from dingo_zmq.local import LocalEngine
from dingo_zmq.model import MAX_OPEN, Options, check_part, counted
from dingo_zmq.registry import Function, Registry
from dingo_zmq.result import Result
from dingo_zmq.task import Decorator, NamedCalls, Submit, TaskFunction

if TYPE_CHECKING:
    import inspect

    from dingo_zmq.mesh.engine import MeshEngine, MeshSettings
    from dingo_zmq.mesh.info import PeerInfo

__all__ = ["MODES", "App"]

P = ParamSpec("P")
R = TypeVar("R")

MODES = ("local", "mesh")
CLOSE_SECONDS = 3.0
PATIENCE_SECONDS = 2.0
"""after this, `close` says what it waits for"""

_log = logging.getLogger("dingo_zmq")
GRACE_SECONDS = 30.0

_apps: weakref.WeakSet[App] = weakref.WeakSet()


class Engine(Protocol):
    """What an App needs of a mode."""

    def submitter(self, function: Function, options: Options) -> Submit:
        """Return what sends a task of `function` with `options`."""

    def results(self) -> list[Result[Any]]:
        """Return the results of all tasks not settled."""

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
        mode: "local" runs tasks in this process, "mesh" on whatever nodes are found; the environment variable
            DINGO_ZMQ_MODE where not given, else "local".
        threads: workers for functions that have none of their own; default min(8, cores).
        mesh: name of the mesh (mesh mode); DINGO_ZMQ_MESH where not given, else "default".
        peers: addresses of nodes, such as "tcp://127.0.0.1:47100", beside those that are discovered.
        discovery: "directory" (nodes of this host) and "zeroconf", both unless told.
        limit: largest body of a task or report, bytes.
        max_open: tasks not settled at a time; at the bound `call` waits, or raises `Busy` in an event loop.
        key: file of a mesh key; default the one in its usual place or, where there is none, this user's own.
        bind: addresses or interfaces to keep to; default all of them with a mesh key, else loopback.
        advertise: where others are told that a node of this App is, as "host" or "host:port".
        insecure_lan: use no key at all; whoever can reach a node can then run its functions.

    Threads and sockets start at the first call or `serve`; what mesh mode imports is imported at once.  A ``with``
    block is optional: its clean end waits for what is open, an exception does not.

    Raises:
        UsageError: for an unknown mode.
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
        key: str | os.PathLike[str] | None = None,
        bind: Iterable[str] = (),
        advertise: Iterable[str] = (),
        insecure_lan: bool | None = None,
    ) -> None:
        self.mode = mode or os.environ.get("DINGO_ZMQ_MODE") or "local"
        if self.mode not in MODES:
            raise UsageError(f"unknown mode {self.mode!r}; there are: {', '.join(MODES)}")
        if isinstance(peers, str):
            raise UsageError(f'peers must be a list of addresses, such as ["{peers}"]')
        if self.mode == "mesh":
            _load_mesh()
        self.registry = Registry()
        self.threads = threads or default_threads()
        given: dict[str, Any] = {"peers": tuple(peers), "limit": limit, "max_open": max_open}
        given["key"] = None if key is None else os.fspath(key)
        given["bind"], given["advertise"] = tuple(bind), tuple(advertise)
        given["insecure_lan"] = insecure_lan
        given["mesh"] = mesh or None
        given["discovery"] = None if discovery is None else tuple(discovery)
        self._settings = {name: value for name, value in given.items() if value is not None}
        self._own: dict[str, int] = {}
        self._tasks: dict[str, TaskFunction[..., Any]] = {}
        self._unchecked: dict[str, TaskFunction[..., Any]] = {}  # called by name, and unknown here
        self._engine: Engine | None = None
        self._closed = False
        self._lock = threading.Lock()
        _apps.add(self)

    # ------------------------------------------------------------------ functions

    @overload
    def register(
        self, name: str, fn: Callable[P, Coroutine[Any, Any, R]], *, version: str = "", **options: Any
    ) -> TaskFunction[P, R]: ...

    @overload
    def register(
        self, name: str, fn: Callable[P, R], *, version: str = "", **options: Any
    ) -> TaskFunction[P, R]: ...

    def register(
        self, name: str, fn: Callable[..., Any], *, version: str = "", **options: Any
    ) -> TaskFunction[..., Any]:
        """
        Make a function callable as a task; both callers and nodes do this.

        Args:
            name: unique in this App; 1 to 200 printable characters without a slash.
            fn: a function, coroutine function, bound method or callable object.
            version: tasks only go to nodes that have the function in the same version, whatever text that is;
                a difference in signature is noticed without it.
            options: defaults for its tasks, see `Options`.

        Raises:
            UsageError: for a bad or taken name, an unknown option, or a signature that cannot be compiled.
        """
        chosen = Options().replace(**options)
        return self._keep(self.registry.register(name, fn, version=version, options=chosen))

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
        **options: Any,
    ) -> TaskFunction[P, R]:
        """
        Name a function that runs elsewhere; without a stub its arguments are not checked here.

        Raises:
            UsageError: as `register`.
        """
        chosen = Options().replace(**options)
        return self._keep(self.registry.declare(name, stub, version=version, options=chosen))

    def _keep(self, function: Function) -> TaskFunction[Any, Any]:
        task: TaskFunction[Any, Any] = TaskFunction(function, function.options, self._submitter)
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

    def options(self, **changes: Any) -> NamedCalls:
        """Return something with `call` and `acall` that uses these options, see `Options`."""
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
            function = Registry().declare(name)
            task = self._unchecked.setdefault(name, TaskFunction(function, function.options, self._submitter))
        return task

    def peers(self) -> list[PeerInfo]:
        """Return what is known of each node; empty in local mode."""
        engine = self._engine_now()
        return [] if isinstance(engine, LocalEngine) else _mesh(engine).peers()

    def waiting(self) -> list[str]:
        """Return a line for each function and cause for which tasks wait that no node can take now."""
        engine = self._engine_now()
        return [] if isinstance(engine, LocalEngine) else _mesh(engine).waiting()

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
        Serve the registered functions to the mesh from this process; in local mode there is nothing to do.

        Args:
            name: of the node, for people; default the host's name.
            port: the first of a pair of ports, None for a free pair.
            tags: words that callers can ask for.
            block: return only after Ctrl-C, when running tasks have finished (half a minute at most); a second
                Ctrl-C does not wait for them.

        Raises:
            ConfigError: where the port cannot be had, or a function is only declared.
        """
        engine = self._engine_now()
        if not isinstance(engine, LocalEngine):
            serve(_mesh(engine), self, name=name or host_name(), port=port, tags=tags)
        if block:
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                if not isinstance(engine, LocalEngine):
                    _mesh(engine).drain(GRACE_SECONDS)
                self.close(wait=False)

    # ------------------------------------------------------------------ life

    def _submitter(self, function: Function, options: Options) -> Submit:
        known = self.registry.get(function.name)  # with what was said of it since
        return self._engine_now().submitter(known or function, options)

    def _engine_now(self) -> Engine:
        engine = self._engine
        if engine is None or self._closed:
            with self._lock:
                if self._closed:
                    raise Closed("this App is closed")
                if self._engine is None:
                    with Held():  # all of it, or nothing
                        self._engine = self._make_engine()
                engine = self._engine
        return engine

    def _make_engine(self) -> Engine:
        if self.mode == "local":
            return LocalEngine(self.threads, self._own, self._settings.get("max_open", MAX_OPEN))
        from dingo_zmq.mesh.engine import MeshEngine

        return MeshEngine(self.mesh_settings())

    def engine(self) -> MeshEngine:
        """
        Return what runs this App in mesh mode, started if need be; for tools.

        Raises:
            UsageError: in local mode.
        """
        engine = self._engine_now()
        if isinstance(engine, LocalEngine):
            raise UsageError("this App is in local mode and has no mesh")
        return _mesh(engine)

    def mesh_settings(self, **changes: Any) -> MeshSettings:
        """
        Return what this App was told of the mesh, whatever its mode; for tools.

        Args:
            changes: settings that differ, see `dingo_zmq.mesh.engine.MeshSettings`.
        """
        from dingo_zmq.config import for_app
        from dingo_zmq.mesh.engine import MeshSettings

        given: dict[str, Any] = {**self._settings, **changes}
        told = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
        return MeshSettings(**for_app(told))

    def close(self, *, wait: bool = True, timeout: float | None = None) -> None:
        """
        End the App; calling it again does nothing.

        Args:
            wait: first wait for the tasks that are open.
            timeout: seconds to wait at most, None for as long as it takes.

        What is open after that is settled with FAIL/SHUTDOWN.
        """
        engine = self._engine
        if engine is not None and not self._closed and wait:
            _wait_for(engine, timeout)
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if engine is not None:
            engine.close(CLOSE_SECONDS)

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
        return f'<App mesh "{_mesh(engine).settings.mesh}": {_load(_mesh(engine))}>'


def _load_mesh() -> None:
    """Import what mesh mode needs while the program begins, not in the middle of its first call."""
    with Held():
        import dingo_zmq.mesh.engine  # noqa: F401


def _load(engine: MeshEngine) -> str:
    """Return a glance at a mesh in words; it waits a moment at most, and never raises."""
    try:
        now = engine.load()
    except Exception as exc:
        return "its I/O thread is busy" if isinstance(exc, TimeoutError) else str(exc)
    nodes, workers = counted(now.nodes, "node"), counted(now.workers, "worker")
    return f"{nodes}, {workers}, {now.running} running, {now.queued} queued"


def _wait_for(engine: Engine, timeout: float | None) -> None:
    end = None if timeout is None else time.monotonic() + timeout
    said = False
    while results := engine.results():
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            return
        wait(results, _sooner(left, None if said else PATIENCE_SECONDS))
        if not said and not results[0].done():
            said = True
            _log.warning("closing waits for %d tasks; %s: %s", len(results), results[0].name, results[0].why())


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
    functions = [function for function in app.registry if function.runs_here]
    if not functions:
        raise ConfigError("there is nothing to serve: no function is registered; hint: @app.task")
    return engine.serve(
        functions,
        app._own,
        name=name,
        threads=threads or app.threads,
        port=port,
        tags=tags,
        announce=announce,
    )


def default_threads() -> int:
    """Return how many workers a process has unless told: min(8, cores)."""
    return min(8, os.cpu_count() or 1)


def host_name() -> str:
    """Return this host's name, without its domain."""
    import socket

    return socket.gethostname().split(".")[0] or "node"


@atexit.register
def _close_all() -> None:
    for app in list(_apps):
        app.close(wait=False)
