"""The guests of a mesh key: a folder of entries beside it, one file for each, that nodes read again and again."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import threading
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dingo_zmq.errors import ConfigError, UsageError
from dingo_zmq.mesh.keys import Key, find_key, is_public, new_key, put_new, save_key
from dingo_zmq.mesh.private import open_private, private_folder
from dingo_zmq.model import check_part
from dingo_zmq.protocol.guests import MAX_OPEN, Guest

__all__ = ["GuestWatch", "Listing", "add", "entries", "folder_of", "mesh_key", "revoke"]

FOLDER, SUFFIX = "guests", ".toml"
LOOK_SECONDS = 2.0
"""between two looks at the folder; a guest that was revoked is shut out so much later, and no more than 5 s"""
_FILE_LIMIT = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
_OPEN_MOST, _RATE_MOST = 1_000_000, 1_000_000
_FIELDS = {"public", "functions", "max_open", "rate"}
_COMMENT = "# A guest of a dingo-zmq mesh: what the owner of this public key may do.  Removed, it may do nothing."
_log = logging.getLogger("dingo_zmq.node")

Stamp = tuple[int, int, int, int]
"""time of change, size, inode and mode of a file: another stamp, another content"""


def folder_of(key: Key) -> Path:
    """Return where the entries of the guests of a mesh key are: the folder need not be there."""
    assert key.path is not None, "a key that was read from a file"
    return key.path.parent / FOLDER


def mesh_key(path: Path | str | None = None) -> Key:
    """
    Return the mesh key whose guests are meant.

    Args:
        path: its file; None for the one in its usual place.

    Raises:
        ConfigError: there is none, or it cannot be used.
    """
    key = find_key(path)
    if key.kind == "local":
        raise ConfigError("there is no mesh key here, which guests need; hint: dingo-zmq keygen, or --key FILE")
    if key.is_guest:
        raise ConfigError(f"{key.path} is the key of a guest itself; hint: do this where the mesh key is")
    return key


# ---------------------------------------------------------------------- adding and removing


def add(key: Key, guest_file: Path, name: str, functions: Iterable[str], max_open: int, rate: float | None) -> Key:
    """
    Make a guest: a key file for it, and an entry for the nodes.

    Args:
        key: the mesh key.
        guest_file: where the guest's key goes, to be given to the guest.
        name, functions, max_open, rate: see `Guest`.

    Returns:
        The guest's key.

    Raises:
        ConfigError: for a name that is in use or cannot be one, a function that cannot be one, a quota out of
            bounds, or where a file cannot be written; then neither of the two is there.
    """
    _check_name(name)
    made = new_key("guest", key.public)
    guest = _checked(name, made.public, list(functions), max_open, rate)
    folder = private_folder(folder_of(key), forbidden=0o022)
    path = folder / f"{name}{SUFFIX}"
    if os.path.lexists(path):
        raise _named_twice(name, path)
    made = save_key(guest_file, made)
    try:
        if not put_new(path, _content(guest)):
            raise _named_twice(name, path)
    except BaseException:
        guest_file.unlink(missing_ok=True)
        raise
    return made


def revoke(key: Key, name: str) -> None:
    """
    Remove a guest's entry.

    Raises:
        ConfigError: there is no such guest, or its entry cannot be removed.
    """
    _check_name(name)
    path = folder_of(key) / f"{name}{SUFFIX}"
    try:
        path.unlink()
    except FileNotFoundError:
        raise ConfigError(
            f"there is no guest {name!r} in {path.parent}; hint: dingo-zmq keys list shows who there is"
        ) from None
    except OSError as exc:
        raise ConfigError(f"cannot remove {path}: {exc.strerror or exc}") from exc


def _named_twice(name: str, path: Path) -> ConfigError:
    return ConfigError(
        f"there is a guest {name!r} already ({path}); hint: another name, or first: dingo-zmq keys revoke {name}"
    )


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise ConfigError(
            f"{name!r:.80} cannot be the name of a guest; hint: up to 64 letters, digits, '_', '-' and '.' "
            "without an accent, and no '-' or '.' at the beginning"
        )


def _content(guest: Guest) -> bytes:
    lines = [_COMMENT, f'public = "{guest.public.decode()}"']
    names = json.dumps(sorted(guest.functions), ensure_ascii=False)  # a list of texts in JSON is one in TOML
    lines.append(f"functions = {names}")
    lines.append(f"max_open = {guest.max_open}")
    if guest.rate is not None:
        lines.append(f"rate = {float(guest.rate)}")
    return ("\n".join(lines) + "\n").encode()


# ---------------------------------------------------------------------- reading


class Listing:
    """
    What is in the folder of entries, read again where it has changed.

    A file that cannot be used leaves what was good of it before; so does the whole folder.

    Attributes:
        guests: by name.
        problems: what is wrong with a file, by its name; with the folder, by "".
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.guests: dict[str, Guest] = {}
        self.problems: dict[str, str] = {}
        self._stamps: dict[str, Stamp] = {}

    def read(self) -> bool:
        """Look at it again; return whether the guests are others now."""
        before = dict(self.guests)
        try:
            found = self._files()
        except ConfigError as exc:
            self.problems[""] = str(exc)
            return False
        for name in self.problems:  # it may be good now that others are gone
            self._stamps.pop(name, None)
        self.problems.pop("", None)
        for name in [name for name in {*self._stamps, *self.guests, *self.problems} if name not in found]:
            self._stamps.pop(name, None)
            self.guests.pop(name, None)
            self.problems.pop(name, None)
        for name, stamp in sorted(found.items()):
            if self._stamps.get(name) != stamp:
                self._stamps[name] = stamp
                self._read_one(name)
        return self.guests != before

    def _files(self) -> dict[str, Stamp]:
        found = {}
        try:
            if not os.path.lexists(self.folder):
                return {}
            private_folder(self.folder, forbidden=0o022)
            with os.scandir(self.folder) as files:
                for file in files:
                    name = file.name.removesuffix(SUFFIX)
                    if name != file.name and not name.startswith("."):
                        info = file.stat(follow_symlinks=False)
                        found[name] = info.st_mtime_ns, info.st_size, info.st_ino, info.st_mode
        except OSError as exc:
            raise ConfigError(f"cannot read the folder {self.folder}: {exc.strerror or exc}") from exc
        return found

    def _read_one(self, name: str) -> None:
        try:
            guest = _load(self.folder / f"{name}{SUFFIX}", name)
            for other in self.guests.values():
                if other.public == guest.public and other.name != name:
                    where = self.folder / f"{name}{SUFFIX}"
                    raise ConfigError(
                        f"{where} has the same key as guest {other.name!r}, which counts; "
                        f"hint: dingo-zmq keys revoke {name}"
                    )
        except ConfigError as exc:
            self.problems[name] = str(exc)
        else:
            self.problems.pop(name, None)
            self.guests[name] = guest


def entries(key: Key) -> Listing:
    """Return what there is for a mesh key now."""
    listing = Listing(folder_of(key))
    listing.read()
    return listing


def _load(path: Path, name: str) -> Guest:
    again = f"dingo-zmq keys add {shlex.quote(name)} --functions a,b"
    fd = open_private(path, again)
    with open(fd, "rb") as file:
        raw = file.read(_FILE_LIMIT + 1)
    try:
        table = tomllib.loads(raw.decode()) if len(raw) <= _FILE_LIMIT else {}
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as exc:
        raise _spoilt(path, name, f"is no entry of a guest, or only a part of one: {exc}") from None
    public, functions = table.get("public"), table.get("functions")
    strange = sorted(table.keys() - _FIELDS)
    if not isinstance(public, str) or not is_public(public.encode()):
        raise _spoilt(path, name, "is no entry of a guest, or only a part of one: there is no public key in it")
    if strange:
        raise _spoilt(path, name, f"has {strange[0]!r:.40}, which means nothing")
    if not isinstance(functions, list):
        raise _spoilt(path, name, "is only a part of an entry: there is no list of functions in it")
    try:
        _check_name(name)
        return _checked(name, public.encode(), functions, table.get("max_open", MAX_OPEN), table.get("rate"))
    except ConfigError as exc:
        raise _spoilt(path, name, f"cannot be used: {str(exc).partition('; hint: ')[0]}") from exc


def _spoilt(path: Path, name: str, what: str) -> ConfigError:
    quoted = shlex.quote(name)
    return ConfigError(
        f"{path} {what}; hint: copy it again from where it works, or make the guest anew: "
        f"dingo-zmq keys revoke {quoted} && dingo-zmq keys add {quoted} --functions a,b"
    )


def _checked(name: str, public: bytes, functions: list[Any], max_open: Any, rate: Any) -> Guest:
    """
    Return a guest.

    Raises:
        ConfigError: where a part of it cannot be.
    """
    try:
        allowed = frozenset(check_part("the name of a function", each) for each in functions)
    except UsageError as exc:
        raise ConfigError(str(exc)) from exc
    if not allowed:
        raise ConfigError("a guest has to be allowed some function; hint: --functions a,b")
    if type(max_open) is not int or not 1 <= max_open <= _OPEN_MOST:
        raise ConfigError(f"max_open must be a whole number from 1 to {_OPEN_MOST:,}, not {max_open!r:.40}")
    if rate is not None and (type(rate) not in (int, float) or not 0 < rate <= _RATE_MOST):
        raise ConfigError(f"rate must be tasks per second, more than 0 to {_RATE_MOST:,}, not {rate!r:.40}")
    return Guest(name, public, allowed, max_open, None if rate is None else float(rate))


# ---------------------------------------------------------------------- while a node serves


class GuestWatch:
    """
    Reads the folder again every two seconds in a thread of its own, since it may be on another machine.

    Args:
        key: the mesh key.
        changed: called by that thread with all the guests there are, where they are others than before.

    Attributes:
        guests: those that there were at first, read by whoever made this.
    """

    def __init__(self, key: Key, changed: Callable[[list[Guest]], object]) -> None:
        self._listing, self._changed = Listing(folder_of(key)), changed
        self._logged: dict[str, str] = {}
        self._ended = threading.Event()
        self._listing.read()
        self._complain()
        self.guests = list(self._listing.guests.values())
        self._thread = threading.Thread(target=self._run, name="dingo-guests", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self, timeout: float = 1.0) -> None:
        """End; a folder that does not answer is not waited for."""
        self._ended.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            try:
                changed = self._listing.read()
                self._complain()
            except Exception:  # a guest that was revoked must not stay because of some other file
                _log.exception("cannot look at the guests in %s", self._listing.folder)
                continue
            if changed and not self._ended.is_set():
                self._changed(list(self._listing.guests.values()))

    def _complain(self) -> None:
        """Log what is wrong, each thing once."""
        problems = dict(self._listing.problems)
        for name, text in problems.items():
            if self._logged.get(name) != text:
                rest = "; what it said before still holds" if name in self._listing.guests else ""
                _log.warning("a guest is not as it should be%s: %s", rest, text)
        self._logged = problems
