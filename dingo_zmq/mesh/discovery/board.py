"""
The files by which processes of one host find each other.

Each file `<node>.<token>.json` holds one announcement, and is locked (flock) by the process that wrote it.  A
file that is not locked belongs to a process that is dead.  The token is drawn by the announcer, so that
whoever removes a dead file can never hit the file of a successor; an update is written and locked under
another name and then renamed over the old, so that what lies under a name is whole and locked while its
owner lives.  Where there is no flock, the process id in the file is looked up instead.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import stat
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from dingo_zmq.errors import ConfigError, PeerError
from dingo_zmq.mesh.discovery.port import Announcement, from_fields, to_fields
from dingo_zmq.mesh.private import is_mine, private_folder, private_temp

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Note", "board_folder", "note_path", "pid_exists", "read_notes", "remove", "write_note"]

_log = logging.getLogger(__name__)

_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,62})\.[0-9a-f]{16}\.json")
_MAX_SIZE = 16 * 1024
_READ_FLAGS = os.O_RDONLY | (os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK if sys.platform != "win32" else 0)
_TEMP_AGE = 60.0
_REPLACED_MOST = 10


@dataclass(frozen=True, slots=True)
class Note:
    """One file as it was read: whose it is, which version of it, and what it says."""

    announcement: Announcement
    pid: int
    version: tuple[int, int, int]


def board_folder(folder: Path | str | None = None) -> Path:
    """
    Return the folder of the files, made if need be.

    Args:
        folder: the folder; the default is DINGO_ZMQ_RUNTIME_DIR or the user's runtime folder.

    Raises:
        ConfigError: if it cannot be made or is not safe, see `private_folder`.
    """
    return private_folder(Path(folder or os.environ.get("DINGO_ZMQ_RUNTIME_DIR") or _runtime_folder()))


def _runtime_folder() -> str:
    with warnings.catch_warnings():  # about a missing XDG_RUNTIME_DIR: the place it then takes is good enough
        warnings.simplefilter("ignore")
        return platformdirs.user_runtime_dir("dingo-zmq")


def note_path(folder: Path, node: str, token: str) -> Path:
    """Return where an announcer keeps the file of a node."""
    return folder / f"{node}.{token}.json"


def write_note(path: Path, announcement: Announcement) -> int | None:
    """
    Put the file there at once; return the descriptor that holds its lock, to be closed after its removal.

    Raises:
        ConfigError: if it cannot be written.
    """
    fields = to_fields(announcement) | {"pid": os.getpid()}
    fd, temp = private_temp(path.parent, json.dumps(fields).encode())
    try:
        if fcntl:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            os.close(fd)  # an open file could not be renamed there
        os.replace(temp, path)
    except OSError as exc:
        if fcntl:
            os.close(fd)
        remove(temp)
        raise ConfigError(f"cannot write {path}: {exc.strerror or exc}") from exc
    return fd if fcntl else None


def remove(path: Path) -> None:
    """Remove a file, if it can be removed."""
    with contextlib.suppress(OSError):
        path.unlink()


def read_notes(folder: Path, known: dict[str, Note], limit: int) -> dict[str, Note]:
    """
    Read the files of living processes, and remove those of dead ones.

    Args:
        folder: the folder; one that is missing or not safe counts as empty.
        known: what the last call returned; files that have not changed are not parsed again.
        limit: read at most so many.

    Returns:
        The notes by file name.
    """
    notes: dict[str, Note] = {}
    for name in sorted(_names(folder)):
        if len(notes) >= limit:
            break
        note = _read_note(folder / name, known.get(name))
        if note:
            notes[name] = note
    return notes


def _names(folder: Path) -> list[str]:
    """Return the names that could be announcements, and clear away what was left half written."""
    names = []
    try:
        if not is_mine(folder.lstat()):
            return []
        with os.scandir(folder) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name):
                    names.append(entry.name)
                elif entry.name.endswith(".tmp") and _age(entry) > _TEMP_AGE:
                    remove(folder / entry.name)
    except OSError as exc:
        _log.debug("cannot read %s: %s", folder, exc)
    return names


def _age(entry: os.DirEntry[str]) -> float:
    return time.time() - entry.stat(follow_symlinks=False).st_mtime


def _read_note(path: Path, known: Note | None) -> Note | None:
    for _ in range(_REPLACED_MOST):
        try:
            fd = os.open(path, _READ_FLAGS)
        except OSError:
            return None
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode) or not is_mine(info) or info.st_size > _MAX_SIZE:
                return None
            if not _is_unlocked(fd):
                return _living(path, fd, info, known)
        finally:
            os.close(fd)
        if _remove_dead(path, info):
            return None
    return known  # its owner lives, and replaces it faster than we look


def _living(path: Path, fd: int, info: os.stat_result, known: Note | None) -> Note | None:
    version = (info.st_ino, info.st_mtime_ns, info.st_size)
    note = known if known and known.version == version else _parse(path, os.read(fd, _MAX_SIZE), version)
    if note and not fcntl and not pid_exists(note.pid):
        remove(path)
        return None
    return note


def _is_unlocked(fd: int) -> bool:
    if not fcntl:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_dead(path: Path, info: os.stat_result) -> bool:
    """Remove the file, and return True, unless its owner replaced it just after we opened it."""
    with contextlib.suppress(OSError):
        if path.lstat().st_ino != info.st_ino:
            return False
        path.unlink()
    return True


def _parse(path: Path, raw: bytes, version: tuple[int, int, int]) -> Note | None:
    try:
        fields = json.loads(raw)
        if not isinstance(fields, dict) or type(fields.get("pid")) is not int:
            raise PeerError("not an announcement")
        announcement = from_fields(fields)
        if not path.name.startswith(f"{announcement.node}."):
            raise PeerError("the name of the file is not that of the node")
    except (ValueError, RecursionError, PeerError) as exc:
        _log.debug("ignored %s: %s", path, exc)
        return None
    return Note(announcement, fields["pid"], version)


def pid_exists(pid: int) -> bool:
    """Return whether a process of that id exists; the last resort where files cannot be locked."""
    if pid <= 0:
        return False
    if sys.platform == "win32":
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # query limited information
        return bool(handle and ctypes.windll.kernel32.CloseHandle(handle))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
