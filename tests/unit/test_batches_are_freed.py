"""A batch may be most of the memory, so none is kept while the next is read."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_files import write_pipeline

import datacheck
from datacheck.batch import Batch, Column


class _Batches:
    """A source of three batches of an array, which counts how many arrays are alive when it makes the next."""

    def __init__(self) -> None:
        self.alive: list[int] = []

    def read(self, unit: Any) -> Iterator[Batch]:
        made: list[weakref.ref[Any]] = []
        for number in range(3):
            self.alive.append(sum(one() is not None for one in made))
            values = np.ones((100, 100_000), np.int8)
            made.append(weakref.ref(values))
            batch = Batch((Column(None, values),), 100, 100 * number)
            del values
            yield batch
            del batch


def _scan(path: Path, _: Path) -> None:
    datacheck.scan(path, workers=1)


def _run(path: Path, folder: Path) -> None:
    datacheck.run(write_pipeline(folder, {"train": str(path)}), workers=1)


@pytest.mark.parametrize(
    ("work", "reader"),
    [(_scan, "datacheck.jobs.units.scan.get_source"), (_run, "datacheck.jobs.units.label.get_source")],
)
def test_no_batch_is_kept(
    work: Callable[[Path, Path], None], reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.ones((300, 100_000), np.int8))
    source = _Batches()
    monkeypatch.setattr(reader, lambda _: source)
    work(path, tmp_path)
    assert source.alive == [0, 0, 0]
