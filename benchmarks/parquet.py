"""One Parquet file: a full scan with a schema, beside a reader that checks nothing and peers that check the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import datacheck
from benchmarks.bench import Bench, is_installed
from benchmarks.inputs import LIMIT, make_schema, plant, write_parquet
from benchmarks.peers import (
    count_nonfinite_with_polars,
    count_with_duckdb,
    count_with_polars,
    is_valid_in_polars,
    make_dataframely_check,
    make_pandera_check,
)
from benchmarks.results import Section, time_ratio
from benchmarks.timing import Contender, race

__all__ = ["COLUMNS", "ROW_GROUPS", "available_checks", "count_bad", "measure", "plant_every_kind", "rows_each"]

ROW_GROUPS, COLUMNS = 8, 32
_FULL_ROWS = 4_000_000
_OURS = "datacheck.scan, with schema"
_READ = "pyarrow read_table, nothing checked"
_SLOW = "pandas + pandera, all checks"
_COUNTED, _ASKED = "polars streaming, all checks, counted", "polars streaming, all checks, yes or no"
#: Forms that are asked for bounds instead of ``is_finite``: reported; the target is about ``is_finite``.
_BEYOND = (_COUNTED, _ASKED)


def measure(bench: Bench) -> Section:
    """A clean file against everybody, then a dirty one against those that count."""
    rows = rows_each(bench)
    section = Section(
        "parquet",
        f"{ROW_GROUPS * rows:,} rows x {COLUMNS} float32, snappy, {ROW_GROUPS} row groups, page cache warm, all cores",
        [
            f"Everybody opens the file and checks dtype, nulls, NaN, infinities and bounds (-{LIMIT:g} to {LIMIT:g}),",
            "except read_table, which checks nothing, and is_finite, which checks no bounds.",
            "Normal values, written by pyarrow with its defaults.",
        ],
    )
    num_bytes = ROW_GROUPS * rows * COLUMNS * 4
    with bench.room("parquet") as room:
        _measure_clean(write_parquet(room / "clean.parquet", ROW_GROUPS, rows, COLUMNS), num_bytes, section)
        _measure_dirty(room / "dirty.parquet", rows, num_bytes, section)
    return section


def rows_each(bench: Bench) -> int:
    """The rows of one row group."""
    return bench.rows(_FULL_ROWS // ROW_GROUPS, 100)


def count_bad(path: Path, schema: datacheck.Schema) -> int:
    """How many violations datacheck finds; a value that breaks two rules counts twice."""
    return sum(finding.num_violations for finding in datacheck.scan(path, schema).findings)


def plant_every_kind(columns: list[np.ndarray[Any, Any]], share: float) -> int:
    """NaN, +inf, -inf and a value beyond the bounds, each in a column of its own; how many."""
    kinds = (np.nan, np.inf, -np.inf, 2 * LIMIT)
    return sum(plant(column, share, bad) for column, bad in zip(columns, kinds, strict=False))


def _measure_clean(path: Path, num_bytes: int, section: Section) -> None:
    schema = make_schema(COLUMNS)
    peers = available_checks(COLUMNS, section)
    contenders = [
        Contender(_READ, lambda: pq.read_table(path)),
        Contender(_OURS, lambda: datacheck.scan(path, schema).ok, True),
        *(Contender(name, partial(check, path), True) for name, check in peers.items() if name != _SLOW),
    ]
    timings = race(contenders, num_bytes=num_bytes)
    section.add_timings(timings.values())
    section.claims.append(time_ratio(f"{_OURS} / {_READ}", timings[_OURS], timings[_READ], 1.1))
    section.claims += [
        time_ratio(f"{_OURS} / {name}", timings[_OURS], timings[name], None if name in _BEYOND else 1.0)
        for name in peers
        if name != _SLOW
    ]
    # In a race of its own: it takes longer than all the others together.
    again = f"{_OURS}, again"
    contenders = [
        Contender(again, lambda: datacheck.scan(path, schema).ok, True),
        Contender(_SLOW, lambda: peers[_SLOW](path), True),
    ]
    timings = race(contenders, num_bytes=num_bytes)
    section.add_timings(timings.values())
    section.claims.append(time_ratio(f"{_OURS} / {_SLOW}", timings[again], timings[_SLOW], 1.0))
    path.unlink()


def available_checks(num_columns: int, section: Section) -> dict[str, Callable[[Path], bool]]:
    """Whether a file passes, as each peer that is installed sees it; the section notes those that are not."""
    checks: dict[str, Callable[[Path], bool]] = {}
    if is_installed("polars", section):
        checks["polars streaming, is_finite, counted"] = lambda path: (
            count_nonfinite_with_polars(path, num_columns) == 0
        )
        checks[_COUNTED] = lambda path: count_with_polars(path, num_columns) == 0
        checks[_ASKED] = lambda path: is_valid_in_polars(path, num_columns)
    if is_installed("duckdb", section):
        checks["DuckDB, all checks, counted"] = lambda path: count_with_duckdb(path, num_columns) == 0
    if is_installed("dataframely", section):
        checks["dataframely, all checks, yes or no"] = make_dataframely_check(num_columns)
    return {**checks, _SLOW: make_pandera_check(num_columns)}


def _measure_dirty(path: Path, rows: int, num_bytes: int, section: Section) -> None:
    planted = 0

    def fill(columns: list[np.ndarray[Any, Any]]) -> None:
        nonlocal planted
        planted += plant_every_kind(columns, 1e-4)

    write_parquet(path, ROW_GROUPS, rows, COLUMNS, fill)
    schema = make_schema(COLUMNS)
    ours = f"dirty file: {_OURS}"
    peers = {
        f"dirty file: {name}": count
        for library, name, count in (
            ("polars", _COUNTED, count_with_polars),
            ("duckdb", "DuckDB, all checks, counted", count_with_duckdb),
        )
        if is_installed(library)
    }
    contenders = [
        # An infinity is also beyond a bound: two of the four kinds are found under two codes.
        Contender(ours, lambda: count_bad(path, schema), planted + planted // 2),
        *(Contender(name, partial(count, path, COLUMNS), planted) for name, count in peers.items()),
    ]
    timings = race(contenders, num_bytes=num_bytes)
    section.add_timings(timings.values())
    section.claims += [time_ratio(f"{ours} / {peer}", timings[ours], timings[peer]) for peer in peers]
    path.unlink()
