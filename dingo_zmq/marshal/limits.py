"""The body limit, where a body is made."""

from __future__ import annotations

from dingo_zmq.errors import BodyTooLarge, EncodeError
from dingo_zmq.marshal.body import Body, size

__all__ = ["check_arguments", "check_return"]


def check_arguments(name: str, body: Body, limit: int) -> Body:
    """
    Return the arguments of a function if they are within the limit, in bytes.

    Raises:
        BodyTooLarge: if they are not.
    """
    total = size(body)
    if total > limit:
        raise BodyTooLarge(
            f"the arguments of {name}() take {total:,} bytes, over the body limit of {limit:,}; "
            "hint: send less at a time, or raise the limit of callers and nodes"
        )
    return body


def check_return(name: str, body: Body, limit: int) -> Body:
    """
    Return the return of a function if it is within the limit, in bytes.

    Raises:
        EncodeError: if it is not.
    """
    total = size(body)
    if total > limit:
        raise EncodeError(f"{name}(): the return takes {total:,} bytes, over the body limit of {limit:,}")
    return body
