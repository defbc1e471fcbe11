"""examples/custom_marshaller.py: on a node, and in one process."""

from __future__ import annotations

import re
import sys
from array import array
from pathlib import Path

import pytest

from dingo_zmq.errors import UsageError
from tests.support import PATIENCE, Mesh, Program, wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_marshaller.py"


def caller(mesh: Mesh, *words: str) -> Program:
    """Run the example as its own docstring says, to its end."""
    program = Program(env=mesh.env, command=[sys.executable, str(EXAMPLE), *words])
    mesh.programs.append(program)
    program.wait()
    return program


def test_both_modes_say_the_same(mesh: Mesh) -> None:
    mesh.node("bench", target=EXAMPLE)
    here, there = caller(mesh, "--local"), caller(mesh)

    assert (here.out, here.err) == (
        "100,000 samples smoothed to 99,901 in this process\nthe first is 0.0495, the largest 0.9996\n",
        "",
    )
    assert (there.out, there.err) == (here.out.replace("in this process", "on bench"), "")


@pytest.mark.parametrize("more", [[], ["--local"]])
def test_what_makes_no_sense_is_an_error_in_both_modes(mesh: Mesh, more: list[str]) -> None:
    if not more:
        mesh.node("bench", target=EXAMPLE)
    program = caller(mesh, "--width", "0", *more)
    assert program.wait() == 1
    assert re.fullmatch(
        r"error: ValueError: the width must be 1 to 100000, not 0( \(on bench\))?\n", program.err
    ), program


def test_who_calls_it_otherwise_hears_so(mesh: Mesh) -> None:
    mesh.node("bench", target=EXAMPLE)

    def smooth(samples: list[float], width: int) -> list[float]: ...

    result = mesh.app().declare("smooth", smooth).call([1.0, 2.0], 2)
    text = '1 of 1 node has "smooth"; bench takes "samples" tasks of smooth, we send "msgpack"'
    wait_until(lambda: result.why() == text, text)


def test_its_codec_refuses_functions_of_other_things(mesh: Mesh) -> None:
    names: dict[str, object] = {"__name__": "example"}
    exec(compile(EXAMPLE.read_text(), str(EXAMPLE), "exec"), names)
    app = names["make_app"]("local")  # type: ignore[operator]

    def shout(word: str, width: int) -> str:
        return word

    with pytest.raises(UsageError, match="refuses it: word is neither an array nor a whole number"):
        app.register("shout", shout, marshaller="samples", invoker="direct")
    with app:
        assert app.call("smooth", [1.0, 2.0, 3.0], 2).result(PATIENCE) == array("d", [1.5, 2.5])
