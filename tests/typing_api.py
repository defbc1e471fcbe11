"""Never run: mypy reads it, so that the types of the public API are tested too."""

from __future__ import annotations

from typing import assert_type

from dingo_zmq import App, Report, Result
from dingo_zmq.local_broker import LocalBackend, LocalBroker
from dingo_zmq.mesh.ports import MeshCallerPort, MeshNodePort
from dingo_zmq.ports import (
    Broker,
    Cancels,
    Closes,
    Explains,
    NamedBroker,
    NamedConsumer,
    Producer,
    Reporter,
    SendsMany,
    Store,
)

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


def attach() -> None:
    """What is shipped fits the ports."""
    broker, backend = LocalBroker(), LocalBackend()
    named: NamedBroker = broker
    plain: Broker = broker
    more: tuple[SendsMany, Cancels, Explains, Closes] = (broker, broker, broker, broker)
    reporter: Reporter = backend
    store: Store = backend
    caller, node = MeshCallerPort(), MeshNodePort()
    mesh: tuple[Producer, Store, NamedConsumer, Reporter] = (caller, caller, node, node)
    also: tuple[Cancels, Explains, Closes, Closes] = (caller, caller, caller, node)
    assert_type(app.use(broker), tuple[str, ...])
    app.use(producer=named, consumer=plain, reporter=reporter, store=store)
    app.use(store=broker)  # type: ignore[arg-type]
    print(more, mesh, also)
