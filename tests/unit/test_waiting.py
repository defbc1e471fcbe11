"""What threads wait for, and that Ctrl-C leaves no lock behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from dingo_zmq.waiting import Answer, Condition, Event
from tests.support import PATIENCE

STORM = """
import signal, sys, threading
from dingo_zmq.waiting import Condition

main, over, condition = threading.get_ident(), threading.Event(), Condition()

def ring():
    while not over.wait(0.0005):
        signal.pthread_kill(main, signal.SIGINT)

def is_free():
    got = []
    other = threading.Thread(target=lambda: got.append(condition.acquire(timeout=5)) or condition.release())
    other.start()
    other.join()
    return got == [True]

came, locked, ringing = 0, 0, threading.Thread(target=ring)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
ringing.start()
while came < 300:
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        while True:
            for _ in range(50):
                with condition:
                    pass
            with condition:
                condition.wait(1e-6)
    except KeyboardInterrupt:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        came += 1
        locked += not is_free()
        if locked:
            break
over.set()
ringing.join()
print(came, locked)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs pthread_kill")
def test_ctrl_c_leaves_no_condition_locked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STORM], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.stdout, done.returncode) == ("300 0\n", 0), done.stderr


def test_a_condition_wakes_those_who_wait() -> None:
    condition, woken, waiting = Condition(), list[bool](), threading.Semaphore(0)

    def wait() -> None:
        with condition:
            waiting.release()
            woken.append(condition.wait(PATIENCE))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
        assert waiting.acquire(timeout=PATIENCE)
    with condition:  # each waits by now, or has the lock no more
        condition.notify()
    with condition:
        condition.notify_all()
        assert not condition.wait(0.001)
    for thread in threads:
        thread.join(PATIENCE)
    assert woken == [True] * 3
    assert not condition._waiters


def test_an_event_and_an_answer() -> None:
    event = Event()
    assert not event.wait(0.001)
    event.set()
    assert event.wait()
    answer = Answer[int]()
    with pytest.raises(TimeoutError):
        answer.get(0.001)
    answer.give(5)
    assert (answer.done(), answer.get(PATIENCE)) == (True, 5)
    answer = Answer[int]()
    answer.fail(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        answer.get(PATIENCE)
