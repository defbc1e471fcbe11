"""Finding an App by the words of a command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dingo_zmq import App
from dingo_zmq.cli.loading import load_app
from dingo_zmq.errors import ConfigError

ONE = "from dingo_zmq import App\napp = App()\n@app.task\ndef add(a: int) -> int:\n    return a\n"
TWO = ONE + "other = App()\n"


@pytest.fixture(autouse=True)
def imports() -> Iterator[None]:
    """Put back what an import changes."""
    path, modules = list(sys.path), dict(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - set(modules):
        if not name.startswith("dingo_zmq"):
            del sys.modules[name]
    sys.modules.update(modules)


def write(folder: Path, text: str, name: str = "their_tasks.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_the_one_app_of_a_file(tmp_path: Path) -> None:
    app = load_app(str(write(tmp_path, ONE)))
    assert isinstance(app, App)
    assert "add" in app.registry


def test_one_app_under_two_names_is_one(tmp_path: Path) -> None:
    assert load_app(str(write(tmp_path, ONE + "same = app\n")))


def test_an_app_by_its_name(tmp_path: Path) -> None:
    file = write(tmp_path, TWO)
    assert "add" in load_app(f"{file}:app").registry
    assert "add" not in load_app(f"{file}:other").registry


def test_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, ONE)
    monkeypatch.chdir(tmp_path)
    assert "add" in load_app("their_tasks").registry
    assert load_app("their_tasks:app") is load_app("their_tasks")


def test_a_file_with_a_dataclass_and_a_neighbour(tmp_path: Path) -> None:
    write(tmp_path, "FIVE = 5\n", "their_neighbour.py")
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom their_neighbour import FIVE\n"
        f"{ONE}@dataclass\nclass Row:\n    a: int = FIVE\n@app.task\ndef row(row: Row) -> Row:\n    return row\n"
    )
    assert "row" in load_app(str(write(tmp_path, text))).registry


@pytest.mark.parametrize("name", ["queue", "json", "types", "click"])
def test_a_file_that_is_called_like_a_module_in_use(tmp_path: Path, name: str) -> None:
    module = sys.modules[name]
    assert "add" in load_app(str(write(tmp_path, ONE, f"{name}.py"))).registry
    assert sys.modules[name] is module


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = (\n", r"cannot import .*their_tasks.py: SyntaxError: .*line 1"),
        ("x = 1\nimport no_such_module\n", r"ModuleNotFoundError: No module named 'no_such_module' \(line 2 of "),
        ("def f():\n    1 / 0\nf()\n", r"ZeroDivisionError: division by zero \(line 2 of .*their_tasks.py\)"),
        ("raise SystemExit(3)\n", r"SystemExit: 3 \(line 1"),
        ("import os\n", r"makes no App; hint: app = App"),
        (TWO, r"several Apps; hint: name one of them: .*their_tasks.py:app, other"),
    ],
)
def test_what_cannot_be_loaded(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_app(str(write(tmp_path, text)))


def test_a_name_that_is_no_app(tmp_path: Path) -> None:
    file = write(tmp_path, TWO)
    for name in ("third", "add", "App"):
        with pytest.raises(ConfigError, match=f"no App named '{name}'; hint: it has app, other"):
            load_app(f"{file}:{name}")
    with pytest.raises(ConfigError, match="it has none at all"):
        load_app(f"{write(tmp_path, '', 'empty_tasks.py')}:app")


@pytest.mark.parametrize(
    "target", ["no_such_file.py", "no_such_module", "no_such.package.module", "", ":app", "."]
)
def test_what_is_not_there(target: str) -> None:
    with pytest.raises(ConfigError):
        load_app(target)


def test_ctrl_c_while_a_file_is_imported_is_no_fault_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "slow_tasks.py"
    file.write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_app(str(file))
