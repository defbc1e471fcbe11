"""`make demo` with a node killed in the middle: all answers arrive, and nothing stays behind."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import processes_left, processes_with

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
FILES = 300
SECONDS = 40  # to end; a process that does not is asked to clean up behind itself

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder of files that take a while, since random bytes are hard to compress."""
    dice = random.Random(7)
    for number in range(FILES):
        folder = tmp_path / "files" / f"[{number % 7}]"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.bin").write_bytes(dice.randbytes(1_000 + 500 * number))
    (tmp_path / "files" / "link").symlink_to("nowhere")
    return tmp_path / "files"


@pytest.fixture
def place(session_folder: Path) -> Path:
    """Return the folder in which the demo makes its own; its processes have it in their environment."""
    return Path(tempfile.mkdtemp(prefix="demo", dir=session_folder))


@pytest.fixture
def start(place: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Return what starts the demo."""
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setenv("COLUMNS", "120")

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(DEMO), *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def finish(demo: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = demo.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        demo.terminate()
        out, err = demo.communicate()
    return demo.returncode, out, err


def test_nothing_is_lost_when_a_node_is_killed_in_the_middle(start: Start, files: Path, place: Path) -> None:
    code, out, err = finish(start(files, "--kill"))

    assert code == 0, out + err
    assert re.search(r"known +│ directory, zeroconf +│ ready", out), out
    assert re.search(r"quiet +│ zeroconf +│ ready", out), out
    assert f"known was ended by SIGKILL after {FILES // 2} of {FILES} answers" in out
    assert f"{FILES} answers, 0 of them differ" in out
    assert "[5]/299.bin" in out
    assert processes_left(str(place)) == {}
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(
    start: Start, files: Path, place: Path, number: signal.Signals
) -> None:
    demo = start(files)
    end = time.monotonic() + SECONDS
    mark = str(place / "dingo-zmq-demo-")
    while len(processes_with(mark)) < 2 and time.monotonic() < end:
        time.sleep(0.05)

    os.kill(demo.pid, number)

    code, out, err = finish(demo)
    assert code == 128 + number, out + err
    assert processes_left(str(place)) == {}
    assert list(place.iterdir()) == []
