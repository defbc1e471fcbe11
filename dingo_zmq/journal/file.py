"""The file of a journal: SQLite with a write-ahead log, each row with a checksum."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import msgspec

from dingo_zmq.errors import JournalError, UsageError
from dingo_zmq.journal.lock import Lock
from dingo_zmq.journal.rows import Batch, Call, Dead, End, Hold, Open, State

__all__ = ["BODY_MOST", "JournalFile"]

BODY_MOST = 900_000_000
"""largest body that can be recorded, bytes: SQLite takes no value of more than a billion"""

APPLICATION = 0x64696E67  # "ding"
VERSION = 1
DEAD_MOST, DEAD_BYTES = 10_000, 256 * 1024 * 1024
"""dead letters kept once the program has let go of their results, the newest, and bytes of them; and a few more"""
TRIM_EVERY = 100
"""letters after which the oldest go: to find them takes a tenth of a second"""
READER_MS = 500
"""at the end, for whoever looks at it meanwhile"""
# `ends.dead` is 0, 1 for a dead letter, 2 for one whose result the program has let go of
_OPEN = "record NOT IN (SELECT record FROM ends WHERE dead = 2)"  # what the next life is told of
_DEAD = "record IN (SELECT record FROM ends WHERE dead)"
_PUT = {"calls": "REPLACE INTO calls VALUES (?, ?, ?)", "holds": "REPLACE INTO holds VALUES (?, ?, ?)"}
_DROP = {
    "calls": "DELETE FROM calls WHERE record = ?",
    "holds": "DELETE FROM holds WHERE record = ?",
    "ends": "DELETE FROM ends WHERE record = ?",
}
_MAY_GO = "UPDATE ends SET dead = 2 WHERE record = ? AND dead"
_LET_GO = (
    "DELETE FROM ends WHERE record = ? AND NOT dead",
    "DELETE FROM calls WHERE record = ? AND NOT EXISTS (SELECT 1 FROM ends WHERE ends.record = calls.record)",
    _DROP["holds"],
)
_OLD_LETTERS = """
SELECT record FROM (
    SELECT record, row_number() OVER newest AS number, sum(size) OVER newest AS bytes FROM (
        SELECT record, length(ends.data) + length(calls.data) AS size FROM ends JOIN calls USING (record)
        WHERE dead AND dead = 2
    ) WINDOW newest AS (ORDER BY record DESC)
) WHERE number > ? OR bytes > ?
"""
_SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE calls (record INTEGER PRIMARY KEY, data BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE holds (record INTEGER PRIMARY KEY, data BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE ends (record INTEGER PRIMARY KEY, data BLOB NOT NULL, sum INTEGER NOT NULL, dead INTEGER NOT NULL);
CREATE INDEX dead_ends ON ends (record) WHERE dead;
"""
_encode = msgspec.msgpack.Encoder().encode
T = TypeVar("T", Call, Hold, End)
_DECODERS: dict[type, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in (Call, Hold, End)
}


class JournalFile:
    """
    A journal that is open; no other process can open it meanwhile.

    What `write` has returned from outlives a crash of the process and, as far as the disk keeps its word, of the
    machine (``synchronous=FULL``).  Only one thread at a time may use it.  A file that is refused stays as it is,
    with what belongs to it.

    Args:
        path: the file; ``-wal``, ``-shm``, ``-open`` and ``-lock`` are beside it.
        new_caller: makes the id of the caller of a new journal; None where the file must be there.
        read_only: whether to look only, also while another process has it open.

    Raises:
        JournalError: it is in use, cannot be opened or made, is damaged, or is no journal.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        new_caller: Callable[[], str] | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        self.path, self._read_only = _followed(path), read_only
        self._check_place(new=new_caller is not None)
        self._lock = None if read_only else Lock(self.path.with_name(f"{self.path.name}-lock"))
        self._refused = False
        self._new_letters = 0
        try:
            self._check_log()
            self._db = self._connect(read_only=read_only)
            try:
                self._prepare(new_caller)
            except BaseException:
                self._refused = True
                self.close()
                raise
        except BaseException:
            if self._lock is not None:
                self._lock.close()
            raise

    def _check_place(self, *, new: bool) -> None:
        if self.path.is_dir():
            raise JournalError(f"journal {self.path}: it is a folder; hint: name a file in it")
        if not new and not self.path.is_file():
            raise JournalError(f"journal {self.path}: there is no such file")
        if not self.path.parent.is_dir():
            raise JournalError(f"journal {self.path}: there is no folder {self.path.parent}; hint: make it first")

    def _check_log(self) -> None:
        """What was written last may be in the log alone; SQLite would not miss it."""
        if self.path.exists() and not self._log.exists() and self._stamp.exists():  # which goes before the log
            raise JournalError(
                f"journal {self.path}: it is damaged: {self._log.name} is missing, which had what was written "
                f"last; hint: put it back, or remove {self._stamp.name} to go on without what it had"
            )

    @property
    def _log(self) -> Path:
        return self.path.with_name(f"{self.path.name}-wal")

    @property
    def _stamp(self) -> Path:
        """A file that is there while the journal is open, and after a crash."""
        return self.path.with_name(f"{self.path.name}-open")

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        new = not self.path.exists()
        try:
            if new:
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            where = f"{self.path.as_uri()}?mode={'ro' if read_only else 'rw'}"
            return sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
        except (OSError, sqlite3.Error) as exc:
            raise JournalError(f"journal {self.path}: cannot be opened: {exc}") from exc

    def _prepare(self, new_caller: Callable[[], str] | None) -> None:
        with self._in_words():
            application = self._one("PRAGMA application_id")
            version = self._one("PRAGMA user_version")
            empty = self._one("SELECT count(*) FROM sqlite_master") == 0
        if empty and new_caller is not None:
            with self._in_words():
                self._create(new_caller())
        elif application != APPLICATION:
            raise JournalError(f"journal {self.path}: it is no journal of dingo-zmq; hint: name another file")
        elif version != VERSION:
            raise JournalError(
                f"journal {self.path}: it is of version {version}, and this program knows version {VERSION}; "
                "hint: use the program that made it until nothing in it is open"
            )
        with self._in_words():
            if not self._read_only:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
            problem = self._one("PRAGMA quick_check(1)")
        if problem != "ok":
            raise self._damaged(str(problem))

    def _create(self, caller: str) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            self._db.execute(statement)
        about = [("caller", caller), ("life", 0), ("lives", 0), ("last", 0)]
        self._db.executemany("INSERT INTO about VALUES (?, ?)", about)
        self._db.execute(f"PRAGMA application_id = {APPLICATION}")
        self._db.execute(f"PRAGMA user_version = {VERSION}")
        self._db.execute("COMMIT")

    # ------------------------------------------------------------------ reading

    @property
    def caller(self) -> str:
        """The id of the caller whose journal it is; "" where it does not say."""
        with self._in_words():
            found = self._db.execute("SELECT value FROM about WHERE key = 'caller'").fetchone()
        return found[0] if found and isinstance(found[0], str) else ""

    def begin_life(self) -> State:
        """
        Count one more life, and return what is there.

        Raises:
            JournalError: something in it is damaged, or it cannot be written.
        """
        state = self._read_all()
        with self._in_words(), self._transaction():
            about = [("life", state.life), ("lives", state.lives), ("last", state.last)]
            self._db.executemany("REPLACE INTO about VALUES (?, ?)", about)
        self._life = state.life
        with self._in_words():
            self._stamp.touch(mode=0o600)
        return state

    def _read_all(self) -> State:
        """Return what the next life is to know."""
        with self._in_words():
            about = dict(self._db.execute("SELECT key, value FROM about"))
            highest = self._one("SELECT max(record) FROM calls") or 0
        caller, life, last = about.get("caller"), about.get("life"), about.get("last")
        lives = about.get("lives", life)
        if not isinstance(caller, str) or not isinstance(life, int) or not isinstance(last, int):
            raise self._damaged("it does not say whose it is")
        found = {call.record: Open(call) for call in self._rows(Call, "calls", _OPEN)}
        for hold in self._rows(Hold, "holds"):
            if hold.record in found:
                found[hold.record].hold = hold
        for end in self._rows(End, "ends", "dead < 2"):
            if end.record in found:
                found[end.record].end = end
        life = max(life + 1, int(time.time() * 1000))
        return State(caller, life, [*found.values()], max(last, highest), int(lives or 0) + 1)

    def dead(self) -> list[Dead]:
        """
        Return the dead letters, oldest first.

        Raises:
            JournalError: something in it is damaged.
        """
        calls = {call.record: call for call in self._rows(Call, "calls", _DEAD)}
        return [Dead(calls[end.record], end) for end in self._rows(End, "ends", "dead") if end.record in calls]

    def _rows(self, kind: type[T], table: str, which: str = "1") -> Iterator[T]:
        decode = _DECODERS[kind].decode
        with self._in_words():
            rows = f"SELECT record, data, sum FROM {table} WHERE {which} ORDER BY record"  # noqa: S608 (ours)
            for record, data, total in self._db.execute(rows):
                if not isinstance(data, bytes) or crc32(data) != total:
                    raise self._damaged(f"the checksum of task {record} in {table} does not fit")
                try:
                    row: T = decode(data)
                except (msgspec.MsgspecError, ValueError, UsageError) as exc:  # the last: options that cannot be
                    raise self._damaged(f"task {record} in {table} cannot be read: {exc}") from exc
                if row.record != record:
                    raise self._damaged(f"task {record} in {table} is another one")
                yield row

    # ------------------------------------------------------------------ writing

    def write(self, batch: Batch) -> None:
        """
        Write all of a batch, or nothing.

        Raises:
            sqlite3.Error: it cannot be written now; nothing of it was.
            JournalError: another life has begun, and this one is to write no more.
        """
        with self._transaction():
            self._check_life()
            self._put("calls", batch.calls.values())
            self._put("holds", batch.holds.values())
            if batch.ends:
                ends = [(end.record, data := _encode(end), crc32(data), end.dead) for end in batch.ends.values()]
                self._db.executemany("REPLACE INTO ends VALUES (?, ?, ?, ?)", ends)
                settled = [(record,) for record in batch.ends]
                self._db.executemany(_DROP["holds"], settled)
            if batch.gone:
                self._let_go([(record,) for record in batch.gone])

    def _check_life(self) -> None:
        if self._one("SELECT value FROM about WHERE key = 'life'") != self._life:
            raise JournalError(f"journal {self.path}: another program has opened it since")

    def _put(self, table: str, rows: Iterable[Call | Hold]) -> None:
        values = [(row.record, data := _encode(row), crc32(data)) for row in rows]
        if values:
            self._db.executemany(_PUT[table], values)

    def _let_go(self, records: list[tuple[int]]) -> None:
        """The next life is not to be told of these tasks; of those that are dead letters the newest are kept."""
        self._new_letters += max(0, self._db.executemany(_MAY_GO, records).rowcount)
        if self._new_letters >= TRIM_EVERY:
            self._drop_old_letters()
        for statement in _LET_GO:
            self._db.executemany(statement, records)

    def _drop_old_letters(self) -> None:
        self._new_letters = 0
        old = self._db.execute(_OLD_LETTERS, (DEAD_MOST, DEAD_BYTES)).fetchall()
        for table in ("calls", "ends"):
            self._db.executemany(_DROP[table], old)

    def requeue(self, letters: Iterable[Dead]) -> None:
        """
        Make dead letters open tasks again, as if they had just been called; the next life sends them.

        Raises:
            JournalError: it cannot be written.
        """
        with self._in_words(), self._transaction():
            self._db.executemany(_DROP["ends"], [(dead.call.record,) for dead in letters])
            self._put("calls", [dead.call for dead in letters])

    def drop_settled(self, but: Container[int] = ()) -> None:
        """The program has let go of all that is settled, `but` some; where that cannot be written it stays."""
        with suppress(sqlite3.Error, JournalError), self._transaction():
            self._check_life()
            settled = self._db.execute("SELECT record FROM ends WHERE dead < 2").fetchall()
            self._let_go([row for row in settled if row[0] not in but])

    def close(self) -> None:
        """Close the file."""
        if self._lock is None:
            self._db.close()
        elif self._refused:
            self._close_untouched()
        else:
            with suppress(sqlite3.Error, OSError):
                self._db.execute(f"PRAGMA busy_timeout = {READER_MS}")
                busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy:  # all of it is in the file itself; before the log goes, should we be killed here
                    self._stamp.unlink(missing_ok=True)
            with suppress(sqlite3.Error, OSError):
                self._db.close()
                if not self._log.exists():  # what kept it from being written into the file was over by then
                    self._stamp.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()

    def _close_untouched(self) -> None:
        """Close it without what SQLite does otherwise where nobody else has it open: the log stays."""
        errors = JournalError, sqlite3.Error, UnicodeDecodeError
        with suppress(*errors), closing(self._connect(read_only=True)) as other:
            other.execute("SELECT count(*) FROM sqlite_master").fetchone()
            self._db.close()
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _one(self, query: str) -> Any:
        return self._db.execute(query).fetchone()[0]

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as exc:
            raise JournalError(f"journal {self.path}: {exc}{_hint(str(exc))}") from exc
        except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:  # the latter: it quotes what is no text
            raise self._damaged(str(exc)) from exc

    def _damaged(self, what: str) -> JournalError:
        self._refused = True
        it = "it is damaged, or no journal" if "not a database" in what else "it is damaged"
        return JournalError(
            f"journal {self.path}: {it}: {what}; nothing was changed; hint: keep a copy, and begin with "
            "another file, or put an undamaged copy of it and of its -wal in its place"
        )


def _hint(trouble: str) -> str:
    if "I/O" in trouble or "full" in trouble:
        return "; hint: is its disk full, or broken?"
    if "unable to open" in trouble or "readonly" in trouble:
        return "; hint: it has to be where it can be written, also to look at it: copy it there, with its -wal"
    return ""


def _followed(path: str | os.PathLike[str]) -> Path:
    """Return where a path leads: what a link leads to has one lock."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError) as exc:
        raise JournalError(f"journal {Path(path)}: this link leads nowhere: {exc}") from exc
