"""What is fuzzed: all that reads what others wrote.  `make fuzz` and the tests check the same properties."""

from __future__ import annotations

import contextlib
import inspect
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple, get_type_hints
from uuid import UUID
from zlib import crc32

import msgspec

from dingo_zmq.errors import ArgumentError, ConfigError, EncodeError, JournalError, PeerError
from dingo_zmq.invoke import Signature, convert_words, example_words
from dingo_zmq.journal import Batch, Call, End, Hold, JournalFile, Open, State
from dingo_zmq.marshal import (
    Body,
    Header,
    Kind,
    compose,
    decode,
    decode_failure,
    decode_progress,
    decompose,
    encode,
    encode_arguments,
    encode_failure,
    encode_progress,
)
from dingo_zmq.marshallers import spoken
from dingo_zmq.mesh.discovery.port import Announcement
from dingo_zmq.mesh.discovery.txt import decode_txt, encode_txt
from dingo_zmq.mesh.durable import end_of, recovered
from dingo_zmq.mesh.guests import Listing, add, entries, revoke
from dingo_zmq.mesh.keys import Key, load_key, save_key
from dingo_zmq.model import Code, Failure, Options, Retries, Status, Try
from tools.fuzzing.mesh import caller_seeds, check_caller, check_node, node_seeds
from tools.fuzzing.mutate import BETWEEN, bend, scratch

__all__ = ["TARGETS", "Target", "clean", "folder"]


class Target(NamedTuple):
    """
    Something that reads.

    Attributes:
        check: raises where it does with an input what it must not.
        seeds: returns good inputs.
        bend: makes another input of one.
    """

    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    bend: Callable[[bytes, Random], bytes]


@cache
def folder() -> Path:
    """Return a folder for the files of this process."""
    return Path(tempfile.mkdtemp(prefix="dingo-fuzz-"))


def clean() -> None:
    """Remove the files that were made."""
    if _journal.cache_info().currsize:
        _journal().close()
        _journal.cache_clear()
    if folder.cache_info().currsize:
        shutil.rmtree(folder())
        folder.cache_clear()


# ------------------------------------------------------------------------------ headers and bodies


def check_header(data: bytes) -> None:
    """A header that is read is written as it was."""
    try:
        header, parts = decompose(data)
    except PeerError:
        return
    assert compose(header, parts) == data, f"{header} is written otherwise"


def _headers() -> list[bytes]:
    return [
        compose(Header(Kind.TASK, "12", "scan", "json"), [b"one", b"", b"three"]),
        compose(Header(Kind.REPORT, "1-2", "größe"), [bytes(300)]),
        compose(Header(Kind.TASK, "1", "f"), []),
    ]


def _same(one: object, other: object) -> bool:
    """Whether two values are written alike; NaN is not equal to itself."""
    return repr(one) == repr(other)


def _plain(value: object) -> bool:
    """Whether all of a value is of what is written without losing anything: arrays and views are not compared."""
    if isinstance(value, dict):
        return all(_plain(name) and _plain(each) for name, each in value.items())
    if isinstance(value, list):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str | bytes)


def check_body(data: bytes) -> None:
    """Values, arguments, failures and progress are refused or read, and what was read can be written again."""
    buffers = (b"first buffer", bytearray(16))
    for body in ((data, ()), (data, buffers)):
        with contextlib.suppress(PeerError):
            value = decode(body)
            if _plain(value):
                with contextlib.suppress(EncodeError):  # whole numbers of 64 bits may be keys
                    again = decode(encode(value))
                    assert _same(again, value), f"{value!r:.200} is read back as {again!r:.200}"
        _check_arguments(body)
    with contextlib.suppress(PeerError):
        failure = decode_failure((data, ()))
        assert decode_failure(encode_failure(decode_failure(encode_failure(failure)))).code is failure.code
    with contextlib.suppress(PeerError):
        told = decode_progress((data, ()))
        decode_progress(encode_progress(*told))


@dataclass
class _Order:
    number: int
    when: datetime
    wait: timedelta
    price: Decimal
    id: UUID
    tags: set[str]
    data: bytes = b""
    parts: dict[str, tuple[float, Path]] = field(default_factory=dict)


def _scan(order: _Order, *points: int, word: str | None = None, **more: list[_Order]) -> _Order | int:
    raise NotImplementedError  # its signature is what counts


@cache
def _signatures() -> list[Signature]:
    typed = Signature("scan", inspect.signature(_scan), get_type_hints(_scan))
    return [typed, *(spoken("scan", how) for how in ("", "json", "json-safe"))]


def _check_arguments(body: Body) -> None:
    for signature in _signatures():
        for read in (signature.unpack, signature.unpack_return):
            with contextlib.suppress(PeerError, ArgumentError):
                read(body)


def _bodies() -> list[bytes]:
    values: list[Any] = [None, [1, "two", b"three", 4.5, True], {"a": {"b": [2**63, -(2**63)]}}, "x" * 300]
    bodies = [encode(value)[0] for value in (*values, memoryview(b"abc"))]
    bodies += [encode(bytes(70_000))[0], encode_arguments((1, b"x"), {"word": [1]})[0]]
    bodies += [encode_failure(Failure(Code.RAISED, "no", "ValueError", "Traceback"))[0]]
    bodies += [encode_progress(0.5, "half")[0], b'[1, {"a": null}]', b"[[1], {}]"]
    # an array of numpy, as numpy would have it written
    array = msgspec.msgpack.encode([3, -1, "<f8", [2, 1], bytes(16)])
    order = _Order(
        1, datetime.now(UTC), timedelta(1), Decimal(1), UUID(int=1), {"a"}, b"x", {"a": (1.5, Path("p"))}
    )
    bodies.append(_signatures()[0].pack((order, 1, 2), {"word": "x", "more": [order]})[0])
    return [*bodies, msgspec.msgpack.encode(msgspec.msgpack.Ext(1, array))]


def check_words(data: bytes) -> None:
    """What a node says is a signature is refused or read, and words become arguments by it or are refused."""
    signature, *words = data.decode(errors="replace").split("\0")
    with contextlib.suppress(PeerError):
        example_words(signature)
    with contextlib.suppress(PeerError, ArgumentError):
        convert_words(signature, words, "scan")


def _signature_texts() -> list[bytes]:
    texts = [
        "(a: int, b: int = 5) -> int\x002\0b=3",
        "(points: list[float] | None, *more: dict[str, Path], word: Literal['x', 1] = 'x')\0[1.5]\0{}\0word=1",
        "(a: datetime, /, b: timedelta, c: Decimal, d: UUID, e: bytes, f: bool | str)\x002026-01-02\x005\x001\0x",
        "(a: " + "|".join(["int"] * 1300) + ")\0x",
        "(a: " + "-" * 3000 + "1)\0x",
        "(a: " + "x[" * 90 + "]" * 90 + ")\0[1]",
        "(a: x" + ".y" * 1900 + ")",
        "(a: Literal[{[]: 1}])\0x",
    ]
    return [text.encode() for text in texts]


# ------------------------------------------------------------------------------ TXT records and key files


def check_txt(data: bytes) -> None:
    """A TXT record is refused, or says where a node can be tried; what it says can be announced again."""
    try:
        told = decode_txt("node1", data)
    except PeerError:
        return
    with contextlib.suppress(ConfigError):  # scopes do not travel, and what was short may be long in words of ours
        assert decode_txt("node1", encode_txt(told)) == told or "%" in "".join(told.tasks + told.reports)


def _records() -> list[bytes]:
    tasks = ("tcp://10.0.0.7:47100", "tcp://[fd00::7]:47100", "tcp://gate.lan:9000")
    reports = ("tcp://10.0.0.7:47101", "tcp://[fd00::7]:47101", "tcp://gate.lan:80")
    told = Announcement("node1", "bench", "lab", "0123456789abcdef", 1, tasks, reports, "d1", "d7211986")
    plain = Announcement("node1", "", "lab", "", 1, tasks[:1], reports[:1])
    passed_on = replace(told, path=("0123abcd", "4567cdef"))
    return [encode_txt(told, 7), encode_txt(plain), encode_txt(passed_on)]


_KEY = Key(b"Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", b"D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs", "mesh")
"""the pair in the standard (ZeroMQ RFC 26): a secret of nobody"""


def check_key(data: bytes) -> None:
    """A key file is refused, or has a pair that belongs together and is saved as it was read."""
    path = folder() / "fuzzed.key"
    path.touch(0o600)
    path.write_bytes(data)
    try:
        key = load_key(path)
    except ConfigError:
        return
    copy = folder() / "copied.key"
    copy.unlink(missing_ok=True)
    again = save_key(copy, key)
    assert replace(again, path=None) == replace(key, path=None)


def check_guest(data: bytes) -> None:
    """The entry of a guest is used or complained of, and does not keep others from being read."""
    guests = folder() / "guests"
    if not guests.is_dir():
        guests.mkdir(mode=0o700)
    for name, content in (("bob", data), ("ann", _guest_entries()[0])):
        path = guests / f"{name}.toml"
        path.touch(0o600)
        path.write_bytes(content)
    listing = Listing(guests)
    listing.read()
    used = set(listing.guests)
    assert used | set(listing.problems) == {"ann", "bob"}
    assert not used & set(listing.problems)
    assert used  # two of one key are one


@cache
def _guest_entries() -> list[bytes]:
    key = save_key(folder() / "owner.key", _KEY)
    found = []
    for name, functions, rate in (("one", ["add", "größe"], None), ("two", ["\N{SNAKE}", 'a"b\\c'], 0.5)):
        add(key, folder() / f"{name}.key", name, functions, 10, rate)
        found.append((folder() / "guests" / f"{name}.toml").read_bytes())
        assert set(entries(key).guests[name].functions) == set(functions)
        revoke(key, name)
    return [*found, b"functions = " + b"[" * 2000 + found[0]]


def _key_files() -> list[bytes]:
    path = folder() / "seed.key"
    path.unlink(missing_ok=True)
    save_key(path, _KEY)
    whole = path.read_bytes()
    path.unlink()
    save_key(path, replace(_KEY, kind="guest", mesh=_KEY.public))
    guest = path.read_bytes()
    others = [
        b"kind = 'guest'\n" + b"\n".join(whole.splitlines()[2:]),
        b"kind = [[1, {a = 2}], 3]\n" + whole,
        b"a.b.c = 1\n",
        b"kind = " + b"[" * 2000,
    ]
    return [guest, guest.replace(b'"guest"', b"'guest'"), whole, whole.replace(b'"mesh"', b'"local"'), *others]


# ------------------------------------------------------------------------------ journals

_KINDS = {b"C": (Call, "calls"), b"H": (Hold, "holds"), b"E": (End, "ends")}
_encode = msgspec.msgpack.Encoder().encode


@cache
def _journal() -> JournalFile:
    """Return a journal that is open, for rows that are put into it by hand."""
    path = folder() / "rows.db"
    file = JournalFile(path, lambda: "me")
    file.begin_life()
    return file


def check_row(data: bytes) -> None:
    """Rows whose checksums fit are refused or read, and make tasks; what was read is written as the same."""
    file = _journal()
    with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        for part in data.split(BETWEEN)[:8]:
            kind, dead = _KINDS.get(part[:1], (Call, "calls")), part[1:2] == b"d"
            row = part[2:]
            values: tuple[Any, ...] = (1, row, crc32(row))
            if kind[0] is End:
                db.execute("REPLACE INTO ends VALUES (?, ?, ?, ?)", (*values, dead))
            else:
                db.execute(f"REPLACE INTO {kind[1]} VALUES (?, ?, ?)", values)  # noqa: S608 (a name of ours)
        try:
            _take_up(file.begin_life())
            for letter in file.dead():
                _check_written(letter.call, letter.end)
        except JournalError:
            pass
        finally:
            for table in ("calls", "holds", "ends"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608 (a name of ours)


def _take_up(state: State) -> None:
    """Make tasks of what a journal says, as the next life of a caller does."""
    journal: Any = SimpleNamespace(let_go=lambda ticket: None)
    found = recovered(state, journal, lambda name: None, None)
    for ticket, end in found.ended:
        end_of(ticket, end)
    for task in state.open:
        _check_written(task.call, task.hold, task.end)
    assert len(found.waiting) + len(found.held) + len(found.ended) == len(state.open)


def _check_written(*rows: Call | Hold | End | None) -> None:
    for row in rows:
        if row is not None:
            again = msgspec.msgpack.decode(_encode(row), type=type(row))
            assert _same(again, row), f"{row} is read back as {again}"


def _tasks() -> list[Open]:
    options = Options(needs=("psu",), retries=Retries(3, lost=1, on=("ValueError",)), priority=2, expires=9.0)
    calls = [
        Call(1, "add", "1-1", 1000.0, "abc", 0, Options(), b"\x92\x01\x02"),
        Call(1, "add", "1-1", 1000.0, "abc/json", 3, options, b"[1]", [b"buffer"]),
    ]
    history = (Try("n2", 1, "died"),)
    hold = Hold(1, b"basetokn", b"incarnat", "n1", 7, attempt=2, losses=1, started=True, history=history)
    success = End(1, 2000.0, int(Status.SUCCESS), "n1", 1, b"\x03")
    failed = End(1, 2000.0, int(Status.FAIL), "", 1, failure=Failure(Code.POISON, "3 nodes died"), dead=True)
    return [Open(calls[0]), Open(calls[1], hold), Open(calls[0], hold, success), Open(calls[1], None, failed)]


def _rows() -> list[bytes]:
    rows = []
    for task in _tasks():
        parts = [b"C." + _encode(task.call)]
        parts += [b"H." + _encode(task.hold)] if task.hold else []
        parts += [b"E" + (b"d" if task.end.dead else b".") + _encode(task.end)] if task.end else []
        rows.append(BETWEEN.join(parts))
    return rows


def check_journal(data: bytes) -> None:
    """A file is refused as a journal, or read; then it can be written, and is read again as the same."""
    path = folder() / "whole.db"
    for old in folder().glob("whole.db*"):
        old.unlink()
    path.write_bytes(data)
    with contextlib.suppress(JournalError), contextlib.closing(JournalFile(path)) as file:
        state = file.begin_life()
        letters = file.dead()
        file.write(Batch(gone={state.last + 1: None}))
        file.close()
        with contextlib.closing(JournalFile(path)) as again:
            assert _same(again.begin_life().open, state.open)
            assert _same(again.dead(), letters)


def _journals() -> list[bytes]:
    path, found = folder() / "seed.db", []
    for tasks in ([], _tasks()):
        for old in folder().glob("seed.db*"):
            old.unlink()
        file = JournalFile(path, lambda: "me")
        file.begin_life()
        for number, task in enumerate(tasks, 1):
            rows = [msgspec.structs.replace(row, record=number) for row in (task.call, task.hold, task.end) if row]
            for row in rows:
                where = {Call: "calls", Hold: "holds", End: "ends"}[type(row)]
                file.write(Batch(**{where: {number: row}}))  # type: ignore[arg-type]
        file.close()
        found.append(shutil.copyfile(path, folder() / "copy.db").read_bytes())
    return found


TARGETS: dict[str, Target] = {
    "node": Target(check_node, caller_seeds, bend),
    "caller": Target(check_caller, node_seeds, bend),
    "header": Target(check_header, _headers, scratch),
    "body": Target(check_body, _bodies, bend),
    "words": Target(check_words, _signature_texts, scratch),
    "txt": Target(check_txt, _records, scratch),
    "key": Target(check_key, _key_files, scratch),
    "guest": Target(check_guest, lambda: list(_guest_entries()), scratch),
    "row": Target(check_row, _rows, bend),
    "journal": Target(check_journal, _journals, scratch),
}
"""by name, in the order in which they are run"""
