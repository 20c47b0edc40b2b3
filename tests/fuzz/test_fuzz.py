"""Thirty seconds of fuzzing with a fixed seed, and every file that fuzzing found before. ``make fuzz`` runs for hours."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz import FOUND, Child, Mutants, fuzz_formats, fuzz_own_files
from mutate import mutate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the memory of child processes is bounded on Linux")
KNOWN = sorted(path for path in FOUND.glob("*") if path.suffix != ".md")


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    started = Child()
    yield started
    started.close()


def test_what_fuzzing_found_once_stays_fixed(child: Child) -> None:
    assert {path.name: problem for path in KNOWN if (problem := child.problem_of(path))} == {}


@pytest.mark.slow
def test_mutants_of_every_format_are_read_or_refused(tmp_path: Path) -> None:
    mutants = Mutants(11)
    fuzz_formats(20, tmp_path, mutants)
    assert not mutants.problems
    assert len(mutants.counts) > 5


@pytest.mark.slow
def test_mutants_of_our_own_files_are_refused_or_make_no_difference(tmp_path: Path) -> None:
    mutants = Mutants(12)
    fuzz_own_files(10, tmp_path, mutants)
    assert not mutants.problems
    assert len(mutants.counts) > 5


def test_a_crash_is_noticed(tmp_path: Path, child: Child) -> None:
    problem = child.problem_of([str(tmp_path / "no such folder"), "scan"])
    assert problem is not None
    assert "FileNotFoundError" in problem


def test_the_same_seed_makes_the_same_mutants() -> None:
    content = bytes(range(256)) * 8
    mutants = [mutate(content, random.Random(3)) for _ in range(2)]
    assert mutants[0] == mutants[1] != content
