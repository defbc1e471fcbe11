"""Whoever makes a mistake gets a clear error, and no other task pays for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dingo_zmq import App, Code
from dingo_zmq.errors import (
    ArgumentError,
    BodyTooLarge,
    EncodeError,
    TaskFailed,
    TaskPoisoned,
    TaskUnknown,
    UnknownFunction,
)
from tests import served
from tests.support import PATIENCE, SERVED, Gate, Mesh, Program, closed_port, wait_until


@pytest.fixture(scope="module", autouse=True)
def node(module_mesh: Mesh) -> Program:
    return module_mesh.node("one", "--threads", "2")


@pytest.fixture
def app(shared: Mesh) -> Iterator[App]:
    """A caller, for which a good task still works after whatever a test has done."""
    app = shared.app()
    yield app
    assert app.call("add", 2, 3).result(PATIENCE) == 5


def failure_of(app: App, name: str, *args: object) -> TaskFailed:
    with pytest.raises(TaskFailed) as caught:
        app.call(name, *args).result(PATIENCE)
    assert caught.value.failure.node == "one"
    assert caught.value.failure.attempt == 1
    return caught.value


# ---------------------------------------------------------------------- the caller's mistakes


def test_an_unknown_function_waits_and_tells_what_it_might_have_been(app: App) -> None:
    app.call("add", 1).result(PATIENCE)
    result = app.call("ad", 1)
    assert result.why() == 'no node has "ad"; did you mean "add" (one)?'
    with pytest.raises(TimeoutError, match='no node has "ad"; did you mean "add"'):
        result.result(0.01)
    assert result.cancel()


def test_an_unknown_function_in_local_mode() -> None:
    with App("local") as app:
        app.register("add", served.add.__wrapped__)
        with pytest.raises(UnknownFunction, match="did you mean 'add'"):
            app.call("ad", 1)
        assert app.call("add", 1).result(PATIENCE) == 6


def test_wrong_arguments_are_refused_before_anything_is_sent(app: App) -> None:
    add = app.declare("add", served.add)
    with pytest.raises(ArgumentError, match=r"add\(\), parameter 'a': expected int, got .*'two'"):
        add.call("two")
    with pytest.raises(ArgumentError, match=r"parameter 'b'"):
        add.call(1, b=True)
    with pytest.raises(ArgumentError, match=r"add\(\)"):
        add.call()
    with pytest.raises(ArgumentError, match=r"add\(\)"):
        add.call(1, 2, 3)
    with pytest.raises(ArgumentError, match="'c'"):
        add.call(1, c=2)
    assert add.call(1).id == "1"


def test_wrong_arguments_of_a_call_by_name_are_refused_by_the_node(app: App) -> None:
    error = failure_of(app, "add", "two")
    assert error.failure.code is Code.DECODE
    assert "add(), parameter 'a': expected int, got" in str(error)
    assert failure_of(app, "add").failure.code is Code.DECODE


def test_an_argument_that_cannot_travel(app: App) -> None:
    with pytest.raises(EncodeError, match=r"echo\(\), parameter 'value'"):
        app.declare("echo", served.echo).call(object())
    with pytest.raises(EncodeError):
        app.call("echo2", {1, object()})


def test_arguments_over_the_body_limit_are_not_sent(shared: Mesh) -> None:
    app = shared.app(limit=100_000)
    length = app.declare("length", served.length)
    with pytest.raises(
        BodyTooLarge, match="the arguments of length.. take 100,0.. bytes, over the body limit of 100,000"
    ):
        length.call(bytes(100_000))
    with pytest.raises(BodyTooLarge):
        app.call("echo", "x" * 100_001)
    result = length.call(bytes(99_000))
    assert result.result(PATIENCE) == 99_000
    assert result.id == "1"


def test_arguments_over_the_limit_of_the_node_alone(mesh: Mesh, tmp_path: Path) -> None:
    """The limit of a node is told in its WELCOME; a caller with a larger one does not run into it blindly."""
    file = tmp_path / "small.py"
    file.write_text(
        "from dingo_zmq import App\n"
        "app = App('mesh', limit=100_000)\n"
        "@app.task\n"
        "def length(data: bytes) -> int:\n"
        "    return len(data)\n"
    )
    mesh.node("small", target=file)
    app = mesh.app()
    assert app.call("length", b"abc").result(PATIENCE) == 3
    with pytest.raises((BodyTooLarge, TaskFailed, TimeoutError), match="limit"):
        app.call("length", bytes(3_000_000)).result(0.01)
    assert app.call("length", b"abcd").result(PATIENCE) == 4


# ---------------------------------------------------------------------- the function's mistakes


def test_a_return_that_cannot_travel(app: App) -> None:
    error = failure_of(app, "thing")
    assert error.failure.code is Code.ENCODE
    assert "thing(), return" in str(error)
    assert "object" in str(error)


def test_a_return_of_the_wrong_type(app: App, shared: Mesh) -> None:
    with pytest.raises(TaskFailed, match=r"lie\(\), parameter 'return': expected int, got .*'three'") as caught:
        app.declare("lie", served.lie).call().result(PATIENCE)
    assert caught.value.failure.code is Code.DECODE
    assert caught.value.failure.node == "one"
    assert shared.app().call("lie").result(PATIENCE) == "three"


@pytest.mark.parametrize(("count", "each"), [(1, 2_000_000), (30, 100_000)])
def test_a_return_over_the_body_limit(shared: Mesh, tmp_path: Path, count: int, each: int) -> None:
    """One buffer that no caller would take in, or many that are too much together."""
    app = shared.app(mesh=f"{shared.name}-{count}", limit=500_000)
    app.register("chunks", served.chunks.__wrapped__)
    app.register("add", served.add.__wrapped__)
    app.serve(name="small")
    assert app.call("add", 1).result(PATIENCE) == 6
    with pytest.raises(TaskFailed, match="limit"):
        app.call("chunks", count, each).result(5.0)
    assert app.call("chunks", 2, 100_000).result(PATIENCE) == [bytes(100_000)] * 2
    assert app.peers()[0].state == "ready"


def test_a_function_that_raises(app: App) -> None:
    with pytest.raises(TaskFailed) as caught:
        app.declare("spoil", served.spoil).call("rotten").result(PATIENCE)
    error = caught.value
    assert type(error) is TaskFailed
    assert str(error) == "served.Spoiled: it was rotten (on one)"
    failure = error.failure
    assert (failure.code, failure.type, failure.message) == (Code.RAISED, "served.Spoiled", "it was rotten")
    assert "in _deeper" in failure.traceback
    assert 'raise Spoiled(f"it was {word}")' in failure.traceback
    assert "mesh/node.py" not in failure.traceback
    assert not isinstance(error, served.Spoiled)


@pytest.mark.parametrize(
    ("name", "args", "kind"),
    [("leave", [3], "SystemExit"), ("interrupt", [], "KeyboardInterrupt"), ("leave_later", [0], "SystemExit")],
)
def test_a_function_that_wants_to_end_the_process(
    app: App, node: Program, name: str, args: list[int], kind: str
) -> None:
    before = node.children()
    error = failure_of(app, name, *args)
    assert (error.failure.code, error.failure.type) == (Code.RAISED, kind)
    assert app.call("later", 1).result(PATIENCE) == 2
    assert node.children() == before


@pytest.mark.parametrize("name", ["die", "segfault"])
def test_a_function_that_kills_its_process(mesh: Mesh, name: str) -> None:
    """It ends as poison instead of killing for ever, and the node's supervisor starts the process again."""
    node = mesh.node("victim", "--threads", "1")
    app = mesh.app()
    killer = app.declare(name, getattr(served, name), max_losses=1)
    with pytest.raises(TaskPoisoned, match="died") as caught:
        killer.call().result(PATIENCE)
    assert caught.value.failure.code is Code.POISON
    node.line("it is started again", "err")
    assert app.call("add", 1).result(PATIENCE) == 6
    with pytest.raises(TaskUnknown):
        killer.options(at_most_once=True).call().result(PATIENCE)
    assert app.call("add", 1).result(PATIENCE) == 6


def test_a_task_whose_process_is_killed_is_sent_again(mesh: Mesh, tmp_path: Path) -> None:
    mesh.node("victim", "--threads", "1")
    app = mesh.app()
    assert app.declare("kill_once", served.kill_once).call(tmp_path / "once").result(PATIENCE) == 2


# ---------------------------------------------------------------------- no node, other nodes


def test_no_node_at_all(mesh: Mesh) -> None:
    result = mesh.app().call("add", 1)
    assert result.why() == f"no node of mesh '{mesh.name}' has been found"


def test_a_peer_that_is_not_there(mesh: Mesh) -> None:
    port = closed_port()
    app = mesh.app(peers=[f"tcp://127.0.0.1:{port}"], discovery=[])
    result = app.call("add", 1)
    why = wait_until(lambda: (text := result.why()).startswith("no node has answered") and text, "why")
    assert f"127.0.0.1:{port}" in why


def test_a_node_of_another_mesh(shared: Mesh, node: Program) -> None:
    address = shared.address(node)
    other = shared.app(mesh="elsewhere", peers=[address])
    result = other.call("add", 1)
    why = wait_until(lambda: "belongs" in (text := result.why()) and text, "the refusal")
    assert f"one belongs to mesh '{shared.name}', not 'elsewhere'" in why
    assert [peer.state.partition(":")[0] for peer in other.peers()] == ["refused us"]
    assert shared.app().call("add", 1).result(PATIENCE) == 6


def test_a_node_whose_function_differs(app: App, shared: Mesh) -> None:
    def add(a: int, b: str) -> int: ...

    other = shared.app()
    other.call("later", 1).result(PATIENCE)
    result = other.declare("add", add).call(1, "b")
    why = result.why()
    assert '1 of 1 node has "add"' in why
    assert "one has add(a: int, b: int = 5) -> int" in why
    assert result.cancel()


def test_a_differing_node_does_not_keep_others_from_it(mesh: Mesh, tmp_path: Path, gate: Gate) -> None:
    file = tmp_path / "other.py"
    file.write_text(
        SERVED.read_text().replace("def add(a: int, b: int = 5)", "def add(a: int, b: int = 5, c: int = 0)")
    )
    mesh.node("different", target=file)
    mesh.node("same")
    app = mesh.app()
    add = app.declare("add", served.add)
    wait_until(lambda: [p.state for p in app.peers()] == ["ready"] * 2, "both nodes")
    results = [add.call(n) for n in range(50)]
    assert [result.result(PATIENCE) for result in results] == [n + 5 for n in range(50)]
    assert {result.node for result in results} == {"same"}
