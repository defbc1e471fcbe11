"""What people read, word for word, where no process is needed for it."""

from __future__ import annotations

import threading

import pytest
from click.testing import CliRunner

from dingo_zmq import App
from dingo_zmq.cli.call import _text
from dingo_zmq.cli.common import complain
from dingo_zmq.cli.peers import notes, table
from dingo_zmq.mesh.info import PeerInfo, shared_slots
from tests.support import PATIENCE, Gate, Mesh, wait_until


def peer(name: str, **changes: object) -> PeerInfo:
    """Return a node that is ready, but for the changes."""
    told: dict[str, object] = {
        "name": name,
        "node": f"id-{name}",
        "address": f"tcp://10.0.0.{len(name)}:47100",
        "state": "ready",
        "functions": {"scan": "()", "add": "()", "status": "()"},
        "slots": 4,
        "running": 3,
        "queued": 12,
        "done": 99,
        "pulse_age": 0.44,
        "round_trip": 0.0012,
        "version": 1,
        "sources": ("directory", "zeroconf"),
        "tags": ("fast", "psu"),
        "function_slots": {"scan": 1, "add": 4, "status": 4},
    }
    return PeerInfo(**{**told, **changes})  # type: ignore[arg-type]


def locked(name: str, **changes: object) -> PeerInfo:
    """Return a node that has said nothing."""
    nothing: dict[str, object] = {
        "node": "",
        "state": "locked out",
        "functions": {},
        "slots": 0,
        "function_slots": {},
        "running": None,
        "queued": None,
        "done": None,
        "pulse_age": None,
        "round_trip": None,
        "version": 0,
        "tags": (),
        "cause": "it has another key",
    }
    return peer(name, **{**nothing, **changes})


def cells(capsys: pytest.CaptureFixture[str], *found: PeerInfo) -> list[list[str]]:
    """Return the rows of the table, the titles first."""
    table(list(found))
    lines = [line for line in capsys.readouterr().out.splitlines() if line[0] in "┃│"]
    return [[cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")] for line in lines]


# ---------------------------------------------------------------------- the table


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cells(capsys, peer("bench-3"), locked("bench-7"), peer("a", tags=(), sources=("static",))) == [
        ["name", "address", "state", "found by", "tags", "functions", "workers", "running", "queued"]
        + ["round trip", "pulse"],
        ["a", "tcp://10.0.0.1:47100", "ready", "static", "", "add, scan (1), status", "4", "3", "12"]
        + ["1.2 ms", "0.4 s ago"],
        ["bench-3", "tcp://10.0.0.7:47100", "ready", "directory, zeroconf", "fast, psu", "add, scan (1), status"]
        + ["4", "3", "12", "1.2 ms", "0.4 s ago"],
        ["bench-7", "tcp://10.0.0.7:47100", "locked out", "directory, zeroconf", "", "", "-", "-", "-", "-", "-"],
    ]


def test_another_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    titles, *rows = cells(capsys, peer("a"), peer("b", version=2), locked("c"))
    assert titles[-1] == "version"
    assert [row[-1] for row in rows if row[0]] == ["1", "2", "-"]


def test_a_narrow_terminal_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    table([peer("bench-3"), locked("bench-7", sources=()), peer("c", version=2, tags=(), functions={})], 80)
    assert capsys.readouterr().out.splitlines() == [
        "bench-3 at tcp://10.0.0.7:47100: ready, found by directory, zeroconf",
        "  tags fast, psu; functions add, scan (1), status",
        "  workers 4, running 3, queued 12, round trip 1.2 ms, pulse 0.4 s ago, version 1",
        "bench-7 at tcp://10.0.0.7:47100: locked out, found by nobody",
        "c at tcp://10.0.0.1:47100: ready, found by directory, zeroconf",
        "  workers 4, running 3, queued 12, round trip 1.2 ms, pulse 0.4 s ago, version 2",
    ]


def test_what_a_node_says_moves_no_cursor_and_marks_nothing_up(capsys: pytest.CaptureFixture[str]) -> None:
    bad = peer("[red]x\x1b[2J", tags=("a\nb",), functions={"f\r": "()"}, function_slots={"f\r": 4})
    _, row = cells(capsys, bad)
    assert (row[0], row[4], row[5]) == (r"[red]x\x1b[2J", r"a\nb", r"f\r")


@pytest.mark.parametrize(
    ("slots", "shared"),
    [([], 0), ([8, 8], 8), ([8, 64], 8), ([64], 64), ([1, 8, 8], 8), ([1, 8], 1), ([64, 64, 8], 64)],
)
def test_the_workers_of_a_node(slots: list[int], shared: int) -> None:
    assert shared_slots(slots) == shared


# ---------------------------------------------------------------------- the lines below it


def test_notes() -> None:
    refused = "refused us: bench-9 belongs to mesh 'other', not 'lab'"
    found = [
        peer("bench-3"),
        peer("bench-9", state=refused),
        locked("bench-7"),
        locked("bench-55", cause=""),
        locked("x\x1by", cause="it does not accept our key"),
    ]
    assert notes(found, {"test": 2, "lab\x07": 1}) == [
        "bench-55 at tcp://10.0.0.8:47100: locked out",
        "bench-7 at tcp://10.0.0.7:47100: locked out, it has another key",
        f"bench-9 at tcp://10.0.0.7:47100: {refused}",
        r"x\x1by at tcp://10.0.0.3:47100: locked out, it does not accept our key",
        r'1 node is here too, of mesh "lab\x07"',
        '2 nodes are here too, of mesh "test"',
    ]


def test_nothing_to_note() -> None:
    assert notes([peer("bench-3")], {}) == []


# ---------------------------------------------------------------------- errors and values


@pytest.mark.parametrize(
    ("message", "hint", "cause", "lines"),
    [
        ("it broke", "", "", ["error: it broke"]),
        ("it broke; hint: mend it", "", "", ["error: it broke", "hint: mend it"]),
        ("it broke", "mend it", "age", ["error: it broke", "cause: age", "hint: mend it"]),
        ("a\x1b[1m\x9b\u202e", "", "", [r"error: a\x1b[1m\x9b\u202e"]),
        ("a\nerror: b", "", "", ["error: a", "  error: b"]),
        ("a\nb\nc\nd\ne", "", "", ["error: a", "  b", "  c", "  d", "  e"]),
        (
            "a\nb\nc\nd\ne",
            "h\ni",
            "c",
            ["error: a", "  b", "... 3 more lines; dingo-zmq -v shows all of it", "cause: c", r"hint: h\ni"],
        ),
    ],
)
def test_errors(capsys: pytest.CaptureFixture[str], message: str, hint: str, cause: str, lines: list[str]) -> None:
    complain(message, hint, cause=cause)
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize(
    ("value", "as_json", "terminal", "text"),
    [
        ("a\x1b[1m\n\tb", False, True, "a\\x1b[1m\n\tb"),
        ("a\x1b[1m\n\tb", False, False, "a\x1b[1m\n\tb"),
        ("a\x1b[1m", True, True, '"a\\u001b[1m"'),
        (["\x1b"], False, True, r"['\x1b']"),
        ("grün", False, True, "grün"),
    ],
)
def test_values(value: object, as_json: bool, terminal: bool, text: str) -> None:
    assert _text(value, as_json, terminal=terminal) == text


# ---------------------------------------------------------------------- an App in a few words


def test_an_app_that_has_not_started_or_is_closed() -> None:
    app = App("mesh", mesh="lab")
    assert repr(app) == "<App mesh, 0 functions, not started>"
    app.close()
    assert repr(app) == "<App mesh, 0 functions, closed>"


def test_a_local_app(gate: Gate) -> None:
    from tests.served import wait_at

    with App("local", threads=2) as app:
        app.register("wait_at", wait_at.__wrapped__)  # type: ignore[arg-type]
        results = [app.call("wait_at", gate.port) for _ in range(5)]
        for _ in range(2):
            gate.next()
        assert repr(app) == "<App local: 2 workers, 2 running, 3 queued>"
        assert results[4].cancel()
        assert repr(app) == "<App local: 2 workers, 2 running, 2 queued>"
        assert app.waiting() == []
        gate.open()
        for result in results[:4]:
            result.result(PATIENCE)


def test_a_mesh_app(mesh: Mesh, gate: Gate) -> None:
    app = mesh.app()
    app.engine()
    assert repr(app) == f'<App mesh "{mesh.name}": 0 nodes, 0 workers, 0 running, 0 queued>'
    mesh.node("one", "--threads", "3")
    mesh.node("two", "--threads", "1")
    head = f'<App mesh "{mesh.name}": 2 nodes, 4 workers, '
    wait_until(lambda: repr(app) == f"{head}0 running, 0 queued>", "both nodes")
    results = [app.options(monitor_progress=True).call("wait_at", gate.port) for _ in range(6)]
    for _ in range(4):
        gate.next()
    wait_until(lambda: repr(app) == f"{head}4 running, 2 queued>", "4 that run")
    gate.open()
    for result in results:
        result.result(PATIENCE)
    assert repr(app) == f"{head}0 running, 0 queued>"


def test_an_app_whose_io_thread_is_busy(mesh: Mesh) -> None:
    app = mesh.app()
    busy, go = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        go.wait(PATIENCE)

    app.engine().reactor.call(work)
    assert busy.wait(PATIENCE)
    assert repr(app) == f'<App mesh "{mesh.name}": its I/O thread is busy>'
    go.set()


def test_what_waits_for_lack_of_a_node(mesh: Mesh) -> None:
    app = mesh.app()
    for name in ("scan", "scan", "add"):
        app.call(name)
    assert app.waiting() == [
        f"2 tasks of \"scan\" wait: no node of mesh '{mesh.name}' has been found",
        f"1 task of \"add\" waits: no node of mesh '{mesh.name}' has been found",
    ]
    with pytest.raises(TimeoutError, match="no node of mesh"):
        app.call("scan").result(0)


def test_help_tells_of_each_option() -> None:
    from dingo_zmq.cli import main

    text = CliRunner().invoke(main, ["call", "--help"]).output
    for option in ("--node", "--need", "--timeout", "--json", "--at-most-once"):
        assert option in text
