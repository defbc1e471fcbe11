"""
Hosts and LANs for tests: network namespaces joined by bridges, each bridge in a namespace of its own.

The namespaces have no names.  They exist as long as this process keeps them open or a program runs in them,
and the kernel ends those programs with this process; so nothing has to be cleared away, not even after SIGKILL.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import ipaddress
import json
import os
import re
import secrets
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import pytest

from dingo_zmq import App
from dingo_zmq.mesh import keys
from dingo_zmq.mesh.info import PeerInfo
from tests.support import PATIENCE, PREFIX, SERVED, Gate, Program, wait_until

P = ParamSpec("P")
R = TypeVar("R")

_NEW_NETWORK = 0x40000000
_ALL_FRAMES = 0x0003
_OUTGOING = 4
_FORCE_BUFFER = 33
_BUFFER = 32 << 20
_TOOLS = ("ip", "nft", "nsenter", "unshare", "setpriv")
_ENTER = """
echo "$1" >/proc/sys/kernel/hostname && mount --bind "$2" /etc/hosts && mount -t sysfs none /sys || exit 99
shift 2
exec "$@"
"""
"""what a program of a host begins with, in a mount namespace and a UTS namespace of its own"""

MDNS = ("ether type ip udp dport 5353", "ether type ip6 udp dport 5353")
_SIDES = {"iifname": ("both", "out"), "oifname": ("both", "in")}

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@functools.cache
def obstacle() -> str:
    """Return why there can be no namespaces here, "" where there can."""
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"missing: {', '.join(missing)}"
    if _libc is None or os.geteuid() != 0:
        return "only root on Linux can make network namespaces"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--uts", "true"], capture_output=True, text=True, check=False
    )
    return tried.stderr.strip() if tried.returncode else ""


def require_namespaces() -> None:
    """Skip the test where there can be no namespaces; where a CI should have them, fail it."""
    if why := obstacle():
        if os.environ.get("CI"):
            pytest.fail(f"this test needs network namespaces: {why}", pytrace=False)
        pytest.skip(f"no network namespaces: {why}")


def _in_thread(work: Callable[[], R]) -> R:
    """Call it in a new thread, and return or raise what comes of it."""
    came: list[R] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            came.append(work())
        except BaseException as exc:
            failed.append(exc)

    thread = threading.Thread(target=run, name="in a namespace", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return came[0]


def _checked(code: int) -> None:
    if code:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _any_of(names: Iterable[str]) -> str:
    """Return names as a set of nft(8)."""
    return f"{{ {', '.join(map(json.dumps, names))} }}"


class Namespace:
    """A network namespace with nothing in it but lo, which is up."""

    def __init__(self) -> None:
        def make() -> int:
            assert _libc is not None
            _checked(_libc.unshare(_NEW_NETWORK))
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        self._fd: int | None = _in_thread(make)
        self.ip("link set lo up")

    @property
    def path(self) -> str:
        """Where others can open it, as long as it is not closed."""
        assert self._fd is not None, "this namespace is closed"
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    @property
    def number(self) -> int:
        """What distinguishes it from all other namespaces."""
        return os.stat(self.path).st_ino

    def inside(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `work` in a thread that is in here; the sockets and threads that it makes stay in here."""

        def enter() -> R:
            assert _libc is not None
            _checked(_libc.setns(self._fd, _NEW_NETWORK))
            return work(*args, **kwargs)

        return _in_thread(enter)

    def command(self, *words: str, text: str = "") -> str:
        """Run a command in here, with `text` on its stdin, and return what it prints."""
        ran = subprocess.run(
            ["nsenter", f"--net={self.path}", *words], input=text, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, f"{' '.join(words)}\n{text}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def ip(self, *lines: str) -> None:
        """Run some commands of ip(8)."""
        self.command("ip", "-batch", "-", text="\n".join(lines))

    def nft(self, rules: str) -> None:
        """Load rules in the language of nft(8)."""
        self.command("nft", "-f", "-", text=rules)

    def sysctl(self, name: str, value: int) -> None:
        """Set ``net.NAME``."""
        self.inside(Path("/proc/sys/net", name).write_text, str(value))

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Lan(Namespace):
    """
    A switch.

    Args:
        number: of the LAN in its net; its IPv4 addresses are 10.77.NUMBER.1 and so on.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.subnet = number
        self.sysctl("ipv6/conf/default/disable_ipv6", 1)
        self.ip("link add bridge type bridge", "link set bridge up")
        self._taken = 0
        self._ports: list[str] = []

    def free_address(self) -> str:
        """Return an IPv4 address that was not taken yet."""
        self._taken += 1
        return f"10.77.{self.subnet}.{self._taken}"

    def take_in(self, port: str) -> None:
        """Make an interface that is in this namespace a port of the switch."""
        self._ports.append(port)
        self.ip(f"link set {port} master bridge up")

    def cut(self, *hosts: Host, way: str = "both") -> None:
        """
        Lose all that these hosts send and get, without a word to anybody.

        Args:
            hosts: which.
            way: "out" to lose only what they send, "in" only what they get.
        """
        names = _any_of(name for host in hosts for name in host.ports_on(self))
        self._lose([f"{side} {names}" for side, ways in _SIDES.items() if way in ways])

    def cut_ways(self, *ways: tuple[Host, Host]) -> None:
        """Lose all that the first host of each pair sends to the second."""
        ends = [(_any_of(one.ports_on(self)), _any_of(other.ports_on(self))) for one, other in ways]
        self._lose(f"iifname {one} oifname {other}" for one, other in ends)

    def lossy(self, percent: int, *what: str) -> None:
        """
        Lose a share of all frames, by chance.

        Args:
            percent: how many in a hundred.
            what: which frames, in the language of nft(8); all unless told.
        """
        self._lose(f"{each} numgen random mod 100 < {percent}" for each in what or [""])

    def forget(self, ports: Iterable[int]) -> None:
        """Lose all frames of the TCP connections that have these ports, as a firewall that has forgotten them."""
        numbers = ", ".join(map(str, ports))
        self._lose([f"tcp {side} {{ {numbers} }}" for side in ("sport", "dport")])

    def heal(self) -> None:
        """Undo `cut`, `cut_ways`, `lossy` and `forget`, of which only the last one holds."""
        self.nft("table bridge cut {}\ndelete table bridge cut")

    def lost(self) -> int:
        """Return how many frames were lost since the last of these, before `heal`."""
        return sum(map(int, re.findall(r"packets (\d+)", self.command("nft", "list", "table", "bridge", "cut"))))

    def no_multicast(self) -> None:
        """Lose mDNS, as many a managed switch and wireless network does."""
        self._drop("no-multicast", MDNS)

    def _lose(self, rules: Iterable[str]) -> None:
        self.heal()
        self._drop("cut", rules)

    def _drop(self, table: str, rules: Iterable[str]) -> None:
        text = "\n".join(f"{rule} counter drop" for rule in rules)
        chain = f"chain losing {{\ntype filter hook forward priority 0\n{text}\n}}"
        self.nft(f"table bridge {table} {{\n{chain}\n}}")

    def plug(self, host: Host, up: bool = True) -> None:
        """Pull the plug of a host, or put it in again; the host sees that."""
        self.ip(*(f"link set {port} {'up' if up else 'down'}" for port in host.ports_on(self)))


class Host(Namespace):
    """
    A machine, with folders, a host name and an /etc/hosts of its own.

    Its interfaces are lan0, lan1 ...; there is no route but to its LANs.  In /etc/hosts its name stands for
    127.0.1.1, as on every Debian.

    Args:
        name: its host name.
        folder: where its folders are; made.
        mesh: name of the mesh that its programs are in, unless they are told another.
    """

    def __init__(self, name: str, folder: Path, mesh: str) -> None:
        super().__init__()
        self.name, self.folder, self.mesh = name, folder, mesh
        self.programs: list[Program] = []
        self.apps: list[App] = []
        self.addresses: dict[str, str] = {}
        self._lans: dict[str, Lan] = {}
        self._captures: list[Capture] = []
        self._gates: list[Gate] = []
        for each in ("config", "runtime", "home"):
            (folder / each[0]).mkdir(mode=0o700, parents=True)
        self.hosts = folder / "hosts"
        self.hosts.write_text(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n")
        self.sysctl("ipv6/conf/default/accept_dad", 0)
        self.sysctl("ipv4/conf/all/promote_secondaries", 1)  # an address may go before a later one, as usual

    # -- its interfaces ---------------------------------------------------------------------------------------

    def join(self, lan: Lan, *, ipv4: bool = True, ipv6: bool = True) -> str:
        """
        Get another interface, on a LAN, and return its name.

        Args:
            lan: where it is plugged in.
            ipv4: whether it has an IPv4 address.
            ipv6: whether it has a link-local IPv6 address.
        """
        return self._plug_in(lan, f"lan{len(self._lans)}", ipv4=ipv4, ipv6=ipv6)

    def rejoin(self, interface: str) -> None:
        """Get an interface anew that was removed, with another address."""
        self._plug_in(self._lans[interface], interface, ipv4=True, ipv6=True)

    def _plug_in(self, lan: Lan, interface: str, *, ipv4: bool, ipv6: bool) -> str:
        port = f"p{secrets.token_hex(4)}"
        self._lans[interface] = lan
        self.ip(f"link add {interface} type veth peer name {port} netns {lan.path}")
        self.sysctl(f"ipv6/conf/{interface}/disable_ipv6", int(not ipv6))
        self.ip(f"link set {interface} alias {port} up")
        lan.take_in(port)
        if ipv4:
            self.add_address(lan.free_address(), interface)
        return interface

    def ports_on(self, lan: Lan) -> list[str]:
        """Return the names of the switch's ends of its interfaces there."""
        mine = [interface for interface, where in self._lans.items() if where is lan]
        shown = (self.command("ip", "link", "show", "dev", interface) for interface in mine)
        return [text.split("alias ")[1].split()[0] for text in shown]

    def add_address(self, address: str, interface: str = "lan0") -> None:
        """Add an IPv4 address, and tell the LAN as DHCP clients do; `address` and `addresses` tell the latest."""
        self.ip(f"address add {address}/24 broadcast + dev {interface}")
        self.addresses[interface] = address
        self.inside(_claim, address, interface)

    def remove_address(self, address: str, interface: str = "lan0") -> None:
        self.ip(f"address del {address}/24 dev {interface}")

    def link(self, *, up: bool, interface: str = "lan0") -> None:
        """Set an interface up or down."""
        self.ip(f"link set {interface} {'up' if up else 'down'}")

    def remove_interface(self, interface: str) -> None:
        """Remove it, as when somebody pulls a USB adapter."""
        self.ip(f"link del {interface}")

    @property
    def address(self) -> str:
        """The IPv4 address of its first interface."""
        return self.addresses["lan0"]

    def link_local(self, interface: str = "lan0") -> str:
        """Return the IPv6 link-local address of an interface."""
        text = self.command("ip", "-6", "-brief", "address", "show", "dev", interface, "scope", "link")
        return next(str(ipaddress.ip_interface(word).ip) for word in text.split() if "fe80" in word)

    def no_multicast(self) -> None:
        """Have its firewall drop mDNS in both directions; whoever sends it sees EPERM."""
        chain = "chain of-{0} {{\ntype filter hook {0} priority 0\nudp dport 5353 drop\n}}"
        self.nft(f"table inet no-multicast {{\n{chain.format('input')}\n{chain.format('output')}\n}}")

    def capture(self, interface: str = "lan0") -> Capture:
        """Begin to collect all frames that pass an interface."""
        capture = self.inside(Capture, interface)
        self._captures.append(capture)
        return capture

    # -- its programs -----------------------------------------------------------------------------------------

    @property
    def config(self) -> Path:
        """Its folder for settings."""
        return self.folder / "c"

    @property
    def key_file(self) -> Path:
        """Where its mesh key is looked for."""
        return self.config / "mesh.key"

    def mesh_key(self, key: keys.Key) -> None:
        """Give it a mesh key."""
        keys.save_key(self.key_file, key)

    @property
    def settings(self) -> dict[str, str]:
        """What its programs find in the environment, beyond the usual."""
        return {
            f"{PREFIX}MESH": self.mesh,
            f"{PREFIX}CONFIG_DIR": str(self.config),
            f"{PREFIX}RUNTIME_DIR": str(self.folder / "r"),
            "HOME": str(self.folder / "h"),
            "PYTHONPATH": str(SERVED.parent.parent),
        }

    def program(self, *words: str, command: list[str] | None = None, **changes: str) -> Program:
        """
        Start ``dingo-zmq WORDS``.

        Args:
            words: its words.
            command: another command line to be started instead.
            changes: of its environment.
        """
        before = ["nsenter", f"--net={self.path}", "unshare", "--mount", "--uts", "setpriv", "--pdeathsig", "KILL"]
        before += ["sh", "-c", _ENTER, "sh", self.name, str(self.hosts)]
        rest = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "XDG_"))}
        told = command or [sys.executable, "-m", "dingo_zmq", *map(str, words)]
        program = Program(command=[*before, *told], env={**rest, **self.settings, **changes})
        program.command = ["", f"{self.name}:", *told[1:]]  # which is what a failure should show
        self.programs.append(program)
        return program

    def script(self, text: str, *words: str) -> Program:
        """Start a Python program."""
        return self.program(command=[sys.executable, "-c", text, *words])

    def run(self, *words: str, **changes: str) -> Program:
        """Run ``dingo-zmq WORDS`` to its end."""
        program = self.program(*words, command=None, **changes)
        program.wait()
        return program

    def node(self, *words: str, target: Path | str = SERVED, **changes: str) -> Program:
        """Start a node and wait until it serves; its name is the host's unless `words` tell another."""
        program = self.program("node", str(target), *words, command=None, **changes)
        program.line("node ", "out")
        return program

    def app(self, **settings: Any) -> App:
        """Return a caller of this process that is on this host; closed at the end of the test."""

        def make() -> App:
            app = App("mesh", **settings)
            self.apps.append(app)
            app.engine()
            return app

        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.settings.items():
                patch.setenv(name, value)
            return self.inside(make)

    def gate(self) -> Gate:
        """Return a gate at which tasks of this host can be held."""
        gate = self.inside(Gate)
        self._gates.append(gate)
        return gate

    def close_apps(self) -> None:
        while self.apps:
            self.apps.pop().close(wait=False)

    def end(self, keep: int = 0) -> None:
        """End what was started on it; but for the first `keep` programs."""
        for gate in self._gates:
            gate.open()
        self.close_apps()
        for program in self.programs[keep:]:
            program.end()
        for capture in self._captures:
            capture.close()
        del self._gates[:], self._captures[:]

    def show(self) -> None:
        for program in self.programs:
            program.show()

    def close(self) -> None:
        self.end()
        super().close()


def _claim(address: str, interface: str) -> None:
    """Say by ARP who has an address from now on (RFC 5227), so that nobody goes on with what he knew before."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((interface, 0))
        mine, claimed, everybody = sender.getsockname()[4], socket.inet_aton(address), b"\xff" * 6
        question = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mine + claimed + bytes(6) + claimed
        sender.send(everybody + mine + b"\x08\x06" + question)


class Net:
    """
    All LANs and hosts of a test.

    Args:
        folder: where the folders of the hosts are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mesh = f"test-{secrets.token_hex(6)}"
        self.key = keys.new_key("mesh")
        self.lans: list[Lan] = []
        self.hosts: list[Host] = []

    def lan(self) -> Lan:
        """Return a new LAN."""
        self.lans.append(Lan(len(self.lans) + 1))
        return self.lans[-1]

    def host(self, name: str, *lans: Lan, key: bool = True, ipv4: bool = True, ipv6: bool = True) -> Host:
        """
        Return a new host.

        Args:
            name: its host name.
            lans: where it has interfaces, in this order.
            key: whether it has the net's mesh key.
            ipv4, ipv6: see `Host.join`.
        """
        host = Host(name, self.folder / secrets.token_hex(2), self.mesh)
        self.hosts.append(host)
        for lan in lans:
            host.join(lan, ipv4=ipv4, ipv6=ipv6)
        if key:
            host.mesh_key(self.key)
        return host

    def close(self) -> None:
        """End all programs, and with them the namespaces."""
        for each in (*self.hosts, *self.lans):
            each.close()

    def show(self) -> None:
        """Print what the programs have printed since the last time."""
        for host in self.hosts:
            host.show()

    @contextlib.contextmanager
    def for_one_test(self) -> Iterator[None]:
        """End what is started meanwhile."""
        known = [(host, len(host.programs)) for host in self.hosts]
        try:
            yield
        finally:
            for host, keep in known:
                host.end(keep)
            self.show()
            for host, keep in known:
                del host.programs[keep:]


class Frame(NamedTuple):
    """What passed an interface."""

    protocol: str
    """ "tcp", "udp", or else a number: of the IP protocol, or the Ethernet type as "0x0806" """
    source: str
    target: str
    ports: tuple[int, int]
    payload: bytes
    """of TCP and UDP; of anything else the whole frame"""
    outgoing: bool = False
    """whether the host itself sent it"""


class Capture:
    """
    Collects the frames of an interface; to be made in its namespace.

    Args:
        interface: its name.
    """

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_FRAMES))
        self._socket.setsockopt(socket.SOL_SOCKET, _FORCE_BUFFER, _BUFFER)
        self._socket.bind((interface, _ALL_FRAMES))
        self._frames: list[Frame] = []

    def frames(self) -> list[Frame]:
        """Return all frames from the beginning until now."""
        while True:
            try:
                raw, where = self._socket.recvfrom(1 << 17, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return self._frames
            self._frames.append(parse_frame(raw)._replace(outgoing=where[2] == _OUTGOING))

    def wait_for(self, wanted: Callable[[Frame], bool], what: str) -> Frame:
        """Wait until there is a frame of that kind, and return the first one."""
        seen, deadline = 0, time.monotonic() + PATIENCE
        while True:
            frames = self.frames()
            for frame in frames[seen:]:
                if wanted(frame):
                    return frame
            seen = len(frames)
            left = deadline - time.monotonic()
            assert left > 0, f"no such frame among {seen}: {what}"
            select.select([self._socket], [], [], left)

    def close(self) -> None:
        self._socket.close()


def parse_frame(raw: bytes) -> Frame:
    """Look into an Ethernet frame; extension headers of IPv6 are not looked through."""
    (kind,) = struct.unpack_from("!H", raw, 12)
    if kind == 0x0800:
        start, protocol, end = 14 + (raw[14] & 15) * 4, raw[23], 14 + int.from_bytes(raw[16:18], "big")
        source, target = raw[26:30], raw[30:34]
    elif kind == 0x86DD:
        start, protocol, end = 54, raw[20], 54 + int.from_bytes(raw[18:20], "big")
        source, target = raw[22:38], raw[38:54]
    else:
        return Frame(f"0x{kind:04x}", raw[6:12].hex(":"), raw[:6].hex(":"), (0, 0), raw)
    here, there = (str(ipaddress.ip_address(address)) for address in (source, target))
    name = {6: "tcp", 17: "udp"}.get(protocol)
    if name is None:
        return Frame(str(protocol), here, there, (0, 0), raw)
    ports = struct.unpack_from("!HH", raw, start)
    payload = start + (8 if name == "udp" else (raw[start + 12] >> 4) * 4)
    return Frame(name, here, there, ports, raw[payload : max(payload, end)])


def ready(app: App, count: int = 1) -> dict[str, PeerInfo]:
    """Wait until a caller has that many nodes ready, and return them by name."""

    def enough() -> dict[str, PeerInfo]:
        found = {peer.name: peer for peer in app.peers() if peer.state == "ready"}
        return found if len(found) >= count else {}

    found: dict[str, PeerInfo] = wait_until(enough, f"{count} nodes are ready")
    return found
