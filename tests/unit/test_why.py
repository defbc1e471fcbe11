"""What people are told of tasks that are not done: every text there is."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dingo_zmq.model import Options
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol.caller import Caller
from dingo_zmq.protocol.ledger import Entry, Route, wire_options
from dingo_zmq.protocol.roster import Side
from dingo_zmq.protocol.why import TEXT_MOST, waiting, why

NOW = 1.0
SCAN = {"scan": (2, "(x: float)", "abc", False)}


class Mesh:
    """A caller and the nodes it knows."""

    def __init__(self) -> None:
        self.caller = Caller("me", "lab", Random(1))

    def found(self, key: str, *, up: bool = True, at: float = 0.0) -> Mesh:
        """A node that has said nothing so far."""
        self.caller.found(key, at, key)
        for side in Side if up else ():
            self.caller.connected(key, side, 0.0)
        return self

    def node(
        self,
        name: str,
        *tags: str,
        functions: dict[str, tuple[int, str, str, bool]] | None = None,
        credit: int = 2,
        limit: int = 2**20,
        draining: bool = False,
    ) -> Mesh:
        """A node that is READY."""
        self.found(name)
        functions = SCAN if functions is None else functions
        peer = self.caller.peers[name]
        welcome = m.Welcome(
            link=peer.token,
            echo=peer.number,
            node=f"id-{name}",
            incarnation=b"incarnat",
            name=name,
            mesh="lab",
            tags=list(tags),
            limit=limit,
            functions=functions,
            version=1,
            pace=1,
            credit=dict.fromkeys(functions, credit),
            draining=draining,
        )
        self.caller.received(welcome, (), 0.0)
        return self

    def lost(self, key: str) -> Mesh:
        """A node has died."""
        for side in Side:
            self.caller.disconnected(key, side, NOW)
        self.caller.refused(key, NOW)
        return self

    def gone(self, key: str) -> Mesh:
        """A node has died, and is announced no more."""
        self.lost(key)
        self.caller.gone(key, NOW)
        self.caller.tick(NOW)
        return self

    def call(
        self, name: str = "scan", *, fingerprint: str = "", size: int = 0, number: int = 1, **options: Any
    ) -> Entry:
        """Call a function; return the last of the tasks."""
        chosen = Options(**options)
        route = Route(name, fingerprint, size, chosen.node, chosen.needs)
        entries = [Entry(route, str(n), b"", (), chosen, wire_options(chosen), None) for n in range(number)]
        self.caller.submit(entries, NOW)
        return entries[-1]

    def why(self, name: str = "scan", **call: Any) -> str:
        """Return why a task that is called now is not done."""
        return why(self.caller, self.call(name, **call), NOW)


def functions(*names: str, signature: str = "()", fingerprint: str = "f") -> dict[str, tuple[int, str, str, bool]]:
    return {name: (2, signature, fingerprint, False) for name in names}


def full(name: str) -> Mesh:
    return Mesh().node(name, credit=0)


# ---------------------------------------------------------------------- no node yet


def test_no_node() -> None:
    assert Mesh().why() == "no node of mesh 'lab' has been found"


def test_no_node_any_more() -> None:
    mesh = Mesh().found("bench-3", up=False).gone("bench-3")
    assert mesh.why() == "no node of mesh 'lab' has been found"
    mesh.node("bench-3").gone("bench-3")
    assert mesh.why() == "no node of mesh 'lab' is there any more"
    mesh.found("bench-4")
    assert mesh.why() == "no node answers now; bench-4 has not greeted us yet"


def test_nodes_that_were_just_found() -> None:
    mesh = Mesh().found("bench-1", up=False, at=0.5)
    assert mesh.why() == "no node has answered yet; bench-1 is not connected yet"
    mesh.found("bench-2", up=False, at=0.9)
    assert mesh.why() == "no node has answered yet; bench-1 and bench-2 are not connected yet"
    entry = mesh.call()
    assert why(mesh.caller, entry, 1.7) == (
        "no node has answered yet; bench-1 cannot be reached; bench-2 is not connected yet"
    )
    mesh.node("bench-3").lost("bench-3")
    assert why(mesh.caller, entry, NOW).endswith("bench-3 cannot be reached")


def test_nodes_that_have_not_answered() -> None:
    mesh = Mesh().found("bench-3", up=False).found("bench-1", up=False).found("bench-2")
    assert mesh.why() == (
        "no node has answered yet; bench-1 and bench-3 cannot be reached; bench-2 has not greeted us yet"
    )


def test_nodes_that_do_not_let_us_in() -> None:
    mesh = Mesh().found("bench-7", up=False).found("bench-8", up=False).found("bench-9", up=False)
    mesh.caller.locked_out("bench-7", 0.0)
    mesh.caller.locked_out("bench-8", 0.0, "it has another key")
    assert mesh.why() == (
        "no node has answered yet; bench-7 does not accept our key; bench-8 has another key; "
        "bench-9 cannot be reached"
    )
    mesh.caller.locked_out("bench-8", 0.0)
    assert "bench-7 and bench-8 do not accept our key" in mesh.why()


def test_a_node_of_another_mesh() -> None:
    mesh = Mesh().found("n1")
    mesh.caller.received(m.Refused(mesh.caller.peers["n1"].token, m.REFUSED_MESH, "not\x1b[31m us", [1]), (), 0.0)
    assert mesh.why() == "no node has answered yet; n1 refused us: not\\x1b[31m us"


# ---------------------------------------------------------------------- the function


def test_a_function_that_nobody_has() -> None:
    mesh = Mesh().node("bench-3").node("bench-4", functions=functions("add"))
    assert mesh.why("scam") == 'no node has "scam"; did you mean "scan" (bench-3)?'
    assert mesh.why("fetch") == 'no node has "fetch"'


def test_who_does_not_let_us_in_is_named_for_it_might_have_it() -> None:
    mesh = Mesh().node("bench-3").found("bench-7", up=False)
    mesh.caller.locked_out("bench-7", 0.0)
    assert mesh.why("fetch") == 'no node has "fetch"; bench-7 does not accept our key'


def test_who_has_not_greeted_us_is_named_for_it_might_have_it() -> None:
    mesh = Mesh().node("bench-3", "cam").found("bench-7")
    new = "bench-7 has not greeted us yet"
    assert mesh.why("fetch") == f'no node has "fetch"; {new}'
    assert mesh.why("scam") == f'no node has "scam"; did you mean "scan" (bench-3)?; {new}'
    assert mesh.why(node="laser") == f'no node is called "laser"; {new}'
    assert mesh.why(needs=["psu"]) == f'no node has the tag "psu"; there is: cam; {new}'
    mesh.call(number=2)
    assert mesh.why(needs=["cam"]) == '1 of 1 node has "scan"; bench-3 is full'


def test_who_was_lost_is_named_if_it_had_it() -> None:
    mesh = Mesh().node("bench-3").node("bench-4", functions=functions("fetch")).lost("bench-4")
    assert mesh.why("fetch") == 'no node has "fetch"; bench-4 cannot be reached'
    assert mesh.why("fetch", needs=["psu"]) == 'no node has "fetch"'
    assert mesh.why("add") == 'no node has "add"'


def test_a_function_that_differs() -> None:
    mesh = full("bench-3").node("bench-4", functions=functions("scan", signature="(x)", fingerprint="other"))
    for number in (1, 2, 5):
        mesh.node(f"bench-{number}" if number != 1 else "n1", functions=functions("add"))
    assert mesh.why(fingerprint="abc") == '2 of 5 nodes have "scan"; bench-3 is full; bench-4 has scan(x)'


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        ("abc@1", "abc@2", "has scan(x: float) version 2, not version 1"),
        ("abc", "abc@2", "has scan(x: float) version 2, not one without a version"),
        ("abc@1", "abc", "has scan(x: float) without a version, not version 1"),
        ("xyz@1", "abc@2", "has scan(x: float) version 2"),
        ("xyz@2", "abc", "has scan(x: float)"),
    ],
)
def test_a_version_that_differs(ours: str, theirs: str, text: str) -> None:
    mesh = Mesh().node("bench-4", functions={"scan": (2, "(x: float)", theirs, False)})
    assert mesh.why(fingerprint=ours) == f'1 of 1 node has "scan"; bench-4 {text}'


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        ("abc", "abc/json", 'takes "json" tasks of scan, we send "msgpack"'),
        ("abc/json", "abc", 'takes "msgpack" tasks of scan, we send "json"'),
        ("", "abc@2/mine", 'takes "mine" tasks of scan, we send "msgpack"'),
        ("/json", "xyz/json/mine", 'sends "mine" reports of scan, we read "json"'),
        ("abc/msgpack/json", "abc", 'sends "msgpack" reports of scan, we read "json"'),
        ("abc@1/json", "abc@2/json", "has scan(x: float) version 2, not version 1"),
        ("xyz/json", "abc/json", "has scan(x: float)"),
    ],
)
def test_marshallers_that_differ(ours: str, theirs: str, text: str) -> None:
    mesh = Mesh().node("bench-3", functions={"scan": (2, "(x: float)", theirs, False)})
    assert mesh.why(fingerprint=ours) == f'1 of 1 node has "scan"; bench-3 {text}'


def test_marshallers_of_several_nodes_that_differ() -> None:
    mesh = Mesh()
    for name in ("bench-3", "bench-4"):
        mesh.node(name, functions={"scan": (2, "(x: float)", "abc/json", False)})
    text = 'bench-3 and bench-4 take "json" tasks of scan, we send "msgpack"'
    assert mesh.why() == f'2 of 2 nodes have "scan"; {text}'


@pytest.mark.parametrize("told", ["abc/json", "/json", "abc@3/json"])
def test_the_same_marshallers_will_do(told: str) -> None:
    mesh = Mesh().node("bench-3", functions={"scan": (2, "(x: float)", told, False)})
    assert mesh.why(fingerprint="/json") == "it is queued or running on bench-3"


def test_by_name_alone_every_version_will_do() -> None:
    mesh = Mesh().node("bench-4", functions={"scan": (2, "(x: float)", "abc@2", False)})
    assert mesh.why() == "it is queued or running on bench-4"


# ---------------------------------------------------------------------- the node


def test_a_node_that_is_not_there() -> None:
    mesh = Mesh().node("bench-3").node("bench-5")
    assert mesh.why(node="bench-9") in (
        'no node is called "bench-9"; did you mean "bench-3"?',
        'no node is called "bench-9"; did you mean "bench-5"?',
    )
    assert mesh.why(node="laser") == 'no node is called "laser"'


def test_a_node_that_has_no_such_function() -> None:
    mesh = Mesh().node("bench-3", functions=functions("add", "scan_all")).node("bench-4").node("bench-5")
    assert mesh.why(node="bench-3") == 'bench-3 has no "scan"; bench-4 and bench-5 have it'
    assert mesh.why("scan_al", node="bench-3") == 'bench-3 has no "scan_al"; did you mean "scan_all" (bench-3)?'
    assert mesh.why("fetch", node="bench-3") == 'bench-3 has no "fetch"'


def test_the_processes_of_a_node() -> None:
    mesh = Mesh().node("bench/1", functions={}).node("bench/2", credit=0).node("bench/3", credit=0)
    assert mesh.why(node="bench") == ('2 of 3 nodes called "bench" have "scan"; bench/2 and bench/3 are full')
    assert mesh.why(node="bench/2") == "bench/2 is full"
    assert mesh.why("fetch", node="bench") == 'bench/1, bench/2 and bench/3 have no "fetch"'


# ---------------------------------------------------------------------- tags


def test_a_tag_that_nobody_has() -> None:
    mesh = Mesh().node("bench-3", "laser", "cam").node("bench-4", "cam")
    assert mesh.why(needs=["psu"]) == 'no node has the tag "psu"; there are: cam, laser'
    assert mesh.why(needs=["cam", "psu", "pump"]) == 'no node has the tags "psu" and "pump"; there are: cam, laser'
    assert Mesh().node("bench-3", "cam").why(needs=["psu"]) == 'no node has the tag "psu"; there is: cam'
    assert Mesh().node("bench-3").why(needs=["psu"]) == 'no node has the tag "psu", nor any other'


def test_which_of_several_tags_is_missing_where() -> None:
    mesh = Mesh().node("bench-3", "laser", "cam").node("bench-4", "psu").node("bench-5", "psu")
    assert mesh.why(needs=["cam", "psu"]) == (
        'bench-3 lacks the tag "psu"; bench-4 and bench-5 lack the tag "cam"'
    )
    assert mesh.why(needs=["cam", "laser", "psu"]) == (
        'bench-3 lacks the tag "psu"; bench-4 and bench-5 lack the tags "cam" and "laser"'
    )
    assert mesh.why(node="bench-4", needs=["cam"]) == 'bench-4 lacks the tag "cam"'


def test_who_has_the_tag_has_no_such_function() -> None:
    mesh = Mesh().node("bench-3").node("bench-4", "psu", functions={})
    assert mesh.why(needs=["psu"]) == 'bench-3 lacks the tag "psu"'


def test_one_has_all_and_is_full() -> None:
    mesh = Mesh().node("bench-3", "psu", credit=0).node("bench-4")
    assert mesh.why(needs=["psu"]) == '2 of 2 nodes have "scan"; bench-3 is full; bench-4 lacks the tag "psu"'


# ---------------------------------------------------------------------- how the node is


def test_nodes_that_get_no_tasks_now() -> None:
    mesh = full("bench-1").node("bench-2", draining=True).node("bench-3").node("bench-4", draining=True)
    mesh.caller.disconnected("bench-3", Side.TASKS, 0.5)
    mesh.caller.peers["bench-1"].proof = -2.0
    assert mesh.why() == (
        '4 of 4 nodes have "scan"; bench-1 has been silent for 3 s; bench-2 and bench-4 are draining; '
        "bench-3 has been silent for 1 s"
    )
    mesh.caller.peers["bench-3"].proof = 0.9
    assert mesh.why().endswith("bench-3 has a broken connection")
    mesh.caller.connected("bench-3", Side.TASKS, 0.9)
    assert mesh.why().endswith("bench-3 has not answered on its new connection yet")


def test_a_slow_node_that_is_passed_over() -> None:
    mesh = full("bench-1").node("bench-2")
    mesh.caller.peers["bench-2"].lanes["scan"].limit = 0
    entry = mesh.call()
    mesh.caller.peers["bench-2"].lanes["scan"].limit = 1
    mesh.caller.peers["bench-2"].lanes["scan"].pass_over(NOW)
    assert why(mesh.caller, entry, NOW) == (
        '2 of 2 nodes have "scan"; bench-1 is full; bench-2 is so slow that others will be done sooner'
    )


def test_silence_is_told_from_its_beginning() -> None:
    mesh = Mesh().node("bench-1")
    mesh.caller.disconnected("bench-1", Side.TASKS, 0.0)
    for tenth in range(1, 90):
        mesh.caller.tick(tenth / 10)
    assert why(mesh.caller, mesh.call(), 9.0) == '1 of 1 node has "scan"; bench-1 has been silent for 9 s'


def test_a_body_that_is_too_large_there() -> None:
    mesh = Mesh().node("bench-3", limit=1000)
    assert mesh.why(size=123456) == (
        '1 of 1 node has "scan"; bench-3 has a body limit of 1,000 bytes, and this one has 123,456'
    )


def test_a_large_mesh_is_told_in_five_clauses() -> None:
    mesh = Mesh()
    for number in range(40):
        mesh.node(f"full-{number:02}", credit=0)
    for number in range(9):
        mesh.node(f"other-{number}", functions=functions("scan", signature=f"(a{number})"))
    assert mesh.why(fingerprint="abc") == (
        '49 of 49 nodes have "scan"; full-00, full-01 and 38 more are full; '
        "other-0 has scan(a0); other-1 has scan(a1); and 7 more"
    )


def test_whatever_nodes_say_it_is_bounded_and_plain() -> None:
    mesh = Mesh()
    for number in range(9):
        long = functions("s" * 190, signature=f"({number}\x1b[2J{'x' * 4000})")
        mesh.node(f"{number}{'n' * 180}", *["t" * 190 + str(tag) for tag in range(20)], functions=long)
    for call in (
        {"fingerprint": "abc"},
        {"node": "n" * 190},
        {"needs": ["u" * 190 + str(tag) for tag in range(20)]},
    ):
        for name in ("s" * 190, "s" * 191):
            text = mesh.why(name, **call)
            assert len(text) <= TEXT_MOST
            assert text.isprintable()


# ---------------------------------------------------------------------- held by a node, or sent before


def test_a_task_at_a_node() -> None:
    mesh = Mesh().node("bench-3")
    entry = mesh.call()
    assert why(mesh.caller, entry, NOW) == "it is queued or running on bench-3"
    entry.started = True
    assert why(mesh.caller, entry, NOW) == "it may be running on bench-3"
    assert why(mesh.caller, entry, 7.0) == "it may be running on bench-3, which has been silent for 7 s"
    mesh.caller.gone("bench-3", NOW)
    assert why(mesh.caller, entry, NOW) == "it may be running on bench-3, which is draining"
    entry.attempt, entry.losses = 3, 1
    assert why(mesh.caller, entry, NOW).endswith("draining (sent 3 times, 1 node died with it)")
    entry.losses = 2
    assert why(mesh.caller, entry, NOW).endswith("(sent 3 times, 2 nodes died with it)")
    entry.settled = True
    assert why(mesh.caller, entry, NOW) == "it is done"


def test_a_task_whose_node_was_lost() -> None:
    mesh = Mesh().node("bench-3")
    entry = mesh.call()
    mesh.caller.refused("bench-3", NOW)
    assert why(mesh.caller, entry, NOW) == (
        "its node was lost, and no node answers now; bench-3 has not greeted us yet"
    )


def test_a_task_that_was_given_back_has_lost_no_node() -> None:
    mesh = Mesh().node("bench-3")
    entry = mesh.call()
    recalled = m.Recalled(mesh.caller.peers["bench-3"].token, {"scan": [1]}, m.DRAINING)
    mesh.caller.received(recalled, (), NOW)
    assert why(mesh.caller, entry, NOW) == '1 of 1 node has "scan"; bench-3 is draining'


# ---------------------------------------------------------------------- what waits


def test_what_waits_for_lack_of_a_node() -> None:
    mesh = Mesh().node("bench-3", "cam", credit=1)
    mesh.call(number=4)  # they wait for credit
    mesh.call(number=3, needs=["psu"])
    mesh.call("scam")
    mesh.call("scam", size=5000)
    mesh.call(node="bench-9")
    assert waiting(mesh.caller, NOW) == [
        '3 tasks of "scan" wait: no node has the tag "psu"; there is: cam',
        '2 tasks of "scam" wait: no node has "scam"; did you mean "scan" (bench-3)?',
        '1 task of "scan" waits: no node is called "bench-9"; did you mean "bench-3"?',
    ]
    mesh.caller.gone("bench-3", NOW)
    assert waiting(mesh.caller, NOW)[0] == '3 tasks of "scan" wait: 1 of 1 node has "scan"; bench-3 is draining'


def test_nothing_waits() -> None:
    mesh = Mesh().node("bench-3")
    mesh.call(number=2)
    assert waiting(mesh.caller, NOW) == []


def test_lines_of_what_waits_are_bounded() -> None:
    mesh = Mesh().node("bench-3")
    for number in range(50):
        mesh.call(f"f{number}")
    lines = waiting(mesh.caller, NOW)
    assert len(lines) == 20
    assert lines[-1] == "and 31 more causes"
