"""What the facts about one node mean, from the bottom up: address, port, version, key, mesh.  Pure."""

from __future__ import annotations

from dingo_zmq.mesh.diagnose.facts import Answer, Facts, NodeFacts, Tried
from dingo_zmq.mesh.diagnose.findings import Cause, Finding, fail, fine, warn
from dingo_zmq.mesh.discovery.port import UNKEYED, split_tcp
from dingo_zmq.model import counted
from dingo_zmq.protocol.messages import VERSION

__all__ = ["judge_node"]

_SAYS_MOST = (
    Answer.REFUSED,
    Answer.DROPPED,
    Answer.SILENT,
    Answer.ABSENT,
    Answer.NO_NAME,
    Answer.NO_ROUTE,
    Answer.OPEN,
)
"""of several addresses of a node the one whose answer says most is told of"""


def judge_node(node: NodeFacts, facts: Facts) -> Finding:
    """Return what is wrong with a node, or that nothing is."""
    if node.loopback and node.key and facts.key.open and node.key != facts.key.id:
        return _loopback_only(node)
    if not any(each.is_open for each in node.tried):
        return _not_reached(node)
    return _refusal(node, facts) or _standing(node, facts)


def _check(node: NodeFacts) -> str:
    return f"node {node.name}"


def _loopback_only(node: NodeFacts) -> Finding:
    text = "listens on this machine only: it was started without the mesh key that is here now"
    return fail(Cause.LOOPBACK_ONLY, _check(node), text, "end it and start it again", node.name)


# ---------------------------------------------------------------------- addresses and ports


def _not_reached(node: NodeFacts) -> Finding:
    """Return why none of its addresses will do."""
    found = [worst_of(each) for each in node.tried]
    if not found:
        text = f"none of the addresses it tells can be used from here, such as {node.address}"
        return fail(Cause.NOT_REACHABLE, _check(node), text, _advertise(node), node.name)
    endpoint, answer = min(found, key=lambda each: _SAYS_MOST.index(each[1]))
    host, port = split_tcp(endpoint)
    if node.gates and answer in (Answer.REFUSED, Answer.ABSENT):
        return _no_gate(node, endpoint)
    if answer is Answer.REFUSED:
        return _closed(node, endpoint)
    if answer in (Answer.DROPPED, Answer.SILENT):
        return _filtered(node, host, port, there=answer is Answer.DROPPED)
    why = {
        Answer.ABSENT: f"has the address {host}, which nobody on this network has",
        Answer.NO_NAME: f"is at {host}, a name that has no address here",
        Answer.NO_ROUTE: f"has the address {host}, to which there is no way from here",
    }[answer]
    return fail(Cause.NOT_REACHABLE, _check(node), why, _advertise(node), node.name)


def worst_of(tried: Tried) -> tuple[str, Answer]:
    """Return the endpoint of a candidate that is not open, the one for tasks before the other."""
    if tried.tasks_answer is Answer.OPEN:
        return tried.reports, tried.reports_answer
    return tried.tasks, tried.tasks_answer


def _advertise(node: NodeFacts) -> str:
    if node.named:
        return "check the address; the node prints it when it starts"
    return "start it without --advertise, or with an address that other machines can reach"


def _closed(node: NodeFacts, endpoint: str) -> Finding:
    where = "there" if endpoint == node.name else f"at {endpoint}"
    if node.here:
        text = f"nobody listens {where}: it has ended without a word, or was never there"
        return fail(Cause.PORT_CLOSED, _check(node), text, "start it: dingo-zmq node FILE.py", node.name)
    text = f"nobody listens {where}: it has ended, has another port, or keeps to its own machine"
    hint = "run dingo-zmq doctor there too; a node prints its address when it starts"
    return fail(Cause.PORT_CLOSED, _check(node), text, hint, node.name)


def _no_gate(node: NodeFacts, endpoint: str) -> Finding:
    """A forwarder has announced it, and is not there now, or has let go of it."""
    text = f"is behind a forwarder, and nobody listens at {endpoint}: that has ended, or does not reach the node"
    host, _ = split_tcp(endpoint)
    hint = f"see what dingo-zmq forward prints at {host}: it tells of each side what it does not reach"
    return fail(Cause.PORT_CLOSED, _check(node), text, hint, node.name)


def _filtered(node: NodeFacts, host: str, port: int, *, there: bool) -> Finding:
    first = min(split_tcp(end)[1] for each in node.tried for end in (each.tasks, each.reports))
    text = f"port {port} of {host} does not answer: a firewall drops it"
    text += ", for the machine is there" if there else ", or nobody has that address"
    ports = f"{first}-{first + 1}/tcp"
    hint = f"there: sudo ufw allow {ports.replace('-', ':')}, or sudo firewall-cmd --add-port={ports}"
    return fail(Cause.PORT_FILTERED, _check(node), text, hint, node.name)


# ---------------------------------------------------------------------- who does not let us in


def _refusal(node: NodeFacts, facts: Facts) -> Finding | None:
    barred = node.state.startswith("refused us")
    if node.version not in (0, VERSION) or (barred and "protocol version" in node.cause):
        numbers = f"speaks protocol version {node.version}, and this machine {VERSION}"
        text = numbers if node.version else node.cause
        hint = "pip install --upgrade dingo-zmq where it is older"
        return fail(Cause.OTHER_VERSION, _check(node), text, hint, node.name)
    if node.state == "locked out":
        return _locked_out(node, facts)
    if barred:
        hint = f"--mesh (or DINGO_ZMQ_MESH) must be the same; here it is {facts.mesh}"
        return fail(Cause.OTHER_MESH, _check(node), f"refused us: {node.cause}", hint, node.cause)
    return None


def _locked_out(node: NodeFacts, facts: Facts) -> Finding:
    if facts.key.insecure:
        text, hint = node.cause, "leave --insecure-lan out here, and have the same key as it"
    else:
        theirs = "" if node.key in ("", UNKEYED) else f", its {node.key}"
        text, hint = f"{node.cause}; ours is {facts.key.id}{theirs}", _share_key(node, facts)
    return fail(Cause.KEY_REFUSED, _check(node), text, hint, node.name)


def _share_key(node: NodeFacts, facts: Facts) -> str:
    if node.key == UNKEYED:
        return "start it without --insecure-lan, and with the same key as here"
    if facts.key.guest and node.key in ("", facts.key.id):
        return "it does not know the guest whose key is here: dingo-zmq keys list, where the mesh key is"
    if facts.key.guest:
        return "the key here is a guest's of another mesh key: have one made where that of the node is"
    if not facts.key.open:
        return f"this machine has no mesh key: copy that of the node to {facts.key.path}"
    return f"all machines need the same key: copy {facts.key.path} there and start it again, or its key here"


# ---------------------------------------------------------------------- who does


def _standing(node: NodeFacts, facts: Facts) -> Finding:
    if node.state == "ready":
        away = "" if node.round_trip is None else f", {node.round_trip * 1000:.1f} ms away"
        behind = f", behind {counted(node.gates, 'forwarder')}" if node.gates else ""
        text = f"ready at {node.address}{behind}{away}, with {counted(len(node.functions), 'function')}"
        if node.here and facts.key.open and (doubt := _doubt(node, facts)):
            return warn(_check(node), f"{text}; but {doubt[0]}", doubt[1])
        return fine(_check(node), text)
    if node.state == "draining":
        return warn(_check(node), f"at {node.address} is about to end", "start it again, if it should be there")
    if node.state == "silent":
        hint = "dingo-zmq peers shows its load; perhaps a task keeps the whole process busy"
        return warn(_check(node), f"at {node.address} lives, but has not answered for a while", hint)
    text = f"its ports at {node.address} are open, but it has not answered in {facts.seconds:g} s"
    hint = "look into its log, and run dingo-zmq doctor there; or is that port another program's?"
    if facts.key.guest:
        hint = (
            "or it does not know the guest whose key is here, as behind a forwarder: copy the folder guests there"
        )
    return fail(Cause.NO_ANSWER, _check(node), text, hint, node.name)


def _doubt(node: NodeFacts, facts: Facts) -> tuple[str, str] | None:
    """Return why others may not reach a node that we reach, since it is here, and a hint."""
    if node.loopback:
        return "it listens on this machine only", "start it without --bind, if others are to reach it"
    wrong = [each.tasks for each in node.tried if each.tasks_answer in (Answer.ABSENT, Answer.NO_NAME)]
    if wrong:
        return f"it tells others {wrong[0]}, which does not exist", _advertise(node)
    echo = facts.multicast and any(each.heard for each in facts.echoes)
    if echo and "zeroconf" not in node.sources:
        return "it is not announced by multicast", "start it with --discovery directory,zeroconf"
    return None
