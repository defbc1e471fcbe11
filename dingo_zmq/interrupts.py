"""
Ctrl-C while modules are imported.

A KeyboardInterrupt that comes during an import can be lost, where it hits a callback of the import system or C
code that clears errors: the program then goes on as though nobody had pressed Ctrl-C.  Or it crashes later, as
msgspec does where its import of datetime is cut off.  So it is held back, and raised when the import is over.
"""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["Held", "hold", "is_held", "release"]

_came: list[int] = []


class Held:
    """A ``with`` block in which Ctrl-C is held back: its KeyboardInterrupt is raised at the end."""

    def __enter__(self) -> None:
        self._ours = hold()

    def __exit__(self, *_: object) -> None:
        if self._ours:
            release()


def hold() -> bool:
    """
    Hold Ctrl-C back until `release`.

    Returns:
        Whether that was done: not where it is held back already, in other threads than the main one (which
        have none), and where the program handles or ignores the signal in its own way.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return False
    _came.clear()
    try:
        signal.signal(signal.SIGINT, _note)
    except ValueError:
        return False
    return True


def is_held() -> bool:
    """Whether Ctrl-C is held back."""
    return signal.getsignal(signal.SIGINT) is _note


def release() -> None:
    """
    Let Ctrl-C come again.

    Raises:
        KeyboardInterrupt: where it was pressed meanwhile.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if _came:
        _came.clear()
        raise KeyboardInterrupt


def _note(number: int, _: object) -> None:
    _came.append(number)


def _is_command() -> bool:
    """Whether this process is ``dingo-zmq`` or ``python -m dingo_zmq``, not a program that imports the package."""
    if sys.argv[:1] == ["-m"]:  # while Python looks for the module of that name, which is in this package
        return sys.orig_argv[-len(sys.argv)] == "dingo_zmq"
    return os.path.basename(sys.argv[0]).removesuffix(".exe") == "dingo-zmq" if sys.argv else False


if _is_command():
    hold()  # without a gap until the command line is read, see `dingo_zmq.cli`
