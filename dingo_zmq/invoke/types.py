"""What an annotation means for values: compiled once, then used for each call."""

from __future__ import annotations

import dataclasses
import functools
import sys
import typing
from collections import abc
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import inspect as inspection
from msgspec.msgpack import Decoder

from dingo_zmq import marshal
from dingo_zmq.errors import PeerError
from dingo_zmq.invoke.spelling import alias, is_union, members, spell

__all__ = ["Converter", "Misfit", "from_wire", "same"]

_PATHS = (PurePath, Path, PosixPath, WindowsPath, PurePosixPath, PureWindowsPath)
_BINARY = (bytes, bytearray, memoryview)
_BINARY_NAMES = ("bytes", "bytearray", "memoryview", "ndarray")
_SEQUENCES = (list, tuple, set, frozenset)
_CUSTOM = {abc.Iterable: abc.Collection}  # what msgspec does not know, and its nearest neighbour that it does


class Misfit(ValueError):
    """A value does not fit an annotation; the text says why, where msgspec told."""


# --- annotations to types that msgspec can check --------------------------------------------------------


class _ChoiceType(type):
    """A union that msgspec refuses, as a class of its own; it believes what our hook made of a value."""

    members: tuple[Any, ...] = ()

    def __instancecheck__(cls, instance: object) -> bool:
        return True


def _is_array(annotation: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and annotation is numpy.ndarray


def _lower(annotation: Any) -> Any:
    """Rewrite an annotation so that msgspec takes it, or raise TypeError."""
    annotation = alias(annotation)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is object:
        return Any
    if isinstance(annotation, TypeVar):
        raise TypeError(f"the type variable {annotation.__name__} stands for no one type")
    if origin is None or origin is Literal:
        return _CUSTOM.get(annotation, annotation)
    if origin is Annotated:
        rules = [rule for rule in args[1:] if isinstance(rule, msgspec.Meta)]
        return functools.reduce(lambda inner, rule: Annotated[inner, rule], rules, _lower(args[0]))
    if is_union(annotation):
        return _lower_union(tuple(_lower(member) for member in members(annotation)))
    if _is_array(origin) or not args:
        return origin if _is_array(origin) else annotation
    inner = tuple(arg if arg in (Ellipsis, ()) else _lower(arg) for arg in args)
    return _CUSTOM.get(origin, origin)[inner[0] if len(inner) == 1 else inner]


def _lower_union(lowered: tuple[Any, ...]) -> Any:
    if Any in lowered:
        return Any
    union = functools.reduce(lambda left, right: typing.Union[left, right], lowered)  # noqa: UP007 - values
    try:
        Decoder(union)
    except TypeError:
        return _ChoiceType("Choice", (), {"members": lowered})
    return union


def _parts(node: Any, seen: set[int]) -> Iterator[inspection.Type]:
    """Yield all types inside a type, once each."""
    if isinstance(node, tuple):
        for item in node:
            yield from _parts(item, seen)
    elif isinstance(node, inspection.Type | inspection.Field) and id(node) not in seen:
        seen.add(id(node))
        if isinstance(node, inspection.Type):
            yield node
        for name in node.__struct_fields__:
            if name not in ("default", "default_factory", "cls"):
                yield from _parts(getattr(node, name), seen)


def _inspect(lowered: Any) -> bool:
    """Return whether anything inside is Any; raise TypeError for a class that cannot be checked."""
    anything = False
    for node in _parts(inspection.type_info(lowered), set()):
        anything |= isinstance(node, inspection.AnyType)
        if isinstance(node, inspection.CustomType | inspection.ExtType | inspection.RawType):
            cls: Any = getattr(node, "cls", None)
            if isinstance(cls, _ChoiceType):
                anything |= any([_inspect(member) for member in cls.members])
            elif cls not in _PATHS and not _is_array(cls):
                name = spell(cls) if cls else type(node).__name__
                raise TypeError(f"values of type {name} cannot be checked and sent")
    return anything


# --- values -----------------------------------------------------------------------------------------------


def from_wire(kind: Any, value: Any) -> Any:
    """Make a value of one of the types that msgspec does not know; the hook of every decoder here."""
    if isinstance(kind, _ChoiceType):
        return _choose(kind.members, value, _convert)
    if isinstance(value, kind):
        return value
    if kind in _PATHS and isinstance(value, str):
        return kind(value)
    raise ValueError(f"Expected `{spell(kind)}`, got `{type(value).__name__}`")


def _choose(choices: Sequence[Any], value: Any, convert: Callable[[Any, Any], Any]) -> Any:
    """Try the members in order, but those whose very type the value has before all others."""
    exact = [choice for choice in choices if (typing.get_origin(choice) or choice) is type(value)]
    for choice in (*exact, *choices):
        try:
            return convert(value, choice)
        except msgspec.ValidationError:
            continue
    raise ValueError(f"Expected `{' | '.join(map(spell, choices))}`, got `{type(value).__name__}`")


def _convert(value: Any, kind: Any) -> Any:
    return msgspec.convert(value, kind, dec_hook=from_wire, builtin_types=_BINARY)


def _from_plain(kind: Any, value: Any) -> Any:
    """The same for what another marshaller decoded, where texts may stand for bytes, numbers and keys."""
    return _choose(kind.members, value, _adopt) if isinstance(kind, _ChoiceType) else from_wire(kind, value)


def _adopt(value: Any, kind: Any) -> Any:
    return msgspec.convert(value, kind, dec_hook=_from_plain, str_keys=True)


def _fields(value: Any) -> Sequence[str]:
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    return getattr(value, "__struct_fields__", ())


def _equal(given: Any, got: Any) -> bool:
    try:
        return bool(given == got) or bool(given != given and got != got)  # noqa: PLR0124 - not a number
    except Exception:  # comparing arrays gives an array
        return type(given) is type(got)


def same(given: Any, got: Any) -> bool:
    """Whether `got`, the typed conversion of `given`, stands for the same value: no text became a date."""
    if given is got:
        return True
    if isinstance(got, abc.Mapping):
        return (
            isinstance(given, abc.Mapping)
            and len(given) == len(got)
            and all(key in got and same(value, got[key]) for key, value in given.items())
        )
    if isinstance(got, _SEQUENCES):
        return isinstance(given, _SEQUENCES) and _same_items(given, got)
    fields = _fields(got) if isinstance(given, type(got)) else ()
    if fields:
        return all(same(getattr(given, name), getattr(got, name)) for name in fields)
    return _same_scalar(given, got)


def _same_scalar(given: Any, got: Any) -> bool:
    if isinstance(got, _BINARY):
        return not isinstance(given, str)
    if isinstance(got, float):
        return type(given) is int or (not isinstance(given, Decimal) and _equal(given, got))
    return _equal(given, got)


def _same_items(given: Any, got: Any) -> bool:
    if isinstance(got, set | frozenset):
        try:
            given = set(given)
        except TypeError:
            return False
        return len(got) == len(given) and all(item in given or item != item for item in got)  # noqa: PLR0124
    return len(given) == len(got) and all(map(same, given, got))


class Converter:
    """
    One annotation, compiled.

    Attributes:
        text: the annotation as canonical text.
        kind: the type to hand to msgspec.
        free: whether everything fits.
        binary: whether a value may be a large binary one that travels by itself.
        decode: data without buffers to a value; any Exception means that `read` must be asked.
    """

    __slots__ = ("_loose", "binary", "decode", "free", "kind", "text")

    def __init__(self, annotation: Any) -> None:
        """
        Raises:
            TypeError: if values of this type cannot be checked and sent.
        """
        self.text = spell(annotation)
        self.kind = _lower(annotation)
        self._loose = _inspect(self.kind)
        self.free = self.kind is Any
        self.binary = self._loose or any(word in self.text for word in _BINARY_NAMES)
        self.decode: Callable[[Any], Any] = self._decoder(())

    def _decoder(self, buffers: Sequence[marshal.Buffer]) -> Callable[[Any], Any]:
        hook = partial(marshal.read_extension, buffers)
        return Decoder(self.kind, dec_hook=from_wire, ext_hook=hook).decode

    def read(self, data: marshal.Buffer, buffers: Sequence[marshal.Buffer] = ()) -> Any:
        """
        Decode a value.

        Raises:
            Misfit: if it does not fit the annotation.
            PeerError: if it is no value at all.
        """
        try:
            if marshal.is_extension(data):
                return _convert(marshal.decode((bytes(data), tuple(buffers))), self.kind)
            return self._decoder(buffers)(data) if buffers else self.decode(data)
        except PeerError:
            raise
        except (RecursionError, UnicodeError) as exc:
            raise PeerError(f"cannot decode a body: {exc}") from exc
        except msgspec.ValidationError as exc:
            raise Misfit(str(exc)) from exc
        except msgspec.DecodeError as exc:
            raise PeerError(f"cannot decode a body: {exc}") from exc
        except Exception as exc:  # from the code of somebody's own class
            raise Misfit(f"{type(exc).__name__}: {exc}") from exc

    def adopt(self, value: Any) -> Any:
        """
        Return what another marshaller decoded as the function should see it.

        Raises:
            Misfit: if it does not fit the annotation.
        """
        if self.free or type(value) is self.kind:
            return value
        try:
            return _adopt(value, self.kind)
        except Exception as exc:
            raise Misfit(str(exc)) from exc

    def json_reader(self) -> Callable[[Any], Any]:
        """Return what decodes a JSON document straight into the annotated type; it raises what msgspec raises."""
        return msgspec.json.Decoder(self.kind, dec_hook=_from_plain).decode

    def check(self, value: Any) -> None:
        """
        Check that a value fits and arrives as it is.

        Raises:
            Misfit: if it does not fit.
            EncodeError: if it cannot travel.
        """
        body = marshal.encode(value)
        if self.free:
            return
        # Reading a large one back would copy it; inside Any a tuple comes back as a list, which is no misfit.
        if marshal.is_large(value):
            self.correct(value)
            return
        got = self.read(*body)
        if self._loose:
            self.correct(value)
        elif not same(value, got):
            raise Misfit("")

    def correct(self, value: Any) -> Any:
        """
        Return the value as the function should see it, without encoding it.

        Raises:
            Misfit: if it does not fit.
        """
        if self.free or type(value) is self.kind:
            return value
        try:
            got = _convert(value, self.kind)
        except Exception as exc:
            return self._travel(value, exc)
        if not same(value, got):
            raise Misfit("")
        return got

    def _travel(self, value: Any, why: Exception) -> Any:
        """Let the codec correct what the converter refuses, such as numbers of NumPy."""
        try:
            got = self.read(*marshal.encode(value))
        except Exception:
            raise Misfit(str(why)) from why
        if not same(value, got):
            raise Misfit(str(why)) from why
        return got
