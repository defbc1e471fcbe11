"""Never run: mypy reads it, so that the types of the public API are tested too."""

from __future__ import annotations

from typing import assert_type

from dingo_zmq import App, Event, EventStream, IDMaker, Level, Origin, Report, Result, SequenceIDs, UUIDs

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
    add.call("2", 3)  # type: ignore[arg-type]
    app.register("third", shout.function.callable or str)


@app.task(id_maker=SequenceIDs())
def counted(number: int) -> int:
    """Return the number."""
    return number


class Mine:
    """An id maker is whatever has this method."""

    def new_id(self, name: str, /) -> str:
        """Return an id."""
        return name


async def listen() -> None:
    """Listen, and make ids."""
    maker: IDMaker = Mine()
    other = App("local", id_maker=maker)
    assert_type(counted.call(3), Result[int])
    assert_type(other.register("add", len, id_maker=UUIDs()).call("x"), Result[int])
    with other.listen([Origin.CALLER, "node"], Level.INFO) as stream:
        assert_type(stream, EventStream)
        assert_type(stream.get(timeout=1.0), Event)
        for event in stream:
            assert_type(event.error, BaseException | None)
        async for event in stream:
            assert_type(event, Event)
    other.listen("caller", callback=lambda event: print(event.text), size=10)
    App("local", id_maker="uuid")  # type: ignore[arg-type]
