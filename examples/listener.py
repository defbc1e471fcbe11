"""
A listener: it shows what happens in a mesh while it happens, until Ctrl-C.

    python examples/listener.py
    python examples/listener.py debug

Start it, then start and stop nodes in another terminal, such as `python examples/worker.py`.  A program that also
calls hears in the same way of tasks that are sent again, of reports that come twice, and of handlers that raise.
"""

from __future__ import annotations

import contextlib
import sys
import time

from dingo_zmq import App, Event, Level

app = App("mesh")


def line(event: Event) -> str:
    """Return an event in one line."""
    when = time.strftime("%H:%M:%S", time.localtime(event.time))
    return f"{when} {event.level.name.lower():7} {event.origin}: {event.code}: {event.text}"


def main(level: str = "info") -> None:
    """Print each event of this level or above."""
    with app, app.listen(level=Level[level.upper()]) as stream:
        print("listening; Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            for event in stream:
                print(line(event), flush=True)
        print(f"{stream.dropped} events were dropped, since printing was too slow for them")


if __name__ == "__main__":
    main(*sys.argv[1:])
