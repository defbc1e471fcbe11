"""Never run: mypy reads it, so that the types of the public API are tested too."""

from __future__ import annotations

from typing import assert_type

from dingo_zmq import Allocation, App, Report, Result, current_task

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
    for value in add.map([1], [2]):
        assert_type(value, int)
    assert_type(app.allocate("add", 2, factory=lambda: lambda a, b: a + b), Allocation)
    assert_type(add.options(time_limit=5, soft_time_limit=4.5).call(2, 3).cancel(running=True), bool)
    current_task().check()
    assert_type(current_task().deadline, float | None)
    add.call("2", 3)  # type: ignore[arg-type]
    app.register("third", shout.function.callable or str)
