"""Which changes of served files count."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from dingo_zmq.mesh.filewatch import FileWatch, changed_at


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    files = [tmp_path / "one.py", tmp_path / "two.py"]
    for file in files:
        write(file, "x = 1\n", 1)
    return files


def write(file: Path, text: str, at: int) -> None:
    file.write_text(text)
    os.utime(file, ns=(at, at))


def test_changed_files_are_named(files: list[Path]) -> None:
    watch, before = FileWatch(), {str(file): changed_at(str(file)) for file in files}
    assert watch.changed(before) == []
    write(files[1], "x = 2\n", 2)
    assert watch.changed(before) == [str(files[1])]
    write(files[0], "x = 2\n", 2)
    assert watch.changed(before) == [str(file) for file in files]


def test_one_that_does_not_compile_keeps_all_back_and_is_told_once(
    files: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    watch, before = FileWatch(), {str(file): changed_at(str(file)) for file in files}
    write(files[0], "x = 2\n", 2)
    for text in ("x = (\n", "\0"):
        write(files[1], text, 2 + len(text))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert watch.changed(before) == watch.changed(before) == []
        assert len(caplog.records) == 1
        assert f"{files[1]} changed, but the old one goes on" in caplog.text
    write(files[1], "x = 3\n", 9)
    assert watch.changed(before) == [str(file) for file in files]


def test_one_that_is_gone_does_not_count(files: list[Path]) -> None:
    watch, before = FileWatch(), {str(file): changed_at(str(file)) for file in files}
    files[1].unlink()
    assert watch.changed(before) == []
    write(files[0], "x = 2\n", 2)
    assert watch.changed(before) == [str(files[0])]
