"""The annotations of functions, and values as text for messages."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

from dingo_zmq.errors import UsageError

__all__ = ["hints_of_function", "hints_of_signature", "short"]

_GOT_LIMIT = 60
_HEAD, _TAIL = 40, 15


def short(value: object) -> str:
    """Return type and a short repr of a value, for messages."""
    try:
        text = repr(value)
    except Exception:
        text = "(no repr)"
    if len(text) > _GOT_LIMIT:
        text = f"{text[:_HEAD]}...{text[-_TAIL:]}"
    return text if value is None else f"{type(value).__qualname__} {text}"


def hints_of_signature(name: str, signature: inspect.Signature) -> dict[str, Any]:
    """
    Return the annotations that stand in a signature itself, resolved.

    Raises:
        UsageError: if one does not resolve.
    """
    parameters = signature.parameters.values()
    hints = {p.name: p.annotation for p in parameters if p.annotation is not inspect.Parameter.empty}
    if signature.return_annotation is not inspect.Signature.empty:
        hints["return"] = signature.return_annotation
    return _resolve(name, lambda: typing.get_type_hints(_Holder(hints), include_extras=True))


class _Holder:
    """Something to ask `typing.get_type_hints` about."""

    def __init__(self, annotations: dict[str, Any]) -> None:
        self.__annotations__ = annotations


def hints_of_function(name: str, function: Any) -> dict[str, Any]:
    """
    Return the annotations of a function, method or callable object, resolved.

    Raises:
        UsageError: if one does not resolve.
    """
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    if not (inspect.isroutine(function)):
        function = type(function).__call__
    return _resolve(name, lambda: typing.get_type_hints(function, include_extras=True))


def _resolve(name: str, hints: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return hints()
    except Exception as exc:
        raise UsageError(f"{name}(): an annotation does not resolve: {exc}") from exc
