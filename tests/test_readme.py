"""What the README says is true: its code runs, and its commands exist."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from dingo_zmq import config
from dingo_zmq.mesh.sockets import PORTS
from dingo_zmq.model import Options

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FENCE = re.compile(r"^```(\w+)\n(.*?)^```\n", re.M | re.S)
BLOCKS = [match[2] for match in FENCE.finditer(README) if match[1] == "python"]
NAMED = {block.split()[1]: block for block in BLOCKS if block.startswith("# ")}  # "# tasks.py" begins a file
GUESTS = re.findall(
    r"^```console\n(.*?)^```\n", README.partition("\n## Guests\n")[2].partition("\n## ")[0], re.M | re.S
)
SECONDS = 30


def python(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter as somebody would who installed the package."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False)


def run(block: str, folder: Path) -> str:
    """Run a block as a script, and return what it prints."""
    script = folder / "script.py"
    script.write_text(block)
    done = python(script, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[list[str]]:
    """Serve the README's tasks.py beside its caller.py in a folder; give what the node says at first."""
    for name, block in NAMED.items():
        (folder / name).write_text(block)
    command = [sys.executable, "-m", "dingo_zmq", "node", "tasks.py"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield [process.stdout.readline() for _ in range(3)]
        finally:
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(SECONDS) == 0
            finally:
                process.kill()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[list[str]]:
    """Serve the README's tasks.py in `tmp_path`; see `serving`."""
    with serving(tmp_path) as said:
        yield said


def test_the_first_block_prints_five(tmp_path: Path) -> None:
    assert run(BLOCKS[0], tmp_path) == "5\n"


def test_the_first_screen_has_what_one_needs() -> None:
    lines = README.splitlines()
    code = BLOCKS[0].splitlines()

    assert lines.index("```python") < 25
    assert "__main__" not in BLOCKS[0]
    assert len([line for line in code if line]) <= 8
    first_screen = "\n".join(lines[:35])
    assert all(text in first_screen for text in ("pip install dingo-zmq", "make demo", "make test"))


@pytest.mark.parametrize(
    ("code", "output"),
    [
        pytest.param(before[2], after[2], id=before[2].splitlines()[0])
        for before, after in zip(FENCE.finditer(README), list(FENCE.finditer(README))[1:], strict=False)
        if (before[1], after[1]) == ("python", "text")
    ],
)
def test_a_block_with_its_output_below_prints_that(code: str, output: str, tmp_path: Path) -> None:
    assert run(code, tmp_path) == output


def test_every_block_is_run_by_a_test_here() -> None:
    shown = [
        before
        for before, after in zip(FENCE.findall(README), FENCE.findall(README)[1:], strict=False)
        if (before[0], after[0]) == ("python", "text")
    ]

    assert set(BLOCKS) == {BLOCKS[0], *NAMED.values(), *(block for _, block in shown)}
    assert set(NAMED) == {"tasks.py", "caller.py", "test_adapter.py", "survivor.py"}


def test_the_contracts_run_as_shown(tmp_path: Path) -> None:
    (tmp_path / "test_adapter.py").write_text(NAMED["test_adapter.py"])
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_adapter.py", cwd=tmp_path)

    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 25


def test_every_other_block_is_tested_too() -> None:
    second_machine = README.partition("\n## A second machine\n")[2].partition("\n## ")[0]

    assert {language for language, _ in FENCE.findall(README)} == {"python", "text", "console", "toml"}
    known = second_machine.count("```console") + len(GUESTS)  # see net/test_readme.py
    assert README.count("```console") == known
    assert README.count("```toml") == 1


def test_guests_come_and_go_as_shown(tmp_path: Path) -> None:
    assert python("-m", "dingo_zmq", "keygen", cwd=tmp_path).returncode == 0
    (shown,) = GUESTS
    shown = shown.replace("/home/ann/.config/dingo-zmq", os.environ["DINGO_ZMQ_CONFIG_DIR"])
    for part in shown.replace("/home/ann", str(tmp_path)).split("bench-1$ dingo-zmq ")[1:]:
        command, _, output = part.partition("\n")
        done = python("-m", "dingo_zmq", *command.split(), cwd=tmp_path)
        assert (done.stdout, done.stderr, done.returncode) == (output, "", 0)


def test_two_terminals_do_what_is_shown(node: list[str], tmp_path: Path) -> None:
    called = python("-m", "dingo_zmq", "call", "add", "2", "3", cwd=tmp_path)
    by_program = python("caller.py", cwd=tmp_path)

    mesh = os.environ["DINGO_ZMQ_MESH"]
    shown = re.search(r"^    node bench: (.*)\n    (to let .*\n)    (try: .*\n)", README, re.M)
    assert shown is not None
    expected = re.escape(shown[1]).replace("47100", r"\d+").replace("mesh\\ default", f"mesh {mesh}")
    assert re.fullmatch(rf"node \S+: {expected}\n", node[0])
    assert node[1:] == [shown[2], shown[3]]
    assert (called.returncode, called.stdout, called.stderr) == (0, "5\n", "")
    assert (by_program.returncode, by_program.stdout, by_program.stderr) == (0, "5\n", "")


def test_a_caller_that_may_die_gets_what_was_open(node: list[str], tmp_path: Path) -> None:
    dies = NAMED["survivor.py"].replace("print(add.call(2, 3).result(timeout=10))", "add.call(4, 5); os._exit(9)")
    (tmp_path / "dies.py").write_text(f"import os\n{dies}")
    assert python("dies.py", cwd=tmp_path).returncode == 9
    after = python("survivor.py", cwd=tmp_path)
    again = python("survivor.py", cwd=tmp_path)

    assert (after.returncode, after.stdout, after.stderr) == (0, "add 1-1 9\n5\n", "")
    assert (again.returncode, again.stdout, again.stderr) == (0, "5\n", "")


def test_a_glance_at_the_mesh_is_as_shown(node: list[str], tmp_path: Path) -> None:
    glance = "from tasks import app, add; add.call(2, 3).result(10); print(app)"
    seen = python("-c", glance, cwd=tmp_path)

    shown = re.search(r"`(<App mesh .*>)`", README)
    assert shown is not None
    expected = re.escape(shown[1]).replace("default", os.environ["DINGO_ZMQ_MESH"])
    assert re.fullmatch(rf"{re.sub(r'[0-9]+(?=.. workers)', '[0-9]+', expected)}\n", seen.stdout), seen


def test_the_file_of_settings_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = (block for language, block in FENCE.findall(README) if language == "toml")
    file = Path(os.environ["DINGO_ZMQ_CONFIG_DIR"]) / "config.toml"
    file.write_text(text)
    monkeypatch.delenv("DINGO_ZMQ_MESH")
    told = json.loads(python("-m", "dingo_zmq", "config", "--json", cwd=tmp_path).stdout)["settings"]

    from_file = {name: each["value"] for name, each in told.items() if each["source"] == str(file)}
    assert from_file == tomllib.loads(text)
    with serving(tmp_path) as said:
        assert re.match(r"node bench-3/1, bench-3/2: add at \S+, \S+, mesh lab,", said[0])


def test_variables_and_options_come_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path(os.environ["DINGO_ZMQ_CONFIG_DIR"]) / "config.toml").write_text('tags = ["a"]\nthreads = 1\ngrace = 1\n')
    monkeypatch.setenv("DINGO_ZMQ_TAGS", "psu,cryo")
    monkeypatch.setenv("DINGO_ZMQ_GRACE", "2")
    told = json.loads(python("-m", "dingo_zmq", "config", "--json", "--grace", "3", cwd=tmp_path).stdout)[
        "settings"
    ]

    assert [told[name]["value"] for name in ("tags", "threads", "grace")] == [["psu", "cryo"], 1, 3.0]
    assert "`DINGO_ZMQ_TAGS=psu,cryo`" in README


def test_every_command_named_is_listed_by_help(tmp_path: Path) -> None:
    listed = python("-m", "dingo_zmq", "--help", cwd=tmp_path).stdout
    commands = set(re.findall(r"^  (\w+)  ", listed.partition("Commands:")[2], re.M))

    assert set(re.findall(r"`dingo-zmq ([a-z]\w*)", README)) == commands


@pytest.mark.parametrize("command", ["node", "forward"])
def test_every_option_of_a_node_or_forwarder_named_is_in_its_help(command: str, tmp_path: Path) -> None:
    helped = python("-m", "dingo_zmq", command, "--help", cwd=tmp_path).stdout
    paragraph = re.search(rf"^Options of a {command}(?:er)?: (.*?)\n\n", README, re.M | re.S)

    assert paragraph is not None
    assert set(re.findall(r"`(--[a-z-]+)`", paragraph[1])) == set(re.findall(r"(--[a-z-]+)", helped)) - {"--help"}


def test_every_option_of_a_call_named_is_in_its_help(tmp_path: Path) -> None:
    helped = python("-m", "dingo_zmq", "call", "--help", cwd=tmp_path).stdout
    row = re.search(r"^\| `dingo-zmq call .*$", README, re.M)

    assert row is not None
    named = set(re.findall(r"`(--[a-z-]+)`", row[0]))
    assert {"--at-most-once", "--expires"} <= named <= set(re.findall(r"(--[a-z-]+)", helped))


def test_every_option_of_a_task_is_there() -> None:
    table = README.partition("| option | default | means |\n")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}

    assert named == {field.name for field in fields(Options)}


def test_the_ports_that_a_firewall_has_to_let_in_are_all() -> None:
    assert re.search(rf"TCP ports {PORTS[0]} to\s{PORTS[-1]},", README)


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`| {4})make ([a-z-]+)", README))

    assert {"demo", "test"} <= named <= targets


def test_every_variable_named_is_read_by_the_package() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "dingo_zmq").rglob("*.py"))
    read = {setting.variable for setting in config.SETTINGS.values()} | set(re.findall(r"DINGO_ZMQ_\w+", sources))
    named = set(re.findall(r"DINGO_ZMQ_[A-Z_]*[A-Z]", README))

    assert {"DINGO_ZMQ_MODE", "DINGO_ZMQ_KEY", "DINGO_ZMQ_CONFIG"} <= named <= read | {"DINGO_ZMQ_RUNTIME_DIR"}


def test_every_file_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#][^)]*)\)", README)
    scripts = re.findall(r"`python (\S+\.py)", README)

    titles = re.findall(r"^## (.*)", README, re.M)
    headings = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}

    assert set(re.findall(r"\]\(#([^)]*)\)", README)) <= headings
    assert links
    assert scripts
    assert all((ROOT / name).exists() for name in links + scripts)
