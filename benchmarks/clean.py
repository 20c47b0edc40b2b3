"""A dirty Parquet file, cleaned and written again, beside pyarrow that reads and writes it and does nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import datacheck
from benchmarks.bench import Bench
from benchmarks.inputs import plant, write_parquet
from benchmarks.jobs import CONSTANT, MEAN, clean_with, run_pipeline, write_pipeline
from benchmarks.parquet import COLUMNS, ROW_GROUPS, rows_each
from benchmarks.results import Section, time_ratio
from benchmarks.timing import Contender, race

__all__ = ["copy_with_pyarrow", "measure", "plant_for_cleaning"]

_DEFAULT, _PLAIN = "pyarrow read + write, defaults", "pyarrow read + write, use_dictionary=False"
_SYNCED = "pyarrow read + write, use_dictionary=False, synced"
_CONSTANT = "datacheck run, constant"
_GIVEN, _RUN = "datacheck clean, mean, learned before", "datacheck run, mean, learned first"


def measure(bench: Bench) -> Section:
    """One file, three jobs, three ways to copy it."""
    rows = rows_each(bench)
    num_rows = ROW_GROUPS * rows
    section = Section(
        "clean",
        f"{num_rows:,} rows x {COLUMNS} float32, snappy, {ROW_GROUPS} row groups: check, impute NaN, drop rows with inf, write",
        [
            "datacheck checks a schema, repairs, checks again, writes snappy parts, syncs them to the disk and publishes",
            "them with a manifest. pyarrow reads the table and writes it, snappy, same row groups; it syncs only where said.",
            "Learned first: two passes over the data. 0.01 percent of the values of half the columns are NaN.",
        ],
    )
    with bench.room("clean") as room:
        path, num_dropped = _make(room / "dirty.parquet", rows)
        constant = write_pipeline(room / "constant.yaml", path, room / "constant", CONSTANT, COLUMNS)
        mean = write_pipeline(room / "mean.yaml", path, room / "mean", MEAN, COLUMNS)
        statistics = datacheck.fit(mean)
        expected = (num_rows - num_dropped, num_dropped)
        copy = room / "copy.parquet"
        contenders = [
            Contender(_DEFAULT, lambda: copy_with_pyarrow(path, copy, rows)),
            Contender(_PLAIN, lambda: copy_with_pyarrow(path, copy, rows, use_dictionary=False)),
            Contender(_SYNCED, lambda: copy_with_pyarrow(path, copy, rows, sync=True, use_dictionary=False)),
            Contender(_CONSTANT, lambda: run_pipeline(constant), expected, lambda: _remove(constant.output)),
            Contender(_GIVEN, lambda: clean_with(mean, statistics), expected, lambda: _remove(mean.output)),
            Contender(_RUN, lambda: run_pipeline(mean), expected, lambda: _remove(mean.output)),
        ]
        timings = race(contenders, num_bytes=num_rows * COLUMNS * 4)
    section.add_timings(timings.values())
    for ours in (_CONSTANT, _GIVEN, _RUN):
        section.claims.append(time_ratio(f"{ours} / {_DEFAULT}", timings[ours], timings[_DEFAULT], 1.3))
    for peer in (_PLAIN, _SYNCED):
        section.claims += [
            time_ratio(f"{ours} / {peer}", timings[ours], timings[peer]) for ours in (_CONSTANT, _GIVEN, _RUN)
        ]
    return section


def copy_with_pyarrow(path: Path, copy: Path, row_group_size: int, *, sync: bool = False, **options: Any) -> None:
    """Read a table and write it, with snappy."""
    pq.write_table(pq.read_table(path), copy, compression="snappy", row_group_size=row_group_size, **options)
    if sync:
        with copy.open("rb") as file:
            os.fsync(file.fileno())


def plant_for_cleaning(columns: list[np.ndarray[Any, Any]], share: float) -> int:
    """NaN in every other column, an infinity in a few rows of the first; how many rows those are."""
    for index, column in enumerate(columns[1::2]):
        plant(column, share, np.nan, seed=index)
    return plant(columns[0], share / 10, np.inf)


def _make(path: Path, rows: int) -> tuple[Path, int]:
    num_dropped = 0

    def fill(columns: list[np.ndarray[Any, Any]]) -> None:
        nonlocal num_dropped
        num_dropped += plant_for_cleaning(columns, 1e-4)

    return write_parquet(path, ROW_GROUPS, rows, COLUMNS, fill), num_dropped


def _remove(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
