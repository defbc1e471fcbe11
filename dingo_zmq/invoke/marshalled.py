"""The signature of a function with another marshaller or another invoker than the usual ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from dingo_zmq import marshal
from dingo_zmq.errors import ArgumentError, EncodeError, PeerError, UsageError
from dingo_zmq.invoke.binding import Call
from dingo_zmq.invoke.signature import Signature
from dingo_zmq.invoke.types import Misfit
from dingo_zmq.ports import Encoding, Invoker, Marshaller

__all__ = ["DirectInvoker", "How", "Marshalled"]


class DirectInvoker:
    """Calls with what was decoded; also a base for one's own."""

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function with these arguments."""
        return function(*args, **kwargs)

    def correct_return(self, function: Callable[..., Any] | None, value: Any) -> Any:
        """Return the value as it is."""
        return value


@dataclass(frozen=True, slots=True)
class How:
    """
    How a function is called and its values travel.

    Attributes:
        tasks: marshaller of the arguments, None for msgpack as compiled into the signature.
        reports: marshaller of the return, None likewise.
        names: of both, as told to others: "" for msgpack, "json" where both are, "json/msgpack" where they differ.
        pickles: whether one of them is pickle.
        typed: whether values are checked and converted by annotation.
        invoker: somebody's own, or None.
    """

    tasks: Marshaller | None = None
    reports: Marshaller | None = None
    names: str = ""
    pickles: bool = False
    typed: bool = True
    invoker: Invoker | None = None

    def runner(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return what a worker calls in place of a function."""
        if self.invoker is None:
            return function
        invoker = self.invoker

        def run(*args: Any, **kwargs: Any) -> Any:
            return invoker.call(function, args, kwargs)

        return run


class Marshalled(Signature):
    """
    Checks and converts as `Signature`, and has marshallers of its own.

    At the caller a value is checked by its annotation before it is encoded, and what another marshaller decoded
    is converted to the annotation, where the invoker is typed.

    Args:
        name, signature, hints, is_stream, version: as for `Signature`.
        how: the marshallers and the invoker.
        target: what is registered or declared, for an invoker of one's own.

    Raises:
        UsageError: as `Signature`, and what a marshaller has to say against the function.
    """

    def __init__(
        self,
        name: str,
        signature: inspect.Signature,
        hints: Mapping[str, Any] | None = None,
        *,
        how: How,
        target: Callable[..., Any] | None = None,
        is_stream: bool = False,
        version: str = "",
    ) -> None:
        super().__init__(name, signature, hints, is_stream=is_stream, version=version, typed=how.typed)
        self.pickles, self._invoker, self._target = how.pickles, how.invoker, target
        self._tasks = self._prepared(how.tasks)
        self._reports = self._tasks if how.reports is how.tasks else self._prepared(how.reports)
        if how.names:
            self.fingerprint += f"/{how.names}"

    def _prepared(self, marshaller: Marshaller | None) -> Encoding | None:
        if marshaller is None:
            return None
        try:
            return marshaller.prepare(self)
        except UsageError:
            raise
        except Exception as exc:
            raise UsageError(f"{self.name}(): marshaller {marshaller.name!r} refuses it: {exc}") from exc

    # --- arguments -----------------------------------------------------------------------------------------

    def pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> marshal.Body:
        """As `Signature.pack`."""
        encoding = self._tasks
        if encoding is None:
            return super().pack(args, kwargs)
        args, kwargs = self.correct(args, kwargs)
        try:
            return encoding.encode_arguments(args, kwargs)
        except ArgumentError:
            raise
        except Exception as exc:
            self._cannot_travel("arguments", exc)

    def unpack(self, body: marshal.Body) -> Call:
        """As `Signature.unpack`."""
        encoding = self._tasks
        if encoding is None:
            return super().unpack(body)
        args, kwargs = self._decoded("arguments", encoding.decode_arguments, body)
        return self._each(args, kwargs, self._adopt)

    def _adopt(self, parameter: str, value: Any) -> Any:
        converter = self._return if parameter == "return" else self._converters[parameter]
        try:
            return converter.adopt(value)
        except Misfit as exc:
            raise self._misfit(parameter, value, exc) from None

    # --- the return ----------------------------------------------------------------------------------------

    def pack_return(self, value: Any) -> marshal.Body:
        """As `Signature.pack_return`."""
        encoding = self._reports
        if encoding is None:
            return super().pack_return(value)
        try:
            return encoding.encode_return(value)
        except Exception as exc:
            self._cannot_travel("return", exc)

    def unpack_return(self, body: marshal.Body) -> Any:
        """As `Signature.unpack_return`; what an invoker of one's own raises is an `ArgumentError`."""
        encoding = self._reports
        if encoding is None:
            value = super().unpack_return(body)
        else:
            value = self._adopt("return", self._decoded("return", encoding.decode_return, body))
        return self._invoked_return(value)

    def correct_return(self, value: Any) -> Any:
        """As `Signature.correct_return`; what an invoker of one's own raises is an `ArgumentError`."""
        return self._invoked_return(super().correct_return(value))

    def _invoked_return(self, value: Any) -> Any:
        if self._invoker is None:
            return value
        try:
            return self._invoker.correct_return(self._target, value)
        except Exception as exc:
            wanted = f"what {type(self._invoker).__qualname__}.correct_return takes"
            raise ArgumentError(self.name, "return", wanted, f"{type(exc).__name__}: {exc}") from exc

    # --- errors --------------------------------------------------------------------------------------------

    def _cannot_travel(self, what: str, exc: Exception) -> NoReturn:
        text = str(exc) if isinstance(exc, EncodeError) else f"{type(exc).__name__}: {exc}"
        raise EncodeError(f"{self.name}(), {what}: {text}") from exc

    def _decoded(self, what: str, decode: Callable[[marshal.Body], Any], body: marshal.Body) -> Any:
        try:
            return decode(body)
        except ArgumentError:
            raise
        except Exception as exc:
            text = str(exc) if isinstance(exc, PeerError) else f"{type(exc).__name__}: {exc}"
            raise PeerError(f"{self.name}(), {what}: cannot decode a body: {text}") from exc
