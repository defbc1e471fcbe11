"""Files and folders that nobody else on this machine may read or change."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shlex
import stat
import sys
from pathlib import Path

from dingo_zmq.errors import ConfigError

__all__ = ["is_mine", "open_private", "private_folder", "private_temp"]

_POSIX = sys.platform != "win32"
_SAFE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC if _POSIX else 0
_NONBLOCK = os.O_NONBLOCK if _POSIX else 0


def is_mine(info: os.stat_result, forbidden: int = 0o077) -> bool:
    """Return whether we own it and no bit of `forbidden` is set in its mode; always true on Windows."""
    return not _POSIX or (info.st_uid == os.geteuid() and not info.st_mode & forbidden)


def private_folder(path: Path, forbidden: int = 0o077) -> Path:
    """
    Make the folder with mode 0700, or check the one that exists.

    Args:
        path: the folder; missing parents are made with the usual mode.
        forbidden: mode bits that an existing folder may not have.

    Raises:
        ConfigError: if it cannot be made, is a link, belongs to somebody else, lies in a folder where others
            could replace it, or has a forbidden bit.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            path.chmod(0o700)
        info, parent = path.lstat(), path.parent.stat()
    except OSError as exc:
        raise ConfigError(f"cannot use the folder {path}: {exc.strerror or exc}") from exc
    problem = _folder_problem(path, info, forbidden) or _parent_problem(path, parent)
    if problem:
        raise ConfigError(f"the folder {path} is not safe: {problem}")
    return path


def _folder_problem(path: Path, info: os.stat_result, forbidden: int) -> str:
    if stat.S_ISLNK(info.st_mode):
        return f"it is a symbolic link; hint: use {path.resolve()} itself"
    if not stat.S_ISDIR(info.st_mode):
        return f"it is not a folder; hint: mv {shlex.quote(str(path))} {shlex.quote(f'{path}.old')}"
    if _POSIX and info.st_uid != os.geteuid():
        quoted = shlex.quote(str(path))
        return f"it belongs to user {info.st_uid}, not to {os.geteuid()}; hint: sudo chown {os.geteuid()} {quoted}"
    if not is_mine(info, forbidden):
        mode = stat.S_IMODE(info.st_mode)
        return f"others may use it (mode {mode:04o}); hint: chmod 700 {shlex.quote(str(path))}"
    return ""


def _parent_problem(path: Path, info: os.stat_result) -> str:
    if not _POSIX:
        return ""
    if info.st_uid not in (0, os.geteuid()):
        return (
            f"its parent {path.parent} belongs to user {info.st_uid}, who could replace it; "
            "hint: use another folder"
        )
    if info.st_mode & 0o002 and not info.st_mode & stat.S_ISVTX:
        parent = shlex.quote(str(path.parent))
        return f"anybody may write in its parent; hint: chmod o-w {parent}"
    return ""


def open_private(path: Path, make_command: str) -> int:
    """
    Open a file for reading that only we can read; return the descriptor.

    Args:
        path: the file.
        make_command: the command that makes such a file, told when there is none.

    Raises:
        ConfigError: if it is missing, a link, no plain file, foreign, or open to group or others; the text
            names the file, what is wrong, and the command that repairs it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | _SAFE_FLAGS | _NONBLOCK)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; hint: {make_command}") from None
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            quoted = shlex.quote(str(path))
            repair = f'cp -p --remove-destination "$(readlink -f {quoted})" {quoted}'
            raise ConfigError(f"{path} is a symbolic link; hint: {repair}") from exc
        raise ConfigError(f"cannot read {path}: {exc.strerror or exc}") from exc
    problem = _file_problem(path, os.fstat(fd))
    if problem:
        os.close(fd)
        raise ConfigError(f"{path} {problem}")
    return fd


def _file_problem(path: Path, info: os.stat_result) -> str:
    quoted = shlex.quote(str(path))
    if not stat.S_ISREG(info.st_mode):
        return f"is not a plain file; hint: mv {quoted} {shlex.quote(f'{path}.old')}"
    if _POSIX and info.st_uid != os.geteuid():
        return f"belongs to user {info.st_uid}, not to {os.geteuid()}; hint: sudo chown {os.geteuid()} {quoted}"
    if not is_mine(info):
        mode = stat.S_IMODE(info.st_mode)
        return f"can be read or changed by others (mode {mode:04o}); hint: chmod 600 {quoted}"
    return ""


def private_temp(folder: Path, content: bytes) -> tuple[int, Path]:
    """
    Write a new file of mode 0600, whatever the umask, under a hidden temporary name in `folder`.

    Returns:
        The open descriptor and the path.  The caller renames or links the file, and closes the descriptor.

    Raises:
        ConfigError: if it cannot be written.
    """
    path = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE_FLAGS, 0o600)
    except OSError as exc:
        raise ConfigError(f"cannot write in {folder}: {exc.strerror or exc}") from exc
    try:
        if _POSIX:
            os.fchmod(fd, 0o600)
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
    except OSError as exc:
        os.close(fd)
        path.unlink(missing_ok=True)
        raise ConfigError(f"cannot write in {folder}: {exc.strerror or exc}") from exc
    return fd, path
