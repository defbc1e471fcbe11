"""Whether multicast DNS leaves this machine, and whether anything comes back."""

from __future__ import annotations

import contextlib
import errno
import secrets
import select
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from time import monotonic

from dingo_zmq.mesh.diagnose.facts import Echo
from dingo_zmq.mesh.discovery.multicast import SERVICE_TYPE
from dingo_zmq.mesh.interfaces import Address

__all__ = ["PORT", "listen", "port_error"]

PORT = 5353
AGAIN_SECONDS = 1.1
"""after which it is asked again: nobody multicasts the same record twice within a second"""
ECHO_SECONDS = 0.3
"""that an echo may take at the least"""
AT_ONCE = 100
"""packets that are taken between two looks at the time"""

_GROUPS = {socket.AF_INET: "224.0.0.251", socket.AF_INET6: "ff02::fb"}
_POINTER, _INTERNET = 12, 1  # type PTR, class IN (RFC 1035)
_ALL_SERVICES = "_services._dns-sd._udp.local."
"""what everybody answers who has anything to tell by DNS-SD (RFC 6763, section 9)"""


def port_error() -> tuple[str, bool]:
    """Return why UDP port 5353 cannot be shared ("" where it can), and whether another program is why."""
    try:
        _socket(socket.AF_INET).close()
    except OSError as exc:
        return exc.strerror or str(exc), exc.errno == errno.EADDRINUSE
    return "", False


def listen(where: Sequence[Address], own: Sequence[Address], seconds: float) -> tuple[tuple[Echo, ...], int]:
    """
    Ask for all services on some interfaces, and listen.

    Args:
        where: an address of each interface; link-local ones for IPv6.
        own: all addresses of this machine.
        seconds: how long, at least `ECHO_SECONDS`.

    Returns:
        What became of each question, and how many addresses of others were heard.
    """
    questions = {each: _question() for each in where}
    mine, asked = {each.ip for each in own}, set(questions.values())
    echoed: set[bytes] = set()
    others: set[str] = set()
    with contextlib.ExitStack() as stack:
        ears, errors = _ears(where, stack)
        ask_at = monotonic()
        end = ask_at + max(seconds, ECHO_SECONDS)
        while ears and (now := monotonic()) < end:
            if now >= ask_at:
                ask_at = now + AGAIN_SECONDS
                errors.update((each, _ask(ear, each, questions[each])) for each, ear in ears.items())
            for packet, source in _hear(set(ears.values()), min(end, ask_at) - now):
                if packet in asked:
                    echoed.add(packet)
                elif source not in mine:
                    others.add(source)
    echoes = [Echo(each.interface, each.ip, text in echoed, errors[each]) for each, text in questions.items()]
    return tuple(echoes), len(others)


def _ears(
    where: Sequence[Address], stack: contextlib.ExitStack
) -> tuple[dict[Address, socket.socket], dict[Address, str]]:
    """Return for each address the socket that listens there, or why there is none."""
    made: dict[socket.AddressFamily, socket.socket] = {}
    ears, errors = {}, {}
    for each in where:
        family = _family(each)
        try:
            if family not in made:
                made[family] = stack.enter_context(_socket(family))
            _join(made[family], each)
            ears[each] = made[family]
        except OSError as exc:
            errors[each] = exc.strerror or str(exc)
    return ears, errors


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if address.is_v6 else socket.AF_INET


def _socket(family: socket.AddressFamily) -> socket.socket:
    """Return a socket that shares the port with whoever else shares it."""
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setblocking(False)
        made.bind(("", PORT))
    except OSError:
        made.close()
        raise
    return made


def _join(ear: socket.socket, address: Address) -> None:
    """Listen on an interface."""
    group = socket.inet_pton(ear.family, _GROUPS[_family(address)])
    if address.is_v6:
        membership = group + struct.pack("@I", address.index)
        ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
    else:
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + socket.inet_aton(address.ip))


def _ask(ear: socket.socket, address: Address, question: bytes) -> str:
    """Send a question on an interface; return why that cannot be done, or ""."""
    group = _GROUPS[_family(address)]
    try:
        if address.is_v6:
            ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, address.index)
            ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            ear.sendto(question, (group, PORT, 0, address.index))
        else:
            ear.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address.ip))
            ear.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            ear.sendto(question, (group, PORT))
    except OSError as exc:
        return exc.strerror or str(exc)
    return ""


def _hear(ears: Iterable[socket.socket], seconds: float) -> Iterator[tuple[bytes, str]]:
    """Yield what arrives first within some seconds: packets, and who sent them."""
    for ear in select.select(list(ears), [], [], max(0.0, seconds))[0]:
        with contextlib.suppress(BlockingIOError):
            for _ in range(AT_ONCE):
                packet, source = ear.recvfrom(9000)
                yield packet, source[0].partition("%")[0]


def _question() -> bytes:
    """Return a query whose id tells it from all others; who answers takes no notice of the id."""
    names = (_ALL_SERVICES, SERVICE_TYPE)
    head = struct.pack("!6H", secrets.randbelow(0xFFFF) + 1, 0, len(names), 0, 0, 0)
    return head + b"".join(_name(name) + struct.pack("!2H", _POINTER, _INTERNET) for name in names)


def _name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
