"""What `dingo-zmq doctor` makes of facts, word for word."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dingo_zmq.cli.doctor import lines
from dingo_zmq.mesh.connections import NO_KEY as NO_KEY_THERE
from dingo_zmq.mesh.connections import UNPROVED_MOST
from dingo_zmq.mesh.diagnose import Cause, Level, judge, verdict
from dingo_zmq.mesh.diagnose.facts import Answer, Echo, Facts, KeyFacts, NodeFacts, Tried
from dingo_zmq.mesh.diagnose.findings import _VERDICTS, Finding, fail, fine, warn
from dingo_zmq.mesh.diagnose.judge import NODES_LEAST
from dingo_zmq.mesh.discovery.port import UNKEYED

AT = "tcp://10.0.0.7:47100"
KEY = KeyFacts("/k/mesh.key", "d8ffb26f")
NO_KEY = KeyFacts("/k/mesh.key", "11111111", open=False)


def tried(tasks: Answer = Answer.OPEN, reports: Answer = Answer.OPEN, host: str = "10.0.0.7") -> Tried:
    return Tried(f"tcp://{host}:47100", f"tcp://{host}:47101", tasks, reports)


NODE = NodeFacts(
    "bench-3",
    AT,
    tried=(tried(),),
    sources=("zeroconf",),
    key=KEY.id,
    version=1,
    state="ready",
    round_trip=0.0012,
    clock=0.3,
    functions={"scan": ("(x: int)", "aa"), "add": ("()", "bb")},
)
FACTS = Facts(
    "lab",
    KEY,
    3.0,
    descriptors=1024,
    lan=(("10.0.0.1", "eth0"), ("fe80::1", "eth0")),
    host="bench-1",
    host_addresses=("10.0.0.1",),
    echoes=(Echo("eth0", "10.0.0.1", heard=True), Echo("eth0", "fe80::1", heard=True)),
    heard=2,
    nodes=(NODE,),
)


def said(facts: Facts) -> list[str]:
    """Return what is printed, the verdict last."""
    findings = judge(facts)
    ready = sum(node.state == "ready" for node in facts.nodes)
    return [*lines(findings), f"verdict: {verdict(findings, ready)}"]


def news(**changes: Any) -> list[str]:
    """Return what is printed of facts that differ from those where all is well, without what is the same."""
    usual = said(FACTS)[:-1]
    return [line for line in said(dataclasses.replace(FACTS, **changes)) if line not in usual]


def of_node(**changes: Any) -> list[str]:
    """Return the same for a node that differs, without its clock."""
    return [
        line
        for line in news(nodes=(dataclasses.replace(NODE, **{"clock": None, **changes}),))
        if "clock" not in line
    ]


# ---------------------------------------------------------------------- all is well


def test_all_is_well() -> None:
    assert said(FACTS) == [
        "ok    key: mesh key d8ffb26f in /k/mesh.key",
        "ok    open files: 1024 for a process, enough for about 164 nodes",
        "ok    network: 10.0.0.1 (eth0), fe80::1 (eth0)",
        "ok    host name: bench-1 is 10.0.0.1",
        "ok    port 5353: can be shared",
        "ok    multicast: comes back on eth0, and 2 other addresses are heard",
        "ok    node bench-3: ready at tcp://10.0.0.7:47100, 1.2 ms away, with 2 functions",
        "ok    clock: the same here and on 1 node",
        "verdict: this machine and 1 node are fine",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"descriptors": None}, ["ok    open files: not limited"]),
        (
            {"host_addresses": ()},
            ["ok    host name: bench-1 has no address here, which does no harm: nodes tell no names"],
        ),
        (
            {"host_addresses": ("127.0.1.1",)},
            [
                "ok    host name: bench-1 is 127.0.1.1 here, which does no harm: "
                "nodes tell the addresses of the interfaces"
            ],
        ),
        ({"heard": 1}, ["ok    multicast: comes back on eth0, and another address is heard"]),
        ({"multicast": False}, ["ok    multicast: not used (--discovery)"]),
        ({"lan": (), "bind": ("lo",)}, ["ok    network: no address but loopback (--bind lo)"]),
        ({"other_meshes": {"x": 2, "y": 1}}, ['ok    other meshes: 2 of mesh "x", 1 of mesh "y"']),
    ],
)
def test_what_does_no_harm(changes: dict[str, Any], expected: list[str]) -> None:
    assert news(**changes) == [*expected, "verdict: this machine and 1 node are fine"]


# ---------------------------------------------------------------------- this machine

START = "      hint: start one with: dingo-zmq node FILE.py, or give the address of one: --peer tcp://HOST:47100"
KEYGEN = "      hint: dingo-zmq keygen, and copy the key to the other machines; or copy theirs to /k/mesh.key"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"key": KeyFacts("/k", error="/k is foreign; hint: chmod 600 /k"), "looked": False, "nodes": ()},
            [
                "FAIL  key: /k is foreign",
                "      hint: chmod 600 /k",
                "verdict: the key of this machine cannot be used",
            ],
        ),
        (
            {"key": KeyFacts("/k", error="cannot read /k"), "looked": False, "nodes": ()},
            [
                "FAIL  key: cannot read /k",
                "      hint: dingo-zmq config shows which files are meant",
                "verdict: the key of this machine cannot be used",
            ],
        ),
        (
            {"key": KeyFacts("", UNKEYED, insecure=True)},
            [
                "warn  key: none (--insecure-lan): anybody on the network can run tasks",
                "      hint: dingo-zmq keygen, and copy the key to the other machines",
                "verdict: this machine and 1 node are fine (1 warning above)",
            ],
        ),
        (
            {"key": NO_KEY},
            [
                "warn  key: there is no mesh key in /k/mesh.key, so nodes and callers here keep to this machine",
                KEYGEN,
                "ok    multicast: not used without a mesh key",
                "verdict: this machine and 1 node are fine (1 warning above)",
            ],
        ),
        (
            {"key": NO_KEY, "far_peers": (AT,)},
            [
                "FAIL  key: there is no mesh key in /k/mesh.key, so nodes and callers here keep to this machine, "
                "and tcp://10.0.0.7:47100 is at another one",
                KEYGEN,
                "ok    multicast: not used without a mesh key",
                "verdict: the key of this machine cannot be used",
            ],
        ),
        (
            {"descriptors": 64},
            [
                "FAIL  open files: only 64 for a process, enough for about 4 nodes",
                "      hint: ulimit -n 4096 in the shell that starts it, or LimitNOFILE=4096 in its unit",
                "verdict: the limit of open files is too low",
            ],
        ),
        (
            {"lan": (), "echoes": (), "heard": 0, "nodes": ()},
            [
                "FAIL  network: this machine has no address but loopback",
                "      hint: ip address shows what there is; plug it in, or: sudo ip link set NAME up",
                'FAIL  nodes: none of mesh "lab" was found in 3 s',
                START,
                "verdict: this machine is on no network that could be used",
            ],
        ),
        (
            {"bind_error": "this machine has no address or interface 'x'; hint: it has 10.0.0.1 (eth0)"},
            [
                "FAIL  network: this machine has no address or interface 'x'",
                "      hint: it has 10.0.0.1 (eth0)",
                "verdict: this machine is on no network that could be used",
            ],
        ),
    ],
)
def test_this_machine(changes: dict[str, Any], expected: list[str]) -> None:
    assert news(**changes) == expected


# ---------------------------------------------------------------------- multicast

OPEN_5353 = (
    "      hint: let UDP port 5353 in and out: sudo ufw allow 5353/udp, or sudo firewall-cmd --add-service=mdns"
)
NAME_IT = (
    "      hint: name the address of a node: --peer tcp://HOST:47100; "
    "or run dingo-zmq doctor on two machines at a time"
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"port_error": "Address already in use", "taken": True},
            [
                "FAIL  port 5353: another program keeps UDP port 5353 to itself, "
                "so nodes of other machines are not found",
                "      hint: end it (ss -ulpn 'sport = :5353' shows it), or do without: --peer tcp://HOST:47100",
                "verdict: UDP port 5353 cannot be used",
            ],
        ),
        (
            {"port_error": "Permission denied"},
            [
                "FAIL  port 5353: UDP port 5353 cannot be used: Permission denied",
                OPEN_5353,
                "verdict: UDP port 5353 cannot be used",
            ],
        ),
        (
            {"echoes": (Echo("eth0", "10.0.0.1", False),)},
            [
                "warn  multicast: what is sent on eth0 does not come back to this machine itself, "
                "so a firewall here drops it",
                OPEN_5353,
                "verdict: this machine and 1 node are fine (1 warning above)",
            ],
        ),
        (
            {"echoes": (Echo("eth0", "10.0.0.1", False),), "nodes": ()},
            [
                "FAIL  multicast: what is sent on eth0 does not come back to this machine itself, "
                "so a firewall here drops it",
                OPEN_5353,
                'FAIL  nodes: none of mesh "lab" was found in 3 s',
                START,
                "verdict: multicast does not get out of this machine and in again",
            ],
        ),
        (
            {"echoes": (*FACTS.echoes, Echo("wlan0", "10.1.0.1", False, "Network is unreachable"))},
            [
                "warn  multicast: what is sent on wlan0 does not come back to this machine itself: "
                "Network is unreachable",
                OPEN_5353,
                "verdict: this machine and 1 node are fine (1 warning above)",
            ],
        ),
        (
            {"heard": 0},
            [
                "warn  multicast: leaves on eth0, but no other machine was heard in 3 s: "
                "a switch or wireless access point filters it, or nobody else is there",
                NAME_IT,
                "verdict: this machine and 1 node are fine (1 warning above)",
            ],
        ),
        (
            {"heard": 0, "nodes": ()},
            [
                "FAIL  multicast: leaves on eth0, but no other machine was heard in 3 s: "
                "a switch or wireless access point filters it, or nobody else is there",
                NAME_IT,
                'FAIL  nodes: none of mesh "lab" was found in 3 s',
                START,
                "verdict: no multicast of another machine gets here",
            ],
        ),
    ],
)
def test_multicast(changes: dict[str, Any], expected: list[str]) -> None:
    assert news(**changes) == expected


# ---------------------------------------------------------------------- a node

CLOSED, DROPPED, SILENT = Answer.REFUSED, Answer.DROPPED, Answer.SILENT
ALLOW = "      hint: there: sudo ufw allow 47100:47101/tcp, or sudo firewall-cmd --add-port=47100-47101/tcp"
ADVERTISE = "      hint: start it without --advertise, or with an address that other machines can reach"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"tried": (tried(CLOSED, CLOSED),)},
            [
                "FAIL  node bench-3: nobody listens at tcp://10.0.0.7:47100: "
                "it has ended, has another port, or keeps to its own machine",
                "      hint: run dingo-zmq doctor there too; a node prints its address when it starts",
                "verdict: port closed at bench-3",
            ],
        ),
        (
            {"tried": (tried(CLOSED, CLOSED),), "here": True},
            [
                "FAIL  node bench-3: nobody listens at tcp://10.0.0.7:47100: "
                "it has ended without a word, or was never there",
                "      hint: start it: dingo-zmq node FILE.py",
                "verdict: port closed at bench-3",
            ],
        ),
        (
            {"tried": (tried(Answer.NO_ROUTE, Answer.NO_ROUTE, "10.9.0.1"), tried(DROPPED, DROPPED))},
            [
                "FAIL  node bench-3: port 47100 of 10.0.0.7 does not answer: "
                "a firewall drops it, for the machine is there",
                ALLOW,
                "verdict: port filtered at bench-3",
            ],
        ),
        (
            {"tried": (tried(Answer.OPEN, SILENT),)},
            [
                "FAIL  node bench-3: port 47101 of 10.0.0.7 does not answer: "
                "a firewall drops it, or nobody has that address",
                ALLOW,
                "verdict: port filtered at bench-3",
            ],
        ),
        (
            {"tried": (tried(Answer.ABSENT, Answer.ABSENT),)},
            [
                "FAIL  node bench-3: has the address 10.0.0.7, which nobody on this network has",
                ADVERTISE,
                "verdict: the address of bench-3 cannot be reached",
            ],
        ),
        (
            {"tried": (tried(Answer.NO_NAME, Answer.NO_NAME, "b.local"),), "named": True},
            [
                "FAIL  node bench-3: is at b.local, a name that has no address here",
                "      hint: check the address; the node prints it when it starts",
                "verdict: the address of bench-3 cannot be reached",
            ],
        ),
        (
            {"tried": ()},
            [
                "FAIL  node bench-3: none of the addresses it tells can be used from here, "
                "such as tcp://10.0.0.7:47100",
                ADVERTISE,
                "verdict: the address of bench-3 cannot be reached",
            ],
        ),
        (
            {"version": 2, "state": "refused us: other words", "cause": "other words"},
            [
                "FAIL  node bench-3: speaks protocol version 2, and this machine 1",
                "      hint: pip install --upgrade dingo-zmq where it is older",
                "verdict: other protocol version at bench-3",
            ],
        ),
        (
            {"version": 0, "state": "refused us: b speaks protocol version 2, not [1]"}
            | {"cause": "b speaks protocol version 2, not [1]"},
            [
                "FAIL  node bench-3: b speaks protocol version 2, not [1]",
                "      hint: pip install --upgrade dingo-zmq where it is older",
                "verdict: other protocol version at bench-3",
            ],
        ),
        (
            {"state": "locked out", "cause": "it has another key", "key": "22222222"},
            [
                "FAIL  node bench-3: it has another key; ours is d8ffb26f, its 22222222",
                "      hint: all machines need the same key: "
                "copy /k/mesh.key there and start it again, or its key here",
                "verdict: key refused by bench-3",
            ],
        ),
        (
            {"state": "locked out", "cause": NO_KEY_THERE, "key": UNKEYED},
            [
                "FAIL  node bench-3: it uses no key; ours is d8ffb26f",
                "      hint: start it without --insecure-lan, and with the same key as here",
                "verdict: key refused by bench-3",
            ],
        ),
        (
            {
                "state": "locked out",
                "cause": "it has another key",
                "key": "22222222",
                "loopback": True,
                "here": True,
            },
            [
                "FAIL  node bench-3: listens on this machine only: "
                "it was started without the mesh key that is here now",
                "      hint: end it and start it again",
                "verdict: bench-3 listens on its own machine only",
            ],
        ),
        (
            {"state": "refused us: b belongs to mesh 'x', not 'lab'", "cause": "b belongs to mesh 'x', not 'lab'"},
            [
                "FAIL  node bench-3: refused us: b belongs to mesh 'x', not 'lab'",
                "      hint: --mesh (or DINGO_ZMQ_MESH) must be the same; here it is lab",
                "verdict: other mesh name: b belongs to mesh 'x', not 'lab'",
            ],
        ),
        (
            {"state": "greeting"},
            [
                "FAIL  node bench-3: its ports at tcp://10.0.0.7:47100 are open, but it has not answered in 3 s",
                "      hint: look into its log, and run dingo-zmq doctor there; "
                "or is that port another program's?",
                "verdict: no answer from bench-3",
            ],
        ),
        (
            {"state": "draining"},
            [
                "warn  node bench-3: at tcp://10.0.0.7:47100 is about to end",
                "      hint: start it again, if it should be there",
                "verdict: this machine is fine (1 warning above)",
            ],
        ),
        (
            {"state": "silent"},
            [
                "warn  node bench-3: at tcp://10.0.0.7:47100 lives, but has not answered for a while",
                "      hint: dingo-zmq peers shows its load; perhaps a task keeps the whole process busy",
                "verdict: this machine is fine (1 warning above)",
            ],
        ),
        (
            {"here": True, "loopback": True, "round_trip": None},
            [
                "warn  node bench-3: ready at tcp://10.0.0.7:47100, with 2 functions; "
                "but it listens on this machine only",
                "      hint: start it without --bind, if others are to reach it",
                "verdict: this machine and 1 node are fine (1 warning above)",
            ],
        ),
        (
            {"here": True, "sources": ("directory",), "round_trip": None},
            [
                "warn  node bench-3: ready at tcp://10.0.0.7:47100, with 2 functions; "
                "but it is not announced by multicast",
                "      hint: start it with --discovery directory,zeroconf",
                "verdict: this machine and 1 node are fine (1 warning above)",
            ],
        ),
        (
            {"here": True, "tried": (tried(), tried(Answer.NO_NAME, Answer.NO_NAME, "b.lan")), "round_trip": None},
            [
                "warn  node bench-3: ready at tcp://10.0.0.7:47100, with 2 functions; "
                "but it tells others tcp://b.lan:47100, which does not exist",
                ADVERTISE,
                "verdict: this machine and 1 node are fine (1 warning above)",
            ],
        ),
    ],
)
def test_a_node(changes: dict[str, Any], expected: list[str]) -> None:
    assert of_node(**changes) == expected


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        (NO_KEY, "this machine has no mesh key: copy that of the node to /k/mesh.key"),
        (
            KeyFacts("/k", "d8ffb26f", guest=True),
            "it does not know the guest whose key is here: dingo-zmq keys list, where the mesh key is",
        ),
        (
            KeyFacts("/k", "11111111", guest=True),
            "the key here is a guest's of another mesh key: have one made where that of the node is",
        ),
        (KeyFacts("", UNKEYED, insecure=True), "leave --insecure-lan out here, and have the same key as it"),
    ],
)
def test_a_key_that_only_the_node_has(key: KeyFacts, hint: str) -> None:
    node = dataclasses.replace(NODE, state="locked out", cause="it has another key")
    assert f"      hint: {hint}" in news(key=key, nodes=(node,))


def test_an_address_alone_is_no_name_to_be_repeated() -> None:
    node = NodeFacts(AT, AT, named=True, tried=(tried(CLOSED, CLOSED),), state="apart")
    assert news(nodes=(node,))[0] == (
        "FAIL  node tcp://10.0.0.7:47100: nobody listens there: "
        "it has ended, has another port, or keeps to its own machine"
    )


# ---------------------------------------------------------------------- meshes, functions, clocks


def test_another_mesh() -> None:
    assert news(nodes=(), other_meshes={"x": 2, "y": 1}) == [
        'FAIL  mesh: there is no node of mesh "lab", but 2 of mesh "x", 1 of mesh "y"',
        "      hint: --mesh x (or DINGO_ZMQ_MESH) here, or --mesh lab for the node",
        'verdict: other mesh name: "x", not "lab"',
    ]


def functions(here: tuple[str, str], *there: tuple[str, str]) -> list[str]:
    nodes = [
        dataclasses.replace(NODE, name=f"b{number}", functions={"scan": told}) for number, told in enumerate(there)
    ]
    printed = news(nodes=tuple(nodes), file="f.py", functions={"scan": here})
    return [line for line in printed if "node b" not in line and "clock" not in line]


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        (
            ("(x)", "aa"),
            [("(x)", "aa"), ("(x, y)", "bb"), ("(z)", "cc")],
            [
                "FAIL  functions: scan(x) here, scan(x, y) on b1; scan(z) on b2",
                "      hint: serve the same file on b1, b2, and start the node again",
                "verdict: function differs: scan(x) here, scan(x, y) on b1; scan(z) on b2",
            ],
        ),
        (
            ("(x)", "aa"),
            [("(x)", "aa/json"), ("(x)", "aa@2/mine")],
            [
                "FAIL  functions: scan(x) here, scan(x), marshaller json, not msgpack on b0; "
                "scan(x), another version, marshaller mine, not msgpack on b1",
                "      hint: serve the same file on b0, b1, and start the node again",
                "verdict: function differs: scan(x) here, scan(x), marshaller json, not msgpack on b0; "
                "scan(x), another version, marshaller mine, not msgpack on b1",
            ],
        ),
        (
            ("(x)", "aa"),
            [("(x)", "aa@2")],
            [
                "FAIL  functions: scan(x) here, scan(x), another version on b0",
                "      hint: serve the same file on b0, and start the node again",
                "verdict: function differs: scan(x) here, scan(x), another version on b0",
            ],
        ),
        (
            ("(x)", "aa"),
            [("(x)", "aa")],
            [
                "ok    functions: 1 of f.py the same here and on 1 node",
                "verdict: this machine and 1 node are fine",
            ],
        ),
        (
            ("(...)", ""),
            [("(x)", "aa")],
            [
                "ok    functions: 1 of f.py the same here and on 1 node",
                "verdict: this machine and 1 node are fine",
            ],
        ),
    ],
)
def test_functions(here: tuple[str, str], there: list[tuple[str, str]], expected: list[str]) -> None:
    assert functions(here, *there) == expected


def test_a_function_that_no_node_has() -> None:
    assert news(file="f.py", functions={"other": ("(x)", "aa")}) == [
        "warn  functions: no node has other(x), which f.py has",
        "      hint: dingo-zmq node f.py",
        "verdict: this machine and 1 node are fine (1 warning above)",
    ]


@pytest.mark.parametrize(
    ("clock", "words"),
    [
        (31.0, "31 seconds ahead of"),
        (-60.0, "1 minute behind"),
        (7200.0, "2 hours ahead of"),
        (-86400.0 * 3, "3 days behind"),
    ],
)
def test_a_clock(clock: float, words: str) -> None:
    nodes = (NODE, dataclasses.replace(NODE, name="far", clock=clock))
    assert [line for line in news(nodes=nodes) if "node far" not in line] == [
        f"warn  clock: far is {words} this machine; nothing here depends on the clocks, "
        "but logs are hard to compare",
        "      hint: on both: sudo timedatectl set-ntp true",
        "verdict: this machine and 2 nodes are fine (1 warning above)",
    ]


# ---------------------------------------------------------------------- the verdict


def test_the_verdict_names_the_cause_below_all_others() -> None:
    findings: list[Finding] = [fine("a", "b"), warn("a", "b", "c")]
    for cause in reversed(Cause):
        findings.append(fail(cause, "check", "text", "hint", f"about {cause.name}"))
        assert verdict(findings, 3) == _VERDICTS[cause].format(f"about {cause.name}")


def test_the_verdict_names_all_whom_it_concerns_once() -> None:
    refused = [fail(Cause.KEY_REFUSED, "", "", "", about) for about in ("b", "a", "b")]
    assert verdict(refused, 0) == "key refused by b, a"
    crowd = [fail(Cause.KEY_REFUSED, "", "", "", f"b{number}") for number in range(7)]
    assert verdict(crowd, 0) == "key refused by b0, b1, b2, b3, b4 and 2 more"


def test_the_causes_are_in_order_from_the_bottom_up() -> None:
    assert [cause.name for cause in Cause] == [
        "KEY_FILE",
        "OPEN_FILES",
        "NO_INTERFACE",
        "PORT_TAKEN",
        "NO_ECHO",
        "NOTHING_HEARD",
        "LOOPBACK_ONLY",
        "NOT_REACHABLE",
        "PORT_CLOSED",
        "PORT_FILTERED",
        "OTHER_VERSION",
        "KEY_REFUSED",
        "OTHER_MESH",
        "NO_ANSWER",
        "FUNCTION_DIFFERS",
        "NO_NODE",
    ]


def test_what_is_not_well_has_a_hint() -> None:
    everything = dataclasses.replace(
        FACTS, key=NO_KEY, descriptors=1, lan=(), heard=0, nodes=(NodeFacts("b", AT),), other_meshes={"x": 1}
    )
    for finding in (*judge(everything), *judge(dataclasses.replace(FACTS, nodes=()))):
        assert bool(finding.hint) == (finding.level is not Level.OK)


def test_the_limit_is_enough_for_what_a_caller_tries_at_a_time() -> None:
    assert NODES_LEAST == UNPROVED_MOST


def test_two_nodes_of_one_name() -> None:
    assert news(nodes=(NODE, NODE)) == [
        f"warn  names: 2 nodes are called {NODE.name}, so --node {NODE.name} means any of them",
        "      hint: give each another --name",
        "ok    clock: the same here and on 2 nodes",
        "verdict: this machine and 2 nodes are fine (1 warning above)",
    ]


# ---------------------------------------------------------------------- behind a forwarder


def test_a_node_behind_a_forwarder_that_is_gone() -> None:
    text, hint = of_node(state="apart", tried=(tried(CLOSED, CLOSED),), gates=1)[:2]
    assert "is behind a forwarder, and nobody listens at tcp://10.0.0.7:47100: that has ended, or does not" in text
    assert "see what dingo-zmq forward prints at 10.0.0.7" in hint


def test_a_node_behind_forwarders() -> None:
    line, *_ = of_node(gates=2)
    assert "ready at tcp://10.0.0.7:47100, behind 2 forwarders, 1.2 ms away" in line


def test_a_guest_that_a_node_does_not_know() -> None:
    key = dataclasses.replace(KEY, guest=True)
    lines = news(key=key, nodes=(dataclasses.replace(NODE, state="greeting", clock=None),))
    assert any("it does not know the guest whose key is here" in line for line in lines)
