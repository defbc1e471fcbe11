"""
An instrument that one node owns: a simulated source meter, swept from elsewhere and watched meanwhile.

Three terminals, the first one at the machine that the instrument is plugged into:

    dingo-zmq node examples/instrument.py --name bench --tag psu
    dingo-zmq watch
    python examples/instrument.py

The functions of the node are methods of one object, so they share what it knows: whether it is connected, the
range, the last reading.  `scan` has one worker, so nobody else's scan gets in between; `status` has others, and
answers while a scan runs.  That holds within one process: leave --processes alone for an instrument.

The caller asks for a node with the tag, wherever it is, hears of each point as it is measured, and with
Ctrl-C the scan ends at the next point.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field, replace

from dingo_zmq import App, Result, current_task
from dingo_zmq.errors import DingoError
from dingo_zmq.model import Status

RANGES = (1e-3, 1e-2, 1e-1)  # amperes
SOON = 2.0  # seconds without news, after which we say why


@dataclass(frozen=True, slots=True)
class Reading:
    """One point of a scan: volts, amperes, and the range in which the current was measured."""

    voltage: float
    current: float
    range: float


@dataclass(frozen=True, slots=True)
class State:
    """What the instrument says of itself."""

    connected: bool = False
    range: float = RANGES[0]
    scans: int = 0
    readings: int = 0
    last: Reading | None = None


@dataclass
class SourceMeter:
    """
    Applies a voltage and measures the current; this one has a resistor at its terminals.

    Making it touches no hardware, since callers import this file too: it connects where its first scan runs.

    Args:
        resistance: of the resistor, ohms.
        state: replaced as a whole with each change, so that any thread may look at it.
    """

    resistance: float = 220.0
    state: State = field(default_factory=State)

    def scan(self, start: float, stop: float, points: int = 11, dwell: float = 0.1) -> list[Reading]:
        """
        Apply voltages from start to stop one after the other, and measure the current at each.

        Args:
            start: volts.
            stop: volts.
            points: how many, at least 2.
            dwell: seconds that a point takes.
        """
        if points < 2:
            raise ValueError(f"a scan has at least 2 points, not {points}")
        task = current_task()
        self.state = replace(self.state, connected=True, scans=self.state.scans + 1)
        readings: list[Reading] = []
        for number in range(points):
            if task.cancelled:  # nobody waits for the rest
                break
            time.sleep(dwell)
            reading = self._measure(start + (stop - start) * number / (points - 1))
            readings.append(reading)
            task.progress(len(readings) / points, f"{reading.voltage:.2f} V  {reading.current * 1e3:.3f} mA")
        return readings

    def status(self) -> State:
        """Tell how it is, also during a scan."""
        return self.state

    def _measure(self, voltage: float) -> Reading:
        current = voltage / self.resistance
        fitting = next((each for each in RANGES if abs(current) <= each), RANGES[-1])
        current = max(-fitting, min(fitting, round(current, 6)))
        reading = Reading(voltage, current, fitting)
        self.state = replace(self.state, range=fitting, readings=self.state.readings + 1, last=reading)
        return reading


meter = SourceMeter()
app = App("mesh")
scan = app.register("scan", meter.scan)
status = app.register("status", meter.status)
app.allocate("scan", 1)


# ---------------------------------------------------------------------- the caller


def follow(result: Result[list[Reading]]) -> list[Reading]:
    """Print how far a scan is, or why it does not begin, and return what it measured."""
    reports = result.reports(SOON)
    while True:
        try:
            report = next(reports)
        except StopIteration:
            return result.result()
        except TimeoutError as exc:
            print(f"waiting: {exc}", file=sys.stderr)
            continue
        if report.status is Status.PROGRESS and report.value is not None:
            fraction, note = report.value
            print(f"{fraction:4.0%}  {note}", flush=True)


def main() -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="A scan with the instrument, wherever its node is.")
    parser.add_argument("--start", type=float, default=0.0, help="volts")
    parser.add_argument("--stop", type=float, default=5.0, help="volts")
    parser.add_argument("--points", type=int, default=11)
    options = parser.parse_args()
    try:
        with app:
            there = scan.options(needs=["psu"], monitor_progress=True)
            result = there.call(options.start, options.stop, options.points)
            readings = follow(result)
            state = status.options(node=result.node).call().result(60)
    except (DingoError, TimeoutError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    last = readings[-1]
    print(f"{len(readings)} points by {result.node}; {last.voltage:.2f} V drives {last.current * 1e3:.3f} mA")
    print(f"the instrument: range {state.range * 1e3:g} mA, {state.scans} scans, {state.readings} readings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
