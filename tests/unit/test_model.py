"""The values that everybody speaks of, and what can be no such value."""

from __future__ import annotations

from typing import Any

import pytest

from dingo_zmq.errors import TaskFailed, UsageError
from dingo_zmq.model import (
    Code,
    Failure,
    Options,
    Report,
    Retries,
    Status,
    check_node_name,
    check_part,
    error_for,
    plain,
)


@pytest.mark.parametrize(
    ("given", "needs"),
    [
        ([], ()),
        (["psu"], ("psu",)),
        ({"psu": 1}, ("psu",)),
        (("psu", "cam", "psu"), ("psu", "cam")),
        ((tag for tag in ("psu", "cam")), ("psu", "cam")),
    ],
)
def test_needs_are_given_as_any_iterable(given: Any, needs: tuple[str, ...]) -> None:
    assert Options().replace(needs=given).needs == needs
    assert hash(Options(needs=needs)) == hash(Options(needs=needs))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"needs": "psu"}, "needs must be a list of tags, such as [\"psu\"], not 'psu'"),
        ({"needs": ""}, "needs must be a list of tags, not ''"),
        ({"needs": b"psu"}, "needs must be a list of tags, not b'psu'"),
        ({"needs": None}, "needs must be a list of tags, not None"),
        ({"needs": ["a/b"]}, "a tag in needs must be 1 to 200 printable characters without '/', not 'a/b'"),
        ({"needs": [5]}, "a tag in needs must be 1 to 200 printable characters without '/', not 5"),
        ({"needs": [[]]}, "a tag in needs must be 1 to 200 printable characters without '/', not []"),
        ({"node": "a/b"}, "node must be 1 to 200 printable characters without '/', not 'a/b'"),
        ({"node": None}, "node must be 1 to 200 printable characters without '/', not None"),
        ({"node": "x\n"}, "node must be 1 to 200 printable characters without '/', not 'x\\n'"),
        ({"at_most_once": "no"}, "at_most_once must be True or False, not 'no'"),
        ({"monitor_progress": 1}, "monitor_progress must be True or False, not 1"),
        ({"max_losses": 0}, "max_losses must be a whole number of at least 1, not 0"),
        ({"max_losses": "3"}, "max_losses must be a whole number of at least 1, not '3'"),
        ({"time_limit": 0}, "time_limit must be a number of seconds above 0, or None, not 0"),
        ({"time_limit": True}, "time_limit must be a number of seconds above 0, or None, not True"),
        ({"time_limit": float("inf")}, "time_limit must be a number of seconds above 0, or None, not inf"),
        ({"time_limit": float("nan")}, "time_limit must be a number of seconds above 0, or None, not nan"),
        ({"soft_time_limit": "5"}, "soft_time_limit must be a number of seconds above 0, or None, not '5'"),
        ({"time_limit": 5, "soft_time_limit": 5}, "soft_time_limit (5 s) must be below time_limit (5 s)"),
        ({"ignore_report": 1}, "ignore_report must be True or False, not 1"),
        ({"delay": "1"}, "delay must be seconds, from 0 to 1e+09, not '1'"),
        ({"delay": -1}, "delay must be seconds, from 0 to 1e+09, not -1"),
        ({"delay": float("nan")}, "delay must be seconds, from 0 to 1e+09, not nan"),
        ({"delay": True}, "delay must be seconds, from 0 to 1e+09, not True"),
        ({"expires": "soon"}, "expires must be seconds, more than 0 to 1e+09, or None, not 'soon'"),
        ({"expires": 0}, "expires must be seconds, more than 0 to 1e+09, or None, not 0"),
        ({"expires": float("inf")}, "expires must be seconds, more than 0 to 1e+09, or None, not inf"),
        (
            {"expires": 1, "delay": 2},
            "expires (1 s) must be more than delay (2 s), or the task would never start; "
            "hint: both count from the call",
        ),
        ({"retries": "3"}, "retries must be a whole number of at least 0, or a Retries, not '3'"),
        ({"retries": True}, "retries must be a whole number of at least 0, or a Retries, not True"),
        ({"retries": -1}, "retries must be a whole number of at least 0, or a Retries, not -1"),
        ({"retries": None}, "retries must be a whole number of at least 0, or a Retries, not None"),
        ({"priority": 1.5}, "priority must be a whole number from -1000000 to 1000000, not 1.5"),
        ({"priority": "high"}, "priority must be a whole number from -1000000 to 1000000, not 'high'"),
        ({"priority": 1_000_001}, "priority must be a whole number from -1000000 to 1000000, not 1000001"),
        (
            {"nodes": "a"},
            "unknown option in ['nodes']; there are: at_most_once, max_losses, monitor_progress, node, needs, "
            "ignore_report, delay, expires, retries, priority, time_limit, soft_time_limit",
        ),
    ],
)
def test_options_that_make_no_sense(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        Options().replace(**changes)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"raised": "3"}, "retries: raised must be a whole number of at least 0, not '3'"),
        ({"raised": None}, "retries: raised must be a whole number of at least 0, not None"),
        ({"lost": -1}, "retries: lost must be a whole number of at least 0, not -1"),
        ({"refused": 1.0}, "retries: refused must be a whole number of at least 0, not 1.0"),
        ({"backoff": "1"}, "retries: backoff must be a number of at least 0, not '1'"),
        ({"factor": 0.5}, "retries: factor must be a number of at least 1, not 0.5"),
        ({"most": float("inf")}, "retries: most must be a number of at least 0, not inf"),
        ({"jitter": 1.5}, "retries: jitter must be a number from 0 to 1, not 1.5"),
        (
            {"on": "ValueError"},
            "retries: on must be a list of names of exceptions, such as [\"ValueError\"], not 'ValueError'",
        ),
        (
            {"on": [ValueError]},
            "retries: on must be a list of names of exceptions, and <class 'ValueError'> is none",
        ),
    ],
)
def test_retries_that_make_no_sense(given: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        Retries(**given)
    assert str(raised.value) == text


def test_a_number_of_retries_is_for_what_raises() -> None:
    assert Options(retries=3).tries == Retries(raised=3)
    assert Options().tries == Retries(raised=0)
    assert not Options().on_terms


@pytest.mark.parametrize("name", ["bench", "bench-3", "bench/2", "Prüfstand 4", "00c0ffee00c0ffee"])
def test_names_of_nodes(name: str) -> None:
    assert check_node_name("node", name) == name
    assert Options(node=name).node == name


@pytest.mark.parametrize("name", ["", "/2", "bench/", "bench/x", "a/b/2", "bench/²", "\x1b[31m", "x" * 201, 5])
def test_what_no_node_can_be_called(name: Any) -> None:
    with pytest.raises(UsageError):
        check_node_name("node", name)


@pytest.mark.parametrize("name", ["", "a/b", "\n", "\u202e", "x" * 201, None])
def test_what_can_be_no_part_of_a_topic(name: Any) -> None:
    with pytest.raises(UsageError, match="thing must be 1 to 200 printable characters"):
        check_part("thing", name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("quite plain", "quite plain"),
        ("Prüfstand\u00a04 \N{SNOWMAN}", "Prüfstand\u00a04 \N{SNOWMAN}"),
        ("\x1b[2J\r\x00", "\\x1b[2J\\r\\x00"),
        ("\x9b31m \u202e \u2028 \ud800", "\\x9b31m \\u202e \\u2028 \\ud800"),
        ("two\nlines", "two\\nlines"),
    ],
)
def test_what_came_from_elsewhere_moves_no_cursor(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_lines_can_be_kept_and_length_is_bounded() -> None:
    assert plain("two\nlines\r", keep="\n") == "two\nlines\\r"
    assert plain("x" * 9, most=8) == "xxxxx..."
    assert plain("x" * 8, most=8) == "x" * 8


def test_a_failure_is_shown_without_control_characters_and_kept_as_it_is() -> None:
    failure = Failure(Code.RAISED, "two\nlines\x1b[31m", "ValueError", "Traceback\n\x07  x", "n\x1b")
    error = error_for(failure)
    assert str(error) == "ValueError: two\nlines\\x1b[31m (on n\\x1b)"
    assert error.__notes__ == ["The traceback on n\\x1b:\nTraceback\n\\x07  x"]
    assert failure.message.endswith("\x1b[31m")


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (Failure(Code.RAISED, "", "MemoryError", node="n1"), "MemoryError (on n1)"),
        (Failure(Code.RAISED, "no", "ValueError"), "ValueError: no"),
        (Failure(Code.EXPIRED, "too late"), "too late"),
        (Failure(Code.EXPIRED), "expired"),
    ],
)
def test_a_failure_in_words(failure: Failure, text: str) -> None:
    assert str(failure) == text


@pytest.mark.parametrize(
    ("status", "value", "returns"),
    [
        (Status.SUCCESS, 5, (5,)),
        (Status.SUCCESS, None, (None,)),
        (Status.SUCCESS, (1, "x"), (1, "x")),
        (Status.SUCCESS, [1, "x"], ([1, "x"],)),
        (Status.PARTIAL, (1, 2), (1, 2)),
        (Status.PROGRESS, (0.5, "half"), ()),
        (Status.SENT, None, ()),
        (Status.FAIL, None, ()),
    ],
)
def test_a_report_has_its_returns_one_by_one(status: Status, value: Any, returns: tuple[Any, ...]) -> None:
    assert Report("add", "1", status, value).returns == returns


def test_a_report_of_failure_has_its_error() -> None:
    report = Report("add", "1", Status.FAIL, failure=Failure(Code.RAISED, "no", "ValueError"))
    assert type(report.error) is TaskFailed
    assert str(report.error) == "ValueError: no"
    assert report.error is not report.error
    assert Report("add", "1", Status.SUCCESS, 5).error is None
