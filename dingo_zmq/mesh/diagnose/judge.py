"""What the facts mean: a finding for each check.  Pure: it looks at nothing but the facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from dingo_zmq.mesh.diagnose.facts import Facts, NodeFacts
from dingo_zmq.mesh.diagnose.findings import Cause, Finding, fail, fine, warn
from dingo_zmq.mesh.diagnose.judge_node import judge_node
from dingo_zmq.model import counted

__all__ = ["judge"]

BASE_FILES = 40
"""files that a caller has open before it knows a node: sockets of ZeroMQ and of discovery, pipes"""
NODE_FILES = 6
"""that each node takes at a caller: the PUSH and its monitor have four, each TCP connection one"""
NODES_LEAST = 64
"""so many nodes a caller tries at a time; see `connections.UNPROVED_MOST`"""
CLOCK_SECONDS = 30.0
"""a clock as far off as this is worth a word"""

_START = "start one with: dingo-zmq node FILE.py, or give the address of one: --peer tcp://HOST:47100"
_START_HERE = (
    "start one here with: dingo-zmq node FILE.py; to meet those of other machines, "
    "this one needs their mesh key, which dingo-zmq keygen makes"
)
_NAME_IT = "name the address of a node: --peer tcp://HOST:47100; or run dingo-zmq doctor on two machines at a time"
_OPEN_5353 = "let UDP port 5353 in and out: sudo ufw allow 5353/udp, or sudo firewall-cmd --add-service=mdns"
_WITHOUT_5353 = "end it (ss -ulpn 'sport = :5353' shows it), or do without: --peer tcp://HOST:47100"


def judge(facts: Facts) -> list[Finding]:
    """Return what the facts mean, a finding for each check, this machine first."""
    return [*_machine(facts), *_multicast(facts), *_nodes(facts), *_functions(facts), *_clocks(facts)]


def split_hint(text: str, otherwise: str) -> tuple[str, str]:
    """Return an error of ours without its hint, and the hint, or another where it has none."""
    what, _, hint = text.partition("; hint: ")
    return what, hint or otherwise


# ---------------------------------------------------------------------- this machine


def _machine(facts: Facts) -> Iterator[Finding]:
    yield _key(facts)
    yield _open_files(facts)
    yield _network(facts)
    yield _host_name(facts)


def _key(facts: Facts) -> Finding:
    key = facts.key
    if key.error:
        return fail(Cause.KEY_FILE, "key", *split_hint(key.error, "dingo-zmq config shows which files are meant"))
    if key.insecure:
        text = "none (--insecure-lan): anybody on the network can run tasks"
        return warn("key", text, "dingo-zmq keygen, and copy the key to the other machines")
    if key.open:
        what = "key of a guest, for nodes with mesh key" if key.guest else "mesh key"
        return fine("key", f"{what} {key.id} in {key.path}")
    text = f"there is no mesh key in {key.path}, so nodes and callers here keep to this machine"
    hint = f"dingo-zmq keygen, and copy the key to the other machines; or copy theirs to {key.path}"
    if facts.far_peers:
        what = f"{text}, and {facts.far_peers[0]} is at another one"
        return fail(Cause.KEY_FILE, "key", what, hint)
    return warn("key", text, hint)


def _open_files(facts: Facts) -> Finding:
    if facts.descriptors is None:
        return fine("open files", "not limited")
    nodes = max(0, (facts.descriptors - BASE_FILES) // NODE_FILES)
    if nodes >= NODES_LEAST:
        return fine("open files", f"{facts.descriptors} for a process, enough for about {counted(nodes, 'node')}")
    text = f"only {facts.descriptors} for a process, enough for about {counted(nodes, 'node')}"
    hint = "ulimit -n 4096 in the shell that starts it, or LimitNOFILE=4096 in its unit"
    return fail(Cause.OPEN_FILES, "open files", text, hint)


def _network(facts: Facts) -> Finding:
    if facts.bind_error:
        what = split_hint(facts.bind_error, "leave --bind out")
        return fail(Cause.NO_INTERFACE, "network", *what)
    if facts.lan:
        return fine("network", ", ".join(f"{ip} ({interface})" for ip, interface in facts.lan))
    if not facts.key.open:
        return fine("network", "no address but loopback, and without a mesh key no other is used")
    if facts.bind:
        return fine("network", f"no address but loopback (--bind {', '.join(facts.bind)})")
    hint = "ip address shows what there is; plug it in, or: sudo ip link set NAME up"
    return fail(Cause.NO_INTERFACE, "network", "this machine has no address but loopback", hint)


def _host_name(facts: Facts) -> Finding:
    """Programs that tell their host name come to grief over this one; ours tell addresses of interfaces."""
    if not facts.host_addresses:
        return fine("host name", f"{facts.host} has no address here, which does no harm: nodes tell no names")
    text = f"{facts.host} is {', '.join(facts.host_addresses)}"
    if all(address.startswith("127.") for address in facts.host_addresses):
        text += " here, which does no harm: nodes tell the addresses of the interfaces"
    return fine("host name", text)


# ---------------------------------------------------------------------- multicast


def _multicast(facts: Facts) -> Iterator[Finding]:
    if not facts.multicast:
        yield fine("multicast", "not used (--discovery)")
    elif not facts.key.open:
        yield fine("multicast", "not used without a mesh key")
    elif facts.taken:
        text = "another program keeps UDP port 5353 to itself, so nodes of other machines are not found"
        yield fail(Cause.PORT_TAKEN, "port 5353", text, _WITHOUT_5353)
    elif facts.port_error:
        yield fail(Cause.PORT_TAKEN, "port 5353", f"UDP port 5353 cannot be used: {facts.port_error}", _OPEN_5353)
    else:
        yield fine("port 5353", "can be shared")
        if facts.lan:
            yield from _echo(facts)


def _echo(facts: Facts) -> Iterator[Finding]:
    well = list(dict.fromkeys(each.interface for each in facts.echoes if each.heard))
    bad = {each.interface: each.error for each in facts.echoes if each.interface not in well}
    for interface, error in bad.items():
        text = f"what is sent on {interface} does not come back to this machine itself"
        text += f": {error}" if error else ", so a firewall here drops it"
        if well or any(node.state == "ready" for node in facts.nodes):
            yield warn("multicast", text, _OPEN_5353)
        else:
            yield fail(Cause.NO_ECHO, "multicast", text, _OPEN_5353)
    if not well:
        return
    where = ", ".join(well)
    if facts.heard:
        yield fine("multicast", f"comes back on {where}, and {_others(facts.heard)} heard")
        return
    text = (
        f"leaves on {where}, but no other machine was heard in {facts.seconds:g} s: "
        "a switch or wireless access point filters it, or nobody else is there"
    )
    if facts.nodes:
        yield warn("multicast", text, _NAME_IT)
    else:
        yield fail(Cause.NOTHING_HEARD, "multicast", text, _NAME_IT)


def _others(count: int) -> str:
    return "another address is" if count == 1 else f"{count} other addresses are"


# ---------------------------------------------------------------------- nodes


def _nodes(facts: Facts) -> Iterator[Finding]:
    if not facts.looked:
        return
    for node in facts.nodes:
        yield judge_node(node, facts)
    others = ", ".join(f'{count} of mesh "{mesh}"' for mesh, count in facts.other_meshes.items())
    if facts.nodes and others:
        yield fine("other meshes", others)
    elif others:
        text = f'there is no node of mesh "{facts.mesh}", but {others}'
        mesh = next(iter(facts.other_meshes))
        hint = f"--mesh {mesh} (or DINGO_ZMQ_MESH) here, or --mesh {facts.mesh} for the node"
        yield fail(Cause.OTHER_MESH, "mesh", text, hint, f'"{mesh}", not "{facts.mesh}"')
    elif not facts.nodes:
        where = "" if facts.key.open else " on this machine"
        text = f'none of mesh "{facts.mesh}" was found{where} in {facts.seconds:g} s'
        yield fail(Cause.NO_NODE, "nodes", text, _START if facts.key.open else _START_HERE)
    names = Counter(node.name for node in facts.nodes if node.state == "ready")
    for name in [name for name, count in names.items() if count > 1]:
        text = f"{names[name]} nodes are called {name}, so --node {name} means any of them"
        yield warn("names", text, "give each another --name")


def _functions(facts: Facts) -> Iterator[Finding]:
    ready = [node for node in facts.nodes if node.state == "ready"]
    same = 0
    for name, told in facts.functions.items():
        having = [node for node in ready if name in node.functions]
        differing = [node for node in having if _differs(told[1], node.functions[name][1])]
        if differing:
            yield _difference(name, told, differing)
        elif not having and ready:
            text = f"no node has {name}{told[0]}, which {facts.file} has"
            yield warn("functions", text, f"dingo-zmq node {facts.file}")
        elif having:
            same += 1
    if same:
        yield fine("functions", f"{same} of {facts.file} the same here and on {counted(len(ready), 'node')}")


def _differs(here: str, there: str) -> bool:
    return bool(here and there and here != there)


def _difference(name: str, told: tuple[str, str], nodes: list[NodeFacts]) -> Finding:
    text, print_here = told
    there = []
    for node in nodes:
        signature, print_there = node.functions[name]
        there.append(f"{name}{signature}{_beside_types(print_here, print_there)} on {node.name}")
    what = f"{name}{text} here, {'; '.join(there)}"
    hint = f"serve the same file on {', '.join(node.name for node in nodes)}, and start the node again"
    return fail(Cause.FUNCTION_DIFFERS, "functions", what, hint, what)


def _beside_types(here: str, there: str) -> str:
    """Return what else than the types differs between two fingerprints, as text to follow a signature."""
    (ours, _, how), (theirs, _, other) = here.partition("/"), there.partition("/")
    told = ""
    if ours != theirs and ours.partition("@")[0] == theirs.partition("@")[0]:
        told = ", another version"
    return told if how == other else f"{told}, marshaller {other or 'msgpack'}, not {how or 'msgpack'}"


def _clocks(facts: Facts) -> Iterator[Finding]:
    known = [(node, node.clock) for node in facts.nodes if node.clock is not None]
    far = [(node, clock) for node, clock in known if abs(clock) > CLOCK_SECONDS]
    for node, clock in far:
        way = "ahead of" if clock > 0 else "behind"
        text = f"{node.name} is {_span(abs(clock))} {way} this machine; nothing here depends on the clocks, "
        yield warn("clock", f"{text}but logs are hard to compare", "on both: sudo timedatectl set-ntp true")
    if known and not far:
        yield fine("clock", f"the same here and on {counted(len(known), 'node')}")


def _span(seconds: float) -> str:
    """Return a time in words, roughly."""
    for size, noun in ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute")):
        if seconds >= size:
            return counted(round(seconds / size), noun)
    return counted(round(seconds), "second")
