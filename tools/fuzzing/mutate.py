"""Inputs made of good ones: messages of msgpack in which a value is another one, bytes cut off or changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

__all__ = ["BETWEEN", "bend", "bend_frame", "scratch"]

BETWEEN = b"\xc1\xc1\xc1"
"""stands between the messages of an input; no byte of msgpack is 0xc1"""
_NUMBERS = (0, 1, 2, 3, 5, 33, 100, 128, 256, 65_536, 2**31, 2**32, 2**53, 2**53 + 1, 2**63, -1, -(2**63))
_TEXTS = ("", "a", "add", "mul", "me", "a/b", "1/2", "x" * 200, "x" * 201, "\0", "\x1b[2J", "../../x", "é")
_OTHERS: tuple[Any, ...] = (
    None, True, False, 0.0, -1.0, 0.5, 1e9, 1e300, float("inf"), float("nan"),
    b"", bytes(8), b"12345678", b"\xc1", b"\x91" * 40, [], {}, [[]], {"": []}, [0] * 70,
)  # fmt: skip


def bend(data: bytes, dice: Random, more: Sequence[bytes] = ()) -> bytes:
    """
    Return an input that differs from another one in a message or two.

    Args:
        data: the input, messages with `BETWEEN` between them.
        dice: decides how.
        more: other good inputs, from which messages may be taken.
    """
    messages = data.split(BETWEEN)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        at = dice.randrange(len(messages))
        what = dice.random()
        if what < 0.7:
            messages[at] = bend_frame(messages[at], dice)
        elif what < 0.8:
            messages.insert(at, messages[dice.randrange(len(messages))])
        elif what < 0.9 and len(messages) > 1:
            del messages[at]
        elif more:
            messages.insert(at, dice.choice(dice.choice(more).split(BETWEEN)))
        else:
            dice.shuffle(messages)
    return BETWEEN.join(messages)


def bend_frame(frame: bytes, dice: Random) -> bytes:
    """Return a message with another value in its record where it has one, or with other bytes."""
    start = _record_at(frame)
    if start is None or dice.random() < 0.25:
        return scratch(frame, dice)
    try:
        record = msgspec.msgpack.decode(frame[start:])
        return frame[:start] + msgspec.msgpack.encode(_bent(record, dice))
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError):
        return scratch(frame, dice)


def scratch(data: bytes, dice: Random) -> bytes:
    """Return bytes of which some are changed, cut off, added or repeated."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8))):
        at = dice.randrange(len(changed) + 1)
        what = dice.randrange(5)
        if what == 0:
            changed[at:] = b""
        elif what == 1:
            changed[at:at] = dice.randbytes(dice.randrange(1, 9))
        elif what == 2:
            changed[at : at + dice.randrange(1, 9)] = b""
        elif what == 3:
            changed[at:at] = changed[at : at + dice.randrange(1, 64)]
        elif at < len(changed):
            changed[at] = dice.choice((0, 1, 0x7F, 0x80, 0xC0, 0xC1, 0xDC, 0xDF, 0xFF, dice.randrange(256)))
    return bytes(changed)


def _record_at(frame: bytes) -> int | None:
    """Return where a record may begin: at the first list of msgpack."""
    for at, byte in enumerate(frame[:600]):
        if 0x90 <= byte <= 0x9F:
            return at
    return None


def _bent(value: Any, dice: Random) -> Any:
    """Return a value in which one part is another one."""
    if isinstance(value, list) and value and dice.random() < 0.9:
        return _bent_list(list(value), dice)
    if isinstance(value, dict) and value and dice.random() < 0.8:
        name = dice.choice(list(value))
        changed = dict(value)
        held = changed.pop(name)
        if dice.random() < 0.3:
            name = _other(name, dice)
        if dice.random() < 0.9:
            changed[name if isinstance(name, str | int) else "add"] = _bent(held, dice)
        return changed
    return _other(value, dice)


def _bent_list(value: list[Any], dice: Random) -> list[Any]:
    at = dice.randrange(len(value))
    what = dice.random()
    if what < 0.8:
        value[at] = _bent(value[at], dice)
    elif what < 0.87:
        value.insert(at, value[at])
    elif what < 0.94:
        del value[at]
    else:
        value *= dice.choice((2, 3, 40))
    return value


def _other(value: Any, dice: Random) -> Any:
    """Return something else: mostly of the same kind."""
    if dice.random() < 0.15:
        return dice.choice(_OTHERS)
    kinds: dict[type, Callable[[], Any]] = {
        bool: lambda: not value,
        int: lambda: dice.choice((value + 1, value - 1, *_NUMBERS)),
        str: lambda: dice.choice((value + "x", value[:-1], *_TEXTS)),
        bytes: lambda: scratch(value, dice),
        float: lambda: dice.choice((-value, value * 2, 0.0, 1e-300, 1e300, float("inf"), float("nan"))),
    }
    make = kinds.get(type(value))
    return dice.choice(_OTHERS) if make is None else make()
