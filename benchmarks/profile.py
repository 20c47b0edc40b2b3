"""Inferring a schema and comparing data sets, beside a plain scan of the same data."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import datacheck
from benchmarks.bench import Bench
from benchmarks.inputs import random_columns
from benchmarks.results import Section, time_ratio
from benchmarks.timing import Contender, race

__all__ = ["measure"]

#: Of the issue: infer and compare within twice a scan of the same data.
_TARGET = 2.0
_PARTS = {"train": 0.75, "test": 0.25}
_FEATURES = 256


def measure(bench: Bench) -> Section:
    """An array, a table of floats, a mixed table, and the example flights where they are."""
    section = Section(
        "profile",
        "datacheck.infer and datacheck.compare beside a scan without schema of the same files, page cache warm",
        [
            "compare is of a training part (three quarters) with a test part that shares no row with it; the scan reads both.",
            "compare, no drift: leaked rows and new categories alone. SciPy is imported before the first round.",
            "array: float32, 256 values per row. floats: Parquet, 32 columns of float32.",
            "mixed: Parquet, 12 columns of float32, identifiers, codes, texts of few kinds, and texts that mostly differ.",
        ],
    )
    with bench.room("profile") as room:
        _measure_pair("array", _write_arrays(room, bench.rows(1 << 20, 4096)), section)
        _measure_pair("floats", _write_tables(room / "floats", bench.rows(4_000_000, 4096), _floats), section)
        _measure_pair("mixed", _write_tables(room / "mixed", bench.rows(4_000_000, 4096), _mixed), section)
    flights = Path("data") / "flights"
    if flights.is_dir():
        _measure_pair("flights", (flights / "train", flights / "test"), section)
    else:
        section.notes.append("flights: not there; make them with python pipelines/make_data.py")
    return section


def _write_arrays(room: Path, num_rows: int) -> tuple[Path, Path]:
    paths = []
    for seed, (part, share) in enumerate(_PARTS.items()):
        path = room / f"{part}.npy"
        generator = np.random.default_rng(seed)
        shape = (round(num_rows * share), _FEATURES)
        array = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for start in range(0, shape[0], 4096):
            block = array[start : start + 4096]
            block[:] = generator.standard_normal(block.shape, np.float32)
        array.flush()
        paths.append(path)
    return paths[0], paths[1]


def _floats(num_rows: int, seed: int) -> dict[str, Any]:
    return {f"f{index:02d}": values for index, values in enumerate(random_columns(num_rows, 32, seed))}


def _mixed(num_rows: int, seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    numbers = {f"f{index:02d}": values for index, values in enumerate(random_columns(num_rows, 12, seed))}
    return {
        **numbers,
        "id": np.arange(seed * 10**8, seed * 10**8 + num_rows),
        "code": generator.integers(0, 50, num_rows),
        "kind": pa.array(generator.choice(["north", "east", "south", "west"], num_rows)),
        "name": pa.array(generator.integers(0, 10**9, num_rows)).cast(pa.string()),
    }


def _write_tables(folder: Path, num_rows: int, make: Any) -> tuple[Path, Path]:
    """Row groups of 100,000 rows."""
    folder.mkdir()
    paths = []
    for number, (part, share) in enumerate(_PARTS.items()):
        path = folder / f"{part}.parquet"
        left, group = round(num_rows * share), 0
        writer: pq.ParquetWriter | None = None
        while left:
            rows = min(left, 100_000)
            table = pa.table(make(rows, 1000 * number + group))
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            left, group = left - rows, group + 1
        if writer is not None:
            writer.close()
        paths.append(path)
    return paths[0], paths[1]


def _measure_pair(name: str, paths: tuple[Path, Path], section: Section) -> None:
    train, test = paths
    scan, infer, compare = f"{name}: scan", f"{name}: infer", f"{name}: compare"
    quick = f"{name}: compare, no drift"
    num_rows = datacheck.scan([train, test]).num_rows
    num_bytes = sum(path.stat().st_size for root in paths for path in ([root] if root.is_file() else root.iterdir()))
    contenders = [
        Contender(scan, lambda: datacheck.scan([train, test]).num_rows, num_rows),
        Contender(infer, lambda: len(datacheck.infer([train, test]).fields) > 0, True),
        Contender(compare, partial(_no_leak, train, test, drift=True), True),
        Contender(quick, partial(_no_leak, train, test, drift=False), True),
    ]
    timings = race(contenders, num_bytes=num_bytes, num_rows=num_rows)
    section.add_timings(timings.values())
    section.claims += [
        time_ratio(f"{ours} / scan", timings[ours], timings[scan], _TARGET) for ours in (infer, compare, quick)
    ]


def _no_leak(train: Path, test: Path, *, drift: bool) -> bool:
    return all(finding.code != "DC310" for finding in datacheck.compare(train, test, drift=drift).findings)
