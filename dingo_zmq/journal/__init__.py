"""
The journal of a caller: which of its tasks are not settled, or not yet out of the program's hands.

`file` is the SQLite file, `writer` the thread that writes to it, `rows` what is in it.  A task is in it from
before `call` returns until the program has let go of its result.
"""

from dingo_zmq.journal.file import BODY_MOST, JournalFile
from dingo_zmq.journal.rows import Batch, Call, Dead, End, Hold, Open, State
from dingo_zmq.journal.writer import Journal

__all__ = ["BODY_MOST", "Batch", "Call", "Dead", "End", "Hold", "Journal", "JournalFile", "Open", "State"]
