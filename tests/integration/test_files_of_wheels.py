"""The test files that NumPy, SciPy, pyarrow and others ship in their wheels: counted as an independent reader counts."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

import datacheck

PACKAGES = ("numpy", "scipy", "pyarrow", "h5py", "polars")
SUFFIXES = (".npy", ".npz", ".parquet", ".feather", ".csv", ".csv.gz", ".txt", ".h5", ".hdf5", ".orc", ".avro")
#: Wide tables of text take seconds, and ten of them are alike.
MAX_BYTES = 100_000
CODES = ("DC101", "DC102", "DC103", "DC104")


def shipped() -> Iterator[Any]:
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            continue
        root = Path(found.submodule_search_locations[0])
        for path in sorted(root.rglob("*")):
            if path.name.lower().endswith(SUFFIXES) and path.stat().st_size < MAX_BYTES:
                yield pytest.param(path, id=f"{package}/{path.relative_to(root)}")


def arrays_of(path: Path) -> list[np.ndarray[Any, Any]] | None:
    """The arrays of a file as its own library reads them; None where it does not without unpickling."""
    try:
        loaded = np.load(path, allow_pickle=False)
        return [loaded] if isinstance(loaded, np.ndarray) else [loaded[name] for name in loaded.files]
    except ValueError:
        return None


def count_arrays(arrays: list[np.ndarray[Any, Any]]) -> Counter[str]:
    counts = Counter[str]()
    for array in arrays:
        if array.dtype.kind in "fc":
            parts = (array.real, array.imag) if array.dtype.kind == "c" else (array,)
            for part in parts:
                counts["DC101"] += int(np.isnan(part).sum())
                counts["DC102"] += int(np.isposinf(part).sum())
                counts["DC103"] += int(np.isneginf(part).sum())
    return +counts


def count_table(table: pa.Table) -> Counter[str]:
    counts = Counter[str]()
    for column in table.columns:
        kind = column.type
        if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
            counts["DC104"] += column.null_count
        if pa.types.is_floating(kind):
            counts["DC101"] += pc.sum(pc.is_nan(column)).as_py() or 0
    return +counts


def counted(report: datacheck.Report) -> Counter[str]:
    counts = Counter[str]()
    for finding in report.findings:
        if finding.code in CODES:
            counts[finding.code] += finding.num_violations
    return counts


@pytest.mark.filterwarnings("ignore:Reading `.np:UserWarning")
@pytest.mark.parametrize("path", list(shipped()))
def test_a_shipped_file_is_counted_as_its_own_library_counts_it_or_refused_in_words(path: Path) -> None:
    report = datacheck.scan(path)
    codes = {finding.code for finding in report.findings}
    assert "DC915" not in codes, "a defect of datacheck"
    if path.suffix in (".npy", ".npz"):
        arrays = arrays_of(path)
        if arrays is None:
            assert "DC903" in codes
            return
        expected = count_arrays(arrays)
    elif path.suffix == ".parquet":
        expected = count_table(pq.read_table(path))
    elif path.suffix == ".feather":
        expected = count_table(feather.read_table(path))
    else:
        return
    assert counted(report) == expected
