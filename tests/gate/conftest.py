"""A folder to work in for each test of the gate, with nothing in it and a cache of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from datacheck.cli.app import main
from datacheck.storage import change_detection


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: the root of a repository, with no file in it."""
    work = tmp_path / "work"
    (work / ".git").mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return work


class Done(NamedTuple):
    """What a command left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs ``datacheck`` in this process, with the arguments given."""

    def with_arguments(*arguments: str) -> Done:
        capsys.readouterr()
        return Done(main(arguments), *capsys.readouterr())

    return with_arguments


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are settled after one tick of the clocks that Linux stamps files by, which is at most 10 ms."""
    monkeypatch.setattr(change_detection, "_FINE_TICK", 12_000_000)


@pytest.fixture
def save(folder: Path) -> Callable[..., Path]:
    """Writes an ``.npy`` of numbers, with the folders that it needs."""

    def write(name: str, values: Any = (1.0, 2.0)) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.asarray(values, np.float32))
        return path

    return write


@pytest.fixture
def write(folder: Path) -> Callable[[str, str], Path]:
    """Writes a text file, with the folders that it needs."""

    def to(name: str, text: str) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path)
        return path

    return to
