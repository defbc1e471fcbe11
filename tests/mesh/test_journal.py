"""Callers with a journal: they die at any moment, and the next life goes on with what was open."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from dingo_zmq import App, Result
from dingo_zmq.errors import Busy, Closed, JournalError, TaskExpired, TaskShutdown, TaskUnknown, UsageError
from dingo_zmq.journal import Call, JournalFile
from dingo_zmq.mesh.reactor import Reactor
from dingo_zmq.protocol import roster
from tests import marshalled, served
from tests.support import PATIENCE, Gate, Mesh, Program, file_that_dies, wait_until

CALLER = """
import sys, threading
from dingo_zmq import App
from tests import served

app = App("mesh", journal=sys.argv[1])
for name in ("wait_at", "mark"):
    app.register(name, getattr(served, name).__wrapped__)
results = [
    app.options(at_most_once=word.startswith("once")).call("wait_at", int(sys.argv[2]), word)
    for word in sys.argv[3:]
]
print("called", flush=True)
for result in results:
    print("got", result.result(), flush=True)
threading.Event().wait()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


def opened(mesh: Mesh, path: Path, **settings: object) -> App:
    """Return a caller with this journal that knows the functions of the nodes."""
    app = mesh.app(journal=path, **settings)
    for name in ("wait_at", "add", "echo", "mark"):
        app.register(name, getattr(served, name).__wrapped__)
    return app


def caller(mesh: Mesh, path: Path, gate: Gate, *words: str) -> Program:
    """Start a program that calls `wait_at` with each word, and has them recorded."""
    program = mesh.script(CALLER, str(path), str(gate.port), *words)
    program.line("called")
    return program


def killed(program: Program) -> None:
    program.signal(signal.SIGKILL)
    program.wait()


def fill_disk(app: App) -> Callable[[], object]:
    """Have nothing more fit into a journal; return what makes room again."""
    journal = app.engine().journal
    assert journal is not None
    db = journal._file._db
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    return lambda: db.execute("PRAGMA max_page_count = 1000000")


def told(results: list[Result[object]]) -> list[object]:
    return [result.result(PATIENCE) for result in results]


# ---------------------------------------------------------------------- lives


def test_the_next_life_gets_what_runs_and_what_waits(mesh: Mesh, path: Path, gate: Gate) -> None:
    mesh.node("one", "--threads", "2")
    program = caller(mesh, path, gate, "a", "b", "c", "once")
    first = [gate.next(), gate.next()]
    killed(program)
    app = opened(mesh, path)
    results = app.recover()
    assert [(result.name, result.id) for result in results] == [("wait_at", f"1-{n}") for n in range(1, 5)]
    for visitor in first:
        visitor.go()
    rest = [gate.next(), gate.next()]
    for visitor in rest:
        visitor.go()
    assert told(results) == ["a", "b", "c", "once"]
    assert sorted(visitor.word for visitor in first + rest) == ["a", "b", "c", "once"]  # each ran once
    assert [result.attempt for result in results[:2]] == [1, 1]
    assert app.recover() == []


def test_the_next_life_gets_answers_that_came_while_nobody_was_there(mesh: Mesh, path: Path, gate: Gate) -> None:
    mesh.node("one", "--threads", "2")
    program = caller(mesh, path, gate, "a", "once")
    visitors = [gate.next(), gate.next()]
    killed(program)
    for visitor in visitors:
        visitor.go()
    watcher = mesh.app()  # what is done is done
    assert watcher.call("add", 1).result(PATIENCE) == 6
    assert told(opened(mesh, path).recover()) == ["a", "once"]
    assert gate.nobody()


def test_a_task_moves_on_where_its_node_died_with_the_caller(mesh: Mesh, path: Path, gate: Gate) -> None:
    node = mesh.node("one", "--threads", "2")
    program = caller(mesh, path, gate, "a", "once")
    gate.next(), gate.next()
    killed(program)
    (process,) = node.children()
    node.signal(signal.SIGKILL)
    node.wait()
    wait_until(lambda: not Path(f"/proc/{process}").exists(), "the node's process ends with its supervisor")
    mesh.node("two", "--threads", "2")
    app = opened(mesh, path)
    ordinary, once = app.recover()
    visitor = gate.next()
    assert (visitor.word, visitor.attempt) == ("a", 2)
    visitor.go()
    assert ordinary.result(PATIENCE) == "a"
    with pytest.raises(TaskUnknown):
        once.result(PATIENCE)
    app.close()
    ran = mesh.invoke("dead", "list", str(path))
    assert "UNKNOWN" in ran.out
    assert "1 dead letter" in ran.out
    number = ran.out.split()[0]
    shown = mesh.invoke("dead", "show", str(path), number)
    assert '"at_most_once": true' in shown.out
    assert [one["node"] for one in json.loads(shown.out)["failure"]["history"]] == ["one"]
    assert f"{gate.port}, 'once'" in shown.out
    queued = mesh.invoke("dead", "requeue", str(path), number)
    assert (queued.code, queued.out.partition(" of ")[0]) == (0, "1 task")
    what = f"task {number} (wait_at {once.id})"
    assert queued.err == f"warning: {what} is at-most-once, may have run, and will run again\n"
    (again,) = opened(mesh, path).recover()
    gate.next().go()
    assert again.result(PATIENCE) == "once"


def test_a_result_is_there_until_the_program_lets_go_of_it(mesh: Mesh, path: Path) -> None:
    mesh.node("one")
    app = opened(mesh, path)
    kept, left = app.call("add", 1, 2), app.call("add", 3, 4)
    assert told([kept, left]) == [3, 7]
    del left
    app.close(wait=False)
    app = opened(mesh, path)
    (result,) = app.recover()
    assert result.done()
    assert (result.id, result.result(), result.node, result.attempt) == (kept.id, 3, "one", 1)
    del result
    app.close(wait=False)
    assert opened(mesh, path).recover() == []


def test_what_is_open_when_the_app_is_closed_goes_on(
    mesh: Mesh, path: Path, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    mesh.node("one")
    app = opened(mesh, path)
    result = app.call("wait_at", gate.port, "a")
    visitor = gate.next()
    app.close(wait=False)
    assert f"1 task left to the next App with journal {path}, see recover()" in caplog.text
    with pytest.raises(TaskShutdown):
        result.result(PATIENCE)
    del result
    visitor.go()
    assert told(opened(mesh, path).recover()) == ["a"]
    assert gate.nobody()


def test_a_clean_end_leaves_nothing(mesh: Mesh, path: Path) -> None:
    mesh.node("one")
    with opened(mesh, path) as app:
        results = [app.call("add", n) for n in range(10)]
    assert told(results) == [n + 5 for n in range(10)]
    assert opened(mesh, path).recover() == []


def test_a_clean_end_leaves_what_the_program_never_asked_for(mesh: Mesh, path: Path) -> None:
    mesh.node("one")
    app = opened(mesh, path)
    kept = app.call("add", 1, 2)
    assert kept.result(PATIENCE) == 3
    app.close(wait=False)
    with opened(mesh, path) as app:
        assert app.call("add", 3, 4).result(PATIENCE) == 7
    with opened(mesh, path) as app:
        assert told(app.recover()) == [3]
    assert opened(mesh, path).recover() == []


def test_several_lives_with_nobody_there(mesh: Mesh, path: Path, gate: Gate) -> None:
    mesh.node("one")
    program = caller(mesh, path, gate, "a")
    visitor = gate.next()
    killed(program)
    for life in range(2, 5):
        program = caller(mesh, path, gate, f"life {life}")
        killed(program)
    visitor.go()
    results = opened(mesh, path).recover()
    for _ in range(3):
        gate.next().go()
    assert told(results) == ["a", "life 2", "life 3", "life 4"]


def test_terms_hold_over_lives(mesh: Mesh, path: Path) -> None:
    app = opened(mesh, path)
    waits = app.options(expires=3600.0).call("add", 1)
    expires = app.options(expires=0.05).call("add", 2)
    ignored = app.options(ignore_report=True).call("add", 3)
    late = app.options(delay=0.2).call("add", 4)
    assert ignored.result() is None
    with pytest.raises(TaskExpired):
        expires.result(PATIENCE)
    app.close(wait=False)
    del waits, late, expires
    mesh.node("one")
    first, second, third = opened(mesh, path).recover()
    assert told([first, third]) == [6, 9]
    with pytest.raises(TaskExpired):  # the end of its result was not recorded any more
        second.result(0)


def test_a_task_written_anew_was_called_when_it_was_called(mesh: Mesh, path: Path) -> None:
    """Its delay and its expiry do not begin anew where nodes read another marshaller."""
    app = mesh.app(journal=path)
    result = app.options(expires=3600.0).call("as_json", [])
    (before,) = calls_in(path)
    mesh.node("one", target=marshalled.__file__)
    wait_until(lambda: calls_in(path)[0].fingerprint != before.fingerprint, "it is written anew")
    (after,) = calls_in(path)
    assert abs(after.called - before.called) < 0.1
    result.wait(PATIENCE)


def calls_in(path: Path) -> list[Call]:
    """Return the tasks that are in a journal, as they were called; also while it is open."""
    file = JournalFile(path, read_only=True)
    try:
        return list(file._rows(Call, "calls"))
    finally:
        file.close()


def test_what_is_only_known_by_name_comes_back(mesh: Mesh, path: Path) -> None:
    app = mesh.app(journal=path)
    result = app.call("add", 20, 22)
    app.close(wait=False)
    del result
    mesh.node("one")
    (result,) = mesh.app(journal=path).recover()
    assert result.result(PATIENCE) == 42


def test_map_records_many_at_once(mesh: Mesh, path: Path) -> None:
    mesh.node("one")
    app = opened(mesh, path)
    assert list(app.map("add", range(1000), range(1000), ahead=100)) == [2 * n for n in range(1000)]
    assert sorted(app.map("add", range(300), range(300), ahead=3, ordered=False)) == [2 * n for n in range(300)]
    values = app.map("add", [1, app.call("add", 1, 1), 3], [1, 1, 1])
    assert list(values) == [2, 3, 4]


def test_map_leaves_no_task_of_which_nobody_hears(mesh: Mesh, path: Path) -> None:
    """A later call of the same step raises: nobody gets the results of those before it."""
    app = opened(mesh, path, max_open=5, full="raise")
    held = [app.call("add", 1) for _ in range(3)]
    with pytest.raises(Busy):
        list(app.map("add", range(100), range(100)))
    wait_until(lambda: len(app.ledger().tasks) == len(held), "only what is held is open")
    ledger = app.ledger()
    assert (ledger.called, ledger.open) == (5, 3)
    assert ledger.cancelled == 2
    with pytest.raises(Busy):
        list(app.map("add", range(100), range(100)))


def test_a_start_that_fails_leaves_the_journal_free(
    mesh: Mesh, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object) -> None:
        raise RuntimeError("no thread")

    with monkeypatch.context() as patched:
        patched.setattr(Reactor, "start", fails)
        with pytest.raises(RuntimeError, match="no thread"):
            opened(mesh, path).recover()
    assert opened(mesh, path).recover() == []


def test_an_app_whose_loop_died_leaves_the_journal_free(mesh: Mesh, path: Path) -> None:
    app = opened(mesh, path)
    result = app.call("add", 1)
    reactor = app.engine().reactor

    def dies() -> None:
        raise RuntimeError("on purpose")

    reactor.call(dies)
    assert reactor.has_ended(PATIENCE)
    with pytest.raises(TaskShutdown):
        result.result(PATIENCE)
    app.close()
    (again,) = opened(mesh, path).recover()
    assert not again.done()


def test_map_goes_on_at_the_bound_of_open_tasks(mesh: Mesh, path: Path) -> None:
    mesh.node("one")
    app = opened(mesh, path, max_open=7)
    assert list(app.map("add", range(200), range(200))) == [2 * n for n in range(200)]


def test_large_arguments_and_returns_come_back(mesh: Mesh, path: Path) -> None:
    data = os.urandom(300_000)
    app = mesh.app(journal=path)
    app.register("reverse", served.reverse.__wrapped__)
    app.call("reverse", data)
    app.close(wait=False)
    mesh.node("one")
    for _ in range(2):  # once from the node, once from the journal
        app = mesh.app(journal=path)
        app.register("reverse", served.reverse.__wrapped__)
        (result,) = app.recover()
        assert result.result(PATIENCE) == data[::-1]
        app.close(wait=False)


def test_a_journal_is_where_it_was_named(mesh: Mesh, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that changes its folder before the first call does not leave its journal elsewhere."""
    mesh.node("one")
    monkeypatch.chdir(path.parent)
    app = mesh.app(journal=path.name)
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert app.call("add", 20, 22).result(PATIENCE) == 42
    assert path.is_file()
    with pytest.raises(UsageError, match="not an empty one"):
        App("mesh", journal="")
    with pytest.raises(UsageError, match=r"limit may be 900,000,000 bytes at most .* not 1,000,000,000"):
        mesh.app(journal="other.db", limit=10**9).call("add", 1)


def test_streams_are_not_recorded(mesh: Mesh, path: Path) -> None:
    mesh.node("one")
    app = opened(mesh, path)
    assert list(app.stream("count", 5)) == [0, 1, 2, 3, 4]
    stream = app.stream("count", 10**9)
    assert next(stream) == 0
    app.close(wait=False)
    assert opened(mesh, path).recover() == []


# ---------------------------------------------------------------------- what must not be


def test_a_second_program_is_refused(mesh: Mesh, path: Path, gate: Gate) -> None:
    mesh.node("one")
    program = caller(mesh, path, gate, "a")
    app = opened(mesh, path)
    with pytest.raises(JournalError, match=rf"in use by process {program.pid}; hint: one program at a time"):
        app.call("add", 1)
    with pytest.raises(JournalError, match="in use"):
        app.recover()
    killed(program)
    (result,) = app.recover()
    gate.next().go()
    assert result.result(PATIENCE) == "a"


def test_an_old_life_that_wakes_up_is_fenced_off(mesh: Mesh, path: Path, gate: Gate, tmp_path: Path) -> None:
    """As where a machine was copied with its disk, and both copies run."""
    mesh.node("one", "--threads", "3")
    program = caller(mesh, path, gate, "a", "once")
    visitors = [gate.next(), gate.next()]
    program.signal(signal.SIGSTOP)
    other = tmp_path / "copy"
    other.mkdir()
    for name in path.parent.glob(f"{path.name}*"):
        if name.is_file() and not name.name.endswith(("-lock", "-shm")):
            shutil.copy(name, other / name.name)
    results = opened(mesh, other / path.name).recover()
    app = mesh.apps[-1]
    assert app.call("add", 1).result(PATIENCE) == 6
    program.signal(signal.SIGCONT)
    line = program.line("fenced off")
    assert "another program has opened the journal of this caller since" in line
    assert program.wait() == 1
    for visitor in visitors:
        visitor.go()
    assert told(results) == ["a", "once"]
    assert gate.nobody()


def test_an_old_life_calls_no_more(mesh: Mesh, path: Path) -> None:
    mesh.node("one")
    app = opened(mesh, path)
    assert app.call("add", 1).result(PATIENCE) == 6
    path.with_name(f"{path.name}-lock").unlink()  # as where the file is shared by machines without locks
    other = opened(mesh, path)
    assert other.call("add", 2).result(PATIENCE) == 7
    with pytest.raises((JournalError, Closed), match="another program has opened|closed"):
        app.call("add", 3)
    wait_until(lambda: "fenced off" in app.engine().calls.unusable, "it is told")
    with pytest.raises(Closed, match="fenced off"):
        app.call("add", 3)


@pytest.mark.parametrize("mode", ["local", "remote"])
def test_only_the_mesh_has_a_journal(mode: str, path: Path) -> None:
    with pytest.raises(UsageError, match=rf'this App is in {mode} mode; hint: App\("mesh"\)'):
        App(mode, journal=path)
    assert not path.exists()


def test_recover_without_a_journal(mesh: Mesh) -> None:
    with pytest.raises(UsageError, match=r'has no journal; hint: App\("mesh", journal="tasks.db"\)'):
        mesh.app().recover()


def test_a_damaged_journal_is_refused(mesh: Mesh, path: Path) -> None:
    path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(JournalError, match=f"journal {path}: it is damaged"):
        mesh.app(journal=path).recover()


def test_a_full_disk_turns_calls_away(mesh: Mesh, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, for a disk of its own")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
    try:
        mesh.node("one")
        app = mesh.app(journal=disk / "tasks.db")
        earlier = [app.call("echo", "early") for _ in range(5)]
        assert told(earlier) == ["early"] * 5
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with pytest.raises(JournalError, match="full; nothing was sent"):
            for _ in range(1000):
                earlier.append(app.call("echo", "late" * 1000))
        filler.unlink()
        assert app.call("echo", "again").result(PATIENCE) == "again"
        assert all(result.wait(PATIENCE).ok for result in earlier)
        app.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_what_a_full_disk_keeps_from_being_recorded_is_left_to_the_next_life(
    mesh: Mesh, path: Path, gate: Gate
) -> None:
    """Its end is here and cannot be recorded: nobody is told of it, `close` ends, and the node keeps it."""
    mesh.node("one")
    app, word = opened(mesh, path), "word" * 20_000
    result = app.call("wait_at", gate.port, word)
    visitor = gate.next()
    fill_disk(app)
    visitor.go()
    why = "it is done, and its end is being recorded; the journal cannot be written: database or disk is full"
    wait_until(lambda: result.why() == why, why)
    assert not result.done()
    app.close(timeout=0.1)
    with pytest.raises(TaskShutdown, match="before its end was recorded"):
        result.result(0)
    assert str(app.ledger()) == "called 1 = 0 ok + 1 failed + 0 cancelled + 0 expired + 0 open"
    (again,) = opened(mesh, path).recover()
    assert again.result(PATIENCE) == word
    assert gate.nobody()


def test_nodes_are_kept_while_a_journal_cannot_be_written(
    mesh: Mesh, path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for the disk must not keep back what tells nodes that their caller lives, nor them from it."""
    monkeypatch.setattr(roster, "BUSY_SECONDS", 2.0)
    mesh.node("one", "--threads", "2")
    app, word = opened(mesh, path), "word" * 20_000
    first = app.options(at_most_once=True).call("wait_at", gate.port, word)
    second = app.call("wait_at", gate.port, word)
    visitors = [gate.next(), gate.next()]
    room = fill_disk(app)
    visitors.pop().go()
    wait_until(lambda: "the journal" in first.why() + second.why(), "the journal is named")
    (peer,) = app.engine().caller.decider.peers.values()
    number = peer.number
    wait_until(lambda: peer.number > number + 3, "BEATs")
    assert peer.state(monotonic()) == "ready"
    room()
    visitors.pop().go()
    assert first.result(PATIENCE) == word
    assert second.result(PATIENCE) == word
    assert app.call("add", 1).result(PATIENCE) == 6


def test_dead_letters_that_are_not_there(mesh: Mesh, path: Path) -> None:
    missing = mesh.invoke("dead", "list", str(path))
    assert (missing.code, missing.err.splitlines()[0]) == (2, f"error: journal {path}: there is no such file")
    app = opened(mesh, path)
    assert app.recover() == []
    assert mesh.invoke("dead", "list", str(path)).out == f"0 dead letters in {path}\n"
    for words, code, said in (
        (["show", str(path), "7"], 3, "there is no dead letter 7"),
        (["requeue", str(path), "--all"], 2, "in use by process"),
        (["requeue", str(path)], 2, "--all"),
    ):
        ran = mesh.invoke("dead", *words)
        assert ran.code == code
        assert said in ran.err
    app.close()
    ran = mesh.invoke("dead", "requeue", str(path), "7")
    assert (ran.code, ran.err.splitlines()[0]) == (3, f"error: journal {path}: there is no dead letter 7")


def test_a_task_that_was_at_most_once_for_its_node_alone(mesh: Mesh, path: Path, tmp_path: Path) -> None:
    mesh.node("victim", target=file_that_dies(tmp_path))
    app = opened(mesh, path)
    with pytest.raises(TaskUnknown):
        app.call("die").result(PATIENCE)
    app.close()
    queued = mesh.invoke("dead", "requeue", str(path), "--all")
    assert re.fullmatch(r"warning: task 1 \(die \S+\) is at-most-once, .*\n", queued.err)


def test_an_expired_task_is_a_dead_letter(mesh: Mesh, path: Path) -> None:
    app = opened(mesh, path)
    with pytest.raises(TaskExpired):
        app.options(expires=0.05, at_most_once=True).call("add", 1, 2).result(PATIENCE)
    app.close()
    ran = mesh.invoke("dead", "list", str(path), "--json")
    assert '"code": "EXPIRED"' in ran.out
    assert '"arguments": "1, 2"' in ran.out
    queued = mesh.invoke("dead", "requeue", str(path), "--all")
    assert (queued.out.partition(" of ")[0], queued.err) == ("1 task", "")
    assert mesh.invoke("dead", "list", str(path)).out.startswith("0 dead letters")


def test_the_ledger_balances_over_lives(mesh: Mesh, path: Path, gate: Gate) -> None:
    mesh.node("one", "--threads", "2")
    program = caller(mesh, path, gate, "a", "b", "c")
    visitors = [gate.next(), gate.next()]
    killed(program)
    app = opened(mesh, path)
    results = app.recover()
    ledger = app.ledger()
    assert (ledger.called, ledger.open) == (3, 3)
    held = {(task.id, task.holder, task.attempt) for task in ledger.tasks}
    assert held >= {("1-1", "one", 1), ("1-2", "one", 1)}
    for visitor in visitors:
        visitor.go()
    assert app.call("add", 1).result(PATIENCE) == 6
    gate.next().go()
    told(results)
    assert str(app.ledger()) == "called 4 = 4 ok + 0 failed + 0 cancelled + 0 expired + 0 open"
