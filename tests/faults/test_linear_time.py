"""Inputs of very many small parts: four times as many take about four times as long, not sixteen times."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import datacheck

#: Four times the work, quadratic in time, takes sixteen times as long.
MAX_RATIO = 10


def _hdf5_arrays(path: Path, number: int) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for index in range(number):
            file.create_dataset(f"x{index}", data=np.arange(3, dtype="f4"))


def _hdf5_references(path: Path, number: int) -> None:
    """Datasets whose values cannot be checked."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for index in range(number):
            file.create_dataset(f"x{index}", (2,), h5py.ref_dtype)


def _hdf5_every_other_chunk(path: Path, number: int) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        values = file.create_dataset("x", (2 * number,), "f4", chunks=(1,))
        for index in range(0, 2 * number, 2):
            values[index] = 1


def _npz_of_texts(path: Path, number: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(number):
            archive.writestr(f"{index}.txt", b"x")


def _scan(path: Path) -> object:
    return datacheck.scan(path, workers=1)


def _compare(path: Path) -> object:
    pytest.importorskip("scipy")
    return datacheck.compare(path, path, workers=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "suffix", "number", "work"),
    [
        pytest.param(_hdf5_every_other_chunk, ".h5", 2000, _scan, id="HDF5, chunks that were never written"),
        pytest.param(_hdf5_references, ".h5", 400, _scan, id="HDF5, datasets that cannot be checked"),
        pytest.param(_npz_of_texts, ".npz", 500, _scan, id="NPZ, members that are no arrays"),
        pytest.param(_hdf5_arrays, ".h5", 200, _compare, id="HDF5, datasets to compare"),
    ],
)
def test_time_grows_with_the_number_of_parts(
    write: Callable[[Path, int], None],
    suffix: str,
    number: int,
    work: Callable[[Path], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The process whose time is measured reads the file.
    monkeypatch.setattr("datacheck.jobs.executors.isolated.may_crash", lambda _: False)
    few, many = tmp_path / f"few{suffix}", tmp_path / f"many{suffix}"
    write(few, number)
    write(many, 4 * number)
    work(few)
    # Whatever else runs on the machine can slow one of the two down.
    assert any(_seconds(work, many) / _seconds(work, few) < MAX_RATIO for _ in range(2))


def _seconds(work: Callable[[Path], object], path: Path) -> float:
    started = time.process_time()
    work(path)
    return time.process_time() - started
