"""Rules about the lists of a row, of one length and of varying ones: beside a plain scan, and peers with the same rule."""

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
from benchmarks.inputs import LIMIT
from benchmarks.results import Section, time_ratio
from benchmarks.timing import Contender, race

__all__ = ["NUM_BAD", "RULES", "measure", "peers_of", "write_lists"]

_FULL_VALUES = 6_000_000
_ROW_GROUPS = 8
_LENGTH = 64
#: Rows that break each rule.
NUM_BAD = 7
_PLAIN = "datacheck.scan, no rule"

#: The rules: an expression, or a named dimension of two columns.
RULES: dict[str, datacheck.Schema] = {
    "max": datacheck.Schema(checks=[f"max(x) < {LIMIT:g}"]),
    "each": datacheck.Schema(checks=[f"x < {LIMIT:g}"]),
    "norm": datacheck.Schema(checks=["norm(x) > 1"]),
    "std": datacheck.Schema(checks=["std(x) > 0"]),
    "nunique": datacheck.Schema(checks=["nunique(x) > 1"]),
    "three": datacheck.Schema(checks=["nunique(x) >= 3 or len(x) < 3"]),
    "distinct": datacheck.Schema(checks=["nunique(x) + 1 >= len(x)"]),
    "first": datacheck.Schema(checks=["x[0] < x[1]"]),
    "lengths": datacheck.Schema(checks=["len(x) == len(y)"]),
    "dimension": datacheck.Schema(fields={"x": {"shape": ["T"]}, "y": {"shape": ["T"]}}),
}


def measure(bench: Bench) -> Section:
    """Every rule on lists of one length and of varying lengths."""
    values = bench.rows(_FULL_VALUES, _ROW_GROUPS * _LENGTH * 16)
    section = Section(
        "lists",
        f"2 columns of lists, {values:,} float32 in each, {_ROW_GROUPS} row groups, page cache warm",
        [
            "Processor time of all threads of one process.",
            f"Lists of {_LENGTH} values (fixed-size), and of 2 to {2 * _LENGTH - 2}. {NUM_BAD} rows break each rule.",
            "The plain scan looks for NaN, infinities and nulls; so does the scan with a rule.",
        ],
    )
    for is_fixed in (True, False):
        with bench.room("lists") as room:
            _measure_file(write_lists(room / "lists.parquet", values, is_fixed=is_fixed), is_fixed, values, section)
    return section


def write_lists(path: Path, num_values: int, *, is_fixed: bool) -> Path:
    """Columns ``x`` and ``y`` of lists of the same lengths, except in the rows that break a rule."""
    generator = np.random.default_rng(0)
    rows = num_values // _LENGTH
    lengths = np.full(rows, _LENGTH) if is_fixed else generator.integers(2, 2 * _LENGTH - 1, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    bad = np.linspace(0, rows - 1, NUM_BAD).astype(int)
    columns = {}
    for name in "xy":
        flat = generator.standard_normal(offsets[-1], dtype=np.float32)
        # Rows in order, so that only those planted break 'first'.
        first, second = offsets[:-1], offsets[:-1] + 1
        flat[first], flat[second] = -np.abs(flat[first]) - 1, np.abs(flat[second])
        columns[name] = flat
    x = columns["x"]
    x[offsets[bad] + 1] = 2 * LIMIT
    arrays = {name: _lists(flat, offsets, is_fixed=is_fixed) for name, flat in columns.items()}
    pq.write_table(pa.table(arrays), path, row_group_size=-(-rows // _ROW_GROUPS), use_dictionary=False)
    return path


def _lists(flat: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any], *, is_fixed: bool) -> pa.Array:
    if is_fixed:
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), _LENGTH)
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(flat))


def count_broken(path: Path, schema: datacheck.Schema | None) -> int:
    """How many rows break the rules of a schema."""
    return sum(finding.num_violations for finding in datacheck.scan(path, schema, workers=1).findings)


#: How many rows of the file break each rule.
_BROKEN = {"max": NUM_BAD, "each": NUM_BAD}


def peers_of(rule: str, *, is_fixed: bool, section: Section | None = None) -> dict[str, Callable[[Path], int]]:
    """How each peer that is installed and can say the rule counts the rows that break it."""
    peers: dict[str, Callable[[Path], int]] = {}
    if rule not in _POLARS:
        return peers
    if is_installed("polars", section):
        peers["polars streaming"] = partial(_count_with_polars, rule, is_fixed)
    if is_installed("dataframely", section):
        peers["dataframely filter"] = partial(_count_with_dataframely, rule, is_fixed)
    return peers


_POLARS: dict[str, Callable[[Any, Any], Any]] = {
    "max": lambda x, _: x.max() < LIMIT,
    "first": lambda x, _: x.get(0) < x.get(1),
    "lengths": lambda x, y: x.len() == y.len(),
    "nunique": lambda x, _: x.n_unique() > 1,
    "three": lambda x, _: (x.n_unique() >= 3) | (x.len() < 3),
    "distinct": lambda x, _: x.n_unique() + 1 >= x.len(),
}


def _rule_of_polars(rule: str, *, is_fixed: bool) -> Any:
    import polars as pl

    x, y = (pl.col(name).arr if is_fixed else pl.col(name).list for name in "xy")
    return _POLARS[rule](x, y)


def _count_with_polars(rule: str, is_fixed: bool, path: Path) -> int:
    import polars as pl

    broken = (~_rule_of_polars(rule, is_fixed=is_fixed)).sum()
    return int(pl.scan_parquet(path).select(broken).collect(engine="streaming").item())


def _count_with_dataframely(rule: str, is_fixed: bool, path: Path) -> int:
    import dataframely as dy
    import polars as pl

    def holds(_: Any) -> Any:
        return _rule_of_polars(rule, is_fixed=is_fixed)

    kind = dy.Array(dy.Float32(), _LENGTH) if is_fixed else dy.List(dy.Float32())
    schema: Any = type("Lists", (dy.Schema,), {"x": kind, "y": kind, "holds": dy.rule()(holds)})
    _, failures = schema.filter(pl.read_parquet(path))
    return int(failures.counts().get("holds", 0))


def _measure_file(path: Path, is_fixed: bool, values: int, section: Section) -> None:
    layout = "one length" if is_fixed else "varying lengths"
    plain = f"{layout}: {_PLAIN}"
    contenders = [Contender(plain, partial(count_broken, path, None), 0)]
    for rule, schema in RULES.items():
        peers = peers_of(rule, is_fixed=is_fixed, section=section if rule == "max" and is_fixed else None)
        wanted = {f"{layout}: {rule}": partial(count_broken, path, schema)}
        wanted |= {f"{layout}: {rule}: {peer}": partial(count, path) for peer, count in peers.items()}
        contenders += [Contender(name, count, _BROKEN.get(rule, 0)) for name, count in wanted.items()]
    timings = race(contenders, num_bytes=2 * 4 * values, clock=time.process_time)
    section.add_timings(timings.values())
    for rule in RULES:
        ours = timings[f"{layout}: {rule}"]
        section.claims.append(time_ratio(f"{ours.name} / {_PLAIN}", ours, timings[plain], 1.5))
        others = [found for name, found in timings.items() if name.startswith(f"{ours.name}: ")]
        section.claims += [time_ratio(f"datacheck / {other.name}", ours, other) for other in others]
    path.unlink()
