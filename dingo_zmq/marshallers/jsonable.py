"""Values to JSON and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import msgspec

from dingo_zmq.errors import EncodeError

__all__ = ["decode_plain", "encode_json"]


# Of these msgspec encodes the class itself alone, not what inherits from it.
_BASES: tuple[Any, ...] = (int, float, str)


def _hook(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    for base in _BASES:
        if isinstance(value, base):
            return base(value)
    raise EncodeError(f"a value of type {type(value).__qualname__} cannot travel as JSON")


_encode = msgspec.json.Encoder(enc_hook=_hook).encode
decode_plain: Callable[[Any], Any] = msgspec.json.Decoder().decode


def encode_json(value: Any) -> bytes:
    """
    Return a JSON document.

    Raises:
        EncodeError: for what has no JSON, NaN and infinity too.
    """
    data = _encode(value)
    if b"null" in data and not _finite(msgspec.to_builtins(value, enc_hook=_hook)):
        raise EncodeError("NaN and infinity have no JSON; hint: None, or another marshaller")
    return data


def _finite(value: Any) -> bool:
    """Whether no number in a plain value is NaN or infinite: they would become null."""
    if isinstance(value, dict):
        return all(map(_finite, value)) and all(map(_finite, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
