"""The journal: what was written is there again, and what is damaged is not taken for it."""

from __future__ import annotations

import random
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from dingo_zmq.errors import JournalError
from dingo_zmq.journal import Batch, Call, Dead, End, Hold, Journal, JournalFile
from dingo_zmq.journal import file as files
from dingo_zmq.model import Code, Failure, Options, Retries, Status

PATIENCE = 20.0


def caller() -> str:
    return "me"


def call(record: int, body: bytes = b"arguments", **options: object) -> Call:
    return Call(record, "add", f"id-{record}", 1000.0 + record, "abc", 0, Options(**options), body)  # type: ignore[arg-type]


def end(record: int, *, dead: bool = False, **fields: object) -> End:
    return End(record, 2000.0, int(Status.SUCCESS), "n1", 1, b"answer", dead=dead, **fields)  # type: ignore[arg-type]


def batch(
    calls: list[Call] | None = None,
    holds: list[Hold] | None = None,
    ends: list[End] | None = None,
    gone: list[int] | None = None,
) -> Batch:
    return Batch(
        {c.record: c for c in calls or ()},
        {h.record: h for h in holds or ()},
        {e.record: e for e in ends or ()},
        dict.fromkeys(gone or ()),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
def file(path: Path) -> Iterator[JournalFile]:
    opened = JournalFile(path, caller)
    opened.begin_life()
    yield opened
    opened.close()


def again(path: Path, where: Path) -> JournalFile:
    """Open a copy of the files as they are now: what a crash leaves behind."""
    where.mkdir()
    for name in path.parent.glob(f"{path.name}*"):
        if name.is_file() and not name.name.endswith(("-lock", "-shm")):
            shutil.copy(name, where / name.name)
    return JournalFile(where / path.name)


# ---------------------------------------------------------------------- the file


def test_what_was_written_outlives_a_crash(path: Path, file: JournalFile, tmp_path: Path) -> None:
    tried = call(2, needs=("psu",), retries=Retries(3, lost=1, on=("ValueError",)))
    held = Hold(1, b"basetokn", b"incarnat", "n1", 7, attempt=2, losses=1, started=True)
    file.write(batch([call(1), tried, call(3), call(4)], [held, Hold(4, b"basetokn", b"incarnat", "n1", 8)]))
    file.write(batch(ends=[end(3), end(4, dead=True)]))

    crashed = again(path, tmp_path / "crash")
    state = crashed.begin_life()
    assert (state.caller, state.lives, state.last) == ("me", 2, 4)
    assert [(task.call, task.hold, task.end) for task in state.open] == [
        (call(1), held, None),
        (tried, None, None),
        (call(3), None, end(3)),
        (call(4), None, end(4, dead=True)),
    ]
    assert crashed.dead() == [Dead(call(4), end(4, dead=True))]
    crashed.close()


def test_what_the_program_let_go_of_is_gone(path: Path, file: JournalFile, tmp_path: Path) -> None:
    file.write(batch([call(1), call(2)], ends=[end(1)]))
    file.write(batch(gone=[1]))
    crashed = again(path, tmp_path / "crash")
    assert [task.call.record for task in crashed.begin_life().open] == [2]
    crashed.close()


def test_each_life_and_each_task_has_a_number_of_its_own(path: Path) -> None:
    before = 0
    for lives in (1, 2, 3):
        file = JournalFile(path, caller)
        state = file.begin_life()
        assert (state.lives, state.last) == (lives, lives - 1)
        assert state.life > before
        before = state.life
        file.write(batch([call(lives)], gone=[lives - 1]))
        file.close()


def test_of_two_copies_the_one_opened_later_is_the_later_life(
    path: Path, file: JournalFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = again(path, tmp_path / "copy")
    monkeypatch.setattr(files.time, "time", lambda: 2e9)
    latest = old.begin_life().life
    old.close()
    file.close()
    monkeypatch.setattr(files.time, "time", lambda: 2e9 + 1)
    original = JournalFile(path)
    assert original.begin_life().life > latest
    monkeypatch.setattr(files.time, "time", lambda: 1e9)  # a clock that was set back
    original.close()
    original = JournalFile(path)
    assert original.begin_life().life > latest + 1000
    original.close()


def test_only_one_process_has_it(path: Path, file: JournalFile) -> None:
    with pytest.raises(JournalError, match=r"in use by process \d+; hint: one program at a time"):
        JournalFile(path, caller)


def test_it_can_be_looked_at_meanwhile(path: Path, file: JournalFile) -> None:
    file.write(batch([call(1)], ends=[end(1, dead=True)]))
    looked = JournalFile(path, read_only=True)
    assert [letter.call.record for letter in looked.dead()] == [1]
    looked.close()
    file.write(batch([call(2)]))


def test_looking_after_a_crash_does_no_harm(path: Path, file: JournalFile, tmp_path: Path) -> None:
    file.write(batch([call(1)]))
    where = tmp_path / "crash"
    again(path, where).close()
    for name in path.parent.glob(f"{path.name}*"):
        if name.is_file() and not name.name.endswith(("-lock", "-shm")):
            shutil.copy(name, where / name.name)
    JournalFile(where / path.name, read_only=True).close()
    found = JournalFile(where / path.name)
    assert [task.call.record for task in found.begin_life().open] == [1]
    found.close()


def test_an_old_life_writes_no_more(path: Path, file: JournalFile) -> None:
    path.with_name(f"{path.name}-lock").unlink()  # as where the file is shared by machines without locks
    other = JournalFile(path)
    other.begin_life()
    with pytest.raises(JournalError, match="another program has opened it since"):
        file.write(batch([call(1)]))
    other.write(batch([call(2)], ends=[end(2)]))
    file.drop_settled()
    assert [task.call.record for task in other.begin_life().open] == [2]
    other.close()


def test_a_missing_file_is_not_made_where_it_must_be_there(path: Path) -> None:
    with pytest.raises(JournalError, match="there is no such file"):
        JournalFile(path)
    assert not path.exists()


def test_nobody_else_can_read_it(path: Path, file: JournalFile) -> None:
    assert path.stat().st_mode & 0o077 == 0


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"there is no folder .*nowhere; hint: make it first"):
        JournalFile(tmp_path / "nowhere" / "tasks.db", caller)


def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="it is a folder; hint: name a file in it"):
        JournalFile(tmp_path, caller)
    assert list(tmp_path.iterdir()) == []


def test_what_a_link_leads_to_is_one_journal(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "tasks.db")
    file = JournalFile(tmp_path / "link.db", caller)
    with pytest.raises(JournalError, match="in use by process"):
        JournalFile(tmp_path / "tasks.db", caller)
    file.close()
    assert (tmp_path / "tasks.db").is_file()


def test_letters_requeued_are_open_again(path: Path, file: JournalFile) -> None:
    file.write(batch([call(1), call(2)], [Hold(1, b"basetokn")], [end(1, dead=True), end(2, dead=True)]))
    file.requeue([Dead(call(1), end(1, dead=True))])
    file.close()
    opened = JournalFile(path)
    assert [letter.call.record for letter in opened.dead()] == [2]
    opened.begin_life()
    opened.write(batch(gone=[2]))
    opened.close()
    opened = JournalFile(path)
    assert [(task.call.record, task.hold, task.end) for task in opened.begin_life().open] == [(1, None, None)]
    opened.close()


def test_a_letter_is_open_until_the_program_has_let_go_of_it(path: Path, file: JournalFile) -> None:
    letter = end(1, dead=True)
    file.write(batch([call(1), call(2), call(3)], [Hold(3)], ends=[letter, end(2, dead=True)]))
    file.write(batch(gone=[2, 3]))
    file.close()
    opened = JournalFile(path)
    assert [(task.call.record, task.end) for task in opened.begin_life().open] == [(1, letter)]
    opened.drop_settled()
    opened.close()
    opened = JournalFile(path)
    assert opened.begin_life().open == []
    assert [letter.call.record for letter in opened.dead()] == [1, 2]
    opened.close()


def test_only_the_newest_letters_are_kept(file: JournalFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "TRIM_EVERY", 1)
    monkeypatch.setattr(files, "DEAD_MOST", 3)
    for record in range(1, 8):
        file.write(batch([call(record)], ends=[end(record, dead=True)], gone=[record]))
    assert [letter.call.record for letter in file.dead()] == [5, 6, 7]
    monkeypatch.setattr(files, "DEAD_BYTES", 25_000)
    for record in (8, 9, 10):
        file.write(batch([call(record, bytes(10_000))], ends=[end(record, dead=True)], gone=[record]))
    assert [letter.call.record for letter in file.dead()] == [9, 10]


def test_letters_that_the_program_was_not_told_of_are_kept_all(
    path: Path, file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "TRIM_EVERY", 1)
    monkeypatch.setattr(files, "DEAD_MOST", 3)
    monkeypatch.setattr(files, "DEAD_BYTES", 3)
    for record in range(1, 8):
        file.write(batch([call(record)], ends=[end(record, dead=True)]))
    file.close()
    opened = JournalFile(path)
    assert [task.call.record for task in opened.begin_life().open] == [1, 2, 3, 4, 5, 6, 7]
    monkeypatch.setattr(files, "DEAD_BYTES", 1_000_000)
    opened.drop_settled()
    assert [letter.call.record for letter in opened.dead()] == [5, 6, 7]
    opened.close()


# ---------------------------------------------------------------------- damage


def damage(path: Path, at: int, bit: int = 0) -> None:
    with path.open("r+b") as raw:
        raw.seek(at)
        byte = raw.read(1)[0]
        raw.seek(at)
        raw.write(bytes([byte ^ (1 << bit)]))


def test_a_body_that_changed_is_noticed(path: Path, file: JournalFile) -> None:
    file.write(batch([call(1, b"a body that is to be found in the file")]))
    file.close()
    damage(path, path.read_bytes().index(b"that is to be found"))
    opened = JournalFile(path)
    with pytest.raises(JournalError, match=r"damaged: the checksum of task 1 in calls.*hint: keep a copy"):
        opened.begin_life()
    opened.close()


@pytest.mark.parametrize(("name", "value"), [("priority", 1e300), ("delay", -1.0), ("needs", ["a/b"])])
def test_options_that_cannot_be_are_no_task(path: Path, file: JournalFile, name: str, value: object) -> None:
    file.write(batch([call(1)]))
    file.close()
    with closing(sqlite3.connect(path)) as db:
        row = msgspec.msgpack.decode(db.execute("SELECT data FROM calls").fetchone()[0])
        row[6][name] = value
        data = msgspec.msgpack.encode(row)
        db.execute("UPDATE calls SET data = ?, sum = ?", (data, crc32(data)))
        db.commit()
    opened = JournalFile(path)
    with pytest.raises(JournalError, match=f"damaged: task 1 in calls cannot be read: .*{name}"):
        opened.begin_life()
    opened.close()


def test_a_schema_that_is_no_text_is_damage(path: Path, file: JournalFile) -> None:
    """SQLite says which of it is wrong, byte by byte."""
    file.close()
    damage(path, path.read_bytes().index(b"TABLE about"), 7)
    with pytest.raises(JournalError, match="damaged"):
        JournalFile(path)


@pytest.mark.parametrize("content", [b"rubbish " * 1000, b"SQLite format 3\0" + bytes(4000)])
def test_rubbish_is_no_journal(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(JournalError, match="damaged"):
        JournalFile(path, caller)
    assert path.read_bytes() == content


def test_another_database_is_no_journal(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE calls (record)")
    with pytest.raises(JournalError, match="no journal of dingo-zmq; hint: name another file"):
        JournalFile(path, caller)


def test_a_later_version_is_refused(path: Path) -> None:
    JournalFile(path, caller).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(JournalError, match="version 2, and this program knows version 1"):
        JournalFile(path, caller)


def test_a_missing_log_is_noticed(path: Path, file: JournalFile, tmp_path: Path) -> None:
    file.write(batch([call(1)]))
    where = tmp_path / "crash"
    again(path, where).close()
    shutil.copy(path, where / path.name)
    (where / f"{path.name}-open").touch()
    for read_only in (True, False, True):
        with pytest.raises(JournalError, match=r"tasks.db-wal is missing.*hint: put it back"):
            JournalFile(where / path.name, read_only=read_only)
    assert not (where / f"{path.name}-wal").exists()


def crashed(path: Path, where: Path) -> Path:
    """Copy the files as they are now: what a crash leaves behind."""
    where.mkdir()
    for name in ("", "-wal", "-open"):
        shutil.copy(f"{path}{name}", where)
    return where / path.name


def test_a_refused_journal_is_left_as_it_is(path: Path, file: JournalFile, tmp_path: Path) -> None:
    file.write(batch([call(1)]))
    file._db.execute("PRAGMA user_version = 2")
    later = crashed(path, tmp_path / "later")
    file._db.execute(f"PRAGMA user_version = {files.VERSION}")
    file._db.execute("UPDATE calls SET sum = 0")
    damaged = crashed(path, tmp_path / "damaged")
    for where, text in ((later, "it is of version 2"), (damaged, "the checksum of task 1 in calls does not fit")):
        before = {name.name: name.read_bytes() for name in where.parent.iterdir()}
        for _ in range(2):
            with pytest.raises(JournalError, match=text):
                begun(where)
        after = {name.name: name.read_bytes() for name in where.parent.iterdir() if name.name in before}
        assert after == before


def begun(path: Path) -> None:
    file = JournalFile(path)
    try:
        file.begin_life()
    finally:
        file.close()


class Killed(BaseException):
    """In place of SIGKILL."""


class Deadly:
    """A database whose process is killed before it is closed."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.execute = db.execute

    def close(self) -> None:
        raise Killed


def test_an_end_that_is_cut_off_does_no_harm(path: Path, file: JournalFile, tmp_path: Path) -> None:
    file.write(batch([call(1)]))
    db, file._db = file._db, Deadly(file._db)  # type: ignore[assignment]
    with pytest.raises(Killed):
        file.close()
    where = tmp_path / "killed"
    where.mkdir()
    for name in path.parent.glob(f"{path.name}*"):
        shutil.copy(name, where)
    file._db = db
    opened = JournalFile(where / path.name)
    assert [task.call.record for task in opened.begin_life().open] == [1]
    opened.close()


def test_a_reader_at_the_end_does_no_harm(path: Path, file: JournalFile) -> None:
    file.write(batch([call(1)]))
    reader = JournalFile(path, read_only=True)
    rows = reader._db.execute("SELECT * FROM calls")
    assert rows.fetchone()[0] == 1
    file.close()
    rows.close()
    reader.close()
    opened = JournalFile(path)
    assert [task.call.record for task in opened.begin_life().open] == [1]
    opened.close()


class Busy:
    """A database whose log cannot be written into its file until it is closed."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.close = db.close

    def execute(self, statement: str) -> sqlite3.Cursor:
        raise sqlite3.OperationalError("database or disk is full")


def test_a_disk_that_is_full_until_the_last_moment_does_no_harm(path: Path, file: JournalFile) -> None:
    file.write(batch([call(1)]))
    file._db = Busy(file._db)  # type: ignore[assignment]
    file.close()
    assert open_in(path) == [1]


def test_a_link_to_itself_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "loop.db").symlink_to("loop.db")
    with pytest.raises(JournalError, match="leads nowhere|cannot be"):
        JournalFile(tmp_path / "loop.db", caller)


def test_no_bit_that_flips_changes_a_task(path: Path, file: JournalFile, tmp_path: Path) -> None:
    """Whatever is damaged: all that was written is read as it was, or the journal is refused."""
    dice = random.Random(5)
    calls = [call(record, dice.randbytes(dice.choice((10, 300, 9000)))) for record in range(1, 60)]
    file.write(batch(calls, [Hold(record, b"basetokn", number=record) for record in range(1, 30)]))
    file.close()
    image = path.read_bytes()
    refused = 0
    for number in range(120):
        where = tmp_path / f"{number}.db"
        where.write_bytes(image)
        damage(where, dice.randrange(len(image)), dice.randrange(8))
        try:
            opened = JournalFile(where)
            try:
                assert [task.call for task in opened.begin_life().open] == calls
            finally:
                opened.close()
        except JournalError:
            refused += 1
    assert refused > 40


def test_all_that_was_written_is_there_when_the_power_fails(path: Path, file: JournalFile, tmp_path: Path) -> None:
    """The log cut anywhere: what was written before the cut is there, and nothing else is wrong."""
    log = path.with_name(f"{path.name}-wal")
    written = []
    for record in range(1, 30):
        file.write(batch([call(record, bytes(record * 100))]))
        written.append(log.stat().st_size)
    dice = random.Random(6)
    for number in range(40):
        where = tmp_path / f"{number}.db"
        cut = dice.choice(written) + dice.choice((0, 0, 1, -1, 4000, -4000))
        shutil.copy(path, where)
        where.with_name(f"{where.name}-wal").write_bytes(log.read_bytes()[: max(0, cut)])
        least = sum(size <= cut for size in written)
        opened = JournalFile(where, caller)
        records = [task.call.record for task in opened.begin_life().open]
        opened.close()
        assert len(records) >= least
        assert records == list(range(1, len(records) + 1))


# ---------------------------------------------------------------------- the thread that writes


class Said:
    """What a journal says; a line can be waited for."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._news:
            self.lines.append(line)
            self._news.notify_all()

    def line(self, text: str) -> str:
        with self._news:
            assert self._news.wait_for(lambda: any(text in line for line in self.lines), PATIENCE), self.lines
            return next(line for line in self.lines if text in line)


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def journal(path: Path, said: Said) -> Iterator[Journal]:
    file = JournalFile(path, caller)
    file.begin_life()
    opened = Journal(file, said, said)
    yield opened
    opened.close(PATIENCE)


def open_in(path: Path) -> list[int]:
    file = JournalFile(path)
    found = [task.call.record for task in file.begin_life().open]
    file.close()
    return found


def test_a_call_returns_when_it_is_written(path: Path, journal: Journal, tmp_path: Path) -> None:
    journal.record([call(1), call(2)])
    crashed = again(path, tmp_path / "crash")
    assert [task.call.record for task in crashed.begin_life().open] == [1, 2]
    crashed.close()


def test_calls_of_many_threads_are_written(path: Path, journal: Journal) -> None:
    threads = [threading.Thread(target=journal.record, args=([call(n)],)) for n in range(1, 41)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert journal.close(PATIENCE)
    assert open_in(path) == list(range(1, 41))


def test_what_happened_is_told_when_it_is_written(path: Path, journal: Journal) -> None:
    told: list[str] = []
    both = threading.Barrier(2)
    journal.note(calls=[call(1)], then=lambda: told.append("first"))
    journal.note(holds=[Hold(1, b"basetokn", number=4)], then=lambda: (told.append("second"), both.wait(PATIENCE)))
    both.wait(PATIENCE)
    assert told == ["first", "second"]


def test_what_is_let_go_of_leaves_the_file(path: Path, journal: Journal) -> None:
    journal.record([call(1), call(2)])
    journal.let_go(1)
    assert journal.close(PATIENCE)
    assert open_in(path) == [2]


def test_a_full_disk_turns_calls_away_and_loses_nothing(path: Path, journal: Journal, said: Said) -> None:
    journal.record([call(1)])
    db = journal._file._db
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    large = bytes(50_000)
    with pytest.raises(JournalError, match=r"cannot be written: database or disk is full; nothing was sent"):
        journal.record([call(2, large)])
    said.line("calls are turned away until it can")
    done = threading.Event()
    journal.note(ends=[End(1, 2000.0, int(Status.SUCCESS), "n1", 1, large)], then=done.set)
    with pytest.raises(JournalError):
        journal.record([call(3, large)])
    assert not done.is_set()
    assert journal.trouble == "database or disk is full"
    db.execute("PRAGMA max_page_count = 100000")
    assert done.wait(PATIENCE)
    said.line("it can be written again")
    journal.record([call(4, large)])
    assert journal.close(PATIENCE)
    assert open_in(path) == [1, 4]


def test_what_nobody_thought_of_is_told_and_tried_again(
    path: Path, journal: Journal, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(file: JournalFile, batch: Batch) -> None:
        raise MemoryError("no room")

    done = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(JournalFile, "write", forgetful)
        with pytest.raises(JournalError, match="it cannot be written: no room; nothing was sent"):
            journal.record([call(1)])
        said.line("calls are turned away until it can")
        journal.note(calls=[call(2)], then=done.set)
    assert done.wait(PATIENCE)
    assert journal.close(PATIENCE)
    assert open_in(path) == [2]


def test_an_old_life_is_told_that_it_is_fenced_off(path: Path, journal: Journal, said: Said) -> None:
    path.with_name(f"{path.name}-lock").unlink()
    other = JournalFile(path)
    other.begin_life()
    with pytest.raises(JournalError):
        journal.record([call(1)])
    said.line("another program has opened it since")
    with pytest.raises(JournalError, match="closed"):
        journal.record([call(2)])
    other.close()


def test_after_its_end_calls_are_turned_away(journal: Journal) -> None:
    assert journal.close(PATIENCE)
    with pytest.raises(JournalError, match="closed"):
        journal.record([call(1)])


def test_a_disk_that_hangs_keeps_no_call_from_its_end(
    path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, answers = threading.Event(), threading.Event()
    write = JournalFile.write

    def hang(file: JournalFile, batch: Batch) -> None:
        hanging.set()
        answers.wait(PATIENCE)
        write(file, batch)

    monkeypatch.setattr(JournalFile, "write", hang)
    failed: list[str] = []

    def record() -> None:
        with pytest.raises(JournalError) as error:
            journal.record([call(1)])
        failed.append(str(error.value))

    thread = threading.Thread(target=record)
    thread.start()
    assert hanging.wait(PATIENCE)
    assert not journal.close(0.0)
    thread.join(PATIENCE)
    assert "closed while its disk did not answer" in failed[0]
    journal.let_go(1)
    answers.set()
    journal._thread.join(PATIENCE)
    assert open_in(path) == []


def test_a_failure_comes_back_as_it_was(path: Path, journal: Journal) -> None:
    failure = Failure(Code.POISON, "3 nodes died while it may have been running on them", attempt=3)
    ended = End(1, 2000.0, int(Status.FAIL), "", 3, failure=failure, dead=True)
    journal.record([call(1)])
    journal.note(ends=[ended])
    journal.close(PATIENCE)
    file = JournalFile(path, read_only=True)
    assert file.dead() == [Dead(call(1), ended)]
    file.close()
