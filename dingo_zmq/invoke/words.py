"""Words of a command line to arguments, knowing a signature only as text."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from dingo_zmq.errors import ArgumentError, PeerError

__all__ = ["convert_words", "example_words"]

_TEXT_LIMIT, _DEEPEST = 20_000, 100
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_NONE = ("none", "null", "")
_ARRAYS = ("list", "set", "frozenset", "tuple", "Sequence", "Iterable", "Collection")
_MAPS = ("dict", "Mapping")


def convert_words(
    signature: str, words: Sequence[str], function: str = ""
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """
    Convert the words of a command line to arguments.

    A word ``name=value`` is a keyword argument where the signature has a parameter of that name (or takes
    any); all others are positional.  Known scalars are converted laxly ("5" to an int, "yes" to a bool,
    seconds to a timedelta), others are read as JSON or else stay text.  Nothing in the text is evaluated.

    Args:
        signature: text such as ``(a: int, b: int = 5) -> int``.
        words: of the command line.
        function: its name, for messages.

    Raises:
        ArgumentError: if the words do not bind or do not convert.
        PeerError: if the text is no signature.
    """
    parameters = _parse(signature)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name.isidentifier() and (name in parameters.by_name or parameters.kwarg):
            kwargs[name] = _convert(function, name, parameters.by_name.get(name) or parameters.kwarg, value)
            continue
        place = next(iter(parameters.positional[len(args) :]), parameters.vararg)
        if place is None:
            most = f"at most {len(parameters.positional)} positional arguments, as in {signature}"
            raise ArgumentError(function, "", most, f"also {word!r}")
        args.append(_convert(function, place.arg, place, word))
    _complete(function, parameters, len(args), kwargs)
    return tuple(args), kwargs


class _Parameters:
    """The parameters of a parsed signature."""

    def __init__(self, arguments: ast.arguments) -> None:
        self.positional = [*arguments.posonlyargs, *arguments.args]
        self.by_name = {arg.arg: arg for arg in (*arguments.args, *arguments.kwonlyargs)}
        self.vararg, self.kwarg = arguments.vararg, arguments.kwarg
        optional = self.positional[len(self.positional) - len(arguments.defaults) :]
        named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        optional += [arg for arg, default in named if default is not None]
        self.required = [arg for arg in (*self.positional, *arguments.kwonlyargs) if arg not in optional]


def _parse(signature: str) -> _Parameters:
    try:
        if len(signature) > _TEXT_LIMIT:
            raise ValueError("it is too long")
        (function,) = ast.parse(f"def f{signature}: ...").body
        if not _is_flat(function):
            raise ValueError("it is nested too deeply")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise PeerError(f"not the text of a signature: {signature[:200]!r}: {exc}") from exc
    if not isinstance(function, ast.FunctionDef):
        raise PeerError(f"not the text of a signature: {signature[:200]!r}")
    return _Parameters(function.args)


def _is_flat(tree: ast.AST) -> bool:
    """Whether a tree is so flat that each part of it can be looked at by recursion."""
    level = [tree]
    for _ in range(_DEEPEST):
        level = [child for each in level for child in ast.iter_child_nodes(each)]
        if not level:
            return True
    return False


def _complete(function: str, parameters: _Parameters, count: int, kwargs: dict[str, Any]) -> None:
    placed = {arg.arg for arg in parameters.positional[:count]}
    for arg in parameters.required:
        if arg.arg not in placed and arg.arg not in kwargs:
            raise ArgumentError(function, arg.arg, _text(arg), "nothing")
    for arg in parameters.positional[:count]:
        if arg.arg in kwargs and arg.arg in parameters.by_name:
            raise ArgumentError(function, arg.arg, "one value", "one by position and one by name")


def _text(arg: ast.arg | None) -> str:
    return ast.unparse(arg.annotation) if arg is not None and arg.annotation else "a value"


def _convert(function: str, name: str, arg: ast.arg | None, word: str) -> Any:
    try:
        return _value(arg.annotation if arg is not None else None, word)
    except (ValueError, ArithmeticError, TypeError) as exc:
        raise ArgumentError(function, name, _text(arg), f"the word {word!r}") from exc


def _value(annotation: ast.expr | None, word: str) -> Any:
    match annotation:
        case ast.BinOp(op=ast.BitOr()):
            return _union(annotation, word)
        case ast.Constant(value=None):
            return _none(word)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return _literal(choices, word)
        case ast.Subscript(value=ast.Name(id=name)) | ast.Name(id=name):
            return _named(name, word)
        case _:
            return _json(word)


def _union(annotation: ast.expr, word: str) -> Any:
    members: list[ast.expr] = []
    while isinstance(annotation, ast.BinOp):
        members.insert(0, annotation.right)
        annotation = annotation.left
    # None takes few words and text takes all, so they come first and last.
    for member in sorted([annotation, *members], key=_eagerness):
        try:
            return _value(member, word)
        except (ValueError, ArithmeticError):
            continue
    raise ValueError(word)


def _eagerness(annotation: ast.expr) -> int:
    order = {"None": 0, "int": 1, "float": 2, "bool": 3, "bytes": 8, "Path": 8, "str": 9}
    return order.get(ast.unparse(annotation), 4)


def _literal(choices: ast.expr, word: str) -> Any:
    for choice in choices.elts if isinstance(choices, ast.Tuple) else [choices]:
        value = ast.literal_eval(choice) if not isinstance(choice, ast.Attribute) else choice.attr
        if str(value) == word:
            return value
    raise ValueError(word)


def _none(word: str) -> None:
    if word.lower() not in _NONE:
        raise ValueError(word)


def _bool(word: str) -> bool:
    if word.lower() in _TRUE:
        return True
    if word.lower() in _FALSE:
        return False
    raise ValueError(word)


def _int(word: str) -> int:
    based = word.lstrip("+-")[:2].lower() in ("0x", "0o", "0b")
    return int(word, 0 if based else 10)


def _timedelta(word: str) -> timedelta:
    return timedelta(seconds=float(word))


_SCALARS: dict[str, Callable[[str], Any]] = {
    "Decimal": Decimal,
    "Path": Path,
    "UUID": UUID,
    "bool": _bool,
    "bytes": str.encode,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "float": float,
    "int": _int,
    "str": str,
    "time": time.fromisoformat,
    "timedelta": _timedelta,
}


def _named(name: str, word: str) -> Any:
    if name in _SCALARS:
        return _SCALARS[name](word)
    value = _json(word)
    for names, kind in ((_ARRAYS, list), (_MAPS, dict)):
        if name in names and not isinstance(value, kind):
            raise ValueError(word)
    return value


def _json(word: str) -> Any:
    try:
        return json.loads(word)
    except (ValueError, RecursionError):
        return word


_EXAMPLES = {"int": "2", "float": "1.5", "bool": "yes", "str": "text", "Path": "file"}


def example_words(signature: str) -> list[str] | None:
    """
    Return words that would do as the required arguments of a signature, for a person to try; None where some
    argument is of a type of the user's own, or of parts.

    Raises:
        PeerError: if the text is no signature.
    """
    words: list[str] = []
    for arg in _parse(signature).required:
        word = arg.arg.upper() if arg.annotation is None else _EXAMPLES.get(_text(arg))
        if word is None:
            return None
        words.append(str(int(word) + words.count("2")) if word == "2" else word)
    return words
