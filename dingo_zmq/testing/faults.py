"""The faults of a plan, made to happen: each waits until it can do harm, and is counted when it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dingo_zmq.protocol.roster import Side
from dingo_zmq.testing.durable import DurableHost
from dingo_zmq.testing.hosts import CallerHost
from dingo_zmq.testing.network import Connection, Relay, Way
from dingo_zmq.testing.node_host import NodeHost
from dingo_zmq.testing.plan import STALE_KEY, STRANGER_KEY, Fault, Kind
from dingo_zmq.testing.scene import Scene

RETRY_SECONDS = 0.25
PROBE_SECONDS = 2.0
"""a fault that has done no harm so far is tried elsewhere"""
LATEST = 12.0
SPARE_SECONDS = 4.0
"""a fault that lasts still has this long to do harm before everything heals"""
_WAYS = {
    Kind.CUT_UP: (Way.UP,),
    Kind.CUT_DOWN: (Way.DOWN,),
    Kind.CUT_BOTH: (Way.UP, Way.DOWN),
    Kind.HOLE_UP: (Way.UP,),
    Kind.HOLE_DOWN: (Way.DOWN,),
}
_SIDES = {
    Kind.BREAK_TASKS: (Side.TASKS,),
    Kind.BREAK_REPORTS: (Side.REPORTS,),
    Kind.BREAK_BOTH: tuple(Side),
}


class Faults:
    """
    Makes the faults of a plan happen.

    Attributes:
        planned, happened: number of each kind; the same in a run that counts.
    """

    def __init__(self, scene: Scene, nodes: list[NodeHost], callers: list[CallerHost]) -> None:
        self.scene, self.nodes, self.callers = scene, nodes, callers
        self.healed = False
        faults = scene.plan.faults
        self.planned = Counter(fault.kind.value for fault in faults)
        self.happened: Counter[str] = Counter()
        self._turns: Counter[Fault] = Counter()
        self._begin: dict[Kind, Callable[[Fault], bool]] = {
            Kind.CRASH: self._crash,
            Kind.POWER: self._crash,
            Kind.PAUSE_NODE: self._sleep_node,
            Kind.HOG_NODE: self._sleep_node,
            Kind.PAUSE_CALLER: self._sleep_caller,
            Kind.HOG_CALLER: self._sleep_caller,
            Kind.STUCK: self._stick,
            Kind.DRAIN: self._drain,
            Kind.GOODBYE: self._goodbye,
            Kind.RESIZE: self._resize,
            Kind.STALE: self._stale,
            Kind.ALIAS: self._alias,
            Kind.CALLER_DIES: self._die,
            Kind.CALLER_LEAVES: self._die,
            Kind.CALLER_RESTARTS: self._restart,
            Kind.DISK_FULL: self._fill,
            Kind.FORWARDER: self._fell,
            Kind.DETOUR: self._lead_round,
            Kind.CLOG: self._clog,
            Kind.SWIZZLE: self._swizzle,
            Kind.LOSE: self._lose,
            Kind.MISTOLD: self._stick,
            Kind.REUSED: self._reuse,
            Kind.STRANGER: self._stranger,
            **dict.fromkeys((Kind.PARTITION, Kind.PARTITION_ONE_WAY), self._partition),
            **dict.fromkeys(_SIDES, self._break),
            **dict.fromkeys((Kind.CUT_UP, Kind.CUT_DOWN, Kind.CUT_BOTH), self._cut),
            **dict.fromkeys((Kind.HOLE_UP, Kind.HOLE_DOWN), self._hole),
        }
        for fault in faults:
            scene.after(fault.at, self._try, fault)

    def heal(self) -> None:
        """End everything that has not ended."""
        self.healed = True
        network = self.scene.network
        network.holes.clear()
        held_up = [path for path, number in (network.cut + network.clogs).items() if number]
        network.cut.clear()
        network.clogs.clear()
        for path in held_up:
            network.thaw(path)
        network.losing.clear()
        for caller in self.callers:
            if isinstance(caller, DurableHost):
                caller.paper.full = 0
        for relay in self.scene.relays:
            self._rise(relay)
        self.scene.detours.clear()
        self.scene.stuck.clear()
        self.scene.mistold.clear()
        for key in list(self.scene.reused):
            self._lead_back(key)

    # ------------------------------------------------------------------ when, and whom

    def _try(self, fault: Fault) -> None:
        if self.healed:
            return
        if self._begin[fault.kind](fault):
            self.scene.note("FAULT", fault)
        else:
            self.scene.after(RETRY_SECONDS, self._try, fault)

    def _count(self, fault: Fault) -> bool:
        self.happened[fault.kind.value] += 1
        return True

    def _last(self, fault: Fault, hit: Callable[[], bool], end: Callable[[], None]) -> bool:
        """A fault that lasts ends when its time is over; where it does no harm it is soon tried elsewhere."""
        now, seconds = self.scene.now, self._clamped(fault)
        first = min(seconds, RETRY_SECONDS)
        self.scene.after(first, self._end, fault, hit, end, now + seconds, now + PROBE_SECONDS)
        return True

    def _clamped(self, fault: Fault) -> float:
        """Return how long a fault may last, so that others still find a victim after it."""
        left = self.scene.plan.heal_at - self.scene.now
        return max(0.1, min(fault.seconds, left - SPARE_SECONDS))

    def _end(
        self, fault: Fault, hit: Callable[[], bool], end: Callable[[], None], until: float, probe: float
    ) -> None:
        if self.healed:
            return
        now, harmed = self.scene.now, hit()
        if now < (until if harmed else probe):
            self.scene.after(RETRY_SECONDS, self._end, fault, hit, end, until, probe)
            return
        end()
        if harmed:
            self._count(fault)
        else:
            self._try(fault)

    def _node(self, fault: Fault) -> NodeHost | None:
        nodes = [node for node in self.nodes if node.up and node.awake]
        nodes = nodes or [node for node in self.nodes if node.up]
        return nodes[fault.node % len(nodes)] if nodes else None

    def _caller(self, fault: Fault) -> CallerHost | None:
        callers = [caller for caller in self.callers if not caller.dead and caller.awake and caller.caller.peers]
        callers = [caller for caller in callers if not isinstance(caller, DurableHost) or caller.up]
        callers = [caller for caller in callers if not self.scene.stuck[caller.name]] or callers
        return callers[fault.caller % len(callers)] if callers else None

    def _connections(self, fault: Fault) -> list[Connection]:
        """
        Return both connections of a pair that has both; another one each time that a fault is tried.

        Rather a pair of which no messages vanish already.
        """
        caller = self._caller(fault)
        if caller is None:
            return []
        pairs = []
        for node in self.nodes:
            standing = [c for c in self.scene.network.of(caller.name, node.name) if c.up and node.awake]
            for key in self.scene.keys_of(node.name):
                found = [c for c in standing if c.key == key]
                if len(found) == len(Side) and not any(self.scene.network.cut[c.path] for c in found):
                    pairs.append(found)
        whole = [found for found in pairs if not any(self.scene.network.holes[c.path] for c in found)]
        pairs = whole or pairs
        return pairs[(fault.node + self._turn(fault)) % len(pairs)] if pairs else []

    def _turn(self, fault: Fault) -> int:
        """Return how often a fault was tried before, in vain: another one is hit this time."""
        turn = self._turns[fault]
        self._turns[fault] += 1
        return turn

    # ------------------------------------------------------------------ each kind

    def _crash(self, fault: Fault) -> bool:
        node = self._node(fault)
        if node is None:
            return False
        node.crash(powered=fault.kind is Kind.CRASH)
        alone = sum(node.up for node in self.nodes) < 2  # noqa: PLR2004
        self.scene.after(min(self._clamped(fault), 2.0 if alone else LATEST), node.boot)
        return self._count(fault)

    def _sleep_node(self, fault: Fault) -> bool:
        node = self._node(fault)
        if node is None:
            return False
        frozen = fault.kind is Kind.PAUSE_NODE
        others = [other for other in self.nodes if other.up and other.awake and other is not node]
        node.sleep(fault.seconds if others else self._clamped(fault), frozen=frozen)
        if frozen:
            self.scene.network.heartbeats(self.scene.network.of("", node.name))
        return self._count(fault)

    def _sleep_caller(self, fault: Fault) -> bool:
        caller = self._caller(fault)
        if caller is None:
            return False
        frozen = fault.kind is Kind.PAUSE_CALLER
        caller.sleep(self._clamped(fault), frozen=frozen)
        if frozen:
            self.scene.network.heartbeats(self.scene.network.of(caller.name, ""))
        return self._count(fault)

    def _break(self, fault: Fault) -> bool:
        sides = _SIDES[fault.kind]
        chosen = [c for c in self._connections(fault) if c.side in sides]
        if not chosen:  # also of a node that is asleep
            chosen = [c for c in self.scene.network.connections.values() if c.up and c.side in sides][:1]
        return any([self.scene.network.snap(c) for c in chosen]) and self._count(fault)

    def _cut(self, fault: Fault) -> bool:
        connections = self._connections(fault)
        if not connections:
            return False
        paths = [c.path for c in connections if c.way in _WAYS[fault.kind]]
        return self._hold_up(fault, "cut", self.scene.network.cut, paths)

    def _partition(self, fault: Fault) -> bool:
        """Two groups of hosts; a caller and a node at least are in different ones."""
        callers, nodes, dice = [c for c in self.callers if not c.dead], self.nodes, self.scene.dice
        where = {host.name: dice.choice((0, 0, 1, 1, None)) for host in (*callers, *nodes)}
        turn = self._turn(fault)
        apart = callers[(fault.caller + turn) % len(callers)].name, nodes[(fault.node + turn) % len(nodes)].name
        where.update(zip(apart, dice.choice(((0, 1), (1, 0))), strict=True))
        ways = (Way.UP, Way.DOWN)
        paths = [
            (caller.name, node.name, way)
            for caller in callers
            for node in nodes
            if {where[caller.name], where[node.name]} == {0, 1}
            for way in ways
            if fault.kind is Kind.PARTITION or (where[caller.name] == 0) == (way is Way.UP)
        ]
        return self._hold_up(fault, "cut", self.scene.network.cut, paths)

    def _clog(self, fault: Fault) -> bool:
        paths = [c.path for c in self._connections(fault)]
        return bool(paths) and self._hold_up(
            fault, "clog", self.scene.network.clogs, paths[fault.node % len(paths) :][:1]
        )

    def _hold_up(
        self, fault: Fault, sort: str, counted: Counter[tuple[str, str, Way]], paths: list[tuple[str, str, Way]]
    ) -> bool:
        """For a while nothing passes on these paths; cut off, connections may notice it."""
        network = self.scene.network
        before = [network.hits[sort, path] for path in paths]
        counted.update(paths)
        if sort == "cut" and fault.breaks:
            network.heartbeats([c for c in network.connections.values() if c.path in paths])

        def end() -> None:
            counted.subtract(paths)
            for path in paths:
                network.thaw(path)

        def hit() -> bool:
            return any(network.hits[sort, path] > n for path, n in zip(paths, before, strict=True))

        return self._last(fault, hit, end)

    def _swizzle(self, fault: Fault) -> bool:
        network, dice = self.scene.network, self.scene.dice
        paths = sorted({c.path for c in network.of("", "") if c.up and not network.cut[c.path]}, key=str)
        if len(paths) < 2:  # noqa: PLR2004
            return False
        paths = dice.sample(paths, dice.randint(1 + len(paths) // 2, len(paths)))
        before = [network.hits["clog", path] for path in paths]

        def clog(path: tuple[str, str, Way], change: int) -> None:
            if not self.healed:
                network.clogs[path] += change
                network.thaw(path)

        last = max(PROBE_SECONDS, self._clamped(fault))
        for path in paths:
            self.scene.after(dice.uniform(0, last / 2), clog, path, 1)
            self.scene.after(dice.uniform(last / 2, last), clog, path, -1)

        def hit() -> bool:
            return any(network.hits["clog", path] > n for path, n in zip(paths, before, strict=True))

        return self._last(fault, hit, lambda: None)

    def _lose(self, fault: Fault) -> bool:
        """Lose one kind of message; where nobody sends it, then one that is always sent."""
        network = self.scene.network
        turn = self._turn(fault)
        message = fault.message if turn == 0 else ("Beat", "Credit")[turn % 2]
        if message in network.losing:
            return False
        before = network.hits["lose", message]
        network.losing[message] = fault.share

        def end() -> None:
            del network.losing[message]

        return self._last(fault, lambda: network.hits["lose", message] > before, end)

    def _hole(self, fault: Fault) -> bool:
        connections = self._connections(fault)
        if not connections:
            return False
        network = self.scene.network
        (path,) = (c.path for c in connections if c.way in _WAYS[fault.kind])
        before = network.hits["hole", path]
        network.holes[path] += 1

        def end() -> None:
            network.holes[path] -= 1

        return self._last(fault, lambda: network.hits["hole", path] > before, end)

    def _stick(self, fault: Fault) -> bool:
        caller = self._caller(fault)
        if caller is None:
            return False
        stuck = self.scene.stuck if fault.kind is Kind.STUCK else self.scene.mistold
        refusals = self.scene.refusals
        before = refusals[caller.name]
        stuck[caller.name] += 1

        def end() -> None:
            stuck[caller.name] -= 1

        return self._last(fault, lambda: refusals[caller.name] > before, end)

    def _drain(self, fault: Fault) -> bool:
        first = fault.node % len(self.nodes)
        drains = any(node.drain() for node in [*self.nodes[first:], *self.nodes[:first]])
        return drains and self._count(fault)

    def _resize(self, fault: Fault) -> bool:
        node = self._node(fault)
        if node is None or node.node is None or not node.awake:
            return False
        pools = list(node.node.starter.pools)
        node.do(node.node.resize, pools[fault.caller % len(pools)], 1 + fault.node % 4)
        return self._count(fault)

    def _goodbye(self, fault: Fault) -> bool:
        caller = self._caller(fault)
        if caller is None:
            return False
        keys = [key for key in caller.caller.peers if self.scene.node_at(key) is not None]
        if not keys:
            return False
        key = keys[fault.node % len(keys)]
        caller.gone(key)
        self.scene.after(fault.seconds, caller.found, key)
        return self._count(fault)

    def _stale(self, fault: Fault) -> bool:
        caller = self._caller(fault)
        if caller is None:
            return False
        caller.found(STALE_KEY)
        for node in self.nodes:
            caller.found(node.name)
        return self._count(fault)

    def _alias(self, fault: Fault) -> bool:
        caller, node = self._caller(fault), self._node(fault)
        if caller is None or node is None:
            return False
        first, second = node.name, f"{node.name}@2"
        caller.found(first if second in caller.caller.peers else second)
        return self._count(fault)

    def _durable(self, fault: Fault, *, up: bool = True) -> DurableHost | None:
        """Return a caller with a journal, another one each time; `up`: only one whose process lives."""
        durable = [caller for caller in self.callers if isinstance(caller, DurableHost) and not caller.dead]
        durable = [caller for caller in durable if caller.up or not up]
        return durable[(fault.caller + self._turn(fault)) % len(durable)] if durable else None

    def _fill(self, fault: Fault) -> bool:
        """
        The disk of a journal is full; it counts once that has kept something from being written.

        Perhaps what is called as soon as a program that is down is started again.
        """
        caller = self._durable(fault, up=False)
        if caller is None:
            return False
        paper = caller.paper
        before = paper.put_off
        paper.full += 1

        def end() -> None:
            paper.full -= 1

        return self._last(fault, lambda: paper.put_off > before, end)

    def _fell(self, fault: Fault) -> bool:
        """A forwarder through which something goes dies, or ends and says so, and is started again."""
        network = self.scene.network
        used = {relay for c in network.connections.values() if c.up for relay in c.chain}
        relays = [relay for relay in self.scene.relays if relay.up and relay in used]
        if not relays:
            return False
        relay = relays[fault.node % len(relays)]
        self.scene.note("dies", relay.name)
        relay.up = False
        network.fell(relay)
        if not fault.breaks:
            self._withdraw()
        self.scene.after(min(self._clamped(fault), LATEST), self._rise, relay)
        return self._count(fault)

    def _lead_round(self, fault: Fault) -> bool:
        """For a while a caller reaches a node by way of a forwarder only, and then directly again."""
        network, detours = self.scene.network, self.scene.detours
        direct = {c.path[:2] for c in network.of("", "") if c.up and c.chain == ()}
        pairs = [pair for pair in sorted(direct) if pair[1] != self.scene.stranger.name]
        pairs = [pair for pair in pairs if len(self.scene.ways(*pair)) > 1 and not detours[pair]]
        if not pairs:
            return False
        caller, node = pair = pairs[fault.node % len(pairs)]

        def lead(change: int) -> None:
            if not self.healed:
                detours[pair] += change
                for connection in network.of(caller, node):
                    network.snap(connection)

        lead(1)
        self.scene.after(self._clamped(fault), lead, -1)
        return self._count(fault)

    def _withdraw(self) -> None:
        """Nodes to which no forwarder leads are announced no more to those who need one."""
        for caller in self.callers:
            for node in self.nodes:
                ways = self.scene.ways(caller.name, node.name)
                if not any(all(relay.up for relay in chain) for chain in ways):
                    caller.gone(node.name)

    def _rise(self, relay: Relay) -> None:
        if relay.up:
            return
        relay.up = True
        for caller in self.callers:
            for node in self.nodes:
                if any(relay in chain for chain in self.scene.ways(caller.name, node.name)):
                    self.scene.after(self.scene.dice.uniform(0, 1.0), caller.found, node.name)

    def _restart(self, fault: Fault) -> bool:
        caller = self._durable(fault)
        if caller is None:
            return False
        self.scene.note("crashes", caller.name)
        caller.crash()
        self.scene.after(min(self._clamped(fault), 3.0), caller.restart)  # others want callers, too
        return self._count(fault)

    def _reuse(self, fault: Fault) -> bool:
        """What one node was found as leads to another for a while: it has lost its address."""
        up = {c.key for c in self.scene.network.connections.values() if c.up}
        keys = [node.name for node in self.nodes if node.name in up and node.name not in self.scene.reused]
        if not keys:
            return False
        key = keys[fault.node % len(keys)]
        others = [node for node in self.nodes if node.up and node.name != key]
        if not others:
            return False
        other = others[fault.caller % len(others)]
        self.scene.reused[key] = other.name
        self.scene.network.lead(key, other)
        self.scene.after(self._clamped(fault), self._lead_back, key)
        return self._count(fault)

    def _lead_back(self, key: str) -> None:
        if self.scene.reused.pop(key, None):
            self.scene.network.lead(key, self.scene.node_at(key))

    def _stranger(self, fault: Fault) -> bool:
        """Somebody is found who is no node; it counts once it was spoken to."""
        caller = self._caller(fault)
        if caller is None:
            return False
        caller.found(STRANGER_KEY)
        before = self.scene.stranger.told
        return self._last(fault, lambda: self.scene.stranger.told > before, lambda: None)

    def _die(self, fault: Fault) -> bool:
        living = [caller for caller in self.callers if not caller.dead]
        mortal = [caller for caller in living if not isinstance(caller, DurableHost)]
        if not mortal or len(living) < 2:  # noqa: PLR2004
            return False
        caller = mortal[fault.caller % len(mortal)]
        self.scene.note("dies", caller.name)
        caller.die(good_bye=fault.kind is Kind.CALLER_LEAVES)
        return self._count(fault)
