"""Marshallers by name: the built-in ones, those an App was given, and those of installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from dingo_zmq.errors import UsageError
from dingo_zmq.invoke import How, Marshalled, Signature
from dingo_zmq.marshallers.builtin import JSONMarshaller, MsgpackMarshaller, PickleMarshaller
from dingo_zmq.marshallers.custom import CustomMarshaller, JSONSafeCodec
from dingo_zmq.model import check_part
from dingo_zmq.ports import Invoker, Marshaller

__all__ = ["ENTRY_POINTS", "SAFE", "Marshallers", "is_safe", "spoken"]

ENTRY_POINTS: Final = "dingo_zmq.marshallers"
"""the group in which installed packages name theirs; looked at only for a name that is known nowhere else"""

SAFE: Final = ("msgpack", "json", "json-safe")
"""built-in marshallers that decode whatever comes without running any of it"""

_INVOKERS = ("typed", "direct")
_STATELESS = (MsgpackMarshaller, JSONMarshaller, PickleMarshaller)  # one is as good as another


class Marshallers:
    """
    The marshallers of one App.

    Args:
        given: more of them by name.
        allow_pickle: whether `pickle` may be used.

    Raises:
        UsageError: for a name that cannot be one or is taken, and for what is no marshaller.
    """

    def __init__(self, given: Mapping[str, Marshaller] | None = None, *, allow_pickle: bool = False) -> None:
        self._allow_pickle = allow_pickle
        self._known: dict[str, Marshaller] = {
            "msgpack": MsgpackMarshaller(),
            "json": JSONMarshaller(),
            "json-safe": CustomMarshaller(JSONSafeCodec(), "json-safe"),
            "pickle": PickleMarshaller(),
        }
        for name, marshaller in (given or {}).items():
            check_part("the name of a marshaller", name)
            if name in self._known:
                raise UsageError(f"there is already a marshaller {name!r}; hint: give yours another name")
            self._known[name] = self._checked(marshaller, name)

    def find(self, wanted: str | Marshaller) -> tuple[str, Marshaller]:
        """
        Return name and marshaller; one that is given as an object is known by its own name from then on.

        Raises:
            UsageError: for an unknown name, one that two marshallers have, what is no marshaller, and for
                pickles where they are not allowed.
        """
        if isinstance(wanted, str):
            name, found = wanted, self._known.get(wanted) or self._installed(wanted)
        else:
            found = self._checked(wanted)
            names = [name for name, known in self._known.items() if known is found]
            name = names[0] if names else check_part("the name of a marshaller", found.name)
            if type(found) in _STATELESS and type(self._known.get(name)) is type(found):
                found = self._known[name]
        if isinstance(found, PickleMarshaller) and not self._allow_pickle:
            raise UsageError(
                "pickles run whatever code their sender likes; hint: App(allow_pickle=True) if all who hold the "
                "mesh key may do that, else another marshaller"
            )
        if self._known.setdefault(name, found) is not found:
            raise UsageError(f"there is already another marshaller {name!r}; hint: give yours another name")
        return name, found

    def how(
        self,
        marshaller: str | Marshaller = "msgpack",
        report_marshaller: str | Marshaller | None = None,
        invoker: str | Invoker = "typed",
    ) -> How:
        """
        Return how the values of a function travel, and who calls it.

        Args:
            marshaller: of its tasks.
            report_marshaller: of what it returns; None for the same.
            invoker: "typed" checks and converts by annotation, "direct" does not; or one's own.

        Raises:
            UsageError: as `find`, and for what is no invoker.
        """
        named, tasks = self.find(marshaller)
        other, reports = (named, tasks) if report_marshaller is None else self.find(report_marshaller)
        names = named if named == other else f"{named}/{other}"
        return How(
            tasks=_unless_usual(tasks),
            reports=_unless_usual(reports),
            names="" if names == "msgpack" else names,
            pickles=isinstance(tasks, PickleMarshaller) or isinstance(reports, PickleMarshaller),
            typed=invoker == "typed",
            invoker=_own(invoker),
        )

    def _installed(self, name: str) -> Marshaller:
        from importlib.metadata import entry_points  # slow, and hardly ever needed

        found = [point for point in entry_points(group=ENTRY_POINTS) if point.name == name]
        if not found:
            raise UsageError(
                f"there is no marshaller {name!r}; there are: {', '.join(self._known)}; "
                f"hint: App(marshallers={{{name!r}: ...}})"
            )
        if len({point.value for point in found}) > 1:
            places = " and ".join(sorted(point.value for point in found))
            raise UsageError(f"several installed packages have a marshaller {name!r}: {places}")
        try:
            loaded = found[0].load()
        except Exception as exc:
            raise UsageError(f"the marshaller {name!r} of {found[0].value} cannot be loaded: {exc}") from exc
        return self._checked(loaded() if isinstance(loaded, type) else loaded, name)

    @staticmethod
    def _checked(marshaller: Any, name: str = "") -> Marshaller:
        if isinstance(marshaller, type) or not isinstance(marshaller, Marshaller):
            hint = "CustomMarshaller(codec) makes one of a codec"
            if isinstance(marshaller, type):
                hint = f"make an object of it: {marshaller.__qualname__}()"
            what = f"marshaller {name!r}" if name else "a marshaller"
            raise UsageError(f"{what}: {marshaller!r} is none; hint: {hint}")
        return marshaller


def _unless_usual(marshaller: Marshaller) -> Marshaller | None:
    return None if type(marshaller) is MsgpackMarshaller else marshaller


_BUILTIN = Marshallers()


def is_safe(how: str) -> bool:
    """Return whether both marshallers (as they stand behind a fingerprint) are among the safe ones."""
    return all(name in SAFE for name in (how or "msgpack").split("/"))


@lru_cache(256)
def spoken(name: str, how: str) -> Signature:
    """
    Return the signature of a function that is known by name alone, with the marshallers that a node told.

    Args:
        name: of the function.
        how: as it stands behind a fingerprint: "" for msgpack, "json", "json/msgpack".

    Raises:
        UsageError: where they are not `is_safe`.
    """
    if not is_safe(how):
        raise UsageError(f"{name}: {how!r} is not spoken here; hint: declare the function with its marshaller")
    tasks, _, reports = (how or "msgpack").partition("/")
    signature = (
        Marshalled.unchecked(name, how=_BUILTIN.how(tasks, reports or None)) if how else Signature.unchecked(name)
    )
    signature.by_name, signature.spoken = False, True
    return signature


def _own(invoker: str | Invoker) -> Invoker | None:
    if isinstance(invoker, str):
        if invoker not in _INVOKERS:
            raise UsageError(f"there is no invoker {invoker!r}; there are: {', '.join(_INVOKERS)}, or one's own")
        return None
    if isinstance(invoker, type) or not isinstance(invoker, Invoker):
        hint = (
            f"make an object of it: {invoker.__qualname__}()" if isinstance(invoker, type) else "see DirectInvoker"
        )
        raise UsageError(f"an invoker has call and correct_return; {invoker!r} is none; hint: {hint}")
    return invoker
