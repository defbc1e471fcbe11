"""Marshallers and invokers between processes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dingo_zmq import App, Level
from dingo_zmq.errors import ConfigError, TaskFailed
from dingo_zmq.marshallers import CustomMarshaller
from dingo_zmq.model import Code
from tests import marshalled
from tests.support import PATIENCE, Mesh, Program, wait_until

FILE = Path(marshalled.__file__)
READING = marshalled.Reading(datetime(2026, 1, 2, 3), {1: b"a", 2: b"\xff"})


@pytest.fixture(scope="module", autouse=True)
def node(module_mesh: Mesh) -> Program:
    return module_mesh.node("bench-3", target=FILE)


@pytest.fixture(params=["local", "mesh"])
def tasks(request: pytest.FixtureRequest, shared: Mesh) -> Any:
    """The functions of the file, in an App of each mode."""
    given = {"marshallers": {"raw": CustomMarshaller(marshalled.Raw())}, "allow_pickle": True}
    app = App("local", **given) if request.param == "local" else shared.app(**given)
    shared.apps.append(app)

    class Tasks:
        def __getattr__(self, name: str) -> Any:
            return app._tasks.get(name) or app.register(name, self._function(name), **self.how(name))

        @staticmethod
        def _function(name: str) -> Any:
            return getattr(marshalled, name).function.original

        @staticmethod
        def how(name: str) -> dict[str, Any]:
            return {
                "as_json": {"marshaller": "json"},
                "as_json_safe": {"marshaller": "json-safe", "report_marshaller": "json"},
                "repeat": {"report_marshaller": "raw"},
                "repeat_raw": {"marshaller": "raw"},
                "conjugate": {"marshaller": "pickle", "invoker": "direct"},
                "greet": {"invoker": marshalled.Shouting()},
            }[name]

    return Tasks()


def test_each_function_as_it_wants_in_both_modes(tasks: Any) -> None:
    assert tasks.as_json.call(READING, scale=2).result(PATIENCE) == [READING]
    assert tasks.as_json_safe.call(READING).result(PATIENCE) == READING
    assert tasks.repeat.call(b"ab", 3).result(PATIENCE) == b"ababab"
    assert tasks.repeat_raw.call(b"ab", times=3).result(PATIENCE) == b"ababab"
    assert tasks.conjugate.call(1 + 2j).result(PATIENCE) == 1 - 2j
    assert tasks.greet.call("you").result(PATIENCE) == "hello you"


def test_large_parts_go_there_and_back(tasks: Any) -> None:
    data = bytes(range(256)) * 2000
    assert tasks.repeat_raw.call(data, 2).result(PATIENCE) == data * 2
    assert tasks.repeat.call(data, 2).result(PATIENCE) == data * 2


def test_a_codec_that_fails_at_the_node_fails_the_task(shared: Mesh) -> None:
    app = shared.app(marshallers={"raw": CustomMarshaller(marshalled.Raw())})
    repeat = app.register("repeat_raw", marshalled.repeat_raw.function.original, marshaller="raw")
    with pytest.raises(TaskFailed, match="Raw.encode_return returned is no list of bytes, but str") as caught:
        repeat.call(b"faulty", 1).result(PATIENCE)
    assert caught.value.failure.code is Code.ENCODE


def test_direct_sees_what_was_decoded(shared: Mesh) -> None:
    app = shared.app()
    directly = app.declare("directly", marshalled.directly.function.original, marshaller="json")
    assert directly.call(READING).result(PATIENCE) == "dict"


@pytest.mark.parametrize(
    ("name", "how", "text"),
    [
        ("as_json", {}, 'takes "json" tasks of as_json, we send "msgpack"'),
        ("plain", {"marshaller": "json"}, 'takes "msgpack" tasks of plain, we send "json"'),
        ("as_json_safe", {"marshaller": "json-safe"}, 'sends "json" reports of as_json_safe, we read "json-safe"'),
    ],
)
def test_a_mismatch_is_refused_in_words(shared: Mesh, name: str, how: dict[str, Any], text: str) -> None:
    task = shared.app().register(name, getattr(marshalled, name).function.original, **how)
    result = task.call(READING if name != "plain" else 5)
    wait_until(lambda: text in result.why(), text)
    assert result.why() == f'1 of 1 node has "{name}"; bench-3 {text}'


def test_by_name_a_caller_writes_what_the_node_reads(shared: Mesh) -> None:
    app = shared.app()
    early = [app.call(name, *args) for name, args in (("as_json", [READING]), ("plain", [5]))]
    plain = {"when": "2026-01-02T03:00:00", "values": {"1": "YQ==", "2": "/w=="}}
    assert [result.result(PATIENCE) for result in early] == [[plain], 5]
    assert app.call("as_json_safe", READING).result(PATIENCE) == plain
    assert app.options(node="bench-3").call("directly", READING).result(PATIENCE) == "dict"
    result = app.call("conjugate", 1)
    wait_until(lambda: 'takes "pickle" tasks of conjugate, we send "msgpack"' in result.why(), "the words")


def test_by_name_it_does_so_too_where_the_report_is_ignored(shared: Mesh) -> None:
    app = shared.app()
    events = app.listen(level=Level.WARNING)
    ignoring = app.options(ignore_report=True)
    ignoring.call("as_json", READING)  # before any node has told
    assert app.call("as_json", READING).result(PATIENCE)
    ignoring.call("as_json", READING)
    app.close(timeout=PATIENCE)
    assert [event.text for event in events] == []  # both were done


def test_the_command_line_does_so_too_and_watch_reads_it(shared: Mesh) -> None:
    watch = shared.program("watch")
    reading = '{"when": "2026-01-02T03:00:00", "values": {"1": "YQ=="}}'
    shared.invoke("call", "as_json", reading)  # the first may come before watch is there

    def seen() -> bool:
        ran = shared.invoke("call", "as_json", reading)
        assert (ran.code, ran.err) == (0, ""), ran
        assert ran.out == "[{'when': '2026-01-02T03:00:00', 'values': {'1': 'YQ=='}}]\n"
        return "/as_json/1 SUCCESS [{'when': '2026-01-02T03:00:00'" in watch.out

    wait_until(seen, "watch sees something")
    ran = shared.invoke("call", "--timeout", "1", "conjugate", "1")
    assert ran.code == 3
    assert 'takes "pickle" tasks of conjugate, we send "msgpack"' in ran.err


def test_pickles_need_a_key_on_both_sides(mesh: Mesh) -> None:
    text = "conjugate: pickles need a mesh key"
    refused = mesh.run("node", str(FILE), "--insecure-lan", "--bind", "127.0.0.1", "--discovery", "directory")
    assert refused.wait() != 0
    assert text in refused.err
    app = mesh.app(allow_pickle=True, insecure_lan=True, bind=["127.0.0.1"])
    task = app.declare("conjugate", marshaller="pickle")
    with pytest.raises(ConfigError, match=text):
        task.call(1j)
