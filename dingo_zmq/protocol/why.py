"""Why a task is not done yet, in words for people."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Container, Iterable, Sequence

from dingo_zmq.model import counted, in_words, plain
from dingo_zmq.protocol.caller import Caller
from dingo_zmq.protocol.ledger import PASSED_SECONDS, Entry, Lane, Route, fits, marshallers_of
from dingo_zmq.protocol.roster import Peer, Stage

CLAUSES_MOST = 5
NAMES_MOST = 3
"""nodes named in one clause, and tags; of more the number is told"""
NAME_MOST, SIGNATURE_MOST, TEXT_MOST = 60, 160, 1000
"""characters of a name, of a signature, and of all together"""
LINES_MOST = 20


def why(caller: Caller, entry: Entry, now: float) -> str:
    """Return one to five clauses: who holds the task, or what it waits for."""
    if entry.settled:
        return "it is done"
    lane = entry.lane
    if lane is not None:
        peer = caller.peers[lane.key]
        doing = "may be running" if entry.started else "is queued or running"
        trouble = "" if peer.usable(now) else f", which {_trouble(peer, now)}"
        text = f"it {doing} on {_name(peer)}{trouble}{_behind(caller, entry)}"
    elif entry in caller.ledger.parked and entry.terms is not None:
        text = entry.terms.why(now)
    else:
        raised = 0 if entry.terms is None else entry.terms.raised
        lost = "its node was lost, and " if entry.attempt > entry.recalls + raised else ""
        text = lost + _no_node(caller, entry.route, now)
    return plain(text + _history(entry), most=TEXT_MOST)


def waiting(caller: Caller, now: float) -> list[str]:
    """Return a line for each function and cause for which tasks wait that no node can take; at most 20."""
    numbers: dict[tuple[str, str], int] = {}
    for route, queue in caller.ledger.queues.items():
        if not any(peer.usable(now) and peer.takes(route) for peer in caller.peers.values()):
            what = route.name, _no_node(caller, route, now)
            numbers[what] = numbers.get(what, 0) + len(queue)
    lines = [
        plain(
            f'{counted(number, "task")} of "{_cut(name)}" {_verb(number, "waits", "wait")}: {text}', most=TEXT_MOST
        )
        for (name, text), number in numbers.items()
    ]
    if len(lines) > LINES_MOST:
        lines[LINES_MOST - 1 :] = [f"and {len(lines) - LINES_MOST + 1} more causes"]
    return lines


def _behind(caller: Caller, entry: Entry) -> str:
    """Return what is said of a stream that is as far ahead of its reader as it may be."""
    reading = caller.streams.get(entry)
    unread = 0 if reading is None else reading.unread
    return f", and waits for its reader, who has {counted(unread, 'value')} to take" if unread else ""


def _history(entry: Entry) -> str:
    if entry.attempt <= 1:
        return ""
    tried = in_words(entry.history)
    more = f"; tried on {tried}" if tried else ""
    return f" (sent {entry.attempt} times, {counted(entry.losses, 'node')} died with it{more})"


# ---------------------------------------------------------------------- why no node takes it


def _no_node(caller: Caller, route: Route, now: float) -> str:
    peers = [peer for peer in caller.peers.values() if not peer.former]
    if not peers:
        return f"no node of mesh {caller.mesh!r} {'is there any more' if caller.met else 'has been found'}"
    ready = [peer for peer in peers if peer.stage is Stage.READY]
    others = [peer for peer in peers if peer.stage is not Stage.READY]

    def standing(peer: Peer) -> tuple[str, str]:
        return _standing(peer, now)

    if not ready:
        none = "no node answers now" if caller.met else "no node has answered yet"
        return "; ".join([none, *_grouped(others, standing, 1)])
    clauses = _choice(ready, route, now)
    suited = any(_suits(peer, peer.lanes, route) for peer in ready)
    more = [peer for peer in others if peer.locked_out or peer.barred or (not suited and _may_suit(peer, route))]
    return "; ".join([*clauses, *_grouped(more, standing, len(clauses))])


def _suits(peer: Peer, functions: Container[str], route: Route) -> bool:
    """Return whether a node that has these functions is one that a task asks for, apart from how it is now."""
    called = not route.node or peer.is_called(route.node)
    return route.name in functions and called and not peer.lacks(route.needs)


def _may_suit(peer: Peer, route: Route) -> bool:
    """Return whether a node that does not answer may be one that a task asks for, as far as it ever told."""
    return peer.welcome is None or _suits(peer, peer.welcome.functions, route)


def _choice(ready: list[Peer], route: Route, now: float) -> list[str]:
    """Return clauses on why none of the nodes that are READY takes a task of a route now."""
    asked = [peer for peer in ready if not route.node or peer.is_called(route.node)]
    if not asked:
        names = sorted({peer.name for peer in ready})
        return [f'no node is called "{_cut(route.node)}"{_similar(route.node, names)}']
    having = [peer for peer in asked if route.name in peer.lanes]
    if not having:
        return [_nobody_has(ready, asked, route)]
    fitting = [peer for peer in having if not peer.lacks(route.needs)]
    if not fitting:
        return _nobody_is_tagged(ready, having, route)
    if route.node and len(asked) == 1:
        return _obstacles(having, route, now, 0) or [f"it is about to be sent to {_name(having[0])}"]
    head = f"{len(having)} of {counted(len(asked), 'node')}"
    called = f' called "{_cut(route.node)}"' if route.node else ""
    head += f'{called} {_verb(len(having), "has", "have")} "{_cut(route.name)}"'
    return [head, *_obstacles(having, route, now, 1)]


def _nobody_has(ready: list[Peer], asked: list[Peer], route: Route) -> str:
    known: dict[str, str] = {}
    for peer in asked:
        for name in peer.lanes:
            known.setdefault(name, peer.name)
    close = difflib.get_close_matches(route.name, known, 1)
    hint = f'; did you mean "{_cut(close[0])}" ({_cut(known[close[0]])})?' if close else ""
    if not route.node:
        return f'no node has "{_cut(route.name)}"{hint}'
    elsewhere = [peer for peer in ready if route.name in peer.lanes]
    if elsewhere:
        hint = f"; {_names(elsewhere)} {_verb(len(elsewhere), 'has', 'have')} it"
    return f'{_names(asked)} {_verb(len(asked), "has", "have")} no "{_cut(route.name)}"{hint}'


def _nobody_is_tagged(ready: list[Peer], having: list[Peer], route: Route) -> list[str]:
    """Return clauses on the tags that are missing: everywhere, or at which nodes."""
    tags = {tag for peer in ready for tag in peer.tags}
    unknown = [tag for tag in route.needs if tag not in tags]
    if unknown:
        there = f"; there {_verb(len(tags), 'is', 'are')}: {_some(sorted(tags))}" if tags else ", nor any other"
        return [f"no node has {_tags(unknown)}{there}"]
    return _grouped(having, lambda peer: (_lacks(peer, "lacks", route), _lacks(peer, "lack", route)), 0)


def _lacks(peer: Peer, verb: str, route: Route) -> str:
    return f"{verb} {_tags(peer.lacks(route.needs))}"


def _obstacles(having: list[Peer], route: Route, now: float, clauses: int) -> list[str]:
    return _grouped(having, lambda peer: _obstacle(peer, route, now), clauses)


def _obstacle(peer: Peer, route: Route, now: float) -> tuple[str, str] | None:
    """Return what keeps a node from taking a task: of one node, and of several alike."""
    lane = peer.lanes[route.name]
    if not fits(route.fingerprint, lane.fingerprint):
        if marshallers_of(lane.fingerprint) != marshallers_of(route.fingerprint):
            return _other_marshallers(lane, route)
        what = _difference(lane, route)
        return f"has {what}", f"have {what}"
    missing = peer.lacks(route.needs)
    if missing:
        return _lacks(peer, "lacks", route), _lacks(peer, "lack", route)
    if route.size > peer.limit:
        what = f"a body limit of {peer.limit:,} bytes, and this one has {route.size:,}"
        return f"has {what}", f"have {what}"
    if not peer.usable(now):
        trouble = _trouble(peer, now)
        return trouble, trouble.replace("is ", "are ", 1).replace("has ", "have ", 1)
    return _no_room(lane, now)


def _no_room(lane: Lane, now: float) -> tuple[str, str] | None:
    if lane.limit <= lane.sent:
        return "is full", "are full"
    if now - lane.passed_at < PASSED_SECONDS:
        return "is so slow that others will be done sooner", "are so slow that others will be done sooner"
    return None


def _difference(lane: Lane, route: Route) -> str:
    """Return a function as the node has it, and where only the version differs, how."""
    there, _, has = lane.fingerprint.partition("/")[0].partition("@")
    here, _, wanted = route.fingerprint.partition("/")[0].partition("@")
    text = f"{_cut(lane.name)}{plain(lane.signature, most=SIGNATURE_MOST)}"
    if has:
        text += f" version {_cut(has)}"
    if there != here:
        return text
    if not has:
        return f"{text} without a version, not version {_cut(wanted)}"
    return f"{text}, not {f'version {_cut(wanted)}' if wanted else 'one without a version'}"


def _other_marshallers(lane: Lane, route: Route) -> tuple[str, str]:
    """Return which marshallers a node has for a function, and which we have."""
    tasks, reports = _marshallers(lane.fingerprint)
    ours, wanted = _marshallers(route.fingerprint)
    name = _cut(lane.name)
    if tasks != ours:
        what = f'"{_cut(tasks)}" tasks of {name}, we send "{_cut(ours)}"'
        return f"takes {what}", f"take {what}"
    what = f'"{_cut(reports)}" reports of {name}, we read "{_cut(wanted)}"'
    return f"sends {what}", f"send {what}"


def _marshallers(fingerprint: str) -> tuple[str, str]:
    """Return the marshallers of tasks and of reports."""
    tasks, _, reports = (marshallers_of(fingerprint) or "msgpack").partition("/")
    return tasks, reports or tasks


def _trouble(peer: Peer, now: float) -> str:
    """Return why a node gets no tasks now, as something that follows its name."""
    if peer.stage is not Stage.READY or peer.locked_out:
        return _standing(peer, now)[0]
    if peer.draining:
        return "is draining"
    if peer.quiet(now) >= 1:
        return f"has been silent for {peer.quiet(now):.0f} s"
    return "has not answered on its new connection yet" if peer.connected else "has a broken connection"


def _standing(peer: Peer, now: float) -> tuple[str, str]:
    """Return how far we are with a node that is not READY, of one and of several alike."""
    if peer.locked_out:
        cause = peer.locked_out.removeprefix("it ")
        return cause, cause.replace("does not", "do not", 1).replace("has ", "have ", 1)
    if peer.former:
        return "has not been back since this program was started again", ""
    if peer.barred:
        return f"refused us: {peer.barred}", f"refused us: {peer.barred}"
    if peer.connected:
        return "has not greeted us yet", "have not greeted us yet"
    if peer.fresh(now):
        return "is not connected yet", "are not connected yet"
    return "cannot be reached", "cannot be reached"


# ---------------------------------------------------------------------- words


def _grouped(peers: Iterable[Peer], told: Callable[[Peer], tuple[str, str] | None], clauses: int) -> list[str]:
    """
    Return clauses on nodes, one for all of which the same is told.

    Args:
        peers: the nodes.
        told: what is told of one node, and of several alike; None for nothing.
        clauses: how many there are already; there are at most five in all.
    """
    groups: dict[tuple[str, str], list[Peer]] = {}
    for peer in peers:
        words = told(peer)
        if words is not None:
            groups.setdefault(words, []).append(peer)
    texts = [f"{_names(group)} {_verb(len(group), *words)}" for words, group in groups.items()]
    room = CLAUSES_MOST - clauses
    if len(texts) > room:
        left = sum(len(group) for group in list(groups.values())[max(0, room - 1) :])
        texts[max(0, room - 1) :] = [f"and {left} more"] if room > 0 else []
    return texts


def _name(peer: Peer) -> str:
    return _cut(peer.name)


def _names(peers: Sequence[Peer]) -> str:
    names = sorted(_name(peer) for peer in peers)
    if len(names) > NAMES_MOST:
        names[NAMES_MOST - 1 :] = [f"{len(names) - NAMES_MOST + 1} more"]
    return _and(names)


def _tags(tags: list[str]) -> str:
    shown = [f'"{_cut(tag)}"' for tag in tags[:CLAUSES_MOST]]
    return f"the {_verb(len(tags), 'tag', 'tags')} {_and(shown)}"


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - 2 * CLAUSES_MOST} more" if len(texts) > 2 * CLAUSES_MOST else ""
    return ", ".join(map(_cut, texts[: 2 * CLAUSES_MOST])) + more


def _and(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _similar(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f'; did you mean "{_cut(close[0])}"?' if close else ""


def _cut(text: str) -> str:
    return plain(text, most=NAME_MOST)


def _verb(number: int, one: str, several: str) -> str:
    return one if number == 1 else several
