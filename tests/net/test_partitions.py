"""
Networks that fall apart and come together again while callers have hundreds of tasks open.

Every test is of a mesh with a key and of one without, both at once.
"""

from __future__ import annotations

from threading import Event

from dingo_zmq.events import EventCode
from tests.net.office import Office, accounts, all_go_on, office, rooms

__all__ = ["office", "rooms"]

SHORT = 1.0
"""seconds of a cut after which no node may count as lost"""


def test_a_short_cut_loses_no_node(office: Office) -> None:
    works = office.work()
    office.lan.cut(office.b)
    Event().wait(SHORT)
    assert office.lan.lost() > 0
    office.lan.heal()
    all_go_on(works, "b", "c")

    for work, account in zip(works, accounts(works), strict=True):
        assert work.count(EventCode.LOST, "b") == 0
        assert account[1:] == (0, 0, 0)


def test_tasks_of_a_node_that_is_cut_off_are_done_elsewhere(office: Office) -> None:
    works = office.work()
    office.lan.cut(office.b)
    for work in works:
        work.done_elsewhere("b")
    assert office.lan.lost() > 0
    office.lan.heal()
    all_go_on(works, "b", "c")

    for account in accounts(works):
        assert account.again <= account.given_up


def test_a_way_that_is_cut_in_one_direction(office: Office) -> None:
    works = office.work(office.a, office.d)
    deaf, dumb = works[:2], works[2:]
    office.lan.cut_ways((office.b, office.a), (office.d, office.c))
    for work in deaf:
        work.done_elsewhere("b")
    for work in dumb:
        work.done_elsewhere("c")
    assert office.lan.lost() > 0
    office.lan.heal()
    all_go_on(works, "b", "c")

    for account in accounts(works):
        assert account.again <= account.given_up


def test_a_caller_that_is_cut_off_finds_all_nodes_again(office: Office) -> None:
    works = office.work()
    office.lan.cut(office.a)
    for work in works:
        work.told(EventCode.LOST, "b")
        work.told(EventCode.LOST, "c")
    assert office.lan.lost() > 0
    office.lan.heal()
    all_go_on(works, "b", "c")

    for account in accounts(works):
        assert account.given_up > 0


def test_each_of_two_callers_sees_another_node(office: Office) -> None:
    works = office.work(office.a, office.d)
    near, far = works[:2], works[2:]
    a, b, c, d = office.a, office.b, office.c, office.d
    office.lan.cut_ways((a, b), (b, a), (d, c), (c, d))
    for work in near:
        work.done_elsewhere("b")
    for work in far:
        work.done_elsewhere("c")
    assert office.lan.lost() > 0
    office.lan.heal()
    all_go_on(works, "b", "c")
    accounts(works)
