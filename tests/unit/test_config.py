"""Settings: what comes before what, and what is said of those that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dingo_zmq import App, config
from dingo_zmq.errors import ConfigError


@pytest.fixture(autouse=True)
def no_file_named() -> Iterator[None]:
    yield
    config.use(None)


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in its usual place; the mesh of the tests is not told by a variable."""
    monkeypatch.delenv("DINGO_ZMQ_MESH")
    return Path(os.environ["DINGO_ZMQ_CONFIG_DIR"]) / "config.toml"


def test_flags_before_variables_before_the_file_before_defaults(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mesh(**flags: Any) -> tuple[Any, str]:
        value = config.resolve(flags).values["mesh"]
        return value.value, value.source

    assert mesh() == ("default", "default")
    assert not config.resolve().found
    file.write_text('mesh = "of the file"\n')
    assert mesh() == ("of the file", str(file))
    assert config.resolve().found
    monkeypatch.setenv("DINGO_ZMQ_MESH", "of a variable")
    assert mesh() == ("of a variable", "DINGO_ZMQ_MESH")
    assert mesh(mesh="of a flag") == ("of a flag", "--mesh")
    assert mesh(mesh=None) == ("of a variable", "DINGO_ZMQ_MESH")
    monkeypatch.setenv("DINGO_ZMQ_MESH", "")
    assert mesh() == ("of the file", str(file))


def test_a_file_of_another_name(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('mesh = "usual"\n')
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text('mesh = "one"\n')
    two.write_text('mesh = "two"\n')
    monkeypatch.setenv("DINGO_ZMQ_CONFIG", str(one))
    assert config.resolve()["mesh"] == "one"
    config.use(two)
    assert config.resolve()["mesh"] == "two"
    config.use(None)
    assert config.resolve()["mesh"] == "one"


def test_a_named_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "missing.toml"
    monkeypatch.setenv("DINGO_ZMQ_CONFIG", str(missing))
    with pytest.raises(ConfigError, match="there is no file .*missing.toml; hint: .* by DINGO_ZMQ_CONFIG$"):
        config.resolve()
    config.use(tmp_path / "other.toml")
    with pytest.raises(ConfigError, match="there is no file .*other.toml; hint: .* by --config$"):
        config.resolve()


def test_all_kinds_in_a_file(file: Path) -> None:
    file.write_text(
        'tags = ["a", "b"]\ndiscovery = ["none"]\nport = 47200\ngrace = 5\nreload = true\nkey = "lab.key"\n'
    )
    found = config.resolve()
    assert (found["tags"], found["discovery"], found["port"]) == (("a", "b"), (), 47200)
    assert (found["grace"], found["reload"]) == (5.0, True)
    assert isinstance(found["grace"], float)
    assert found["key"] == str(file.parent / "lab.key")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("tags", "a, b,,c", ("a", "b", "c")),
        ("discovery", "none", ()),
        ("discovery", "directory,zeroconf", ("directory", "zeroconf")),
        ("peers", "tcp://a:1,tcp://b:2", ("tcp://a:1", "tcp://b:2")),
        ("port", "47200", 47200),
        ("grace", "0.5", 0.5),
        ("mode", "mesh", "mesh"),
        *[("reload", word, True) for word in ("1", "true", "YES", "on", "True")],
        *[("insecure_lan", word, False) for word in ("0", "false", "No", "off")],
    ],
)
def test_all_kinds_in_variables(name: str, text: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"DINGO_ZMQ_{name.upper()}", text)
    found = config.resolve()
    assert found[name] == value
    assert found.is_set(name)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("port", "x", "DINGO_ZMQ_PORT must be a whole number of 1 to 65534, not 'x'; hint: DINGO_ZMQ_PORT=47100"),
        ("port", "0", "1 to 65534, not '0'"),
        ("threads", "0", "a whole number of at least 1, not '0'; hint: DINGO_ZMQ_THREADS=8"),
        ("grace", "-1", "a number of seconds, not '-1'; hint: DINGO_ZMQ_GRACE=30"),
        ("grace", "nan", "a number of seconds"),
        ("grace", "inf", "a number of seconds"),
        ("reload", "maybe", "true or false, not 'maybe'; hint: DINGO_ZMQ_RELOAD=true"),
        ("log_level", "loud", "one of debug, info, warning, error, not 'loud'; hint: DINGO_ZMQ_LOG_LEVEL=warning"),
        ("mode", "cloud", "one of local, mesh"),
    ],
)
def test_variables_that_cannot_be(name: str, text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"DINGO_ZMQ_{name.upper()}", text)
    with pytest.raises(ConfigError) as caught:
        config.resolve()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('mehs = "lab"', "unknown setting 'mehs'; hint: did you mean mesh?"),
        ('log-level = "info"', "did you mean log_level?"),
        ('wibble = "lab"', "hint: dingo-zmq config shows all there are"),
        ("[node]", "unknown setting 'node'"),
        ('mode = "mesh"', "mode cannot be set in a file; hint: DINGO_ZMQ_MODE"),
        ('threads = "8"', "threads must be a whole number of at least 1, not '8'; hint: threads = 8"),
        ("threads = true", "not True"),
        ("threads = 1.5", "not 1.5"),
        ("processes = 257", "1 to 256, not 257; hint: processes = 1"),
        ("grace = true", "not True; hint: grace = 30"),
        ("grace = inf", "a number of seconds"),
        ("reload = 1", "true or false, not 1"),
        ("mesh = 5", "mesh must be a text, not 5"),
        ('mesh = ""', "mesh must be a text"),
        ('tags = "a"', "a list of texts, not 'a'; hint: tags = [\"psu\"]"),
        ("tags = [1]", "a list of texts"),
        ('bind = {a = "b"}', "a list of texts"),
        ('discovery = "none"', 'hint: discovery = ["directory", "zeroconf"]'),
        ("mesh = lab", "is not TOML: "),
        ("\udcff", "is not TOML: "),
        ("tags = " + "[" * 5000, "is not TOML: "),
    ],
)
def test_files_that_cannot_be(file: Path, text: str, words: str) -> None:
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        config.resolve()
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert "; hint: " in str(caught.value)


def test_a_folder_instead_of_a_file(file: Path) -> None:
    file.mkdir()
    with pytest.raises(ConfigError, match="cannot read .*config.toml"):
        config.resolve()


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_a_file_that_anybody_may_change(file: Path) -> None:
    file.touch()
    file.chmod(0o666)
    with pytest.raises(ConfigError, match="anybody may change .*; hint: chmod o-w"):
        config.resolve()
    file.chmod(0o664)
    assert config.resolve().found


def test_variables_that_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DINGO_ZMQ_THREDS", "DINGO_ZMQ_XYZZY", "DINGO_ZMQ_CONTROL_FD"):
        monkeypatch.setenv(name, "1")
    assert config.resolve().unknown == {
        "DINGO_ZMQ_THREDS": "did you mean DINGO_ZMQ_THREADS?",
        "DINGO_ZMQ_XYZZY": "",
    }


@pytest.mark.parametrize("name", config.SETTINGS)
def test_hints_are_good_examples(name: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an error tells to write is right."""
    setting = config.SETTINGS[name]
    if setting.in_file:
        file.write_text(f"{name} = 1979-05-27\n")
        with pytest.raises(ConfigError) as caught:
            config.resolve()
        file.write_text(str(caught.value).partition("; hint: ")[2])
        assert config.resolve().is_set(name)
        file.unlink()
    if setting.kind in ("whole", "seconds", "switch") or setting.choices:
        monkeypatch.setenv(setting.variable, "?")
        with pytest.raises(ConfigError) as caught:
            config.resolve()
        variable, _, value = str(caught.value).partition("; hint: ")[2].partition("=")
        assert variable == setting.variable
        monkeypatch.setenv(variable, value)
        assert config.resolve().is_set(name)


def test_what_an_app_takes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.for_app({"mesh": None, "peers": (), "limit": None}) == {}
    file.write_text('mesh = "lab"\npeers = ["tcp://a:1"]\nthreads = 3\nmax_open = 7\ninsecure_lan = false\n')
    monkeypatch.setenv("DINGO_ZMQ_DISCOVERY", "directory")
    there = {"mesh": "lab", "peers": ("tcp://a:1",), "max_open": 7, "insecure_lan": False}
    assert config.for_app({}) == {**there, "discovery": ("directory",)}
    given = {"mesh": "mine", "peers": (), "discovery": (), "insecure_lan": None, "max_open": 3}
    assert config.for_app(given) == {**there, "mesh": "mine", "discovery": (), "max_open": 3}


def test_an_app_in_mesh_mode_reads_them(file: Path) -> None:
    file.write_text('mesh = "lab"\nlimit = 5000\n')
    app = App("mesh", limit=6000)
    assert (app.mesh_settings().mesh, app.mesh_settings().limit) == ("lab", 6000)
    file.write_text("nonsense = 1\n")
    with pytest.raises(ConfigError, match="unknown setting 'nonsense'"):
        app.engine()


def test_local_mode_does_not_look(file: Path) -> None:
    """A broken file is none of its business, and it costs no import."""
    file.write_text("nonsense = 1\n")
    text = (
        "import sys\nfrom dingo_zmq import App\napp = App('local')\n@app.task\ndef f() -> int:\n    return 1\n"
        "assert f.call().result(30) == 1\nassert 'dingo_zmq.config' not in sys.modules\n"
    )
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_local_mode_looks_at_few_variables(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("nonsense = 1\n")
    monkeypatch.setenv("DINGO_ZMQ_PORT", "x")
    monkeypatch.setenv("DINGO_ZMQ_MAX_OPEN", "x")
    for given in ({}, {"max_open": 3}):
        app = App("local", **given)
        app.register("f", lambda: 0)
        with pytest.raises(ConfigError, match="DINGO_ZMQ_MAX_OPEN must be a whole number"):
            app.call("f")
    monkeypatch.setenv("DINGO_ZMQ_MAX_OPEN", "3")
    with App("local") as app:
        app.register("f", lambda: 0)
        assert app.call("f").result(30) == 0
