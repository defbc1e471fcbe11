"""The marshallers that every App knows."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from dingo_zmq import marshal
from dingo_zmq.errors import EncodeError, PeerError
from dingo_zmq.marshallers.jsonable import decode_plain, encode_json
from dingo_zmq.ports import Body, Buffer, Encoding, Shape

__all__ = ["JSONMarshaller", "MsgpackMarshaller", "PickleMarshaller"]

_Call = tuple[tuple[Any, ...], dict[str, Any]]
_MAP = {"args", "kwargs"}


def _call_in(value: Any) -> _Call:
    """Return the call that a plain value stands for."""
    if isinstance(value, dict) and set(value) == _MAP:
        args, kwargs = value["args"], value["kwargs"]
    else:
        args, kwargs = value, {}
    if (
        not isinstance(args, list | tuple)
        or not isinstance(kwargs, dict)
        or not all(type(k) is str for k in kwargs)
    ):
        raise PeerError("these are no arguments")
    return tuple(args), kwargs


def _alone(body: Body) -> bytes:
    data, buffers = body
    if buffers:
        raise PeerError(f"{len(buffers)} buffers beside a body that has none")
    return data


class MsgpackMarshaller:
    """What is used unless told, and the only one whose encoding is compiled into the signature itself."""

    name = "msgpack"

    def prepare(self, function: Shape) -> Encoding:
        """Return its encoding, the same for all functions; values are not checked, and come back plain."""
        return _Msgpack()


class _Msgpack:
    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Body:
        return marshal.encode_arguments(args, kwargs)

    def decode_arguments(self, body: Body) -> _Call:
        return _call_in(marshal.decode(body))

    def encode_return(self, value: Any) -> Body:
        return marshal.encode(value)

    def decode_return(self, body: Body) -> Any:
        return marshal.decode(body)


class JSONMarshaller:
    """All arguments in one JSON document, which comes back as plain values."""

    name = "json"

    def prepare(self, function: Shape) -> Encoding:
        """Return its encoding, the same for all functions."""
        return _JSON()


class _JSON:
    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Body:
        return encode_json({"args": args, "kwargs": kwargs} if kwargs else args), ()

    def decode_arguments(self, body: Body) -> _Call:
        return _call_in(decode_plain(_alone(body)))

    def encode_return(self, value: Any) -> Body:
        return encode_json(value), ()

    def decode_return(self, body: Body) -> Any:
        return decode_plain(_alone(body))


class PickleMarshaller:
    """
    Python's own; takes nearly everything, and runs whatever code the sender likes.

    Refused unless the App says ``allow_pickle=True``, and in a mesh without keys.
    """

    name = "pickle"

    def prepare(self, function: Shape) -> Encoding:
        """Return its encoding, the same for all functions."""
        return _Pickle()


class _Pickle:
    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Body:
        return _dumps((args, kwargs))

    def decode_arguments(self, body: Body) -> _Call:
        args, kwargs = _loads(*body)
        return _call_in({"args": args, "kwargs": kwargs})

    def encode_return(self, value: Any) -> Body:
        return _dumps(value)

    def decode_return(self, body: Body) -> Any:
        return _loads(*body)


def _dumps(value: Any) -> Body:
    buffers: list[Buffer] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < marshal.OUT_OF_BAND:
            return True
        buffers.append(view)
        return False

    try:
        return pickle.dumps(value, protocol=5, buffer_callback=in_band), tuple(buffers)
    except Exception as exc:
        raise EncodeError(f"cannot be pickled: {exc}") from exc


def _loads(data: bytes, buffers: Sequence[Buffer]) -> Any:
    return pickle.loads(data, buffers=buffers)  # noqa: S301 - allowed where somebody asked for it
