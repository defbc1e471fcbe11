"""Imports only point down, and some things are imported in one place alone (lazy and type-only ones too)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "dingo_zmq"

# A name stands for the module and, where it is a package, for everything in it.
FLOORS = [
    "errors forked interrupts living waiting",
    "model ids events listening",
    "ports",
    "marshal invoke marshallers",
    "registry result config current limits mapping",
    "protocol",
    "balance pool journal task room flow shelf allocation steering watchdog later ignored stream yielding",
    "local local_broker remote",
    "mesh",
    "app",
    "__init__",  # the front: what a user of the package sees
    "cli testing",
    "__main__",
]
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names.split()}

# Everything from elsewhere, and the only part of the package that may import it ("" for all of them).
THIRD_PARTY = {
    "msgspec": "",
    "platformdirs": "",
    "zmq": "mesh",
    "zeroconf": "mesh",
    "ifaddr": "mesh",
    "click": "cli",
    "rich": "cli",
    "pytest": "testing",
    "numpy": "marshal",  # no dependency: asked for only where an array is to be made, and it may be missing
}

STRANGERS = {(one, other) for one in ("local", "remote") for other in ("mesh",)}
STRANGERS |= {(other, one) for one, other in STRANGERS}

# Deciders know no I/O, clock, thread, randomness or log.
PURE = "protocol"
PURE_OWN = {"errors", "events", "model", "protocol"}
PURE_THIRD = {"msgspec"}
PURE_BANNED = {"asyncio", "logging", "os", "random", "secrets", "select", "socket", "threading", "time"}


def part(module: str) -> str:
    """Return the first name below the package: "mesh" for "mesh.discovery.static"."""
    return module.partition(".")[0]


def own_modules() -> dict[str, str]:
    """Return the source of every module by its name below the package ("mesh.keys", "mesh", "__init__")."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        names = path.relative_to(ROOT).with_suffix("").parts
        if names[-1] == "__init__" and len(names) > 1:
            names = names[:-1]
        found[".".join(names)] = path.read_text()
    return found


def imported(source: str, package: str) -> Iterator[str]:
    """Yield the full name of everything that a module of `package` imports, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                base += [module] if module else []
                yield from (".".join([*base, alias.name]) for alias in names)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


def targets(module: str, source: str, known: set[str]) -> tuple[set[str], set[str]]:
    """Return what a module imports: modules of ours (below the package), and top-level names of others."""
    package = module if any(name.startswith(f"{module}.") for name in known) else module.rpartition(".")[0]
    ours, others = set(), set()
    for name in imported(source, f"dingo_zmq.{package}".rstrip(".")):
        top, _, below = name.partition(".")
        if top == "dingo_zmq":
            ours.add(closest(below, known))
        else:
            others.add(top)
    return ours, others


def closest(name: str, known: set[str]) -> str:
    """Return the module in which an imported name lives: "result" for "result.Result"."""
    while name and name not in known and name not in FLOOR_OF:
        name = name.rpartition(".")[0]
    return name or "__init__"


def problems(module: str, source: str, known: set[str]) -> list[str]:
    """Return what is wrong with the imports of one module."""
    if part(module) not in FLOOR_OF:
        return [f"{module} has no floor"]
    ours, others = targets(module, source, known)
    found = [*faults(module, ours), *foreign(module, others)]
    return [f"{module} imports {name}: {why}" for name, why in found]


def faults(module: str, ours: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the imports of our own that are not allowed, and why."""
    here = part(module)
    for name in sorted(ours):
        there = part(name)
        if there not in FLOOR_OF:
            yield name, "which has no floor"
        elif FLOOR_OF[there] > FLOOR_OF[here]:
            yield name, "which is above it"
        elif (here, there) in STRANGERS:
            yield name, "only app knows both"
        elif here == PURE and there not in PURE_OWN:
            yield name, "a decider sees only errors, model, events and other deciders"


def foreign(module: str, others: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the imports of modules not ours that are not allowed, and why."""
    here = part(module)
    for name in sorted(others):
        if name in sys.stdlib_module_names:
            if here == PURE and name in PURE_BANNED:
                yield name, "a decider has no I/O, clock, thread, randomness or log"
        elif name not in THIRD_PARTY:
            yield name, "which is no dependency"
        elif THIRD_PARTY[name] not in ("", here):
            yield name, f"which only {THIRD_PARTY[name]} may"
        elif here == PURE and name not in PURE_THIRD:
            yield name, "a decider needs none but msgspec"


MODULES = own_modules()


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    assert problems(module, MODULES[module], set(MODULES)) == []


def test_no_module_needs_itself() -> None:
    graph = {name: targets(name, source, set(MODULES))[0] - {name} for name, source in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        pytest.fail(" -> ".join(exc.args[1]), pytrace=False)


LAZY = "def f():\n    import {}\n"
TYPE_ONLY = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {} import x\n"
KNOWN = {*FLOOR_OF, "mesh.keys", "protocol.wire"}


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("errors", "import dingo_zmq.model", "which is above it"),
        ("errors", "from dingo_zmq import model", "which is above it"),
        ("errors", "from dingo_zmq.model import Status", "which is above it"),
        ("errors", "from .model import Status", "which is above it"),
        ("mesh.keys", "from ..app import App", "which is above it"),
        ("result", "from dingo_zmq import App", "which is above it"),
        ("result", LAZY.format("dingo_zmq.app"), "which is above it"),
        ("result", TYPE_ONLY.format("dingo_zmq.app"), "which is above it"),
        ("result", 'import importlib\nimportlib.import_module("dingo_zmq.app")', "which is above it"),
        ("mesh.keys", "import dingo_zmq.local", "only app knows both"),
        ("local", "import dingo_zmq.nowhere", "which is above it"),
        ("protocol.wire", "import time", "a decider has no"),
        ("protocol.wire", LAZY.format("os.path"), "a decider has no"),
        ("protocol.wire", TYPE_ONLY.format("zmq"), "which only mesh may"),
        ("protocol.wire", "import platformdirs", "a decider needs none"),
        ("protocol.wire", "from dingo_zmq.result import Result", "a decider sees only"),
        ("app", LAZY.format("zmq.asyncio"), "which only mesh may"),
        ("app", "import rich.table", "which only cli may"),
        ("cli.node", "import zeroconf", "which only mesh may"),
        ("local", "import redis", "which is no dependency"),
        ("nowhere", "", "has no floor"),
    ],
)
def test_the_check_can_fail(module: str, source: str, expected: str) -> None:
    (found,) = problems(module, source, KNOWN | {module})
    assert expected in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("protocol.wire", "import msgspec, enum\nfrom dingo_zmq import errors, model\nfrom . import credit"),
        ("mesh", "import zmq, time\nfrom . import keys\nfrom dingo_zmq.protocol.wire import decode"),
        ("__init__", "from dingo_zmq.app import App\nfrom . import errors"),
        ("app", "def f():\n    from dingo_zmq import local, mesh"),
        ("cli.call", "import click, rich.table\nfrom dingo_zmq import App, __version__"),
    ],
)
def test_the_check_lets_good_imports_pass(module: str, source: str) -> None:
    assert problems(module, source, KNOWN | {module}) == []
