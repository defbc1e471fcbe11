"""Finding the App in a file or module that somebody names on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from dingo_zmq.app import App
from dingo_zmq.errors import ConfigError

__all__ = ["load_app", "served_files"]


def load_app(target: str) -> App:
    """
    Import ``FILE.py``, ``FILE.py:APP`` or ``MODULE[:APP]`` and return its App.

    Args:
        target: what to import; APP is the name of a variable, needed only where there are several Apps.

    Raises:
        ConfigError: if it cannot be imported, or has no App, or several and none was named.
    """
    place, _, variable = target.partition(":")
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    if variable:
        app = getattr(module, variable, None)
        if not isinstance(app, App):
            raise ConfigError(
                f"{place} has no App named {variable!r}; hint: it has {_names(module) or 'none at all'}"
            )
        return app
    apps = {id(app): app for app in vars(module).values() if isinstance(app, App)}
    if not apps:
        raise ConfigError(f'{place} makes no App; hint: app = App("mesh"), and @app.task before your functions')
    if len(apps) > 1:
        raise ConfigError(f"{place} makes several Apps; hint: name one of them: {place}:{_names(module)}")
    return next(iter(apps.values()))


def served_files(target: str) -> list[str]:
    """Return the files of a target that was imported, and of all modules that lie in its folder."""
    place = target.partition(":")[0]
    if place.endswith(".py"):
        main = Path(place).resolve()
    else:
        main = Path(getattr(sys.modules.get(place), "__file__", None) or place).resolve()
    found = {str(main)}
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if isinstance(name, str) and name.endswith(".py"):
            file = Path(name).resolve()
            if file.is_relative_to(main.parent) and not {"site-packages", "dist-packages"} & {*file.parts}:
                found.add(str(file))
    return sorted(found)


def _names(module: ModuleType) -> str:
    return ", ".join(name for name, value in vars(module).items() if isinstance(value, App))


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"there is no file {path}; hint: dingo-zmq node FILE.py, or the name of a module")
    name = (
        path.stem if path.stem not in sys.modules else f"{path.stem}_served"
    )  # it may be called like one of ours
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file")
    sys.path.insert(0, str(path.parent.resolve()))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:
        raise _import_error(str(path), exc) from exc
    return module


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as exc:
        raise _import_error(name, exc) from exc


def _import_error(what: str, exc: BaseException) -> ConfigError:
    frames = traceback.extract_tb(exc.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    where = f" (line {own[-1].lineno} of {own[-1].filename})" if own else ""
    return ConfigError(f"cannot import {what}: {type(exc).__name__}: {exc}{where}")
