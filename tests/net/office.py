"""Two machines with nodes and two with callers on one LAN, in a mesh with a key and in one without."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

import pytest

from dingo_zmq import App
from tests.lan import Host, Lan, Net, ready
from tests.net import counted
from tests.net.work import Account, Work
from tests.support import wait_until

THREADS = 6


class Office:
    """
    The hosts b and c have a node in each of two meshes, and a and d are for callers.

    Args:
        net: where they are made.
        lan: where a, c and d are; b as well, unless `lan_of_b` is another one.
    """

    def __init__(self, net: Net, lan: Lan, lan_of_b: Lan | None = None) -> None:
        self.net, self.lan = net, lan
        self.a, self.c, self.d = (net.host(name, lan, ipv6=False) for name in "acd")
        self.b = net.host("b", lan_of_b or lan, ipv4=False, ipv6=False)
        self.b.add_address(lan.free_address())
        start_nodes([self.b, self.c], THREADS)

    def apps(self, *hosts: Host) -> list[App]:
        """Return two callers on each host, one in each mesh, that have both nodes ready."""
        apps = []
        for host in hosts:
            apps += [host.app(), host.app(insecure_lan=True, mesh=f"{host.mesh}-open")]
        for app in apps:
            ready(app, 2)
        return apps

    def work(self, *hosts: Host) -> list[Work]:
        """Begin to work with two callers on each host, and wait until both nodes do their part."""
        works = [Work(app, self.net.folder / secrets.token_hex(4)) for app in self.apps(*hosts or (self.a,))]
        all_go_on(works, "b", "c")
        return works


def start_nodes(hosts: list[Host], threads: int) -> None:
    """Start two nodes on each host, one in each mesh, and wait until they serve."""
    for host in hosts:
        words = ("node", counted.__file__, "--threads", str(threads))
        for program in [host.program(*words), host.program(*words, *open_mesh(host))]:
            program.line("node ", "out")


def open_mesh(host: Host) -> tuple[str, ...]:
    """Return the words that put a program into the mesh without a key."""
    return "--insecure-lan", "--mesh", f"{host.mesh}-open"


def all_go_on(works: list[Work], *hosts: str) -> None:
    """Wait until tasks that are sent from now on are done, on each of these hosts if any are named."""
    for work, first in [(work, work.sent) for work in works]:
        wait_until(lambda: work.more_done(hosts, first), f"tasks are done on {hosts or 'any host'}; {work}")


def accounts(works: list[Work]) -> list[Account]:
    """Send no more, and return what has become of all tasks."""
    for work in works:
        work.stop()
    return [work.account() for work in works]


@pytest.fixture(scope="module")
def rooms(module_net: Net) -> Office:
    """The office of a module, where nobody works yet."""
    return Office(module_net, module_net.lan())


@pytest.fixture
def office(rooms: Office, own_mesh: None) -> Iterator[Office]:
    """The office of a module; at the end its LAN is whole, and whoever works there has ended."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(rooms.net.for_one_test())
        stack.callback(rooms.lan.heal)
        yield rooms
