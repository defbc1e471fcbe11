"""Reports and those who poll for them, whichever comes first."""

from __future__ import annotations

import logging
import threading

import pytest

from dingo_zmq.errors import UsageError
from dingo_zmq.model import Status
from dingo_zmq.ports import ReportPacket
from dingo_zmq.shelf import Shelf


def report(id: str, status: Status = Status.SUCCESS, name: str = "f") -> ReportPacket:
    return ReportPacket(name, id, status)


def test_what_came_before_is_heard_first() -> None:
    shelf, heard = Shelf(), list[ReportPacket]()
    shelf.put(report("1", Status.SENT))
    shelf.put(report("1", Status.PROGRESS))
    shelf.poll("f", "1", heard.append)
    shelf.put(report("1"))
    assert [each.status for each in heard] == [Status.SENT, Status.PROGRESS, Status.SUCCESS]


def test_a_task_is_polled_once() -> None:
    shelf = Shelf()
    shelf.poll("f", "1", print)
    with pytest.raises(UsageError, match=r"task 1 of f is polled already; hint: call done\(\) first"):
        shelf.poll("f", "1", print)
    shelf.poll("g", "1", print)
    shelf.done("f", "1")
    shelf.poll("f", "1", print)


def test_what_nobody_polls_is_bounded() -> None:
    shelf, heard = Shelf(most=2), list[ReportPacket]()
    for id in "123":
        shelf.put(report(id, Status.SENT))
        shelf.put(report(id))
    for id in "123":
        shelf.poll("f", id, heard.append)
    assert [each.id for each in heard] == ["2", "2", "3", "3"]
    assert shelf.dropped == 1


def test_what_is_polled_is_not_bounded() -> None:
    shelf, heard = Shelf(most=1), list[ReportPacket]()
    for id in "123":
        shelf.poll("f", id, heard.append)
    for id in "123":
        shelf.put(report(id))
    assert (len(heard), shelf.dropped) == (3, 0)


def test_who_stumbles_hears_the_next_one(caplog: pytest.LogCaptureFixture) -> None:
    shelf, heard = Shelf(), list[Status]()

    def hear(each: ReportPacket) -> None:
        heard.append(each.status)
        raise ValueError("a mistake")

    shelf.poll("f", "1", hear)
    with caplog.at_level(logging.ERROR):
        shelf.put(report("1", Status.SENT))
        shelf.put(report("1"))
    assert heard == [Status.SENT, Status.SUCCESS]
    assert "who polls task 1 of f stumbled" in caplog.text


def test_reports_put_while_one_is_heard_wait_for_their_turn() -> None:
    """A second thread does not overtake the first, which is inside `heard`."""
    shelf, heard = Shelf(), list[Status]()

    def hear(each: ReportPacket) -> None:
        if each.status is Status.SENT:
            other = threading.Thread(target=shelf.put, args=(report("1", Status.PROGRESS),))
            other.start()
            other.join(10)
            assert not other.is_alive()
        heard.append(each.status)

    shelf.poll("f", "1", hear)
    shelf.put(report("1", Status.SENT))
    assert heard == [Status.SENT, Status.PROGRESS]


def test_done_while_reports_are_heard_ends_that() -> None:
    shelf, heard = Shelf(), list[Status]()

    def hear(each: ReportPacket) -> None:
        heard.append(each.status)
        shelf.done("f", "1")

    shelf.put(report("1", Status.SENT))
    shelf.put(report("1"))
    shelf.poll("f", "1", hear)
    assert heard == [Status.SENT]
