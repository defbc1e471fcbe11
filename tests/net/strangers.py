"""What others may send on a LAN: records by multicast DNS that no node of ours has made."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator

from zeroconf import DNSOutgoing, DNSPointer, DNSRecord, DNSService, DNSText
from zeroconf.const import _CLASS_IN, _CLASS_UNIQUE, _FLAGS_AA, _FLAGS_QR_RESPONSE, _TYPE_PTR, _TYPE_SRV, _TYPE_TXT

from dingo_zmq.mesh.discovery.multicast import SERVICE_TYPE
from dingo_zmq.mesh.discovery.port import Announcement
from dingo_zmq.mesh.discovery.txt import encode_txt
from tests.lan import Host

TTL = 4500
_GROUP = ("224.0.0.251", 5353)
_A_PACKET = 9


def announce(host: Host, texts: dict[str, bytes], ttl: int = TTL) -> None:
    """Send, from a host, records of nodes: TXT by node id; they hold for so many seconds, 0 takes them back."""
    packets = list(_packets(texts, ttl))

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                sender.setsockopt(socket.SOL_SOCKET, option, 1)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host.address))
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            sender.bind(("", 5353))
            for packet in packets:
                sender.sendto(packet, _GROUP)

    host.inside(send)


def _packets(texts: dict[str, bytes], ttl: int) -> Iterator[bytes]:
    nodes = list(texts)
    for start in range(0, len(nodes), _A_PACKET):
        out = DNSOutgoing(_FLAGS_QR_RESPONSE | _FLAGS_AA)
        for node in nodes[start : start + _A_PACKET]:
            for record in _records(node, texts[node], ttl):
                out.add_answer_at_time(record, 0)
        yield from out.packets()


def _records(node: str, text: bytes, ttl: int) -> Iterable[DNSRecord]:
    name, unique = f"{node}.{SERVICE_TYPE}", _CLASS_IN | _CLASS_UNIQUE
    return (
        DNSPointer(SERVICE_TYPE, _TYPE_PTR, _CLASS_IN, ttl, name),
        DNSService(name, _TYPE_SRV, unique, ttl, 0, 0, 47100, name),
        DNSText(name, _TYPE_TXT, unique, ttl, text),
    )


def record(node: str, mesh: str, address: str, *, key: str = "", port: int = 47100) -> bytes:
    """Return the TXT of a node at an address, as the node itself would make it."""
    tasks, reports = (f"tcp://{address}:{port}",), (f"tcp://{address}:{port + 1}",)
    return encode_txt(Announcement(node, node, mesh, "aa", 1, tasks, reports, "", key))
