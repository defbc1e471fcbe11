"""The properties that `make fuzz` looks for, with a few inputs each, the same at every run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools import fuzz
from tools.fuzzing.mutate import BETWEEN, bend
from tools.fuzzing.targets import TARGETS, clean

EXAMPLES = {"caller": 150, "node": 300, "row": 150, "journal": 60}
"""of the slower ones"""


@pytest.fixture(scope="module", autouse=True)
def folder() -> Iterator[None]:
    yield
    clean()


def few(name: str) -> settings:
    """The same inputs each time, as many as take half a second."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=EXAMPLES.get(name, 500), derandomize=True, database=None, suppress_health_check=slow
    )


@pytest.mark.parametrize("name", TARGETS)
def test_good_inputs(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    for seed in seeds:
        target.check(seed)
    assert len(set(seeds)) == len(seeds) > 1


@pytest.mark.parametrize("name", TARGETS)
def test_good_inputs_that_are_bent(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()

    @few(name)
    @given(st.sampled_from(seeds), st.integers(0, 2**32), st.integers(1, 4))
    def check(data: bytes, seed: int, times: int) -> None:
        dice = Random(seed)
        for _ in range(times):
            data = target.bend(data, dice)
        target.check(data)

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_anything_at_all(name: str) -> None:
    target = TARGETS[name]

    @few(name)
    @given(st.lists(st.binary(max_size=60), max_size=3).map(BETWEEN.join))
    def check(data: bytes) -> None:
        target.check(data)

    check()


@pytest.mark.parametrize("name", ["node", "caller"])
def test_bent_messages_are_mostly_messages(name: str) -> None:
    """Else nothing of what deciders make of them would be looked at."""
    from dingo_zmq.errors import PeerError
    from dingo_zmq.protocol import wire

    decode = {"node": wire.decode_caller, "caller": wire.decode_node}[name]
    dice, read, whole = Random(1), 0, TARGETS[name].seeds()[0]
    for _ in range(500):
        for part in bend(whole, dice).split(BETWEEN):
            try:
                read += bool(decode([part[1:]]))
            except PeerError:
                continue
    assert read > 500 * 6


def test_every_target_can_be_named() -> None:
    assert tuple(TARGETS) == fuzz.NAMES


def test_a_finding_is_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "FOUND", tmp_path)
    for data in (b"one", b"another"):
        with pytest.raises(AssertionError) as caught:
            raise AssertionError("found")
        fuzz.note("node", data, "the same")
    assert fuzz.where(caught.value).startswith(f"AssertionError {__file__}:")
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes() == b"one"
