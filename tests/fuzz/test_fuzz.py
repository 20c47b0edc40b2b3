"""Thirty seconds of fuzzing with a fixed seed, and every file that fuzzing found before. ``make fuzz`` runs for hours."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz import FOUND, Child, fuzz
from mutate import mutate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the memory of child processes is bounded on Linux")
KNOWN = sorted(path for path in FOUND.glob("*") if path.suffix != ".md")


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    started = Child()
    yield started
    started.close()


@pytest.mark.parametrize("path", KNOWN, ids=lambda path: path.name)
def test_what_fuzzing_found_once_stays_fixed(path: Path, child: Child) -> None:
    assert child.problem_of(path) is None


def test_mutants_of_every_format_are_read_or_refused(tmp_path: Path) -> None:
    counts, problems = fuzz(30, 11, tmp_path)
    assert not problems
    assert len(counts) > 5


def test_a_crash_is_noticed(tmp_path: Path, child: Child) -> None:
    path = tmp_path / "x.unknown\x00"
    assert child.problem_of(path) is not None


def test_the_same_seed_makes_the_same_mutants() -> None:
    content = bytes(range(256)) * 8
    mutants = [mutate(content, random.Random(3)) for _ in range(2)]
    assert mutants[0] == mutants[1] != content
