"""The App: functions are registered, called by themselves or by name, here in local mode."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from dingo_zmq import App, Result
from dingo_zmq.errors import ArgumentError, Closed, ConfigError, UsageError

PATIENCE = 10.0


@pytest.fixture
def app() -> Any:
    app = App("local", threads=2)
    yield app
    app.close(wait=False)


def add(a: int, b: int = 5) -> int:
    """Add two numbers."""
    return a + b


# ---------------------------------------------------------------------- modes


def test_the_mode_that_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DINGO_ZMQ_MODE", raising=False)
    assert App().mode == "local"
    monkeypatch.setenv("DINGO_ZMQ_MODE", "mesh")
    assert App().mode == "mesh"
    assert App("local").mode == "local"


@pytest.mark.parametrize("mode", ["Remote", "Local", "x"])
def test_an_unknown_mode(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=f"unknown mode '{mode}'; there are: local, mesh, remote"):
        App(mode)
    monkeypatch.setenv("DINGO_ZMQ_MODE", mode)
    with pytest.raises(UsageError, match="unknown mode"):
        App()


def test_peers_in_one_text() -> None:
    with pytest.raises(UsageError, match="list of addresses"):
        App("mesh", peers="tcp://127.0.0.1:1")


@pytest.mark.parametrize("mode", ["local", "mesh", "remote"])
@pytest.mark.parametrize(
    "name",
    ["max_open", "max_open_bytes", "max_kept", "max_kept_bytes", "max_callers", "max_nodes", "limit", "threads"],
)
def test_a_bound_that_makes_no_sense(mode: str, name: str) -> None:
    for value in (0, -3, "5", 2.5, True):
        words = rf"^{name} must be a whole number of at least 1, not {value!r}; hint: {name}=\d+$"
        with pytest.raises(UsageError, match=words):
            App(mode, **{name: value})
    App(mode, **{name: 1}).close()


def test_making_an_app_starts_nothing() -> None:
    before = threading.active_count()
    app = App("mesh")
    app.register("add", add)
    assert threading.active_count() == before
    assert repr(app) == "<App mesh, 1 functions, not started>"
    app.close()
    assert "closed" in repr(app)


# ---------------------------------------------------------------------- functions


def test_a_decorated_function_is_still_called_here(app: App) -> None:
    decorated = app.task(add)
    assert decorated(2, 3) == 5
    assert decorated.call(2, 3).result(PATIENCE) == 5
    assert (decorated.__name__, decorated.__doc__, decorated.__wrapped__) == ("add", "Add two numbers.", add)
    assert repr(decorated) == "<task add(a: int, b: int = 5) -> int>"


def test_a_decorator_with_settings(app: App) -> None:
    @app.task(name="sum", max_losses=1)
    def add(a: int, b: int) -> int:
        return a + b

    assert add.function.name == "sum"
    assert add.function.options.max_losses == 1
    assert app.call("sum", 1, 2).result(PATIENCE) == 3


def test_options_make_another_one(app: App) -> None:
    plain = app.register("add", add)
    changed = plain.options(monitor_progress=True)
    assert changed is not plain
    assert len(list(changed.call(1).reports(PATIENCE))) == 3
    assert len(list(plain.call(1).reports(PATIENCE))) == 1
    assert app.options(monitor_progress=True).call("add", 1).result(PATIENCE) == 6


@pytest.mark.parametrize("options", [{"no_such": 1}, {"max_losses": 0}, {"max_losses": "3"}])
def test_an_option_that_is_none(app: App, options: dict[str, Any]) -> None:
    plain = app.register("add", add)
    for use in (
        lambda: plain.options(**options),
        lambda: app.options(**options).call("add", 1),
        lambda: app.register("other", add, **options),
        lambda: app.task(name="third", **options)(add),
        lambda: app.declare("fourth", add, **options),
    ):
        with pytest.raises(UsageError):
            use()


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "x" * 201])
def test_a_name_that_cannot_be_one(app: App, name: str) -> None:
    with pytest.raises(UsageError):
        app.register(name, add)


def test_a_declared_function_is_not_called_here(app: App) -> None:
    stub = app.declare("far", add)
    with pytest.raises(UsageError, match=r"far is only declared here; hint: far.call\(...\) sends it"):
        stub(1)
    with pytest.raises(UsageError, match='hint: register it, or use App\\("mesh"\\)'):
        stub.call(1)


def test_calling_by_name_does_not_take_the_name() -> None:
    app = App("mesh")
    app._by_name("add")
    assert app._by_name("add") is app._by_name("add")
    assert "add" not in app.registry
    declared = app.declare("add", add)
    assert app._by_name("add") is declared


def test_no_keyword_is_reserved(app: App) -> None:
    echo = app.register("echo", lambda **words: words)
    words = {"self": 1, "name": 2, "args": 3, "timeout": 4, "fn": 5}
    assert echo.call(**words).result(PATIENCE) == words
    assert app.call("echo", **words).result(PATIENCE) == words
    assert asyncio.run(app.acall("echo", **words)) == words
    assert app.options().call("echo", **words).result(PATIENCE) == words


def test_methods_and_callable_objects(app: App) -> None:
    class Adder:
        def __init__(self, b: int) -> None:
            self.b = b

        def plus(self, a: int) -> int:
            return a + self.b

        def __call__(self, a: int) -> int:
            return a - self.b

    app.register("plus", Adder(2).plus)
    app.register("minus", Adder(3))
    assert [app.call(name, 5).result(PATIENCE) for name in ("plus", "minus")] == [7, 2]


# ---------------------------------------------------------------------- allocate, serve, close


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [("add", 0, "count must be at least 1, not 0"), ("add", "2", "count must be at least 1, not '2'")],
)
def test_allocating_wrongly(app: App, name: str, count: int, message: str) -> None:
    app.register("add", add)
    with pytest.raises(UsageError, match=message):
        app.allocate(name, count)


def test_allocate_comes_first(app: App) -> None:
    app.register("add", add).call(1).result(PATIENCE)
    with pytest.raises(UsageError, match="before the first call"):
        app.allocate("add", 1)


def test_serving_in_local_mode_does_nothing(app: App) -> None:
    app.register("add", add)
    app.serve(name="here")
    assert app.peers() == []
    assert app.call("add", 1).result(PATIENCE) == 6
    with pytest.raises(UsageError, match="local mode"):
        app.engine()


def test_serving_nothing() -> None:
    with App("mesh", discovery=[]) as app, pytest.raises(ConfigError, match="nothing to serve"):
        app.serve()


@pytest.mark.parametrize("tags", [[""], ["a/b"], ["x" * 201]])
def test_a_tag_that_cannot_be_one(tags: list[str]) -> None:
    with App("mesh", discovery=[]) as app:
        app.register("add", add)
        with pytest.raises(UsageError, match="a tag must be"):
            app.serve(tags=tags)


def test_after_the_end(app: App) -> None:
    task = app.register("add", add)
    other = app.register("other", add)
    task.call(1).result(PATIENCE)
    app.close()
    app.close()
    for use in (lambda: task.call(1), lambda: other.call(1), lambda: app.call("add", 1), app.peers, app.serve):
        with pytest.raises(Closed, match="closed"):
            use()
    assert task(1) == 6


def test_two_apps_do_not_meet(app: App) -> None:
    with App("local") as other:
        app.register("add", add)
        other.register("add", lambda a: a)
        assert [one.call("add", 1).result(PATIENCE) for one in (app, other)] == [6, 1]


def test_several_threads_may_make_the_first_call(app: App) -> None:
    task = app.register("add", add)
    together = threading.Barrier(8, timeout=PATIENCE)
    results: list[Result[int]] = []

    def call() -> None:
        together.wait()
        results.append(task.call(1))

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
    assert [result.result(PATIENCE) for result in results] == [6] * 8
    assert len({result.id for result in results}) == 8


def test_wrong_arguments(app: App) -> None:
    task = app.register("add", add)
    with pytest.raises(ArgumentError, match=r"add\(\), parameter 'a': expected int"):
        task.call("1")
    with pytest.raises(TypeError):
        app.call("add", 1, 2, 3)
