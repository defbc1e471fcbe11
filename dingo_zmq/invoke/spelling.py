"""Annotations and signatures as canonical text: the same on every Python, and for every way to write them."""

from __future__ import annotations

import ast
import enum
import inspect
import types
import typing
from collections.abc import Mapping
from hashlib import blake2b
from inspect import Parameter
from typing import Annotated, Any, Literal, NewType, TypeVar, Union

__all__ = ["alias", "fingerprint", "is_union", "members", "signature_text", "spell"]

_DEFAULT_LIMIT = 40
_WRAPPERS = (typing.Required, typing.NotRequired, typing.ClassVar, typing.Final)


def alias(annotation: Any) -> Any:
    """Return what an annotation means once named aliases, new types and wrappers are followed."""
    while True:
        if isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif typing.get_origin(annotation) in _WRAPPERS:
            annotation = typing.get_args(annotation)[0]
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def is_union(annotation: Any) -> bool:
    """Whether it is ``Union[...]``, ``Optional[...]`` or ``a | b``."""
    return typing.get_origin(annotation) in (Union, types.UnionType)


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, those of unions inside it in their place; or the annotation alone."""
    annotation = alias(annotation)
    if not is_union(annotation):
        return (annotation,)
    return tuple(inner for member in typing.get_args(annotation) for inner in members(member))


def spell(annotation: Any) -> str:
    """Return the canonical text of an annotation: plain names, unions sorted and with ``None`` last."""
    annotation = alias(annotation)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return spell(args[0])
    if origin is Literal:
        return f"Literal[{', '.join(_spell_literal(value) for value in args)}]"
    if is_union(annotation):
        return _spell_union({spell(member) for member in members(annotation)})
    if args or annotation == tuple[()]:
        return f"{_name(origin)}[{', '.join(_spell_argument(arg) for arg in args) or '()'}]"
    return _name(origin or annotation)


def _spell_argument(arg: Any) -> str:
    if arg is Ellipsis:
        return "..."
    return f"[{', '.join(map(spell, arg))}]" if isinstance(arg, list) else spell(arg)


def _spell_union(texts: set[str]) -> str:
    return " | ".join(sorted(texts, key=lambda text: (text == "None", text)))


def _spell_literal(value: object) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, enum.Enum) else repr(value)


def _name(annotation: Any) -> str:
    if annotation is None or annotation is type(None):
        return "None"
    if annotation is Any or annotation is Parameter.empty:
        return "Any"
    if isinstance(annotation, TypeVar):
        return annotation.__name__
    name = getattr(annotation, "__name__", None) or getattr(annotation, "_name", None)
    return name if isinstance(name, str) else repr(annotation)


def _spell_default(value: object) -> str:
    try:
        text = _spell_literal(value)
        ast.parse(text, mode="eval")
    except Exception:  # a repr of somebody's own
        return "..."
    return text if len(text) <= _DEFAULT_LIMIT and " at 0x" not in text and "\n" not in text else "..."


def signature_text(signature: inspect.Signature, hints: Mapping[str, Any]) -> str:
    """Return text such as ``(a: int, b: int = 5) -> int``; a default that is no short literal is ``...``."""
    parts: list[str] = []
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    for i, parameter in enumerate(signature.parameters.values()):
        before = kinds[:i]
        if kinds[i] == Parameter.KEYWORD_ONLY and not {Parameter.VAR_POSITIONAL, kinds[i]} & set(before):
            parts.append("*")
        parts.append(_spell_parameter(parameter, hints))
        if kinds[i] == Parameter.POSITIONAL_ONLY and kinds[i] not in kinds[i + 1 :]:
            parts.append("/")
    result = f" -> {spell(hints['return'])}" if "return" in hints else ""
    return f"({', '.join(parts)}){result}"


_STARS: dict[Any, str] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


def _spell_parameter(parameter: Parameter, hints: Mapping[str, Any]) -> str:
    hint = f": {spell(hints[parameter.name])}" if parameter.name in hints else ""
    default = ""
    if parameter.default is not Parameter.empty:
        default = (" = " if hint else "=") + _spell_default(parameter.default)
    return f"{_STARS.get(parameter.kind, '')}{parameter.name}{hint}{default}"


def fingerprint(signature: inspect.Signature, hints: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal characters over names, kinds, whether there is a default, and types."""
    lines = [
        f"{p.name} {int(p.kind)} {int(p.default is not Parameter.empty)} {spell(hints.get(p.name, Any))}"
        for p in signature.parameters.values()
    ]
    text = "\n".join([*lines, f"-> {spell(hints.get('return', Any))}"])
    return blake2b(text.encode(), digest_size=8).hexdigest()
