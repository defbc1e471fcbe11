"""``dingo-zmq dead``: tasks in a journal that the mesh gave up."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import Any

import click
import msgspec

from dingo_zmq.cli.common import NOBODY, complain, in_words, plain
from dingo_zmq.errors import DingoError
from dingo_zmq.journal import Dead, JournalFile
from dingo_zmq.marshal import decode_failure
from dingo_zmq.marshallers import spoken
from dingo_zmq.model import Code, Failure, counted
from dingo_zmq.protocol.ledger import marshallers_of

__all__ = ["dead"]

_NEVER_STARTED = (Code.EXPIRED, Code.REFUSED)
_BODY_MOST = 1000
"""characters shown of the arguments of a task"""


@click.group()
def dead() -> None:
    """
    Look at the dead letters of a journal: tasks that the mesh gave up.

    Those that ended POISON (too many nodes died with them), UNKNOWN (at most once, and their node was lost),
    EXPIRED, TIMEOUT or REFUSED.  The newest 10,000 are kept, and 256 MiB of them.

    \b
    Example:
      dingo-zmq dead list tasks.db
      dingo-zmq dead show tasks.db 17
      dingo-zmq dead requeue tasks.db 17
    """


@dead.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.argument("journal")
@in_words
def list_(journal: str, as_json: bool) -> None:
    """List the dead letters of JOURNAL, oldest first; also while a program has it open."""
    letters = _letters(journal)
    if as_json:
        click.echo(json.dumps([_in_full(letter) for letter in letters], indent=2))
        return
    for letter in letters:
        call, failure = letter.call, _failure(letter)
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(letter.end.ended))
        code = "" if failure is None else failure.code.name
        click.echo(f"{call.record:>8}  {when}  {code:8}  {plain(call.name)}  {plain(str(failure))}")
    click.echo(f"{counted(len(letters), 'dead letter')} in {plain(journal)}")


@dead.command()
@click.argument("journal")
@click.argument("number", type=int)
@in_words
def show(journal: str, number: int) -> None:
    """Show all that is known of one dead letter of JOURNAL, by the NUMBER that `list` gives it, as JSON."""
    (letter,) = _chosen(_letters(journal), [number], journal)
    click.echo(json.dumps(_in_full(letter), indent=2))


@dead.command()
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.argument("journal")
@click.argument("numbers", type=int, nargs=-1)
@in_words
def requeue(journal: str, numbers: tuple[int, ...], everything: bool) -> None:
    """
    Make dead letters of JOURNAL open tasks again, by the NUMBERS that `list` gives them.

    No program may have the journal open.  The next one that opens it sends them, as if they had just been called.
    At-most-once tasks that may have started may then run a second time; they are named on stderr.
    """
    if bool(numbers) == everything:
        raise click.UsageError("name the numbers of dead letters, or --all")
    file = JournalFile(journal)
    try:
        letters = file.dead()
        chosen = letters if everything else _chosen(letters, numbers, journal)
        file.requeue([_as_called_now(letter) for letter in chosen])
    finally:
        file.close()
    for letter in chosen:
        if _may_run_twice(letter):
            what = f"{letter.call.record} ({plain(letter.call.name)} {plain(letter.call.id)})"
            click.echo(f"warning: task {what} is at-most-once, may have run, and will run again", err=True)
    click.echo(
        f"{counted(len(chosen), 'task')} of {plain(journal)} will be sent by the program that opens it next"
    )


def _letters(journal: str) -> list[Dead]:
    file = JournalFile(journal, read_only=True)
    try:
        return file.dead()
    finally:
        file.close()


def _chosen(letters: list[Dead], numbers: Any, journal: str) -> list[Dead]:
    known = {letter.call.record: letter for letter in letters}
    missing = [number for number in numbers if number not in known]
    if missing:
        complain(f"journal {journal}: there is no dead letter {missing[0]}", f"dingo-zmq dead list {journal}")
        sys.exit(NOBODY)
    return [known[number] for number in dict.fromkeys(numbers)]


def _may_run_twice(letter: Dead) -> bool:
    """Return whether a task that must not start twice may have started."""
    failure, options = _failure(letter), letter.call.options
    if failure is not None and failure.code in _NEVER_STARTED:
        return False
    unknown = failure is not None and failure.code is Code.UNKNOWN
    return options.at_most_once or (unknown and options.tries.lost is None)  # that was its node's word


def _as_called_now(letter: Dead) -> Dead:
    """A delay and an expiry begin anew."""
    return Dead(msgspec.structs.replace(letter.call, called=time.time()), letter.end)


def _failure(letter: Dead) -> Failure | None:
    end = letter.end
    if end.failure is not None:
        return end.failure
    try:
        return decode_failure((end.body, tuple(end.buffers)), end.node, end.attempt).with_history(end.history)
    except DingoError:
        return None


def _in_full(letter: Dead) -> dict[str, Any]:
    call, end, failure = letter.call, letter.end, _failure(letter)
    told = {} if failure is None else {**dataclasses.asdict(failure), "code": failure.code.name}
    if failure is not None:
        told["history"] = [one._asdict() for one in failure.history]
    options = {name: value for name, value in dataclasses.asdict(call.options).items() if value}
    return {
        "number": call.record,
        "name": call.name,
        "id": call.id,
        "called": call.called,
        "ended": end.ended,
        "arguments": _arguments(letter),
        "bytes": len(call.body) + sum(map(len, call.buffers)),
        "options": options,
        "attempts": end.attempt,
        "failure": told,
    }


def _arguments(letter: Dead) -> str:
    """Return the arguments in words, as far as their marshaller is one that anybody can read."""
    call = letter.call
    try:
        signature = spoken(call.name, marshallers_of(call.fingerprint))
        args, kwargs = signature.unpack((call.body, tuple(call.buffers)))
    except DingoError as exc:
        return plain(f"cannot be read here: {exc}", most=_BODY_MOST)
    words = [repr(value) for value in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
    return plain(", ".join(words), most=_BODY_MOST)
