"""Settings by name: from the command line, the environment, a TOML file, or their defaults."""

from __future__ import annotations

import difflib
import math
import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dingo_zmq.errors import ConfigError, UsageError
from dingo_zmq.model import BODY_LIMIT, MAX_CALLERS, MAX_KEPT, MAX_KEPT_BYTES, MAX_NODES, MAX_OPEN, MAX_OPEN_BYTES

__all__ = [
    "DEFAULT",
    "MESH_KEY",
    "PREFIX",
    "SETTINGS",
    "Config",
    "Setting",
    "Value",
    "check",
    "file_path",
    "folder",
    "for_app",
    "of_variables",
    "resolve",
    "use",
]

PREFIX = "DINGO_ZMQ_"
"""of the environment variables: DINGO_ZMQ_MESH is the setting `mesh`"""
DEFAULT = "default"
"""the source of what nobody has set"""

MESH_KEY = "mesh.key"
"""the mesh key that is used where nobody names one: this file in `folder`, if it is there"""

_NO_SETTINGS = {"CONFIG", "CONFIG_DIR", "RUNTIME_DIR", "CONTROL_FD"}
_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}

Kind = Literal["text", "whole", "seconds", "switch", "list"]


@dataclass(frozen=True, slots=True)
class Setting:
    """
    One thing that can be told.

    Attributes:
        name: in the file; in capitals after DINGO_ZMQ_ in the environment.
        kind: what its value is.
        help: one line for people.
        default: where nobody tells; None means what `help` says.
        flag: the option of a command, "" where it has none.
        least, most: bounds of a number.
        choices: the only texts there are, where not empty.
        for_app: whether an `App` takes it too.
        in_file: whether the file may have it.
    """

    name: str
    kind: Kind
    help: str
    default: Any
    flag: str
    least: float = 0
    most: float = math.inf
    choices: tuple[str, ...] = ()
    for_app: bool = False
    in_file: bool = True

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.name.upper()

    @property
    def wanted(self) -> str:
        """What its value has to be, in words."""
        if self.choices and self.kind == "text":
            return "one of " + ", ".join(self.choices)
        if self.kind == "whole":
            most = "" if self.most == math.inf else f" to {self.most}"
            return f"a whole number of {'at least ' * (not most)}{self.least}{most}"
        return {"text": "a text", "seconds": "a number of seconds", "switch": "true or false"}.get(
            self.kind, "a list of texts"
        )


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("mesh", "text", "Name of the mesh; others never meet.", "default", "--mesh", for_app=True),
        Setting("peers", "list", "Address of a node, tcp://host:port.", (), "--peer", for_app=True),
        Setting(
            "discovery",
            "list",
            'How nodes are found and announced: "directory", "zeroconf", both with a comma, or "none".',
            ("directory", "zeroconf"),
            "--discovery",
            for_app=True,
        ),
        Setting(
            "key",
            "text",
            "File of the mesh or guest key; unless told mesh.key in the settings folder, or this user's own key.",
            None,
            "--key",
            for_app=True,
        ),
        Setting(
            "insecure_lan",
            "switch",
            "No key: anybody on the network can run tasks.",
            False,
            "--insecure-lan",
            for_app=True,
        ),
        Setting(
            "bind",
            "list",
            "Address or interface to keep to; unless told all of them with a mesh key, else loopback.",
            (),
            "--bind",
            for_app=True,
        ),
        Setting(
            "advertise",
            "list",
            "Host or host:port that others are told instead of this machine's addresses.",
            (),
            "--advertise",
            for_app=True,
        ),
        Setting(
            "limit", "whole", "Largest body of a task or report, bytes.", BODY_LIMIT, "", least=1, for_app=True
        ),
        Setting("max_open", "whole", "Tasks of a caller open at a time.", MAX_OPEN, "", least=1, for_app=True),
        Setting(
            "max_open_bytes",
            "whole",
            "Bytes of their large arguments.",
            MAX_OPEN_BYTES,
            "",
            least=1,
            for_app=True,
        ),
        Setting(
            "full",
            "text",
            "What a call does at these bounds: wait, or raise Busy.",
            "wait",
            "",
            choices=("wait", "raise"),
            for_app=True,
        ),
        Setting(
            "max_kept",
            "whole",
            "Answers that a node keeps until their callers have heard them.",
            MAX_KEPT,
            "",
            least=1,
            for_app=True,
        ),
        Setting(
            "max_kept_bytes",
            "whole",
            "Bytes of the large ones of them.",
            MAX_KEPT_BYTES,
            "",
            least=1,
            for_app=True,
        ),
        Setting(
            "max_callers", "whole", "Callers that a node knows at a time.", MAX_CALLERS, "", least=1, for_app=True
        ),
        Setting(
            "max_nodes", "whole", "Nodes that a caller knows at a time.", MAX_NODES, "", least=1, for_app=True
        ),
        Setting("name", "text", "Name of the node; unless told this host's.", None, "--name"),
        Setting("tags", "list", "A word that callers can ask for.", (), "--tag"),
        Setting(
            "port",
            "whole",
            "First of a pair of ports; unless told a free pair.",
            None,
            "--port",
            least=1,
            most=65534,
        ),
        Setting(
            "threads", "whole", "Workers of a process; unless told min(8, cores).", None, "--threads", least=1
        ),
        Setting("processes", "whole", "Node processes.", 1, "--processes", least=1, most=256),
        Setting("grace", "seconds", "Seconds for running tasks to finish in the end.", 30.0, "--grace"),
        Setting("reload", "switch", "Start again when the served files change.", False, "--reload"),
        Setting(
            "log_level",
            "text",
            "What is logged.",
            "warning",
            "--log-level",
            choices=("debug", "info", "warning", "error"),
        ),
        Setting(
            "mode",
            "text",
            "Of an App() that is told none.",
            "local",
            "",
            choices=("local", "mesh", "remote"),
            in_file=False,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Value:
    """A value, and in words where it comes from: a flag, a variable, a file or "default"."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Config:
    """
    All settings.

    Attributes:
        values: by name; all of them are there.
        file: the file that was looked for.
        found: whether it is there.
        unknown: variables that look like ours and mean nothing, with a remark.
    """

    values: dict[str, Value]
    file: Path
    found: bool
    unknown: dict[str, str]

    def __getitem__(self, name: str) -> Any:
        return self.values[name].value

    def is_set(self, name: str) -> bool:
        """Return whether somebody has set it."""
        return self.values[name].source != DEFAULT


_chosen: list[str | None] = [None]  # what --config named, for all of this process


def use(file: str | os.PathLike[str] | None) -> None:
    """Read this file in this process from now on, None for DINGO_ZMQ_CONFIG or the one in the usual place."""
    _chosen[0] = None if file is None else os.fspath(file)


def file_path() -> tuple[Path, bool]:
    """Return the file that is read, and whether somebody named it, so that it must be there."""
    named = _chosen[0] or os.environ.get(f"{PREFIX}CONFIG")
    if named:
        return Path(named).expanduser(), True
    return folder() / "config.toml", False


def folder() -> Path:
    """Return the folder for settings and keys: DINGO_ZMQ_CONFIG_DIR, or else the user's."""
    named = os.environ.get(f"{PREFIX}CONFIG_DIR")
    if named:
        return Path(named)
    import platformdirs  # asked for here, since a program in local mode has no use for it

    return Path(platformdirs.user_config_dir("dingo-zmq"))


def resolve(flags: Mapping[str, Any] | None = None) -> Config:
    """
    Return all settings: flags before variables before the file before defaults.

    Args:
        flags: by the names of settings, as the command line gave them; None and () are not given.

    Raises:
        ConfigError: for a value that cannot be, a file that cannot be read, or an unknown name in it.
    """
    path, named = file_path()
    table = _read(path, named=named)
    values = {name: Value(setting.default, DEFAULT) for name, setting in SETTINGS.items()}
    for name, raw in (table or {}).items():
        values[name] = Value(_from_file(SETTINGS[name], raw, path), str(path))
    for name, setting in SETTINGS.items():
        if text := os.environ.get(setting.variable):
            values[name] = Value(_from_text(setting, text), setting.variable)
    for name, value in (flags or {}).items():
        if value is not None and value != ():
            values[name] = Value(_from_flag(SETTINGS[name], value), SETTINGS[name].flag)
    return Config(values, path, table is not None, _unknown_variables())


def check(given: Mapping[str, Any]) -> None:
    """
    Check numbers and choices that a program gives, by the names of settings; None is not given.

    Raises:
        UsageError: for a value that cannot be.
    """
    for name, value in given.items():
        setting = SETTINGS[name]
        if value is not None and (setting.kind == "whole" or setting.choices) and not _fits(setting, value):
            raise UsageError(_wrong(setting, name, value, f"{name}={_example(setting)}"))


def for_app(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the settings of an App in mesh or remote mode, without those that nobody has set.

    Args:
        given: its arguments, which win; None is not given, nor is an empty tuple but for `discovery`.

    Raises:
        ConfigError: as `resolve`.
    """
    told = {name: value for name, value in given.items() if value is not None}
    told = {name: value for name, value in told.items() if value != () or name == "discovery"}
    config = resolve()
    there = {name: config[name] for name, s in SETTINGS.items() if s.for_app and config.is_set(name)}
    return {**there, **told}


def of_variables(*names: str) -> dict[str, Any]:
    """
    Return those of these settings that a variable has, without a look at anything else.

    Raises:
        ConfigError: for a value that cannot be.
    """
    texts = {name: os.environ.get(SETTINGS[name].variable) for name in names}
    return {name: _from_text(SETTINGS[name], text) for name, text in texts.items() if text}


# ---------------------------------------------------------------------- the file


def _read(path: Path, *, named: bool) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read()
    except (FileNotFoundError, NotADirectoryError):
        if named:
            raise ConfigError(f"there is no file {path}; hint: it was named by {_namer()}") from None
        return None
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror or exc}") from exc
    if os.name == "posix" and mode & stat.S_IWOTH:
        raise ConfigError(f"anybody may change {path}; hint: chmod o-w {path}")
    try:
        table = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as exc:
        raise ConfigError(f'{path} is not TOML: {exc}; hint: write lines such as mesh = "lab"') from exc
    for name in table:
        _check_name(name, path)
    return table


def _namer() -> str:
    return "--config" if _chosen[0] else f"{PREFIX}CONFIG"


def _check_name(name: str, path: Path) -> None:
    known = [setting.name for setting in SETTINGS.values() if setting.in_file]
    if name in known:
        return
    if name in SETTINGS:
        raise ConfigError(f"{path}: {name} cannot be set in a file; hint: {SETTINGS[name].variable}")
    near = nearest(name, known)
    hint = f"did you mean {near}?" if near else "dingo-zmq config shows all there are"
    raise ConfigError(f"{path}: unknown setting {name!r:.80}; hint: {hint}")


def nearest(name: str, known: list[str]) -> str:
    """Return the known name that is most like this one, "" if none is."""
    found = difflib.get_close_matches(name.lower().replace("-", "_"), known, 1, 0.6)
    return found[0] if found else ""


def _from_file(setting: Setting, raw: Any, path: Path) -> Any:
    value = raw
    if setting.kind == "list":
        good = isinstance(raw, list) and all(isinstance(each, str) for each in raw)
        value = _listed(setting, raw) if good else None
    elif setting.kind == "seconds" and isinstance(raw, int) and not isinstance(raw, bool):
        value = float(raw)
    if value is None or not _fits(setting, value):
        words = _wrong(setting, f"{path}: {setting.name}", raw, f"{setting.name} = {_example(setting)}")
        raise ConfigError(words)
    if setting.name == "key":
        return str(path.parent / Path(value).expanduser())
    return value


# ---------------------------------------------------------------------- the environment and flags


def _from_text(setting: Setting, text: str) -> Any:
    makers: dict[str, Callable[[str], Any]] = {
        "text": str,
        "whole": int,
        "seconds": float,
        "switch": lambda word: _SWITCH[word.strip().lower()],
        "list": lambda words: _listed(setting, [word.strip() for word in words.split(",")]),
    }
    try:
        value = makers[setting.kind](text)
    except (ValueError, KeyError):
        value = None
    if value is None or not _fits(setting, value):
        example = _example(setting).strip('[]"').replace('", "', ",")
        raise ConfigError(_wrong(setting, setting.variable, text, f"{setting.variable}={example}"))
    return value


def _from_flag(setting: Setting, value: Any) -> Any:
    if setting.name == "discovery" and isinstance(value, str):
        return _listed(setting, [word.strip() for word in value.split(",")])
    if setting.kind == "list":
        return tuple(value)
    if not _fits(setting, value):
        raise ConfigError(_wrong(setting, setting.flag, value, f"{setting.flag} {_example(setting)}"))
    return value


def _listed(setting: Setting, words: list[str]) -> tuple[str, ...]:
    nothing = ("", "none") if setting.name == "discovery" else ("",)
    return tuple(word for word in words if word not in nothing)


def _fits(setting: Setting, value: Any) -> bool:
    kinds = {"text": str, "whole": int, "seconds": float, "switch": bool, "list": tuple}
    if not isinstance(value, kinds[setting.kind]) or (setting.kind == "whole" and isinstance(value, bool)):
        return False
    if isinstance(value, str):
        return value != "" and (not setting.choices or value in setting.choices)
    if isinstance(value, int | float):
        return math.isfinite(value) and setting.least <= value <= setting.most
    return True


_EXAMPLES = {
    "mesh": '"lab"',
    "peers": '["tcp://192.168.1.20:47100"]',
    "discovery": '["directory", "zeroconf"]',
    "key": '"/etc/dingo-zmq/mesh.key"',
    "bind": '["192.168.1.20"]',
    "advertise": '["bench-3.local"]',
    "name": '"bench-3"',
    "tags": '["psu"]',
    "port": "47100",
    "threads": "8",
}


def _example(setting: Setting) -> str:
    default = setting.default
    if setting.kind == "switch":
        return "true"
    return _EXAMPLES.get(setting.name) or (
        f'"{default}"' if isinstance(default, str) else f"{default}".removesuffix(".0")
    )


def _wrong(setting: Setting, where: str, got: Any, hint: str) -> str:
    return f"{where} must be {setting.wanted}, not {got!r:.80}; hint: {hint}"


def _unknown_variables() -> dict[str, str]:
    known = [setting.variable for setting in SETTINGS.values()] + [PREFIX + name for name in _NO_SETTINGS]
    found = {}
    for variable in sorted(os.environ):
        if variable.startswith(PREFIX) and variable not in known:
            near = difflib.get_close_matches(variable.upper(), known, 1, 0.8)
            found[variable] = f"did you mean {near[0]}?" if near else ""
    return found
