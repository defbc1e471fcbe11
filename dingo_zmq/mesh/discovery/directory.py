"""Nodes of the same host and user, found by small files in a private folder."""

from __future__ import annotations

import os
import secrets
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from dingo_zmq.mesh.discovery.board import Note, board_folder, note_path, read_notes, remove, write_note
from dingo_zmq.mesh.discovery.gate import Gate
from dingo_zmq.mesh.discovery.port import Announcement, Changed, Emit, Found, Gone, check_node_id
from dingo_zmq.model import MAX_NODES

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DirectoryAnnouncer", "DirectorySource"]

_SETTLED = 0.2  # a folder changed more recently than this may change again within the same clock tick


class DirectoryAnnouncer:
    """Keeps one locked file per node; the system unlocks them should this process die.  Safe for threads."""

    def __init__(self, folder: Path | str | None = None) -> None:
        """
        Prepare the folder.

        Args:
            folder: the default is DINGO_ZMQ_RUNTIME_DIR, or `dingo-zmq` in the user's runtime folder.

        Raises:
            ConfigError: if the folder cannot be made, or others could use it.
        """
        self._folder = board_folder(folder)
        self._token = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._held: dict[str, int | None] = {}

    def announce(self, announcement: Announcement) -> None:
        """
        Write the file of a node; it is there when this returns.

        Raises:
            ConfigError: if it cannot be written.
            UsageError: if the node's id is not one that `check_node_id` accepts.
        """
        check_node_id(announcement.node)
        with self._lock:
            board_folder(self._folder)  # somebody may have cleaned up
            fd = write_note(note_path(self._folder, announcement.node, self._token), announcement)
            old, self._held[announcement.node] = self._held.get(announcement.node), fd
            if old is not None:
                os.close(old)

    def withdraw(self, node: str) -> None:
        """Remove the file of a node; unknown ids are ignored."""
        with self._lock:
            if node in self._held:
                remove(note_path(self._folder, node, self._token))
                fd = self._held.pop(node)
                if fd is not None:
                    os.close(fd)

    def close(self) -> None:
        """Remove the files of all nodes."""
        for node in list(self._held):
            self.withdraw(node)


class DirectorySource:
    """
    Watches the folder: changes are seen within 0.1 s, the death of an announcer within about a second.

    Files that are not announcements are ignored; files whose announcer is dead are removed.
    """

    name = "directory"

    def __init__(
        self, folder: Path | str | None = None, limit: int = MAX_NODES, poll: float = 0.1, check: float = 1.0
    ) -> None:
        """
        Prepare the folder.

        Args:
            folder: as for `DirectoryAnnouncer`.
            limit: files read at a time; further ones are ignored.
            poll: seconds between two looks at the folder's time stamp.
            check: seconds between two looks at every file.

        Raises:
            ConfigError: if the folder cannot be made, or others could use it.
        """
        self._folder = board_folder(folder)
        self._limit = limit
        self._poll, self._check = poll, check
        self._notes: dict[str, Note] = {}
        self._known: dict[tuple[str, str], Announcement] = {}  # by node and who stands in for it
        self._stopping = threading.Event()
        self._gate: Gate | None = None
        self._thread: threading.Thread | None = None

    def start(self, emit: Emit) -> None:
        """Emit `Found` for each node that is there before returning, then watch in a thread."""
        self._gate = gate = Gate(emit)
        self._scan(gate)
        self._thread = threading.Thread(
            target=self._watch, args=(gate,), name="dingo-directory-source", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Emit nothing any more, and end the thread."""
        self._stopping.set()
        if self._gate:
            self._gate.shut()
        if self._thread and self._thread is not threading.current_thread():
            with suppress(RuntimeError):  # its start was cut off, by an exception of a signal
                self._thread.join()

    def _watch(self, gate: Gate) -> None:
        seen, checked = 0, 0.0  # look again at once: the first look may have come just before a change
        while not self._stopping.wait(self._poll if checked else 0):
            stamp, now = self._stamp(), time.monotonic()
            if stamp != seen or now - checked >= self._check:
                unsettled = time.time() - stamp / 1e9 < _SETTLED
                seen, checked = 0 if unsettled else stamp, now
                self._scan(gate)

    def _stamp(self) -> int:
        try:
            return self._folder.stat().st_mtime_ns
        except OSError:
            return -1

    def _scan(self, gate: Gate) -> None:
        self._notes = read_notes(self._folder, self._notes, self._limit)
        newest = sorted(self._notes.values(), key=lambda note: note.version[1])
        present = {(note.announcement.node, note.announcement.via): note.announcement for note in newest}
        for node, via in self._known.keys() - present.keys():
            gate(Gone(node, self.name, via))
        for which, announcement in present.items():
            if which not in self._known:
                gate(Found(announcement, self.name))
            elif self._known[which] != announcement:
                gate(Changed(announcement, self.name))
        self._known = present
