"""The built-in marshallers keep the contract, a codec of one's own does, and faulty ones do not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from dingo_zmq.marshallers import (
    CustomMarshaller,
    JSONMarshaller,
    JSONSafeCodec,
    MsgpackMarshaller,
    PickleMarshaller,
)
from dingo_zmq.ports import Marshaller
from dingo_zmq.testing import MarshallerContract


class TestMsgpack(MarshallerContract):
    def marshaller(self) -> Marshaller:
        return MsgpackMarshaller()


class TestJSON(MarshallerContract):
    def marshaller(self) -> Marshaller:
        return JSONMarshaller()


class TestJSONSafe(MarshallerContract):
    def marshaller(self) -> Marshaller:
        return CustomMarshaller(JSONSafeCodec())


class TestPickle(MarshallerContract):
    stranger = staticmethod(lambda: None)

    def marshaller(self) -> Marshaller:
        return PickleMarshaller()


class Doubles:
    def prepare(self, function: Any) -> None:
        pass

    def encode_arguments(self, function: Any, names: Any, values: Any) -> Any:
        return [struct.pack("<d", value) for value in values]

    def decode_arguments(self, function: Any, names: Any, parts: Any) -> Any:
        return [struct.unpack("<d", part)[0] for part in parts]

    def encode_return(self, function: Any, value: Any) -> Any:
        return self.encode_arguments(function, [], [value])

    def decode_return(self, function: Any, parts: Any) -> Any:
        (value,) = self.decode_arguments(function, [], parts)
        return value


class TestDoubles(MarshallerContract):
    values = ((float, 0.5), (float, -1e300))

    def marshaller(self) -> Marshaller:
        return CustomMarshaller(Doubles())


# ---------------------------------------------------------------------- a contract without teeth finds nothing


class Swapped(Doubles):
    def decode_arguments(self, function: Any, names: Any, parts: Any) -> Any:
        return [value + 1 for value in super().decode_arguments(function, names, parts)]


class Shared(Doubles):
    """Remembers the last function alone."""

    def prepare(self, function: Any) -> None:
        self.last = function

    def encode_return(self, function: Any, value: Any) -> Any:
        assert self.last is function
        return super().encode_return(function, value)


class Exit(Doubles):
    def decode_return(self, function: Any, parts: Any) -> Any:
        if bytes(parts[0]) != struct.pack("<d", 0.5):
            raise SystemExit
        return 0.5


class Lenient(Doubles):
    def encode_arguments(self, function: Any, names: Any, values: Any) -> Any:
        return [struct.pack("<d", value if isinstance(value, float) else 0.0) for value in values]


@pytest.mark.parametrize(
    ("codec", "test"),
    [
        (Swapped, MarshallerContract.test_arguments_come_back),
        (Swapped, MarshallerContract.test_returns_come_back),
        (Swapped, MarshallerContract.test_a_body_can_be_one_string_of_bytes),
        (Swapped, MarshallerContract.test_threads_may_use_it_together),
        (Shared, MarshallerContract.test_functions_are_kept_apart),
        (Exit, MarshallerContract.test_whatever_arrives_is_decoded_or_refused),
        (Lenient, MarshallerContract.test_what_cannot_travel_is_an_encode_error),
    ],
)
def test_a_faulty_one_is_found(codec: type[Doubles], test: Callable[[MarshallerContract], None]) -> None:
    class Faulty(MarshallerContract):
        values = ((float, 0.5), (float, -1e300))

        def marshaller(self) -> Marshaller:
            return CustomMarshaller(codec())

    with pytest.raises((AssertionError, SystemExit)):
        test(Faulty())


def test_who_does_not_say_which_is_told() -> None:
    with pytest.raises(NotImplementedError, match="say which marshaller"):
        MarshallerContract().test_its_name_can_be_told()
