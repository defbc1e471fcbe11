"""``python -m dingo_zmq`` is ``dingo-zmq``."""

from __future__ import annotations

from dingo_zmq.cli import main

if __name__ == "__main__":
    main(prog_name="dingo-zmq")
