"""What a function takes and returns: compiled once, then checks and converts for each call."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter
from typing import Any, Self

from msgspec.msgpack import Decoder

from dingo_zmq import marshal
from dingo_zmq.errors import ArgumentError, EncodeError, UsageError
from dingo_zmq.invoke.binding import Binding, Call
from dingo_zmq.invoke.hints import hints_of_function, hints_of_signature, short
from dingo_zmq.invoke.spelling import fingerprint, signature_text, spell
from dingo_zmq.invoke.types import Converter, Misfit, from_wire

__all__ = ["Signature"]

_ALWAYS_STREAMS = (abc.Iterator, abc.Generator, abc.AsyncIterator, abc.AsyncGenerator)
_STREAMS = (*_ALWAYS_STREAMS, abc.Iterable, abc.AsyncIterable)
_GENERATORS = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
_SHORT_ARRAY = 15  # the longest array that msgpack announces with one byte
_ARRAY = 0x90  # that byte for an empty one
_EXTRA = 4  # so many arguments of *args still go the quick way


class Signature:
    """
    Checks and converts the arguments and the return of one function.

    Conversion is strict: an int is taken for a float and a tuple for a list, but no text for a number or a
    date, and no bool for an int.  What is not annotated passes as it is.

    Attributes:
        name: of the function, for messages.
        text: such as ``(a: int, b: int = 5) -> int``; the same on all Pythons.  Whatever yields an int returns
            ``Iterator[int]`` there.
        fingerprint: 16 hexadecimal characters over names, kinds, presence of defaults, and types; behind them
            "@" and the version, where the function was given one, and "/" and its marshallers, where they are
            not msgpack.
        is_stream: whether it yields values; the return annotation is then that of one value.
        takes_anything: whether some parameter takes whatever it is given.
        hints: annotations by parameter, and "return"; what is not annotated is not in it.
        pickles: whether arguments or returns travel as pickles.
        by_name: whether nothing is known of it but its name, not even the marshallers.
        is_known: whether more is known of it than its name and its marshallers.
        spoken: the same, once the marshallers are those that some node has told.
    """

    pickles = by_name = spoken = False
    is_known = True

    def __init__(
        self,
        name: str,
        signature: inspect.Signature,
        hints: Mapping[str, Any] | None = None,
        *,
        is_stream: bool = False,
        version: str = "",
        typed: bool = True,
    ) -> None:
        """
        Args:
            name: of the function, for messages.
            signature: parameters and defaults.
            hints: annotations by parameter and "return"; without, those in `signature`.
            is_stream: whether it yields values even if the return annotation does not say so.
            version: goes into the fingerprint, so that callers and nodes whose versions differ do not meet.
            typed: whether values are checked and converted by annotation; if not, they only have to bind.

        Raises:
            UsageError: if an annotation is one whose values cannot be checked or sent, or says that a generator
                returns something.
        """
        hints = hints_of_signature(name, signature) if hints is None else hints
        self.name = name
        kinds = hints if typed else {}
        self._converters = {p: self._compile(p, kinds.get(p, Any)) for p in signature.parameters}
        result = hints.get("return", Any)
        self.is_stream = is_stream or typing.get_origin(result) in _ALWAYS_STREAMS
        if self.is_stream and typing.get_origin(result) in _STREAMS:
            self._check_no_return(result)
            result = typing.get_args(result)[0]
        self._return = self._compile("return", result if typed else Any)
        self.hints: Mapping[str, Any] = {**hints, "return": result} if "return" in hints else dict(hints)
        told = {**hints, "return": types.GenericAlias(abc.Iterator, result)} if self.is_stream else hints
        self.text = signature_text(signature, told)
        self.fingerprint = fingerprint(signature, told) + (f"@{version}" if version else "")
        self._return_exact = self._return.kind
        self._return_decode, self._return_scan = self._return.decode, self._return.binary
        self._binding = Binding(name, self.text, signature)
        self._free = all(converter.free for converter in self._converters.values())
        self.takes_anything = any(converter.free for converter in self._converters.values())
        self._scan = any(converter.binary for converter in self._converters.values())
        self._decode: dict[int, Callable[[Any], Any]] = {}
        self._exact: dict[int, list[Any]] = {}
        self._compile_quick_ways()

    @classmethod
    def of(cls, function: Callable[..., Any], name: str = "", *, version: str = "", **more: Any) -> Self:
        """
        Compile the signature of a function, method, callable object or stub.

        Args:
            function: what is to be called.
            name: of the function, for messages; its own where not given.
            version: as for the class.
            more: what the class takes besides.

        Raises:
            UsageError: if it has no signature, an annotation does not resolve, or one is not supported.
        """
        name = name or getattr(function, "__name__", type(function).__name__)
        if inspect.isclass(function) or not callable(function):
            raise UsageError(f"{name}: a function or a callable object is needed, not {short(function)}")
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError) as exc:
            raise UsageError(f"{name}: has no signature that can be read: {exc}") from exc
        yields = any(is_one(f) for f in (function, type(function).__call__) for is_one in _GENERATORS)
        return cls(name, signature, hints_of_function(name, function), is_stream=yields, version=version, **more)

    @classmethod
    def unchecked(cls, name: str, **more: Any) -> Self:
        """
        Return the signature of a function that is only known by name: takes and returns everything.

        Its fingerprint is empty, and so fits all others; `more` is what the class takes besides.
        """
        rest = Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)
        signature = cls(name, inspect.Signature(rest), **more)
        _, slash, how = signature.fingerprint.partition("/")
        signature.fingerprint = slash + how
        signature.by_name = not how
        signature.is_known = False
        return signature

    def __repr__(self) -> str:
        return f"<Signature {self.name}{self.text}>"

    def _check_no_return(self, stream: Any) -> None:
        returned = typing.get_args(stream)[2:]
        if returned and returned[0] not in (None, type(None), Any):
            raise UsageError(
                f"{self.name}: what a generator returns at its end is not sent, and {spell(stream)} says that it "
                "returns something; hint: yield it as the last value"
            )

    # --- compiling -----------------------------------------------------------------------------------------

    def _compile(self, parameter: str, annotation: Any) -> Converter:
        where = f"{self.name}(), parameter {parameter!r}"
        try:
            return Converter(annotation)
        except RecursionError:
            raise UsageError(f"{where}: the annotation holds itself") from None
        except Exception as exc:
            raise UsageError(f"{where}: annotation {spell(annotation)} is not supported: {exc}") from exc

    def _compile_quick_ways(self) -> None:
        """Prepare, for each number of positional arguments that is short and binds, a decoder and types."""
        binding = self._binding
        if binding.least is None:
            return
        names = [*binding.positional, *([binding.rest] * _EXTRA if binding.rest else [])]
        converters = [self._converters[name] for name in names]
        hook = functools.partial(marshal.read_extension, ())
        for n in range(binding.least, min(len(converters), _SHORT_ARRAY) + 1):
            kinds = tuple(converter.kind for converter in converters[:n])
            typed: Any = tuple.__class_getitem__(kinds)
            self._decode[_ARRAY + n] = Decoder(typed, dec_hook=from_wire, ext_hook=hook).decode
            self._exact[n] = list(kinds)

    def names(self, count: int, words: Iterable[str] = ()) -> list[str]:
        """
        Return the parameter of each argument of a call: of `count` positional ones, then of the named ones.

        Raises:
            ArgumentError: if such a call does not bind.
        """
        words = list(words)
        return [*self._binding.bind(count, words), *map(self._binding.name_of, words)]

    # --- arguments -----------------------------------------------------------------------------------------

    def pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> marshal.Body:
        """
        Check and encode the arguments of a call.

        Encoding and strict decoding, as the node will do it, is the check; since the encoded form of a wrong
        value may be right (a date is a text), what comes back must also equal what was given.  Keyword
        arguments travel by position where they can.

        Raises:
            ArgumentError: if they do not bind or do not fit.
            EncodeError: if one of them cannot travel.
        """
        if kwargs:
            args, kwargs = self._binding.line_up(args, kwargs)
        if not kwargs and not (self._scan and any(map(marshal.is_large, args))):
            try:
                data = marshal.encode_inline(args)
                if self._decode[data[0]](data) == args:
                    return data, ()
            except Exception:  # noqa: S110 - the long way finds out what and where
                pass
        return self._pack_slowly(args, kwargs)

    def _pack_slowly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> marshal.Body:
        self._each(args, kwargs, self._check)
        return marshal.encode_arguments(args, kwargs)

    def unpack(self, body: marshal.Body) -> Call:
        """
        Decode the arguments of a call.

        Raises:
            ArgumentError: if they do not bind or do not fit.
            PeerError: if these are no arguments at all; nothing else is raised.
        """
        data, buffers = body
        if not buffers:
            try:
                return self._decode[data[0]](data), {}
            except Exception:  # noqa: S110 - the long way finds out what and where
                pass
        encoded, words = marshal.split_arguments(data)
        args = [memoryview(raw) for raw in encoded]
        kwargs = {word: memoryview(raw) for word, raw in words.items()}
        return self._each(args, kwargs, functools.partial(self._read, buffers))

    def correct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """
        Return the arguments as the function should see them, without encoding them.

        Raises:
            ArgumentError: if they do not bind or do not fit.
        """
        if kwargs:
            args, kwargs = self._binding.line_up(args, kwargs)
        if not kwargs:
            exact = self._exact.get(len(args))
            if exact is not None and (self._free or exact == [*map(type, args)]):
                return args, kwargs
        return self._each(args, kwargs, self._correct)

    def argument_names(self, count: int, words: Iterable[str]) -> list[str]:
        """
        Return what to call each of `count` positional arguments in messages: its parameter, or its number.

        Args:
            count: of the positional arguments.
            words: names of the keyword arguments.

        Raises:
            ArgumentError: if such a call does not bind.
        """
        own = self._binding.positional
        names = self._binding.bind(count, words)
        return [repr(name) if name in own else str(number) for number, name in enumerate(names, 1)]

    def _each(self, args: Sequence[Any], kwargs: Mapping[str, Any], step: Callable[[str, Any], Any]) -> Call:
        """Bind, and hand each value with the name of its parameter to `step`, which returns the new value."""
        names = self._binding.bind(len(args), kwargs)
        return (
            tuple([step(name, value) for name, value in zip(names, args, strict=True)]),
            {word: step(self._binding.name_of(word), value) for word, value in kwargs.items()},
        )

    # --- one value -----------------------------------------------------------------------------------------

    def _misfit(self, parameter: str, value: Any, why: Misfit) -> ArgumentError:
        # msgspec's text is worth telling only where it says which part of the value is meant.
        where = f" ({why})" if "$" in str(why) else ""
        converter = self._return if parameter == "return" else self._converters[parameter]
        return ArgumentError(self.name, parameter, converter.text, short(value) + where)

    def _check(self, parameter: str, value: Any) -> None:
        try:
            self._converters[parameter].check(value)
        except Misfit as exc:
            raise self._misfit(parameter, value, exc) from None
        except EncodeError as exc:
            raise EncodeError(f"{self.name}(), parameter {parameter!r}: {exc}") from exc

    def _read(self, buffers: Sequence[marshal.Buffer], parameter: str, data: Any) -> Any:
        try:
            return self._converters[parameter].read(data, buffers)
        except Misfit as exc:
            raise self._misfit(parameter, marshal.decode((data, tuple(buffers))), exc) from None

    def _correct(self, parameter: str, value: Any) -> Any:
        try:
            return self._converters[parameter].correct(value)
        except Misfit as exc:
            raise self._misfit(parameter, value, exc) from None

    # --- the return ----------------------------------------------------------------------------------------

    def pack_return(self, value: Any) -> marshal.Body:
        """
        Encode what the function returned, or one value that it yielded.

        Raises:
            EncodeError: if it cannot travel.
        """
        if not (self._return_scan and marshal.is_large(value)):
            try:
                return marshal.encode_inline(value), ()
            except Exception:  # noqa: S110 - the long way finds out what
                pass
        try:
            return marshal.encode(value)
        except EncodeError as exc:
            raise EncodeError(f"{self.name}(), return: {exc}") from exc

    def unpack_return(self, body: marshal.Body) -> Any:
        """
        Decode what the function returned, or one value that it yielded.

        Raises:
            ArgumentError: with parameter "return", if it does not fit.
            PeerError: if it is no value at all; nothing else is raised.
        """
        data, buffers = body
        if not buffers:
            try:
                return self._return_decode(data)
            except Exception:  # noqa: S110 - the long way finds out what
                pass
        try:
            return self._return.read(data, buffers)
        except Misfit as exc:
            raise self._misfit("return", marshal.decode(body), exc) from None

    def correct_return(self, value: Any) -> Any:
        """
        Return a return as the caller should see it, without encoding it.

        Raises:
            ArgumentError: with parameter "return", if it does not fit.
        """
        if type(value) is self._return_exact:
            return value
        try:
            return self._return.correct(value)
        except Misfit as exc:
            raise self._misfit("return", value, exc) from None
