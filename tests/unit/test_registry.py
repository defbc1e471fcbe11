"""The functions of an App by name."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest

from dingo_zmq.errors import UnknownFunction, UsageError
from dingo_zmq.model import Options
from dingo_zmq.registry import Registry


def add(a: int, b: int = 5) -> int:
    return a + b


async def wait(seconds: float) -> None: ...


class Adder:
    def __call__(self, a: int) -> int:
        return a

    async def later(self, a: int) -> int:
        return a


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_a_registered_function_is_found_with_all_that_was_said(registry: Registry) -> None:
    options = Options(max_losses=1)
    made = registry.register("add", add, options=options, settings={"time_limit": 5})
    assert registry["add"] is registry.get("add") is made
    assert (made.name, made.callable, made.options, made.settings) == ("add", add, options, {"time_limit": 5})
    assert made.signature.text == "(a: int, b: int = 5) -> int"
    assert made.runs_here
    assert not made.is_coroutine


def test_a_declared_function_has_a_signature_but_does_not_run_here(registry: Registry) -> None:
    made = registry.declare("add", add)
    assert made.signature.fingerprint == Registry().register("add", add).signature.fingerprint
    assert made.callable is None
    assert not made.runs_here


def test_a_signature_can_be_declared(registry: Registry) -> None:
    text = registry.declare("add", inspect.signature(add)).signature.text
    assert text == "(a: int, b: int = 5) -> int"


def test_without_a_stub_everything_is_let_through(registry: Registry) -> None:
    signature = registry.declare("add").signature
    assert signature.unpack(signature.pack((1, "a"), {"k": None})) == ((1, "a"), {"k": None})


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (add, False),
        (wait, True),
        (Adder(), False),
        (Adder().later, True),
        (functools.partial(wait, 1.0), True),
        (len, False),
    ],
)
def test_coroutine_functions_are_known(registry: Registry, function: Any, expected: bool) -> None:
    assert registry.register("f", function).is_coroutine is expected


@pytest.mark.parametrize("name", ["", "a/b", "a\n", "x" * 201])
def test_a_bad_name_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(UsageError, match="the name of a function"):
        registry.register(name, add)


def test_a_refused_function_leaves_the_name_free(registry: Registry) -> None:
    def bad(a: complex) -> None: ...

    with pytest.raises(UsageError, match="f.., parameter 'a'"):
        registry.register("f", bad)
    assert "f" not in registry


def test_an_unknown_name_names_its_neighbours(registry: Registry) -> None:
    registry.register("measure", add)
    with pytest.raises(UnknownFunction, match="did you mean 'measure'"):
        registry["mesure"]
    assert registry.get("mesure") is None


def test_an_unknown_name_without_neighbours_says_so(registry: Registry) -> None:
    with pytest.raises(UnknownFunction, match="none is registered"):
        registry["add"]
    registry.register("measure", add)
    with pytest.raises(UnknownFunction, match="none of the 1 known"):
        registry["xyz"]


def test_functions_are_listed_in_their_order(registry: Registry) -> None:
    for name in ("b", "a", "c"):
        registry.declare(name, add)
    assert [function.name for function in registry] == ["b", "a", "c"]
    assert len(registry) == 3


def test_settings_are_not_shared_with_who_gave_them(registry: Registry) -> None:
    settings = {"time_limit": 5}
    made = registry.register("add", add, settings=settings)
    settings["time_limit"] = 6
    assert made.settings["time_limit"] == 5


def test_a_version_makes_functions_differ() -> None:
    plain, first, second = (Registry().register("add", add, version=version) for version in ("", "1", "2"))
    assert len({made.signature.fingerprint for made in (plain, first, second)}) == 3
    for stub in (add, inspect.signature(add)):
        assert Registry().declare("add", stub, version="2").signature.fingerprint == second.signature.fingerprint


@pytest.mark.parametrize("version", [2, None, "a/b", "\n", "x" * 201])
def test_what_can_be_no_version(registry: Registry, version: Any) -> None:
    with pytest.raises(UsageError, match="the version of add must be 1 to 200 printable characters"):
        registry.register("add", add, version=version)
    with pytest.raises(UsageError, match="the version of add"):
        registry.declare("add", add, version=version)
    assert "add" not in registry


def test_a_version_alone_cannot_be_compared(registry: Registry) -> None:
    with pytest.raises(UsageError, match=r"a version is compared together with the signature; hint: .* stub"):
        registry.declare("add", version="2")
