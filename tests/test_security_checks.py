"""
What must not be possible, by number, and the tests that show it is not.

The numbers are those of the list that this project began with.  Each check is negative: the test fails where what
it asks for could be done.  Each test that is named here exists; that is tested below.

S1   no security at all: no task, no cancel, no report
     mesh/test_security.py::test_a_stranger_who_knows_all_of_a_link_cannot_speak_for_it
     mesh/test_strangers.py::test_a_stranger_cannot_run_a_task_or_read_a_report
S2   PLAIN, with user and password: the same
     mesh/test_security.py::test_a_stranger_who_knows_all_of_a_link_cannot_speak_for_it
S3   a random CURVE key: the same
     mesh/test_security.py::test_a_stranger_who_knows_all_of_a_link_cannot_speak_for_it
     unit/test_keys.py::test_nobody_else_gets_anything_through
S4   a key that was replaced
     mesh/test_security.py::test_a_key_that_was_replaced_is_of_no_use
     net/test_access.py::test_the_other_key_does_not_fit
S5   the right key in a wrong domain
     unit/test_keys.py::test_everything_else_is_refused
     mesh/test_security.py::test_a_stranger_who_knows_all_of_a_link_cannot_speak_for_it
S6   a wrong server key
     mesh/test_security.py::test_a_stranger_who_knows_all_of_a_link_cannot_speak_for_it
S7   a node without its gatekeeper serves nobody
     mesh/test_security.py::test_a_node_that_would_let_anybody_in_does_not_serve
     unit/test_keys.py::test_without_a_gatekeeper_nobody_gets_in
S8   a domain that is enforced and not named
     mesh/test_security.py::test_a_node_that_would_let_anybody_in_does_not_serve
S9   a gatekeeper that ends while the node runs
     unit/test_keys.py::test_after_the_end_of_the_gatekeeper_nobody_else_gets_in
S10  a guest that subscribes to everything
     mesh/test_guests.py::test_what_a_guest_may_not_subscribe_to_it_does_not_get
     mesh/test_guard.py::test_what_is_not_the_guests_is_not_granted
S11  a guest that subscribes to the topics of others
     mesh/test_guests.py::test_what_a_guest_may_not_subscribe_to_it_does_not_get
     unit/test_guests.py::test_what_a_guest_may_hear
S12  a guest that cancels or asks for tasks of others
     mesh/test_guests.py::test_a_guest_cannot_touch_the_tasks_of_another
     mesh/test_guests.py::test_a_guest_cannot_speak_under_another_name
S13  a node that reports what another one runs: ignored and counted
     mesh/test_security.py::test_a_node_cannot_report_what_another_one_runs
S14  bytes of a session that was recorded, sent again
     mesh/test_security.py::test_a_session_that_was_recorded_says_nothing_twice
S15  a task that is sent again by whoever may, as a forwarder could
     mesh/test_security.py::test_a_task_that_is_sent_again_is_not_started_again
     unit/test_node.py::test_a_task_that_comes_twice_is_dropped_and_said
S16  what was said to an earlier incarnation, sent again after a restart
     mesh/test_security.py::test_what_was_meant_for_an_earlier_incarnation_is_refused
     mesh/test_security.py::test_a_session_that_was_recorded_says_nothing_twice
     unit/test_lives.py::test_the_old_life_is_refused_and_told_so
S17  a record of mDNS with the name of a node and somebody else's address
     net/test_strangers.py::test_a_record_that_lies_about_a_node_does_no_harm
     chaos/test_reused_ports.py::test_a_plain_server
S18  the same with the id of the right key
     net/test_strangers.py::test_a_record_that_lies_about_a_node_does_no_harm
     net/test_strangers.py::test_a_thousand_false_records_hide_no_node
S19  a thousand instances a second, for a minute with FLOOD=60: at most 64 MiB, and the node is kept
     net/test_security.py::test_a_flood_of_false_instances_costs_little_and_no_node
S20  a good-bye that the node has not said
     net/test_security.py::test_a_false_good_bye_loses_no_node
S21  a frame that is announced with 1 TiB
     mesh/test_security.py::test_a_frame_of_a_tebibyte_is_not_waited_for
S22  a frame over the limit, which is the body limit
     mesh/test_security.py::test_a_frame_over_the_body_limit_breaks_the_connection
     mesh/test_mistakes.py::test_arguments_over_the_limit_of_the_node_alone
S23  a message without an end under a limit of memory (RLIMIT_AS, in place of a cgroup): no task is lost
     mesh/test_security.py::test_a_message_without_an_end_costs_no_task
S24  10,000 connections that say nothing
     mesh/test_security.py::test_ten_thousand_connections_that_say_nothing
     chaos/test_descriptors.py::test_a_node_whose_descriptors_strangers_use_up
S25  msgpack that is nested, lies about lengths, has NaN, no UTF-8, or something behind it
     test_security_checks.py::test_msgpack_that_is_refused
     test_security_checks.py::test_what_announces_much_takes_little
     mesh/test_strangers.py::test_a_length_that_nothing_has
S26  bombs: nothing is ever unpacked
     test_security_checks.py::test_nothing_is_compressed_and_no_codec_runs_what_it_reads
S27  subscriptions: 100,000 of them (1,000,000 take 280 MB in libzmq as long as their connection lasts)
     mesh/test_security.py::test_a_hundred_thousand_subscriptions
S28  no code is made, imported or run by what others wrote, and no file opened
     test_security_checks.py::test_bad_input_runs_nothing_and_opens_nothing
     mesh/test_marshallers.py::test_pickles_need_a_key_on_both_sides
S29  exceptions by the name os.system
     mesh/test_security.py::test_a_failure_of_any_type_is_text
S30  tasks by the names os.system, __class__, ../../x
     mesh/test_security.py::test_functions_that_are_not_registered_are_not_looked_for
S31  ids with slashes, dots, NUL, newlines, escapes, 4 KiB
     mesh/test_security.py::test_ids_and_names_leave_no_file_and_no_line_of_their_own
S32  the same as names of callers, functions, nodes, tags, meshes
     mesh/test_security.py::test_ids_and_names_leave_no_file_and_no_line_of_their_own
     unit/test_wire.py::test_names_that_would_move_the_cursor_are_refused
S33  the secret in command lines and environments of all processes
     mesh/test_security.py::test_the_secret_is_in_its_file_alone
     cli/test_config.py::test_never_a_secret
S34  the secret in logs at level debug
     mesh/test_security.py::test_the_secret_is_in_its_file_alone
S35  the secret in what processes leave that crash, and in journals (a core file has it, as all memory)
     mesh/test_security.py::test_the_secret_is_in_its_file_alone
     unit/test_keys.py::test_a_key_never_shows_its_secret
S36  key files that are open to others, links, or foreign; files made under umask 000
     unit/test_keys.py::test_any_bit_for_others_is_refused
     unit/test_keys.py::test_a_link_is_refused
     unit/test_keys.py::test_what_belongs_to_somebody_else_is_refused
     unit/test_keys.py::test_modes_do_not_depend_on_the_umask
     mesh/test_security.py::test_the_secret_is_in_its_file_alone
S37  without a key nothing leaves the machine
     net/test_access.py::test_without_a_key_nothing_leaves_the_machine
     net/test_access.py::test_without_a_key_no_question_is_answered_whoever_else_listens_on_the_machine
S38  a guest at many times its rate: what is too much is refused as busy, and others are served
     mesh/test_guests.py::test_others_are_served_while_a_guest_floods
     unit/test_guests.py::test_what_comes_too_fast_is_given_back
S39  a wiretap reads no argument, return or name of a function
     net/test_security.py::test_a_wiretap_reads_nothing_of_a_session
     net/test_access.py::test_with_a_key_nothing_can_be_read_but_where_nodes_are
S40  what the linter knows of pickle, eval and shells, and the least versions of what we stand on
     test_security_checks.py::test_the_linter_looks_for_what_is_dangerous
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dingo_zmq import marshal
from dingo_zmq.errors import PeerError
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire

TESTS = Path(__file__).parent
ROOT = TESTS.parent


def rows() -> dict[str, tuple[str, list[str]]]:
    """Return the table: what each number asks for, and its tests."""
    found = {}
    for number, text in re.findall(r"^(S\d+) +(.+(?:\n     .+)*)", __doc__ or "", re.M):
        what, *tests = (line.strip() for line in text.splitlines())
        found[number] = what, tests
    return found


def test_every_check_has_its_row_and_every_test_of_a_row_exists() -> None:
    table = rows()
    assert list(table) == [f"S{number}" for number in range(1, 41)]
    for number, (what, tests) in table.items():
        assert what, number
        assert tests, number
        for each in tests:
            file, _, name = each.partition("::")
            tree = ast.parse((TESTS / file).read_text())
            functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
            assert functions.count(name) == 1, each


# ---------------------------------------------------------------------- S25, S26: what is read

LINK = b"12345678"
TASKS = msgspec.msgpack.encode([LINK, "me", 0, {}])


def tasks(item: bytes) -> bytes:
    """Return a frame of tasks with one item, already encoded."""
    return b"T\x95" + TASKS[1:] + b"\x91" + item


def item(options: bytes = b"\xc0", id: bytes = b"\xa11", number: bytes = b"\x01", behind: bytes = b"") -> bytes:
    return b"\x96\xa3add" + number + id + b"\x01" + options + b"\xc4\x00" + behind


@pytest.mark.parametrize(
    "frame",
    [
        *[b"T" + b"\x91" * depth for depth in (33, 1024, 1025, 100_000)],
        *[b"T" + b"\x81\x01" * depth for depth in (33, 1024, 1025, 100_000)],
        *[tasks(item(options=b"\x81\xa1x" + b"\x91" * depth + b"\xc0")) for depth in (33, 1024, 100_000)],
        *[b"T" + head + b"\xff\xff\xff\xff" for head in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9")],
        *[tasks(head + b"\xff\xff\xff\xff") for head in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9")],
        tasks(item(options=b"\xc7\x00\x01")),
        tasks(item(number=b"\xd4\x01\x00")),
        tasks(item(options=b"\x81\xaatime_limit\xcb\x7f\xf8" + bytes(6))),
        tasks(item(options=b"\x81\xa7expires\xcb\x7f\xf8" + bytes(6))),
        tasks(item(number=b"\xcb\x7f\xf8" + bytes(6))),
        tasks(item(number=b"\xff")),
        tasks(item(number=b"\xcf" + b"\xff" * 8)),
        tasks(item(id=b"\xa2\xff\xfe")),
        tasks(item(id=b"\xa3\xed\xa0\x80")),
        tasks(item(behind=b"\x01")),
        tasks(item()) + b"\x00",
        tasks(item())[:-1],
    ],
)
def test_msgpack_that_is_refused(frame: bytes) -> None:
    assert wire.decode_caller([tasks(item())]).items == [("add", 1, "1", 1, None, b"")]
    with pytest.raises(PeerError):
        wire.decode_caller([frame])


def test_of_a_name_that_comes_twice_the_last_one_counts() -> None:
    """It is not refused, and means one thing alone."""
    options = b"\x82\xa8priority\x01\xa8priority\x02"
    (read,) = wire.decode_caller([tasks(item(options=options))]).items
    assert read[4] == m.TaskOptions(priority=2)


@pytest.mark.parametrize("head", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
def test_what_announces_much_takes_little(head: bytes) -> None:
    """As a message, and as the body of one."""
    claim = head + b"\x7f\xff\xff\xff" + bytes(1000)
    reads: list[Any] = [
        lambda: wire.decode_caller([b"T" + claim]),
        lambda: wire.decode_caller([tasks(claim)]),
        lambda: wire.decode_node([b"me/\0P" + claim]),
        lambda: marshal.decode((claim, ())),
        lambda: marshal.split_arguments(claim),
        lambda: marshal.decode_failure((claim, ())),
        lambda: marshal.decompose(b"dz\x01\x01" + claim),
    ]
    for read in reads:
        tracemalloc.start()
        try:
            with pytest.raises(PeerError):
                read()
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 2**20 + 2 * len(claim)


BANNED = {"gzip", "bz2", "lzma", "zipfile", "tarfile", "marshal", "shelve", "ctypes", "code", "runpy"}
MAY = {
    ("ctypes", "board"),  # whether a process is there, on Windows
    ("ctypes", "supervisor"),  # to have children end with it
    ("ctypes", "multicast"),  # to have the kernel drop what is not ours
    ("runpy", "loading"),
    ("marshal", ""),
}


def test_nothing_is_compressed_and_no_codec_runs_what_it_reads() -> None:
    """S26, and of S28 what can be read in the source; `dingo_zmq.marshal` is not the module of that name."""
    pickles, others = [], []
    for path in sorted((ROOT / "dingo_zmq").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            pickles += [path.stem for name in names if name.partition(".")[0] == "pickle"]
            others += [(name, path.stem) for name in names if name.partition(".")[0] in BANNED]
            others += [(name, path.stem) for name in names if name.startswith("zlib") and name != "zlib.crc32"]
    assert set(pickles) == {"builtin"}
    assert [each for each in others if each not in MAY] == []


# ---------------------------------------------------------------------- S28: what bad input must not do

WATCHED = """
import pickle, sys
from random import Random
from tools.fuzzing.targets import TARGETS, clean, folder

BAD = ("pickle.", "exec", "compile", "import", "os.", "subprocess.", "open", "ctypes.", "socket.", "shutil.")
seen, on = set(), False


def hook(event, args):
    if not on or not event.startswith(BAD):
        return
    if event == "import" and args[0].partition(".")[0] == "numpy":  # the one that a body may ask for
        return
    if event in ("compile", "open") and "<unknown>" in args[:2]:
        return  # of ast.parse, for the texts of signatures; it looks for the lines of its errors, too
    if event == "open" or event.startswith("os."):
        if isinstance(args[0], int) or str(args[0]).startswith(str(folder())):
            return
    seen.add(f"{event} {str(args)[:200]}")


def bad_input(target, seeds, count):
    dice = Random(1)
    for number in range(count):
        data = dice.choice(seeds)
        for _ in range(dice.randrange(4)):
            data = target.bend(data, dice)
        target.check(data)


targets = [(target, target.seeds()) for target in TARGETS.values()]
for each in targets:
    bad_input(*each, 30)  # it imports what it needs
sys.addaudithook(hook)
on = True
for each in targets:
    bad_input(*each, int(sys.argv[1]))
print("seen", sorted(seen))
pickle.loads(pickle.dumps(print))
exec("on = False")
print("but then", sorted(each.split()[0] for each in seen))
clean()
"""


def test_bad_input_runs_nothing_and_opens_nothing() -> None:
    """What is watched for is seen where it happens."""
    command = [sys.executable, "-W", "ignore", "-c", WATCHED, "100"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    told = "seen []\nbut then ['compile', 'exec', 'pickle.find_class']\n"
    assert (ran.stdout, ran.stderr) == (told, "")


# ---------------------------------------------------------------------- S40: what we stand on


def test_the_linter_looks_for_what_is_dangerous() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lint = told["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert {rule for rule in lint["ignore"] if rule.startswith("S")} == {"S101", "S603"}
    ours = [rules for path, rules in lint["per-file-ignores"].items() if path.startswith("dingo_zmq")]
    assert [rule for rules in ours for rule in rules if rule.startswith("S")] == []
    floors = dict(re.findall(r"^([a-z]+)>=([\d.]+)", "\n".join(told["project"]["dependencies"]), re.M))
    assert (floors["pyzmq"], floors["zeroconf"]) >= ("26.2", "0.149.12")
