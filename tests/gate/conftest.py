"""Fixtures for tests of the gate: an empty folder with its own cache."""

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
    """The current folder: the root of an empty repository."""
    work = tmp_path / "work"
    (work / ".git").mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return work


class Done(NamedTuple):
    """The result of a command: exit code, stdout and stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs ``datacheck`` in this process."""

    def with_arguments(*arguments: str) -> Done:
        capsys.readouterr()
        return Done(main(arguments), *capsys.readouterr())

    return with_arguments


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files settle after one tick of the Linux file clock, which is at most 10 ms."""
    monkeypatch.setattr(change_detection, "_FINE_TICK", 12_000_000)


@pytest.fixture
def save(folder: Path) -> Callable[..., Path]:
    """Writes an ``.npy`` file of numbers, and creates its folders."""

    def write(name: str, values: Any = (1.0, 2.0)) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.asarray(values, np.float32))
        return path

    return write


@pytest.fixture
def write(folder: Path) -> Callable[[str, str], Path]:
    """Writes a text file, and creates its folders."""

    def to(name: str, text: str) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path)
        return path

    return to
