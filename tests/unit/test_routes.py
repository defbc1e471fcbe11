"""What a forwarder passes on, by what is announced on both sides."""

from __future__ import annotations

from dingo_zmq.mesh.discovery.port import Announcement, Changed, Found, Gone
from dingo_zmq.mesh.forward.routes import Route, Routes
from dingo_zmq.protocol.messages import VERSION

ME, OTHER, THIRD = "aaaaaaaa", "bbbbbbbb", "cccccccc"
LEFT, RIGHT = 0, 1


def said(
    node: str = "n1", *path: str, host: str = "10.0.0.1", incarnation: str = "01", **more: object
) -> Announcement:
    pair = (f"tcp://{host}:47100",), (f"tcp://{host}:47101",)
    fields: dict[str, object] = {"mesh": "lab", "version": VERSION, "path": path, **more}
    mesh, version = fields.pop("mesh"), fields.pop("version")
    return Announcement(node, node, mesh, incarnation, version, *pair, **fields)  # type: ignore[arg-type]


def heard(*what: tuple[int, Announcement], source: str = "zeroconf") -> Routes:
    routes = Routes(ME, "lab")
    for side, announcement in what:
        assert routes.heard(side, Found(announcement, source)) == announcement.node
    return routes


def ways(routes: Routes, node: str = "n1") -> tuple[tuple[str, ...] | None, ...]:
    """Return the paths under which a node of the left is seen on the right, and the other way round."""
    found = [routes.route(side, node) for side in (LEFT, RIGHT)]
    return tuple(None if route is None else route.path for route in found)


def test_a_node_of_one_side_is_seen_on_the_other() -> None:
    routes = heard((LEFT, said()))
    assert routes.route(LEFT, "n1") == Route(said(), (ME,))
    assert routes.route(RIGHT, "n1") is None
    assert routes.heard(LEFT, Gone("n1", "zeroconf")) == "n1"
    assert ways(routes) == (None, None)


def test_what_we_announce_ourselves_does_not_come_back() -> None:
    assert ways(heard((LEFT, said()), (RIGHT, said("n1", ME)))) == ((ME,), None)
    assert ways(heard((RIGHT, said("n1", ME)))) == (None, None)
    assert ways(heard((RIGHT, said("n1", OTHER, ME, THIRD)))) == (None, None)


def test_what_is_seen_directly_on_both_sides_is_passed_on_by_nobody() -> None:
    assert ways(heard((LEFT, said()), (RIGHT, said()))) == (None, None)


def test_two_forwarders_between_the_same_networks_make_two_ways() -> None:
    routes = heard((LEFT, said()), (RIGHT, said("n1", OTHER)))
    assert ways(routes) == ((ME,), None)


def test_forwarders_in_a_row() -> None:
    assert ways(heard((LEFT, said("n1", OTHER)))) == ((OTHER, ME), None)
    four = (OTHER, THIRD, "dddddddd", "eeeeeeee")
    assert ways(heard((LEFT, said("n1", *four[:3])))) == ((*four[:3], ME), None)
    assert ways(heard((LEFT, said("n1", *four)))) == (None, None)


def test_a_longer_way_is_taken_when_the_shorter_one_is_gone() -> None:
    """In a ring: the node is one forwarder away on both sides, until one of these ends."""
    routes = heard((LEFT, said("n1", OTHER)), (RIGHT, said("n1", THIRD)))
    assert ways(routes) == (None, None)
    routes.heard(RIGHT, Gone("n1", "zeroconf", THIRD))
    assert ways(routes) == ((OTHER, ME), None)


def test_the_shortest_way_counts_and_the_latest_of_those() -> None:
    routes = heard(
        (LEFT, said("n1", OTHER, THIRD, host="10.0.0.3")),
        (LEFT, said("n1", OTHER, host="10.0.0.1")),
        (LEFT, said("n1", THIRD, host="10.0.0.2")),
    )
    route = routes.route(LEFT, "n1")
    assert route is not None
    assert route.path == (THIRD, ME)
    assert route.node.tasks == ("tcp://10.0.0.2:47100", "tcp://10.0.0.1:47100")
    routes.heard(LEFT, Changed(said("n1", OTHER, host="10.0.0.9"), "zeroconf"))
    route = routes.route(LEFT, "n1")
    assert route is not None
    assert (route.path, route.node.tasks[0]) == ((OTHER, ME), "tcp://10.0.0.9:47100")


def test_other_incarnations_meshes_and_versions() -> None:
    routes = heard((LEFT, said("n1", OTHER)), (LEFT, said("n1", THIRD, host="10.0.0.2", incarnation="02")))
    route = routes.route(LEFT, "n1")
    assert route is not None
    assert route.node.tasks == ("tcp://10.0.0.2:47100",)
    assert ways(heard((LEFT, said(mesh="other")))) == (None, None)
    assert ways(heard((LEFT, said(version=VERSION + 1)))) == (None, None)
    assert (Routes.knows(VERSION), Routes.knows(0), Routes.knows(VERSION + 1)) == (True, True, False)
