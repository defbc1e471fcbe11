"""
Fuzz what reads bytes of others, with atheris (`make fuzz` installs it).

Each target is a function of `tools.fuzzing.targets` that raises where an input has an effect that it must not
have: another error than the documented one, a decider that loses a task, something that is written otherwise than
it was read.  More than a second of computing or 1 GiB of memory for one input is a finding, too.  What was learned
is kept in `.fuzz`, so that the next run begins there; each finding is a file in `.fuzz/found`.

    python tools/fuzz.py                              all targets in turn, a line for each
    python tools/fuzz.py node --seconds 3600          one of them, for longer
    python tools/fuzz.py node --again .fuzz/found/*   these inputs once more, without atheris
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

NAMES = ("node", "caller", "header", "body", "words", "txt", "key", "guest", "row", "journal")
LEARNED = ROOT / ".fuzz"
FOUND = LEARNED / "found"
SLOW_SECONDS = 1.0
_MEGABYTES, _STUCK_SECONDS, _LONGEST = 1024, 20, 8192
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_LEFT = re.compile(r"Test unit written to (\S+)")


def main() -> int:
    """Do what the command line says, and return 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", choices=NAMES, help="which; all unless told")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each of them")
    parser.add_argument("--again", nargs="+", type=Path, help="inputs to be tried once")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    names = [told.target] if told.target else list(NAMES)
    if told.again:
        return again(names, told.again)
    if told.inside:
        return inside(names[0], told.inside, told.seconds)
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("there is no atheris in this Python; hint: make fuzz", file=sys.stderr)
        return 2
    print("target   executions seconds new findings", flush=True)
    news = [run(name, told.seconds) for name in names]
    return int(any(news))


def again(names: list[str], files: list[Path]) -> int:
    """Try inputs without atheris, and let the first error through."""
    from tools.fuzzing.targets import TARGETS, clean

    try:
        for name in names:
            for file in files:
                TARGETS[name].check(file.read_bytes())
                print(f"{name}: nothing is wrong with {file}")
    finally:
        clean()
    return 0


# ------------------------------------------------------------------------------ one target, from outside


def run(name: str, seconds: float) -> int:
    """Run a target in a process of its own, print its line, and return how many findings are new."""
    FOUND.mkdir(parents=True, exist_ok=True)
    before, began = set(FOUND.iterdir()), time.monotonic()
    memory = Path("/dev/shm")  # noqa: S108 (a folder of our own in it)
    with tempfile.TemporaryDirectory(prefix="dingo-fuzz-", dir=memory if memory.is_dir() else None) as folder:
        words = [sys.executable, __file__, name, "--seconds", str(seconds), "--inside", folder]
        env = {**os.environ, "TMPDIR": folder}
        ran = subprocess.run(
            words, capture_output=True, text=True, errors="replace", cwd=ROOT, env=env, check=False
        )
        for file in _LEFT.findall(ran.stderr):  # it took too long, too much memory, or the interpreter with it
            left = Path(file)
            shutil.move(left, FOUND / f"{name}-{left.name}")
    executed = _EXECUTED.search(ran.stderr)
    news = sorted(set(FOUND.iterdir()) - before)
    count = f"{int(executed[1]):,}" if executed else "?"
    print(f"{name:8} {count:>10} {time.monotonic() - began:7.0f} {len(news):>12}", flush=True)
    for finding in news:
        print(f"  try: python tools/fuzz.py {name} --again {finding.relative_to(ROOT)}", flush=True)
    if not executed and not news:
        print(ran.stderr[-2000:], file=sys.stderr)
        return 1
    return len(news)


# ------------------------------------------------------------------------------ and from inside


def inside(name: str, folder: Path, seconds: float) -> int:
    """Fuzz until time is over; the process ends in here."""
    import atheris

    with atheris.instrument_imports(include=["dingo_zmq"], enable_loader_override=False):
        from tools.fuzzing.targets import TARGETS
    target = TARGETS[name]
    seeds, learned = folder / "seeds", LEARNED / name
    seeds.mkdir()
    learned.mkdir(parents=True, exist_ok=True)
    good = target.seeds()
    for number, seed in enumerate(good):
        (seeds / str(number)).write_bytes(seed)

    def look(data: bytes) -> None:
        began = time.process_time()
        try:
            target.check(data)
        except Exception as exc:
            note(name, data, where(exc))
        if time.process_time() - began > SLOW_SECONDS:
            note(name, data, "slow")

    def change(data: bytes, most: int, seed: int) -> bytes:
        dice = Random(seed)
        if dice.random() < 0.3 or not data:
            return bytes(atheris.Mutate(data, most))
        return target.bend(data, dice)[:most]

    limits = [f"-rss_limit_mb={_MEGABYTES}", f"-timeout={_STUCK_SECONDS}", f"-max_len={_LONGEST}"]
    ends = [f"-max_total_time={max(1, round(seconds))}", "-print_final_stats=1", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *limits, *ends, str(learned), str(seeds)], look, custom_mutator=change)
    atheris.Fuzz()
    return 0


def where(exc: Exception) -> str:
    """Return what distinguishes a finding from others: its kind, and the line of ours that it comes from."""
    frames = traceback.extract_tb(exc.__traceback__)
    ours = [frame for frame in frames if "/tools/" in frame.filename or "/dingo_zmq/" in frame.filename]
    last = (ours or frames)[-1]
    return f"{type(exc).__name__} {last.filename}:{last.lineno}"


def note(name: str, data: bytes, what: str) -> None:
    """Keep an input that was found, unless one of the same kind is there."""
    file = FOUND / f"{name}-{hashlib.sha256(what.encode()).hexdigest()[:12]}"
    if not file.exists():
        file.write_bytes(data)
        print(f"found: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
