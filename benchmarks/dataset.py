"""Rules about the dataset as a whole: beside a plain scan, and peers that say the same of all rows at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import datacheck
from benchmarks.bench import Bench, is_installed
from benchmarks.inputs import column_names, random_columns
from benchmarks.results import Section, time_ratio
from benchmarks.timing import Contender, race

__all__ = ["RULES", "is_ok", "measure", "peers_of", "write_panel"]

COLUMNS, ROW_GROUPS, SERIES = 16, 8, 1000
_FULL_ROWS = 1_000_000
_PLAIN = "datacheck.scan, no rule"


def _of_all(**rule: Any) -> datacheck.Schema:
    return datacheck.Schema(fields=dict.fromkeys(column_names(COLUMNS), rule))


#: The rules: of every column of floats, of one of categories, of neighbouring rows, of keys. All of them hold.
RULES: dict[str, datacheck.Schema] = {
    "mean": _of_all(mean={"ge": -1, "le": 1}),
    "std": _of_all(std={"ge": 0.5, "le": 2}),
    "quantile": _of_all(quantiles={0.5: {"ge": -1, "le": 1}}),
    "share": _of_all(share={"zero": 0.5}),
    "min_distinct": _of_all(min_distinct=2),
    "max_distinct": datacheck.Schema(fields={"kind": {"max_distinct": 10}}),
    "step": datacheck.Schema(sequence={"by": "series", "on": "time", "step": 1}),
    "determines": datacheck.Schema(determines={"series": "kind"}),
}
#: The most of a plain scan that the rules of the dataset as a whole may take.
_TARGETS = dict.fromkeys(("mean", "std", "quantile", "share", "min_distinct", "max_distinct"), 1.5)


def measure(bench: Bench) -> Section:
    """Every rule on a panel of series."""
    rows = bench.rows(_FULL_ROWS, SERIES * ROW_GROUPS)
    rows -= rows % SERIES
    section = Section(
        "dataset",
        f"{rows:,} rows x {COLUMNS} float32, a key, a time and a category, {ROW_GROUPS} row groups, page cache warm",
        [
            "Processor time of all threads of one process.",
            f"{SERIES:,} series, one after the other. Every rule holds.",
            "The plain scan looks for NaN, infinities and nulls; so does the scan with a rule. The peers check only the rule.",
        ],
    )
    with bench.room("dataset") as room:
        path = write_panel(room / "panel.parquet", rows)
        contenders = [Contender(_PLAIN, partial(is_ok, path, None), True)]
        for rule, schema in RULES.items():
            peers = peers_of(rule, section if rule == "mean" else None)
            contenders.append(Contender(f"datacheck.scan, {rule}", partial(is_ok, path, schema), True))
            contenders += [Contender(f"{name}, {rule}", partial(check, path), True) for name, check in peers.items()]
        times = race(contenders, clock=time.process_time)
    section.add_timings(times.values())
    for rule in RULES:
        ours = times[f"datacheck.scan, {rule}"]
        section.claims.append(time_ratio(f"{ours.name} / {_PLAIN}", ours, times[_PLAIN], _TARGETS.get(rule)))
        others = [found for name, found in times.items() if name.endswith(f", {rule}") and found is not ours]
        section.claims += [time_ratio(f"{ours.name} / {other.name}", ours, other) for other in others]
    return section


def write_panel(path: Path, num_rows: int) -> Path:
    """Series of equal lengths, one after the other, of which each has one category."""
    series, time = np.divmod(np.arange(num_rows), max(1, num_rows // SERIES))
    columns: dict[str, Any] = dict(zip(column_names(COLUMNS), random_columns(num_rows, COLUMNS), strict=True))
    columns |= {"series": series, "time": time, "kind": pa.array(np.array(["a", "b", "c"])[series % 3])}
    pq.write_table(pa.table(columns), path, row_group_size=-(-num_rows // ROW_GROUPS))
    return path


def is_ok(path: Path, schema: datacheck.Schema | None) -> bool:
    """Whether the dataset passes."""
    return datacheck.scan(path, schema, workers=1).ok


def peers_of(rule: str, section: Section | None = None) -> dict[str, Callable[[Path], bool]]:
    """How each peer that is installed says whether a rule holds."""
    peers: dict[str, Callable[[Path], bool]] = {}
    if is_installed("polars", section):
        peers["polars streaming"] = partial(_holds_in_polars, rule)
    if rule in ("mean", "std", "quantile") and is_installed("dataframely", section):
        peers["dataframely is_valid"] = partial(_holds_in_dataframely, rule)
    return peers


def _of_field(rule: str, name: str) -> Any:
    """The rule of one column of floats as an expression of polars."""
    import polars as pl

    column = pl.col(name)
    return {
        "mean": lambda: column.mean().is_between(-1, 1),
        "std": lambda: column.std().is_between(0.5, 2),
        "quantile": lambda: column.quantile(0.5).is_between(-1, 1),
        "share": lambda: (column == 0).mean() <= 0.5,
        "min_distinct": lambda: column.min() < column.max(),
    }[rule]()


def _holds_in_polars(rule: str, path: Path) -> bool:
    import polars as pl

    frame = pl.scan_parquet(path)
    if rule == "max_distinct":
        found = frame.select(pl.col("kind").n_unique() <= 10)
    elif rule == "step":
        found = frame.select((pl.col("time").diff().over("series").drop_nulls() == 1).all())
    elif rule == "determines":
        found = frame.group_by("series").agg(pl.col("kind").n_unique()).select((pl.col("kind") == 1).all())
    else:
        found = frame.select(pl.all_horizontal([_of_field(rule, name) for name in column_names(COLUMNS)]))
    return bool(found.collect(engine="streaming").item())


def _holds_in_dataframely(rule: str, path: Path) -> bool:
    import dataframely as dy
    import polars as pl

    names = column_names(COLUMNS)

    def holds(_: Any) -> Any:
        return pl.all_horizontal([_of_field(rule, name) for name in names])

    fields = {name: dy.Float32() for name in names}
    schema: Any = type("Panel", (dy.Schema,), {**fields, "holds": dy.rule()(holds)})
    return bool(schema.is_valid(pl.read_parquet(path, columns=names)))
