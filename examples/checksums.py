"""
Checksums of all files below a folder, computed by every node of the mesh.

Start a node or two, each in a terminal of its own, and then the program:

    dingo-zmq node examples/checksums.py
    python examples/checksums.py [DIRECTORY]

With --local the same program runs on threads of this process, and needs no node.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import stat
import sys
import sysconfig
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from dingo_zmq import App, Result
from dingo_zmq.errors import DingoError
from dingo_zmq.model import BODY_LIMIT
from dingo_zmq.task import TaskFunction

AHEAD = 256  # files that are open at a time,
AHEAD_BYTES = 64 * 1024 * 1024  # and how large they may be together, but for the last one
LARGEST = BODY_LIMIT - 64 * 1024  # a file has to fit into one task
SOON, PATIENCE = 3.0, 60.0  # seconds to wait for the next answer: until we say why, and until we give up


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a task returns of a file."""

    name: str
    sha256: str
    size: int
    lines: int
    compressed: int


def checksum(name: str, data: bytes) -> Checksum:
    """Look at one file; this is what the nodes do."""
    digest = hashlib.sha256(data).hexdigest()
    return Checksum(name, digest, len(data), data.count(b"\n"), len(zlib.compress(data)))


app = App("mesh")  # for `dingo-zmq node examples/checksums.py`
app.register("checksum", checksum)


# ---------------------------------------------------------------------- files


def standard_library() -> Path:
    """Return where the standard library of this Python lies."""
    return Path(sysconfig.get_path("stdlib"))


def files_below(folder: Path, skip: Sequence[str] = ()) -> list[Path]:
    """Return all regular files below a folder, sorted; folders named in `skip` are left out."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=lambda exc: skipped(exc.filename, exc)):
        folders[:] = sorted(name for name in folders if name not in skip)
        paths = (Path(place, name) for name in sorted(names))
        found.extend(path for path in paths if is_regular(path))
    return found


def is_regular(path: Path) -> bool:
    """Tell whether it is a file, and no link, pipe or device; what has just gone is none."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def read(folder: Path, paths: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file when it is asked for; what cannot be read is told and left out."""
    for path in paths:
        try:
            if path.stat().st_size > LARGEST:
                skipped(path, "too large for one task")
                continue
            data = path.read_bytes()
        except OSError as exc:
            skipped(path, exc)
            continue
        yield os.fsencode(path.relative_to(folder)).decode(errors="backslashreplace"), data


def skipped(path: object, reason: object) -> None:
    """Tell of something that could not be read."""
    text = reason.strerror if isinstance(reason, OSError) else reason
    print(f"skipped {path!s}: {text}".encode(errors="backslashreplace").decode(), file=sys.stderr)


# ---------------------------------------------------------------------- work


def spread(
    task: TaskFunction[[str, bytes], Checksum], files: Iterable[tuple[str, bytes]]
) -> Iterator[Result[Checksum]]:
    """
    Send a task for each file and yield the results in order.

    This is ``task.starmap(files)``, but it yields the `Result`, which knows its node, and looks at bytes too.
    """
    waiting: deque[tuple[Result[Checksum], int]] = deque()
    weight = 0
    for name, data in files:
        waiting.append((task.call(name, data), len(data)))
        weight += len(data)
        while len(waiting) > AHEAD or weight > AHEAD_BYTES:
            result, size = waiting.popleft()
            yield result
            weight -= size
    for result, _ in waiting:
        yield result


def answer_of(result: Result[Checksum]) -> Checksum:
    """Wait for an answer, and say why it does not come."""
    try:
        return result.result(SOON)
    except TimeoutError as exc:
        print(f"waiting: {exc}", file=sys.stderr)
        return result.result(PATIENCE)


def compare(
    task: TaskFunction[[str, bytes], Checksum],
    folder: Path,
    skip: Sequence[str] = (),
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> bool:
    """
    Do all files below a folder with tasks, and again in this process alone; print what came of it.

    Args:
        task: runs `checksum`.
        folder: where the files are.
        skip: names of folders to leave out.
        watch: called after each answer, with the number of answers and of files.

    Returns:
        Whether there were files, and the answers are the same.
    """
    paths = files_below(folder, skip)
    screen = Console(stderr=True)
    nodes: Counter[str] = Counter()
    again = 0

    began = time.perf_counter()
    answers: dict[str, Checksum] = {}
    results = spread(task, read(folder, paths))
    for result in track(results, "with tasks ", len(paths), console=screen):
        answer = answer_of(result)
        answers[answer.name] = answer
        nodes[result.node or "this process"] += 1
        again += result.attempt > 1
        watch(len(answers), len(paths))
    spread_time = time.perf_counter() - began

    began = time.perf_counter()
    files = track(read(folder, paths), "one process", len(paths), console=screen)
    alone = {name: checksum(name, data) for name, data in files}
    alone_time = time.perf_counter() - began

    Console().print(table(answers.values()))
    for node, count in sorted(nodes.items()):
        print(f"{node}: {count:,} files")
    if again:
        print(f"sent more than once: {again:,} of them")
    wrong = sorted(name for name in answers.keys() | alone.keys() if answers.get(name) != alone.get(name))
    print(f"with tasks {spread_time:.2f} s, in one process {alone_time:.2f} s")
    print(f"{len(answers):,} answers, {len(wrong):,} of them differ from those of one process")
    for name in wrong[:10]:
        print(f"  differs: {name}")
    if not answers:
        print(f"there is no file to read in {folder}", file=sys.stderr)
    return bool(answers) and not wrong


def table(answers: Iterable[Checksum]) -> Table:
    """Return the ten largest files and the totals."""
    found = sorted(answers, key=lambda one: (-one.size, one.name))
    shown = Table(title="the ten largest files", show_footer=True)
    shown.add_column("file", f"all {len(found):,}", overflow="ellipsis")
    for name in ("size", "lines", "compressed"):
        shown.add_column(name, f"{sum(getattr(one, name) for one in found):,}", justify="right", no_wrap=True)
    shown.add_column("sha256", no_wrap=True)
    for one in found[:10]:
        numbers = (f"{number:,}" for number in (one.size, one.lines, one.compressed))
        shown.add_row(escape(one.name), *numbers, one.sha256[:8])
    return shown


def main() -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="Checksums of all files below a folder, by every node there is.")
    parser.add_argument(
        "directory",
        nargs="?",
        type=Path,
        help="default: the standard library of this Python",
    )
    parser.add_argument("--mesh", help="name of the mesh")
    parser.add_argument("--local", action="store_true", help="on threads of this process, without any node")
    options = parser.parse_args()
    if options.directory is not None and not options.directory.is_dir():
        parser.error(f"there is no directory {options.directory}")
    try:
        with App("local" if options.local else "mesh", mesh=options.mesh) as here:
            task = here.register("checksum", checksum)
            right = compare(task, *what_to_read(options.directory))
    except (DingoError, TimeoutError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if right else 1


def what_to_read(directory: Path | None) -> tuple[Path, Sequence[str]]:
    """Return the folder, and the names of the folders in it to leave out."""
    return (standard_library(), ("site-packages", "dist-packages")) if directory is None else (directory, ())


if __name__ == "__main__":
    sys.exit(main())
