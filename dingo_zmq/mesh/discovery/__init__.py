"""
Finding nodes: a port with interchangeable sources, and the same for announcing.

Whatever is found here is a hint where a node can be tried.  Whether it lives, and whether it is who it says,
shows only when it answers.
"""

from __future__ import annotations

from dingo_zmq.mesh.discovery.directory import DirectoryAnnouncer, DirectorySource
from dingo_zmq.mesh.discovery.finder import Finder
from dingo_zmq.mesh.discovery.port import (
    Announcement,
    Announcer,
    Changed,
    Emit,
    Event,
    Found,
    Gone,
    Source,
    check_node_id,
)
from dingo_zmq.mesh.discovery.static import StaticSource
from dingo_zmq.mesh.discovery.zeroconf_announcer import ZeroconfAnnouncer
from dingo_zmq.mesh.discovery.zeroconf_source import ZeroconfSource

__all__ = [
    "Announcement",
    "Announcer",
    "Changed",
    "DirectoryAnnouncer",
    "DirectorySource",
    "Emit",
    "Event",
    "Finder",
    "Found",
    "Gone",
    "Source",
    "StaticSource",
    "ZeroconfAnnouncer",
    "ZeroconfSource",
    "check_node_id",
]
