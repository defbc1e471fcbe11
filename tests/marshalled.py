"""Functions with marshallers and invokers of all kinds, for nodes and callers of tests."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dingo_zmq import App
from dingo_zmq.invoke import DirectInvoker
from dingo_zmq.marshallers import CustomMarshaller


@dataclass
class Reading:
    when: datetime
    values: dict[int, bytes]


class Raw:
    """Bytes and numbers as they are."""

    def prepare(self, function: Any) -> None:
        pass

    def encode_arguments(self, function: Any, names: Sequence[str], values: Sequence[Any]) -> list[Any]:
        return [struct.pack("<q", value) if isinstance(value, int) else value for value in values]

    def decode_arguments(self, function: Any, names: Sequence[str], parts: Sequence[Any]) -> list[Any]:
        kinds = [function.hints[name] for name in names]
        pairs = zip(kinds, parts, strict=True)
        return [struct.unpack("<q", part)[0] if kind is int else bytes(part) for kind, part in pairs]

    def encode_return(self, function: Any, value: Any) -> Any:
        return "no bytes" if value == b"faulty" else [value[:10], value[10:]]

    def decode_return(self, function: Any, parts: Sequence[Any]) -> Any:
        return b"".join(parts)


class Shouting(DirectInvoker):
    """Calls with capitals, and takes the answer in small letters."""

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return function(*[arg.upper() for arg in args], **kwargs)

    def correct_return(self, function: Callable[..., Any] | None, value: Any) -> Any:
        return value.lower()


app = App("mesh", marshallers={"raw": CustomMarshaller(Raw())}, allow_pickle=True)


@app.task(marshaller="json")
def as_json(reading: Reading, scale: float = 1.0) -> list[Reading]:
    assert type(reading) is Reading
    assert type(scale) is float
    return [reading]


@app.task(marshaller="json-safe", report_marshaller="json")
async def as_json_safe(reading: Reading) -> Reading:
    assert type(reading) is Reading
    return reading


@app.task(marshaller="json", invoker="direct")
def directly(reading: Reading) -> str:
    return type(reading).__name__


@app.task(report_marshaller="raw")
def repeat(data: bytes, times: int) -> bytes:
    return data * times


@app.task(marshaller="raw")
def repeat_raw(data: bytes, times: int) -> bytes:
    return data * times


@app.task(marshaller="pickle", invoker="direct")
def conjugate(number: complex) -> complex:
    return number.conjugate()


@app.task(invoker=Shouting())
def greet(name: str) -> str:
    return f"Hello {name}"


@app.task
def plain(a: int) -> int:
    return a
