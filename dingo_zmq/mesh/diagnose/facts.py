"""What a look at a machine and its mesh has found, without any judgement of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Answer", "Echo", "Facts", "KeyFacts", "NodeFacts", "Tried"]


class Answer(Enum):
    """What became of an attempt to connect to a port."""

    OPEN = "open"
    REFUSED = "refused"
    DROPPED = "dropped"
    """silence, or a firewall's refusal, from a machine that is there"""
    SILENT = "silent"
    """silence, and no way to tell whether the machine is there"""
    ABSENT = "absent"
    """nobody on our network has the address"""
    NO_ROUTE = "no route"
    NO_NAME = "no name"
    """the name of the host has no address"""


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """
    The key of this machine.

    Attributes:
        path: the file of the mesh key, or where it is looked for.
        id: see `keys.key_id`.
        open: whether it opens this machine to the network.
        insecure: whether there is to be no key at all.
        error: why it cannot be used, in our own words with a hint, or "".
        guest: whether it is a guest's; `id` is then that of the mesh key of its nodes.
    """

    path: str
    id: str = ""
    open: bool = True
    insecure: bool = False
    error: str = ""
    guest: bool = False


@dataclass(frozen=True, slots=True)
class Echo:
    """
    What became of a multicast packet that was sent on an interface.

    Attributes:
        interface, ip: the interface, and its address that was used.
        heard: whether this machine has heard it itself.
        error: why it could not be sent, or "".
    """

    interface: str
    ip: str
    heard: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate of a node: its two endpoints, and what became of an attempt to connect to each."""

    tasks: str
    reports: str
    tasks_answer: Answer
    reports_answer: Answer

    @property
    def is_open(self) -> bool:
        """Whether somebody answers at both."""
        return self.tasks_answer is self.reports_answer is Answer.OPEN


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """
    One node.

    Attributes:
        name: what people call it; its address where that is all we know.
        address: the endpoint of its tasks that is in use, or the first that there is.
        named: whether somebody gave its address (``--peer``).
        here: whether it is on this machine.
        loopback: whether it tells of loopback addresses only.
        tried: its candidates, without those that cannot mean anything here.
        sources: how it was found.
        key: id of the key it announces, "" where unknown.
        version: its protocol version, 0 where unknown.
        state, cause: see `PeerInfo`; "" where nobody has connected to it.
        round_trip: seconds, None before the first.
        clock: seconds that its clock is ahead of ours, None where unknown.
        functions: name to signature text and fingerprint.
        gates: forwarders that stand before all its addresses.
    """

    name: str
    address: str
    named: bool = False
    here: bool = False
    loopback: bool = False
    tried: tuple[Tried, ...] = ()
    sources: tuple[str, ...] = ()
    key: str = ""
    version: int = 0
    state: str = ""
    cause: str = ""
    round_trip: float | None = None
    clock: float | None = None
    functions: dict[str, tuple[str, str]] = field(default_factory=dict)
    gates: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """
    Everything that was found.

    Attributes:
        mesh: name of the mesh.
        key: the key of this machine.
        seconds: how long it was looked around.
        descriptors: files that a process may have open, None where there is no such limit.
        lan: addresses that other machines could reach, with their interfaces: (address, interface).
        bind: what was told to keep to.
        bind_error: why that cannot be, or "".
        host: name of this machine.
        host_addresses: what that name stands for here.
        multicast: whether nodes are to be found by multicast.
        port_error: why UDP port 5353 cannot be shared, or "".
        taken: whether that is since another program keeps it to itself.
        echoes: for each interface.
        heard: how many other machines' addresses were heard by multicast.
        looked: whether nodes could be looked for.
        far_peers: addresses that were given, and that are other machines'.
        nodes: those of our mesh.
        other_meshes: name to number of nodes.
        file: what the functions are from, or "".
        functions: those of the file: name to signature text and fingerprint.
    """

    mesh: str
    key: KeyFacts
    seconds: float
    descriptors: int | None = None
    lan: tuple[tuple[str, str], ...] = ()
    bind: tuple[str, ...] = ()
    bind_error: str = ""
    host: str = ""
    host_addresses: tuple[str, ...] = ()
    multicast: bool = True
    port_error: str = ""
    taken: bool = False
    echoes: tuple[Echo, ...] = ()
    heard: int = 0
    looked: bool = True
    far_peers: tuple[str, ...] = ()
    nodes: tuple[NodeFacts, ...] = ()
    other_meshes: dict[str, int] = field(default_factory=dict)
    file: str = ""
    functions: dict[str, tuple[str, str]] = field(default_factory=dict)
