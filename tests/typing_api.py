"""Never run: mypy reads it, so that the types of the public API are tested too."""

from __future__ import annotations

from typing import assert_type

from dingo_zmq import App, Report, Result
from dingo_zmq.invoke import DirectInvoker
from dingo_zmq.marshallers import CustomMarshaller, JSONSafeCodec
from dingo_zmq.ports import Codec, Invoker, Marshaller

app = App("local", marshallers={"other": CustomMarshaller(JSONSafeCodec())}, allow_pickle=True)
codec: Codec = JSONSafeCodec()
marshaller: Marshaller = CustomMarshaller(codec)
invoker: Invoker = DirectInvoker()


@app.task
def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


@app.task(name="other", at_most_once=True)
def shout(text: str) -> str:
    """Return the text in capitals."""
    return text.upper()


@app.task(marshaller=CustomMarshaller(JSONSafeCodec(), "mine"), report_marshaller="json", invoker=DirectInvoker())
def scan(start: float) -> list[float]:
    """Return something that travels in another way."""
    return [start]


@app.task
async def fetch(number: int) -> str:
    """Return something later."""
    return str(number)


async def use() -> None:
    """Use what users use."""
    assert_type(add(2, 3), int)
    assert_type(add.call(2, 3), Result[int])
    assert_type(add.call(2, 3).result(timeout=1.0), int)
    assert_type(await add.acall(2, b=3), int)
    assert_type(await add.call(2, 3), int)
    assert_type(shout.options(monitor_progress=True).call("x"), Result[str])
    assert_type(scan.call(3), Result[list[float]])
    assert_type(fetch.call(3), Result[str])
    assert_type(await fetch.acall(3), str)
    for report in add.call(2, 3).reports():
        assert_type(report, Report)
    for value in add.map([1], [2]):
        assert_type(value, int)
    add.call("2", 3)  # type: ignore[arg-type]
    app.register("third", shout.function.callable or str)
