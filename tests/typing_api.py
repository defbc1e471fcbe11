"""Never run: mypy reads it, so that the types of the public API are tested too."""

from __future__ import annotations

from typing import assert_type

from dingo_zmq import App, Options, Report, Result, Retries

app = App("local")


@app.task
def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


@app.task(name="other", at_most_once=True)
def shout(text: str) -> str:
    """Return the text in capitals."""
    return text.upper()


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
    assert_type(fetch.call(3), Result[str])
    assert_type(await fetch.acall(3), str)
    for report in add.call(2, 3).reports():
        assert_type(report, Report)
        assert_type(report.options, Options)
    again = add.options(retries=Retries(3, on=("ValueError",)), delay=1, expires=5.0, priority=-1)
    assert_type(again.call(2, 3), Result[int])
    for value in add.map([1], [2]):
        assert_type(value, int)
    add.call("2", 3)  # type: ignore[arg-type]
    app.register("third", shout.function.callable or str)
