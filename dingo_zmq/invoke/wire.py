"""Signatures of functions that run here, but as if they were far away."""

from __future__ import annotations

from typing import Any

from dingo_zmq.invoke.binding import Call
from dingo_zmq.invoke.signature import Signature
from dingo_zmq.marshal import Body, check_arguments, check_return

__all__ = ["WireSignature"]


class WireSignature(Signature):
    """
    A signature whose `correct` and `correct_return` take the whole way through bodies, with buffers copied.

    Attributes:
        inner: what packs and unpacks.
        limit: largest body, bytes.
    """

    inner: Signature
    limit: int

    @classmethod
    def of_signature(cls, signature: Signature, limit: int) -> WireSignature:
        """Return one that does otherwise what `signature` does."""
        wire = object.__new__(cls)
        wire.__dict__.update(signature.__dict__)
        wire.inner, wire.limit = signature, limit
        return wire

    def correct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """
        Return the arguments as a node would see them.

        Raises:
            ArgumentError: if they do not bind or do not fit.
            EncodeError: if one of them cannot travel.
            BodyTooLarge: if they are over the body limit.
        """
        inner = self.inner
        return inner.unpack(_sent(check_arguments(self.name, inner.pack(args, kwargs), self.limit)))

    def correct_return(self, value: Any) -> Any:
        """
        Return a return as a caller would see it.

        Raises:
            ArgumentError: with parameter "return", if it does not fit.
            EncodeError: if it cannot travel, or is over the body limit.
        """
        inner = self.inner
        return inner.unpack_return(_sent(check_return(self.name, inner.pack_return(value), self.limit)))


def _sent(body: Body) -> Body:
    data, buffers = body
    return data, tuple([bytes(buffer) for buffer in buffers])
