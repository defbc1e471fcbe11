"""
A marshaller and an invoker of one's own: arrays of samples travel as the bytes they are in memory.

Serve the function in one terminal, and call it in another:

    dingo-zmq node examples/custom_marshaller.py --name bench
    python examples/custom_marshaller.py

With --local the same program runs on threads of this process: there nothing is marshalled, and the invoker alone
is at work.

The codec turns arguments and returns into parts, and back.  Parts of 64 KiB and more travel as frames of their own
and are not copied.  The invoker makes arrays of them again, and needs no annotations for that; whether the caller
has an array or a list, the function gets an array.  Callers and nodes tell each other the name of the marshaller:
whoever calls `smooth` with another one hears so from `why()`.
"""

from __future__ import annotations

import argparse
import math
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias

from dingo_zmq import App
from dingo_zmq.errors import DingoError
from dingo_zmq.invoke import DirectInvoker
from dingo_zmq.marshallers import CustomMarshaller
from dingo_zmq.ports import Buffer, Shape

if TYPE_CHECKING:
    Samples: TypeAlias = array[float]
else:
    Samples = array  # before Python 3.12 it takes no parameter

SECONDS = 30.0  # to wait for the answer


class SamplesCodec:
    """Samples are numbers of eight bytes, one after the other; whole numbers are eight bytes too."""

    def prepare(self, function: Shape) -> None:
        """Refuse functions whose arguments are something else."""
        for name in function.names(2):
            if function.hints.get(name) not in (array, int):
                raise ValueError(f"{name} is neither an array nor a whole number")

    def encode_arguments(self, function: Shape, names: Sequence[str], values: Sequence[Any]) -> list[Buffer]:
        """Return one part for each argument."""
        return [
            _bytes(value) if function.hints[name] is array else struct.pack("<q", value)
            for name, value in zip(names, values, strict=True)
        ]

    def decode_arguments(self, function: Shape, names: Sequence[str], parts: Sequence[Buffer]) -> list[Any]:
        """Return the argument in each part; samples stay bytes, which the invoker knows what to do with."""
        return [
            part if function.hints[name] is array else struct.unpack("<q", part)[0]
            for name, part in zip(names, parts, strict=True)
        ]

    def encode_return(self, function: Shape, value: Any) -> list[Buffer]:
        """Return the samples as one part."""
        return [_bytes(value)]

    def decode_return(self, function: Shape, parts: Sequence[Buffer]) -> Any:
        """Return the only part."""
        (part,) = parts
        return part


def _bytes(samples: Any) -> memoryview:
    return memoryview(_samples(samples)).cast("B")


def _samples(given: Any) -> Samples:
    """Return samples as an array, whether they are one, numbers, or the bytes that have come."""
    if isinstance(given, array):
        return given
    made = array("d")
    if isinstance(given, bytes | bytearray | memoryview):
        made.frombytes(given)
    else:
        made.extend(given)
    return made


class SamplesInvoker(DirectInvoker):
    """Hands the function an array, and the caller too."""

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call with the samples as an array."""
        samples, *rest = args
        return function(_samples(samples), *rest, **kwargs)

    def correct_return(self, function: Callable[..., Any] | None, value: Any) -> Any:
        """Make an array of what has come."""
        return _samples(value)


def smooth(samples: Samples, width: int) -> Samples:
    """Return the mean of each sample and those before it, `width` of them in all."""
    if not 0 < width <= len(samples):
        raise ValueError(f"the width must be 1 to {len(samples)}, not {width}")
    sums = list(accumulate(samples, initial=0.0))
    return array("d", [(sums[end] - sums[end - width]) / width for end in range(width, len(sums))])


def make_app(mode: str) -> App:
    """Return an App of this mode that knows the marshaller by name, with the function in it."""
    app = App(mode, marshallers={"samples": CustomMarshaller(SamplesCodec())}, wire=mode == "local")
    app.register("smooth", smooth, marshaller="samples", invoker=SamplesInvoker())
    return app


app = make_app("mesh")  # for `dingo-zmq node examples/custom_marshaller.py`


def main() -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="Smooth samples, wherever a node is.")
    parser.add_argument("--local", action="store_true", help="run in this process")
    parser.add_argument("--count", type=int, default=100_000, help="samples")
    parser.add_argument("--width", type=int, default=100, help="samples that go into a mean")
    options = parser.parse_args()
    samples = array("d", [math.sin(n / 1000) + (n % 2) - 0.5 for n in range(options.count)])
    try:
        with make_app("local") if options.local else app as used:
            result = used.call("smooth", samples, width=options.width)
            smoothed = result.result(SECONDS)
    except (DingoError, TimeoutError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    where = f"on {result.node}" if result.node else "in this process"
    print(f"{len(samples):,} samples smoothed to {len(smoothed):,} {where}")
    print(f"the first is {smoothed[0]:.4f}, the largest {max(smoothed):.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
