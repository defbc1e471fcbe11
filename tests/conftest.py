"""What every test gets: its own mesh and folders, and a look at what it leaves behind."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from itertools import chain, groupby, zip_longest
from pathlib import Path

import pytest
from hypothesis import settings

PREFIX = "DINGO_ZMQ_"
PATIENCE = 2.0  # seconds that a thread or process has for ending after its test

settings.register_profile("dingo", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("dingo")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in `make test &`; what the tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that mostly wait, by turns with those that compute: at the end one would wait alone."""
    files = [list(group) for _, group in groupby(items, key=lambda item: item.path)]
    waiting = [file for file in files if file[0].path.parent.name == "net"]
    others = [file for file in files if file not in waiting]
    by_turns = [file for pair in zip_longest(waiting, others, fillvalue=[]) for file in pair]
    items[:] = chain.from_iterable(by_turns)


def settle(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Point the environment at a mesh that nobody else is in, and at fresh folders below `folder`."""
    for kind in ("config", "runtime"):
        (folder / kind[0]).mkdir(mode=0o700, parents=True)
        patch.setenv(f"{PREFIX}{kind.upper()}_DIR", str(folder / kind[0]))
    patch.setenv(f"{PREFIX}MESH", f"test-{secrets.token_hex(6)}")


@pytest.fixture(scope="session", autouse=True)
def session_folder() -> Iterator[Path]:
    """
    A folder for the whole run, with a path short enough for Unix sockets.

    No DINGO_ZMQ_* of the outside reaches a test.  Fixtures wider than one test find a mesh and folders of
    the session; what they start has to be given its mesh by hand if tests are to meet it.

    At the end no process of ours may be left: one that has this folder in its environment.
    """
    root = Path(tempfile.mkdtemp(prefix="dz", dir="/tmp" if os.access("/tmp", os.W_OK) else None))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            patch.delenv(name)
        settle(patch, root / "s")
        yield root
    left = processes_left(str(root))
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(root, ignore_errors=True)
    if left:
        pytest.fail(f"processes left behind (and killed): {left}", pytrace=False)


def processes_left(mark: str) -> dict[int, str]:
    """Wait a little for every process with `mark` in its environment; return those that stay, Linux only."""
    deadline = time.monotonic() + PATIENCE
    while (left := processes_with(mark)) and time.monotonic() < deadline:
        multiprocessing.active_children()  # collects those that have ended
        time.sleep(0.02)
    return left


def processes_with(mark: str) -> dict[int, str]:
    """Return pid and command line of the other processes that have `mark` in their environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() not in (folder / "environ").read_bytes():
                continue
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # gone, or somebody else's
            continue
        # The resource tracker of multiprocessing ends by itself, with this process.
        if int(folder.name) != os.getpid() and "multiprocessing.resource_tracker" not in command:
            found[int(folder.name)] = command
    return found


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fail a test that leaves a thread which would keep the process alive, or one of ours."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + PATIENCE
    for thread in threads_since(before):
        thread.join(max(0.0, deadline - time.monotonic()))
    if left := threads_since(before):
        pytest.fail("\n".join(["threads left behind:", *map(where_it_stands, left)]), pytrace=False)


def threads_since(before: set[threading.Thread]) -> list[threading.Thread]:
    """Return the threads that were started since, and that a test has to end."""
    new = [thread for thread in threading.enumerate() if thread not in before]
    ours = ("dingo", "(_run_loop)")  # the latter is zeroconf's, which has no other name
    return [t for t in new if not t.daemon or any(part in t.name for part in ours)]


def where_it_stands(thread: threading.Thread) -> str:
    """Return the thread's name and the end of its stack."""
    frame = sys._current_frames().get(thread.ident or 0)
    stack = "".join(traceback.format_stack(frame)[-3:]) if frame else "  (ended meanwhile)\n"
    return f"{thread.name}{' (daemon)' * thread.daemon}\n{stack}"


@pytest.fixture(autouse=True)
def own_mesh(no_thread_left: None, session_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test a mesh name, a configuration folder and a runtime folder of its own."""
    folder = session_folder / secrets.token_hex(3)
    settle(monkeypatch, folder)
    yield
    shutil.rmtree(folder, ignore_errors=True)
