"""
An announcement as the TXT record of a DNS-SD service.

==== =========================================================================================
v    protocol version
i    incarnation
n    name
m    mesh
d    digest
k    id of the key that it wants
o    id of the node, where a forwarder stands in for it and the instance is another name
p    ids of the forwarders before it, with commas, the nearest to the node first
e0   first candidate: ``host:tasks-port,reports-port``, or ``host:port,host:port`` if hosts differ
e1   second candidate, and so on
r    rises with each change: receivers drop packets equal to one they saw less than a second ago
==== =========================================================================================
"""

from __future__ import annotations

import re

from dingo_zmq.errors import ConfigError, PeerError, UsageError
from dingo_zmq.mesh.discovery.port import MAX_CANDIDATES, Announcement, from_fields, split_tcp

__all__ = ["decode_txt", "encode_txt"]

_MAX_PAIR = 255
_MAX_RECORD = 1000
_VERSION = re.compile(r"[0-9]{1,5}")


def encode_txt(announcement: Announcement, turn: int = 0) -> bytes:
    """
    Return the record.  Only TCP candidates travel: scopes and other transports mean nothing elsewhere.

    Args:
        announcement: what to tell.
        turn: a number that is higher each time the network is told something new.

    Raises:
        ConfigError: if nothing can be reached by TCP, a pair would take over 255 bytes, or all over 1,000.
    """
    pairs = {
        "v": str(announcement.version),
        "i": announcement.incarnation,
        "n": announcement.name,
        "m": announcement.mesh,
        "d": announcement.digest,
        "k": announcement.key,
        "r": str(turn),
    }
    if announcement.path:
        pairs["o"], pairs["p"] = announcement.node, ",".join(announcement.path)
    told = [text for text in map(_encode_candidate, *zip(*announcement.candidates, strict=True)) if text]
    if not told:
        raise ConfigError(f"node {announcement.node} has no TCP address that could be announced by zeroconf")
    pairs.update((f"e{i}", text) for i, text in enumerate(told))
    record = b"".join(_pack(key, value) for key, value in pairs.items())
    if len(record) > _MAX_RECORD:
        raise ConfigError(f"node {announcement.node}: names and addresses to announce are too long together")
    return record


def _encode_candidate(tasks: str, reports: str) -> str:
    try:
        (host, port), (other, second) = split_tcp(tasks), split_tcp(reports)
    except UsageError:
        return ""
    if "%" in host + other:
        return ""
    return f"{host}:{port},{second}" if host == other else f"{host}:{port},{other}:{second}"


def _pack(key: str, value: str) -> bytes:
    pair = f"{key}={value}".encode()
    if len(pair) > _MAX_PAIR:
        raise ConfigError(f"too long to announce by zeroconf: {value!r:.80}")
    return bytes([len(pair)]) + pair


def decode_txt(instance: str, record: bytes) -> Announcement:
    """
    Return the announcement in a record that anybody on the network may have sent.

    Args:
        instance: the name that it is announced as.
        record: the bytes.

    Raises:
        PeerError: whatever is wrong with it.
    """
    if len(record) > _MAX_RECORD:
        raise PeerError(f"a TXT record of {len(record)} bytes")
    pairs = _unpack(record)
    listed = [pairs[key] for key in (f"e{i}" for i in range(MAX_CANDIDATES)) if key in pairs]
    candidates = [_decode_candidate(text) for text in listed]
    if not _VERSION.fullmatch(pairs.get("v", "")) or not pairs.get("m"):
        raise PeerError("a TXT record without version or mesh")
    said = from_fields(
        {
            "node": pairs.get("o", instance),
            "path": pairs["p"].split(",") if pairs.get("p") else (),
            "name": pairs.get("n", ""),
            "mesh": pairs["m"],
            "incarnation": pairs.get("i", ""),
            "version": int(pairs["v"]),
            "tasks": [tasks for tasks, _ in candidates],
            "reports": [reports for _, reports in candidates],
            "digest": pairs.get("d", ""),
            "key": pairs.get("k", ""),
        }
    )
    if said.instance != instance:
        raise PeerError(f"a TXT record of {said.instance}, not of this instance")
    return said


def _unpack(record: bytes) -> dict[str, str]:
    """Return the pairs; the first of equal keys counts, as RFC 6763 says."""
    pairs: dict[str, str] = {}
    while record:
        pair, record = record[1 : 1 + record[0]], record[1 + record[0] :]
        try:
            key, _, value = pair.decode("utf-8").partition("=")
        except UnicodeDecodeError as exc:
            raise PeerError("a TXT record that is not text") from exc
        pairs.setdefault(key, value)
    return pairs


def _decode_candidate(text: str) -> tuple[str, str]:
    tasks, _, reports = text.partition(",")
    if reports.isdigit():
        reports = f"{tasks.rpartition(':')[0]}:{reports}"
    return f"tcp://{tasks}", f"tcp://{reports}"
